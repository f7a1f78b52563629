"""One forward pass over prompts with branches: the prompt once, every answer behind it."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmalign.errors import ConfigError, ShapeError
from mmalign.models.families import EncodedCompletion, EncodedPrompt, ModelFamily, place_media
from mmalign.models.families.vision import MEDIA_ORDER
from mmalign.training.branch_attention import (
    NAME,
    branch_layout,
    register,
    trim_last_layer,
    unused_mask,
)

__all__ = ["Layout", "Row", "base_model", "call_through", "completion_hidden", "completion_ids"]

Layout = Literal["branch", "plain"]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Row:
    """A prompt and the responses that answer it."""

    prompt: EncodedPrompt
    branches: tuple[EncodedCompletion, ...]

    def to(self, device: torch.device | str, **_: object) -> Self:
        """The same row with its tensors on a device."""
        prompt = replace(
            self.prompt,
            input_ids=self.prompt.input_ids.to(device),
            token_types=self.prompt.token_types.to(device),
            media={name: value.to(device) for name, value in self.prompt.media.items()},
        )
        branches = tuple(
            replace(b, input_ids=b.input_ids.to(device), mask=b.mask.to(device))
            for b in self.branches
        )
        return replace(self, prompt=prompt, branches=branches)


def base_model(model: nn.Module) -> PreTrainedModel:
    """transformers' own model inside wrappers of PEFT; its layers carry the adapters."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, PreTrainedModel):
        raise ConfigError(f"expected a transformers model, found {type(inner).__name__}")
    return inner


def call_through(
    wrapper: nn.Module, module: nn.Module, function: Callable[..., ResultT], *args: Any
) -> ResultT:
    """Call a function as if it were the module's forward, inside its wrappers.

    DistributedDataParallel and FSDP only see gradients of what runs through their own forward.
    """
    if wrapper is module:
        return function(*args)
    original = module.forward
    module.forward = lambda *inner: function(*inner)
    try:
        result: ResultT = wrapper(*args)
        return result
    finally:
        module.forward = original


def completion_ids(rows: Sequence[Row]) -> Tensor:
    """[N] ids of the scored tokens of all branches, row by row, branch by branch."""
    return torch.cat([b.input_ids[b.mask] for row in rows for b in row.branches])


def completion_hidden(
    model: nn.Module,
    family: ModelFamily,
    rows: Sequence[Row],
    *,
    layout: Layout = "branch",
    features: Sequence[Tensor] | None = None,
) -> Tensor:
    """Hidden states that predict the scored tokens of all branches.

    Args:
        model: The model, with or without adapters.
        family: Its adapter.
        rows: Prompts with their branches, on the model's device.
        layout: `branch` forwards [prompt | branch 1 | branch 2 ...] as one sequence in which a
            branch sees the prompt and itself; `plain` forwards [prompt | branch] for each branch
            with transformers' own forward, mask and positions. Both give the same numbers.
        features: What the tower gives for the media of each row that has any; None runs it. The
            plain layout, in which the model reads pixels, takes none.

    Returns:
        [N, H] in the order of `completion_ids`.
    """
    base = base_model(model)
    if layout == "plain":
        if features is not None:
            raise ConfigError("the plain layout reads pixels, found features; use layout: branch")
        return _plain_hidden(base, family, rows)
    return _branch_hidden(base, family, rows, features)


def _branch_hidden(
    base: PreTrainedModel,
    family: ModelFamily,
    rows: Sequence[Row],
    features: Sequence[Tensor] | None,
) -> Tensor:
    decoder = family.decoder(base)
    _use_branch_attention(decoder)
    device = rows[0].prompt.input_ids.device
    sizes = [len(row.prompt.input_ids) for row in rows]
    layout = branch_layout(
        sizes,
        [[len(branch.input_ids) for branch in row.branches] for row in rows],
        device=device,
    )
    prompts = _pad([row.prompt.input_ids for row in rows])
    ids = torch.cat([prompts, _pad([torch.cat(_tails(row)) for row in rows])], dim=1)
    positions = _positions(base, family, rows)
    inputs: dict[str, Any] = {"inputs_embeds": family.embed_tokens(base)(ids)}
    found = _media_features(base, family, rows, features)
    if found is not None:
        is_media = _pad([row.prompt.token_types for row in rows]) > 0
        if int(is_media.sum()) != found.shape[0]:
            raise ShapeError(
                f"the prompts hold {int(is_media.sum())} media tokens, the vision tower gave "
                f"{found.shape[0]} features"
            )
        is_media = nn.functional.pad(is_media, (0, ids.shape[1] - prompts.shape[1]))
        inputs = place_media(inputs["inputs_embeds"], is_media, found)
    has_own_layers = len(inputs.get("deepstack_visual_embeds", ())) >= len(decoder.layers)  # type: ignore[arg-type]  # a transformers decoder
    is_trimmed = not has_own_layers and trim_last_layer(decoder)
    hidden: Tensor = decoder(
        **inputs,
        attention_mask=unused_mask(layout),
        position_ids=positions[0] if positions.shape[0] == 1 else positions,
        use_cache=False,
        branches=layout,
    ).last_hidden_state
    predictors = [
        torch.as_tensor(
            _predictors(row, last=0, behind=1)
            if is_trimmed
            else _predictors(row, last=size - 1, behind=layout.num_prompt),
            device=device,
        )
        + index * hidden.shape[1]
        for index, (row, size) in enumerate(zip(rows, sizes, strict=True))
    ]
    return hidden.flatten(0, 1)[torch.cat(predictors)]


def _media_features(
    base: PreTrainedModel,
    family: ModelFamily,
    rows: Sequence[Row],
    features: Sequence[Tensor] | None,
) -> Tensor | None:
    """[M, H] of all rows, those that are given or what the tower makes of the pixels."""
    if features is not None:
        return torch.cat(list(features)) if features else None
    media = family.join_media([row.prompt.media for row in rows])
    return family.media_embeds(base, media) if media else None


def _use_branch_attention(decoder: nn.Module) -> None:
    """Have the decoder call our attention, which is SDPA wherever there are no branches.

    It stays: the backward pass of a checkpointed layer calls the layer once more.
    """
    config = decoder.config
    found = config._attn_implementation  # type: ignore[union-attr]  # a transformers config
    if found == NAME:
        return
    if found != "sdpa":
        raise ConfigError(
            f"the branch layout needs attn_implementation sdpa, found {found!r}; load the model "
            f"with it or set trainer.layout: plain"
        )
    register()
    config._attn_implementation = NAME  # type: ignore[union-attr]


def _plain_hidden(base: PreTrainedModel, family: ModelFamily, rows: Sequence[Row]) -> Tensor:
    single = [Row(row.prompt, (branch,)) for row in rows for branch in row.branches]
    ids = _pad([torch.cat([row.prompt.input_ids, *_tails(row)]) for row in single])
    attention_mask = _pad(
        [
            torch.ones(len(row.prompt.input_ids) + len(row.branches[0].input_ids), dtype=torch.long)
            for row in single
        ]
    ).to(ids.device)
    arguments = family.join_media([row.prompt.media for row in single])
    arguments.pop(MEDIA_ORDER, None)  # the class places each kind by its own token
    parameters = inspect.signature(base.base_model.forward).parameters
    if unknown := arguments.keys() - parameters.keys():
        raise ConfigError(
            f"the plain layout cannot forward {sorted(unknown)}: prompts of one batch differ in "
            f"frames. Use per_device_train_batch_size: 1 or layout: branch"
        )
    if "mm_token_type_ids" in parameters:
        arguments["mm_token_type_ids"] = _pad([_token_types(row) for row in single])
    hidden: Tensor = base.base_model(
        input_ids=ids, attention_mask=attention_mask, use_cache=False, **arguments
    ).last_hidden_state
    predictors = [
        torch.as_tensor(_predictors(row, last=size - 1, behind=size), device=ids.device)
        + index * ids.shape[1]
        for index, row in enumerate(single)
        for size in [len(row.prompt.input_ids)]
    ]
    return hidden.flatten(0, 1)[torch.cat(predictors)]


def _positions(base: PreTrainedModel, family: ModelFamily, rows: Sequence[Row]) -> Tensor:
    """[A, B, P + S]: every branch continues from its prompt by the family's full-sequence rule."""
    prompts, behind = [], []
    for row in rows:
        num_prompt = len(row.prompt.input_ids)
        full = [family.position_ids(base, row.prompt, b.input_ids) for b in row.branches]
        prompts.append(full[0][:, :num_prompt])
        behind.append(torch.cat([positions[:, num_prompt:] for positions in full], dim=1))
    return torch.cat([_pad_positions(prompts), _pad_positions(behind)], dim=-1)


def _predictors(row: Row, *, last: int, behind: int) -> list[int]:
    """Index in the row of the state that predicts each scored token.

    The first token of every branch is predicted by the prompt's last position.

    Args:
        row: The row.
        last: Where its prompt's last state is.
        behind: Where its branches begin.
    """
    indices: list[int] = []
    start = behind
    for branch in row.branches:
        places = [last, *range(start, start + len(branch.input_ids) - 1)]
        indices += [
            place for place, scored in zip(places, branch.mask.tolist(), strict=True) if scored
        ]
        start += len(branch.input_ids)
    return indices


def _tails(row: Row) -> list[Tensor]:
    return [branch.input_ids for branch in row.branches]


def _token_types(row: Row) -> Tensor:
    return torch.cat([row.prompt.token_types, *(torch.zeros_like(tail) for tail in _tails(row))])


def _pad(rows: Sequence[Tensor], value: int = 0) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _pad_positions(rows: Sequence[Tensor]) -> Tensor:
    """[A, B, L] of [A, L_b]."""
    padded = nn.utils.rnn.pad_sequence([row.T for row in rows], batch_first=True)
    return padded.permute(2, 0, 1)
