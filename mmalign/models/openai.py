"""A model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp or a hosted one."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from mmalign.errors import CapabilityError, ConfigError, ModelCallError, ModelResponseError
from mmalign.models.media_parts import PictureFormat, VideoForm, wire_messages
from mmalign.models.protocol import Capability, Completion, Sampling, TokenLogprobs
from mmalign.models.scoring import ScoreRoute, read_echo, read_prompt_logprobs, render_chat
from mmalign.models.transport import ModelServer, ServerConfig, together
from mmalign.models.wire import Answer, read_answer
from mmalign.records import Message, text_of

if TYPE_CHECKING:
    from mmalign.media import FrameSampling

__all__ = ["OpenAIChatModel", "OpenAIModelConfig"]

_log = logging.getLogger(__name__)

_OURS = {
    "model",
    "messages",
    "prompt",
    "n",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "logprobs",
    "tools",
    "response_format",
    "seed",
    "stream",
}


class OpenAIModelConfig(ServerConfig):
    """A model of an OpenAI-compatible server, and what that server can do."""

    backend: Literal["openai"] = "openai"
    model: str = Field(min_length=1)
    """Name that the server knows it by."""
    revision: str | None = None
    """Which weights the server loaded; part of the ledger's key, never sent."""
    image: bool = True
    """The server takes pictures."""
    video: VideoForm = "frames"
    """frames: as pictures; video_jpeg: the same frames as one video (vLLM); video_url: the file,
    from which the server samples frames by its own rule (vLLM, SGLang)."""
    audio: bool = False
    """Sent as input_audio, 16 kHz WAV."""
    picture_format: PictureFormat = "jpeg"
    """Of pictures and frames; png loses nothing and is larger."""
    tools: bool = True
    """The server calls functions."""
    response_schema: Literal["json_schema", "prompt", "refuse"] = "json_schema"
    """json_schema: the server enforces it; prompt: only asked for, for servers that refuse it."""
    logprobs: bool = True
    """The server gives log-probabilities of what it sampled."""
    score: ScoreRoute | None = None
    """prompt_logprobs: the chat endpoint lists the prompt's log-probabilities (vLLM); echo: the
    completions endpoint repeats its text prompt with them."""
    chat_template: str | None = None
    """Jinja source for score: echo; without it the messages' texts are joined (base models)."""
    length_key: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """Older servers know only max_tokens."""
    seeded_choices: bool = False
    """The server draws different choices from one seed (vLLM): seeded draws share a request."""
    extra_body: dict[str, Any] = {}
    """Further keys of the request (top_k, chat_template_kwargs ...)."""

    @field_validator("extra_body")
    @classmethod
    def _leaves_our_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(_OURS & value.keys()):
            raise ValueError(f"extra_body sets {', '.join(taken)}, which mmalign sets itself")
        return value


class OpenAIChatModel:
    """A ChatModel that calls an OpenAI-compatible server.

    May be used from several event loops, one after another or each in its thread.
    """

    def __init__(self, config: OpenAIModelConfig, sampling: "FrameSampling") -> None:
        self._config = config
        self._sampling = sampling
        self._server = ModelServer(config, config.model)
        self._one_choice_only = False
        self._told_no_usage = False

    @property
    def name(self) -> str:
        """The model, with its revision where the recipe states it."""
        config = self._config
        return f"{config.model}@{config.revision}" if config.revision else config.model

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the recipe says of the server."""
        config = self._config
        declared: dict[Capability, bool] = {
            "text": True,
            "image": config.image,
            "video": config.video != "refuse",
            "audio": config.audio,
            "tools": config.tools,
            "schema": config.response_schema != "refuse",
            "logprobs": config.logprobs,
            "score": config.score is not None,
        }
        return frozenset(capability for capability, has in declared.items() if has)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the answers besides the request: frames, their form, extra keys."""
        config = self._config
        return {
            "backend": config.backend,
            "frame_sampling": self._sampling.model_dump(mode="json"),
            "video": config.video,
            "picture_format": config.picture_format,
            "response_schema": config.response_schema,
            "extra_body": config.extra_body,
        }

    @property
    def concurrency_limit(self) -> float | None:
        """Requests that the running loop may have under way now; None before its first."""
        return self._server.limit

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
        """See `ChatModel.generate`.

        Draw k of a seeded call has a seed that depends on (seed, k) only.

        Raises:
            ConfigError: The key's variable is not set, or the server refuses key or model.
        """
        if n < 1:
            raise ValueError(f"{self.name}: n is {n}; ask for at least one completion")
        self._require(messages, sampling, tools, response_schema)
        if response_schema is not None and self._config.response_schema == "prompt":
            messages = [*messages, text_of(_schema_request(response_schema), "user")]
        body = await self._chat_body(messages)
        body |= self._sampling_body(sampling) | _tools_body(tools)
        if response_schema is not None and self._config.response_schema == "json_schema":
            body["response_format"] = _response_format(response_schema)
        completions = await self._draw(body, n, seed)
        if sampling.logprobs and any(c.text and c.logprobs is None for c in completions):
            raise ModelResponseError(
                f"{self._server.where}: log-probabilities were asked for, the answer has none. "
                f"Set logprobs: false for this model"
            )
        return completions

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """See `ChatModel.score`.

        Raises:
            CapabilityError: The recipe names no route for it (`score`).
        """
        self._require(messages, Sampling())
        config = self._config
        if config.score is None:
            raise self._cannot("score given answers", "set score: prompt_logprobs or echo")
        if config.score == "echo":
            return await self._score_by_echo(messages, completion)
        ask = {"prompt_logprobs": 0, config.length_key: 1, "temperature": 0}
        open_body = await self._chat_body(messages) | ask
        whole_body = await self._chat_body([*messages, text_of(completion)]) | ask
        where = self._server.where
        prompt, whole = await together(
            [
                self._server.post("/chat/completions", open_body, str),
                self._server.post(
                    "/chat/completions", whole_body | {"add_generation_prompt": False}, str
                ),
            ]
        )
        return read_prompt_logprobs(prompt, whole, where)

    async def close(self) -> None:
        """Close the running loop's connections; a loop that ended has closed its own."""
        await self._server.close()

    async def _score_by_echo(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        if any(message.media for message in messages):
            raise self._cannot("score with media by echo", "set score: prompt_logprobs")
        template = self._config.chat_template
        prompt = render_chat(messages, template, open_turn=True)
        full = render_chat([*messages, text_of(completion)], template, open_turn=False)
        full = full if template is None else full.rstrip()
        body = {"prompt": full, "echo": True, "logprobs": 0, "max_tokens": 0, "temperature": 0}
        text = await self._server.post("/completions", self._with_model(body), str)
        return read_echo(text, prompt, full, self._server.where)

    def _require(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        tools: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
    ) -> None:
        has = self.capabilities
        for kind in {ref.kind for message in messages for ref in message.media} - has:
            raise self._cannot(f"take {kind}", f"set {kind} if the server can")
        if tools and "tools" not in has:
            raise self._cannot("call tools", "set tools: true if the server can")
        if response_schema is not None and "schema" not in has:
            raise self._cannot("follow a JSON schema", "set response_schema: prompt")
        if sampling.logprobs and "logprobs" not in has:
            raise self._cannot("give log-probabilities", "set logprobs: true if the server can")

    def _cannot(self, what: str, instead: str) -> CapabilityError:
        return CapabilityError(
            f"{self.name}: asked to {what}, but its recipe says that it cannot; {instead}"
        )

    async def _chat_body(self, messages: Sequence[Message]) -> dict[str, Any]:
        config = self._config
        if any(message.media for message in messages):
            wired = await asyncio.to_thread(
                wire_messages,
                messages,
                self._sampling,
                video=config.video,
                picture=config.picture_format,
            )
        else:
            wired = wire_messages(
                messages, self._sampling, video=config.video, picture=config.picture_format
            )
        return self._with_model({"messages": wired})

    def _with_model(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self._config.model, **body, **self._config.extra_body}

    def _sampling_body(self, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._config.length_key: sampling.max_completion_length,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.logprobs:
            body["logprobs"] = True
        return body

    async def _draw(self, body: dict[str, Any], n: int, seed: int | None) -> tuple[Completion, ...]:
        """The completions, in one request where the server gives several choices at once."""
        drawn: tuple[Completion, ...] = ()
        shared = n > 1 and not self._one_choice_only
        if shared and (seed is None or self._config.seeded_choices):
            try:
                drawn = (await self._answer(body | {"n": n} | _seed_body(seed, 0))).completions[:n]
                self._one_choice_only = len(drawn) < n
            except ModelCallError as error:
                if type(error) is not ModelCallError:  # only a refused request can be about n
                    raise
                _log.info("%s; asking for one choice at a time", error)
        rest = await together(
            [self._answer(body | _seed_body(seed, place)) for place in range(len(drawn), n)]
        )
        if shared and not drawn and (seed is None or self._config.seeded_choices):
            self._one_choice_only = True
        return drawn + tuple(answer.completions[0] for answer in rest)

    async def _answer(self, body: Mapping[str, Any]) -> Answer:
        where = self._server.where
        answer = await self._server.post(
            "/chat/completions", body, lambda text: read_answer(text, where)
        )
        if not answer.has_usage and not self._told_no_usage:
            self._told_no_usage = True
            _log.warning("%s: no usage in the answers, so its costs count as 0", where)
        return answer


def _seed_body(seed: int | None, draw: int) -> dict[str, int]:
    """31 bits, which every server takes; depends on (seed, draw) only."""
    if seed is None:
        return {}
    digest = hashlib.blake2b(f"{seed}:{draw}".encode(), digest_size=4).digest()
    return {"seed": int.from_bytes(digest, "big") >> 1}


def _tools_body(tools: Sequence[str]) -> dict[str, Any]:
    """Either a function's schema by itself or wrapped as {"type": "function", ...}."""
    if not tools:
        return {}
    wired = []
    for place, text in enumerate(tools):
        try:
            schema = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"tools[{place}]: not JSON: {error}: {text[:80]!r}") from error
        if not isinstance(schema, dict) or "name" not in schema.get("function", schema):
            raise ConfigError(f"tools[{place}]: names no function: {text[:80]!r}")
        wired.append(schema if "function" in schema else {"type": "function", "function": schema})
    return {"tools": wired}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    form = {"name": "answer", "schema": dict(schema), "strict": _is_closed(schema)}
    return {"type": "json_schema", "json_schema": form}


def _is_closed(schema: object) -> bool:
    """Every object names all its keys as required: what OpenAI demands of a strict schema."""
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        closed = not isinstance(properties, Mapping) or (
            schema.get("additionalProperties") is False
            and set(schema.get("required", ())) == set(properties)
        )
        return closed and all(_is_closed(value) for value in schema.values())
    return not isinstance(schema, list) or all(_is_closed(value) for value in schema)


def _schema_request(schema: Mapping[str, Any]) -> str:
    return (
        "Answer with one JSON value that matches this JSON schema, without any other text or "
        f"code fence:\n{json.dumps(schema, ensure_ascii=False)}"
    )
