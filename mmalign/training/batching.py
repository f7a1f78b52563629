"""Batches of records of similar length, so that little of a batch is padding."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from mmalign.errors import ConfigError
from mmalign.training.forward import Layout, Row

__all__ = ["LengthGroups", "Padding", "RecordSize", "padding_of"]

_BLOCKS_PER_POOL = 256
_BUCKETS_PER_DOUBLING = (2, 4, 8, 16)
"""Which one pads least depends on how prompts and answers vary, so all are tried by counting."""


class RecordSize(NamedTuple):
    """Planned tokens of one record."""

    prompt_tokens: int
    completion_tokens: int
    """Of all its branches."""


class Padding(NamedTuple):
    """How much of a forward pass is wasted."""

    num_tokens: int
    """Positions that hold tokens."""
    num_positions: int
    """All positions, padding included."""


def padding_of(rows: Sequence[Row], *, layout: Layout) -> Padding:
    """Tokens and positions of one forward pass."""
    if layout == "plain":
        sizes = [len(r.prompt.input_ids) + len(b.input_ids) for r in rows for b in r.branches]
        return Padding(sum(sizes), len(sizes) * max(sizes))
    prompts = [len(row.prompt.input_ids) for row in rows]
    behind = [sum(len(branch.input_ids) for branch in row.branches) for row in rows]
    return Padding(sum(prompts) + sum(behind), len(rows) * (max(prompts) + max(behind)))


class LengthGroups(Sampler[int]):
    """Every record once an epoch, those of similar length one after the other.

    Records are shuffled and pooled; a pool is ordered by length and, where lengths are close, by
    answers, for prompts and answers are padded apart. Blocks of one batch for each process, which
    are therefore alike on all of them, come in random order; what does not fill a block comes
    last. The order is a pure function of seed and epoch, so a resumed run goes on where it stopped.

    Args:
        sizes: Of all records.
        batch_size: Records of one forward pass in one process.
        num_processes: Of the run.
        seed: Of the order.
    """

    def __init__(
        self, sizes: Sequence[RecordSize], *, batch_size: int, num_processes: int, seed: int
    ) -> None:
        if not sizes:
            raise ConfigError(
                "trainer.group_by_length: the records were not counted; plan them, or set it to "
                "false"
            )
        self._sizes = sizes
        self._batch_size = batch_size
        self._block = batch_size * num_processes
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        shuffled = torch.randperm(len(self._sizes), generator=generator).tolist()
        num_whole = len(shuffled) // self._block * self._block
        edge = float(torch.rand((), generator=generator))  # buckets begin elsewhere every epoch
        pool_size = self._block * _BLOCKS_PER_POOL
        blocks: list[list[int]] = []
        for start in range(0, num_whole, pool_size):
            pool = shuffled[start : min(start + pool_size, num_whole)]
            orders = (
                sorted(pool, key=functools.partial(_place, self._sizes, width, edge, whole=whole))
                for width in _BUCKETS_PER_DOUBLING
                for whole in (True, False)
            )
            order = min(orders, key=self._num_positions)
            blocks += [order[i : i + self._block] for i in range(0, len(order), self._block)]
        for index in torch.randperm(len(blocks), generator=generator).tolist():
            yield from blocks[index]
        yield from shuffled[num_whole:]

    def _num_positions(self, order: Sequence[int]) -> int:
        """Positions that batches in this order forward, padding included."""
        num = 0
        for start in range(0, len(order), self._batch_size):
            batch = [self._sizes[index] for index in order[start : start + self._batch_size]]
            longest = max(s.prompt_tokens for s in batch) + max(s.completion_tokens for s in batch)
            num += len(batch) * longest
        return num


def _place(
    sizes: Sequence[RecordSize], width: int, edge: float, index: int, *, whole: bool
) -> tuple[int, int, int]:
    """Sorts by buckets of length, there and back again by answers, so that neighbours are alike.

    Args:
        sizes: Of all records.
        width: Buckets between a length and its double.
        edge: Where buckets begin, in [0, 1).
        index: Of the record.
        whole: Whether prompt and answers or the prompt alone make the length.
    """
    prompt, completion = sizes[index]
    length = max(1, prompt + completion if whole else prompt)
    bucket = math.floor(math.log2(length) * width + edge)
    return bucket, -completion if bucket % 2 else completion, prompt
