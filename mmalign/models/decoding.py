"""Batches of prompts and of what follows them, through the family's own parts; tokens drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmalign.errors import CapabilityError
from mmalign.models.families import EncodedPrompt, ModelFamily, place_media
from mmalign.models.families.loading import bare_model

__all__ = [
    "Draw",
    "Drawn",
    "PaddedBatch",
    "Scored",
    "media_features",
    "padded_batch",
    "predicting_states",
    "require_room",
    "score_batch",
    "take_tokens",
]

_SCORED_AT_ONCE = 4096
"""Positions whose logits are held at a time."""


@dataclass(frozen=True)
class Draw:
    """One completion that is wanted."""

    prompt: EncodedPrompt
    seed: int
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    tail: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """[R] int64 ids that follow the prompt already."""
    stops_name_control_tokens: bool = False
    """A stop text may name a control token."""

    @property
    def prefix(self) -> tuple[int, tuple[int, ...]]:
        """The same for draws that go on from the same media and ids."""
        ids = torch.cat([self.prompt.input_ids, self.tail])
        return id(self.prompt.media) if self.prompt.media else 0, tuple(ids.tolist())


class Drawn(NamedTuple):
    """One completion."""

    token_ids: list[int]
    """With the token that ended it, if one did."""
    logprobs: list[float]
    """Of these tokens in the model's own distribution, before temperature and top_p, in nats."""
    finish_reason: Literal["stop", "length"]


class Scored(NamedTuple):
    """A prompt and the ids whose log-probs are wanted."""

    prompt: EncodedPrompt
    tail: Tensor
    """[R] int64."""


@torch.no_grad()
def score_batch(
    model: PreTrainedModel, family: ModelFamily, items: Sequence[Scored]
) -> list[list[float]]:
    """Log-probs of each tail's tokens in the model's own distribution, in nats, by one forward."""
    states = predicting_states(model, family, items)
    taken = torch.cat([item.tail for item in items]).to(states.device)
    found: list[float] = []
    for start in range(0, len(taken), _SCORED_AT_ONCE):
        ids = taken[start : start + _SCORED_AT_ONCE]
        logits = family.head(model)(states[start : start + _SCORED_AT_ONCE]).float()
        found += (logits.gather(-1, ids[:, None])[:, 0] - logits.logsumexp(-1)).tolist()
    numbers = iter(found)
    return [[next(numbers) for _ in item.tail] for item in items]


@torch.no_grad()
def predicting_states(
    model: PreTrainedModel, family: ModelFamily, items: Sequence[Scored]
) -> Tensor:
    """[N, H] states from which the head predicts each tail's tokens, item by item."""
    batch = padded_batch(model, family, items)
    hidden = (
        family.decoder(model)(
            **batch.inputs(batch.mask.shape[1]),
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        )
        .last_hidden_state[:, :-1]
        .contiguous()
    )
    # rows are padded on the left: every tail ends in the last column
    wanted = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    for row, item in enumerate(items):
        wanted[row, wanted.shape[1] - len(item.tail) :] = True
    states: Tensor = hidden[wanted]
    return states


def take_tokens(
    logits: Tensor, draws: Sequence[Draw], generators: Sequence[torch.Generator]
) -> Tensor:
    """[B] tokens drawn from [B, V] logits, each row by its own temperature, top_p and source.

    A row takes one uniform number a step and reads it off the distribution's cumulative sum in
    the order of the vocabulary; rounding of the logits, which differs between batches, moves
    the borders by as little.
    """
    greedy = logits.argmax(-1)
    if all(draw.temperature == 0 for draw in draws):
        return greedy
    temperature = torch.tensor([[draw.temperature or 1.0] for draw in draws], device=logits.device)
    top_p = torch.tensor([[draw.top_p] for draw in draws], device=logits.device)
    probs = F.softmax(logits / temperature, dim=-1)
    if any(draw.top_p < 1 for draw in draws):
        ordered, order = probs.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        probs = probs.masked_fill(
            torch.zeros_like(probs, dtype=torch.bool).scatter(-1, order, before >= top_p), 0.0
        )
    numbers = [
        torch.rand((), generator=generator, dtype=torch.float64) if draw.temperature else 0.0
        for draw, generator in zip(draws, generators, strict=True)
    ]
    sums = probs.double().cumsum(-1)
    aim = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None] * sums[:, -1:]
    drawn = torch.searchsorted(sums, aim, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    is_greedy = torch.tensor([draw.temperature == 0 for draw in draws], device=logits.device)
    return torch.where(is_greedy, greedy, drawn)


def require_room(model: PreTrainedModel, prompt: EncodedPrompt, *, num_answer_tokens: int) -> None:
    """Refuse what the model has no positions for, before it fails a whole batch.

    Raises:
        CapabilityError: Prompt and answer together are too long.
    """
    limit = getattr(bare_model(model).config.get_text_config(), "max_position_embeddings", None)
    wanted = len(prompt.input_ids) + num_answer_tokens
    if limit is not None and wanted > limit:
        raise CapabilityError(
            f"prompt and answer take up to {wanted} tokens ({prompt.num_media_tokens} of them "
            f"media), the model holds {limit}; sample fewer frames or lower max_completion_length"
        )


class PaddedBatch(NamedTuple):
    """Padded on the left, so that all rows end in the last column."""

    embeds: Tensor
    """[B, T, H] of the tokens."""
    is_media: Tensor
    """[B, T] bool."""
    features: Tensor | None
    """Of all media tokens, None where there are none."""
    mask: Tensor
    """[B, T] int64."""
    positions: Tensor
    """[B, T], or [3, B, T]."""

    def inputs(self, length: int) -> dict[str, Any]:
        """What the decoder takes for the first columns, which hold all media."""
        embeds = self.embeds[:, :length]
        if self.features is None:
            return {"inputs_embeds": embeds}
        return place_media(embeds, self.is_media[:, :length], self.features)


def padded_batch(
    model: PreTrainedModel, family: ModelFamily, items: Sequence[Scored]
) -> PaddedBatch:
    """Prompts with their tails, embedded and placed."""
    device = _device(model)
    lengths = [len(item.prompt.input_ids) + len(item.tail) for item in items]
    longest = max(lengths)
    ids = torch.zeros(len(items), longest, dtype=torch.int64)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    placed = []
    for row, (prompt, tail) in enumerate(items):
        start, middle = longest - lengths[row], longest - len(tail)
        ids[row, start:middle], ids[row, middle:] = prompt.input_ids, tail
        types[row, start:middle] = prompt.token_types
        mask[row, start:] = 1
        own = family.position_ids(model, prompt, tail)
        placed.append(F.pad(own, (start, 0)))
    positions = torch.stack(placed, dim=1).to(device)
    return PaddedBatch(
        embeds=family.embed_tokens(model)(ids.to(device)),
        is_media=types.to(device) > 0,
        features=media_features(model, family, [item.prompt for item in items]),
        mask=mask.to(device),
        positions=positions if len(positions) > 1 else positions[0],
    )


def media_features(
    model: PreTrainedModel, family: ModelFamily, prompts: Sequence[EncodedPrompt]
) -> Tensor | None:
    """[M, H] prompt by prompt; media that several prompts share are looked at once."""
    shared: dict[int, Mapping[str, Tensor]] = {id(p.media): p.media for p in prompts if p.media}
    if not shared:
        return None
    device = _device(model)
    joined = family.join_media(list(shared.values()))
    found = family.media_embeds(model, {key: value.to(device) for key, value in joined.items()})
    sizes = {id(p.media): p.num_media_tokens for p in prompts}
    parts = dict(zip(shared, torch.split(found, [sizes[key] for key in shared]), strict=True))
    return torch.cat([parts[id(p.media)] for p in prompts if p.media])


def _device(model: PreTrainedModel) -> torch.device:
    return next(model.parameters()).device
