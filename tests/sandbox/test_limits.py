"""Every limit bites, as root and as an ordinary user, and what goes over it is named."""

import json
import os
import time
from collections.abc import Iterator

import pytest

from mmalign.sandbox import Limits, RunResult, Sandbox, SandboxConfig
from mmalign.testing.other_user import run_as_nobody

pytestmark = pytest.mark.sandbox

SMALL = Limits(
    wall_s=5.0,
    cpu_s=4.0,
    memory_bytes=256 * 1024**2,
    num_processes=8,
    num_files=20,
    file_bytes=1024**2,
    work_bytes=4 * 1024**2,
    output_bytes=4096,
)

COUNT = """
import errno
number = 0
try:
    while True:
        step(number)
        number += 1
except OSError as error:
    print(number, errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(num_workers=1, limits=SMALL)) as sandbox:
        yield sandbox


def test_wall_time(sandbox: Sandbox) -> None:
    started = time.monotonic()
    result = sandbox.run(
        "print('so far', flush=True)\nimport time\ntime.sleep(60)",
        limits=SMALL.model_copy(update={"wall_s": 0.5}),
    )
    assert (result.status, result.message) == ("timeout", "it ran longer than limits.wall_s")
    assert result.stdout == "so far\n"
    assert time.monotonic() - started < 10


def test_a_swallowed_alarm_does_not_help(sandbox: Sandbox) -> None:
    program = (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    )
    result = sandbox.run(program, limits=SMALL.model_copy(update={"cpu_s": 1.0, "wall_s": 20.0}))
    assert (result.status, result.message) == (
        "timeout",
        "it used more processor time than limits.cpu_s",
    )


def test_processor_time_of_all_processes_together(sandbox: Sandbox) -> None:
    """Four children, none of which alone would use up its own limit."""
    program = "import os\n[os.fork() for _ in range(2)]\nwhile True: pass"
    result = sandbox.run(program, limits=SMALL.model_copy(update={"cpu_s": 2.0, "wall_s": 30.0}))
    assert (result.status, result.message) == (
        "timeout",
        "it used more processor time than limits.cpu_s",
    )


@pytest.mark.parametrize(
    "program",
    [
        "bytearray(3 * 2**30)",
        "x = []\nwhile True: x.append(bytearray(2**20))",
        "import numpy\nnumpy.ones(2**30)",
        "x = 'a' * 2**20\nwhile True: x += x",
    ],
)
def test_memory_of_one_process(sandbox: Sandbox, program: str) -> None:
    assert sandbox.run(program).status == "oom"


def test_memory_of_all_processes_together(sandbox: Sandbox) -> None:
    """Six times 60 MiB, which each alone may have."""
    program = (
        "import os, time\n[os.fork() for _ in range(3)]\nx = b'x' * (60 * 2**20)\ntime.sleep(9)"
    )
    result = sandbox.run(program, limits=SMALL.model_copy(update={"num_processes": 12}))
    assert (result.status, "together" in result.message) == ("oom", True)


def test_pages_that_children_share_count_once(sandbox: Sandbox) -> None:
    program = (
        "import os, time\nx = b'x' * (100 * 2**20)\n[os.fork() for _ in range(2)]\ntime.sleep(1)"
    )
    assert sandbox.run(program).status == "pass"


@pytest.mark.parametrize(
    ("step", "most"),
    [
        ("lambda n: os.fork() or (time.sleep(9), os._exit(0))", 7),
        ("lambda n: subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(9)'])", 7),
    ],
)
def test_processes(sandbox: Sandbox, step: str, most: int) -> None:
    result = sandbox.run(f"import os, subprocess, sys, time\nstep = {step}\n{COUNT}")
    assert result.stdout == f"{most} EAGAIN\n", result


def test_threads_count_as_processes(sandbox: Sandbox) -> None:
    program = (
        "import threading, time\nnumber = 0\ntry:\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(1,)).start()\n        number += 1\n"
        "except RuntimeError as error:\n    print(number, error)"
    )
    roomy = SMALL.model_copy(update={"memory_bytes": 2**30})  # for their stacks
    assert sandbox.run(program, limits=roomy).stdout == "7 can't start new thread\n"


def test_a_fork_bomb_leaves_nothing(sandbox: Sandbox) -> None:
    assert sandbox.run(
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    ).status in {
        "timeout",
        "error",
    }
    assert sandbox.run("print('still here')").stdout == "still here\n"


def test_open_files(sandbox: Sandbox) -> None:
    result = sandbox.run(f"kept = []\nstep = lambda n: kept.append(open('/dev/null'))\n{COUNT}")
    number, code = result.stdout.split()
    assert code == "EMFILE"
    assert int(number) < 20


@pytest.mark.parametrize(
    "write",
    ["file.write(b'x' * 2**22)", "file.truncate(2**40)", "file.seek(2**30); file.write(b'x')"],
)
def test_size_of_a_file(sandbox: Sandbox, write: str) -> None:
    program = (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"with open('big', 'wb', buffering=0) as file:\n    {write}\n"
        "    print(file.seek(0, 2))\n    file.write(b'x')"
    )
    result = sandbox.run(program)
    assert result.message.startswith("OSError: [Errno 27]"), result


@pytest.mark.parametrize("folder", ["/work", "/tmp", "/dev/shm"])
def test_size_of_the_work_folder(sandbox: Sandbox, folder: str) -> None:
    program = f"step = lambda n: open(f'{folder}/{{n}}', 'wb').write(b'x' * 2**19)\n{COUNT}"
    assert sandbox.run(program).stdout == "8 ENOSPC\n"


def test_long_output_is_cut_in_the_middle(sandbox: Sandbox) -> None:
    result = sandbox.run("print('begin' + 'x' * 10_000 + 'end')")
    assert result.status == "pass"
    assert result.stdout.startswith("beginxxx")
    assert result.stdout.endswith("xend\n")
    assert f"... {10_009 - 4096} bytes cut ..." in result.stdout


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_is_ended(sandbox: Sandbox, stream: str) -> None:
    result = sandbox.run(f"import sys\nfor _ in range(10**5): sys.{stream}.write('x' * 1000)")
    assert result.status == "output_limit"
    assert len(result.stdout) + len(result.stderr) < 2 * 4096


def test_output_of_a_full_pipe_is_read_while_the_program_runs(sandbox: Sandbox) -> None:
    """More than a pipe holds, on both streams in turn."""
    roomy = SMALL.model_copy(update={"output_bytes": 2**20})
    program = (
        "import sys\nfor _ in range(300):\n    for s in sys.stdout, sys.stderr: s.write('x' * 1000)"
    )
    result = sandbox.run(program, limits=roomy)
    assert (result.status, len(result.stdout), len(result.stderr)) == ("pass", 300_000, 300_000)


def test_limits_cannot_be_raised(sandbox: Sandbox) -> None:
    program = (
        "import resource as r\nfor name in dir(r):\n    if name.startswith('RLIMIT_'):\n"
        "        soft, hard = r.getrlimit(getattr(r, name))\n"
        "        try: r.setrlimit(getattr(r, name), (hard, hard + 1))\n"
        "        except (ValueError, OSError): pass\n"
        "        else: assert hard in (-1,), name\n"
        "print(r.getrlimit(r.RLIMIT_AS), r.getrlimit(r.RLIMIT_CORE))"
    )
    assert sandbox.run(program).stdout == f"{(2**28, 2**28)} (0, 0)\n"


def test_a_limit_of_a_single_run(sandbox: Sandbox) -> None:
    """Of the work folder too, which is made before the run."""
    program = "open('file', 'wb').write(b'x' * 2**21)"
    roomy = SMALL.model_copy(update={"file_bytes": 2**23, "work_bytes": 2**23})
    assert sandbox.run(program, limits=roomy).status == "pass"
    assert sandbox.run(program).status == "error"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_limits_bind_an_ordinary_user() -> None:
    program = (
        "import json\nfrom mmalign.sandbox import Limits, Sandbox, SandboxConfig\n"
        f"limits = Limits.model_validate_json({SMALL.model_dump_json()!r})\n"
        "with Sandbox(SandboxConfig(num_workers=1, limits=limits)) as sandbox:\n"
        f"    for program in {list(OVER.values())!r}:\n"
        "        print(sandbox.run(program).model_dump_json())\n"
    )
    ended = run_as_nobody(["-c", program])
    assert ended.returncode == 0, ended.stderr
    results = [RunResult(**json.loads(line)) for line in ended.stdout.splitlines()]
    found = {name: result.status for name, result in zip(OVER, results, strict=True)}
    assert found == {
        "memory": "oom",
        "all memory": "oom",
        "processes": "error",
        "disk": "error",
        "output": "output_limit",
        "sleep": "timeout",
    }


OVER = {
    "memory": "bytearray(3 * 2**30)",
    "all memory": (
        "import os, time\n[os.fork() for _ in range(3)]\nx = b'x' * (60 * 2**20)\ntime.sleep(9)"
    ),
    "processes": "import os, time\nfor _ in range(100): os.fork() or (time.sleep(4), os._exit(0))",
    "disk": "for n in range(99): open(f'{n}', 'wb').write(b'x' * 2**19)",
    "output": "for _ in range(10**5): print('x' * 1000)",
    "sleep": "import time\ntime.sleep(60)",
}
