"""How a run of an agent is carried out."""

from pydantic import Field

from mmalign.config import Config

__all__ = ["EngineConfig"]


class EngineConfig(Config):
    """How a run is carried out; none of it changes the records."""

    max_concurrency: int = Field(default=16, gt=0)
    """Samples under way at once."""
    max_attempts: int = Field(default=3, gt=0)
    """Walks through the graph that a sample gets when models or decoders fail for a moment."""
    retry_wait_s: float = Field(default=1.0, ge=0)
    """Before the second walk; doubled before each further one."""
    max_failed_ratio: float = Field(default=0.2, ge=0, le=1)
    """Of the samples of this start; above it the run ends."""
    min_samples_for_ratio: int = Field(default=20, gt=0)
    """So many must be done before the ratio counts."""
    max_judge_invalid_ratio: float = Field(default=0.1, ge=0, le=1)
    """Of the samples of this start that a judge was asked about: those dropped because no reply
    of it could be read. Above it the run ends. Source: a reconstruction of CAT."""
    min_judged_for_ratio: int = Field(default=50, gt=0)
    """So many must be judged before that ratio counts."""
    retry_failed: bool = False
    """Try the samples again that earlier starts committed as failed."""
    recursion_limit: int = Field(default=50, gt=0)
    """Steps of a graph; a sample that needs more is dropped."""
    wait_for_answers: bool = False
    """Of an agent that asks people: go on as they answer, and end when no sample waits. Without
    it the run ends, and the next start goes on with the samples that were answered."""
    stop_grace_s: float = Field(default=5.0, ge=0)
    """How long calls under way may take to end when the run is stopped."""
