"""Prompts about altered clips."""

from mmalign.api import MediaOperation, MediaPart, Message, Sample

__all__ = ["altered"]


def altered(sample: Sample, *operations: MediaOperation) -> tuple[Message, ...]:
    """The prompt with the operations on each of its videos."""
    return tuple(
        message.model_copy(
            update={
                "content": tuple(
                    MediaPart(media=part.media.then(*operations))
                    if isinstance(part, MediaPart) and part.media.kind == "video"
                    else part
                    for part in message.content
                )
            }
        )
        for message in sample.messages
    )
