"""Records as encoded examples, and examples as batches of prompts with branches."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmalign.errors import MmalignError, RecordError
from mmalign.media import FrameCache, FrameSampling, load_audio, load_image, load_video
from mmalign.models.families import DecodedMedia, EncodedCompletion, EncodedPrompt, ModelFamily
from mmalign.records import (
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    Response,
    Sample,
    canonical_json,
    text_of,
)
from mmalign.records.spans import phrase_ids_of
from mmalign.training.forward import Row

__all__ = ["Batch", "Encoder", "Example", "ExampleDataset", "collate"]


@dataclass(frozen=True)
class Example:
    """One record, ready for the forward pass."""

    id: str
    rows: tuple[Row, ...]
    """One row where the sides share prompt and media, else one row a side."""
    phrase_ids: tuple[Tensor, ...]
    """Per branch [R] int64: 0 on tokens outside every span."""
    tags: Mapping[str, str]

    @property
    def num_tokens(self) -> int:
        """Tokens that the forward pass sees."""
        return sum(
            len(row.prompt.input_ids) + sum(len(b.input_ids) for b in row.branches)
            for row in self.rows
        )


@dataclass(frozen=True)
class Batch:
    """Examples of one micro-batch."""

    examples: tuple[Example, ...]

    @property
    def rows(self) -> list[Row]:
        """All rows, example by example."""
        return [row for example in self.examples for row in example.rows]

    @property
    def branches(self) -> list[EncodedCompletion]:
        """All branches in the order of the forward pass."""
        return [branch for row in self.rows for branch in row.branches]

    @property
    def num_scored_tokens(self) -> int:
        """Tokens of all branches that the model wrote."""
        return sum(int(branch.mask.sum()) for branch in self.branches)

    def to(self, device: torch.device | str, **_: object) -> Self:
        """The same batch with its tensors on a device (called by accelerate)."""
        return type(self)(
            tuple(
                Example(
                    example.id,
                    tuple(row.to(device) for row in example.rows),
                    tuple(ids.to(device) for ids in example.phrase_ids),
                    example.tags,
                )
                for example in self.examples
            )
        )


def collate(examples: Sequence[Example]) -> Batch:
    """A batch; padding happens in the forward pass, where the layout is known."""
    return Batch(tuple(examples))


class Encoder:
    """Turns records into examples for one model family; keeps media tensors of recent clips."""

    def __init__(
        self,
        family: ModelFamily,
        processor: Any,  # transformers' processors share no typed base
        sampling: FrameSampling,
        *,
        cache: FrameCache | None = None,
        keep_prompts: int = 4096,
    ) -> None:
        self.family = family
        self.processor = processor
        self.sampling = sampling
        self._cache = cache
        self._prompts: OrderedDict[str, EncodedPrompt] = OrderedDict()
        self._media: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        self._keep = keep_prompts

    def pair(self, pair: PreferencePair) -> Example:
        """A preference pair: chosen branch first, rejected branch second."""
        sides = (pair.chosen, pair.rejected)
        prompts = [_with_media(pair.prompt, side.media) for side in sides]
        tools = [side.tools if side.tools is not None else pair.tools for side in sides]
        branches = [self._completion(prompts[i], side) for i, side in enumerate(sides)]
        encoded = [self.prompt(prompts[i], tools=tools[i]) for i in range(2)]
        if encoded[0] is encoded[1]:
            rows: tuple[Row, ...] = (Row(encoded[0], tuple(branches)),)
        else:
            rows = tuple(Row(p, (b,)) for p, b in zip(encoded, branches, strict=True))
        phrase_ids = tuple(
            torch.tensor(phrase_ids_of(branch.offsets, side.spans), dtype=torch.long)
            for branch, side in zip(branches, sides, strict=True)
        )
        return Example(
            pair.id, rows, phrase_ids, {"graph": pair.lineage.graph or "", **pair.lineage.tags}
        )

    def sample(self, sample: Sample) -> Example:
        """A supervised example: the gold answer is the only branch.

        Raises:
            RecordError: The sample has no answer.
        """
        if not sample.answer or not sample.answer.strip():
            raise RecordError(
                f"sample {sample.id!r}: a question without an answer cannot be learnt from; "
                f"give it an answer or leave it out"
            )
        branch = self.family.encode_completion(
            self.processor, sample.messages, (text_of(sample.answer),)
        )
        tags = {k: v for k, v in sample.metadata.items() if isinstance(v, str)}
        no_phrases = torch.zeros(len(branch.input_ids), dtype=torch.long)
        return Example(
            sample.id, (Row(self.prompt(sample.messages), (branch,)),), (no_phrases,), tags
        )

    def prompt(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> EncodedPrompt:
        """A prompt's ids and media; the same object for the same prompt while it is kept."""
        key = canonical_json([[m.model_dump(mode="json") for m in messages], list(tools)])
        found = self._prompts.get(key)
        if found is None:
            refs = [ref for message in messages for ref in message.media]
            found = self.family.encode_prompt(
                self.processor, messages, [self._decode(ref) for ref in refs], tools=tools
            )
            media_key = canonical_json([ref.model_dump(mode="json") for ref in refs])
            shared = _remember(self._media, media_key, found.media, self._keep)
            found = EncodedPrompt(found.input_ids, shared, found.token_types)
            _remember(self._prompts, key, found, self._keep)
        return found

    def _completion(self, prompt: Sequence[Message], side: Response) -> EncodedCompletion:
        return self.family.encode_completion(self.processor, prompt, side.messages)

    def _decode(self, ref: MediaRef) -> DecodedMedia:
        if ref.kind == "video":
            return load_video(ref, self.sampling, cache=self._cache)
        return load_audio(ref) if ref.kind == "audio" else load_image(ref)


class ExampleDataset(Dataset[Example]):
    """Records that are encoded when they are drawn; an error names the record."""

    def __init__(self, records: Sequence[Any], encode: Callable[[Any], Example]) -> None:
        self.records = records
        self._encode = encode

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        try:
            return self._encode(self.records[index])
        except MmalignError as error:
            error.add_note(f"while encoding record {self.records[index].id!r} ({index})")
            raise


def _with_media(prompt: Sequence[Message], media: Sequence[MediaRef] | None) -> tuple[Message, ...]:
    """The prompt with its media replaced one for one."""
    if media is None:
        return tuple(prompt)
    replacement = iter(media)
    return tuple(
        message.model_copy(
            update={
                "content": tuple(
                    MediaPart(media=next(replacement)) if isinstance(part, MediaPart) else part
                    for part in message.content
                )
            }
        )
        for message in prompt
    )


def _remember(kept: OrderedDict[str, Any], key: str, value: Any, limit: int) -> Any:
    """The value that is kept under the key, which is this one unless there was one."""
    value = kept.setdefault(key, value)
    kept.move_to_end(key)
    if len(kept) > limit:
        kept.popitem(last=False)
    return value
