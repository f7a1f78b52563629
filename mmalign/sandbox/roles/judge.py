"""Runs the tests; the code under test is in another process and answers with data alone.

A test sees a function by the name of the entry point. Its arguments go out as data; its result,
or a built-in exception of the same type, comes back as data, and lists, dicts and sets that the
call changed are changed here too, so that a test sees a sort in place. What is no data (a
callable, an object of a class of the code) ends the tests: such tests need `run_suite`.

job: `nonce`, `setup`, `tests`, `entry_points`.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import threading
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from .wire import Channel, ChannelClosedError, NotDataError, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:  # slow to import
    import io
    import socket

__all__ = ["Verdict", "judge", "main"]

_MAX_TEXT = 400
_ENDS_A_LOOP = (StopIteration, StopAsyncIteration, GeneratorExit)


class Verdict(NamedTuple):
    """What the judge writes when the last test has spoken."""

    status: str
    message: str
    num_run: int
    num_passed: int


class _Unit(NamedTuple):
    """A top-level statement of the tests."""

    source: str
    code: CodeType
    is_test: bool


class _StoppedError(BaseException):
    """The code cannot be asked again; not an Exception, so that no test takes it for one."""


def main(job: dict[str, Any], verdict: io.FileIO | None, peer: socket.socket | None) -> None:
    """Run `job["tests"]` after `job["setup"]` and write one line to `verdict`."""
    assert verdict is not None
    assert peer is not None
    process_id = os.getpid()
    outcome = judge(job["setup"], job["tests"], job["entry_points"], Channel(peer))
    if os.getpid() != process_id:
        return  # a child that a test forked has come to the end, too
    line = {"nonce": job["nonce"], **outcome._asdict()}
    verdict.write(json.dumps(line).encode() + b"\n")
    verdict.close()


def judge(setup: str, tests: str, entry_points: Sequence[str], channel: Channel) -> Verdict:
    """Up to the first test that says no.

    Args:
        setup: Runs here before the tests: imports and helpers of the benchmark's own.
        tests: Python; each top-level statement that asserts is one test, a `check(candidate)`
            or `test_...()` that nobody calls is called.
        entry_points: Names that mean functions of the code under test.
        channel: To the process that holds it.
    """
    candidate = _Candidate(channel)
    num_run = num_passed = 0
    source = ""
    try:
        candidate.wait_until_loaded()
        units = _units(tests, entry_points)
        names: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        exec(compile(setup, "setup.py", "exec", dont_inherit=True), names)  # noqa: S102  # inside the sandbox
        names |= {name: candidate.function(name) for name in entry_points}
        for unit in units:
            source = unit.source
            num_run += unit.is_test
            exec(unit.code, names)  # noqa: S102  # inside the sandbox
            candidate.refuse_if_stopped()
            num_passed += unit.is_test
    except BaseException as error:  # noqa: BLE001  # whatever a test raises is its verdict
        status, message = candidate.stopped or (_status(error), _message(error, source))
        return Verdict(status, message, num_run, num_passed)
    if not num_run:
        return Verdict("no_verdict", "the tests assert nothing", 0, 0)
    if not candidate.num_calls:
        return Verdict("no_verdict", "the tests call no entry point", num_run, 0)
    return Verdict("pass", "", num_run, num_passed)


class _Candidate:
    """The other process, as far as tests can see it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._one_call = threading.Lock()
        self.num_calls = 0
        self.stopped: tuple[str, str] | None = None
        """Status and message, once no further call is possible; no test can take it back."""

    def wait_until_loaded(self) -> None:
        """Return when the code has run to its end as a module."""
        reply = self._exchange(None, "while it was loaded")
        if "failed" in reply:
            error = _raised(reply["failed"])
            status = "oom" if isinstance(error, MemoryError) else "error"
            self._stop(status, f"the code cannot be loaded: {_named(error)}")

    def function(self, name: str) -> Callable[..., Any]:
        """What stands in for the function of that name."""

        def entry_point(*args: Any, **kwargs: Any) -> Any:
            with self._one_call:
                return self._call(name, [list(args), kwargs])

        entry_point.__name__ = entry_point.__qualname__ = name
        return entry_point

    def refuse_if_stopped(self) -> None:
        """Raise where a test has swallowed the end of the code's process."""
        if self.stopped:
            raise _StoppedError(self.stopped[1])

    def _call(self, name: str, arguments: list[Any]) -> Any:
        self.refuse_if_stopped()
        self.num_calls += 1
        try:
            request = {"name": name, "arguments": encode(arguments)}
        except NotDataError as error:
            self._stop("error", f"{name}() is given {error}, which needs run_suite")
        reply = self._exchange(request, f"during a call of {name}()")
        if "not_data" in reply:
            problem = str(reply["not_data"])[:_MAX_TEXT]
            self._stop("error", f"{name}() gives back {problem}, which needs run_suite")
        try:
            if reply.get("after") is not None:
                _carry_back(arguments, decode(reply["after"]))
            if "raised" not in reply:
                return decode(reply["result"])
            raised = _raised(reply["raised"])
        except (NotDataError, KeyError, TypeError) as problem:
            self._stop("error", f"the code's process sent what is no answer: {problem}")
        raise raised

    def _exchange(self, request: object, when: str) -> dict[str, Any]:
        try:
            if request is not None:
                self._channel.send(request)
            reply = self._channel.receive()
        except NotDataError as error:
            self._stop("error", f"{error}; {when}")
        except ChannelClosedError as error:
            self._stop("error", f"the code's process ended {when} ({error})")
        if not isinstance(reply, dict):
            self._stop("error", f"the code's process sent what is no answer {when}")
        return reply

    def _stop(self, status: str, message: str) -> NoReturn:
        self.stopped = (status, message)
        raise _StoppedError(message)


def _carry_back(old: Any, new: Any) -> None:
    """Make lists, dicts and sets of the test what the call has made of its copies."""
    if type(old) is not type(new):
        return
    if isinstance(old, tuple | list):
        for old_item, new_item in zip(old, new, strict=False):
            _carry_back(old_item, new_item)
    if isinstance(old, list):
        old[:] = [_kept(*pair) for pair in zip(old, new, strict=False)] + new[len(old) :]
    elif isinstance(old, dict):
        for key in old.keys() & new.keys():
            _carry_back(old[key], new[key])
            new[key] = _kept(old[key], new[key])
        old.clear()
        old.update(new)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new


def _kept(old: Any, new: Any) -> Any:
    """The test's own object where it has been made equal, so that other names of it see that."""
    return old if type(old) is type(new) and isinstance(old, list | dict | set) else new


def _raised(described: Any) -> BaseException:
    """The nearest built-in exception; what would end a loop of the test in silence is another."""
    kind = next(
        found
        for name in [*described["types"], "Exception"]
        if isinstance(found := getattr(builtins, str(name), None), type)
        and issubclass(found, BaseException)
    )
    text = str(described["text"])[:_MAX_TEXT]
    if issubclass(kind, _ENDS_A_LOOP):
        return RuntimeError(f"the code raised {kind.__name__}: {text}")
    try:
        args = decode(described["args"])
        return kind(*args) if isinstance(args, tuple) else kind(text)
    except (NotDataError, TypeError):
        return Exception(f"{kind.__name__}: {text}")


def _units(tests: str, entry_points: Sequence[str]) -> list[_Unit]:
    tree = ast.parse(tests, "tests.py")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    asserting = {node.name for node in functions if _holds_assert(node)}
    while more := {node.name for node in functions if _called(node) & asserting} - asserting:
        asserting |= more  # they assert through another
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    statements = tree.body + [
        call
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name not in used
        for call in _calls_of(node, entry_points)
    ]
    return [_unit(statement, tests, asserting) for statement in statements]


def _unit(statement: ast.stmt, tests: str, asserting: set[str]) -> _Unit:
    defines = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    code = compile(ast.Module([statement], []), "tests.py", "exec", dont_inherit=True)
    is_test = not defines and (_holds_assert(statement) or bool(_called(statement) & asserting))
    return _Unit(ast.get_source_segment(tests, statement) or ast.unparse(statement), code, is_test)


def _calls_of(function: ast.FunctionDef, entry_points: Sequence[str]) -> list[ast.stmt]:
    """How a test function is called that its author left to the runner."""
    arguments = function.args
    num_needed = len(arguments.posonlyargs + arguments.args) - len(arguments.defaults)
    if function.name.startswith("test") and num_needed == 0:
        return ast.parse(f"{function.name}()").body
    if function.name == "check" and num_needed == 1 and entry_points:
        return ast.parse(f"{function.name}({entry_points[0]})").body
    return []


def _called(statement: ast.AST) -> set[str]:
    """Names that are called within a statement."""
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _holds_assert(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Assert) for inner in ast.walk(node))


def _status(error: BaseException) -> str:
    if isinstance(error, AssertionError):
        return "fail"
    return "oom" if isinstance(error, MemoryError) else "error"


def _message(error: BaseException, source: str) -> str:
    where = f"{source.strip()[:_MAX_TEXT]}: " if source else "the tests cannot be run: "
    return where + _named(error)


def _named(error: BaseException) -> str:
    text = str(error)[:_MAX_TEXT]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
