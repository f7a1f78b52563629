"""Responses that are judged one by one, or ranked among several."""

from typing import Self

from pydantic import Field, model_validator

from mmalign.records.base import JsonDict, Record
from mmalign.records.lineage import Lineage
from mmalign.records.messages import Message
from mmalign.records.pairs import PreferencePair, Response

__all__ = ["LabelledResponse", "RankedResponses", "labelled_of", "ranked_of"]


class LabelledResponse(Record):
    """One response and whether it is wanted; what unpaired objectives learn from."""

    id: str = ""
    """Hash of the content; filled in when left empty."""
    sample_id: str = Field(min_length=1)
    prompt: tuple[Message, ...] = Field(min_length=1)
    response: Response
    desirable: bool
    tools: tuple[str, ...] = ()
    """JSON schemas, as text."""
    metadata: JsonDict = {}
    lineage: Lineage = Lineage()

    @model_validator(mode="after")
    def _has_an_id(self) -> Self:
        if not self.id:
            object.__setattr__(self, "id", self.content_id())
        return self


class RankedResponses(Record):
    """Several responses to one prompt, each with a score; what list-wise objectives learn from."""

    id: str = ""
    """Hash of the content; filled in when left empty."""
    sample_id: str = Field(min_length=1)
    prompt: tuple[Message, ...] = Field(min_length=1)
    responses: tuple[Response, ...] = Field(min_length=2)
    """Higher scores are better; equal ones are ties."""
    tools: tuple[str, ...] = ()
    """JSON schemas, as text."""
    metadata: JsonDict = {}
    lineage: Lineage = Lineage()

    @model_validator(mode="after")
    def _is_ranked(self) -> Self:
        unscored = [place for place, r in enumerate(self.responses) if r.score is None]
        if unscored:
            raise ValueError(
                f"ranking of sample {self.sample_id!r}: responses {unscored} have no score; "
                f"give every response one"
            )
        if len({response.score for response in self.responses}) == 1:
            raise ValueError(
                f"ranking of sample {self.sample_id!r}: all {len(self.responses)} responses have "
                f"the same score, which ranks none above another; drop the sample"
            )
        if not self.id:
            object.__setattr__(self, "id", self.content_id())
        return self


def labelled_of(pair: PreferencePair) -> tuple[LabelledResponse, LabelledResponse]:
    """The sides of a pair as a wanted and an unwanted response."""
    chosen, rejected = (
        LabelledResponse(
            sample_id=pair.sample_id,
            prompt=pair.prompt,
            response=side,
            desirable=desirable,
            tools=pair.tools,
            metadata=pair.metadata,
            lineage=pair.lineage,
        )
        for side, desirable in ((pair.chosen, True), (pair.rejected, False))
    )
    return chosen, rejected


def ranked_of(pair: PreferencePair) -> RankedResponses:
    """A pair as a ranking of two: scores that do not rank the chosen side higher become 1 and 0."""
    scores = (pair.chosen.score, pair.rejected.score)
    if scores[0] is None or scores[1] is None or scores[0] <= scores[1]:
        scores = (1.0, 0.0)
    return RankedResponses(
        sample_id=pair.sample_id,
        prompt=pair.prompt,
        responses=tuple(
            side.model_copy(update={"score": score})
            for side, score in zip((pair.chosen, pair.rejected), scores, strict=True)
        ),
        tools=pair.tools,
        metadata=pair.metadata,
        lineage=pair.lineage,
    )
