"""What a training step that does not fit into memory tells the user."""

import contextlib
from collections.abc import Iterator, Sequence

import torch

from mmalign.errors import TrainingMemoryError
from mmalign.training.config import TrainerConfig
from mmalign.training.examples import Example
from mmalign.training.plan import TokenCount, count_tokens

__all__ = ["explain_memory"]

_CHECKPOINTING_SAVES = 8.0
"""Activations of a decoder of about 30 layers, over those that checkpointing keeps."""


@contextlib.contextmanager
def explain_memory(examples: Sequence[Example], config: TrainerConfig) -> Iterator[None]:
    """Raise a failed allocation again with the records that it failed on and what helps.

    Raises:
        TrainingMemoryError: An allocator of torch, on any device, has no memory left.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_about_memory(error):
            raise
        counts = sorted(map(count_tokens, examples), key=lambda c: -c.total_tokens)
        named = "; ".join(
            f"{count.id!r} with {count.media_tokens} media, {count.text_tokens} text and "
            f"{count.completion_tokens} completion tokens"
            for count in counts
        )
        raise TrainingMemoryError(
            f"the memory is not enough for a micro-batch of {len(counts)} records: {named}. "
            f"What helps, most of all first: {'; '.join(_remedies(counts, config))}. "
            f"The allocator said: {str(error).splitlines()[0]}"
        ) from error


def _is_about_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _remedies(counts: Sequence[TokenCount], config: TrainerConfig) -> list[str]:
    """Settings that are not yet made, by the factor that they take off a step's memory."""
    size, steps = config.per_device_train_batch_size, config.gradient_accumulation_steps
    found: list[tuple[float, str]] = []
    if size > 1:
        remedy = (
            f"trainer.per_device_train_batch_size: 1 with gradient_accumulation_steps: "
            f"{size * steps}, which takes the same steps"
        )
        found.append((float(size), remedy))
    if not config.gradient_checkpointing:
        found.append((_CHECKPOINTING_SAVES, "trainer.gradient_checkpointing: true"))
    if any(count.media_tokens for count in counts):
        found.append((3.0, "fewer or smaller frames (media.num_frames, media.resize)"))
    if config.layout == "plain":
        found.append((2.0, "trainer.layout: branch"))
    if not config.bf16:
        found.append((1.9, "trainer.bf16: true"))
    if config.reference_logps == "compute":
        found.append((1.3, "trainer.reference_logps: store, where the objective has a reference"))
    if config.logps_chunk_size > 64:
        found.append((1.1, f"trainer.logps_chunk_size below {config.logps_chunk_size}"))
    found.append(
        (
            1.0,
            f"trainer.max_length below {max(c.longest_tokens for c in counts)} with "
            f"over_length: drop, which leaves such records out",
        )
    )
    return [remedy for _, remedy in sorted(found, key=lambda item: -item[0])]
