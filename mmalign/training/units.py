"""Records as an objective counts them, and how each is encoded."""

from collections.abc import Callable, Sequence
from typing import Any

from mmalign.objectives import ChosenObjective, Unit
from mmalign.records import (
    LabelledResponse,
    PreferencePair,
    RankedResponses,
    Sample,
    labelled_of,
    ranked_of,
)
from mmalign.training.config import TrainerConfig
from mmalign.training.examples import Encoder, Example
from mmalign.training.rollout_examples import planned_rollouts
from mmalign.training.rollout_task import RolloutTask

__all__ = ["TrainingRecord", "encode_with", "units_of"]

TrainingRecord = PreferencePair | LabelledResponse | RankedResponses | Sample


def encode_with(
    encoder: Encoder,
    objective: ChosenObjective | None,
    trainer: TrainerConfig,
    rollouts: RolloutTask | None = None,
) -> Callable[[Any], Example]:
    """What makes examples of the records that an objective counts."""
    if objective is None:
        return encoder.answer
    if rollouts is not None and objective.objective.unit == "rollout":
        return lambda sample: planned_rollouts(encoder, sample, rollouts.config, rollouts.tools)
    if trainer.online:
        return encoder.sides_of
    encoders: dict[Unit, Callable[[Any], Example]] = {
        "pair": encoder.pair,
        "response": encoder.labelled,
        "list": encoder.ranking,
    }
    return encoders[objective.objective.unit]


def units_of(
    records: Sequence[TrainingRecord], objective: ChosenObjective | None
) -> Sequence[TrainingRecord]:
    """The records as the objective counts them: pairs are split or taken as rankings of two."""
    unit = objective.objective.unit if objective else "pair"
    if unit == "response":
        sides = (labelled_of(r) if isinstance(r, PreferencePair) else (r,) for r in records)
        return [side for both in sides for side in both]
    if unit == "list":
        return [ranked_of(r) if isinstance(r, PreferencePair) else r for r in records]
    return records
