"""DAPO's soft punishment of completions that come near their longest allowed length."""

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.reward import Reward

__all__ = ["overlong_penalty"]


def overlong_penalty(
    num_tokens: int, *, max_tokens: int = 20480, cache_tokens: int = 4096, factor: float = 1.0
) -> Reward:
    """Charge a completion for the part of it that lies in the last stretch before the limit.

        penalty = min(0, -factor * (num_tokens - (max_tokens - cache_tokens)) / cache_tokens)

    To be added to the completion's reward. The other way is to mask cut completions altogether.

    Args:
        num_tokens: Length of the completion.
        max_tokens: The longest length allowed.
        cache_tokens: Length of the stretch, in (0, max_tokens].
        factor: The charge at the limit, > 0.

    Returns:
        0 up to the stretch, -factor at the limit, further down beyond it.

    Raises:
        RecordError: num_tokens is negative.
        ShapeError: A setting is out of range.

    Source: DAPO (Yu et al., 2025), eq. 13; the defaults are those of its run.
    """
    if not 0 < cache_tokens <= max_tokens:
        raise ShapeError(f"cache_tokens is {cache_tokens}, expected 1 to max_tokens, {max_tokens}")
    if not 0 < factor < float("inf"):
        raise ShapeError(f"factor is {factor}, expected a positive finite number")
    if num_tokens < 0:
        raise RecordError(f"num_tokens is {num_tokens}, expected the length of a completion")
    excess = num_tokens - (max_tokens - cache_tokens)
    return Reward(min(0.0, -factor * excess / cache_tokens))
