"""What the fake model server says: choices, streams, echoed prompts."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from mmalign.records import ToolCall

__all__ = [
    "Reply",
    "choice_body",
    "echo_body",
    "num_tokens",
    "prompt_logprobs_of",
    "stream_events",
    "text_of_wire",
    "token_body",
    "words",
]


@dataclass(frozen=True)
class Reply:
    """One choice of an answer."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """None: tool_calls where there are some, else stop."""
    reasoning: str | None = None
    refusal: str | None = None


def choice_body(place: int, reply: Reply, *, with_logprobs: bool) -> dict[str, Any]:
    """One choice of a chat completion; token k has the log-probability -1 / (k + 1)."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.text or not reply.tool_calls:
        message["content"] = reply.text
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    if reply.refusal is not None:
        message |= {"refusal": reply.refusal, "content": None}
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call_{place}_{k}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for k, call in enumerate(reply.tool_calls)
        ]
    choice: dict[str, Any] = {
        "index": place,
        "message": message,
        "finish_reason": reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop"),
    }
    if with_logprobs:
        choice["logprobs"] = {
            "content": [
                {"token": token, "logprob": -1.0 / (k + 1), "bytes": None, "top_logprobs": []}
                for k, token in enumerate(words(reply.text))
            ]
        }
    return choice


async def stream_events(body: dict[str, Any], *, cut: bool) -> AsyncIterator[str]:
    """A whole answer as the events of a stream, word by word."""
    head = {"id": body["id"], "object": "chat.completion.chunk", "model": body["model"]}
    events: list[dict[str, Any]] = []
    for choice in body["choices"]:
        message, index = choice["message"], choice["index"]
        logprobs = (choice.get("logprobs") or {}).get("content")
        for k, token in enumerate(words(message.get("content") or "")):
            part = {"index": index, "delta": {"content": token}, "finish_reason": None}
            if logprobs:
                part["logprobs"] = {"content": [logprobs[k]]}
            events.append({"choices": [part]})
        for k, call in enumerate(message.get("tool_calls", ())):
            text = call["function"]["arguments"]
            middle = len(text) // 2
            first = {**call, "index": k, "function": {**call["function"], "arguments": ""}}
            for piece in (
                first,
                {"index": k, "function": {"arguments": text[:middle]}},
                {"index": k, "function": {"arguments": text[middle:]}},
            ):
                events.append({"choices": [{"index": index, "delta": {"tool_calls": [piece]}}]})
        last = {"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}
        events.append({"choices": [last]})
    if "usage" in body:
        events.append({"choices": [], "usage": body["usage"]})
    if cut:
        events = events[: len(events) // 2]
    for event in events:
        yield f"data: {json.dumps(head | event)}\n\n"
    if not cut:
        yield "data: [DONE]\n\n"


def echo_body(body: dict[str, Any]) -> dict[str, Any]:
    """What /completions says of its own prompt."""
    prompt = str(body.get("prompt", ""))
    tokens = words(prompt)
    offsets = [sum(len(token) for token in tokens[:k]) for k in range(len(tokens))]
    logprobs = {
        "tokens": tokens,
        "token_logprobs": [None, *(-1.0 / (k + 1) for k in range(1, len(tokens)))],
        "text_offset": offsets,
    }
    echoed = bool(body.get("echo"))
    choice = {
        "index": 0,
        "text": prompt if echoed else "",
        "logprobs": logprobs if echoed else {"tokens": [], "token_logprobs": [], "text_offset": []},
        "finish_reason": "length",
    }
    usage = {"prompt_tokens": len(tokens), "completion_tokens": 0, "total_tokens": len(tokens)}
    return {"object": "text_completion", "model": "fake", "choices": [choice], "usage": usage}


def token_body(body: dict[str, Any], text: str) -> dict[str, Any]:
    """What /completions draws behind ids: a token a character, cut as the request says.

    The token that ends a turn, the last of `stop_token_ids`, is written ¶.
    """
    ends = [text.find(stop) + len(stop) for stop in body.get("stop", []) if stop in text]
    written = text[: min(ends)] if ends else text
    is_ended = bool(ends) or written.endswith("¶")
    cut = written[: body["max_tokens"]]
    ids = [body["stop_token_ids"][-1] if one == "¶" else ord(one) for one in cut]
    choice = {
        "index": 0,
        "text": cut.removesuffix("¶"),
        "token_ids": ids,
        "logprobs": {"token_logprobs": [-1.0 / (k + 1) for k in range(len(ids))]},
        "finish_reason": "stop" if is_ended and cut == written else "length",
    }
    return {"object": "text_completion", "model": body["model"], "choices": [choice]}


def prompt_logprobs_of(body: dict[str, Any]) -> list[dict[str, Any] | None]:
    """The chat in ChatML, word by word; a word's id depends on the word only."""
    turns = [
        f"<|im_start|>{message['role']}\n{text_of_wire(message)}<|im_end|>\n"
        for message in body.get("messages", [])
    ]
    text = "".join(turns)
    if body.get("add_generation_prompt", True):
        text += "<|im_start|>assistant\n"
    listed: list[dict[str, Any] | None] = [None]
    for k, token in enumerate(words(text)[1:], start=1):
        token_id = str(int.from_bytes(token.encode()[:6], "big"))
        listed.append({token_id: {"logprob": -1.0 / (k + 1), "rank": 1, "decoded_token": token}})
    return listed


def words(text: str) -> list[str]:
    """The tokens of the fake: words with the space before them, and <|special|> ones."""
    return re.findall(r"<\|\w+\|>|\n| ?[^\s<]+|\s|<", text)


def text_of_wire(message: dict[str, Any]) -> str:
    """The text parts of a message."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def num_tokens(message: dict[str, Any]) -> int:
    """Words of a message, and 64 for each picture, sound or clip."""
    content = message.get("content")
    media = (
        [part for part in content if part["type"] != "text"] if isinstance(content, list) else []
    )
    return len(words(text_of_wire(message))) + 64 * len(media)
