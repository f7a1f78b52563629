"""Where a record came from, and records of what was left out."""

from typing import Literal

from pydantic import FiniteFloat

from mmalign.records.base import JsonDict, Record
from mmalign.records.media import MediaOperation

__all__ = ["DroppedSample", "Lineage"]


class Lineage(Record):
    """Everything that made a record; reaches the trainer's metrics and the report."""

    run_id: str | None = None
    graph: str | None = None
    """Import path of the agent, `mmalign.agents.rrpo:build_graph`."""
    node: str | None = None
    """Node that wrote the record."""
    policy: str | None = None
    """Name and revision of the model that answered."""
    judge: str | None = None
    sampling: JsonDict = {}
    seed: int | None = None
    source: str | None = None
    """Data set that the sample came from."""
    source_clip: str | None = None
    """Content hash of the clip that the sample is about."""
    operations: tuple[MediaOperation, ...] = ()
    """What was done to the clip before the policy was asked."""
    tags: dict[str, str] = {}
    """Keys that the trainer splits its metrics by: question type, error category, route."""
    votes: JsonDict = {}
    """What the judges said."""
    cost: FiniteFloat = 0.0
    """Money spent on the sample so far, in the price table's currency."""
    num_tokens: int = 0
    created_at: str | None = None
    """UTC, ISO 8601."""
    version: str | None = None
    """mmalign's version."""


class DroppedSample(Record):
    """A sample that became no pair, and why."""

    sample_id: str
    reason: str
    """Stable code, counted in the funnel: `answer_correct`, `media_corrupt` ..."""
    node: str
    message: str
    kind: Literal["dropped", "failed"] = "dropped"
    """`dropped`: a rule of the method; `failed`: something went wrong."""
    lineage: Lineage = Lineage()
