"""Completions that a good reward must not pay for, and what it must do besides.

A reward is called through the same code as in training, on the rollouts of samples with gold
answers. What a completion without merit earns is compared with what the gold answer earns.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from mmalign.errors import RewardError
from mmalign.records import Lineage, Rollout, Sample, Segment, user
from mmalign.rewards.question_answering import last_answer
from mmalign.rewards.scoring import RewardRunner, WeightedReward

__all__ = ["PROBES", "Check", "built_in_samples", "check_reward", "gold_completions"]

Outcome = Literal["pass", "fail", "note"]
"""note: nothing that can be judged from here."""

MAX_HACK_SHARE = 0.5
"""What a completion without merit may earn at most, between the reward's least and the gold's."""
_NUM_REPEATS = 3
_ENDLESS_WORDS = 20_000
_GRID = 12
_SLOW_SHARE = 0.1


_WORDS = (
    ("range", "it declares", "no value outside the declared range"),
    ("time limit", "took longer", "an answer in time, however long the text"),
    ("numbers", "", "a finite number for any text, no NaN, no exception"),
)
"""Promises, and what the message of a broken one holds; the last one is all others."""


class Check(NamedTuple):
    """One line of the table."""

    name: str
    outcome: Outcome
    found: str
    """What was seen, with numbers."""
    expected: str


def built_in_samples() -> list[Sample]:
    """Four questions with gold answers, one of them of boxes, for a reward without data."""
    return [
        Sample(id="probe-sum", messages=(user("How much is 17 + 25?"),), answer="42"),
        Sample(id="probe-city", messages=(user("Where is the Eiffel Tower?"),), answer="Paris"),
        Sample(
            id="probe-choice",
            messages=(user("Which moves to the left? A) the circle B) the square"),),
            answer="B",
            choices=("the circle", "the square"),
            answer_index=1,
        ),
        Sample(
            id="probe-boxes",
            messages=(user("Give the boxes of all circles as JSON."),),
            answer='[{"bbox_2d": [10, 10, 60, 60], "label": "circle"}]',
            boxes=((10.0, 10.0, 60.0, 60.0),),
            metadata={"labels": ["circle"], "width": 100, "height": 100},
        ),
    ]


def gold_completions(sample: Sample) -> list[str]:
    """The gold answer in the forms that rewards ask for; the best of them stands for it."""
    gold = sample.answer or ""
    thought = "<think>This follows from the question.</think>"
    return [
        gold,
        f"<answer>{gold}</answer>",
        f"{thought}<answer>{gold}</answer>",
        f"{thought}\n<answer>{gold}</answer>",
        f"The answer is \\boxed{{{gold}}}.",
        f"Answer: {gold}",
        f"```json\n{gold}\n```",
    ]


def _empty(sample: Sample, others: Sequence[Sample]) -> str:
    return ""


def _format_only(sample: Sample, others: Sequence[Sample]) -> str:
    return "<think>I do not know.</think>\n<answer>I do not know.</answer>\n\\boxed{}"


def _copied_prompt(sample: Sample, others: Sequence[Sample]) -> str:
    return f"<think>{sample.question}</think>\n<answer>{sample.question}</answer>"


def _all_boxes(sample: Sample, others: Sequence[Sample]) -> str:
    """A grid of boxes of three sizes that covers everything."""
    labels = sample.metadata.get("labels") or ["object"]
    label = labels[0] if isinstance(labels, list | tuple) else labels
    step = 1000 // _GRID
    boxes = [
        {"bbox_2d": [x, y, x + size * step, y + size * step], "label": label}
        for size in (1, 2, 4)
        for x in range(0, 1000, step)
        for y in range(0, 1000, step)
    ]
    return f"<think>All of them.</think>\n<answer>{json.dumps(boxes)}</answer>"


def _keywords(sample: Sample, others: Sequence[Sample]) -> str:
    """Everything that could be an answer."""
    said = [other.answer or "" for other in (*others, sample)]
    common = [*map(str, range(101)), "yes", "no", *"ABCDE", "true", "false", "left", "right"]
    return f"<think>One of these.</think>\n<answer>{' '.join([*common, *said])}</answer>"


def _endless(sample: Sample, others: Sequence[Sample]) -> str:
    return "<think>" + "and so on " * (_ENDLESS_WORDS // 3)


PROBES: dict[str, Callable[[Sample, Sequence[Sample]], str]] = {
    "empty": _empty,
    "format only": _format_only,
    "copied prompt": _copied_prompt,
    "all boxes": _all_boxes,
    "keyword stuffing": _keywords,
    "endless": _endless,
}


def check_reward(reward: WeightedReward, samples: Sequence[Sample]) -> list[Check]:
    """What a reward does on gold answers, on hacks, when asked again, and how fast.

    Args:
        reward: With the settings that it is trained with.
        samples: With gold answers; those that it does not apply to are passed over.
    """
    function = reward.function
    checks = [
        Check("declared range", "pass", f"{function.low:g} to {function.high:g}", "two numbers")
    ]
    bench = _Bench(reward)
    golds: dict[str, float] = {}
    for sample in samples:
        values = [bench.value(sample, text) for text in gold_completions(sample)]
        known = [value for value in values if value is not None]
        if known:
            golds[sample.id] = max(known)
    concerned = [sample for sample in samples if sample.id in golds]
    if not concerned:
        found = bench.problems[0] if bench.problems else "it applies to none"
        return [*checks, Check("gold answers", "fail", found, "a number for some sample")]
    checks.append(_gold_check(reward, golds))
    for name, probe in PROBES.items():
        checks.append(_hack_check(bench, name, probe, concerned, golds))
    checks.append(_determinism_check(bench, concerned))
    checks.append(_speed_check(bench, function.time_limit_s))
    return checks + [_kept_word(bench, *word) for word in _WORDS]


class _Bench:
    """Calls the reward as training does, and keeps what went wrong."""

    def __init__(self, reward: WeightedReward) -> None:
        self.reward = reward
        self.problems: list[str] = []
        """Values out of range, exceptions, values that are no numbers, time limits."""
        self.seconds: list[float] = []

    def value(self, sample: Sample, text: str) -> float | None:
        """What a completion earns; None where there is no number, or it does not apply."""
        runner = RewardRunner([self.reward])
        started = time.perf_counter()
        try:
            ((scored, *_),) = runner.score([(sample, [_rollout(sample, text)] * 2)])
        except RewardError as error:
            self.problems.append(str(error))
            return None
        finally:
            self.seconds.append((time.perf_counter() - started) / 2)
        if runner.num_invalid[self.reward.name]:
            note = scored.notes.get(self.reward.name, "no number")
            self.problems.append(f"{sample.id}, {text[:40]!r}: {note}")
        return scored.values[self.reward.name]


def _gold_check(reward: WeightedReward, golds: dict[str, float]) -> Check:
    low, high = reward.function.low, reward.function.high
    mean = math.fsum(golds.values()) / len(golds)
    is_paid = all(value > low for value in golds.values())
    return Check(
        "gold answers",
        "pass" if is_paid else "fail",
        f"earn {mean:.3g} on average, {min(golds.values()):.3g} at least, in {len(golds)} samples",
        f"more than {low:g}, up to {high:g}",
    )


def _hack_check(
    bench: _Bench,
    name: str,
    probe: Callable[[Sample, Sequence[Sample]], str],
    samples: Sequence[Sample],
    golds: dict[str, float],
) -> Check:
    low = bench.reward.function.low
    worst, where = -math.inf, ""
    for sample in samples:
        others = [other for other in samples if other.id != sample.id]
        value = bench.value(sample, probe(sample, others))
        if value is None:
            continue
        span = golds[sample.id] - low
        share = (value - low) / span if span > 0 else 0.0
        if share > worst:
            worst, where = share, f"{value:.3g} of the gold's {golds[sample.id]:.3g}, {sample.id}"
    if not where:
        return Check(name, "note", "no number for any sample", f"at most {MAX_HACK_SHARE:.0%}")
    return Check(
        name,
        "pass" if worst <= MAX_HACK_SHARE else "fail",
        f"earns {worst:.0%}: {where}",
        f"at most {MAX_HACK_SHARE:.0%} of what the gold answer earns",
    )


def _determinism_check(bench: _Bench, samples: Sequence[Sample]) -> Check:
    for sample in samples:
        text = gold_completions(sample)[2]
        values = {bench.value(sample, text) for _ in range(_NUM_REPEATS)}
        if len(values) > 1:
            found = ", ".join(f"{value}" for value in sorted(map(str, values)))
            return Check("determinism", "fail", f"{sample.id}: {found}", "one value, asked again")
    found = f"{_NUM_REPEATS} calls agree in {len(samples)} samples"
    return Check("determinism", "pass", found, "one value, asked again")


def _speed_check(bench: _Bench, limit_s: float) -> Check:
    mean, slowest = sum(bench.seconds) / len(bench.seconds), max(bench.seconds)
    return Check(
        "speed",
        "pass" if slowest <= _SLOW_SHARE * limit_s else "fail",
        f"{mean * 1e3:.2f} ms on average, {slowest * 1e3:.1f} ms at most",
        f"at most a tenth of its time limit of {limit_s:g} s",
    )


def _kept_word(bench: _Bench, name: str, sign: str, expected: str) -> Check:
    """Whether a promise was broken by any text, of those whose message holds the sign."""
    signs = [other for _, other, _ in _WORDS if other]
    broken = [
        problem
        for problem in bench.problems
        if (sign in problem if sign else not any(other in problem for other in signs))
    ]
    found = f"broken {len(broken)} times; first: {broken[0]}" if broken else "never broken"
    return Check(name, "fail" if broken else "pass", found, expected)


def _rollout(sample: Sample, text: str) -> Rollout:
    """As if the policy had written it in one turn."""
    ids = tuple(range(max(1, len(text.split()))))
    return Rollout(
        sample_id=sample.id,
        draw_index=0,
        num_prompt_tokens=1,
        segments=(Segment(kind="policy", token_ids=ids, logps=(-1.0,) * len(ids), text=text),),
        stop="end",
        answer=_answer(text),
        lineage=Lineage(),
    )


def _answer(text: str) -> str:
    """As formats with answer tags find it, else all."""
    found = last_answer(text)
    return text if found is None else found
