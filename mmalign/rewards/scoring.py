"""Call the rewards of a run within their limits, and add up what they give.

A reward that takes too long is told to stop by an exception in its thread, which ends Python code
of any length. What cannot be stopped is one call into C that does not return (a regular expression
that backtracks, a socket without a time limit): its thread is left behind, and lives until the
process ends. Signals do not reach a thread: what sets an alarm must start a process of its own.
"""

import asyncio
import ctypes
import inspect
import math
import numbers
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from mmalign.errors import ModelCallError, RecordError, RewardError
from mmalign.records import JsonDict, Rollout, Sample
from mmalign.rewards.contract import Episode, Form, RewardFunction, arguments_of, form_of
from mmalign.rewards.reward import NotApplicable, Reward

__all__ = ["MAX_INVALID", "RewardRunner", "Scored", "WeightedReward", "call_within"]

MAX_INVALID = 0.05
"""Share of a reward's values that may be no numbers before the run ends."""
_JUDGED_FROM = 40
_OVERALL = ("overall", "score")


@dataclass(frozen=True)
class WeightedReward:
    """One reward of a recipe."""

    name: str
    """What metrics and records call it."""
    function: RewardFunction
    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments besides those of the form."""

    @property
    def form(self) -> Form:
        """How it is called."""
        return form_of(self.function)


class Scored(NamedTuple):
    """What one rollout earned."""

    total: float | None
    """Weighted sum of the rewards that apply; None where none does, or one is unknown."""
    values: dict[str, float | None]
    """By the reward's name; None where it does not apply or is unknown."""
    parts: dict[str, float]
    """`NAME/PART`, where a reward tells what its value is made of."""
    notes: dict[str, str]
    """Why a value is what it is, where there is something to say."""


class _Given(NamedTuple):
    """One value, judged."""

    value: float | None
    note: str = ""
    parts: Mapping[str, float] = {}
    is_invalid: bool = False


class RewardRunner:
    """The rewards of a run, what they remember, and how often they failed.

    Args:
        rewards: In the order in which they are called.
        max_invalid: Share of a reward's values that may be no numbers.
    """

    def __init__(
        self, rewards: Sequence[WeightedReward], *, max_invalid: float = MAX_INVALID
    ) -> None:
        self.rewards = tuple(rewards)
        self.num_invalid: dict[str, int] = {reward.name: 0 for reward in rewards}
        """Values that were no numbers, by reward."""
        self.histories: dict[str, dict[str, JsonDict]] = {reward.name: {} for reward in rewards}
        """What a reward of groups remembers, by reward and sample."""
        self._max_invalid = max_invalid
        self._num_values: dict[str, int] = {reward.name: 0 for reward in rewards}

    def score(
        self,
        groups: Sequence[tuple[Sample, Sequence[Rollout]]],
        *,
        step: int = 0,
        num_steps: int = 1,
    ) -> list[list[Scored]]:
        """What every rollout of every group earns.

        A rollout that ended by the machine's fault is not shown to any reward: it earns None.

        Args:
            groups: Samples with all their rollouts.
            step: Optimiser steps taken.
            num_steps: Of the whole run.

        Raises:
            RewardError: A value outside the declared range, the wrong number of values, an
                exception of the function, or too many values that are no numbers.
        """
        by_reward = [self._ask(reward, groups, step, num_steps) for reward in self.rewards]
        return [
            [
                self._sum([given[group][place] for given in by_reward])
                for place in range(len(rollouts))
            ]
            for group, (_, rollouts) in enumerate(groups)
        ]

    def state(self) -> JsonDict:
        """All that later values depend on, for a checkpoint."""
        return {"histories": self.histories}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in self.histories:
            self.histories[name] = dict(state["histories"].get(name, {}))

    def _ask(
        self,
        reward: WeightedReward,
        groups: Sequence[tuple[Sample, Sequence[Rollout]]],
        step: int,
        num_steps: int,
    ) -> list[list[_Given]]:
        function, form = reward.function, reward.form
        is_whole = form in ("group", "trl")
        calls: list[_Call] = []
        for number, (sample, rollouts) in enumerate(groups):
            history = self.histories[reward.name].get(sample.id, {})
            episodes = [
                Episode.of(sample, r, sees=function.sees, step=step, num_steps=num_steps)
                for r in rollouts
            ]
            places = [place for place, r in enumerate(rollouts) if r.stop != "error"]
            for part in [places] if is_whole and places else [[place] for place in places]:
                shown = [episodes[place] for place in part]
                arguments = {
                    **arguments_of(function, form, shown, history),
                    **reward.settings,
                }
                calls.append(_Call(number, part, arguments, history))
        given = [[_Given(None, "the rollout failed") for _ in rollouts] for _, rollouts in groups]
        for call, answer in zip(calls, _answers(function, calls), strict=True):
            sample = groups[call.group][0]
            values = _values(reward, sample, call, answer, is_whole=is_whole)
            for place, value in zip(call.places, values, strict=True):
                given[call.group][place] = self._judge(reward, sample, place, value)
            if form == "group" and call.history:
                self.histories[reward.name][sample.id] = call.history
        self._require_enough(reward, given)
        return given

    def _judge(self, reward: WeightedReward, sample: Sample, place: int, raw: Any) -> _Given:
        """A raw value as a number, or why there is none."""
        self._num_values[reward.name] += 1
        if isinstance(raw, NotApplicable):
            return _Given(None, raw.note)
        if raw is None and reward.form in ("trl", "verl"):
            return _Given(None, "returned None")
        value, note, parts = _read(raw)
        if not math.isfinite(value):
            self.num_invalid[reward.name] += 1
            if reward.function.on_invalid == "error":
                raise RewardError(
                    f"{_where(reward, sample, place)} gave {note or value}, expected a finite "
                    f"number; mend it, or set on_invalid: skip"
                )
            known = 0.0 if reward.function.on_invalid == "zero" else None
            return _Given(known, note or f"gave {value}", is_invalid=known is None)
        low, high = reward.function.low, reward.function.high
        if not low - 1e-9 <= value <= high + 1e-9:
            raise RewardError(
                f"{_where(reward, sample, place)} gave {value}, it declares {low} to {high}; "
                f"mend it, or declare its true range"
            )
        return _Given(value, note, parts)

    def _sum(self, given: Sequence[_Given]) -> Scored:
        named = list(zip(self.rewards, given, strict=True))
        known = [reward.weight * g.value for reward, g in named if g.value is not None]
        is_unknown = not known or any(g.is_invalid for g in given)
        return Scored(
            total=None if is_unknown else math.fsum(known),
            values={reward.name: g.value for reward, g in named},
            parts={f"{r.name}/{part}": value for r, g in named for part, value in g.parts.items()},
            notes={reward.name: g.note for reward, g in named if g.note},
        )

    def _require_enough(self, reward: WeightedReward, given: Sequence[Sequence[_Given]]) -> None:
        invalid, total = self.num_invalid[reward.name], self._num_values[reward.name]
        if total >= _JUDGED_FROM and invalid > self._max_invalid * total:
            notes = [g.note for group in given for g in group if g.note]
            raise RewardError(
                f"reward {reward.name!r}: {invalid} of {total} values were no numbers, more than "
                f"{self._max_invalid:.0%}; the last one: {notes[-1] if notes else 'unknown'}. "
                f"Training on the rest would follow its faults: mend the reward"
            )


@dataclass
class _Call:
    """One call of a reward."""

    group: int
    places: Sequence[int]
    arguments: Mapping[str, Any]
    history: JsonDict


class _StopNow(BaseException):  # no error of the reward: it is told to end
    """Raised inside a thread whose time is over."""


def call_within(work: Callable[[], Any], limit_s: float) -> Any:
    """What a function gives within a time.

    Raises:
        TimeoutError: It took longer; it is told to stop.
    """
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except _StopNow:
            pass
        except BaseException as error:  # noqa: BLE001  # raised again below
            failed.append(error)

    thread = threading.Thread(target=run, name="mmalign-reward", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(_StopNow)
        )
        raise TimeoutError(f"took longer than {limit_s:g} s")
    if failed:
        raise failed[0]
    return found[0]


def _answers(function: RewardFunction, calls: Sequence[_Call]) -> list[Any]:
    """Each call's result, or the exception that it ended with; asynchronous ones run together."""
    if inspect.iscoroutinefunction(function.fn):
        return _answers_together(function, calls)
    answers: list[Any] = []
    for call in calls:
        limit_s = function.time_limit_s * len(call.places)
        try:
            answers.append(call_within(partial(function.fn, **call.arguments), limit_s))
        except Exception as error:  # noqa: BLE001  # sorted by `_values`
            answers.append(error)
    return answers


def _answers_together(function: RewardFunction, calls: Sequence[_Call]) -> list[Any]:
    async def one(work: Coroutine[Any, Any, Any], limit_s: float) -> Any:
        try:
            return await asyncio.wait_for(work, limit_s)
        except TimeoutError:
            return TimeoutError(f"took longer than {limit_s:g} s")

    async def run() -> list[Any]:
        limits = [function.time_limit_s * len(call.places) for call in calls]
        works = [function.fn(**call.arguments) for call in calls]
        return await asyncio.gather(*map(one, works, limits), return_exceptions=True)

    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(asyncio.run(run())))
    thread.start()  # the caller may be inside an event loop
    thread.join()
    return answers


def _values(
    reward: WeightedReward, sample: Sample, call: _Call, answer: Any, *, is_whole: bool
) -> Sequence[Any]:
    """One raw value for each rollout of a call; NaN with a note where the machine was at fault."""
    where = _where(reward, sample, call.places[0])
    if isinstance(answer, TimeoutError | ModelCallError):
        return [Reward(math.nan, f"{type(answer).__name__}: {answer}") for _ in call.places]
    if isinstance(answer, RecordError):
        raise RewardError(f"{where}: {answer}") from answer
    if isinstance(answer, BaseException):
        raise RewardError(
            f"{where} raised {type(answer).__name__}: {answer}; a reward answers bad completions "
            f"with a number, and what does not concern it with NotApplicable"
        ) from answer
    if not is_whole:
        return [answer]
    if not isinstance(answer, Sequence) or len(answer) != len(call.places):
        found = len(answer) if isinstance(answer, Sequence) else type(answer).__name__
        raise RewardError(
            f"{where}: gave {found} values for {len(call.places)} rollouts, expected one for each"
        )
    return answer


def _read(raw: Any) -> tuple[float, str, Mapping[str, float]]:
    """Value, note and parts of what a reward returned; NaN where it is none of the known kinds."""
    if isinstance(raw, Reward):
        return float(raw.value), raw.note, raw.parts
    if isinstance(raw, Mapping):
        name = next((name for name in _OVERALL if name in raw), None)
        if name is None:
            return math.nan, f"a dictionary without {' or '.join(_OVERALL)}", {}
        parts = {k: float(v) for k, v in raw.items() if k != name and isinstance(v, numbers.Real)}
        return float(raw[name]), "", parts
    if isinstance(raw, numbers.Real):
        return float(raw), "", {}
    return math.nan, f"a {type(raw).__name__}", {}


def _where(reward: WeightedReward, sample: Sample, place: int) -> str:
    return f"reward {reward.name!r}: sample {sample.id!r}, rollout {place}"
