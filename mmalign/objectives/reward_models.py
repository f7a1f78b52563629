"""Losses that train reward models: attributes, contexts, weights of objectives."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.kl import forward_kl
from mmalign.objectives.sums import masked_sum, require_same_shape

__all__ = [
    "ContextPairLoss",
    "PromptWeightLoss",
    "attribute_regression_loss",
    "context_pair_loss",
    "prompt_weight_loss",
]


class ContextPairLoss(NamedTuple):
    """Both rows of each record, in which opposite answers win."""

    loss: Tensor
    """[B, 2], under context a and under context b, to be minimised."""
    margins: Tensor
    """[B, 2], reward of the row's winner minus that of its loser, detached."""


class PromptWeightLoss(NamedTuple):
    """How far the weights that are read off each prompt are from their targets."""

    loss: Tensor
    """[B], nats, >= 0, to be minimised."""
    weights: Tensor
    """[B, K], the weights themselves, detached: a policy's reward never trains the adapter."""


def attribute_regression_loss(
    predictions: Tensor, targets: Tensor, mask: Tensor, labels_per_row: Tensor
) -> Tensor:
    """Squared error of several attributes, of which each row has some.

        loss = (sum over the row's labelled attributes of (prediction - target)^2)
               / labels_per_row

    Coupled over the batch: the mean of the rows is one mean over all labelled entries, not a
    mean of row means. A row without labels has the loss 0.

    Args:
        predictions: [B, K], one head for each attribute; carries gradient.
        targets: [B, K], on one scale (0 to 100 in the paper); what is not labelled may be NaN.
        mask: [B, K], not 0 where there is a label.
        labels_per_row: Scalar, labelled entries over rows, both of the global batch.

    Returns:
        Loss per row [B].

    Raises:
        ShapeError: The tensors differ in shape.

    Source: DPA (Wang et al., 2024), its reward model; the mask is a reconstruction.
    """
    require_same_shape(predictions=predictions, targets=targets, mask=mask)
    labelled = targets.detach().where(mask.bool(), 0.0)
    return masked_sum((predictions - labelled).square(), mask) / labels_per_row


def context_pair_loss(rewards: Tensor) -> ContextPairLoss:
    """Prefer answer 1 under context a and answer 2 under context b.

        margin_a = reward[a, 1] - reward[a, 2]
        margin_b = reward[b, 2] - reward[b, 1]
        loss     = -log sigmoid(margin) of each row

    A model that ignores the context has margins m and -m, and a mean loss of log 2 or more.

    Args:
        rewards: [B, 2, 2], of both answers (last) under both contexts (before it); carries
            gradient. Both rows of a record stand in one batch.

    Returns:
        Loss and margin of each row, [B, 2]; the trainer averages over all rows.

    Raises:
        ShapeError: rewards is not [B, 2, 2].

    Source: Pitis et al. (2024), Bradley-Terry given a context.
    """
    if rewards.ndim != 3 or rewards.shape[1:] != (2, 2):
        raise ShapeError(
            f"expected rewards [B, 2, 2], contexts by answers, found {list(rewards.shape)}"
        )
    gaps = rewards[..., 0] - rewards[..., 1]
    margins = gaps * gaps.new_tensor([1.0, -1.0])
    return ContextPairLoss(loss=-F.logsigmoid(margins), margins=margins.detach())


def prompt_weight_loss(adapter_logits: Tensor, target_weights: Tensor) -> PromptWeightLoss:
    """Teach an adapter to read the weights of K objectives off the prompt.

        weights = softmax(adapter_logits)
        loss    = KL(target_weights || weights)

    The direction of the KL is a reconstruction. Its gradient with respect to the logits is
    weights - target_weights.

    Args:
        adapter_logits: [B, K], of the adapter, from the prompt alone; carries gradient.
        target_weights: [B, K], a point of the simplex in each row, detached; 0 is allowed.

    Returns:
        Loss per prompt [B] and the weights [B, K].

    Raises:
        ShapeError: The two differ in shape.

    Source: Preference Orchestrator (Liu et al., 2025).
    """
    require_same_shape(adapter_logits=adapter_logits, target_weights=target_weights)
    return PromptWeightLoss(
        loss=forward_kl(adapter_logits, target_weights.detach().log()),
        weights=adapter_logits.detach().softmax(-1),
    )
