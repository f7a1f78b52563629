"""Attention of prompts with branches behind them, without a dense mask.

A batch is laid out as [prompts, padded behind | branches one after the other, padded behind].
Prompt tokens attend causally to their prompt, branch tokens to the whole prompt and to what stands
before them in their own branch: two calls of SDPA, of which only the second, short one has a mask.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mmalign.errors import ConfigError

__all__ = ["NAME", "BranchLayout", "branch_layout", "register", "unused_mask"]

NAME = "mmalign_branch"
"""Of the attention function in transformers' registry; plain calls go to SDPA."""


@dataclass(frozen=True)
class BranchLayout:
    """Where the branches of a batch begin and what they may see."""

    num_prompt: int
    """Tokens of the longest prompt, P; branches begin there in every row."""
    mask: Tensor
    """[B, 1, S, P + S] bool, true where a branch token may attend."""


def branch_layout(
    prompt_sizes: list[int], branch_sizes: list[list[int]], *, device: torch.device
) -> BranchLayout:
    """The layout of a batch.

    Args:
        prompt_sizes: Tokens of each row's prompt.
        branch_sizes: Tokens of each row's branches.
        device: Where the mask goes.
    """
    num_prompt = max(prompt_sizes)
    num_behind = max(map(sum, branch_sizes))
    places = torch.arange(num_prompt, device=device)
    numbers = torch.stack(
        [
            nn.functional.pad(
                torch.repeat_interleave(
                    torch.arange(1, len(sizes) + 1, device=device),
                    torch.tensor(sizes, device=device),
                ),
                (0, num_behind - sum(sizes)),
            )
            for sizes in branch_sizes
        ]
    )  # [B, S], number of the branch, 0 on padding, which sees itself: no softmax is empty
    to_prompt = places < torch.tensor(prompt_sizes, device=device)[:, None]
    causal = torch.ones(num_behind, num_behind, dtype=torch.bool, device=device).tril()
    among = (numbers[:, :, None] == numbers[:, None, :]) & causal
    mask = torch.cat([to_prompt[:, None].expand(-1, num_behind, -1), among], dim=-1)
    return BranchLayout(num_prompt, mask[:, None])


def unused_mask(layout: BranchLayout) -> Tensor:
    """A 4D mask, which transformers hands on as it is instead of making one of [L, L]."""
    return layout.mask.new_ones(1, 1, 1, 1)


def register() -> None:
    """Make `NAME` known to transformers; may be called again."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    branches: BranchLayout | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[B, L, heads, D] of query [B, heads, L, D]; plain SDPA where there are no branches."""
    if branches is None:
        plain = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
        return plain[0], None
    if sliding_window is not None and query.shape[2] > sliding_window:
        raise ConfigError(
            f"the model attends to {sliding_window} tokens, the batch has {query.shape[2]}; set "
            f"trainer.layout: plain"
        )
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise ConfigError(
            f"{type(module).__name__} has attention sinks or biases, which the branch layout does "
            f"not know; set trainer.layout: plain"
        )
    size = branches.num_prompt
    of_prompt, _ = sdpa_attention_forward(
        module,
        query[:, :, :size],
        key[:, :, :size],
        value[:, :, :size],
        None,
        dropout=dropout,
        scaling=scaling,
        is_causal=True,
    )
    of_branches, _ = sdpa_attention_forward(
        module,
        query[:, :, size:],
        key,
        value,
        branches.mask,
        dropout=dropout,
        scaling=scaling,
        is_causal=False,
    )
    return torch.cat([of_prompt, of_branches], dim=1), None
