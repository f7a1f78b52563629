"""Losses on single responses that are labelled as desirable or not."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.configs import BetaConfig, NotNegative
from mmalign.objectives.sums import require_one_per_pair, require_positive

__all__ = [
    "KTOConfig",
    "UnpairedLoss",
    "balancing_undesirable_weight",
    "kto_loss",
    "kto_reference_point",
    "mismatched_rows",
]


class KTOConfig(BetaConfig):
    """Settings of kto."""

    desirable_weight: NotNegative = 1.0
    """lambda_D. Source: KTO, sec. 4.2."""
    undesirable_weight: NotNegative = 1.0
    """lambda_U; weighted responses of both kinds should be about as many. Source: KTO."""


class UnpairedLoss(NamedTuple):
    """What an objective says about each labelled response of a batch."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch."""
    rewards: Tensor
    """[B], detached."""


def kto_loss(
    policy_logps: Tensor,
    ref_logps: Tensor,
    labels: Tensor,
    reference_point: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> UnpairedLoss:
    """Raise the value of desirable responses above a reference point, lower that of the others.

        r    = policy_logps - ref_logps
        loss = desirable_weight   * (1 - sigmoid(beta * (r - z0)))    where desirable
        loss = undesirable_weight * (1 - sigmoid(beta * (z0 - r)))    elsewhere

    Args:
        policy_logps: [B], nats, summed over response tokens; carries gradient.
        ref_logps: [B], nats, from the frozen reference; carries no gradient.
        labels: [B], not 0 where the response is desirable.
        reference_point: z0, a scalar, nats, of `kto_reference_point`; carries no gradient. A
            constant 0 makes it the loss that TRL calls `apo_zero_unpaired`.
        beta: Inverse temperature, > 0.
        desirable_weight: lambda_D, >= 0.
        undesirable_weight: lambda_U, >= 0; as both weights stand inside the mean, the ratio of
            weighted to counted rows should lie between 1 and 4/3 for the scarcer side.

    Returns:
        Loss per response [B] and rewards beta * r [B].

    Raises:
        ShapeError: The tensors are not [B] with the same B, or beta is not positive.

    Source: KTO (Ethayarajh et al., 2024), eq. 8.
    """
    require_positive(beta=beta)
    require_one_per_pair(policy_logps=policy_logps, ref_logps=ref_logps, labels=labels)
    log_ratios = policy_logps - ref_logps
    above = beta * (log_ratios - reference_point.detach())
    desirable = labels.bool()
    # 1 - sigmoid(x) loses all digits for large x, sigmoid(-x) none
    loss = torch.where(
        desirable,
        desirable_weight * torch.sigmoid(-above),
        undesirable_weight * torch.sigmoid(above),
    )
    return UnpairedLoss(loss=loss, rewards=beta * log_ratios.detach())


def kto_reference_point(
    kl_policy_logps: Tensor, kl_ref_logps: Tensor, valid: Tensor | None = None
) -> Tensor:
    """KTO's z0: the mean log-ratio of mismatched responses, at least 0.

    Coupled over the batch: the mean is over all rows, of all processes where there are several.

    Args:
        kl_policy_logps: [B], nats, the policy's log-probability of another row's response.
        kl_ref_logps: [B], nats, the same under the reference.
        valid: [B], 0 where the mismatched response has no token; None counts all rows.

    Returns:
        A scalar, nats, not scaled by beta, detached.

    Raises:
        ShapeError: The tensors are not [B] with the same B.

    Source: KTO (Ethayarajh et al., 2024), sec. 4.1.
    """
    valid = torch.ones_like(kl_policy_logps) if valid is None else valid
    require_one_per_pair(kl_policy_logps=kl_policy_logps, kl_ref_logps=kl_ref_logps, valid=valid)
    log_ratios = (kl_policy_logps - kl_ref_logps).detach().where(valid.bool(), 0.0)
    return (log_ratios.sum() / valid.bool().sum().clamp(min=1)).clamp(min=0)


def mismatched_rows(num_rows: int, *, shift: int = 1) -> tuple[int, ...]:
    """Whose response each row of a batch takes for the reference point.

    A rotation, as a reversed batch would leave the middle row of an odd number its own response.

    Args:
        num_rows: B, rows of the batch that is rotated, at least 2.
        shift: 1 takes the response of the row before, the first row that of the last one, as
            TRL does; -1 that of the row behind, as HALOs does. Where both responses of a prompt
            stand side by side, 2 keeps them apart.

    Returns:
        The row whose response goes with the prompt of row 0, 1 and so on.

    Raises:
        ShapeError: The shift gives every row its own response back.

    Source: KTO (Ethayarajh et al., 2024), its code and TRL's.
    """
    if num_rows < 1 or shift % num_rows == 0:
        raise ShapeError(
            f"{num_rows} rows shifted by {shift}: no mismatched response can be formed; take "
            f"batches of 2 rows and more"
        )
    return tuple((row - shift) % num_rows for row in range(num_rows))


def balancing_undesirable_weight(labels: Sequence[bool]) -> float | None:
    """The `undesirable_weight` that gives both classes the same say, beside a weight of 1.

    Args:
        labels: One per response, True where it is desirable.

    Returns:
        Number of desirable over number of undesirable responses; None where none is undesirable.

    Source: SACPO's released code (Wachi et al., 2024); the low end of KTO's advice, which asks
        for a weighted ratio of desirable to undesirable rows between 1 and 4/3.
    """
    num_desirable = sum(labels)
    num_undesirable = len(labels) - num_desirable
    return num_desirable / num_undesirable if num_undesirable else None
