"""What PaMi-VDPO's rule reads: how like a clip its altered versions look, and what they change."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.kl import jensen_shannon
from mmalign.objectives.sums import at_least_float32, masked_mean

__all__ = ["clip_closeness", "response_divergence"]


def clip_closeness(features: Tensor, altered_features: Tensor) -> Tensor:
    """Cosine of a clip's features to those of its altered versions.

    Args:
        features: [B, D], of the clip, mean over frames and visual tokens; blind to their order,
            so a shuffled or reversed clip is as close as can be.
        altered_features: [B, K, D].

    Returns:
        [B, K], in [-1, 1], without gradient; 0 where a vector is zero.

    Raises:
        ShapeError: The two are not [B, D] and [B, K, D] with the same B and D.
    """
    if altered_features.ndim != 3 or features.shape != altered_features[:, 0].shape:
        raise ShapeError(
            f"expected features [B, D] and altered_features [B, K, D] with the same B and D, "
            f"found {list(features.shape)} and {list(altered_features.shape)}"
        )
    one = at_least_float32(features.detach()).unsqueeze(1)
    return F.cosine_similarity(one, at_least_float32(altered_features.detach()), dim=-1)


def response_divergence(logprobs: Tensor, altered_logprobs: Tensor, mask: Tensor) -> Tensor:
    """How far altered clips change what a model would have said in place of the response.

    Args:
        logprobs: [B, T, V], nats, of a scoring model given the clip and the response so far.
        altered_logprobs: [B, K, T, V], the same given each altered clip.
        mask: [B, T], 1 on tokens that count.

    Returns:
        [B, K], in [0, 1], the mean of `jensen_shannon` over tokens, without gradient; NaN for a
        response without a token.

    Raises:
        ShapeError: The tensors do not fit each other.

    Source: PaMi-VDPO (Ding et al., 2025); the mean over tokens is a reconstruction.
    """
    if altered_logprobs.ndim != 4:
        raise ShapeError(
            f"altered_logprobs is {list(altered_logprobs.shape)}, expected [B, K, T, V]"
        )
    given = logprobs.detach()
    return torch.stack(
        [
            masked_mean(jensen_shannon(given, altered), mask)
            for altered in altered_logprobs.detach().unbind(1)
        ],
        dim=1,
    )
