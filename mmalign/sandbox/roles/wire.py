"""Values as plain data between judge and candidate: JSON with tags, never a class or a pickle.

Runs inside the sandbox, so it stands on the standard library alone. What it leaves out: objects
with an identity of their own. Two names for one list arrive as two lists, a named tuple arrives
as a tuple, an iterator is read to its end before it is sent.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:  # each of them takes as long to import as all of the above
    import socket
    from typing import Any

__all__ = ["Channel", "ChannelClosedError", "NotDataError", "decode", "encode"]

MAX_DEPTH = 64
MAX_VALUES = 1_000_000
MAX_ITEMS_OF_ITERATOR = 10_000
MAX_MESSAGE_BYTES = 16 * 1024**2

_MAX_PLAIN_INT = 2**53
_LENGTH = struct.Struct(">I")
_MAX_DIMENSIONS = 32
_HEX_INT = re.compile(r"-?0x[0-9a-f]+")
_NUMPY_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_SPECIAL_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class NotDataError(TypeError):
    """A value that cannot go from one process to the other as data."""


class ChannelClosedError(Exception):
    """The other side is gone, or what it sent is no message."""


class Channel:
    """Whole JSON messages over a stream socket, each with its length before it."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer

    def send(self, message: object) -> None:
        """Send one message.

        Raises:
            NotDataError: It is too long.
            ChannelClosedError: Nobody reads it.
        """
        text = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
        if len(text) > MAX_MESSAGE_BYTES:
            raise NotDataError(f"{len(text)} bytes of data; at most {MAX_MESSAGE_BYTES} are sent")
        try:
            self._peer.sendall(_LENGTH.pack(len(text)) + text)
        except OSError as error:
            raise ChannelClosedError(f"nobody reads ({error})") from error

    def receive(self) -> Any:
        """The next message.

        Raises:
            ChannelClosedError: The other side is gone, or sends what is no message.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > MAX_MESSAGE_BYTES:
            raise ChannelClosedError(f"a message of {length} bytes was announced")
        try:
            return json.loads(self._exactly(length), parse_int=_short_int, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ChannelClosedError(f"a message that is no JSON came ({error})") from error

    def _exactly(self, num_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < num_bytes:
            try:
                part = self._peer.recv(min(num_bytes - len(data), 1 << 20))
            except OSError as error:
                raise ChannelClosedError(f"reading failed ({error})") from error
            if not part:
                raise ChannelClosedError("the connection ended")
            data += part
        return bytes(data)


def encode(value: object) -> Any:
    """`value` as what JSON can hold; subclasses of built-in types become the plain type.

    Raises:
        NotDataError: It holds an object that is no data, holds itself, or is too large.
    """
    return _Encoder().encode(value, 0)


def decode(wire: Any) -> Any:
    """The value that was encoded; checks every part, since the sender is not trusted.

    Raises:
        NotDataError: No encoded value.
    """
    return _decode(wire, 0)


class _Encoder:
    """Counts what it has written, so that a small value that unfolds into a large one ends."""

    def __init__(self) -> None:
        self._num_values = 0
        self._open: set[int] = set()

    def encode(self, value: object, depth: int) -> Any:
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            raise NotDataError(f"a value of more than {MAX_VALUES} parts")
        if value is None or value is True or value is False:
            return value
        kind = type(value).__mro__
        if str in kind:
            return str.__str__(value)
        number = _number(value, kind)
        if number is not None:
            return number
        if depth >= MAX_DEPTH:
            raise NotDataError(f"a value nested deeper than {MAX_DEPTH}")
        if id(value) in self._open:
            raise NotDataError("a value that holds itself")
        self._open.add(id(value))
        try:
            return self._container(value, kind, depth + 1)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any, kind: tuple[type, ...], depth: int) -> Any:
        if list in kind:
            return self._items(list.__iter__(value), depth)
        if tuple in kind:
            return ["tuple", self._items(tuple.__iter__(value), depth)]
        if dict in kind:
            items = [self._items(iter(pair), depth) for pair in dict.items(value)]
            return ["dict", items]
        for plain in (set, frozenset):
            if plain in kind:
                return [plain.__name__, self._items(plain.__iter__(value), depth)]
        for text in (bytes, bytearray):
            if text in kind:
                return [text.__name__, bytes(text.__getitem__(value, slice(None))).hex()]
        if kind[0] is range:
            return ["range", self._items(iter((value.start, value.stop, value.step)), depth)]
        if numbers := _numpy(value, kind):
            return [*numbers[:-1], self._items(iter(numbers[-1]), depth)]
        if kind[0] in _VIEWS or hasattr(kind[0], "__next__"):
            return self._iterator(iter(value), depth)
        raise NotDataError(f"an object of type {kind[0].__name__}")

    def _items(self, items: Iterator[object], depth: int) -> list[Any]:
        return ["list", *(self.encode(item, depth) for item in items)]

    def _iterator(self, items: Iterator[object], depth: int) -> list[Any]:
        first = list(islice(items, MAX_ITEMS_OF_ITERATOR + 1))
        whole = len(first) <= MAX_ITEMS_OF_ITERATOR
        return ["iterator", self._items(iter(first[:MAX_ITEMS_OF_ITERATOR]), depth), whole]


def _number(value: Any, kind: tuple[type, ...]) -> Any:
    if int in kind:
        plain = int.__int__(value)
        return plain if -_MAX_PLAIN_INT < plain < _MAX_PLAIN_INT else ["int", hex(plain)]
    if float in kind:
        plain_float = float.__float__(value)
        return plain_float if math.isfinite(plain_float) else ["float", str(plain_float)]
    if complex in kind:
        parts = complex.__complex__(value)
        return ["complex", _number(parts.real, (float,)), _number(parts.imag, (float,))]
    return None


def _numpy(value: Any, kind: tuple[type, ...]) -> list[Any] | None:
    """Type, shape and plain numbers of a numpy array or scalar; numpy itself may be absent."""
    names = {base.__name__ for base in kind if base.__module__ == "numpy"}
    if not names & {"ndarray", "generic"}:
        return None
    dtype = str(value.dtype)
    if not _NUMPY_DTYPE.fullmatch(dtype):
        raise NotDataError(f"a numpy array of {dtype}")
    return ["numpy", dtype, [int(size) for size in value.shape], value.ravel().tolist()]


def _decode(wire: Any, depth: int) -> Any:
    if wire is None or isinstance(wire, str | bool | int | float):
        return wire
    if not isinstance(wire, list) or not wire or not isinstance(wire[0], str):
        raise NotDataError("a part without a tag")
    if depth > 2 * MAX_DEPTH + 2:
        raise NotDataError(f"a value nested deeper than {MAX_DEPTH}")
    read = _READERS.get(wire[0])
    if read is None:
        raise NotDataError(f"the unknown tag {wire[0][:40]!r}")
    try:
        return read(wire[1:], depth + 1)
    except (TypeError, ValueError, OverflowError) as error:
        raise NotDataError(f"no {wire[0]}: {error}") from error


def _list(parts: list[Any], depth: int) -> list[Any]:
    return [_decode(part, depth) for part in parts]


def _plain_list(parts: list[Any], depth: int) -> list[Any]:
    """The one part of another tag, which must itself be a list."""
    (part,) = parts
    items = _decode(part, depth)
    if type(items) is not list:
        raise NotDataError(f"a {type(items).__name__} where a list belongs")
    return items


def _dict(parts: list[Any], depth: int) -> dict[Any, Any]:
    (pairs,) = parts
    return dict(_list(pairs, depth))


def _int(parts: list[Any], depth: int) -> int:
    (text,) = parts
    if not _HEX_INT.fullmatch(text):
        raise NotDataError("an integer that is not hexadecimal")
    return int(text, 16)


def _float(parts: list[Any], depth: int) -> float:
    (text,) = parts
    if text not in _SPECIAL_FLOATS:
        raise NotDataError("a special float that is none")
    return _SPECIAL_FLOATS[text]


def _complex(parts: list[Any], depth: int) -> complex:
    real, imaginary = _list(parts, depth)
    return complex(float(real), float(imaginary))


def _bytes(parts: list[Any], depth: int) -> bytes:
    (text,) = parts
    return bytes.fromhex(text)


def _range(parts: list[Any], depth: int) -> range:
    return range(*_plain_list(parts, depth))


def _iterator(parts: list[Any], depth: int) -> Iterator[Any]:
    items, whole = parts
    values = _plain_list([items], depth)
    return iter(values) if whole is True else _cut_short(values)


def _cut_short(values: list[Any]) -> Iterator[Any]:
    yield from values
    raise NotDataError(f"an iterator of more than {MAX_ITEMS_OF_ITERATOR} items")


def _array(parts: list[Any], depth: int) -> Any:
    """As numpy's own where numpy is there, else as plain numbers and nested lists."""
    dtype, shape, flat = parts
    numbers = _plain_list([flat], depth)
    if len(shape) > _MAX_DIMENSIONS or not _NUMPY_DTYPE.fullmatch(dtype):
        raise NotDataError("an array of a type or shape that is not sent")
    if math.prod(shape) != len(numbers):
        raise NotDataError("an array whose shape and numbers do not fit")
    if not all(type(number) in (bool, int, float, complex) for number in numbers):
        raise NotDataError("an array of what are no numbers")
    try:
        import numpy as np
    except ImportError:
        return _nested(numbers, shape)
    array = np.array(numbers, dtype=dtype).reshape(shape)
    return array if shape else array[()]


def _nested(numbers: list[Any], shape: list[int]) -> Any:
    if not shape:
        return numbers[0]
    step = len(numbers) // shape[0] if shape[0] else 0
    rows = (numbers[row * step : (row + 1) * step] for row in range(shape[0]))
    return [_nested(row, shape[1:]) for row in rows]


_READERS: dict[str, Callable[[list[Any], int], Any]] = {
    "list": _list,
    "tuple": lambda parts, depth: tuple(_plain_list(parts, depth)),
    "set": lambda parts, depth: set(_plain_list(parts, depth)),
    "frozenset": lambda parts, depth: frozenset(_plain_list(parts, depth)),
    "dict": _dict,
    "int": _int,
    "float": _float,
    "complex": _complex,
    "bytes": _bytes,
    "bytearray": lambda parts, depth: bytearray(_bytes(parts, depth)),
    "range": _range,
    "iterator": _iterator,
    "numpy": _array,
}


def _short_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("a long integer without its tag")
    return int(digits)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} without its tag")
