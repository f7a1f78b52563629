"""Completions in the making, to which others may be added before they are done.

The loop is ours and not transformers' `generate` for four reasons: the positions of new tokens
are those of the family's full-sequence rule, as in training (`generate` continues behind the
largest position of the prompt, which is another place where a clip's time axis runs ahead); each
row has its own random source, so its draws do not depend on its neighbours; rows that have ended
leave the batch; and new ones take their place at once.

A row's cache is not kept between two requests: who goes on from sampled tokens and a tool's
output has them computed again, in one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from mmalign.models.decoding import Draw, Drawn, Scored, padded_batch, take_tokens
from mmalign.models.families import ModelFamily
from mmalign.models.families.loading import bare_model

__all__ = ["RunningBatch"]

_MOST_BYTES_OF_A_CHARACTER = 4


@dataclass
class _Row:
    draw: Draw
    positions: Tensor
    """[A, N] of the tokens to come."""
    generator: torch.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None

    @property
    def num_tokens(self) -> int:
        """Columns that the row needs."""
        return len(self.draw.prompt.input_ids) + len(self.draw.tail) + len(self.token_ids)


class RunningBatch:
    """Rows that are decoded together; a draw gives the same tokens whoever joins or leaves.

    Args:
        model: In eval mode as long as the batch lives.
        family: Of the model.
        tokenizer: Decodes, for stop texts.
        end_ids: Tokens that end an answer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        family: ModelFamily,
        tokenizer: Any,
        *,
        end_ids: frozenset[int],
    ) -> None:
        self._model = model
        self._family = family
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self.clear()

    @property
    def num_rows(self) -> int:
        """Draws that have not ended."""
        return len(self._rows)

    @property
    def may_be_joined(self) -> bool:
        """Whether others may be added: not where a layer keeps a window or a state."""
        return not self._rows or all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def clear(self) -> None:
        """Forget all rows."""
        self._rows: list[_Row] = []
        self._cache = self._new_cache()
        self._hidden = self._mask = torch.empty(0)

    @torch.no_grad()
    def add(self, draws: Sequence[Draw]) -> None:
        """Compute what the draws go on from; the same ids and media are computed once."""
        prefixes = [draw.prefix for draw in draws]
        different = dict(zip(prefixes, draws, strict=True))
        place = {prefix: index for index, prefix in enumerate(different)}
        longest = max(draw.max_tokens for draw in draws)
        items = [
            Scored(draw.prompt, torch.cat([draw.tail, draw.tail.new_zeros(longest)]))
            for draw in different.values()
        ]
        batch = padded_batch(self._model, self._family, items)
        length = batch.mask.shape[1] - longest  # the zeros give positions of tokens to come
        cache = self._new_cache()
        hidden = self._family.decoder(self._model)(
            **batch.inputs(length),
            attention_mask=batch.mask[:, :length],
            position_ids=batch.positions[..., :length],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1:]
        axes = batch.positions if batch.positions.ndim == 3 else batch.positions[None]
        source = [place[prefix] for prefix in prefixes]
        index = torch.tensor(source, device=hidden.device)
        cache.batch_select_indices(index)
        rows = [
            _Row(draw, axes[:, row, length:], torch.Generator().manual_seed(draw.seed))
            for draw, row in zip(draws, source, strict=True)
        ]
        self._join(rows, hidden[index], batch.mask[index, :length], cache)

    @torch.no_grad()
    def step(self) -> list[tuple[Draw, Drawn]]:
        """Draw the next token of every row; those that have ended, which leave the batch."""
        rows = self._rows
        logits = self._family.head(self._model)(self._hidden)[:, -1].float()
        tokens = take_tokens(logits, [row.draw for row in rows], [row.generator for row in rows])
        logprobs = F.log_softmax(logits, dim=-1).gather(-1, tokens[:, None])[:, 0]
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.finish_reason = self._finish(row)
        keep = [index for index, row in enumerate(rows) if row.finish_reason is None]
        if keep:
            self._go_on(keep, tokens)
        else:
            self.clear()
        return [
            (row.draw, Drawn(row.token_ids, row.logprobs, row.finish_reason))
            for row in rows
            if row.finish_reason is not None
        ]

    def _go_on(self, keep: Sequence[int], tokens: Tensor) -> None:
        """Let the others leave, and run the new tokens through the model."""
        if len(keep) < len(self._rows):
            index = torch.tensor(keep, device=tokens.device)
            self._rows = [self._rows[row] for row in keep]
            tokens, self._mask = tokens[index], self._mask[index]
            self._cache.batch_select_indices(index)
            if self.may_be_joined:
                self._trim()
        axes = torch.stack([row.positions[:, len(row.token_ids) - 1] for row in self._rows], dim=1)
        self._mask = F.pad(self._mask, (0, 1), value=1)
        self._hidden = self._family.decoder(self._model)(
            inputs_embeds=self._family.embed_tokens(self._model)(tokens[:, None]),
            attention_mask=self._mask,
            position_ids=axes[..., None] if len(axes) > 1 else axes[0, :, None],
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state

    def _trim(self) -> None:
        """Drop columns that only rows of the past have needed."""
        longest = max(row.num_tokens for row in self._rows) - 1  # the new token has no column yet
        unused = self._mask.shape[1] - longest
        if unused:
            self._mask = self._mask[:, unused:]
            for layer in _layers(self._cache):
                layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]

    def _join(
        self, rows: Sequence[_Row], hidden: Tensor, mask: Tensor, cache: DynamicCache
    ) -> None:
        if not self._rows:
            self._rows, self._hidden, self._mask, self._cache = list(rows), hidden, mask, cache
            return
        width = max(mask.shape[1], self._mask.shape[1])
        for layer, other in zip(_layers(self._cache), _layers(cache), strict=True):
            layer.keys = _stacked(layer.keys, other.keys, width)
            layer.values = _stacked(layer.values, other.values, width)
        self._rows += rows
        self._hidden = torch.cat([self._hidden, hidden])
        self._mask = torch.cat(
            [F.pad(part, (width - part.shape[1], 0)) for part in (self._mask, mask)]
        )

    def _finish(self, row: _Row) -> Literal["stop", "length"] | None:
        if row.token_ids[-1] in self._end_ids:
            return "stop"
        if row.draw.stop:
            # a stop text that ends only now lies in the last tokens, each of a byte at least
            longest = max(map(len, row.draw.stop)) * _MOST_BYTES_OF_A_CHARACTER
            skip = not row.draw.stops_name_control_tokens
            text = self._tokenizer.decode(row.token_ids[-longest - 4 :], skip_special_tokens=skip)
            if any(stop in text for stop in row.draw.stop):
                return "stop"
        return "length" if len(row.token_ids) >= row.draw.max_tokens else None

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=bare_model(self._model).config.get_text_config())


def _layers(cache: DynamicCache) -> list[Any]:
    """Plain layers that have seen tokens; their class calls keys and values optional."""
    return list(cache.layers)


def _stacked(running: Tensor, new: Tensor, width: int) -> Tensor:
    """[B + N, heads, width, D] of keys or values, padded on the left."""
    return torch.cat([F.pad(part, (0, 0, width - part.shape[2], 0)) for part in (running, new)])
