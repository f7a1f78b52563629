"""A plain program; what the host learns is that it ran to its end.

The program shares the interpreter with this module and could send the same line itself: that a
program ended is all that it says, and nothing is scored by it. Modules that only an error needs
are imported when there is one.

job: `program` (its text), `nonce`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    import socket
    from typing import Any

__all__ = ["main"]

NAME = "program.py"


def main(job: dict[str, Any], verdict: io.FileIO | None, peer: socket.socket | None) -> None:
    """Run `job["program"]` as `__main__`."""
    assert verdict is not None
    assert peer is None
    process_id = os.getpid()
    status, message = run(job["program"])
    if os.getpid() != process_id:
        return  # a child that the program forked has come to the end, too
    line = f'{{"nonce": "{job["nonce"]}", "status": "{status}", "message": {_quoted(message)}}}\n'
    verdict.write(line.encode())
    verdict.close()


def run(program: str) -> tuple[str, str]:
    """Status and message; a traceback goes to standard error."""
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [NAME]
    try:
        exec(compile(program, NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # what a sandbox is for
        sys.stdout.flush()
    except SystemExit as ending:
        return _exited(ending.code)
    except BaseException as error:  # noqa: BLE001  # whatever it raises is data
        return _raised(error, program)
    return "pass", ""


def _quoted(text: str) -> str:
    if not text:
        return '""'
    import json

    return json.dumps(text)


def _exited(code: object) -> tuple[str, str]:
    if code is None or code == 0:
        return "pass", "ended by sys.exit(0)"
    return "error", f"ended by sys.exit({str(code)[:200]!r})"


def _raised(error: BaseException, program: str) -> tuple[str, str]:
    import linecache
    import traceback

    linecache.cache[NAME] = (len(program), None, program.splitlines(keepends=True), NAME)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != NAME:
        trace = trace.tb_next
    traceback.print_exception(error.with_traceback(trace))
    text = traceback.format_exception_only(error)[-1].strip()
    message = text.encode("utf-8", "replace").decode()[:500]
    return "oom" if isinstance(error, MemoryError) else "error", message
