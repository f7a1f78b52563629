"""Log-probabilities by Liger's fused kernel, where it is installed and fits.

It fits where no gradient is wanted: the one product with the weight is then all there is to do,
and the kernel reads each logit once. With a gradient for every token it computes the logits twice,
where `mmalign.training.linear_head` computes them once behind a frozen head.
"""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Sequence

import torch
from packaging.version import Version
from torch import Tensor, nn

from mmalign.training.linear_head import is_one_linear_layer
from mmalign.training.vocabulary import Measure

__all__ = ["MIN_VERSION", "has_liger", "liger_fits", "liger_logps"]

MIN_VERSION = "0.8.2"
"""Oldest release that is used; TRL 1.16 asks for the same."""


def liger_fits(hidden: Tensor, head: nn.Module, measures: Sequence[Measure]) -> bool:
    """Whether `liger_logps` gives what is asked for, in a pass without gradient.

    That is: on a CUDA device, log-probabilities alone, a head of one linear layer, states of the
    head's dtype and none of float64, no autocast, and Liger installed.
    """
    return (
        hidden.is_cuda
        and not measures
        and is_one_linear_layer(head)
        and hidden.dtype == head.weight.dtype
        and hidden.dtype != torch.float64
        and not torch.is_autocast_enabled("cuda")
        and has_liger()
    )


@functools.cache
def has_liger() -> bool:
    """Whether a release of liger-kernel from `MIN_VERSION` on is installed."""
    if importlib.util.find_spec("liger_kernel") is None:
        return False
    return Version(importlib.metadata.version("liger-kernel")) >= Version(MIN_VERSION)


@torch.no_grad()
def liger_logps(hidden: Tensor, head: nn.Linear, ids: Tensor) -> Tensor:
    """[N] float32, nats, without gradient; call it where `liger_fits`.

    Args:
        hidden: [N, H], on a CUDA device.
        head: The head; in chunks of Liger's own choice.
        ids: [N] int64, the taken tokens.
    """
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="none")
    losses: Tensor = loss(head.weight, hidden, ids, head.bias)
    return -losses
