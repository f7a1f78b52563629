"""PPD: one diffusion model for many tastes, told by a few comparisons of each user.

The user's embedding enters by a second cross-attention beside the text's; its two maps alone are
trained, with `diffusion_dpo_loss`, the base model without the branch being the reference. Left
out: the vision-language model that reads the comparisons.
"""

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.sums import require_same_shape

__all__ = ["mix_users", "personal_shots", "text_attention", "user_attention"]

PairId = TypeVar("PairId", bound=Hashable)


def text_attention(query: Tensor, key: Tensor, value: Tensor, *, num_heads: int) -> Tensor:
    """Cross-attention of the base model, heads side by side, without output projection.

        softmax(Q K^T / sqrt(d / num_heads)) V    in each head

    Args:
        query: [B, N, d], of the latents.
        key: [B, L, d], of the text; head j owns the columns j * d / num_heads and following.
        value: [B, L, d].
        num_heads: Divides d.

    Returns:
        [B, N, d].

    Raises:
        ShapeError: The tensors do not fit together or the heads do not divide d.
    """
    require_same_shape(key=key, value=value)
    batch, num_queries, width = _three_axes("query", query)
    if _three_axes("key", key)[::2] != (batch, width):
        raise ShapeError(
            f"query [B, N, d] and key [B, L, d] do not fit: {list(query.shape)}, {list(key.shape)}"
        )
    if num_heads < 1 or width % num_heads:
        raise ShapeError(f"num_heads is {num_heads}, expected a divisor of the width {width}")
    query, key, value = (
        tensor.reshape(*tensor.shape[:2], num_heads, width // num_heads).transpose(1, 2)
        for tensor in (query, key, value)
    )
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).reshape(batch, num_queries, width)


def user_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    user: Tensor,
    user_key_map: Tensor,
    user_value_map: Tensor,
    *,
    num_heads: int,
    user_weight: float = 1.0,
    keep: Tensor | None = None,
) -> Tensor:
    """Cross-attention to the text plus one to the user, with a softmax of its own.

        K_u = u user_key_map,  V_u = u user_value_map
        Z   = attention(Q, K, V) + user_weight * attention(Q, K_u, V_u)

    The output projection that follows is the base model's. With a value map of zeros, the start
    that makes the first loss log 2 (a reconstruction), only that map receives gradient.

    Args:
        query: [B, N, d], shared by both parts.
        key: [B, L, d], of the text.
        value: [B, L, d].
        user: [B, U, d_u], the users' embeddings.
        user_key_map: [d_u, d], trained.
        user_value_map: [d_u, d], trained.
        num_heads: Divides d.
        user_weight: lambda, from IP-Adapter.
        keep: [B], 0 where the user is dropped: the embedding is zeroed, and the row is that of
            `text_attention`. None keeps all.

    Returns:
        [B, N, d].

    Raises:
        ShapeError: The tensors do not fit together.

    Source: PPD (Dang et al., 2025); the form of the branch from IP-Adapter.
    """
    batch, _, user_width = _three_axes("user", user)
    require_same_shape(user_key_map=user_key_map, user_value_map=user_value_map)
    if user_key_map.shape != (user_width, query.shape[-1]) or batch != len(query):
        raise ShapeError(
            f"expected user_key_map [d_u, d] for user [B, U, d_u] and query [B, N, d], found "
            f"user_key_map {list(user_key_map.shape)}, user {list(user.shape)}, query "
            f"{list(query.shape)}"
        )
    if keep is not None:
        if keep.shape != (batch,):
            raise ShapeError(f"expected keep [{batch}], found keep {list(keep.shape)}")
        user = user * keep.bool()[:, None, None]
    text = text_attention(query, key, value, num_heads=num_heads)
    branch = text_attention(query, user @ user_key_map, user @ user_value_map, num_heads=num_heads)
    return text + user_weight * branch


def personal_shots(
    pair_ids: Sequence[PairId], *, exclude: Collection[PairId], seed: int, num_shots: int = 4
) -> tuple[PairId, ...] | None:
    """Draw the comparisons that tell a user's taste, never the one that is trained on.

    The draw is `numpy.random.default_rng(seed).choice` without replacement, so that a seed always
    gives the same pairs in the same order; the order changes the embedding.

    Args:
        pair_ids: The user's usable pairs, without ties, in a fixed order.
        exclude: The pair trained on, and all others with its prompt.
        seed: Of this draw.
        num_shots: N. Source: PPD, 4.

    Returns:
        N ids in the order drawn; None where fewer are left, so that the user is skipped.

    Raises:
        RecordError: A pair occurs twice, or `num_shots` is below 1.

    Source: PPD (Dang et al., 2025); excluding by prompt is a reconstruction.
    """
    if num_shots < 1:
        raise RecordError(f"num_shots is {num_shots}, expected at least 1")
    if len(set(pair_ids)) < len(pair_ids):
        twice = next(pair for pair in pair_ids if pair_ids.count(pair) > 1)
        raise RecordError(f"pair {twice!r} occurs more than once among the user's pairs")
    pool = [pair for pair in pair_ids if pair not in exclude]
    if len(pool) < num_shots:
        return None
    drawn = np.random.default_rng(seed).choice(len(pool), num_shots, replace=False)
    return tuple(pool[place] for place in drawn)


def mix_users(embeddings: Tensor, weights: Tensor) -> Tensor:
    """The embedding of a mixed taste: the weighted mean of several users'. Waits for the device.

    Args:
        embeddings: [M, U, d_u], one for each user, from one encoder and layer.
        weights: [M], >= 0, not all 0; normalised to the sum 1.

    Returns:
        [U, d_u].

    Raises:
        ShapeError: Not one weight for each user, or a weight that is negative or not finite, or
            none above 0.

    Source: PPD (Dang et al., 2025), interpolation of users.
    """
    if _three_axes("embeddings", embeddings)[0] != len(weights) or weights.ndim != 1:
        raise ShapeError(
            f"expected one weight for each user, found embeddings {list(embeddings.shape)}, "
            f"weights {list(weights.shape)}"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool((weights > 0).any()):
        raise ShapeError(
            f"weights are {weights.tolist()}, expected finite numbers of at least 0, one above 0"
        )
    return (embeddings * (weights / weights.sum())[:, None, None]).sum(0)


def _three_axes(name: str, tensor: Tensor) -> tuple[int, int, int]:
    if tensor.ndim != 3:
        raise ShapeError(f"expected three axes, found {name} {list(tensor.shape)}")
    first, second, third = tensor.shape
    return first, second, third
