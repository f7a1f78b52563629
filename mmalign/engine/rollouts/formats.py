"""How a policy writes calls and answers, and how it is shown what came of them.

- Search-R1's tags (Jin et al., 2025): a turn ends behind the first call or answer. mmalign names a
  tag as its tool, so that there may be several tools.
- ToRL's code blocks (Li et al., 2025): the policy opens an output block, and the last program of
  the turn is run.
- The chat template's own calls: what stands around them is read off the template.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from mmalign.engine.rollouts.tools import Call, RolloutTool, only_argument
from mmalign.models.tool_template import ToolTemplate, json_objects

__all__ = ["Action", "Format", "plain", "search_r1", "template", "torl"]

_OUTPUT = "```output"
_PROGRAM = re.compile(r"```python\n(.*?)```", re.DOTALL)
_BOX = r"\boxed{"


@dataclass(frozen=True)
class Action:
    """What a turn comes to."""

    calls: tuple[Call, ...] = ()
    answer: str | None = None


@dataclass(frozen=True)
class Format:
    """Between two turns of the policy."""

    read: Callable[[str, bool], Action]
    """(text of a turn, whether it was ended) to what it asks for."""
    stop: tuple[str, ...] = ()
    """Texts that end a turn behind themselves, as long as calls are run."""
    last_stop: tuple[str, ...] = ()
    """The same in a turn whose calls are not run."""
    opener: str = ""
    """Before what the tools said."""
    between: str = "\n"
    closer: str = ""
    hint: str = ""
    """Said where a turn was neither call nor answer; empty: the rollout ends there."""


def plain() -> Format:
    """One turn; all that it says is the answer."""
    return Format(read=_read_plain)


def search_r1(tools: Sequence[RolloutTool]) -> Format:
    """Tags named as the tools, and <answer>.

    Raises:
        ConfigError: A tool wants other than one argument.
    """
    arguments = {tool.name: only_argument(tool.tool) for tool in tools}
    names = [*arguments, "answer"]
    tags = re.compile(rf"<({'|'.join(map(re.escape, names))})>(.*?)</\1>", re.DOTALL)
    calls = " or ".join(f"<{name}>{arguments[name]}</{name}>" for name in arguments)
    stop = tuple(f"</{name}>" for name in names)
    return Format(
        read=partial(_read_tags, tags, arguments),
        stop=stop,
        last_stop=stop,
        opener="\n\n<information>",
        closer="</information>\n\n",
        hint=(
            f"\nThat was neither a call nor an answer. Write {calls} to call a tool, or "
            f"<answer>the answer</answer> to end.\n"
        ),
    )


def torl(tool: RolloutTool) -> Format:
    """Python blocks whose output block the policy opens; the answer stands in a box.

    Raises:
        ConfigError: The tool wants other than one argument.
    """
    return Format(
        read=partial(_read_program, tool.name, only_argument(tool.tool)),
        stop=(_OUTPUT,),
        opener="\n",
        closer="\n```\n",
    )


def template(wrapping: ToolTemplate) -> Format:
    """The chat template's calls; a turn without one is the answer."""
    return Format(
        read=partial(_read_template, wrapping),
        opener=wrapping.opener,
        between=wrapping.between,
        closer=wrapping.closer,
    )


def _read_plain(text: str, is_ended: bool) -> Action:
    return Action(answer=text if is_ended else None)


def _read_tags(
    tags: re.Pattern[str], arguments: dict[str, str], text: str, is_ended: bool
) -> Action:
    del is_ended  # a tag that is closed counts, wherever the turn broke off
    found = tags.search(text)
    if found is None:
        return Action()
    name, content = found[1], found[2].strip()
    if name == "answer":
        return Action(answer=content)
    return Action(calls=(Call(name, json.dumps({arguments[name]: content})),))


def _read_program(name: str, argument: str, text: str, is_ended: bool) -> Action:
    if text.rstrip().endswith(_OUTPUT):
        programs = _PROGRAM.findall(text)
        if not programs:
            problem = "no ```python block stands before the output block"
            return Action(calls=(Call(name, "{}", problem),))
        return Action(calls=(Call(name, json.dumps({argument: programs[-1]})),))
    return Action(answer=_boxed(text) if is_ended else None)


def _read_template(wrapping: ToolTemplate, text: str, is_ended: bool) -> Action:
    parts = _call_texts(wrapping, text)
    if parts and is_ended:
        return Action(calls=tuple(call for part in parts for call in _calls(wrapping, part)))
    return Action(answer=text.strip() if is_ended and not parts else None)


def _call_texts(wrapping: ToolTemplate, text: str) -> list[str]:
    """What stands between openers and closers; to the end where there is no closer."""
    if not wrapping.call_opener:
        return [text] if text.lstrip().startswith("{") else []
    parts = text.split(wrapping.call_opener)[1:]
    if not wrapping.call_closer:
        return parts
    return [part.split(wrapping.call_closer)[0] for part in parts]


def _calls(wrapping: ToolTemplate, text: str) -> Iterable[Call]:
    objects = [value for _, _, value in json_objects(text)]
    if not objects:
        yield Call("", text.strip(), "the call is no JSON object")
    for value in objects:
        name, arguments = value.get(wrapping.name_key), value.get(wrapping.arguments_key, {})
        if isinstance(name, str):
            yield Call(name, json.dumps(arguments, ensure_ascii=False))
        else:
            problem = f"the call has no {wrapping.name_key!r} that is a text"
            yield Call("", json.dumps(value, ensure_ascii=False), problem)


def _boxed(text: str) -> str | None:
    """What stands in the last box, whose braces may hold others."""
    start = text.rfind(_BOX)
    depth = 0
    for place in range(start + len(_BOX) - 1, len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + len(_BOX) : place].strip()
    return None
