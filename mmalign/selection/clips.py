"""PaMi-VDPO's rule: which altered clip contradicts a response, close to the clip, far in effect.

Beyond what is published, this is a reconstruction.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.kl import jensen_shannon
from mmalign.objectives.sums import at_least_float32, masked_mean
from mmalign.selection.candidates import require_numbers, require_one_length

__all__ = ["ClipChoice", "choose_clip", "clip_closeness", "response_divergence"]


class ClipChoice(NamedTuple):
    """Which altered clip is rejected, and how much the pair counts."""

    selected: int
    weight: float
    """In [0, 1], near 0 where the response fits the altered clip as well."""
    kept: tuple[bool, ...]
    """Which candidates were close enough to be chosen from."""
    fallback: bool
    """Whether none was, so that the closest one stands in."""


def choose_clip(
    closeness: Sequence[float],
    divergence: Sequence[float],
    *,
    tau_close: float = 0.5,
    tau_far: float = 0.1,
    gamma: float = 1.0,
    prefer: Literal["far", "close"] = "far",
) -> ClipChoice:
    """Among altered clips close to the clip, take the one that changes the predictions most.

        weight = min(1, divergence / tau_far) ^ gamma

    Args:
        closeness: Of each candidate to the clip, `clip_closeness`, in [-1, 1].
        divergence: What each does to the predictions of the response's tokens,
            `response_divergence`, in [0, 1].
        tau_close: Smallest closeness to be chosen from; -1 turns this off.
        tau_far: Divergence from which on a pair counts in full, > 0.
        gamma: Sharpness of the weight, >= 0; 0 weighs all pairs alike, even of divergence 0.
        prefer: `far` takes the largest divergence; `close` the largest closeness among those
            whose divergence is tau_far / 2 at least, for the beginning of a schedule.

    Returns:
        The preferred one among the close ones, the first on ties. Where none is close, the
        closest stands in, again the first on ties; where `close` finds none far enough, `far`
        decides.

    Raises:
        ShapeError: The two differ in length or are empty, hold NaN, or a setting is out of range.

    Source: PaMi-VDPO (Ding et al., 2025); thresholds and weight are a reconstruction.
    """
    require_one_length(closeness=closeness, divergence=divergence)
    require_numbers(closeness=closeness, divergence=divergence)
    if not closeness:
        raise ShapeError("closeness is empty, expected at least one altered clip; drop the sample")
    if not (0 < tau_far < math.inf and 0 <= gamma < math.inf):
        raise ShapeError(
            f"tau_far is {tau_far} and gamma is {gamma}, expected tau_far > 0 and gamma >= 0"
        )
    kept = [value >= tau_close for value in closeness]
    fallback = not any(kept)
    if fallback:
        kept[max(range(len(kept)), key=lambda k: closeness[k])] = True
    close = [k for k, is_kept in enumerate(kept) if is_kept]
    selected = max(close, key=lambda k: divergence[k])  # max keeps the first of equals
    if prefer == "close" and (told := [k for k in close if divergence[k] >= tau_far / 2]):
        selected = max(told, key=lambda k: closeness[k])
    weight = min(1.0, divergence[selected] / tau_far) ** gamma
    return ClipChoice(selected, weight, tuple(kept), fallback)


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
