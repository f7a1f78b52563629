"""What a model answered, and which samples it answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from pydantic import Field

from mmalign.errors import MissingPredictionsError, RecordError
from mmalign.records import Record, Sample

__all__ = ["Answered", "Prediction", "by_draw", "match", "missing_predictions"]

_SHOWN = 5


class Prediction(Record):
    """One answer, a line of a predictions file."""

    id: str
    """The sample's."""
    prediction: str
    draw: int = Field(default=0, ge=0)
    """Which of several answers to the same question, from 0."""
    frames: int | None = None
    """Frames that the model saw, where that is known."""
    seconds: float | None = None
    """From the question to the answer."""


PredictionT = TypeVar("PredictionT", bound=Prediction)


class Answered(NamedTuple):
    """A sample and what was answered; None counts as wrong."""

    sample: Sample
    text: str | None


def match(
    items: Sequence[Sample], predictions: Iterable[Prediction], *, allow_missing: bool = False
) -> list[Answered]:
    """Each item with its prediction, in the items' order.

    Args:
        items: The questions; none is ever left out.
        predictions: The answers, in any order.
        allow_missing: An item without prediction counts as wrong; otherwise it is an error.

    Raises:
        RecordError: An id comes twice, a prediction answers no item, or an item has several.
        MissingPredictionsError: Names the first five items without prediction.
    """
    texts = {}
    for key, draws in by_draw(items, predictions).items():
        if len(draws) > 1:
            raise RecordError(
                f'sample "{key}" has {len(draws)} predictions, and this metric scores one; set '
                f"num_samples: 1"
            )
        (prediction,) = draws.values()
        texts[key] = prediction.prediction
    missing = [item.id for item in items if item.id not in texts]
    if missing and not allow_missing:
        raise missing_predictions(missing, len(items))
    return [Answered(item, texts.get(item.id)) for item in items]


def by_draw(
    items: Sequence[Sample], predictions: Iterable[PredictionT]
) -> Mapping[str, Mapping[int, PredictionT]]:
    """What was answered to each item, by draw; items without an answer have no entry.

    Raises:
        RecordError: An id comes twice among the items, a draw of an item comes twice, or a
            prediction answers no item.
    """
    ids = set()
    for item in items:
        if item.id in ids:
            raise RecordError(f'sample "{item.id}" comes twice; ids are unique in a data set')
        ids.add(item.id)
    found: dict[str, dict[int, PredictionT]] = {}
    for prediction in predictions:
        if prediction.id not in ids:
            raise RecordError(
                f'a prediction answers "{prediction.id}", which is none of the {len(items)} '
                f"samples; the predictions belong to another data set"
            )
        draws = found.setdefault(prediction.id, {})
        if prediction.draw in draws:
            which = f" of draw {prediction.draw}" if prediction.draw else ""
            raise RecordError(
                f'sample "{prediction.id}" has two predictions{which}; keep one answer per question'
            )
        draws[prediction.draw] = prediction
    return found


def missing_predictions(ids: Sequence[str], num_items: int) -> MissingPredictionsError:
    """The error that names the first five samples that lack answers."""
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return MissingPredictionsError(
        f"{len(ids)} of {num_items} samples have no prediction: {', '.join(ids[:_SHOWN])}{more}. "
        f"Answer them, or count them as wrong with allow_missing"
    )
