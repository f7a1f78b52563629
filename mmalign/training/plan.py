"""How many tokens each record takes, counted before the first step; nothing is ever cut."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from transformers import PreTrainedModel

from mmalign.errors import ConfigError, MediaError
from mmalign.training.config import TrainerConfig
from mmalign.training.examples import Example

__all__ = [
    "MemoryEstimate",
    "Plan",
    "TokenCount",
    "count_all",
    "count_tokens",
    "estimate_memory",
    "fits",
    "plan_table",
]

_MAX_BROKEN = 0.05
_ACTIVATIONS_PER_LAYER = 17
"""Values of hidden size that one decoder layer keeps for a token without checkpointing
(Korthikanti et al., 2022, without the attention matrix, which SDPA does not keep)."""


@dataclass(frozen=True)
class TokenCount:
    """Tokens of one record."""

    id: str
    media_tokens: int
    """Of one prompt."""
    text_tokens: int
    """Of one prompt, without media."""
    completion_tokens: int
    """Of all branches."""
    longest_tokens: int
    """Prompt with its longest answer: what `max_length` limits."""

    @property
    def total_tokens(self) -> int:
        """What one forward pass in the branch layout sees."""
        return self.media_tokens + self.text_tokens + self.completion_tokens


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training will hold at its peak; arithmetic, not a measurement."""

    weights: int
    gradients_and_optimizer: int
    """Of the trainable weights, AdamW."""
    reference: int
    """Of a frozen copy; 0 where the adapter is switched off."""
    activations: int
    """Of the decoder on the largest batch of the longest records."""
    logits: int
    """Of one chunk of scored tokens."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Plan:
    """Token counts of a data set, and what is too long."""

    counts: tuple[TokenCount, ...]
    max_length: int | None
    too_long: tuple[str, ...]
    broken: Mapping[str, str] = field(default_factory=dict)
    """Records whose media cannot be read, and why."""
    memory: MemoryEstimate | None = None

    def save(self, path: Path) -> None:
        """Write the plan as JSON: percentiles, ids that are too long, counts per record."""
        value = {
            "max_length": self.max_length,
            "too_long": self.too_long,
            "broken": dict(self.broken),
            "percentiles": percentiles(self.counts),
            "memory": asdict(self.memory) if self.memory else None,
            "records": [asdict(count) for count in self.counts],
        }
        path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def count_tokens(example: Example) -> TokenCount:
    """Tokens of an encoded record."""
    media = sum(row.prompt.num_media_tokens for row in example.rows)
    prompt = sum(len(row.prompt.input_ids) for row in example.rows)
    return TokenCount(
        id=example.id,
        media_tokens=media,
        text_tokens=prompt - media,
        completion_tokens=sum(len(b.input_ids) for row in example.rows for b in row.branches),
        longest_tokens=max(
            len(row.prompt.input_ids) + len(b.input_ids)
            for row in example.rows
            for b in row.branches
        ),
    )


def count_all(
    records: Sequence[Any], encode: Callable[[Any], Example]
) -> tuple[list[TokenCount], dict[str, str]]:
    """Token counts of all records, and why those are missing whose media cannot be read."""
    counts: list[TokenCount] = []
    broken: dict[str, str] = {}
    for record in records:
        try:
            counts.append(count_tokens(encode(record)))
        except MediaError as error:
            broken[record.id] = f"{error.reason}: {error}"
    return counts, broken


def estimate_memory(
    model: PreTrainedModel,
    counts: Sequence[TokenCount],
    trainer: TrainerConfig,
    *,
    num_trainable: int,
    copies_reference: bool,
) -> MemoryEstimate:
    """Peak memory of training, from the model's sizes and the longest records.

    Args:
        model: On any device, also on meta.
        counts: Of all records.
        trainer: Batch size, checkpointing, chunk of the vocabulary head.
        num_trainable: Parameters that get gradients.
        copies_reference: Whether the reference has weights of its own.
    """
    text = model.config.get_text_config()
    size = next(model.parameters()).element_size()
    num_parameters = sum(p.numel() for p in model.parameters())
    longest = sorted((c.total_tokens for c in counts), reverse=True)
    tokens = sum(longest[: trainer.per_device_train_batch_size])
    kept = _ACTIVATIONS_PER_LAYER * text.num_hidden_layers
    if trainer.gradient_checkpointing:
        kept = text.num_hidden_layers + _ACTIVATIONS_PER_LAYER
    return MemoryEstimate(
        weights=num_parameters * size,
        gradients_and_optimizer=num_trainable * (size + 2 * 4),
        reference=num_parameters * size if copies_reference else 0,
        activations=tokens * text.hidden_size * kept * size,
        logits=3 * trainer.logps_chunk_size * text.vocab_size * 4,
    )


def fits(plan: Plan, *, over_length: str) -> frozenset[str]:
    """Ids of the records to train on.

    Raises:
        ConfigError: Records are too long and the recipe does not say to drop them.
        MediaError: The media of more than 5 % of the records cannot be read.
    """
    num_records = len(plan.counts) + len(plan.broken)
    if len(plan.broken) > _MAX_BROKEN * num_records:
        record, why = next(iter(plan.broken.items()))
        raise MediaError(
            f"the media of {len(plan.broken)} of {num_records} records cannot be read, more than "
            f"{_MAX_BROKEN:.0%}; the first is {record!r}: {why}. plan.json lists all of them"
        )
    if plan.too_long and over_length == "error":
        longest = max(plan.counts, key=lambda count: count.longest_tokens)
        raise ConfigError(
            f"{len(plan.too_long)} of {num_records} records exceed max_length "
            f"{plan.max_length}; the longest is {longest.id!r} with "
            f"{longest.longest_tokens} tokens, {longest.media_tokens} of them media. "
            f"Media tokens are never cut: raise trainer.max_length, sample fewer frames, or set "
            f"trainer.over_length: drop"
        )
    return frozenset(count.id for count in plan.counts) - set(plan.too_long)


def percentiles(counts: Sequence[TokenCount]) -> dict[str, dict[str, float]]:
    """Per kind of token the 50th, 95th percentile, maximum and sum over the records."""
    kinds = ("media_tokens", "text_tokens", "completion_tokens", "longest_tokens", "total_tokens")
    table: dict[str, dict[str, float]] = {}
    for kind in kinds:
        values = np.array([getattr(count, kind) for count in counts] or [0])
        table[kind] = {
            "p50": float(np.percentile(values, 50)),
            "p95": float(np.percentile(values, 95)),
            "max": float(values.max()),
            "sum": float(values.sum()),
        }
    return table


def plan_table(plan: Plan) -> Table:
    """The token table that the trainer prints before step 0."""
    table = Table(title=f"Tokens of {len(plan.counts)} records")
    for column in ("", "median", "95 %", "longest", "all records"):
        table.add_column(column, justify="right" if column else "left")
    for kind, row in percentiles(plan.counts).items():
        table.add_row(
            kind.removesuffix("_tokens"),
            *(f"{row[name]:,.0f}" for name in ("p50", "p95", "max", "sum")),
        )
    if plan.memory is not None:
        table.add_section()
        for part, amount in asdict(plan.memory).items():
            table.add_row(part.replace("_", " "), "", "", "", f"{amount / 2**20:,.1f} MiB")
        table.add_row(
            "memory at the peak (estimate)", "", "", "", f"{plan.memory.total / 2**20:,.1f} MiB"
        )
    limit = "no limit" if plan.max_length is None else f"max_length {plan.max_length}"
    table.caption = (
        f"{len(plan.too_long)} too long ({limit}), {len(plan.broken)} unreadable; nothing is cut"
    )
    return table
