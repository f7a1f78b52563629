"""What a model answered, and which samples it answers."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mmalign.errors import MissingPredictionsError, RecordError
from mmalign.records import Record, Sample

__all__ = ["Answered", "Prediction", "match"]

_SHOWN = 5


class Prediction(Record):
    """One answer, a line of a predictions file."""

    id: str
    """The sample's."""
    prediction: str
    frames: int | None = None
    """Frames that the model saw, where that is known."""
    seconds: float | None = None
    """From the question to the answer."""


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
        RecordError: An id comes twice, or a prediction answers no item.
        MissingPredictionsError: Names the first five items without prediction.
    """
    ids = set()
    for item in items:
        if item.id in ids:
            raise RecordError(f'sample "{item.id}" comes twice; ids are unique in a data set')
        ids.add(item.id)
    texts: dict[str, str] = {}
    for prediction in predictions:
        if prediction.id in texts:
            raise RecordError(
                f'sample "{prediction.id}" has two predictions; keep one answer per question'
            )
        if prediction.id not in ids:
            raise RecordError(
                f'a prediction answers "{prediction.id}", which is none of the {len(items)} '
                f"samples; the predictions belong to another data set"
            )
        texts[prediction.id] = prediction.prediction
    missing = [item.id for item in items if item.id not in texts]
    if missing and not allow_missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        shown = ", ".join(missing[:_SHOWN]) + more
        raise MissingPredictionsError(
            f"{len(missing)} of {len(items)} samples have no prediction: {shown}. Answer them, or "
            f"count them as wrong with allow_missing"
        )
    return [Answered(item, texts.get(item.id)) for item in items]
