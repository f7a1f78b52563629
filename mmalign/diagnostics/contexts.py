"""Preferences that depend on a context: marginals over contexts, and where an error comes from."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import require_finite, require_same_shape

__all__ = [
    "ContextAccuracy",
    "ContextErrors",
    "MarginalPreferences",
    "context_accuracy",
    "context_errors",
    "marginal_preferences",
]


class ContextAccuracy(NamedTuple):
    """Shares in [0, 1]; a model blind to the context has 1/2 and 0."""

    rows: float
    """Of rows whose winner has the larger reward; an equal one counts 1/2."""
    records: float
    """Of records of which both rows are right."""


class MarginalPreferences(NamedTuple):
    """Probability that answer 1 is preferred, [Q] each, by three rules."""

    vote: Tensor
    """Mean over contexts of the probability given each: how many contexts prefer it."""
    utility: Tensor
    """Probability from the mean margin: how strongly they do. It may disagree with the vote."""
    top_context: Tensor
    """Probability given the likeliest context, the first of equal ones."""


class ContextErrors(NamedTuple):
    """What the vote's error is made of, [Q] each: error <= context + judge."""

    error: Tensor
    """|true vote - estimated vote|."""
    context: Tensor
    """Total variation between true and estimated contexts."""
    judge: Tensor
    """Mean error of the judgement given a context, over the true contexts."""


def context_accuracy(margins: Tensor) -> ContextAccuracy:
    """How often a reward model follows the context.

    Args:
        margins: [B, 2], both margins of each record, of `context_pair_loss`.

    Raises:
        ShapeError: margins is not [B, 2], or not finite.

    Source: Pitis et al. (2024).
    """
    if margins.ndim != 2 or margins.shape[1] != 2:
        raise ShapeError(f"expected margins [B, 2], found {list(margins.shape)}")
    require_finite(margins=margins)
    rows = (margins > 0).double() + 0.5 * (margins == 0).double()
    return ContextAccuracy(rows.mean().item(), (margins > 0).all(-1).double().mean().item())


def marginal_preferences(context_probs: Tensor, margins: Tensor) -> MarginalPreferences:
    """What is preferred when the context is uncertain.

        vote        = sum over z of P(z) * sigmoid(margin_z)
        utility     = sigmoid(sum over z of P(z) * margin_z)
        top_context = sigmoid(margin at the likeliest z)

    Args:
        context_probs: [Q, Z], P(z | x), rows with the sum 1.
        margins: [Q, Z], reward of answer 1 minus that of answer 2 given each context.

    Raises:
        ShapeError: The two differ in shape, are not finite, or a row of probabilities does not
            sum to 1.

    Source: Pitis et al. (2024); the form is a reconstruction.
    """
    _require_contexts(context_probs, margins)
    likeliest = context_probs.argmax(-1, keepdim=True)
    return MarginalPreferences(
        vote=(context_probs * margins.sigmoid()).sum(-1),
        utility=(context_probs * margins).sum(-1).sigmoid(),
        top_context=margins.gather(-1, likeliest).squeeze(-1).sigmoid(),
    )


def context_errors(
    context_probs: Tensor,
    margins: Tensor,
    true_context_probs: Tensor,
    true_margins: Tensor,
) -> ContextErrors:
    """Splits the error of a vote into that of the contexts and that of the judge.

        context = 1/2 * sum over z of |P(z) - P_true(z)|
        judge   = sum over z of P_true(z) * |sigmoid(true_margin_z) - sigmoid(margin_z)|

    Args:
        context_probs: [Q, Z], estimated, rows with the sum 1.
        margins: [Q, Z], estimated.
        true_context_probs: [Q, Z].
        true_margins: [Q, Z].

    Raises:
        ShapeError: As `marginal_preferences`, for both sides.

    Source: Pitis et al. (2024); the form is a reconstruction, proven for the vote.
    """
    require_same_shape(margins=margins, true_margins=true_margins)
    vote = marginal_preferences(context_probs, margins).vote
    true_vote = marginal_preferences(true_context_probs, true_margins).vote
    judge_gaps = (true_margins.sigmoid() - margins.sigmoid()).abs()
    return ContextErrors(
        error=(true_vote - vote).abs(),
        context=(context_probs - true_context_probs).abs().sum(-1) / 2,
        judge=(true_context_probs * judge_gaps).sum(-1),
    )


def _require_contexts(context_probs: Tensor, margins: Tensor) -> None:
    require_same_shape(context_probs=context_probs, margins=margins)
    if context_probs.ndim != 2:
        raise ShapeError(f"expected context_probs [Q, Z], found {list(context_probs.shape)}")
    require_finite(context_probs=context_probs, margins=margins)
    wrong = ((context_probs.sum(-1) - 1).abs() > 1e-6) | (context_probs < 0).any(-1)
    if bool(wrong.any()):
        row = int(torch.nonzero(wrong)[0, 0])
        raise ShapeError(
            f"context_probs[{row}] is {context_probs[row].tolist()}, expected probabilities with "
            f"the sum 1"
        )
