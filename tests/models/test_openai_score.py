"""Log-probabilities of given answers through either route."""

import asyncio
import json

import pytest

from mmalign.errors import CapabilityError, ModelResponseError
from mmalign.models.scoring import read_echo, read_prompt_logprobs
from mmalign.records import MediaRef, text_of, user
from mmalign.testing.fake_server import FakeOpenAIServer
from mmalign.testing.servers import client_of

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_echo_scores_the_answer_after_a_plain_prompt() -> None:
    """Words 4 and 5 of five: the fake's log-probability of word k is -1 / k."""
    with FakeOpenAIServer() as server:
        model = client_of(server, score="echo")
        assert "score" in model.capabilities
        scored = asyncio.run(model.score([user("The sky is")], " very blue"))
    assert scored.tokens == (" very", " blue")
    assert scored.logprobs == (-1 / 4, -1 / 5)
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].body["max_tokens"] == 0


def test_echo_with_a_chat_template_includes_the_end_of_the_turn() -> None:
    with FakeOpenAIServer() as server:
        model = client_of(server, score="echo", chat_template=CHATML)
        scored = asyncio.run(
            model.score([text_of("Be brief.", "system"), user("Sky?")], "It's blue")
        )
    prompt = server.requests[0].body["prompt"]
    assert prompt.endswith("<|im_start|>assistant\nIt's blue<|im_end|>")
    assert scored.tokens == ("It's", " blue", "<|im_end|>")


def test_prompt_logprobs_score_the_answer_and_the_end_of_the_turn() -> None:
    with FakeOpenAIServer() as server:
        model = client_of(server, score="prompt_logprobs")
        scored = asyncio.run(model.score([user("Sky?")], "It's blue"))
    assert scored.tokens == ("It's", " blue", "<|im_end|>")
    assert len(scored.token_ids) == 3
    assert list(scored.logprobs) == sorted(scored.logprobs)
    by_length = sorted(server.requests, key=lambda request: len(request.messages))
    assert [request.body.get("add_generation_prompt") for request in by_length] == [None, False]


def test_echo_cannot_score_media() -> None:
    with FakeOpenAIServer() as server, pytest.raises(CapabilityError, match="prompt_logprobs"):
        clip = MediaRef(kind="video", uri="missing.mp4")
        asyncio.run(client_of(server, score="echo").score([user("?", clip)], "Blue."))
    assert server.requests == []


def echoed(text: str, offsets: list[int]) -> str:
    logprobs = {
        "tokens": [text[a:b] for a, b in zip(offsets, [*offsets[1:], len(text)], strict=True)],
        "token_logprobs": [None, *[-0.5] * (len(offsets) - 1)],
        "text_offset": offsets,
    }
    return json.dumps({"choices": [{"text": text, "logprobs": logprobs}]})


def test_a_server_that_ignores_echo_is_found_out() -> None:
    with pytest.raises(ModelResponseError, match="ignores echo"):
        read_echo(echoed("!", [0]), "ab", "abcd", "m at u")


def test_a_token_across_the_border_is_refused() -> None:
    assert read_echo(echoed("abcd", [0, 2]), "ab", "abcd", "m at u").tokens == ("cd",)
    with pytest.raises(ModelResponseError, match="border"):
        read_echo(echoed("abcd", [0, 1]), "ab", "abcd", "m at u")


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    def listed(*ids: int) -> str:
        entries = [{str(i): {"logprob": -1.0, "decoded_token": "x"}} for i in ids]
        return json.dumps({"prompt_logprobs": [None, *entries]})

    scored = read_prompt_logprobs(listed(1, 2), listed(1, 2, 3, 4), "m at u")
    assert scored.token_ids == (3, 4)
    with pytest.raises(ModelResponseError, match="template changes the prompt"):
        read_prompt_logprobs(listed(1, 2), listed(1, 7, 3, 4), "m at u")
    with pytest.raises(ModelResponseError, match="lists no log-probabilities"):
        read_prompt_logprobs('{"choices": []}', listed(1), "m at u")
