"""Easy tasks in everyday English with hidden tests, for real models that are small."""

from collections.abc import Iterator
from pathlib import Path
from string import Template as Text
from typing import NamedTuple

from mmalign.api import Message, Sample, text_of, user

__all__ = ["read_easy"]


class _Task(NamedTuple):
    signature: str
    does: str
    returns: str
    """The reference solution's expression."""
    calls: tuple[str, ...]
    """Arguments and result of hidden tests, as `1, 2 == 3`."""


_TASKS = (
    _Task(
        "larger(a, b)",
        "returns the larger of two numbers",
        "a if a > b else b",
        ("1, 2 == 2", "5, 3 == 5", "-4, -7 == -4", "3, 3 == 3"),
    ),
    _Task(
        "add(a, b)",
        "returns the sum of two numbers",
        "a + b",
        ("1, 2 == 3", "-5, 3 == -2", "0, 0 == 0", "10, 20 == 30"),
    ),
    _Task(
        "is_even(n)",
        "returns True if the number n is even and False if it is odd",
        "n % 2 == 0",
        ("2 == True", "7 == False", "0 == True", "-3 == False"),
    ),
    _Task(
        "square(n)",
        "returns the number n multiplied by itself",
        "n * n",
        ("3 == 9", "0 == 0", "-4 == 16", "10 == 100"),
    ),
    _Task(
        "absolute(n)",
        "returns the absolute value of the number n",
        "-n if n < 0 else n",
        ("3 == 3", "-3 == 3", "0 == 0", "-10 == 10"),
    ),
    _Task(
        "first_item(items)",
        "returns the first item of a list that is not empty",
        "items[0]",
        ("[1, 2, 3] == 1", "['a'] == 'a'", "[5, 5, 9] == 5"),
    ),
    _Task(
        "last_item(items)",
        "returns the last item of a list that is not empty",
        "items[-1]",
        ("[1, 2, 3] == 3", "['a'] == 'a'", "[5, 5, 9] == 9"),
    ),
    _Task(
        "count_items(items)",
        "returns how many items a list has",
        "len(items)",
        ("[1, 2, 3] == 3", "[] == 0", "['a', 'a'] == 2"),
    ),
    _Task(
        "total(numbers)",
        "returns the sum of all numbers of a list, and 0 for an empty list",
        "sum(numbers)",
        ("[1, 2, 3] == 6", "[] == 0", "[-1, 1] == 0", "[7] == 7"),
    ),
    _Task(
        "smallest(numbers)",
        "returns the smallest number of a list that is not empty",
        "min(numbers)",
        ("[3, 1, 2] == 1", "[5] == 5", "[-1, -8, 0] == -8"),
    ),
    _Task(
        "reverse_text(text)",
        "returns the text with its characters in reverse order",
        "text[::-1]",
        ("'abc' == 'cba'", "'' == ''", "'aab' == 'baa'"),
    ),
    _Task(
        "is_palindrome(text)",
        "returns True if the text reads the same forwards and backwards, else False",
        "text == text[::-1]",
        ("'abba' == True", "'abc' == False", "'' == True", "'aba' == True"),
    ),
    _Task(
        "double_all(numbers)",
        "returns a list with every number of a list multiplied by 2",
        "[2 * n for n in numbers]",
        ("[1, 2] == [2, 4]", "[] == []", "[-3, 0] == [-6, 0]"),
    ),
    _Task(
        "only_even(numbers)",
        "returns a list of the even numbers of a list, in the same order",
        "[n for n in numbers if n % 2 == 0]",
        ("[1, 2, 3, 4] == [2, 4]", "[] == []", "[7] == []", "[8, 6] == [8, 6]"),
    ),
    _Task(
        "join_words(words)",
        "returns the words of a list joined by single spaces",
        "' '.join(words)",
        ("['a', 'b'] == 'a b'", "['one'] == 'one'", "[] == ''"),
    ),
    _Task(
        "factorial(n)",
        "returns the product of all whole numbers from 1 to n, and 1 for n = 0",
        "n * factorial(n - 1) if n else 1",
        ("0 == 1", "1 == 1", "4 == 24", "6 == 720"),
    ),
    _Task(
        "count_vowels(text)",
        "returns how many of the letters a, e, i, o and u a lower-case text has",
        "sum(c in 'aeiou' for c in text)",
        ("'hello' == 2", "'' == 0", "'xyz' == 0", "'aeiou' == 5"),
    ),
    _Task(
        "to_upper(text)",
        "returns the text in upper case",
        "text.upper()",
        ("'abc' == 'ABC'", "'' == ''", "'aB1' == 'AB1'"),
    ),
    _Task(
        "contains(items, item)",
        "returns True if the list items holds item, else False",
        "item in items",
        ("[1, 2], 2 == True", "[], 1 == False", "['a'], 'b' == False"),
    ),
    _Task(
        "difference(a, b)",
        "returns how far apart two numbers are, which is never negative",
        "abs(a - b)",
        ("1, 4 == 3", "4, 1 == 3", "2, 2 == 0", "-1, 1 == 2"),
    ),
)
_SHOWN = (
    _Task(
        "triple(n)",
        "returns the number n multiplied by 3",
        "3 * n",
        ("1 == 3", "0 == 0", "-2 == -6"),
    ),
    _Task(
        "second_word(words)",
        "returns the second item of a list of words",
        "words[1]",
        ("['a', 'b'] == 'b'", "['x', 'y', 'z'] == 'y'", "['one', 'two'] == 'two'"),
    ),
    _Task(
        "is_long(text)",
        "returns True if a text has more than five characters, else False",
        "len(text) > 5",
        ("'house' == False", "'houses' == True", "'' == False"),
    ),
)
"""Stand before every question."""
_TEST_PROMPT = Path(__file__).parent / "easy_test.md"


def read_easy(*, num_samples: int | None = None) -> Iterator[Sample]:
    """Twenty functions that a beginner writes in one line, written for this project.

    Before each question stand tests of three further functions, asked for by `easy_test.md`: a
    small model writes programs when it is only told to write tests.

    Args:
        num_samples: Stop after so many.

    Yields:
        Samples with the fields of `read`, of the split `easy`.
    """
    shown = tuple(message for task in _SHOWN for message in _dialogue(task))
    for task in _TASKS[:num_samples]:
        yield Sample(
            id=f"programs-easy-{_name(task)}",
            messages=(*shown, user(_instruction(task))),
            answer=f"```python\ndef {task.signature}:\n    return {task.returns}\n```",
            tests=tuple(_asserts(task)),
            metadata={
                "dataset": "programs",
                "split": "easy",
                "question_type": "easy",
                "entry_point": _name(task),
                "signature": task.signature,
            },
        )


def _name(task: _Task) -> str:
    return task.signature.partition("(")[0]


def _instruction(task: _Task) -> str:
    return f"`{task.signature}` {task.does}."


def _asserts(task: _Task) -> Iterator[str]:
    for call in task.calls:
        given, _, result = call.rpartition(" == ")
        yield f"assert {_name(task)}({given}) == {result}"


def _dialogue(task: _Task) -> Iterator[Message]:
    """The prompt for tests, and tests."""
    asked = Text(_TEST_PROMPT.read_text(encoding="utf-8").strip())
    yield user(asked.substitute(instruction=_instruction(task), entry_point=_name(task)))
    tests = "\n".join(_asserts(task))
    yield text_of(f"```python\n{tests}\n```")
