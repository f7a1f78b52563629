"""Token ids in, token ids out: what rollouts ask of weights in this process."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any

import torch

from mmalign.models.decoding import Draw, Drawn
from mmalign.models.families import EncodedPrompt
from mmalign.models.plain_text import PlainTokenizer
from mmalign.models.protocol import SampledTokens, Sampling
from mmalign.records import Message

__all__ = ["TokenSampling"]


class TokenSampling(ABC):
    """`SamplesTokens`, for who can encode prompts and draw behind them."""

    _tokenizer: Any  # transformers' tokenizers share no typed base
    _end_ids: frozenset[int]

    async def tokenize(self, text: str, *, is_trusted: bool = False) -> tuple[int, ...]:
        """Ids of a text; control tokens only where it is the loop's own."""
        if not is_trusted:
            return self._plain.ids(text)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tuple(ids)

    async def num_prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> int:
        """Tokens of the prompt, media included."""
        return len((await self.encode_messages(messages, tools)).input_ids)

    async def sample_tokens(
        self,
        messages: Sequence[Message],
        token_ids: Sequence[int] = (),
        *,
        tools: Sequence[str] = (),
        sampling: Sampling,
        seed: int,
    ) -> SampledTokens:
        """Go on behind the prompt and the ids that follow it."""
        prompt = await self.encode_messages(messages, tools)
        drawn = await asyncio.wrap_future(
            self.submit_draw(
                Draw(
                    prompt,
                    seed=seed,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_completion_length,
                    stop=sampling.stop,
                    tail=torch.tensor(token_ids, dtype=torch.int64),
                    stops_name_control_tokens=True,
                )
            )
        )
        ids = drawn.token_ids
        said = ids[:-1] if ids[-1] in self._end_ids else ids
        text = str(self._tokenizer.decode(said, skip_special_tokens=False))
        return SampledTokens(tuple(ids), tuple(drawn.logprobs), text, drawn.finish_reason)

    @cached_property
    def _plain(self) -> PlainTokenizer:
        return PlainTokenizer(self._tokenizer)

    @abstractmethod
    async def encode_messages(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> EncodedPrompt:
        """A prompt as the model takes it."""

    @abstractmethod
    def submit_draw(self, draw: Draw) -> "Future[Drawn]":
        """The completion to come.

        Raises:
            CapabilityError: The model has no positions for it.
        """
