"""What an agent may ask of a model, whatever stands behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import Field

from mmalign.config import Config
from mmalign.models.tool_template import ToolTemplate
from mmalign.records import Message, Record, ToolCall

__all__ = [
    "Capability",
    "ChatModel",
    "ComparesClips",
    "Completion",
    "SampledTokens",
    "SamplesTokens",
    "Sampling",
    "TokenLogprobs",
    "Usage",
]

Capability = Literal[
    "text", "image", "video", "audio", "tools", "schema", "logprobs", "score", "token_ids"
]


class Sampling(Config):
    """How a completion is drawn."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the likeliest tokens that hold this probability together."""
    max_completion_length: int = Field(default=256, gt=0)
    """Tokens."""
    stop: tuple[str, ...] = ()
    """Texts before which the completion ends."""
    logprobs: bool = False
    """Ask for the log-probability of each sampled token."""


class Usage(Record):
    """What one completion cost in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class TokenLogprobs(Record):
    """Log-probabilities of the tokens of a completion, in nats."""

    token_ids: tuple[int, ...] = ()
    """Empty where the server names tokens only by their text."""
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]


class Completion(Record):
    """One answer of a model."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"
    logprobs: TokenLogprobs | None = None
    usage: Usage = Usage()
    model: str = ""
    """Name and revision, as the server states them."""


@runtime_checkable
class ChatModel(Protocol):
    """A model that answers chats and, if it can, scores given answers."""

    @property
    def name(self) -> str:
        """Name and revision, part of the ledger's key."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; anything else raises `CapabilityError` before a call is made."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Further settings that change its answers (frames, dtype), for the ledger's key."""
        ...

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
        """Answer the chat n times.

        Args:
            messages: The prompt; media are decoded with their operations applied.
            n: Number of completions.
            sampling: Temperature, length and the like.
            tools: JSON schemas of functions that may be called, as text.
            response_schema: JSON schema that the answer's text must match, enforced by the
                server where it can; the caller still validates.
            seed: Fixes the draws where the model can.

        Returns:
            n completions in a fixed order.

        Raises:
            CapabilityError: The request needs what the model cannot do.
            ModelCallError: No answer after all retries.
            MediaError: A clip of the prompt cannot be decoded.
        """
        ...

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """Log-probabilities of a given completion, token by token, end of turn included."""
        ...

    async def close(self) -> None:
        """Free connections or memory; the model is not used afterwards."""
        ...


class SampledTokens(NamedTuple):
    """What a model wrote behind a prompt and the tokens that followed it."""

    token_ids: tuple[int, ...]
    """With the token that ended the turn, if one did."""
    logps: tuple[float, ...]
    """Nats of these tokens in the model's own distribution, before temperature and top_p."""
    text: str
    """What they say, with the stop text and all control tokens but the one that ended the turn."""
    finish_reason: Literal["stop", "length"]


@runtime_checkable
class SamplesTokens(Protocol):
    """A model that goes on from token ids and tells which ids it drew: what rollouts ask."""

    async def tokenize(self, text: str, *, is_trusted: bool = False) -> tuple[int, ...]:
        """Ids of a text as it stands, without special tokens of its own.

        Args:
            text: What a tool printed, or the loop's own words.
            is_trusted: Names of control tokens in the text become control tokens.
        """
        ...

    async def decode(self, token_ids: Sequence[int]) -> str:
        """What ids say, names of control tokens included."""
        ...

    async def num_prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> int:
        """Tokens of the prompt, media included."""
        ...

    async def tool_template(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> ToolTemplate:
        """How the model's chat template writes calls and results behind the prompt.

        Raises:
            CapabilityError: It has none that only appends.
        """
        ...

    async def sample_tokens(
        self,
        messages: Sequence[Message],
        token_ids: Sequence[int] = (),
        *,
        tools: Sequence[str] = (),
        sampling: Sampling,
        seed: int,
    ) -> SampledTokens:
        """Go on behind the prompt and the ids that follow it.

        Args:
            messages: The prompt, as `ChatModel.generate` takes it.
            token_ids: What was sampled and spliced in since; taken as they are.
            tools: JSON schemas of functions, for the chat template.
            sampling: `stop` texts end the turn behind themselves.
            seed: Fixes the draw, whatever it is computed together with.

        Raises:
            CapabilityError, RecordError, ModelCallError, MediaError: As `ChatModel.generate`.
        """
        ...


@runtime_checkable
class ComparesClips(Protocol):
    """A model that tells what altered clips do to what it sees and to what it would say.

    Every method takes prompts that differ from the first one in their media alone, and gives one
    value for each of them. All of it is computed with dropout off and without gradient.
    """

    async def clips_differ(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[bool, ...]:
        """Whether the model is shown anything else than by the first prompt.

        Raises:
            RecordError: An altered clip takes another number of tokens.
            MediaError: A clip cannot be decoded.
        """
        ...

    async def clip_closeness(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[float, ...]:
        """Cosine, in [-1, 1], of the features behind tower and projector, mean over visual tokens.

        Raises:
            RecordError, MediaError: As above.
        """
        ...

    async def response_divergence(
        self,
        messages: Sequence[Message],
        response: str,
        altered: Sequence[Sequence[Message]],
        *,
        spans: Sequence[tuple[int, int]] | None = None,
        num_tokens: int | None = None,
    ) -> tuple[float, ...]:
        """Mean Jensen-Shannon divergence, in [0, 1], of the next-token distributions.

        Args:
            messages: The prompt about the original clip.
            response: What is put behind every prompt.
            altered: The prompt about altered clips.
            spans: Characters of the response whose tokens count; None counts all. Tokens that
                cover no text, as the end of turn, never count.
            num_tokens: Only the first so many of them.

        Raises:
            RecordError: No token counts, or as above.
            MediaError: A clip cannot be decoded.
        """
        ...
