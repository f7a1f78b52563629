"""Diffusion-DPO: the DPO loss on denoising errors, and which image of a pair is the chosen one.

Its relatives keep the loss and change what goes in: captions of one's own for each image (DCPO),
inverted instead of random noise (InPO), a user branch in the policy (PPD). With the chosen and
the rejected side exchanged it trains the negative network of Diffusion-NPO.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.pairwise import dpo_loss, hinge_loss, ipo_loss
from mmalign.objectives.sums import at_least_float32, require_one_per_pair, require_same_shape
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "ErrorScale",
    "ImageOrder",
    "OrderedPairs",
    "denoising_errors",
    "diffusion_dpo_loss",
    "error_metrics",
    "implicit_accuracy",
    "order_by_label",
]

ErrorScale = Literal["half", "plain"]
"""Log-probability of one unit of denoising error: -1/2 in the official code, -1 in diffusers'."""

_SCALES: dict[ErrorScale, float] = {"half": 0.5, "plain": 1.0}
_RANKINGS = {"sigmoid": dpo_loss, "hinge": hinge_loss, "ipo": ipo_loss}


def denoising_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the network's answer for each latent.

    Args:
        predictions: [B, ...], in the meaning of the targets; carries gradient.
        targets: [B, ...], `denoising_target` of this side, or the noise found by inversion;
            detached.

    Returns:
        [B], the mean over all other axes, not the sum: beta is made for the mean. At least
        float32, and converted before the difference is taken, of which beta magnifies each digit.

    Raises:
        ShapeError: The two differ in shape or have no axis beside B.
    """
    require_same_shape(predictions=predictions, targets=targets)
    if predictions.ndim < 2:
        raise ShapeError(f"expected latents [B, ...], found predictions {list(predictions.shape)}")
    gaps = at_least_float32(predictions) - at_least_float32(targets.detach())
    return gaps.square().flatten(1).mean(-1)


def diffusion_dpo_loss(
    policy_chosen_errors: Tensor,
    policy_rejected_errors: Tensor,
    ref_chosen_errors: Tensor,
    ref_rejected_errors: Tensor,
    *,
    beta: float,
    scale_convention: ErrorScale = "half",
    ranking: Literal["sigmoid", "hinge", "ipo"] = "sigmoid",
) -> PreferenceLoss:
    """Denoise the chosen image better than the reference does, compared with the rejected one.

        k      = 0.5 (half) or 1 (plain)
        reward = -k * beta * (policy_errors - ref_errors)
        loss   = -log sigmoid(chosen_reward - rejected_reward)

    This is `dpo_loss` with -k * error in place of a log-probability. The weight T * omega of the
    timestep, constant in the paper, is part of beta. Both sides of a pair share the timestep
    and, where noise is drawn, the noise; policy and reference see the same latents.

    Args:
        policy_chosen_errors: [B], `denoising_errors` of the policy; carries gradient.
        policy_rejected_errors: [B], the same for the rejected image.
        ref_chosen_errors: [B], of the frozen reference; detached.
        ref_rejected_errors: [B], the same for the rejected image.
        beta: Inverse temperature, > 0; 2000 to 5000 with `half`, 2500 with `plain`.
        scale_convention: k. A beta taken from the other convention is off by a factor of 2.
        ranking: `sigmoid` as in the paper; `hinge` and `ipo` on the same rewards, as the
            diffusers script offers them beside `plain`.

    Returns:
        Loss per pair [B], log 2 where policy equals reference, though the gradient is not zero
        there; both rewards; the `error_metrics`, whose parting is the first sign of a run that
        goes wrong.

    Raises:
        ShapeError: The four tensors are not [B] with the same B, beta is not positive, or an
            option is unknown.

    Source: Diffusion-DPO (Wallace et al., 2024); k from the released code.
    """
    if scale_convention not in _SCALES:
        raise ShapeError(f"scale_convention is {scale_convention!r}, expected 'half' or 'plain'")
    if ranking not in _RANKINGS:
        raise ShapeError(f"ranking is {ranking!r}, expected one of {', '.join(_RANKINGS)}")
    require_one_per_pair(
        policy_chosen_errors=policy_chosen_errors,
        policy_rejected_errors=policy_rejected_errors,
        ref_chosen_errors=ref_chosen_errors,
        ref_rejected_errors=ref_rejected_errors,
    )
    k = _SCALES[scale_convention]
    result = _RANKINGS[ranking](
        -k * policy_chosen_errors,
        -k * policy_rejected_errors,
        -k * ref_chosen_errors.detach(),
        -k * ref_rejected_errors.detach(),
        beta=beta,
    )
    return result._replace(
        metrics=error_metrics(
            policy_chosen_errors, policy_rejected_errors, ref_chosen_errors, ref_rejected_errors
        )
    )


def error_metrics(
    policy_chosen_errors: Tensor,
    policy_rejected_errors: Tensor,
    ref_chosen_errors: Tensor,
    ref_rejected_errors: Tensor,
) -> dict[str, Tensor]:
    """`policy_error` and `ref_error`, [B] each, the mean over both sides, detached."""
    return {
        "policy_error": (policy_chosen_errors + policy_rejected_errors).detach() / 2,
        "ref_error": (ref_chosen_errors + ref_rejected_errors).detach() / 2,
    }


def implicit_accuracy(
    chosen_rewards: Tensor, rejected_rewards: Tensor, *, ties: Literal["wrong", "half"] = "wrong"
) -> Tensor:
    """Share of the pairs whose chosen side earns the larger reward.

    Args:
        chosen_rewards: [B].
        rejected_rewards: [B].
        ties: Equal rewards count 0 (`wrong`, the official code) or 1/2 (`half`, diffusers').

    Returns:
        A scalar in [0, 1], the mean over B, detached.

    Raises:
        ShapeError: The two are not [B] with the same B.

    Source: Diffusion-DPO (Wallace et al., 2024); ties from the released codes.
    """
    require_one_per_pair(chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards)
    margins = at_least_float32((chosen_rewards - rejected_rewards).detach())
    at_zero = torch.full_like(margins, 0.5 if ties == "half" else 0.0)
    return torch.heaviside(margins, at_zero).mean()


class ImageOrder(NamedTuple):
    """Which image of a row is which side."""

    row: int
    """Place in the list of labels."""
    chosen: int
    """0 or 1: image of the row."""
    rejected: int


class OrderedPairs(NamedTuple):
    """The rows that have a preference, in their order."""

    pairs: tuple[ImageOrder, ...]
    num_ties: int
    """Rows that were left out, to be reported."""


def order_by_label(labels: Sequence[float]) -> OrderedPairs:
    """Drop the ties and put the preferred image of every other row first.

    Captions that belong to the images are exchanged with them.

    Args:
        labels: For each row 1 where image 0 is preferred, 0 where image 1 is, 0.5 for a tie.

    Returns:
        The rows with a label of exactly 0 or 1, and how many were ties.

    Raises:
        RecordError: Another label, NaN included, or nothing but ties.

    Source: Diffusion-DPO (Wallace et al., 2024), the released code's handling of Pick-a-Pic.
    """
    for row, label in enumerate(labels):
        if label not in (0, 0.5, 1):
            raise RecordError(
                f"row {row}: label_0 is {label}, expected 1 (image 0 is preferred), 0 (image 1 "
                f"is) or 0.5 (a tie)"
            )
    pairs = tuple(
        ImageOrder(row, chosen=0 if label == 1 else 1, rejected=1 if label == 1 else 0)
        for row, label in enumerate(labels)
        if label != 0.5
    )
    if labels and not pairs:
        raise RecordError(f"all {len(labels)} rows are ties; there is nothing to learn from them")
    return OrderedPairs(pairs, num_ties=len(labels) - len(pairs))
