"""Small chat models for tests: they answer at once, late, or not at all."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmalign.models.protocol import Capability, Completion, Sampling, TokenLogprobs, Usage
from mmalign.records import Message

__all__ = ["Call", "FailingModel", "ScriptedModel", "SlowModel"]

EVERYTHING: frozenset[Capability] = frozenset(
    {"text", "image", "video", "audio", "tools", "schema", "logprobs", "score", "token_ids"}
)


class Call(NamedTuple):
    """What a fake model was asked."""

    prompt: str
    """Text of the last message."""
    n: int
    seed: int | None


Script = Callable[[Call, int], str]
"""The answer to a call, given the index of the completion."""


def echo(call: Call, draw: int) -> str:
    """An answer that tells what was asked."""
    return f"{call.prompt} [seed {call.seed}, draw {draw}]"


@dataclass
class ScriptedModel:
    """Answers at once what its script says; a prompt costs a token per word, as its answer."""

    script: Script = echo
    name: str = "scripted@1"
    capabilities: frozenset[Capability] = EVERYTHING
    identity: Mapping[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    """Every call that reached the model."""

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
        """n answers of the script."""
        call = Call(messages[-1].text, n, seed)
        self.calls.append(call)
        return tuple(self._completion(call, draw) for draw in range(n))

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """-log 2 for each word."""
        self.calls.append(Call(completion, 1, None))
        words = tuple(completion.split())
        return TokenLogprobs(tokens=words, logprobs=(-math.log(2),) * len(words))

    async def close(self) -> None:
        """Nothing to free."""

    def _completion(self, call: Call, draw: int) -> Completion:
        text = self.script(call, draw)
        usage = Usage(prompt_tokens=len(call.prompt.split()), completion_tokens=len(text.split()))
        return Completion(text=text, usage=usage, model=self.name)


@dataclass
class SlowModel(ScriptedModel):
    """Answers after a while, as a server does."""

    wait_s: float = 0.05

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
        """n answers of the script, late."""
        await asyncio.sleep(self.wait_s)
        return await super().generate(messages, n=n, sampling=sampling, seed=seed)


@dataclass
class FailingModel(ScriptedModel):
    """Raises what its list holds, one per call, then answers; the last one for ever if told."""

    errors: list[Exception] = field(default_factory=list)
    forever: bool = False

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
        """The next error, or n answers of the script."""
        if self.errors:
            error = self.errors[0] if self.forever and len(self.errors) == 1 else self.errors.pop(0)
            self.calls.append(Call(messages[-1].text, n, seed))
            raise error
        return await super().generate(messages, n=n, sampling=sampling, seed=seed)
