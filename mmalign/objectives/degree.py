"""Learning how strongly a response fits, beside a preference loss (SPO with preference degrees).

Everything but the sum of a preference loss and a degree loss is a reconstruction: the paper's
repository holds a licence only, and no published number can be checked against it.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import require_one_per_pair
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["DegreeLoss", "degree_loss", "spo_degree_loss"]


class DegreeLoss(NamedTuple):
    """How well the degrees of one side's graded copies are recognised."""

    loss: Tensor
    """[B], the mean over the copies; carries gradient into the features and the head."""
    correct: Tensor
    """[B, C], true where the head's first largest logit is that of the copy's degree."""


def degree_loss(
    features: Tensor, degrees: Tensor, head_weight: Tensor, head_bias: Tensor
) -> DegreeLoss:
    """Cross-entropy of telling how much of a response's key content was removed.

        logits = head_weight @ features + head_bias
        loss   = mean over the copies of -log softmax(logits)[degree]

    Args:
        features: [B, C, D], the policy's last hidden states averaged over the response tokens of
            each graded copy; carries gradient.
        degrees: [B, C], integers in 0 ... K, the label of each copy: all K + 1 of them, or those
            drawn for this step.
        head_weight: [K + 1, D], the degree head, one for both sides; carries gradient.
        head_bias: [K + 1].

    Returns:
        Loss per response [B], log(K + 1) under a head of zeros, and which copies are told right.

    Raises:
        ShapeError: The tensors are not of these shapes.

    Source: SPO, degrees (Li et al., 2024); the head, its features and labels are a
        reconstruction.
    """
    num_classes, width = head_weight.shape[0], head_weight.shape[-1]
    if (
        features.shape[:-1] != degrees.shape
        or degrees.ndim != 2
        or features.shape[-1] != width
        or head_bias.shape != (num_classes,)
    ):
        raise ShapeError(
            f"expected features [B, C, D], degrees [B, C], head_weight [K + 1, D] and head_bias "
            f"[K + 1], found features {list(features.shape)}, degrees {list(degrees.shape)}, "
            f"head_weight {list(head_weight.shape)}, head_bias {list(head_bias.shape)}"
        )
    logits = F.linear(features, head_weight, head_bias)
    labels = degrees.long()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return DegreeLoss(
        loss=losses.view_as(labels).mean(-1), correct=logits.detach().argmax(-1) == labels
    )


def spo_degree_loss(
    preference: PreferenceLoss, chosen: DegreeLoss, rejected: DegreeLoss, *, degree_weight: float
) -> PreferenceLoss:
    """Any pairwise loss plus the degree losses of both sides.

        loss = preference_loss + degree_weight * (chosen_degree_loss + rejected_degree_loss)

    Args:
        preference: Loss of the pairs [B], such as that of `dpo_loss`.
        chosen: `degree_loss` of the chosen responses.
        rejected: The same of the rejected responses, whose labels count removals as well.
        degree_weight: gamma, >= 0; 0 is the preference loss alone.

    Returns:
        Loss per pair [B], the rewards of `preference`, and its metrics with `preference_loss`,
        `degree_loss_chosen` and `degree_loss_rejected`.

    Raises:
        ShapeError: The three losses are not [B] with the same B, or degree_weight is negative.

    Source: SPO, degrees (Li et al., 2024).
    """
    if not degree_weight >= 0:
        raise ShapeError(f"degree_weight is {degree_weight}, expected a number >= 0")
    require_one_per_pair(
        preference_loss=preference.loss, chosen_loss=chosen.loss, rejected_loss=rejected.loss
    )
    return preference._replace(
        loss=preference.loss + degree_weight * (chosen.loss + rejected.loss),
        metrics={
            **preference.metrics,
            "preference_loss": preference.loss.detach(),
            "degree_loss_chosen": chosen.loss.detach(),
            "degree_loss_rejected": rejected.loss.detach(),
        },
    )
