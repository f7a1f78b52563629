"""A demanded level holds or nothing is run, and what holds is said."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from mmalign.errors import ConfigError, SandboxError
from mmalign.sandbox import Limits, Sandbox, SandboxConfig
from mmalign.sandbox.bubblewrap import find_bubblewraps
from mmalign.sandbox.cgroup import Cgroup, find_cgroup
from mmalign.sandbox.gvisor import oci_spec
from mmalign.sandbox.limits import kernel_limits
from mmalign.sandbox.runtime import WORKER, find_runtime, readable_by_all
from mmalign.sandbox.seccomp import compile_filter

pytestmark = pytest.mark.sandbox


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_bubblewrap_that_may_not_make_namespaces_is_no_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose administrator forbids them; the wheel's is told to fail alike."""
    text = (
        "#!/bin/sh\n[ $1 = --version ] && echo bubblewrap 0.11.0 && exit\n"
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    denied = executable(tmp_path / "bwrap", text)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("mmalign.sandbox.levels.find_bubblewraps", lambda: [denied])
    with Sandbox() as sandbox, pytest.raises(SandboxError) as caught:
        sandbox.run("print('never')")
    message = str(caught.value)
    assert message.startswith("sandbox.isolation is namespaces, which does not hold here: ")
    assert f"{denied}: bwrap: No permissions to create new namespace" in message
    assert "kernel.unprivileged_userns_clone=1" in message
    assert message.endswith("Nothing was run")


def test_no_bubblewrap_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmalign.sandbox.levels.find_bubblewraps", list)
    expected = r"no program for it was found\. Install bubblewrap 0\.8 or newer \(apt install"
    with Sandbox() as sandbox, pytest.raises(SandboxError, match=expected):
        sandbox.describe()


def test_a_bubblewrap_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "bwrap", "#!/bin/sh\necho bubblewrap 0.6.1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [path.parent.name for path in find_bubblewraps()] in (["_bin"], [])


def test_processes_alone_want_trust() -> None:
    expected = r"which keeps nothing from the code.*trusted: true"
    with (
        Sandbox(SandboxConfig(isolation="process")) as sandbox,
        pytest.raises(SandboxError, match=expected),
    ):
        sandbox.run("")


def test_trusted_processes_are_limited_and_cleaned_up() -> None:
    limits = Limits(wall_s=5.0, memory_bytes=2**28, num_processes=8)
    config = SandboxConfig(isolation="process", trusted=True, num_workers=1, limits=limits)
    with Sandbox(config) as sandbox:
        here = sandbox.run("import os\nprint(os.getcwd())\nopen('x', 'w').write('x')")
        assert (here.status, here.isolation) == ("pass", "process")
        assert not Path(here.stdout.strip()).exists()
        assert sandbox.run("bytearray(2**30)").status == "oom"
        assert sandbox.run("import os\nprint(sorted(os.environ))").stdout.count("HOME") == 1
        daemon = (
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
            "    print(os.getpid(), flush=True)\n    time.sleep(60)\nelse:\n    time.sleep(0.3)"
        )
        number = sandbox.run(daemon).stdout.strip()
        assert not Path("/proc", number).exists()
        good, tests = "def f(a):\n    return a + 1", "assert f(1) == 2"
        assert sandbox.check(good, tests, "f").status == "pass"
        bomb = (
            "import os, time\nfor _ in range(60): os.fork() or (time.sleep(9), os._exit(0))\n"
            "time.sleep(9)"
        )
        assert "limits.num_processes" in sandbox.run(bomb).message


def test_a_package_that_is_not_installed() -> None:
    with (
        Sandbox(SandboxConfig(packages=("no-such-package",))) as sandbox,
        pytest.raises(ConfigError, match=r"sandbox\.packages: no-such-package is not installed"),
    ):
        sandbox.run("")


def test_what_holds_is_described() -> None:
    with Sandbox() as sandbox:
        told = sandbox.describe()
    assert told["isolation"] == "namespaces"
    assert told["user"] == ("nobody" if os.geteuid() == 0 else "the own")
    assert (told["seccomp"] == "libseccomp") == (compile_filter() is not None)
    assert ("cgroup" in told["memory"]) == (find_cgroup() is not None)


def test_an_old_kernel_counts_processes_by_looking() -> None:
    assert "RLIMIT_NPROC" in kernel_limits(Limits(), counts_processes=True)
    assert "RLIMIT_NPROC" not in kernel_limits(Limits(), counts_processes=False)


def test_gvisor_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        Sandbox(SandboxConfig(isolation="gvisor")) as sandbox,
        pytest.raises(SandboxError, match="there is no runsc on PATH"),
    ):
        sandbox.run("")


RUNSC = """#!{python}
import json, os, pathlib, sys
arguments = sys.argv[1:]
mine = pathlib.Path({seen!r} + str(os.getpid()))
mine.write_text(json.dumps(arguments))
mine.rename({seen!r})
found = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
spec = json.loads(pathlib.Path(found["--bundle"], "config.json").read_text())
control, inside = arguments[arguments.index("--pass-fd") + 1].split(":")
os.dup2(int(control), int(inside))
os.set_inheritable(int(inside), True)
flags = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--clearenv"]
flags += ["--uid", "65534", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
for mount in spec["mounts"]:
    if mount["type"] == "bind":
        flags += ["--ro-bind", mount["source"], mount["destination"]]
    if mount["type"] == "tmpfs":
        flags += ["--tmpfs", mount["destination"]]
for pair in spec["process"]["env"]:
    flags += ["--setenv", *pair.split("=", 1)]
flags += ["--chdir", spec["process"]["cwd"]]
if {filter!r}:
    seccomp = os.open({filter!r}, os.O_RDONLY)
    os.set_inheritable(seccomp, True)
    flags += ["--seccomp", str(seccomp)]
os.execv({bwrap!r}, ["bwrap", *flags, *spec["process"]["args"]])
"""


def test_gvisor_is_asked_for_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for runsc, which no package brings: it reads the bundle and runs it with bwrap."""
    bwrap, seen = str(find_bubblewraps()[-1]), tmp_path / "arguments"
    seccomp = compile_filter()
    if seccomp is not None:
        (tmp_path / "filter").write_bytes(seccomp)
    names = {"seen": str(seen), "bwrap": bwrap, "filter": seccomp and str(tmp_path / "filter")}
    executable(tmp_path / "runsc", RUNSC.format(python=sys.executable, **names))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with Sandbox(SandboxConfig(isolation="gvisor", num_workers=1)) as sandbox:
        result = sandbox.run("import os\nprint(os.getcwd(), os.environ['HOME'])")
        assert (result.status, result.stdout) == ("pass", "/work /work\n"), result
        assert result.isolation == "gvisor"
        assert sandbox.check("def f(): return 1", "assert f() == 1", "f").status == "pass"
    arguments = json.loads(seen.read_text())
    bundle = next(a.partition("=")[2] for a in arguments if a.startswith("--bundle="))
    assert "--network=none" in arguments
    assert ("--rootless" in arguments) == (os.geteuid() != 0)
    assert not Path(bundle).exists()


def test_a_gvisor_container_is_narrow() -> None:
    spec = oci_spec(find_runtime(["numpy"]), {}, Path("/a/passwd"), 2**20)
    assert spec["process"]["user"] == {"uid": 65534, "gid": 65534}
    assert spec["process"]["capabilities"] == {}
    assert spec["process"]["noNewPrivileges"] is True
    assert spec["root"]["readonly"] is True
    assert {"type": "network"} in spec["linux"]["namespaces"]
    by_place = {mount["destination"]: mount for mount in spec["mounts"]}
    assert "size=1048576" in by_place["/work"]["options"]
    assert "/packages/numpy" in by_place
    binds = [mount for mount in spec["mounts"] if mount["type"] == "bind"]
    assert all("ro" in mount["options"] for mount in binds)


def test_the_runtime_is_no_more_than_the_interpreter() -> None:
    runtime = find_runtime([])
    here = Path(__file__).parents[2]
    for inside, path in runtime.binds.items():
        assert inside == WORKER or not path.is_relative_to(here), path
        assert path not in (Path("/"), Path("/usr"), Path("/etc"), Path.home())
    assert any("site-packages" in folder for folder in runtime.masked)


def test_readable_by_all(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    (shut / "file").write_text("")
    assert not readable_by_all(shut / "file")
    assert readable_by_all(Path("/usr/bin/env").resolve())
    assert stat.S_IMODE(shut.stat().st_mode) == 0o700


def cgroup_tree(root: Path, controllers: str) -> Path:
    """A folder as cgroup v2 shows it; its files only keep what is written."""
    folder = root / "user.slice" / "mmalign.scope"
    folder.mkdir(parents=True)
    (folder / "cgroup.subtree_control").write_text(controllers)
    (root / "membership").write_text("4:pids:/\n0::/user.slice/mmalign.scope\n")
    return folder


def test_a_cgroup_is_used_where_it_may_be_written(tmp_path: Path) -> None:
    folder = cgroup_tree(tmp_path, "cpu memory pids")
    assert find_cgroup(tmp_path, tmp_path / "membership") == folder
    group = Cgroup(folder)
    group.limit(2**28, 8, [123])
    written = {path.name: path.read_text() for path in group.folder.iterdir()}
    assert written == {
        "memory.max": str(2**28),
        "memory.swap.max": "0",
        "pids.max": "8",
        "cgroup.procs": "123",
    }
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 0\n")
    assert not group.killed_for_memory()
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.killed_for_memory()


def test_a_cgroup_without_the_controllers_is_left_alone(tmp_path: Path) -> None:
    cgroup_tree(tmp_path, "cpu")
    assert find_cgroup(tmp_path, tmp_path / "membership") is None
    (tmp_path / "membership").write_text("4:pids:/\n")
    assert find_cgroup(tmp_path, tmp_path / "membership") is None
