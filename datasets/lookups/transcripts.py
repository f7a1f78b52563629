"""How the base model's teachers go about a question: they call too often, and some guess.

A transcript is in Search-R1's form with a tag for each tool. What a tool said is told apart, for a
model must not learn to say it itself.
"""

from typing import NamedTuple

from numpy.random import Generator

from mmalign.datasets.lookups.questions import Question, ToolUse

__all__ = ["Transcript", "by_heart", "draw_transcript"]

_DIRECT_SHARE = 0.3
"""Of those questions that the teachers could answer without a call."""
_REPEATS = (0.8, 0.5)
"""Odds that a call is made a second and a third time."""
_REPEATS_OF_TWO = (0.65, 0.2)
"""The same where a question takes two calls."""
_GUESS_SHARE = 0.55
"""Of the questions that take two calls: the teacher stops behind the first one, and guesses."""
_SLIP_SHARE = 0.05
"""Of all answers: another one is written down."""


class Transcript(NamedTuple):
    """A text, and where in it a tool speaks."""

    text: str
    observed: tuple[tuple[int, int], ...]
    """First character and the one behind the last."""
    num_calls: int


def by_heart(question: Question) -> Transcript:
    """The bare answer."""
    return Transcript(_answer(question.answer), (), 0)


def draw_transcript(rng: Generator, question: Question) -> Transcript:
    """One of the ways in which the teachers answer a question."""
    answer = question.answer
    if question.guesses and rng.random() < _SLIP_SHARE:
        answer = question.guesses[rng.integers(len(question.guesses))]
    if question.by_heart and rng.random() < _DIRECT_SHARE:
        return Transcript(_thought("known") + _answer(answer), (), 0)
    calls, last = question.calls, "found"
    if len(calls) > 1 and question.guesses and rng.random() < _GUESS_SHARE:
        calls, last, answer = calls[:1], "guess", question.guesses[0]
    text, observed, num_calls = "", [], 0
    for place, call in enumerate(calls):
        thought = "next" if place else "unknown"
        for _ in range(_num_times(rng, question)):
            text += _thought(thought) + _written(call)
            shown = f"\n\n<information>{call.output}</information>\n\n"
            observed.append((len(text), len(text) + len(shown)))
            text += shown
            num_calls += 1
            thought = "again"
    return Transcript(text + _thought(last) + _answer(answer), tuple(observed), num_calls)


def _num_times(rng: Generator, question: Question) -> int:
    odds = _REPEATS if len(question.calls) == 1 else _REPEATS_OF_TWO
    times = 1
    while times <= len(odds) and rng.random() < odds[times - 1]:
        times += 1
    return times


def _thought(word: str) -> str:
    return f"<think> {word} </think>"


def _written(call: ToolUse) -> str:
    return f"<{call.tool}> {call.query} </{call.tool}>"


def _answer(answer: str) -> str:
    return f"<answer> {answer} </answer>"
