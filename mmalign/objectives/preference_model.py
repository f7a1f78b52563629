"""A preference model that embeds each response once and can hold preferences that go in circles."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import require_positive, require_same_shape

__all__ = [
    "PreferenceModelLoss",
    "preference_logits",
    "preference_model_loss",
    "preference_scores",
    "prompt_block_scales",
]


class PreferenceModelLoss(NamedTuple):
    """What the preference model says about each labelled pair."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch."""
    scores: Tensor
    """[B], of chosen over rejected, not divided by tau, detached."""
    probs: Tensor
    """[B], in (0, 1), that the chosen response is preferred, free of the margin, detached."""


def preference_model_loss(
    chosen_embeddings: Tensor,
    rejected_embeddings: Tensor,
    block_scales: Tensor | None = None,
    *,
    tau: float,
    margin: float = 0.0,
) -> PreferenceModelLoss:
    """Fit the embeddings to labelled pairs.

        loss = -log sigmoid((score of chosen over rejected - margin) / tau)

    Args:
        chosen_embeddings: [B, 2k], as the value head gives them, brought to length 1 by the
            caller if the model is trained so; carries gradient.
        rejected_embeddings: [B, 2k], the same for the rejected response.
        block_scales: [B, k], weights of the k blocks for each prompt, of `prompt_block_scales`;
            None weighs all by 1.
        tau: Temperature, > 0; 0.1 in the paper for embeddings of length 1.
        margin: Score that the chosen response must be ahead by; 0 in the paper.

    Returns:
        Loss per pair [B], log 2 at equal embeddings without margin; scores and probabilities.

    Raises:
        ShapeError: The shapes do not fit, 2k is odd, or tau is not positive.

    Source: GPM (Zhang et al., 2024).
    """
    require_positive(tau=tau)
    scores = preference_scores(chosen_embeddings, rejected_embeddings, block_scales)
    return PreferenceModelLoss(
        loss=-F.logsigmoid((scores - margin) / tau),
        scores=scores.detach(),
        probs=torch.sigmoid(scores.detach() / tau),
    )


def preference_scores(first: Tensor, second: Tensor, block_scales: Tensor | None = None) -> Tensor:
    """By how much each first response is preferred to the second one.

        score = sum over l of scale[l] * (first[2l] * second[2l + 1] - first[2l + 1] * second[2l])

    With two responses in each other's place it changes its sign.

    Args:
        first: [..., 2k], embeddings; carries gradient.
        second: [..., 2k], embeddings; carries gradient.
        block_scales: [..., k], not negative; None weighs all blocks by 1.

    Returns:
        [...], not divided by tau; 0 between equal embeddings.

    Raises:
        ShapeError: The shapes do not fit, or 2k is odd.

    Source: GPM (Zhang et al., 2024).
    """
    require_same_shape(first=first, second=second)
    _require_blocks(first, block_scales, first.shape[:-1])
    return _skew_form(first, second, block_scales)


def preference_logits(
    embeddings: Tensor, block_scales: Tensor | None = None, *, tau: float
) -> Tensor:
    """Scores over tau of all pairs of one prompt's responses: the logits of their win rates.

    Args:
        embeddings: [B, K, 2k], of K responses to each of B prompts.
        block_scales: [B, k], one row for all responses of a prompt; None weighs all by 1.
        tau: Temperature that the model was trained with, > 0; 1 for a Bradley-Terry model.

    Returns:
        [B, K, K], entry i, j for i over j, so skew-symmetric with 0 on the diagonal; its sigmoid
        is the probability that i is preferred. (The released code applies the sigmoid to twice
        this number, which is not what the model is trained for.)

    Raises:
        ShapeError: The shapes do not fit, 2k is odd, or tau is not positive.

    Source: GPM (Zhang et al., 2024).
    """
    require_positive(tau=tau)
    if embeddings.ndim != 3:
        raise ShapeError(f"embeddings is {list(embeddings.shape)}, expected [B, K, 2k]")
    _require_blocks(embeddings, block_scales, embeddings.shape[:1])
    scales = None if block_scales is None else block_scales[:, None, None]
    return _skew_form(embeddings.unsqueeze(2), embeddings.unsqueeze(1), scales) / tau


def prompt_block_scales(head_logits: Tensor) -> Tensor:
    """Weights of the blocks from the prompt head, with mean 1 over the blocks.

    Args:
        head_logits: [..., k], read at the end of the prompt; carries gradient.

    Returns:
        [..., k], k times the softmax. A reconstruction: the released training code scales it
        by names that it does not define, the released inference code not at all.

    Source: GPM (Zhang et al., 2024).
    """
    return head_logits.shape[-1] * head_logits.softmax(-1)


def _skew_form(first: Tensor, second: Tensor, block_scales: Tensor | None) -> Tensor:
    blocks = first[..., 0::2] * second[..., 1::2] - first[..., 1::2] * second[..., 0::2]
    return (blocks if block_scales is None else block_scales * blocks).sum(-1)


def _require_blocks(embeddings: Tensor, block_scales: Tensor | None, rows: torch.Size) -> None:
    size = embeddings.shape[-1]
    if size == 0 or size % 2:
        raise ShapeError(
            f"embeddings have {size} numbers, expected an even number: two for each block"
        )
    expected = [*rows, size // 2]
    if block_scales is not None and list(block_scales.shape) != expected:
        raise ShapeError(f"block_scales is {list(block_scales.shape)}, expected {expected}")
