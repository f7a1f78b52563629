"""Alignment in several steps: which data when, which reference, which beta, and what to merge."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import (
    at_least_float32,
    require_finite,
    require_positive,
    require_same_shape,
)

__all__ = [
    "AlignmentStep",
    "closed_form_margins",
    "easy_to_hard_order",
    "mean_margin",
    "merged_parameters",
    "reward_accuracy",
    "step_beta",
    "stepwise_schedule",
]


class AlignmentStep(NamedTuple):
    """One ordinary preference run of a chain; M0 is the fine-tuned model."""

    step: int
    """From 1 on."""
    source: int
    """Which source's pairs it trains on."""
    reference: str
    """The frozen model, merged if it was trained as an adapter."""
    init: str
    """Where the policy starts; the reference, so that the first loss is log 2."""
    output: str


def reward_accuracy(chosen_scores: Sequence[float], rejected_scores: Sequence[float]) -> float:
    """Share of a source's pairs that a model already ranks right.

    Args:
        chosen_scores: One per pair: log-probabilities summed over the response under the
            starting model, their means over tokens, or rewards of another model.
        rejected_scores: The same for the rejected responses.

    Returns:
        In [0, 1]; a tie counts as wrong.

    Raises:
        ShapeError: The lists are empty, of different lengths or hold a number that is not
            finite.

    Source: sDPO (Kim et al., 2024). Log-probabilities without the reference are a
        reconstruction: the implicit reward of a model against itself is 0 everywhere.
    """
    margins = _margins(chosen_scores, rejected_scores)
    return sum(margin > 0 for margin in margins) / len(margins)


def mean_margin(chosen_logps: Sequence[float], rejected_logps: Sequence[float]) -> float:
    """Mean log-ratio of chosen to rejected responses, in nats.

    Of the reference over a source before the policy trains on it, it is the bound that training
    lifts the policy above; far above 0 it says that the reference has seen the pairs.

    Args:
        chosen_logps: One per pair, nats, summed over the response.
        rejected_logps: The same for the rejected responses.

    Raises:
        ShapeError: As `reward_accuracy`.

    Source: sDPO (Kim et al., 2024), gamma of the reference.
    """
    margins = _margins(chosen_logps, rejected_logps)
    return math.fsum(margins) / len(margins)


def easy_to_hard_order(accuracies: Sequence[float]) -> tuple[int, ...]:
    """The sources from the highest reward accuracy to the lowest.

    Args:
        accuracies: One per source, of `reward_accuracy`, in [0, 1].

    Returns:
        Indices of the sources; among equal ones the one given first comes first, which is a
        reconstruction.

    Raises:
        ShapeError: An accuracy lies outside [0, 1] or is NaN.

    Source: sDPO (Kim et al., 2024), easy-to-hard partition.
    """
    for place, accuracy in enumerate(accuracies):
        if not 0 <= accuracy <= 1:
            raise ShapeError(f"accuracies[{place}] is {accuracy}, expected a share in [0, 1]")
    return tuple(sorted(range(len(accuracies)), key=lambda source: -accuracies[source]))


def stepwise_schedule(order: Sequence[int]) -> tuple[AlignmentStep, ...]:
    """One step per source, each starting from the last result and held by it.

    Args:
        order: The sources by index, every one once.

    Raises:
        ShapeError: The order is not a permutation of the sources.

    Source: sDPO (Kim et al., 2024), algorithm 1; with two sources also SACPO.
    """
    if sorted(order) != list(range(len(order))):
        raise ShapeError(
            f"order is {list(order)}, expected each of 0 to {len(order) - 1} once: a pair is "
            f"trained on in one step only"
        )
    return tuple(
        AlignmentStep(
            step, source, reference=f"M{step - 1}", init=f"M{step - 1}", output=f"M{step}"
        )
        for step, source in enumerate(order, start=1)
    )


def closed_form_margins(
    initial_margin: float, preferred_shares: Sequence[float], *, beta: float
) -> tuple[float, ...]:
    """Where the optimum of each step has the log-ratio of a prompt's two responses.

        margin[t] = margin[t - 1] + log(share[t] / (1 - share[t])) / beta

    Args:
        initial_margin: Nats, log-probability of the one response over the other's before the
            first step.
        preferred_shares: Share of step t's labels that prefer the one response, in (0, 1).
        beta: Inverse temperature of every step, > 0.

    Returns:
        Nats, one more than there are steps, the initial one first.

    Raises:
        ShapeError: A share lies outside (0, 1), or beta is not positive.

    Source: The optimum of DPO with two responses, applied step by step.
    """
    require_positive(beta=beta)
    margins = [initial_margin]
    for place, share in enumerate(preferred_shares):
        if not 0 < share < 1:
            raise ShapeError(
                f"preferred_shares[{place}] is {share}, expected a share inside (0, 1): labels "
                f"that all agree have no finite optimum"
            )
        margins.append(margins[-1] + math.log(share / (1 - share)) / beta)
    return tuple(margins)


def step_beta(beta: float, *, multiplier: float) -> float:
    """The beta with which the second of two rewards is aligned from the first one's result.

    The optimum for reward + multiplier * second reward is the optimum for the first, tilted by
    the second with beta / multiplier; the reference of the second step is the first one's
    result. Holds for reverse KL only.

    Args:
        beta: Weight of the KL in the joint problem, > 0.
        multiplier: lambda of the constraint, > 0; larger moves further towards the second.

    Raises:
        ShapeError: One of them is not positive.

    Source: SACPO (Wachi et al., 2024).
    """
    require_positive(beta=beta, multiplier=multiplier)
    return beta / multiplier


def merged_parameters(
    helpful: Mapping[str, Tensor], safe: Mapping[str, Tensor], *, weight_helpful: float
) -> dict[str, Tensor]:
    """The weights between a helpful model and the safe one that was trained from it.

        merged = weight_helpful * helpful + (1 - weight_helpful) * safe

    Args:
        helpful: Floating-point parameters by name, of the first step.
        safe: The same of the second step, trained with a conservative beta.
        weight_helpful: q of the paper's text, in [0, 1]. The released file names and the
            published figures give the weight of the safe model, 1 - q.

    Returns:
        New tensors in the first model's types, summed in float32 at least.

    Raises:
        ShapeError: The models differ in names or shapes, a parameter is NaN or infinite, or the
            weight lies outside [0, 1].

    Source: P-SACPO (Wachi et al., 2024).
    """
    if not 0 <= weight_helpful <= 1:
        raise ShapeError(f"weight_helpful is {weight_helpful}, expected a share in [0, 1]")
    if helpful.keys() != safe.keys():
        raise ShapeError(
            f"expected the parameters of one architecture, found in one model only: "
            f"{', '.join(sorted(helpful.keys() ^ safe.keys()))}"
        )
    merged = {}
    for name, values in helpful.items():
        require_same_shape(**{f"helpful {name}": values, f"safe {name}": safe[name]})
        require_finite(**{f"helpful {name}": values, f"safe {name}": safe[name]})
        mixed = weight_helpful * at_least_float32(values)
        mixed = mixed + (1 - weight_helpful) * at_least_float32(safe[name])
        merged[name] = mixed.to(values.dtype)
    return merged


def _margins(chosen: Sequence[float], rejected: Sequence[float]) -> list[float]:
    if len(chosen) != len(rejected) or not chosen:
        raise ShapeError(
            f"expected one number per pair and side, found {len(chosen)} chosen and "
            f"{len(rejected)} rejected"
        )
    for side, numbers in (("chosen", chosen), ("rejected", rejected)):
        for place, number in enumerate(numbers):
            if not math.isfinite(number):
                raise ShapeError(f"pair {place}: {side} is {number}, expected a finite number")
    return [c - r for c, r in zip(chosen, rejected, strict=True)]
