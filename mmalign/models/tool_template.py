"""How a chat template writes calls and results, read off the template itself."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from mmalign.errors import CapabilityError
from mmalign.records import Message, TextPart, ToolCall, text_of

__all__ = ["ToolTemplate", "json_objects", "tool_template"]

_NAME, _ID = "probe_tool", "probe0001"
_ARGUMENTS = {"probe_argument": "probe_value"}
_RESULTS = ('the first "result"\nof a probe', 'the second "result"\nof a probe')


class ToolTemplate(NamedTuple):
    """What stands around calls, which the policy writes, and results, which it is shown."""

    call_opener: str
    """Before the call's JSON; may be empty."""
    call_closer: str
    name_key: str
    arguments_key: str
    opener: str
    """From behind the end of the policy's turn to the first result."""
    between: str
    """Between two results of one turn."""
    closer: str
    """From behind the last result to where the policy goes on."""


class _Turn(NamedTuple):
    text: str
    """With its end."""
    call_start: int
    call_end: int
    text_end: int
    """Where the token that ends the turn begins."""
    call: dict[str, Any]


def tool_template(
    render: Callable[[Sequence[Message], bool], str],
    messages: Sequence[Message],
    control_tokens: re.Pattern[str],
) -> ToolTemplate:
    """Render probes behind a prompt, and see what the template puts around them.

    Args:
        render: (messages, whether the assistant's header ends the text) to text.
        messages: The prompt.
        control_tokens: Names of the tokenizer's control tokens.

    Raises:
        CapabilityError: The template writes calls as no JSON object, quotes or drops results, or
            changes what it has written once more is said.
    """
    prompt = render(messages, True)
    call, both = _probe(1), _probe(2)
    one = _turn(render, messages, call, prompt, control_tokens)
    two = _turn(render, messages, both, prompt, control_tokens)
    asked = render([*messages, call, _result(0)], True)
    opener, closer = _around(_appended(prompt + one.text, asked), _RESULTS[:1])
    pieces = _around(
        _appended(prompt + two.text, render([*messages, both, _result(0), _result(1)], True)),
        _RESULTS,
    )
    keys = {type(value): key for key, value in one.call.items()}
    found = ToolTemplate(
        call_opener=one.text[: one.call_start].strip(),
        call_closer=one.text[one.call_end : one.text_end].strip(),
        name_key=keys[str],
        arguments_key=keys[dict],
        opener=opener,
        between=pieces[1],
        closer=closer,
    )
    if (pieces[0], pieces[2]) != (opener, closer):
        raise _refused("it writes something else around two results than around one")
    again = _turn(render, [*messages, call, _result(0)], call, asked, control_tokens)
    later = render([*messages, call, _result(0), call, _result(1)], True)
    if _around(_appended(asked + again.text, later), _RESULTS[1:]) != [opener, closer]:
        raise _refused("it writes something else around the results of a second turn")
    for text in ("A probe.", "<think>\nA probe.\n</think>\n\nIts answer."):
        answered = [*messages, call, _result(0), text_of(text)]
        _appended(asked + text, render(answered, False))
        said = Message(role="assistant", content=(TextPart(text=text),), tool_calls=call.tool_calls)
        first = _appended(prompt + text, render([*messages, said], False))
        ended = prompt + text + first[: _end(control_tokens, first).end()]
        _appended(ended, render([*messages, said, _result(0)], True))
    return found


def json_objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(start, end, object) of every JSON object in a text, none inside another."""
    place, decoder = 0, json.JSONDecoder()
    while (start := text.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            place = start + 1
            continue
        yield start, place, value


def _turn(
    render: Callable[[Sequence[Message], bool], str],
    messages: Sequence[Message],
    turn: Message,
    before: str,
    control_tokens: re.Pattern[str],
) -> _Turn:
    body = _appended(before, render([*messages, turn], False))
    if _ID in body:
        raise _refused("it writes the ids of calls, which a policy cannot know")
    calls = [item for item in json_objects(body) if _is_probe(item[2])]
    if len(calls) != len(turn.tool_calls):
        raise _refused(
            f"it writes a call as {body[:80]!r}, expected a JSON object with a name and arguments"
        )
    start, end, call = calls[0]
    ending = _end(control_tokens, body, calls[-1][1])
    return _Turn(body[: ending.end()], start, end, ending.start(), call)


def _is_probe(call: dict[str, Any]) -> bool:
    return _NAME in call.values() and _ARGUMENTS in call.values() and len(call) == 2


def _end(control_tokens: re.Pattern[str], body: str, start: int = 0) -> re.Match[str]:
    ending = control_tokens.search(body, start)
    if ending is None:
        raise _refused(f"it ends a turn without a control token: {body[-30:]!r}")
    return ending


def _appended(before: str, after: str) -> str:
    if after.startswith(before):
        return after[len(before) :]
    pairs = enumerate(zip(before, after, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(before), len(after)))
    raise _refused(
        f"what it has written becomes other text once more is said: at character {place} "
        f"{before[place : place + 30]!r} became {after[place : place + 30]!r}"
    )


def _around(text: str, results: Sequence[str]) -> list[str]:
    """What stands before, between and behind the results."""
    pieces = []
    for result in results:
        if text.count(result) != 1:
            raise _refused(f"it does not write a tool's result as it is: {text[:80]!r}")
        before, text = text.split(result)
        pieces.append(before)
    return [*pieces, text]


def _probe(num_calls: int) -> Message:
    call = ToolCall(id=_ID, name=_NAME, arguments=json.dumps(_ARGUMENTS))
    return Message(role="assistant", tool_calls=(call,) * num_calls)


def _result(place: int) -> Message:
    content = (TextPart(text=_RESULTS[place]),)
    return Message(role="tool", content=content, tool_call_id=_ID, name=_NAME)


def _refused(why: str) -> CapabilityError:
    return CapabilityError(
        f"the chat template cannot be used for tool calls in rollouts: {why}. Give the tokenizer a "
        f"template that only appends, or choose another format of rollouts"
    )
