"""From messages to the text of a chat template, and from an answer to the ids that follow it."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from mmalign.errors import CapabilityError, ConfigError, RecordError
from mmalign.models.families.protocol import EncodedCompletion
from mmalign.records import MediaPart, Message

__all__ = ["Render", "control_tokens", "encode_answer", "plain_render", "template_render"]

Render = Callable[[Sequence[Message], bool], str]
"""(messages, end with the assistant's header) to text, with one placeholder for each medium."""


class _Answer(NamedTuple):
    """An answered prompt as text, and where in it things are."""

    full: str
    written: list[tuple[int, int]]
    """Character ranges that the model wrote, ends of turns included."""
    text_start: int
    """Place in `full` of the character `text_skip` of the last turn's text."""
    text_skip: int
    """Leading characters of the text that the template drops."""


def template_render(renderer: Any, *, with_parts: bool, tools: Sequence[str] = ()) -> Render:
    """Text by the chat template of a processor or tokenizer.

    Args:
        renderer: Has `apply_chat_template`.
        with_parts: The template wants lists of typed parts; else it wants plain text.
        tools: JSON schemas as text.
    """
    functions = [json.loads(tool) for tool in tools] or None

    def render(messages: Sequence[Message], answer_follows: bool) -> str:
        text: str = renderer.apply_chat_template(
            [_chat_turn(message, with_parts=with_parts) for message in messages],
            tools=functions,
            tokenize=False,
            add_generation_prompt=answer_follows,
        )
        return text

    return render


def plain_render(eos_token: str | None) -> Render:
    """Text of a model without chat template: the turns as they are, end of text behind answers.

    Raises:
        ConfigError: The tokenizer has no end-of-text token, so an answer would never end.
    """
    if not eos_token:
        raise ConfigError(
            "the tokenizer has neither a chat template nor an eos token; set one of them"
        )

    def render(messages: Sequence[Message], answer_follows: bool) -> str:
        return "".join(m.text + (eos_token if m.role == "assistant" else "") for m in messages)

    return render


def encode_answer(
    tokenizer: Any,
    render: Render,
    messages: Sequence[Message],
    completion: Sequence[Message],
    *,
    add_special_tokens: bool,
    media_token_ids: Collection[int] = (),
) -> EncodedCompletion:
    """Ids of the turns that answer `messages`, up to and with the last end of turn.

    Prompt and answer are tokenised together and cut where the prompt's own ids end, so
    that the ids of both always equal those of the whole.

    Args:
        tokenizer: A fast one: offsets are needed.
        render: The family's text of a chat.
        messages: The prompt.
        completion: Assistant turns, tool turns between them.
        add_special_tokens: Whether the tokenizer adds its own (a template writes them itself).
        media_token_ids: Placeholders, which an answer must not hold.

    Raises:
        RecordError: The template changes the prompt once it is answered, a token spans the
            border of prompt and answer, or the answer holds a placeholder or media.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{type(tokenizer).__name__} gives no character offsets; use a model with a fast "
            f"tokenizer (tokenizer.json)"
        )
    _require_text_only(completion)
    prompt = render(messages, True)
    answer = _answered(render, messages, completion, control_tokens(tokenizer))
    prompt_ids = tokenizer(prompt, add_special_tokens=add_special_tokens)["input_ids"]
    joint = tokenizer(
        answer.full, add_special_tokens=add_special_tokens, return_offsets_mapping=True
    )
    ids, offsets = joint["input_ids"], joint["offset_mapping"]
    length = len(prompt_ids)
    if ids[:length] != prompt_ids:
        raise RecordError(
            f"a token spans the border of prompt and answer: ...{prompt[-20:]!r} + "
            f"{answer.full[len(prompt) :][:20]!r} are tokenised otherwise together than apart. "
            f"End the prompt with a line break, or give the model a chat template"
        )
    if placeholder := set(ids[length:]) & set(media_token_ids):
        named = tokenizer.convert_ids_to_tokens(sorted(placeholder))
        raise RecordError(
            f"the response holds the model's media placeholder {named}: "
            f"{completion[-1].text[:60]!r}; remove it from the text"
        )
    size = len(completion[-1].text)

    def in_text(character: int) -> int:
        return min(max(character - answer.text_start + answer.text_skip, 0), size)

    return EncodedCompletion(
        input_ids=torch.tensor(ids[length:], dtype=torch.int64),
        mask=torch.tensor(
            [any(a <= start < b for a, b in answer.written) for start, _ in offsets[length:]],
            dtype=torch.bool,
        ),
        offsets=tuple((in_text(start), in_text(end)) for start, end in offsets[length:]),
    )


def _answered(
    render: Render,
    messages: Sequence[Message],
    completion: Sequence[Message],
    special_tokens: re.Pattern[str],
) -> _Answer:
    full, written = render(messages, True), []
    end = text_start = text_skip = 0
    for index, turn in enumerate(completion):
        if turn.role != "assistant":
            continue
        before = render([*messages, *completion[:index]], True)
        if not before.startswith(full):
            raise _rewrites(full, before)
        body = _body(render, [*messages, *completion[:index]], turn, before)
        ends = [m for m in special_tokens.finditer(body) if m.start() >= _text_end(body, turn)]
        if not ends:
            raise RecordError(
                f"the chat template ends the assistant's turn without a special token "
                f"(found {body[-20:]!r}), so the model cannot learn to stop; mend the template"
            )
        full, end = before + body[: ends[-1].end()], ends[0].start()
        written.append((len(before), len(full)))
        text_start, text_skip = _locate(body[:end], turn.text)
        text_start += len(before)
    return _Answer(full, written, text_start, text_skip)


def _body(render: Render, prior: Sequence[Message], turn: Message, before: str) -> str:
    """What the template puts behind the header of the assistant's turn."""
    after = render([*prior, turn], False)
    if after.startswith(before):
        return after[len(before) :]
    # LLaVA-OneVision's template writes "assistant \n" into a history and "assistant\n" as the
    # header of a new answer: blanks alone may differ, and the answer follows the latter.
    closed = render(prior, False)
    header = r"\s*".join(re.escape(word) for word in before[len(closed) :].split())
    match = re.match(header + r"\s*", after[len(closed) :])
    if not after.startswith(closed) or not before.startswith(closed) or match is None:
        raise _rewrites(before, after)
    blanks = turn.text[: len(turn.text) - len(turn.text.lstrip())]
    return blanks + after[len(closed) + match.end() :]


def _text_end(body: str, turn: Message) -> int:
    """A place in the body behind the response's text, whatever special tokens the text names."""
    place = body.find(turn.text.strip())
    return 0 if place < 0 else place + len(turn.text.strip())


def _locate(body: str, text: str) -> tuple[int, int]:
    """Where the text, or what the template's trimming leaves of it, starts in the body."""
    stripped = text.strip()
    skip = len(text) - len(text.lstrip())
    if body.endswith(text):
        return len(body) - len(text), 0
    if body.rstrip().endswith(stripped):
        return len(body.rstrip()) - len(stripped), skip
    if body.count(stripped) == 1:
        return body.index(stripped), skip
    raise RecordError(
        f"the chat template does not keep the response's text: {text[:60]!r} became "
        f"{body[:80]!r}; spans cannot be laid on it. Change the response or the template"
    )


def _rewrites(before: str, after: str) -> RecordError:
    same = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    return RecordError(
        f"the chat template renders the prompt differently once it is answered: at character "
        f"{same} {before[same : same + 30]!r} became {after[same : same + 30]!r}. Train with a "
        f"template that only appends"
    )


def _require_text_only(completion: Sequence[Message]) -> None:
    if not completion or completion[-1].role != "assistant":
        raise RecordError("a completion ends with an assistant turn; add one")
    if any(message.media for message in completion):
        raise RecordError(
            "a completion holds media, which no family can encode yet; move them to the prompt"
        )


@lru_cache(maxsize=8)
def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Names of the tokenizer's special tokens.

    Raises:
        ConfigError: It has none.
    """
    names = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    names |= set(tokenizer.all_special_tokens)
    if not names:
        raise ConfigError(
            "the tokenizer has no special tokens, so no turn can end; add an eos token"
        )
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))


def _chat_turn(message: Message, *, with_parts: bool) -> dict[str, Any]:
    if not with_parts and message.media:
        raise CapabilityError(
            f"the prompt holds a {message.media[0].kind} ({message.media[0].uri}), the model "
            f"reads text only; choose a model that sees, or remove the media"
        )
    turn: dict[str, Any] = {
        "role": message.role,
        "content": [
            {"type": part.media.kind}
            if isinstance(part, MediaPart)
            else {"type": "text", "text": part.text}
            for part in message.content
        ]
        if with_parts
        else message.text,
    }
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                **({"id": call.id} if call.id else {}),
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.name:
        turn["name"] = message.name
    return turn


def _arguments(text: str) -> Any:
    """Templates write arguments with `tojson`, so they want the object; bad JSON stays text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
