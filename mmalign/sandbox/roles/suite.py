"""unittest suites, in one interpreter with the code that they test.

Weaker than judge and candidate: the code could find the nonce and write a verdict of its own. It
is for suites that patch or subclass what they test, and its results say `in_process`.

job: `nonce`, `program`, `tests`.
"""

import builtins
import io
import json
import linecache
import os
import socket
import sys
import traceback
import types
import unittest
from typing import Any

__all__ = ["main"]

_FILE = "suite.py"
_MAX_TEXT = 400


def main(job: dict[str, Any], verdict: io.FileIO | None, peer: socket.socket | None) -> None:
    """Run the program, then every TestCase that stands in it or in the tests."""
    assert verdict is not None
    assert peer is None
    nonce, process_id = job.pop("nonce"), os.getpid()
    line = {"nonce": nonce, **_run(job["program"] + "\n" + job["tests"])}
    if os.getpid() != process_id:
        return  # a child that the code forked has come to the end, too
    verdict.write(json.dumps(line).encode() + b"\n")
    verdict.close()


def _run(source: str) -> dict[str, Any]:
    module = types.ModuleType("__test__")
    module.__dict__.update(__builtins__=builtins, __file__=_FILE)
    sys.modules[module.__name__] = module
    linecache.cache[_FILE] = (len(source), None, source.splitlines(keepends=True), _FILE)
    result = unittest.TestResult()
    result.failfast = True
    try:
        exec(compile(source, _FILE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # inside the sandbox
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    except BaseException as error:  # noqa: BLE001  # whatever the code raises is its verdict
        traceback.print_exc()
        status = "oom" if isinstance(error, MemoryError) else "error"
        return _line(status, f"{type(error).__name__}: {error}", result)
    if result.errors:
        memory = "MemoryError" in _last_line(result.errors)
        return _line("oom" if memory else "error", _last_line(result.errors), result)
    if result.failures:
        return _line("fail", _last_line(result.failures), result)
    if result.skipped or result.expectedFailures or result.unexpectedSuccesses:
        return _line(
            "fail", "a test was skipped or expected to fail: no verdict of its own", result
        )
    if not result.testsRun:
        return _line("no_verdict", "the suite holds no test", result)
    return _line("pass", "", result)


def _line(status: str, message: str, result: unittest.TestResult) -> dict[str, Any]:
    others = (result.errors, result.failures, result.skipped, result.expectedFailures)
    num_passed = result.testsRun - sum(map(len, others)) - len(result.unexpectedSuccesses)
    return {
        "status": status,
        "message": message.encode("utf-8", "replace").decode()[:_MAX_TEXT],
        "num_run": result.testsRun,
        "num_passed": max(num_passed, 0),
    }


def _last_line(problems: list[tuple[unittest.TestCase, str]]) -> str:
    test, trace = problems[0]
    print(trace, file=sys.stderr)
    return f"{test.id()}: {trace.strip().splitlines()[-1]}"
