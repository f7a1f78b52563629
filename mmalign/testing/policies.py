"""A policy whose turns are written beforehand, a token a character."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmalign.models.protocol import SampledTokens, Sampling
from mmalign.models.tool_template import ToolTemplate
from mmalign.records import Message

__all__ = ["END", "HERMES", "ScriptedPolicy"]

END = 0
"""The control token that ends a turn; its name is written ¶."""
HERMES = ToolTemplate(
    call_opener="<tool_call>",
    call_closer="</tool_call>",
    name_key="name",
    arguments_key="arguments",
    opener="\n<tool_response>",
    between="</tool_response><tool_response>",
    closer="</tool_response>\n",
)

Script = Callable[[str, int], str]


@dataclass
class ScriptedPolicy:
    """`SamplesTokens` by a script: (text behind the prompt, turn's seed) to the turn.

    A turn that ends in ¶ is ended by the policy; any other goes on until a stop text, or until
    there is no room.
    """

    script: Script
    fails: Callable[[str], Exception | None] = lambda text: None
    """What is raised instead of an answer."""
    asked: list[str] = field(default_factory=list)
    """Text behind the prompt, call by call."""

    async def tokenize(self, text: str, *, is_trusted: bool = False) -> tuple[int, ...]:
        """Code points; ¶ is a control token only where it is the loop's own."""
        return tuple(END if is_trusted and one == "¶" else ord(one) for one in text)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """The characters."""
        return "".join("¶" if token == END else chr(token) for token in token_ids)

    async def num_prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> int:
        """Characters."""
        return sum(len(message.text) for message in messages) + sum(map(len, tools))

    async def tool_template(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> ToolTemplate:
        """That of Hermes' family."""
        del messages, tools
        return HERMES

    async def sample_tokens(
        self,
        messages: Sequence[Message],
        token_ids: Sequence[int] = (),
        *,
        tools: Sequence[str] = (),
        sampling: Sampling,
        seed: int,
    ) -> SampledTokens:
        """The script's turn, cut as the sampling says; token k has the log-prob -1 / (k + 1)."""
        del messages, tools
        said = await self.decode(token_ids)
        self.asked.append(said)
        if (error := self.fails(said)) is not None:
            raise error
        text = self.script(said, seed)
        ends = [text.find(stop) + len(stop) for stop in sampling.stop if stop in text]
        is_ended = bool(ends) or text.endswith("¶")
        text = text[: min(ends)] if ends else text
        cut = text[: sampling.max_completion_length]
        ids = tuple(END if one == "¶" else ord(one) for one in cut)
        return SampledTokens(
            ids,
            tuple(-1 / (k + 1) for k in range(len(ids))),
            cut.removesuffix("¶"),
            "stop" if is_ended and cut == text else "length",
        )
