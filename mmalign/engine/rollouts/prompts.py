"""What a policy is asked: the sample's prompt, with the instruction of the format around it."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from mmalign.engine.rollouts.config import RolloutConfig
from mmalign.engine.rollouts.tools import RolloutTool
from mmalign.errors import ConfigError
from mmalign.records import MediaPart, Message, Sample, TextPart

__all__ = ["prompt_messages"]

_OWN = {"search_r1": "search_r1.md", "torl": "torl.md"}


def prompt_messages(
    sample: Sample, config: RolloutConfig, tools: Sequence[RolloutTool] = ()
) -> tuple[Message, ...]:
    """The messages that are sent: the last user turn's text put into the instruction.

    `{question}` and `{tools}` of the instruction are replaced; media stay where they are.

    Raises:
        ConfigError: The instruction names no question, or its file is not there.
    """
    instruction = _instruction(config)
    if instruction is None:
        return sample.messages
    described = "\n".join(f"<{t.name}> ... </{t.name}>: {t.tool.description}" for t in tools)
    text = instruction.replace("{tools}", described).replace("{question}", sample.question)
    places = [place for place, message in enumerate(sample.messages) if message.role == "user"]
    turn = sample.messages[places[-1]]
    media = tuple(part for part in turn.content if isinstance(part, MediaPart))
    asked = turn.model_copy(update={"content": (*media, TextPart(text=text))})
    return (*sample.messages[: places[-1]], asked, *sample.messages[places[-1] + 1 :])


def _instruction(config: RolloutConfig) -> str | None:
    if config.prompt is None:
        own = _OWN.get(config.format)
        if own is None:
            return None
        text = files("mmalign.engine.rollouts").joinpath(own).read_text(encoding="utf-8")
        return text.removesuffix("\n")
    text = config.prompt
    if text.endswith(".md"):
        try:
            text = Path(text).read_text(encoding="utf-8").removesuffix("\n")
        except OSError as error:
            raise ConfigError(
                f"rollouts.prompt: {config.prompt} cannot be read: {error}"
            ) from error
    if "{question}" not in text:
        raise ConfigError(
            f"rollouts.prompt holds no {{question}}: {text[:60]!r}; write it where the question "
            f"is to stand"
        )
    return text
