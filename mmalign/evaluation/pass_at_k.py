"""How often at least one of k programs solves a problem, estimated from n that were run.

Source: Codex (Chen et al., 2021); the share of machine faults that makes a score invalid is
mmalign's reading.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmalign.errors import FailedRatioError, RecordError
from mmalign.evaluation.code import Verdict, problem_of
from mmalign.evaluation.metrics import Judged, Scores, scores_of, subset_of
from mmalign.evaluation.parsing import check_profile
from mmalign.evaluation.predictions import Prediction, by_draw, missing_predictions
from mmalign.evaluation.table import Table
from mmalign.records import Sample

__all__ = ["empty_share_warning", "functional_correctness", "pass_at_k"]

_MOST_FAULTS = 0.01
"""Share of runs that may end by the machine's fault."""
_MANY_EMPTY = 0.1
_SHOWN = 5


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k programs passes, estimated without bias.

        pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n - c + 1 .. n} (1 - k / i)

    Args:
        n: Programs that were drawn.
        c: Those among them that passed.
        k: Programs that a user would draw; at most n.

    Returns:
        In [0, 1]; 1 where fewer than k programs failed.

    Raises:
        RecordError: n < k, or c is not within 0..n.

    Source: Codex (Chen et al., 2021), eq. 1.
    """
    if k < 1 or n < k:
        raise RecordError(
            f"pass@{k} of {n} programs: k must be at least 1 and at most n; draw more"
        )
    if not 0 <= c <= n:
        raise RecordError(f"{c} of {n} programs passed; expected 0 to {n}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def functional_correctness(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
    k: Sequence[int] = (1,),
) -> Scores:
    """Share of problems that at least one of k programs solves, without bias, from n drawn.

    Predictions are the verdicts of `run_programs`. A run that ended by the machine's fault counts
    neither way; an answer without code is a failure, and counts as unparsed.

    Raises:
        RecordError: A problem has fewer than k programs, or a prediction is no verdict.
        MissingPredictionsError: Programs of some problems were not drawn.
        FailedRatioError: More than 1 % of the runs ended by the machine's fault.
    """
    check_profile(profile)
    tallies = _tallies(items, predictions, allow_missing=allow_missing, most=max(k))
    for item in items:
        problem_of(item)
    _refuse_faults(tallies)
    kept = [tally for tally in tallies if tally.num_counted >= max(k)]
    table = Table(
        units=tuple(tally.sample.id for tally in kept),
        strata=tuple(subset_of(tally.sample) for tally in kept),
        columns={
            f"pass@{size}": np.array(
                [pass_at_k(tally.num_counted, tally.num_passed, size) for tally in kept]
            )
            for size in k
        },
        means=tuple(f"pass@{size}" for size in k),
    )
    num_empty = sum(tally.num_empty for tally in tallies)
    judged = Judged(table, f"pass@{k[0]}", num_empty, len(tallies) - len(kept))
    missing = tuple(tally.sample.id for tally in tallies if not tally.statuses)
    scores = scores_of(judged, len(items), missing)
    total: Counter[str] = sum((tally.statuses for tally in tallies), Counter())
    counts = {
        "programs": total.total(),
        "in_process": sum(tally.num_in_process for tally in tallies),
        **{f"status/{status}": number for status, number in sorted(total.items())},
    }
    return replace(scores, counts={**scores.counts, **counts})


def empty_share_warning(scores: Scores) -> str | None:
    """What to tell the user where many answers hold no code."""
    num_programs = scores.counts.get("programs", 0)
    if not num_programs or scores.unparsed <= _MANY_EMPTY * num_programs:
        return None
    return (
        f"{scores.unparsed} of {num_programs} answers hold no code and count as failed; look at "
        f"the predictions: the prompt, the stop sequences or max_completion_length may be wrong"
    )


@dataclass(frozen=True)
class _Tally:
    """What became of one problem's programs."""

    sample: Sample
    statuses: Counter[str]
    num_counted: int
    """Without those that the machine failed, with those that were never drawn."""
    num_passed: int
    num_empty: int
    num_in_process: int


def _tallies(
    items: Sequence[Sample], predictions: Iterable[Prediction], *, allow_missing: bool, most: int
) -> list[_Tally]:
    found = by_draw(items, predictions)
    num_draws = max([len(draws) for draws in found.values()], default=0)
    if allow_missing:
        num_draws = max(num_draws, most)
    elif short := [item.id for item in items if len(found.get(item.id, ())) < max(num_draws, 1)]:
        raise missing_predictions(short, len(items))
    if num_draws < most:
        raise RecordError(
            f"pass@{most} needs {most} programs per problem, found {num_draws}; set num_samples to "
            f"{most} or more, or ask for a smaller k"
        )
    return [_tally(item, list(found.get(item.id, {}).values()), num_draws) for item in items]


def _tally(sample: Sample, predictions: Sequence[Prediction], num_draws: int) -> _Tally:
    verdicts = [line for line in predictions if isinstance(line, Verdict)]
    if len(verdicts) < len(predictions):
        raise RecordError(
            f'sample "{sample.id}": a prediction is no verdict; programs are run before they are '
            f"scored"
        )
    statuses = Counter(str(verdict.status) for verdict in verdicts)
    return _Tally(
        sample=sample,
        statuses=statuses,
        num_counted=num_draws - statuses["infra_error"],
        num_passed=statuses["pass"],
        num_empty=sum(verdict.empty for verdict in verdicts),
        num_in_process=sum(verdict.in_process for verdict in verdicts),
    )


def _refuse_faults(tallies: Sequence[_Tally]) -> None:
    num_runs = sum(tally.statuses.total() for tally in tallies)
    faults = {tally.sample.id: tally.statuses["infra_error"] for tally in tallies}
    num_faults = sum(faults.values())
    if num_faults > _MOST_FAULTS * num_runs:
        shown = ", ".join([key for key, number in faults.items() if number][:_SHOWN])
        raise FailedRatioError(
            f"{num_faults} of {num_runs} runs ended by the machine's fault, more than "
            f"{_MOST_FAULTS:.0%}, so there is no valid score; among them {shown}. See mmalign "
            f"doctor, then start again: only these are run once more"
        )
