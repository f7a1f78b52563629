"""Which exceptions cost one sample, which are worth another try, which end the run."""

from langgraph.errors import GraphRecursionError
from pydantic import ValidationError

from mmalign.engine.agent import failed_node
from mmalign.errors import (
    DecodeTimeoutError,
    MediaError,
    ModelCallError,
    ModelResponseError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitError,
    RecordError,
)
from mmalign.records import DroppedSample, Sample

__all__ = ["failed_sample", "is_transient"]

TRANSIENT = (
    RateLimitError,
    ModelTimeoutError,
    ModelUnavailableError,
    ModelResponseError,
    DecodeTimeoutError,
)


def is_transient(error: Exception) -> bool:
    """Whether the same sample may succeed a moment later."""
    return isinstance(error, TRANSIENT)


def failed_sample(sample: Sample, error: Exception, *, last_node: str) -> DroppedSample | None:
    """The record of a sample that failed; None where the error is not about the sample.

    Args:
        sample: The sample.
        error: What its walk through the graph ended with.
        last_node: Stands in where the error does not know its node.
    """
    if isinstance(error, MediaError | ModelCallError):
        reason = error.reason
    elif isinstance(error, RecordError | ValidationError):
        reason = "record_invalid"
    elif isinstance(error, GraphRecursionError):
        reason = "recursion_limit"
    else:
        return None
    return DroppedSample(
        sample_id=sample.id,
        reason=reason,
        node=failed_node(error) or last_node,
        message=str(error),
        kind="failed",
    )
