"""Records as encoded examples, and examples as batches of prompts with branches."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmalign.errors import CapabilityError, MmalignError, RecordError
from mmalign.media import (
    FrameCache,
    FrameSampling,
    VideoInfo,
    audio_num_samples,
    probe,
    sample_indices,
)
from mmalign.models.families import (
    AUDIO,
    VIDEO,
    EncodedCompletion,
    EncodedPrompt,
    ModelFamily,
    PreparedMedia,
    WritesClips,
    sound_rate_hz,
)
from mmalign.models.reading import read_media
from mmalign.records import (
    LabelledResponse,
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    RankedResponses,
    Response,
    Sample,
    canonical_json,
    text_of,
)
from mmalign.records.spans import phrase_ids_of
from mmalign.training.batching import RecordSize
from mmalign.training.fingerprints import media_fingerprint, prompt_fingerprint
from mmalign.training.forward import Row

__all__ = ["Batch", "Encoder", "Example", "ExampleDataset", "SampleDataset", "collate"]


_PROMPTS_KEPT = 16
"""For who asks several times about the clips of one sample; more would hold too many clips."""


@dataclass(frozen=True)
class Example:
    """One record, ready for the forward pass."""

    id: str
    rows: tuple[Row, ...]
    """One row where the sides share prompt and media, else one row a side."""
    phrase_ids: tuple[Tensor, ...]
    """Per branch [R] int64: 0 on tokens outside every span."""
    tags: Mapping[str, str]
    scores: tuple[float, ...] = ()
    """Per branch, as the record has it; NaN where it has none."""
    weight: float = 1.0
    """How much the record counts: `weight` of its metadata, where it has one."""
    desirable: bool | None = None
    """Of a labelled response."""

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
                replace(
                    example,
                    rows=tuple(row.to(device) for row in example.rows),
                    phrase_ids=tuple(ids.to(device) for ids in example.phrase_ids),
                )
                for example in self.examples
            )
        )


def collate(examples: Sequence[Example]) -> Batch:
    """A batch; padding happens in the forward pass, where the layout is known."""
    return Batch(tuple(examples))


class Encoder:
    """Turns records into examples for one model family; keeps the media of recent clips prepared.

    Args:
        family: Of the model.
        processor: The one that belongs to the model.
        sampling: Which frames of a clip are seen.
        cache: Decoded frames on disk.
        sizes_only: Never decode; the examples have the right lengths and no media. For planning.
        with_keys: Name prompts and media by their content, for which files are read.
        keep_bytes: Prepared media that stay in memory, the most recently used of them.
    """

    def __init__(
        self,
        family: ModelFamily,
        processor: Any,
        sampling: FrameSampling,
        *,
        cache: FrameCache | None = None,
        sizes_only: bool = False,
        with_keys: bool = True,
        keep_bytes: int = 2**32,
    ) -> None:
        self.family = family
        self.processor = processor
        self.sampling = sampling
        self._cache = cache
        self._prepare = self._measure if sizes_only else self._decode
        self._media: OrderedDict[str, PreparedMedia] = OrderedDict()
        self._num_bytes = 0
        self._keep_bytes = keep_bytes
        self._prompts: OrderedDict[str, EncodedPrompt] = OrderedDict()
        self._with_keys = with_keys

    def for_planning(self, *, with_keys: bool = False) -> "Encoder":
        """The same encoder without decoding."""
        return Encoder(
            self.family, self.processor, self.sampling, sizes_only=True, with_keys=with_keys
        )

    def pair(self, pair: PreferencePair) -> Example:
        """A preference pair: chosen branch first, rejected branch second.

        Raises:
            RecordError: A side shows the clip as it was spoilt to provoke the wrong answer.
        """
        sides = (pair.chosen, pair.rejected)
        _require_clean_media(pair, sides)
        return self._responses(pair, sides)

    def ranking(self, ranking: RankedResponses) -> Example:
        """Ranked responses, a branch each, in the record's order.

        Raises:
            RecordError: A response shows the clip as it was spoilt to provoke a wrong answer.
        """
        _require_clean_media(ranking, ranking.responses)
        return self._responses(ranking, ranking.responses)

    def labelled(self, labelled: LabelledResponse) -> Example:
        """A labelled response: one branch.

        Raises:
            RecordError: It shows the clip as it was spoilt to provoke a wrong answer.
        """
        _require_clean_media(labelled, (labelled.response,))
        example = self._responses(labelled, (labelled.response,))
        return replace(example, desirable=labelled.desirable)

    def _responses(
        self,
        record: PreferencePair | RankedResponses | LabelledResponse,
        responses: Sequence[Response],
    ) -> Example:
        """Branches behind one row where all responses share prompt, media and tools."""
        prompts = [_with_media(record.prompt, response.media) for response in responses]
        tools = [r.tools if r.tools is not None else record.tools for r in responses]
        branches = tuple(
            _without_observed(
                self.family.encode_completion(self.processor, prompt, response.messages), response
            )
            for prompt, response in zip(prompts, responses, strict=True)
        )
        if all(p == prompts[0] for p in prompts) and all(t == tools[0] for t in tools):
            rows: tuple[Row, ...] = (Row(self.prompt(prompts[0], tools=tools[0]), branches),)
        else:
            rows = tuple(
                Row(self.prompt(prompt, tools=tool), (branch,))
                for prompt, tool, branch in zip(prompts, tools, branches, strict=True)
            )
        phrase_ids = tuple(
            torch.tensor(phrase_ids_of(branch.offsets, response.spans), dtype=torch.long)
            for branch, response in zip(branches, responses, strict=True)
        )
        tags = {"graph": record.lineage.graph or "", **record.lineage.tags}
        scores = tuple(math.nan if r.score is None else r.score for r in responses)
        weight = record.metadata.get("weight", 1.0)
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise RecordError(
                f"record {record.id!r}: metadata.weight is {weight!r}, expected a number >= 0"
            )
        return Example(record.id, rows, phrase_ids, tags, scores=scores, weight=float(weight))

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

    def answer(self, record: Sample | LabelledResponse) -> Example:
        """A supervised example: the gold answer, or a wanted response, is the only branch.

        Raises:
            RecordError: The sample has no answer; the response is not wanted, or shows the clip as
                it was spoilt.
        """
        if isinstance(record, Sample):
            return self.sample(record)
        if not record.desirable:
            raise RecordError(
                f"record {record.id!r}: an unwanted response cannot be learnt from as an answer; "
                f"leave it out"
            )
        return self.labelled(record)

    def sides_of(self, sample: Sample) -> Example:
        """As large as a pair whose sides show two clips, for planning; both show the sample's.

        Raises:
            RecordError: The sample has no answer.
        """
        example = self.sample(sample)
        return replace(example, rows=example.rows * 2, phrase_ids=example.phrase_ids * 2)

    def prompt(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> EncodedPrompt:
        """A prompt's ids and media; prompts about the same clips share their tensors."""
        asked = canonical_json([list(tools), *(m.model_dump(mode="json") for m in messages)])
        if asked not in self._prompts:
            self._prompts[asked] = self._encode_prompt(messages, tools)
        self._prompts.move_to_end(asked)
        if len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return self._prompts[asked]

    def _encode_prompt(self, messages: Sequence[Message], tools: Sequence[str]) -> EncodedPrompt:
        refs = [ref for message in messages for ref in message.media]
        key = canonical_json([ref.model_dump(mode="json") for ref in refs])
        media = self._media.pop(key, None)
        if media is None:
            media = self._prepare(refs)
            self._num_bytes += _num_bytes(media)
        self._media[key] = media
        while self._num_bytes > self._keep_bytes and len(self._media) > 1:
            self._num_bytes -= _num_bytes(self._media.popitem(last=False)[1])
        encoded = self.family.encode_prompt(self.processor, messages, media, tools=tools)
        if not self._with_keys:
            return encoded
        return replace(
            encoded,
            media_key=media_fingerprint(refs, self.sampling) if refs else "",
            key=prompt_fingerprint(messages, tools, self.sampling),
        )

    def _decode(self, refs: Sequence[MediaRef]) -> PreparedMedia:
        decoded = read_media(self.processor, refs, self.sampling, cache=self._cache)
        return self.family.prepare_media(self.processor, decoded)

    def _measure(self, refs: Sequence[MediaRef]) -> PreparedMedia:
        """Token counts of clips and sounds by arithmetic; pictures are small enough to decode."""
        if any(ref.kind == "image" for ref in refs):
            return self._decode(refs)
        kinds = tuple(VIDEO if ref.kind == "video" else AUDIO for ref in refs)
        counts = tuple(map(self._num_tokens, refs))
        texts: tuple[str, ...] = ()
        if isinstance(self.family, WritesClips):
            texts = tuple(map(self._clip_text, refs, counts))
        return PreparedMedia({}, kinds, counts, texts)

    def _num_tokens(self, ref: MediaRef) -> int:
        """Of a clip or a sound, from the header of its file."""
        if ref.kind == "audio":
            num_frames = audio_num_samples(ref, sample_rate_hz=sound_rate_hz(self.processor))
            height = width = 1
        else:
            info = probe(ref.uri)
            num_frames = len(self._times_s(ref, info))
            height, width = self.sampling.resize or (info.height, info.width)
        try:
            return self.family.media_token_count(
                self.processor, ref.kind, num_frames=num_frames, height=height, width=width
            )
        except CapabilityError as error:
            raise CapabilityError(f"{ref.uri}: {error}") from error

    def _clip_text(self, ref: MediaRef, num_tokens: int) -> str:
        assert isinstance(self.family, WritesClips)
        info = probe(ref.uri)
        return self.family.clip_text(
            self.processor,
            num_tokens=num_tokens,
            timestamps_s=self._times_s(ref, info),
            fps=info.fps,
        )

    def _times_s(self, ref: MediaRef, info: VideoInfo) -> npt.NDArray[np.float64]:
        """[F] of the frames that will be seen, if they stand at the source's mean rate."""
        start_s, end_s = ref.start_s or 0.0, min(ref.end_s or info.duration_s, info.duration_s)
        num_source = max(1, round((end_s - start_s) * info.fps))
        return start_s + sample_indices(num_source, info.fps, self.sampling) / info.fps


class ExampleDataset(Dataset[Example]):
    """Records that are encoded when they are drawn; an error names the record.

    Args:
        records: What is learnt from.
        encode: Makes examples of them.
        sizes: Planned tokens of each record, where they were counted.
    """

    def __init__(
        self,
        records: Sequence[Any],
        encode: Callable[[Any], Example],
        *,
        sizes: Sequence[RecordSize] | None = None,
    ) -> None:
        self.records = records
        self.sizes = sizes
        self._encode = encode

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        try:
            return self._encode(self.records[index])
        except MmalignError as error:
            error.add_note(f"while encoding record {self.records[index].id!r} ({index})")
            raise


class SampleDataset(Dataset[Sample]):
    """Samples as they are, for a trainer that makes records of them when their turn comes.

    Args:
        samples: What is learnt from.
        sizes: Planned tokens of each.
    """

    def __init__(self, samples: Sequence[Sample], sizes: Sequence[RecordSize]) -> None:
        self.samples = samples
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


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


def _without_observed(branch: EncodedCompletion, response: Response) -> EncodedCompletion:
    """The response without loss on tokens that share a character with what a tool wrote."""
    if not response.observed:
        return branch
    is_observed = [
        any(max(start, a) < min(end, b) for a, b in response.observed)
        for start, end in branch.offsets
    ]
    return replace(branch, mask=branch.mask & ~torch.tensor(is_observed))


def _num_bytes(media: PreparedMedia) -> int:
    return sum(tensor.nbytes for tensor in media.tensors.values())


def _require_clean_media(
    record: PreferencePair | RankedResponses | LabelledResponse, responses: Sequence[Response]
) -> None:
    spoilt = set(map(str, record.lineage.operations))
    shared = [ref for message in record.prompt for ref in message.media]
    for ref in (*shared, *(ref for response in responses for ref in response.media or ())):
        if spoilt & set(map(str, ref.operations)):
            raise RecordError(
                f"record {record.id!r}: {ref.uri} carries the operations that were only to "
                f"provoke a wrong answer; records show the original clip. Build it again"
            )
