"""Attention of prompts with branches behind them, without a dense mask.

A batch is laid out as [prompts, padded behind | branches one after the other, padded behind].
Prompt tokens attend causally to their prompt, branch tokens to the whole prompt and to what stands
before them in their own branch: two calls of SDPA, of which only the second, short one has a mask.
"""

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mmalign.errors import ConfigError

__all__ = [
    "NAME",
    "AfterPrompt",
    "BranchLayout",
    "KeysOnly",
    "branch_layout",
    "register",
    "trim_last_layer",
    "unused_mask",
]

NAME = "mmalign_branch"
"""Of the attention function in transformers' registry; plain calls go to SDPA."""


@dataclass(frozen=True)
class BranchLayout:
    """Where the branches of a batch begin and what they may see."""

    last: Tensor
    """[B], place of each prompt's last token."""
    num_prompt: int
    """Tokens of the longest prompt, P; branches begin there in every row."""
    mask: Tensor
    """[B, 1, 1 + S, P + S] bool, true where the prompt's last token (first row) or a branch token
    may attend."""


@dataclass
class KeysOnly:
    """Takes the keys and values of some tokens instead of attending; given in place of a layout."""

    key: Tensor | None = None
    """[B, heads, P, D], rotated."""
    value: Tensor | None = None


@dataclass(frozen=True)
class AfterPrompt:
    """The queries are the prompt's last token and the branches; the prompt's keys are known."""

    layout: BranchLayout
    key: Tensor
    """[B, heads, P, D], rotated."""
    value: Tensor


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
    sizes = torch.tensor(prompt_sizes, device=device)
    numbers = torch.stack(
        [
            nn.functional.pad(
                torch.repeat_interleave(
                    torch.arange(1, len(row) + 1, device=device), torch.tensor(row, device=device)
                ),
                (1, num_behind - sum(row)),
                value=-1,
            )
            for row in branch_sizes
        ]
    )  # [B, 1 + S], number of the branch; -1 on padding, which sees itself: no softmax is empty
    numbers[:, 0] = 0
    causal = torch.ones(1 + num_behind, 1 + num_behind, dtype=torch.bool, device=device).tril()
    among = (numbers[:, :, None] == numbers[:, None, :]) & causal
    to_prompt = torch.arange(num_prompt, device=device) < sizes[:, None]
    mask = torch.cat([to_prompt[:, None].expand(-1, 1 + num_behind, -1), among[:, :, 1:]], dim=-1)
    return BranchLayout(sizes - 1, num_prompt, mask[:, None])


def unused_mask(layout: BranchLayout) -> Tensor:
    """A 4D mask, which transformers hands on as it is instead of making one of [L, L]."""
    return layout.mask.new_ones(1, 1, 1, 1)


def register() -> None:
    """Make `NAME` known to transformers; may be called again."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def trim_last_layer(decoder: nn.Module) -> bool:
    """Have the last layer compute keys and values alone for all but the last token of a prompt.

    Nothing behind that layer reads the other states of the prompt. In branches its output is
    [B, 1 + S, H], the prompt's last token first; plain calls are as before.

    Returns:
        Whether the decoder is one whose last layer can be cut so.
    """
    layer: Any = decoder.layers[-1]  # type: ignore[index]  # a transformers decoder
    if not hasattr(layer, "input_layernorm") or not hasattr(layer, "self_attn"):
        return False
    layer.forward = MethodType(_last_layer, layer)  # a copy of the model binds its own layer
    return True


def _last_layer(
    layer: Any,  # transformers' decoder layers share no typed base
    hidden_states: Tensor,
    *args: Any,
    branches: BranchLayout | None = None,
    **kwargs: Any,
) -> Any:
    forward = type(layer).forward
    if branches is None:
        return forward(layer, hidden_states, *args, **kwargs)
    size, last = branches.num_prompt, branches.last[:, None, None]
    cos, sin = kwargs.pop("position_embeddings")
    kwargs.pop("position_ids", None)  # the rotation is in the embeddings
    prompt = KeysOnly()
    layer.self_attn(
        hidden_states=layer.input_layernorm(hidden_states[:, :size]),
        position_embeddings=(cos[..., :size, :], sin[..., :size, :]),
        attention_mask=kwargs.get("attention_mask"),
        branches=prompt,
    )
    assert prompt.key is not None
    assert prompt.value is not None

    def kept(values: Tensor) -> Tensor:
        """The rows' last prompt tokens and branches of [..., B or 1, P + S, D]."""
        first = torch.take_along_dim(values, last, dim=-2)
        behind = values[..., size:, :]
        return torch.cat([first, behind.expand(*first.shape[:-2], -1, -1)], dim=-2)

    return forward(
        layer,
        kept(hidden_states),
        *args,
        position_embeddings=(kept(cos), kept(sin)),
        branches=AfterPrompt(branches, prompt.key, prompt.value),
        **kwargs,
    )


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    branches: BranchLayout | KeysOnly | AfterPrompt | None = None,
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
    _require_plain_attention(module, query.shape[2], sliding_window, kwargs)
    if isinstance(branches, KeysOnly):
        branches.key, branches.value = key, value
        return query.transpose(1, 2), None
    if isinstance(branches, AfterPrompt):
        key = torch.cat([branches.key, key[:, :, 1:]], dim=2)
        value = torch.cat([branches.value, value[:, :, 1:]], dim=2)
        behind, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            branches.layout.mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=False,
        )
        return behind, None
    size = branches.num_prompt
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # once, so that both calls keep the same storage for the backward pass
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    of_prompt = nn.functional.scaled_dot_product_attention(
        query[:, :, :size],
        key[:, :, :size],
        value[:, :, :size],
        dropout_p=dropout,
        scale=scaling,
        is_causal=True,
    )
    of_branches = nn.functional.scaled_dot_product_attention(
        query[:, :, size:],
        key,
        value,
        attn_mask=branches.mask[:, :, 1:],
        dropout_p=dropout,
        scale=scaling,
    )
    return torch.cat([of_prompt, of_branches], dim=2).transpose(1, 2), None


def _require_plain_attention(
    module: nn.Module, length: int, sliding_window: int | None, kwargs: dict[str, Any]
) -> None:
    if sliding_window is not None and length > sliding_window:
        raise ConfigError(
            f"the model attends to {sliding_window} tokens, the batch has {length}; set "
            f"trainer.layout: plain"
        )
    for name in ("s_aux", "position_bias", "softcap"):
        if kwargs.get(name) is not None:
            raise ConfigError(
                f"{type(module).__name__} attends with {name}, which the branch layout does not "
                f"know; set trainer.layout: plain"
            )
