"""Sem-DPO: a pair counts the less, the further its chosen rewrite drifts from what was asked.

Made for policies that rewrite prompts for image generators; any pair with an anchor (a question,
a caption, a request) and a frozen encoder serves. Weights are computed once, offline.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import (
    at_least_float32,
    require_finite,
    require_one_per_pair,
    require_same_shape,
)
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["sem_dpo_loss", "semantic_distances", "semantic_weights"]


def sem_dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    weights: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """DPO in which each pair counts by how near its chosen rewrite stays to the prompt.

        loss = -weight * log sigmoid(chosen_reward - rejected_reward)

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected rewrite.
        ref_chosen_logps: [B], nats, from the frozen reference; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected rewrite.
        weights: [B], of `semantic_weights`; detached.
        beta: Inverse temperature, > 0.

    Returns:
        Loss per pair [B], its gradient the weight times DPO's; both rewards, not weighted. The
        trainer divides by B, not by the sum of weights.

    Raises:
        ShapeError: The five tensors are not [B] with the same B, or beta is not positive.

    Source: Sem-DPO (Mohamed et al., 2025).
    """
    require_one_per_pair(policy_chosen_logps=policy_chosen_logps, weights=weights)
    result = dpo_loss(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return result._replace(loss=weights.detach() * result.loss)


def semantic_weights(
    distances: Tensor, *, alpha: float, normalisation: Literal["none", "mean_one"] = "none"
) -> Tensor:
    """How much each pair counts: exp(-alpha * distance).

    Distances of text encoders lie close together: take an alpha at which they make a difference.
    Small weights cut the learning rate in silence; `mean_one` keeps its meaning.

    Args:
        distances: [B], of `semantic_distances`.
        alpha: >= 0; 0 is DPO. A reconstruction: searched among 0.5, 1, 2 and 5.
        normalisation: `none`, or `mean_one` to divide by the mean over all that are given, a
            reconstruction.

    Returns:
        [B], detached; in (0, 1] with `none`, of mean 1 with `mean_one`.

    Raises:
        ShapeError: Distances are not [B] or not finite, alpha is negative, or the normalisation
            is unknown.

    Source: Sem-DPO (Mohamed et al., 2025).
    """
    if not 0 <= alpha < math.inf:
        raise ShapeError(f"alpha is {alpha}, expected a finite number, at least 0")
    if normalisation not in ("none", "mean_one"):
        raise ShapeError(f"normalisation is {normalisation!r}, expected 'none' or 'mean_one'")
    require_one_per_pair(distances=distances)
    require_finite(distances=distances)
    weights = torch.exp(-alpha * at_least_float32(distances.detach()))
    return weights / weights.mean() if normalisation == "mean_one" else weights


def semantic_distances(prompt_embeddings: Tensor, chosen_embeddings: Tensor) -> Tensor:
    """1 - cosine of the meanings of prompt and chosen rewrite; the rejected one is not looked at.

    A text that the encoder cuts off looks nearer than it is. A copy of the prompt has distance 0
    and the full weight: that it is no improvement, only the preference says.

    Args:
        prompt_embeddings: [B, D], of any length, from one frozen text encoder.
        chosen_embeddings: [B, D], from the same encoder.

    Returns:
        [B], in [0, 2], detached, at least float32.

    Raises:
        ShapeError: The two are not [B, D] alike, or an embedding is zero or not finite.

    Source: Sem-DPO (Mohamed et al., 2025).
    """
    require_same_shape(prompt_embeddings=prompt_embeddings, chosen_embeddings=chosen_embeddings)
    if prompt_embeddings.ndim != 2:
        raise ShapeError(
            f"expected [B, D], found prompt_embeddings {list(prompt_embeddings.shape)}"
        )
    require_finite(prompt_embeddings=prompt_embeddings, chosen_embeddings=chosen_embeddings)
    directions = []
    for name, embeddings in (
        ("prompt_embeddings", prompt_embeddings),
        ("chosen_embeddings", chosen_embeddings),
    ):
        empty = (embeddings.norm(dim=-1) == 0).nonzero()
        if len(empty):
            raise ShapeError(f"{name}[{int(empty[0])}] is all zeros and has no direction")
        directions.append(F.normalize(at_least_float32(embeddings.detach()), dim=-1, eps=0.0))
    return (1 - (directions[0] * directions[1]).sum(-1)).clamp(min=0, max=2)
