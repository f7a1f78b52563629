"""References to media: never pixels, only where they are and what is done on reading."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mmalign.records.base import JsonDict, Record

__all__ = ["MediaOperation", "MediaRef"]


class MediaOperation(Record):
    """One seeded change to a clip, applied each time the clip is decoded."""

    name: str
    params: JsonDict = {}
    seed: int | None = None
    """Together with `name` and `params` it fixes the result bit for bit."""
    stage: Literal["before_sampling", "after_sampling"] = "after_sampling"
    """On the source's time axis, or on the frames that the model will see."""
    other: "MediaRef | None" = None
    """The second clip of an operation that needs one (swap)."""


class MediaRef(Record):
    """Names a media file, a part of it, and what happens to it when it is read."""

    kind: Literal["video", "audio", "image"]
    uri: str
    """A path, relative ones against the working folder, or a data: URI."""
    content_hash: str | None = None
    """blake2b-128 of the file's bytes in hexadecimal digits, where it is known."""
    start_s: Annotated[float, Field(ge=0)] | None = None
    end_s: Annotated[float, Field(gt=0)] | None = None
    operations: tuple[MediaOperation, ...] = ()

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise ValueError(
                f"{self.uri}: the range {self.start_s}-{self.end_s} s is empty; "
                f"give start_s < end_s"
            )
        return self

    def id_content(self) -> dict[str, Any]:
        """Without the URI where the content hash is known: a moved file keeps its records' ids."""
        content = super().id_content()
        if self.content_hash is not None:
            del content["uri"]
        return content

    def then(self, *operations: MediaOperation) -> Self:
        """The same media with further operations after those it has."""
        return self.model_copy(update={"operations": self.operations + operations})


MediaOperation.model_rebuild()
