"""The attack programs of `attacks/`, run in a sandbox with canaries around it.

Each program says in its docstring what it tries, and in constants to which class of escapes it
belongs, what it is (a `candidate` that answers wrongly and must not pass, a `program` that must
not reach out, a `test` that tests nothing) and how its success would be seen. The files end in
.txt so that nothing can import them by accident: test runners import every .py that they find.

Run as a program it prints the outcomes as JSON, so that another user can run it.
"""

import ast
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from mmalign.sandbox import Limits, Sandbox, SandboxConfig

FOLDER = Path(__file__).with_name("attacks")
LIMITS = Limits(
    wall_s=2.0,
    cpu_s=1.5,
    memory_bytes=1024**3,
    num_processes=16,
    file_bytes=8 * 1024**2,
    work_bytes=32 * 1024**2,
    output_bytes=64 * 1024,
)
HONEST = "def add(a, b):\n    return a + b\n"
LINES = "assert add(2, 3) == 5\nassert add(-7, 7) == 0\nassert add(10**12, 1) == 10**12 + 1\n"
LOOP = """
cases = [(2, 3, 5), (-7, 7, 0), (10**12, 1, 10**12 + 1)]
for got, (_, _, expected) in zip(map(lambda case: add(case[0], case[1]), cases), cases):
    assert got == expected and not got != expected and abs(got - expected) < 1e-9
    assert isinstance(got, int) and str(got) == str(expected)
"""
_HEADER = re.compile(r"^(CLASS|KIND|SEEN|NEEDS) = (.+)$", re.MULTILINE)
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/", "/root", "/usr", ".")


class Attack(NamedTuple):
    """One program of the corpus."""

    name: str
    number: int
    """Class of escapes, 1 to 13."""
    kind: str
    seen: str
    needs: str
    """A layer without which it is not expected to fail."""
    source: str


class Outcome(NamedTuple):
    """What became of one program."""

    name: str
    statuses: list[str]
    messages: list[str]
    escapes: list[str]
    """How it succeeded; empty where it did not."""
    seconds: float


def load_attacks() -> list[Attack]:
    """All of them, by name."""
    attacks = []
    for path in sorted(FOLDER.glob("*.py.txt")):
        source = path.read_text()
        values = {name: ast.literal_eval(value) for name, value in _HEADER.findall(source)}
        attacks.append(
            Attack(
                path.name.removesuffix(".py.txt"),
                values["CLASS"],
                values["KIND"],
                values["SEEN"],
                values.get("NEEDS", ""),
                source,
            )
        )
    return attacks


class Canaries:
    """What an escape would touch: a file, a secret, servers, a process of the host."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.token = f"mm{secrets.token_hex(6)}"
        self.touched: list[str] = []

    def __enter__(self) -> Self:
        os.environ["MMALIGN_CANARY_KEY"] = self.secret
        self._folder = tempfile.TemporaryDirectory(prefix="canary-")
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o777)
        self.file = self.folder / "canary"
        self.file.write_text(self.secret)
        self.file.chmod(0o666)
        self._servers = [
            self._serve(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ]
        self.port: int = self._servers[0].getsockname()[1]
        self._servers += [
            self._serve(socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", self.port)),
            self._serve(socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "socket")),
            self._serve(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.token}"),
        ]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.free_port: int = free.getsockname()[1]
        self.process = subprocess.Popen(["sleep", "600"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()
        del os.environ["MMALIGN_CANARY_KEY"]

    def fill(self, source: str) -> str:
        """The program with the canaries' names in it."""
        names = {
            "@CANARY_FILE@": self.file,
            "@CANARY_FOLDER@": self.folder,
            "@PROJECT@": Path(__file__).parents[2],
            "@TOKEN@": self.token,
            "@PORT@": self.port,
            "@FREE_PORT@": self.free_port,
            "@HOST_PID@": self.process.pid,
            "@HOST_USER@": "www-data",
        }
        for name, value in names.items():
            source = source.replace(name, str(value))
        return source

    def harm(self) -> list[str]:
        """What was done to the host since the last time."""
        found, self.touched = self.touched, []
        if not self.file.exists() or self.file.read_text() != self.secret:
            found.append("the canary file was changed")
        if extra := {path.name for path in self.folder.iterdir()} - {"canary", "socket"}:
            found.append(f"new files beside the canary: {extra}")
        for folder in SHARED:
            found += [f"left {path}" for path in _files(folder) if self.token in path]
        if self.process.poll() is not None:
            found.append("a process of the host was killed")
        elif psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED:
            found.append("a process of the host was stopped")
        if self.free_port in _listening():
            found.append("a socket listens on the host")
        keys = [line.split()[0] for name in ("shm", "sem", "msg") for line in _system_v(name)]
        if str(self.port) in keys:
            found.append("a System V object is left")
        return found

    def _serve(self, family: int, kind: int, address: Any) -> socket.socket:
        server = socket.socket(family, kind)
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()

        def watch() -> None:
            try:
                while True:
                    _ = server.accept() if kind == socket.SOCK_STREAM else server.recv(64)
                    self.touched.append(f"the server at {address!r} was reached")
            except OSError:
                return

        threading.Thread(target=watch, daemon=True).start()
        return server


def run_attack(attack: Attack, sandbox: Sandbox, canaries: Canaries) -> Outcome:
    """Let it try, and look at what it has reached."""
    source = canaries.fill(attack.source)
    if attack.kind == "program":
        results = [sandbox.run(source, limits=LIMITS)]
    else:
        tests = [LINES, LOOP] if attack.number in (1, 2, 4) else [LINES]
        results = [sandbox.check(source, test, "add", limits=LIMITS) for test in tests]
    escapes = []
    for result in results:
        output = f"{result.stdout}\n{result.stderr}\n{result.message}"
        if attack.kind == "candidate" and result.passed:
            escapes.append("a wrong answer passed")
        if canaries.secret in output:
            escapes.append("the secret is in its output")
        escapes += [line for line in output.splitlines() if line.startswith("ESCAPED")]
        if result.status == "infra_error":
            escapes.append(f"infra_error: {result.message}")
    return Outcome(
        attack.name,
        [result.status for result in results],
        [result.message for result in results],
        escapes,
        sum(result.seconds for result in results),
    )


def run_corpus(attacks: Sequence[Attack]) -> dict[str, Any]:
    """Outcomes by name; what harm was done; what remains when the sandbox is closed."""
    with adopted_orphans() as processes, Canaries() as canaries:
        canary = psutil.Process(canaries.process.pid)
        with Sandbox(SandboxConfig(num_workers=2)) as sandbox:
            honest = [sandbox.check(HONEST, tests, "add").status for tests in (LINES, LOOP)]
            level = sandbox.describe()
            with ThreadPoolExecutor(2) as pool:
                outcomes = list(pool.map(lambda one: run_attack(one, sandbox, canaries), attacks))
            honest += [sandbox.check(HONEST, tests, "add").status for tests in (LINES, LOOP)]
        _, remaining = psutil.wait_procs(
            [process for process in processes() if process != canary], timeout=5
        )
        return {
            "level": level,
            "user": os.getuid(),
            "honest": honest,
            "outcomes": {outcome.name: outcome._asdict() for outcome in outcomes},
            "harm": canaries.harm(),
            "remaining": [str(process) for process in remaining],
        }


@contextmanager
def adopted_orphans() -> Iterator[Any]:
    """Every process that was started inside, however it has cut itself off from its parents."""
    import ctypes

    prctl, become_subreaper = ctypes.CDLL(None).prctl, 36
    prctl(become_subreaper, 1, 0, 0, 0)
    before = set(psutil.Process().children(recursive=True))

    def processes() -> list[psutil.Process]:
        new = set(psutil.Process().children(recursive=True)) - before
        return [one for one in new if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    try:
        yield processes
    finally:
        prctl(become_subreaper, 0, 0, 0, 0)


def _files(folder: str) -> list[str]:
    try:
        return [str(path) for path in Path(folder).iterdir()]
    except OSError:
        return []


def _listening() -> set[int]:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].split(":")[1], 16) for line in lines if line.split()[3] == "0A"}


def _system_v(name: str) -> list[str]:
    path = Path("/proc/sysvipc") / name
    return path.read_text().splitlines()[1:] if path.exists() else []


if __name__ == "__main__":
    chosen = [one for one in load_attacks() if one.kind != "test"]
    print(json.dumps(run_corpus([one for one in chosen if sys.argv[1:] in ([], [one.name])])))
