"""A transformers model in this process, which answers concurrent requests in batches."""

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from mmalign.config import Config
from mmalign.errors import CapabilityError, ConfigError, ModelCallError
from mmalign.media import FrameCache, FrameSampling, default_cache
from mmalign.models.batching import Batcher
from mmalign.models.clip_comparison import ClipComparison
from mmalign.models.continuous import ContinuousBatcher
from mmalign.models.decoding import (
    Draw,
    Drawn,
    Scored,
    media_features,
    predicting_states,
    require_room,
    score_batch,
)
from mmalign.models.families import (
    EncodedCompletion,
    EncodedPrompt,
    ModelFamily,
    PreparedMedia,
    family_for,
    media_kinds,
)
from mmalign.models.families.loading import bare_model
from mmalign.models.media_memory import MediaMemory
from mmalign.models.protocol import Capability, Completion, Sampling, TokenLogprobs, Usage
from mmalign.models.reading import read_media
from mmalign.models.running_batch import RunningBatch
from mmalign.models.token_sampling import TokenSampling, end_tokens
from mmalign.records import MediaRef, Message, canonical_json, text_of

__all__ = ["TransformersChatModel", "TransformersModelConfig"]

Value = TypeVar("Value")

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersModelConfig(Config):
    """Weights that are loaded into this process."""

    backend: Literal["transformers"] = "transformers"
    model_name_or_path: str = Field(min_length=1)
    """A folder or a name on the hub; weights must be safetensors."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    adapter: str | None = None
    """Folder of a PEFT adapter that is put on top."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on a GPU, float32 elsewhere."""
    device: str = "auto"
    """auto: the first GPU if there is one."""
    attn_implementation: str | None = None
    """sdpa, eager, flash_attention_2 ...; None leaves the choice to transformers."""
    max_batch_size: int = Field(default=32, ge=1)
    """Most completions that are computed together."""
    max_batch_tokens: int = Field(default=32768, ge=1)
    """Most tokens of a batch, padding included."""
    batch_window_s: float = Field(default=0.005, ge=0)
    """How long an idle model waits for further requests."""
    num_threads: int = Field(default=2, ge=1)
    """Threads that decode and prepare media."""
    frame_cache: bool = True
    """Keep decoded frames in the cache folder."""
    media_memory_mb: int = Field(default=256, ge=0)
    """Prepared media that are kept in memory for further questions about the same clip."""


class TransformersChatModel(ClipComparison, TokenSampling):
    """A ChatModel over weights in this process.

    May be used from several threads and event loops. Whoever changes the weights does it inside
    `paused()`; requests that wait are then answered by the new weights.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        family: ModelFamily,
        sampling: FrameSampling,
        *,
        name: str = "in-process",
        identity: Mapping[str, Any] | None = None,
        max_batch_size: int = 32,
        max_batch_tokens: int = 32768,
        batch_window_s: float = 0.005,
        num_threads: int = 2,
        frame_cache: FrameCache | None = None,
        media_memory_mb: int = 256,
    ) -> None:
        """Wrap what is there already.

        Args:
            model: Of the family's class, with or without a PEFT wrapper, on its device.
            processor: The family's processor or tokenizer.
            family: Of the model.
            sampling: Which frames of a clip the model sees.
            name: Name and revision; states which weights answer, so it changes with them.
            identity: Further settings that change the answers.
            max_batch_size: Most completions that are computed together.
            max_batch_tokens: Most tokens of a batch, padding included.
            batch_window_s: How long an idle model waits for further requests.
            num_threads: Threads that decode and prepare media.
            frame_cache: Where decoded frames are looked for and kept.
            media_memory_mb: Prepared media that are kept in memory.
        """
        self._model = model
        self._processor = processor
        self._family = family
        self._sampling = sampling
        self._name = name
        self._identity = dict(identity or {})
        self._frame_cache = frame_cache
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._end_ids = _end_ids(model, processor, family)
        self._weights = threading.RLock()
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="mmalign-media")
        self._media = MediaMemory(media_memory_mb * 2**20)
        limits = {"max_batch_size": max_batch_size, "max_batch_tokens": max_batch_tokens}
        self._draws = ContinuousBatcher(
            self._decoding, **limits, window_s=batch_window_s, name="mmalign-draw"
        )
        self._scores: Batcher[Scored, Sequence[float]] = Batcher(
            self._score, **limits, window_s=batch_window_s, name="mmalign-score"
        )

    @classmethod
    def load(cls, config: TransformersModelConfig, sampling: FrameSampling) -> Self:
        """Read the weights; from the hub only if they are no folder and the hub is allowed.

        Raises:
            ConfigError: No family serves the model, or something is missing.
        """
        path = config.model_name_or_path
        try:
            model_config = AutoConfig.from_pretrained(
                path, revision=config.revision or "main", trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"model {path!r} cannot be loaded: {error}") from error
        family = family_for(model_config)
        on_gpu = torch.cuda.is_available()
        device = config.device if config.device != "auto" else "cuda" if on_gpu else "cpu"
        dtype = config.dtype
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        model, processor = family.load(
            path,
            dtype=_DTYPES[dtype],
            device=device,
            revision=config.revision,
            attn_implementation=config.attn_implementation,
        )
        if config.adapter is not None:
            model = _with_adapter(model, Path(config.adapter))
        commit = config.revision or getattr(model_config, "_commit_hash", None)
        return cls(
            model,
            processor,
            family,
            sampling,
            name=f"{path}@{commit}" if commit else path,
            identity={
                "weights": _weights_hash(Path(path)) if Path(path).is_dir() else None,
                "adapter": _weights_hash(Path(config.adapter)) if config.adapter else None,
                "dtype": dtype,
                "attn_implementation": config.attn_implementation,
            },
            max_batch_size=config.max_batch_size,
            max_batch_tokens=config.max_batch_tokens,
            batch_window_s=config.batch_window_s,
            num_threads=config.num_threads,
            frame_cache=default_cache() if config.frame_cache else None,
            media_memory_mb=config.media_memory_mb,
        )

    @property
    def name(self) -> str:
        """Name and revision."""
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, what the processor reads, and everything about tokens; no tools, no schema."""
        media: tuple[Capability, ...] = ("image", "video", "audio")
        always: frozenset[Capability] = frozenset({"text", "logprobs", "score", "token_ids"})
        return always | {kind for kind in media if kind in media_kinds(self._processor)}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Frame sampling and what the weights are."""
        return {
            "backend": "transformers",
            "frame_sampling": self._sampling.model_dump(mode="json"),
            **self._identity,
        }

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        sampling: Sampling = Sampling(),
        tools: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> tuple[Completion, ...]:
        """Answer the chat n times; with a seed, the same n answers whatever else is asked.

        Raises:
            CapabilityError: Tools, a schema or a kind of media that the model does not know.
            RecordError: The prompt cannot be encoded.
            ModelCallError: It does not fit into memory.
            MediaError: A clip of the prompt cannot be decoded.
        """
        if tools:
            raise self._cannot("tools", "does not parse calls out of its text")
        if response_schema is not None:
            raise self._cannot("schema", "cannot hold its text to a JSON schema")
        prompt = await self.encode_messages(messages)
        first = secrets.randbits(63) if seed is None else seed
        futures = [
            self._submit(
                Draw(
                    prompt,
                    seed=_draw_seed(first, index),
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_completion_length,
                    stop=sampling.stop,
                )
            )
            for index in range(n)
        ]
        drawn = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        return tuple(self._completion(prompt, item, sampling) for item in drawn)

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """Log-probabilities of a given completion, token by token, end of turn included.

        Raises:
            CapabilityError: The prompt holds a kind of media that the model does not know.
            RecordError: The chat template does not let a completion follow the prompt.
            ModelCallError: It does not fit into memory.
            MediaError: A clip of the prompt cannot be decoded.
        """
        prompt = await self.encode_messages(messages)
        answer = await self.encode_answer(messages, completion)
        require_room(self._model, prompt, num_answer_tokens=len(answer.input_ids))
        future = self._scores.submit(
            Scored(prompt, answer.input_ids),
            num_tokens=len(prompt.input_ids) + len(answer.input_ids),
        )
        logprobs: Sequence[float] = await asyncio.wrap_future(future)
        return self._token_logprobs(answer.input_ids.tolist(), logprobs)

    async def close(self) -> None:
        """Answer what was asked, end the threads, let go of the weights."""
        await asyncio.to_thread(self._draws.close)
        await asyncio.to_thread(self._scores.close)
        self._pool.shutdown()
        self._media.clear()
        del self._model

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold all requests back while the weights or their modes are being changed."""
        with self._draws.requests.held(), self._weights:  # what is being drawn is drawn to its end
            yield

    async def encode_messages(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> EncodedPrompt:
        """A prompt as the model takes it.

        Raises:
            CapabilityError: It holds a kind of media that the model does not know.
            RecordError: It cannot be encoded.
            MediaError: A clip cannot be decoded.
        """
        for message in messages:
            for ref in message.media:
                if ref.kind not in self.capabilities:
                    raise self._cannot(ref.kind, f"cannot take in {ref.uri}")
        return await self._in_pool(lambda: self._encode_now(messages, tools))

    async def encode_answer(self, messages: Sequence[Message], response: str) -> EncodedCompletion:
        """A response to a prompt, end of turn included."""
        return await self._in_pool(
            lambda: self._family.encode_completion(self._processor, messages, [text_of(response)])
        )

    def features_of(self, prompts: Sequence[EncodedPrompt]) -> Sequence[Tensor]:
        """[M, D] of each prompt's media tokens, in order, without gradient."""
        with self._evaluating(), torch.no_grad():
            found = media_features(self._model, self._family, prompts)
        if found is None:
            raise CapabilityError("found prompts without media, expected clips to compare")
        return torch.split(found, [prompt.num_media_tokens for prompt in prompts])

    def states_of(
        self, prompts: Sequence[EncodedPrompt], answer: EncodedCompletion
    ) -> tuple[Tensor, nn.Module]:
        """[N, R, H] states that predict the answer behind each prompt, and the vocabulary head."""
        items = [Scored(prompt, answer.input_ids) for prompt in prompts]
        for prompt in prompts:
            require_room(self._model, prompt, num_answer_tokens=len(answer.input_ids))
        with self._evaluating():
            states = predicting_states(self._model, self._family, items)
        return torch.unflatten(states, 0, (len(prompts), -1)), self._family.head(self._model)

    async def draw_behind(self, draw: Draw) -> Drawn:
        """The tokens that follow prompt and tail.

        Raises:
            CapabilityError: The model has no positions for them.
            ModelCallError: They do not fit into memory.
        """
        return await asyncio.wrap_future(self._submit(draw))

    def _submit(self, draw: Draw) -> "Future[Drawn]":
        num_tokens = len(draw.tail) + draw.max_tokens
        require_room(self._model, draw.prompt, num_answer_tokens=num_tokens)
        return self._draws.submit(draw, num_tokens=len(draw.prompt.input_ids) + num_tokens)

    def _encode_now(self, messages: Sequence[Message], tools: Sequence[str] = ()) -> EncodedPrompt:
        refs = [ref for message in messages for ref in message.media]
        key = canonical_json([ref.model_dump(mode="json") for ref in refs])
        media = self._media.get(key, lambda: self._prepare(refs))
        return self._family.encode_prompt(self._processor, messages, media, tools=tools)

    def _prepare(self, refs: Sequence[MediaRef]) -> PreparedMedia:
        decoded = read_media(self._processor, refs, self._sampling, cache=self._frame_cache)
        return self._family.prepare_media(self._processor, decoded)

    async def _in_pool(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @contextmanager
    def _decoding(self) -> Iterator[RunningBatch]:
        with self._evaluating():
            yield RunningBatch(self._model, self._family, self._tokenizer, end_ids=self._end_ids)

    def _score(self, items: Sequence[Scored]) -> list[list[float]]:
        with self._evaluating():
            return _halving(lambda part: score_batch(self._model, self._family, part), items)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The weights for ourselves, dropout off, and everything as it was afterwards."""
        with self._weights:
            was_training = self._model.training
            self._model.eval()  # type: ignore[no-untyped-call]  # transformers' stub
            try:
                yield
            finally:
                if was_training:
                    self._model.train()

    def _completion(self, prompt: EncodedPrompt, drawn: Drawn, sampling: Sampling) -> Completion:
        ids = drawn.token_ids
        text = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        cuts = [place for place in (text.find(stop) for stop in sampling.stop) if place >= 0]
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            finish_reason=drawn.finish_reason,
            logprobs=self._token_logprobs(ids, drawn.logprobs) if sampling.logprobs else None,
            usage=Usage(prompt_tokens=len(prompt.input_ids), completion_tokens=len(ids)),
            model=self._name,
        )

    def _token_logprobs(self, ids: Sequence[int], logprobs: Sequence[float]) -> TokenLogprobs:
        tokens = tuple(str(self._tokenizer.decode([token])) for token in ids)
        return TokenLogprobs(token_ids=tuple(ids), tokens=tokens, logprobs=tuple(logprobs))

    def _cannot(self, what: str, why: str) -> CapabilityError:
        return CapabilityError(
            f"model {self._name!r} was asked for {what!r}, but {why}; it can do "
            f"{', '.join(sorted(self.capabilities))}. Use another model or an "
            f"OpenAI-compatible server"
        )


def _halving(compute: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """The answers; where a batch does not fit into memory, those of its halves."""
    try:
        return compute(items)
    except torch.OutOfMemoryError as error:
        if len(items) == 1:
            num_tokens = len(items[0].prompt.input_ids)
            raise ModelCallError(
                f"one request of {num_tokens} prompt tokens "
                f"({items[0].prompt.num_media_tokens} of them media) does not fit into the GPU's "
                f"memory; sample fewer or smaller frames"
            ) from error
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return _halving(compute, items[:middle]) + _halving(compute, items[middle:])


def _end_ids(model: PreTrainedModel, processor: Any, family: ModelFamily) -> frozenset[int]:
    """What the model's settings, its tokenizer or its chat template end an answer with."""
    settings = getattr(bare_model(model), "generation_config", None)
    configured = getattr(settings, "eos_token_id", None)
    ids = configured if isinstance(configured, (list, tuple)) else [configured]
    return end_tokens(processor, family) | {token for token in ids if token is not None}


def _draw_seed(seed: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}\x1f{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _with_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise ConfigError(
            f"{folder}: holds no adapter_model.safetensors; give a folder that PEFT saved"
        )
    adapted: Any = PeftModel.from_pretrained(model, str(folder)).eval()
    return adapted  # type: ignore[no-any-return]  # a wrapper that acts as its model


def _weights_hash(folder: Path) -> str:
    """Of a folder's weights and settings, so that a retrained model is another one."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()
