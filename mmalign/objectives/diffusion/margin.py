"""SmPO-Diffusion: a reward model's soft preference scales the margin of Diffusion-DPO.

Explicitly the smoothed preference optimisation of diffusion models; other methods share its
acronym. Its latents come from `invert_ddim` with ReNoise.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mmalign.errors import RecordError
from mmalign.objectives.diffusion.pairs import ErrorScale, diffusion_dpo_loss, error_metrics
from mmalign.objectives.sums import require_one_per_pair
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "PICKSCORE_RANGE",
    "ScoreRange",
    "SmoothedPreference",
    "require_scores_fit",
    "score_range",
    "smoothed_diffusion_dpo_loss",
    "smoothed_preference",
]


class ScoreRange(NamedTuple):
    """Smallest and largest score of a scorer over a data set."""

    minimum: float
    maximum: float


PICKSCORE_RANGE = ScoreRange(0.11543526500463486, 0.28201571106910706)
"""PickScore's raw cosines (no logit scale) over Pick-a-Pic v2. Source: SmPO's code."""


class SmoothedPreference(NamedTuple):
    """What two scores say about a pair of images."""

    chosen: int
    """Image with the higher score, 0 or 1; image 1 where the scores are equal."""
    probability: float
    """p, that the chosen image is preferred, >= 0.5; at most 0.731 for scores in their range."""
    alpha: float
    """gamma * p."""
    weight: float
    """Factor of the margin, 2 * alpha - gamma, >= 0; 0 where the scores are equal."""


def smoothed_preference(
    score_0: float,
    score_1: float,
    *,
    scores: ScoreRange = PICKSCORE_RANGE,
    gamma: float = 10.0,
) -> SmoothedPreference:
    """Name the chosen image of a pair by its scores, and how much the pair counts.

        r      = (score - minimum) / (maximum - minimum)
        p      = sigmoid(r_chosen - r_rejected)
        weight = gamma * (2 * p - 1) = gamma * tanh((r_chosen - r_rejected) / 2)

    The higher score decides, whatever the annotator said. Image 0 is chosen only where its score
    is strictly higher. Nothing is clamped.

    Args:
        score_0: Reward model's score of image 0 and the caption, as it was in `scores`.
        score_1: The same for image 1.
        scores: Of `score_range`, once for the data set.
        gamma: > 0; gamma and beta enter the loss as their product only. Source: SmPO, 10.

    Raises:
        RecordError: A score is not finite, the range is empty, or gamma is not positive.

    Source: SmPO-Diffusion (Lu et al., 2025); the range from its code.
    """
    if not (math.isfinite(score_0) and math.isfinite(score_1)):
        raise RecordError(f"the scores are {score_0} and {score_1}, expected two finite numbers")
    if not 0 < gamma < math.inf:
        raise RecordError(f"gamma is {gamma}, expected a positive finite number")
    if not scores.minimum < scores.maximum:
        raise RecordError(
            f"the scores run from {scores.minimum} to {scores.maximum}, expected a minimum below "
            f"the maximum"
        )
    chosen = 0 if score_0 > score_1 else 1
    gap = abs(score_0 - score_1) / (scores.maximum - scores.minimum)
    probability = 1 / (1 + math.exp(-gap))
    return SmoothedPreference(
        chosen=chosen,
        probability=probability,
        alpha=gamma * probability,
        weight=gamma * math.tanh(gap / 2),
    )


def score_range(scores: Sequence[float]) -> ScoreRange:
    """The range of a data set's scores, to be stored with the run.

    Args:
        scores: Of all images, both sides.

    Raises:
        RecordError: A score that is not finite, with its place, or none that differs.
    """
    for place, score in enumerate(scores):
        if not math.isfinite(score):
            raise RecordError(f"score {place} is {score}, expected a finite number")
    if not scores or min(scores) == max(scores):
        raise RecordError(f"{len(scores)} scores hold no two that differ: nothing to normalise by")
    return ScoreRange(min(scores), max(scores))


def require_scores_fit(scores: Sequence[float], expected: ScoreRange = PICKSCORE_RANGE) -> None:
    """Refuse scores of another scorer or data set than the range is of.

    Args:
        scores: Of all images of a data set.
        expected: The range that they will be normalised by.

    Raises:
        RecordError: They leave the range by more than 5 % of its width (a logit scale of 100
            does), or one is not finite.
    """
    found = score_range(scores)
    slack = 0.05 * (expected.maximum - expected.minimum)
    if found.minimum < expected.minimum - slack or found.maximum > expected.maximum + slack:
        raise RecordError(
            f"the scores run from {found.minimum} to {found.maximum}, expected {expected.minimum} "
            f"to {expected.maximum}: the range does not belong to this scorer and data set; take "
            f"score_range of these scores"
        )


def smoothed_diffusion_dpo_loss(
    policy_chosen_errors: Tensor,
    policy_rejected_errors: Tensor,
    ref_chosen_errors: Tensor,
    ref_rejected_errors: Tensor,
    weights: Tensor,
    *,
    beta: float,
    scale_convention: ErrorScale = "half",
) -> PreferenceLoss:
    """Diffusion-DPO whose margin shrinks for pairs that are nearly ties.

        loss = -log sigmoid(weight * (chosen_reward - rejected_reward))

    with the rewards of `diffusion_dpo_loss`. A pair of weight 0 adds log 2 and no gradient; a
    weight of 1 makes it that loss.

    Args:
        policy_chosen_errors: [B], `denoising_errors` against the chosen side's own noise; carries
            gradient.
        policy_rejected_errors: [B], the same for the rejected image.
        ref_chosen_errors: [B], of the frozen reference; detached.
        ref_rejected_errors: [B], the same for the rejected image.
        weights: [B], of `smoothed_preference`, one for each pair; detached.
        beta: Inverse temperature, > 0. Source: SmPO, 2000 for SD1.5 and 5000 for SDXL.
        scale_convention: See `diffusion_dpo_loss`.

    Returns:
        Loss per pair [B]; both rewards, weighted; the `error_metrics`, not weighted.

    Raises:
        ShapeError: The five tensors are not [B] with the same B, or beta is not positive.

    Source: SmPO-Diffusion (Lu et al., 2025).
    """
    errors = (policy_chosen_errors, policy_rejected_errors, ref_chosen_errors, ref_rejected_errors)
    require_one_per_pair(
        policy_chosen_errors=policy_chosen_errors,
        policy_rejected_errors=policy_rejected_errors,
        ref_chosen_errors=ref_chosen_errors,
        ref_rejected_errors=ref_rejected_errors,
        weights=weights,
    )
    result = diffusion_dpo_loss(
        *(weights.detach() * values for values in errors),
        beta=beta,
        scale_convention=scale_convention,
    )
    return result._replace(metrics=error_metrics(*errors))
