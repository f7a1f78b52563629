"""From what happened to a run to its status; the exit code is never the verdict."""

import json
import signal
from typing import Any, get_args

from mmalign.sandbox.attempt import Attempt, Ending
from mmalign.sandbox.config import Limits
from mmalign.sandbox.results import RunResult, Status

__all__ = ["read_result", "read_verdict"]

STOPPED: dict[str, tuple[Status, str]] = {
    "wall": ("timeout", "it ran longer than limits.wall_s"),
    "cpu": ("timeout", "it used more processor time than limits.cpu_s"),
    "memory": ("oom", "its processes together held more than limits.memory_bytes"),
    "processes": ("error", "it had more processes and threads than limits.num_processes"),
    "output": ("output_limit", "it printed more than eight times limits.output_bytes"),
}
"""Why the host ended it."""


def read_result(done: Attempt, nonce: str, limits: Limits) -> RunResult:
    """Status, counts and output of an attempt.

    What a limit ended comes before what was said: of a verdict that came too late nothing counts.
    """
    texts = {
        "stdout": "".join(ending.stdout.text() for ending in done.endings),
        "stderr": "".join(ending.stderr.text() for ending in done.endings),
        "seconds": done.seconds,
    }
    if not done.taken:
        why = done.complaint or "it ended without a word"
        return RunResult(status="infra_error", message=f"a sandbox did not start: {why}", **texts)
    if done.stopped:
        status, message = STOPPED[done.stopped]
        return RunResult(status=status, message=message, **texts)
    if any(ending.exit_code is None for ending in done.endings):
        why = "the end of a sandbox was never reported"
        return RunResult(status="infra_error", message=why, **texts)
    said = read_verdict(done.verdict, nonce)
    if said is not None and said["status"] == "pass":
        return RunResult(**said, **texts)
    if done.out_of_memory:
        return RunResult(status="oom", message=STOPPED["memory"][1], **texts)
    for ending in done.endings:
        limit = _limit_reached(ending, limits)
        if limit is not None:
            counts = {name: said[name] for name in ("num_run", "num_passed")} if said else {}
            return RunResult(status=limit[0], message=limit[1], **counts, **texts)
    if said is not None:
        return RunResult(**said, **texts)
    return RunResult(status="no_verdict", message=_end(done.endings[0]), **texts)


def read_verdict(data: bytes, nonce: str) -> dict[str, Any] | None:
    """The one line on the private channel, if it is whole and of this run."""
    lines = data.split(b"\n")
    if len(lines) != 2 or lines[1]:
        return None
    try:
        said = json.loads(lines[0])
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("nonce") != nonce:
        return None
    if said.get("status") not in get_args(Status):
        return None
    counts = [said.get(name, 0) for name in ("num_run", "num_passed")]
    if any(type(count) is not int or count < 0 for count in counts):
        return None
    return {
        "status": said["status"],
        "message": str(said.get("message", "")),
        "num_run": counts[0],
        "num_passed": counts[1],
    }


def _limit_reached(ending: Ending, limits: Limits) -> tuple[Status, str] | None:
    """What the kernel ended it for, as far as the kernel says so."""
    killed = ending.exit_code in (128 + signal.SIGKILL, -signal.SIGKILL)
    if killed and ending.cpu_s >= 0.9 * limits.cpu_s:  # the kernel counts it by ticks
        return STOPPED["cpu"]
    last_line = ending.stderr.text().rstrip().rpartition("\n")[2]
    if ending.exit_code and last_line.startswith(("MemoryError", "numpy._core._exceptions._Array")):
        return "oom", "it asked for more memory than limits.memory_bytes"
    return None


def _end(ending: Ending) -> str:
    """How a process that gave no verdict ended."""
    code = ending.exit_code or 0
    number = code - 128 if code > 128 else -code
    if number in signal.valid_signals() and number > 0:
        return f"killed by signal {number} ({signal.Signals(number).name}) before its end"
    return f"its process ended with exit code {code} before its end"
