"""Values between judge and candidate: what goes through whole, what is refused, from both sides."""

import json
import math
import socket
import struct
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign.sandbox.roles import wire
from mmalign.sandbox.roles.wire import (
    Channel,
    ChannelClosedError,
    NotDataError,
    decode,
    encode,
)

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=8,
)
DATA = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(HASHABLE, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
    ),
    max_leaves=12,
)


def through(value: object) -> Any:
    """As it arrives on the other side."""
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


def types_of(value: Any) -> Any:
    """The types of a value and of all that it holds."""
    if isinstance(value, dict):
        return dict, sorted(str((types_of(k), types_of(v))) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return type(value), sorted(str(types_of(item)) for item in value)
    return type(value)


@given(DATA)
def test_data_arrives_as_it_was(value: object) -> None:
    arrived = through(value)
    assert arrived == value
    assert types_of(arrived) == types_of(value)


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(10**400),
        math.inf,
        -math.inf,
        bytearray(b"x"),
        range(3, 9, 2),
        "\ud800",
        1e-320,
        -0.0,
    ],
)
def test_what_json_cannot_say_arrives(value: object) -> None:
    arrived = through(value)
    assert repr(arrived) == repr(value)
    assert type(arrived) is type(value)


def test_nan_arrives_also_within_complex() -> None:
    assert math.isnan(through(math.nan))
    assert math.isnan(through([complex(0, math.nan)])[0].imag)


class Shout(str):
    def __eq__(self, other: object) -> bool:
        return True

    def __str__(self) -> str:
        return "another"

    __hash__ = str.__hash__


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Shout("a"), "a"),
        (type("Int", (int,), {"__int__": lambda self: 9})(5), 5),
        (type("Float", (float,), {"__float__": lambda self: 9.0})(5.5), 5.5),
        (type("List", (list,), {"__iter__": lambda self: iter([9])})([1]), [1]),
        (Point(1, 2), (1, 2)),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (np.float64(0.5), 0.5),
        (np.str_("a"), "a"),
    ],
)
def test_subclasses_become_the_plain_type(value: object, plain: object) -> None:
    arrived = through(value)
    assert arrived == plain
    assert types_of(arrived) == types_of(plain)


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8", "float32", "complex128"])
def test_arrays_arrive_with_type_and_shape(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    arrived = through([array, array[1, 2], array[:0]])
    np.testing.assert_array_equal(arrived[0], array)
    assert arrived[0].dtype == array.dtype
    assert arrived[1] == array[1, 2]
    assert arrived[2].shape == (0, 3)


def test_without_numpy_arrays_are_nested_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = encode([np.arange(6.0).reshape(2, 3), np.int64(4), np.zeros((2, 0))])
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    assert decode(sent) == [[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], 4, [[], []]]


def test_iterators_are_read_to_their_end() -> None:
    def squares() -> Iterator[int]:
        yield from (n * n for n in range(4))

    arrived = through([squares(), map(str, [1, 2]), {"a": 1}.keys()])
    assert [list(one) for one in arrived] == [[0, 1, 4, 9], ["1", "2"], ["a"]]


def test_an_endless_iterator_says_where_it_was_cut() -> None:
    arrived = through(iter(int, 1))
    assert [next(arrived) for _ in range(wire.MAX_ITEMS_OF_ITERATOR)] == [0] * 10_000
    with pytest.raises(NotDataError, match="more than 10000 items"):
        next(arrived)


def endless() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (len, "an object of type builtin_function_or_method"),
        (object(), "an object of type object"),
        ([1, {2: print}], "an object of type builtin_function_or_method"),
        (endless(), "a value that holds itself"),
        (nested(100), "nested deeper than 64"),
        (np.array(["a"]), "a numpy array of <U1"),
        ([[0] * 2000] * 1000, "more than 1000000 parts"),
    ],
)
def test_what_is_no_data_is_refused(value: object, message: str) -> None:
    with pytest.raises(NotDataError, match=message):
        encode(value)


@pytest.mark.parametrize(
    "wire_value",
    [
        {},
        {"list": []},
        [],
        [1],
        ["object", 1],
        ["tuple"],
        ["tuple", 3],
        ["tuple", ["dict", []]],
        ["dict", [["list", 1]]],
        ["dict", [["list", ["list"], 1]]],
        ["dict", 5],
        ["set", ["list", ["list"]]],
        ["int", "12"],
        ["int", 5],
        ["float", "1e5"],
        ["complex", 1],
        ["bytes", "xy"],
        ["range", ["list", 1, 2, 3, 4]],
        ["iterator", 5, True],
        ["numpy", "object", [1], ["list", 1]],
        ["numpy", "int64", [2], ["list", 1]],
        ["numpy", "int64", [1], ["list", "a"]],
        ["numpy", "int64", [1] * 100, ["list", 1]],
        ["list", ["list", ["set", {"list": 1}]]],
    ],
    ids=str,
)
def test_forged_values_are_refused(wire_value: object) -> None:
    with pytest.raises(NotDataError):
        decode(wire_value)


def test_a_deep_forgery_is_refused() -> None:
    forged: list[object] = ["list"]
    for _ in range(300):
        forged = ["list", forged]
    with pytest.raises(NotDataError, match="nested deeper"):
        decode(forged)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 5) + b"tr",
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 4) + b"{'a}",
        struct.pack(">I", 3) + b"NaN",
        struct.pack(">I", 30) + b"1" * 30,
        struct.pack(">I", 1) + b"\xff",
        struct.pack(">I", 100_000) + b"[" * 100_000,
    ],
    ids=lambda sent: repr(sent[:12]),
)
def test_what_is_no_message_ends_the_connection(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ChannelClosedError):
            Channel(ours).receive()


def test_messages_arrive_whole_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        messages: list[object] = [{"a": [1, None, "é"]}, [], "x" * 100_000]
        for message in messages:
            Channel(theirs).send(message)
            assert Channel(ours).receive() == message


def test_a_long_message_is_not_sent_and_nobody_reading_is_said() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with pytest.raises(NotDataError, match="16777216 are sent"):
            Channel(theirs).send("x" * 2**24)
        theirs.close()
        with pytest.raises(ChannelClosedError, match="nobody reads"):
            Channel(ours).send("x")
