"""The code under test: loads it as the module `solution` and answers calls of its functions.

Of the tests it sees nothing but the arguments of each call: neither their text nor a value that
they expect, nor the pipe of the verdict.

job: `program` (its text).
"""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType

from .wire import Channel, ChannelClosedError, NotDataError, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    import socket
    from typing import Any

__all__ = ["main"]

_FILE = "solution.py"
_MAX_TEXT = 2000


def main(job: dict[str, Any], verdict: io.FileIO | None, peer: socket.socket | None) -> None:
    """Load `job["program"]`, say whether that worked, then serve calls until nobody calls."""
    assert verdict is None
    assert peer is not None
    channel = Channel(peer)
    module = ModuleType("solution")
    sys.modules[module.__name__] = module
    source = job["program"]
    try:
        exec(compile(source, _FILE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # inside the sandbox
    except BaseException as error:  # noqa: BLE001  # the judge hears of it
        _print_traceback(source)
        channel.send({"failed": _described(error)})
        return
    channel.send({"ready": True})
    with contextlib.suppress(ChannelClosedError):
        while True:
            _answer(channel, module, channel.receive())


def _print_traceback(source: str) -> None:
    """Imports what only an error needs."""
    import linecache
    import traceback

    linecache.cache[_FILE] = (len(source), None, source.splitlines(keepends=True), _FILE)
    traceback.print_exc()


def _answer(channel: Channel, module: ModuleType, request: dict[str, Any]) -> None:
    arguments = decode(request["arguments"])
    reply: dict[str, Any]
    try:
        function = _named(module, request["name"])
        args, kwargs = arguments
        reply = {"result": function(*args, **kwargs)}
    except BaseException as error:  # noqa: BLE001  # the judge raises it anew
        reply = {"raised": _described(error)}
    try:
        if "result" in reply:
            reply["result"] = encode(reply["result"])
        after = encode(arguments)
        reply["after"] = None if after == request["arguments"] else after
        _flush()
        channel.send(reply)
    except NotDataError as error:
        channel.send({"not_data": str(error)})
    except Exception as error:  # noqa: BLE001  # a generator raises while it is read
        channel.send({"raised": _described(error), "after": None})


def _named(module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        raise NameError(f"name {name!r} is not defined") from None


def _described(error: BaseException) -> dict[str, Any]:
    """Names of its classes from its own upwards, its arguments where they are data, its text."""
    try:
        args = encode(tuple(error.args))
        text = str(error)[:_MAX_TEXT]
    except Exception:  # noqa: BLE001  # its own __str__ or arguments that are no data
        args, text = None, ""
    return {"types": [kind.__name__ for kind in type(error).__mro__], "args": args, "text": text}


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
