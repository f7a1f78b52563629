"""Token ids in, token ids out: what rollouts ask of weights here or on a server."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from mmalign.errors import CapabilityError
from mmalign.models.decoding import Draw, Drawn
from mmalign.models.families import EncodedPrompt, ModelFamily
from mmalign.models.families.chat import control_tokens, template_render
from mmalign.models.plain_text import PlainTokenizer
from mmalign.models.protocol import SampledTokens, Sampling
from mmalign.models.tool_template import ToolTemplate, tool_template
from mmalign.records import Message, text_of, user

__all__ = ["TokenSampling", "end_tokens"]


class TokenSampling(ABC):
    """`SamplesTokens`, for who can encode prompts and draw behind them."""

    _processor: Any  # transformers' processors and tokenizers share no typed base
    _tokenizer: Any
    _end_ids: frozenset[int]

    async def tokenize(self, text: str, *, is_trusted: bool = False) -> tuple[int, ...]:
        """Ids of a text; control tokens only where it is the loop's own."""
        if not is_trusted:
            return self._plain.ids(text)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tuple(ids)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """What ids say, names of control tokens included."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    async def num_prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> int:
        """Tokens of the prompt, media included."""
        return len((await self.encode_messages(messages, tools)).input_ids)

    async def tool_template(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> ToolTemplate:
        """How the chat template writes calls and results behind the prompt."""
        if not getattr(self._processor, "chat_template", None):
            raise CapabilityError(
                "the tokenizer has no chat template, so it has no calls of its own; choose "
                "another format of rollouts"
            )
        with_parts = self._processor is not self._tokenizer
        render = template_render(self._processor, with_parts=with_parts, tools=tools)
        return tool_template(render, messages, control_tokens(self._tokenizer))

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
        drawn = await self.draw_behind(
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
        ids = drawn.token_ids
        text = await self.decode(ids[:-1] if ids[-1] in self._end_ids else ids)
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
    async def draw_behind(self, draw: Draw) -> Drawn:
        """The tokens that follow prompt and tail, stop texts with them.

        Raises:
            CapabilityError: The model has no positions for them.
            ModelCallError: There is no answer.
        """


def end_tokens(processor: Any, family: ModelFamily) -> frozenset[int]:
    """What the tokenizer or the chat template ends an answer with."""
    ids = [getattr(processor, "tokenizer", processor).eos_token_id]
    if getattr(processor, "chat_template", None):
        turn = family.encode_completion(processor, [user("?")], [text_of("!")])
        ids.append(int(turn.input_ids[-1]))
    return frozenset(token for token in ids if token is not None)
