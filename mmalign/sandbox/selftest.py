"""Whether a sandbox holds on this machine, seen by attacking it.

A few small attacks of every class; the whole corpus is a test of the project.
"""

import secrets
import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from mmalign.errors import SandboxError
from mmalign.sandbox.config import Isolation, Limits
from mmalign.sandbox.probes import EMPTY_TESTS, PROBES, TESTS, Probe
from mmalign.sandbox.results import RunResult
from mmalign.sandbox.written_tests import test_problem

__all__ = ["ProbeResult", "Runner", "require_self_test", "self_test"]

_MARK = "ESCAPED"
_HOLDS: set[tuple[Isolation, str]] = set()
"""What has been attacked in vain by this process."""
_ONE_AT_A_TIME = threading.RLock()


class Runner(Protocol):
    """What is put to the test: a `Sandbox`."""

    def run(self, program: str, *, limits: Limits | None = None) -> RunResult:
        """Run a plain program."""
        ...

    def check(
        self, candidate: str, tests: str, entry_point: str, *, limits: Limits | None = None
    ) -> RunResult:
        """Test a candidate."""
        ...


class ProbeResult(NamedTuple):
    """What one attack came to."""

    name: str
    number: int | None
    """Class of escapes, 1 to 13; None for what is no escape."""
    holds: bool
    found: str


class _Host(NamedTuple):
    """What a probe must not reach, named so that nothing else can be meant."""

    file: Path
    secret: str
    server: socket.socket
    token: str


def self_test(runner: Runner, isolation: Isolation, *, short: bool = False) -> list[ProbeResult]:
    """Attack the sandbox by each way out that is known.

    Args:
        runner: The sandbox.
        isolation: The level that it is to hold; it is asked for nothing that it cannot hold.
        short: Only what can be asked in less than a second.
    """
    with _host() as host:
        results = [
            _ask(runner, probe, host)
            for probe in PROBES
            if isolation in probe.levels and (probe.is_short or not short)
        ]
    return results if short else [*results, _refuse_empty_tests()]


def require_self_test(runner: Runner, isolation: Isolation, program: str) -> None:
    """Refuse a sandbox that does not hold; each isolation is attacked once per process.

    Args:
        runner: The sandbox, without this call before its checks.
        isolation: The level that it is to hold.
        program: What makes the isolation.

    Raises:
        SandboxError: An attack got through.
    """
    with _ONE_AT_A_TIME:
        if (isolation, program) in _HOLDS:
            return
        failed = [result for result in self_test(runner, isolation, short=True) if not result.holds]
        if failed:
            found = "; ".join(f"{result.name}: {result.found}" for result in failed)
            raise SandboxError(
                f"the sandbox ({isolation} by {program}) does not hold: {found}. Nothing was "
                f"scored. Run `mmalign doctor` for all attacks, and update {program}"
            )
        _HOLDS.add((isolation, program))


def _ask(runner: Runner, probe: Probe, host: _Host) -> ProbeResult:
    source = (
        probe.source.replace("@FILE@", str(host.file))
        .replace("@PORT@", str(host.server.getsockname()[1]))
        .replace("@TOKEN@", host.token)
    )
    if probe.is_candidate:
        result = runner.check(source, TESTS, "add", limits=probe.limits)
    else:
        result = runner.run(source, limits=probe.limits)
    problems = []
    if result.status not in probe.statuses:
        expected = " or ".join(probe.statuses)
        problems.append(f"{result.status} instead of {expected}: {result.message}")
    output = result.stdout + result.stderr
    problems += [line for line in output.splitlines() if line.startswith(_MARK)][:1]
    if host.secret in output:
        problems.append("a secret of the host is in its output")
    if select.select([host.server], [], [], 0)[0]:
        host.server.accept()[0].close()
        problems.append("it reached a server of the host")
    if "@TOKEN@" in probe.source and _is_running(host.token):
        problems.append("a process of it still runs")
    held = f"{'scored' if probe.is_candidate else 'reached nothing, ended with'} {result.status}"
    return ProbeResult(probe.name, probe.number, not problems, "; ".join(problems) or held)


@contextmanager
def _host() -> Iterator[_Host]:
    secret, token = secrets.token_hex(16), secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="mmalign-probe-") as folder, socket.socket() as server:
        Path(folder).chmod(0o755)  # what runs as another user shall not fail by that alone
        file = Path(folder) / "secret"
        file.write_text(secret)
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield _Host(file, secret, server, token)


def _is_running(token: str) -> bool:
    """Whether any process carries the token among its arguments."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (folder / "cmdline").read_bytes():
                return True
        except OSError:
            continue  # it has just ended
    return False


def _refuse_empty_tests() -> ProbeResult:
    taken = [source for source in EMPTY_TESTS if test_problem(source, "add") is None]
    found = f"taken for a test: {taken[0]!r}" if taken else "refused"
    return ProbeResult("tests that test nothing", 13, not taken, found)
