"""PaMi-VDPO's rule: which altered clip contradicts a response, close to the clip, far in effect.

Beyond what is published, this is a reconstruction.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mmalign.errors import ShapeError
from mmalign.selection.candidates import require_numbers, require_one_length

__all__ = ["ClipChoice", "choose_clip"]


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
