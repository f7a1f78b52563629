"""Warm workers: each for one run, from many threads, and nothing of them stays."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mmalign.errors import SandboxError
from mmalign.sandbox import Limits, Sandbox, SandboxConfig

pytestmark = pytest.mark.sandbox

RUN_AND_WAIT = """
import sys, threading, time
from mmalign.sandbox import Limits, Sandbox, SandboxConfig
sandbox = Sandbox(SandboxConfig(num_workers=2, limits=Limits(wall_s=60.0)))
print(sandbox.run("print('up')").stdout, end="", flush=True)
threading.Thread(target=sandbox.run, args=("import time; time.sleep(50)",), daemon=True).start()
try:
    time.sleep(60)
finally:
    sandbox.close()
"""


def family() -> set[int]:
    """Spawners and sandboxes that descend from this process."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def until(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@contextlib.contextmanager
def another_host() -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """A process with a warm pool and a run under way, and all that it has started."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN_AND_WAIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "up\n"
        time.sleep(0.3)
        yield host, psutil.Process(host.pid).children(recursive=True)
        host.kill()


def test_nothing_is_started_before_the_first_run() -> None:
    before = family()
    with Sandbox(SandboxConfig(num_workers=1)):
        assert family() == before


def test_close_leaves_no_process_and_no_file() -> None:
    before, files = family(), set(Path(tempfile.gettempdir()).glob("*mmalign*"))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with Sandbox(SandboxConfig(num_workers=2)) as sandbox:
        sandbox.run(
            "import os\nif os.fork() == 0:\n    os.setsid()\n    import time; time.sleep(60)"
        )
        assert family() > before
    assert until(lambda: family() == before)
    assert set(Path(tempfile.gettempdir()).glob("*mmalign*")) <= files
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_daemon_dies_with_its_run() -> None:
    """It has a session of its own and the program is long over."""
    program = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        os.close(1); os.close(2)\n        time.sleep(600)\n    os._exit(0)\nos.wait()"
    )
    with Sandbox(SandboxConfig(num_workers=1)) as sandbox:
        sandbox.run("")
        time.sleep(0.3)
        warm = len(family())
        for _ in range(3):
            assert sandbox.run(program).status == "pass"
        assert until(lambda: len(family()) == warm)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_host_that_is_killed_takes_its_sandboxes_along(how: signal.Signals) -> None:
    with another_host() as (host, started):
        assert len(started) > 6
        host.send_signal(how)
        host.wait(60)  # a busy machine takes its time
        gone, alive = psutil.wait_procs(started, timeout=30)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
        assert gone


def test_an_interrupt_of_the_terminal_reaches_the_host_alone() -> None:
    """Ctrl-C goes to the foreground process group; no sandbox is in the host's."""
    with another_host() as (host, started):
        assert all(os.getpgid(process.pid) != os.getpgid(host.pid) for process in started)


def test_many_threads_each_get_their_own_answer() -> None:
    with (
        Sandbox(SandboxConfig(num_workers=2)) as sandbox,
        ThreadPoolExecutor(8) as threads,
    ):
        found = threads.map(lambda n: sandbox.run(f"print({n})").stdout, range(40))
        assert list(found) == [f"{n}\n" for n in range(40)]


def test_no_more_than_num_workers_run_at_once() -> None:
    program = "import time\nprint(time.time())\ntime.sleep(0.4)\nprint(time.time())"
    with (
        Sandbox(SandboxConfig(num_workers=2)) as sandbox,
        ThreadPoolExecutor(6) as threads,
    ):
        spans = [
            tuple(map(float, result.stdout.split()))
            for result in threads.map(lambda _: sandbox.run(program), range(6))
        ]
    for begin, _ in spans:
        assert sum(start <= begin < end for start, end in spans) <= 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    with Sandbox(SandboxConfig(num_workers=1)) as sandbox:
        assert sandbox.run("print(1)").stdout == "1\n"
        child = os.fork()
        if child == 0:
            passed = sandbox.run("print(2)").stdout == "2\n"
            sandbox.close()
            os._exit(0 if passed else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert sandbox.run("print(3)").stdout == "3\n"


def test_no_descriptor_of_the_host_reaches_a_program(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("platypus")
    with (tmp_path / "secret").open() as file, Sandbox(SandboxConfig(num_workers=1)) as sandbox:
        os.set_inheritable(file.fileno(), True)
        seen = sandbox.run(
            "import os\nfor n in range(3, 256):\n"
            "    try: print(os.readlink(f'/proc/self/fd/{n}'))\n    except OSError: pass"
        )
    assert "secret" not in seen.stdout
    assert all(line.startswith(("pipe:", "/proc")) for line in seen.stdout.split()), seen.stdout


def test_workers_that_died_are_replaced() -> None:
    with Sandbox(SandboxConfig(num_workers=1)) as sandbox:
        assert sandbox.run("").passed
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # or just about to be none
                if "worker.py" in " ".join(child.cmdline()):
                    child.kill()
        result = sandbox.run("print('fine')")
        assert result.stdout == "fine\n"
        assert result.num_attempts <= 4


def test_a_spawner_that_died_is_replaced() -> None:
    with Sandbox(SandboxConfig(num_workers=1)) as sandbox:
        assert sandbox.run("").passed
        spawner = next(
            c for c in psutil.Process().children() if "spawner.py" in " ".join(c.cmdline())
        )
        spawner.kill()
        assert sandbox.run("print('fine')").stdout == "fine\n"


def test_a_run_that_is_under_way_ends_with_close() -> None:
    sandbox = Sandbox(SandboxConfig(num_workers=1, limits=Limits(wall_s=60.0)))
    assert sandbox.run("").passed
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(sandbox.run, "import time; time.sleep(50)")
        time.sleep(0.5)
        sandbox.close()
        closed = r"this sandbox is closed\. Make another one"
        with pytest.raises(SandboxError, match=closed):
            under_way.result(20)
        with pytest.raises(SandboxError, match=closed):
            sandbox.run("")
