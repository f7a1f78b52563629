"""A model whose answers go through the ledger, as the nodes of an agent see it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langgraph.config import get_config

from mmalign.engine.budget import Price, Spending
from mmalign.engine.context import draw_seed
from mmalign.engine.ledger import Charged, Ledger, Request, SamplePass
from mmalign.errors import CapabilityError
from mmalign.models.protocol import (
    Capability,
    ChatModel,
    ComparesClips,
    Completion,
    SampledTokens,
    SamplesTokens,
    Sampling,
    TokenLogprobs,
)
from mmalign.models.tool_template import ToolTemplate
from mmalign.records import Message, canonical_json

__all__ = ["LedgeredModel", "current_node"]


class LedgeredModel:
    """A `ChatModel` that speaks through the ledger on behalf of one sample."""

    def __init__(
        self, model: ChatModel, *, ledger: Ledger, price: Price, sample_pass: SamplePass
    ) -> None:
        self._model = model
        self._ledger = ledger
        self._price = price
        self._pass = sample_pass

    @property
    def name(self) -> str:
        """Name and revision of the model behind the ledger."""
        return self._model.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model behind the ledger can do."""
        return self._model.capabilities

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings of the model behind the ledger."""
        return self._model.identity

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
        """The model's answers, from the ledger where they are there.

        Draws that are added to stored ones (n was raised) use a seed of their own, derived from
        the given one: the given one would bring the first draws again.
        """
        request = await self._request(
            "generate",
            messages,
            sampling=sampling.model_dump(mode="json"),
            tools=list(tools),
            response_schema=response_schema,
            seed=seed,
        )

        async def ask(num_draws: int, first: int) -> list[Charged]:
            completions = await self._model.generate(
                messages,
                n=num_draws,
                sampling=sampling,
                tools=tools,
                response_schema=response_schema,
                seed=seed if seed is None or first == 0 else draw_seed(seed, "", first, "draws"),
            )
            return [
                Charged(one.model_dump_json(), one.usage.prompt_tokens, one.usage.completion_tokens)
                for one in completions
            ]

        answers = await self._ledger.answers(
            self._pass,
            request,
            num_draws=n,
            estimate=lambda num_draws: self._estimate(
                messages, num_draws * sampling.max_completion_length
            ),
            ask=ask,
        )
        return tuple(Completion.model_validate_json(answer) for answer in answers)

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """The model's log-probabilities, from the ledger where they are there.

        Only the scored tokens count towards the budget; what the prompt took is not reported.
        """
        request = await self._request("score", messages, completion=completion)

        async def ask(num_draws: int, first: int) -> list[Charged]:
            scored = await self._model.score(messages, completion)
            return [Charged(scored.model_dump_json(), len(scored.logprobs), 0)]

        answers = await self._ledger.answers(
            self._pass,
            request,
            num_draws=1,
            estimate=lambda _: self._estimate(messages, 0),
            ask=ask,
        )
        return TokenLogprobs.model_validate_json(answers[0])

    async def clips_differ(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[bool, ...]:
        """As the model behind says, computed anew: only weights in this process can tell."""
        return await self._comparing().clips_differ(messages, altered)

    async def clip_closeness(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[float, ...]:
        """As the model behind says, computed anew."""
        return await self._comparing().clip_closeness(messages, altered)

    async def response_divergence(
        self,
        messages: Sequence[Message],
        response: str,
        altered: Sequence[Sequence[Message]],
        *,
        spans: Sequence[tuple[int, int]] | None = None,
        num_tokens: int | None = None,
    ) -> tuple[float, ...]:
        """As the model behind says, computed anew."""
        return await self._comparing().response_divergence(
            messages, response, altered, spans=spans, num_tokens=num_tokens
        )

    async def tokenize(self, text: str, *, is_trusted: bool = False) -> tuple[int, ...]:
        """As the model behind does; nothing is paid for it."""
        return await self._drawing().tokenize(text, is_trusted=is_trusted)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """As the model behind does."""
        return await self._drawing().decode(token_ids)

    async def num_prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> int:
        """As the model behind counts."""
        return await self._drawing().num_prompt_tokens(messages, tools)

    async def tool_template(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> ToolTemplate:
        """Of the model behind."""
        return await self._drawing().tool_template(messages, tools)

    async def sample_tokens(
        self,
        messages: Sequence[Message],
        token_ids: Sequence[int] = (),
        *,
        tools: Sequence[str] = (),
        sampling: Sampling,
        seed: int,
    ) -> SampledTokens:
        """What the model goes on with, from the ledger where it is there."""
        request = await self._request(
            "generate",
            messages,
            sampling=sampling.model_dump(mode="json"),
            tools=list(tools),
            token_ids=list(token_ids),
            seed=seed,
        )

        async def ask(num_draws: int, first: int) -> list[Charged]:
            del num_draws, first  # one
            sampled = await self._drawing().sample_tokens(
                messages, token_ids, tools=tools, sampling=sampling, seed=seed
            )
            written = json.dumps(sampled._asdict())
            return [Charged(written, len(token_ids), len(sampled.token_ids))]

        (answer,) = await self._ledger.answers(
            self._pass,
            request,
            num_draws=1,
            estimate=lambda _: self._estimate(messages, sampling.max_completion_length),
            ask=ask,
        )
        stored = json.loads(answer)
        return SampledTokens(
            token_ids=tuple(stored["token_ids"]),
            logps=tuple(stored["logps"]),
            text=stored["text"],
            finish_reason=stored["finish_reason"],
        )

    async def close(self) -> None:
        """Nothing: the model serves other samples and belongs to who started the run."""

    def _comparing(self) -> ComparesClips:
        if not isinstance(self._model, ComparesClips):
            raise CapabilityError(
                f"model {self._model.name!r} gives neither its visual features nor its whole "
                f"distributions; to compare clips it must be in this process (backend: "
                f"transformers)"
            )
        return self._model

    def _drawing(self) -> SamplesTokens:
        if not isinstance(self._model, SamplesTokens):
            raise CapabilityError(
                f"model {self._model.name!r} does not tell which tokens it draws, which rollouts "
                f"need; take a model of backend: transformers"
            )
        return self._model

    async def _request(
        self, kind: Literal["generate", "score"], messages: Sequence[Message], **parts: Any
    ) -> Request:
        node = self._pass.last_node = current_node()
        asked = {
            "kind": kind,
            "model": self._model.name,
            "identity": dict(self._model.identity),
            "messages": await self._ledger.describe(messages),
            "node": node,
            **parts,
        }
        digest = hashlib.blake2b(canonical_json(asked).encode(), digest_size=16)
        attempt = self._pass.next_attempt(digest.digest())
        digest.update(attempt.to_bytes(4, "big"))
        return Request(digest.digest(), kind, node, self._model.name, self._price)

    def _estimate(self, messages: Sequence[Message], max_completion_tokens: int) -> Spending:
        return self._ledger.budget.estimate(
            self._model.name,
            self._price,
            messages,
            max_completion_tokens=max_completion_tokens,
        )


def current_node() -> str:
    """The graph's node that runs; empty outside a graph."""
    try:
        config = get_config()
    except RuntimeError:
        return ""
    return str(config.get("metadata", {}).get("langgraph_node", ""))
