"""What altered clips do to a model: to the features that it sees, to the words that it expects."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmalign.errors import RecordError
from mmalign.models.families import VIDEO, EncodedCompletion, EncodedPrompt
from mmalign.objectives.kl import jensen_shannon
from mmalign.records import Message
from mmalign.selection.clips import clip_closeness

__all__ = ["ClipComparison", "counted_tokens", "mean_feature"]

_TOKENS_AT_ONCE = 256
"""Positions of which two distributions over the vocabulary are held at a time."""


class ClipComparison(ABC):
    """`ComparesClips`, for who can encode prompts and run a model over them."""

    async def clips_differ(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[bool, ...]:
        """Whether the model is shown anything else than by the first prompt."""
        original, *others = await self._encode_all([messages, *altered])
        return tuple(not _same_media(original, other) for other in others)

    async def clip_closeness(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[float, ...]:
        """Cosine of the features behind tower and projector, mean over visual tokens."""
        prompts = await self._encode_all([messages, *altered])
        features = await asyncio.to_thread(self.features_of, prompts)
        original, *others = (
            mean_feature(prompt, own) for prompt, own in zip(prompts, features, strict=True)
        )
        found = clip_closeness(original[None], torch.stack(others)[None])
        return tuple(found[0].tolist())

    async def response_divergence(
        self,
        messages: Sequence[Message],
        response: str,
        altered: Sequence[Sequence[Message]],
        *,
        spans: Sequence[tuple[int, int]] | None = None,
        num_tokens: int | None = None,
    ) -> tuple[float, ...]:
        """Mean Jensen-Shannon divergence of the next-token distributions."""
        prompts = await self._encode_all([messages, *altered])
        answer = await self.encode_answer(messages, response)
        counted = counted_tokens(answer, spans=spans, num_tokens=num_tokens)
        if not counted.any():
            raise RecordError(
                f"no token of the response {response[:60]!r} counts (spans {spans}, num_tokens "
                f"{num_tokens}); choose other tokens or drop the sample"
            )
        return await asyncio.to_thread(self._divergences, prompts, answer, counted)

    def _divergences(
        self, prompts: Sequence[EncodedPrompt], answer: EncodedCompletion, counted: Tensor
    ) -> tuple[float, ...]:
        states, head = self.states_of(prompts, answer)
        original, *others = states[:, counted.to(states.device)]
        return tuple(_divergence(original, other, head) for other in others)

    async def _encode_all(self, prompts: Sequence[Sequence[Message]]) -> list[EncodedPrompt]:
        found = await asyncio.gather(*(self.encode_messages(prompt) for prompt in prompts))
        for prompt in found:
            if len(prompt.input_ids) != len(found[0].input_ids):
                raise RecordError(
                    f"an altered clip takes {prompt.num_media_tokens} visual tokens, the original "
                    f"{found[0].num_media_tokens}; alter clips after frames are sampled"
                )
        return list(found)

    @abstractmethod
    async def encode_messages(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> EncodedPrompt:
        """A prompt as the model takes it."""

    @abstractmethod
    async def encode_answer(self, messages: Sequence[Message], response: str) -> EncodedCompletion:
        """A response to a prompt, end of turn included."""

    @abstractmethod
    def features_of(self, prompts: Sequence[EncodedPrompt]) -> Sequence[Tensor]:
        """[M, D] of each prompt's media tokens, in order, without gradient."""

    @abstractmethod
    def states_of(
        self, prompts: Sequence[EncodedPrompt], answer: EncodedCompletion
    ) -> tuple[Tensor, nn.Module]:
        """[N, R, H] states that predict the answer behind each prompt, and the vocabulary head."""


def mean_feature(prompt: EncodedPrompt, features: Tensor) -> Tensor:
    """[D], the mean over visual tokens of the features [M, D] of a prompt's media."""
    types = prompt.token_types[prompt.token_types > 0].to(features.device)
    return features[types == VIDEO].float().mean(0)


def counted_tokens(
    answer: EncodedCompletion,
    *,
    spans: Sequence[tuple[int, int]] | None = None,
    num_tokens: int | None = None,
) -> Tensor:
    """[R] bool: tokens that the model wrote and that cover text, of these the ones asked for."""
    wanted = [
        is_own and start < end and (spans is None or any(start < b and a < end for a, b in spans))
        for is_own, (start, end) in zip(answer.mask.tolist(), answer.offsets, strict=True)
    ]
    counted = torch.tensor(wanted)
    return counted if num_tokens is None else counted & (counted.cumsum(0) <= num_tokens)


def _same_media(prompt: EncodedPrompt, other: EncodedPrompt) -> bool:
    return all(torch.equal(value, other.media[name]) for name, value in prompt.media.items())


@torch.no_grad()
def _divergence(states: Tensor, altered: Tensor, head: nn.Module) -> float:
    """Mean over tokens of two [T, H] sequences of states."""
    parts = [
        jensen_shannon(head(one).float().log_softmax(-1), head(two).float().log_softmax(-1))
        for one, two in zip(
            torch.split(states, _TOKENS_AT_ONCE), torch.split(altered, _TOKENS_AT_ONCE), strict=True
        )
    ]
    return float(torch.cat(parts).mean())
