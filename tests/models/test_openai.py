"""What is sent to an OpenAI-compatible server, and what is made of its answers."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from mmalign.errors import CapabilityError, ConfigError, ModelResponseError
from mmalign.models import ChatModel, Sampling
from mmalign.models.openai import OpenAIModelConfig
from mmalign.records import MediaRef, Message, TextPart, ToolCall, text_of, user
from mmalign.testing.fake_server import FakeOpenAIServer, FakeRequest, Reply
from mmalign.testing.faults import Fault
from mmalign.testing.servers import client_of

WARM = Sampling(temperature=1.0, max_completion_length=64)
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}


def by_choice(request: FakeRequest) -> str:
    return f"choice {request.choice} seed {request.body.get('seed')}"


def test_it_is_a_chat_model() -> None:
    with FakeOpenAIServer() as server:
        assert isinstance(client_of(server), ChatModel)


def test_request_carries_messages_and_sampling() -> None:
    with FakeOpenAIServer("Blue it is") as server:
        sampling = Sampling(temperature=0.7, top_p=0.9, max_completion_length=12, stop=("END",))
        messages = [text_of("Be brief.", "system"), user("Which colour?")]
        (completion,) = asyncio.run(
            client_of(server, extra_body={"top_k": 5}).generate(messages, sampling=sampling)
        )
    assert server.requests[0].body == {
        "model": "fake",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Which colour?"},
        ],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_completion_tokens": 12,
        "stop": ["END"],
        "top_k": 5,
    }
    assert completion.text == "Blue it is"
    assert completion.finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 3)
    assert completion.model == "fake"


def test_older_servers_get_max_tokens() -> None:
    with FakeOpenAIServer() as server:
        asyncio.run(client_of(server, length_key="max_tokens").generate([user("?")]))
    assert server.requests[0].body["max_tokens"] == 256
    assert "max_completion_tokens" not in server.requests[0].body


@pytest.mark.parametrize("stream", [False, True])
def test_n_completions_come_from_one_request(stream: bool) -> None:
    with FakeOpenAIServer(by_choice) as server:
        drawn = asyncio.run(client_of(server, stream=stream).generate([user("?")], n=3))
    assert [completion.text for completion in drawn] == [f"choice {k} seed None" for k in range(3)]
    assert [request.body["n"] for request in server.requests] == [3]


def test_usage_of_a_shared_request_is_counted_once() -> None:
    """The prompt has 3 words; the choices 2, 4 and 3, of which the server states the sum 9."""
    with FakeOpenAIServer(["a b", "a b c d", "a b c"]) as server:
        drawn = asyncio.run(client_of(server).generate([user("one two three")], n=3))
    assert [completion.usage.prompt_tokens for completion in drawn] == [3, 0, 0]
    assert sum(completion.usage.completion_tokens for completion in drawn) == 9


def test_usage_per_choice_is_exact_with_logprobs() -> None:
    with FakeOpenAIServer(["a b", "a b c d", "a b c"]) as server:
        drawn = asyncio.run(
            client_of(server).generate([user("?")], n=3, sampling=Sampling(logprobs=True))
        )
    assert [completion.usage.completion_tokens for completion in drawn] == [2, 4, 3]


def test_a_server_that_ignores_n_is_topped_up_and_remembered() -> None:
    with FakeOpenAIServer(by_choice, faults=lambda _: Fault.n_ignored()) as server:
        model = client_of(server)
        first = asyncio.run(model.generate([user("?")], n=3))
        second = asyncio.run(model.generate([user("?")], n=2))
    assert (len(first), len(second)) == (3, 2)
    assert [request.body.get("n") for request in server.requests] == [3, None, None, None, None]


def test_a_server_that_refuses_n_is_asked_one_at_a_time() -> None:
    with FakeOpenAIServer(by_choice, supports_n=False) as server:
        model = client_of(server)
        drawn = asyncio.run(model.generate([user("?")], n=3))
        asyncio.run(model.generate([user("?")], n=2))
    assert len(drawn) == 3
    assert [request.body.get("n") for request in server.requests] == [3, *[None] * 5]


def test_seeded_draws_have_distinct_seeds_that_do_not_depend_on_n() -> None:
    with FakeOpenAIServer(by_choice) as server:
        model = client_of(server)
        three = asyncio.run(model.generate([user("?")], n=3, sampling=WARM, seed=7))
        one = asyncio.run(model.generate([user("?")], n=1, sampling=WARM, seed=7))
        other = asyncio.run(model.generate([user("?")], n=1, sampling=WARM, seed=8))
    assert len({completion.text for completion in three}) == 3
    assert one[0] == three[0]
    assert other[0] != three[0]
    assert all(0 <= request.body["seed"] < 2**31 for request in server.requests)


def test_seeded_draws_share_a_request_where_the_server_draws_them_apart() -> None:
    with FakeOpenAIServer(by_choice) as server:
        model = client_of(server, seeded_choices=True)
        asyncio.run(model.generate([user("?")], n=3, sampling=WARM, seed=7))
    assert [request.body["n"] for request in server.requests] == [3]


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_keep_their_arguments_as_text(stream: bool) -> None:
    calls = (
        ToolCall(name="crop", arguments='{"start_s": 1.0,  "end_s": 2}'),
        ToolCall(id="c9", name="stop", arguments="{}"),
    )
    schema = {"name": "crop", "description": "Cut.", "parameters": {"type": "object"}}
    wrapped = {"type": "function", "function": {**schema, "name": "stop"}}
    with FakeOpenAIServer([Reply(tool_calls=calls)]) as server:
        (completion,) = asyncio.run(
            client_of(server, stream=stream).generate(
                [user("?")], tools=[json.dumps(schema), json.dumps(wrapped)]
            )
        )
    assert [call.arguments for call in completion.tool_calls] == [c.arguments for c in calls]
    assert [call.name for call in completion.tool_calls] == ["crop", "stop"]
    assert completion.tool_calls[1].id == "c9"
    assert completion.finish_reason == "tool_calls"
    assert completion.text == ""
    assert server.requests[0].body["tools"] == [{"type": "function", "function": schema}, wrapped]


def test_tool_turns_are_sent_with_matching_ids() -> None:
    messages = [
        user("?"),
        Message(role="assistant", tool_calls=(ToolCall(name="a", arguments="{}"),) * 2),
        Message(role="tool", content=(TextPart(text="first"),)),
        Message(role="tool", content=(TextPart(text="second"),)),
    ]
    with FakeOpenAIServer() as server:
        asyncio.run(client_of(server).generate(messages))
    _, asked, first, second = server.requests[0].messages
    assert [call["id"] for call in asked["tool_calls"]] == [
        first["tool_call_id"],
        second["tool_call_id"],
    ]
    assert first["tool_call_id"] != second["tool_call_id"]
    assert asked["content"] is None


@pytest.mark.parametrize("tool", ["{not json", '{"parameters": {}}', "[1]"])
def test_a_tool_without_a_name_is_refused(tool: str) -> None:
    with FakeOpenAIServer() as server, pytest.raises(ConfigError, match=r"tools\[0\]"):
        asyncio.run(client_of(server).generate([user("?")], tools=[tool]))
    assert server.requests == []


def test_schema_is_enforced_by_the_server() -> None:
    with FakeOpenAIServer('{"colour": "red"}') as server:
        model = client_of(server)
        asyncio.run(model.generate([user("?")], response_schema=SCHEMA))
        asyncio.run(model.generate([user("?")], response_schema={**SCHEMA, "required": []}))
    forms = [request.body["response_format"]["json_schema"] for request in server.requests]
    assert forms[0] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert forms[1]["strict"] is False


def test_schema_is_asked_for_in_the_prompt_where_the_server_refuses_it() -> None:
    with FakeOpenAIServer('{"colour": "red"}') as server:
        model = client_of(server, response_schema="prompt")
        (completion,) = asyncio.run(model.generate([user("?")], response_schema=SCHEMA))
    assert "response_format" not in server.requests[0].body
    assert json.dumps(SCHEMA) in server.requests[0].text
    assert json.loads(completion.text) == {"colour": "red"}


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_belong_to_the_tokens_of_the_text(stream: bool) -> None:
    with FakeOpenAIServer("It is blue") as server:
        (completion,) = asyncio.run(
            client_of(server, stream=stream).generate([user("?")], sampling=Sampling(logprobs=True))
        )
    assert completion.logprobs is not None
    assert completion.logprobs.tokens == ("It", " is", " blue")
    assert completion.logprobs.logprobs == (-1.0, -1.0 / 2, -1.0 / 3)


def test_missing_logprobs_are_an_error_not_a_silence() -> None:
    def forget(request: FakeRequest) -> str:
        request.body.pop("logprobs")
        return "It is blue"

    with FakeOpenAIServer(forget) as server, pytest.raises(ModelResponseError, match="logprobs"):
        asyncio.run(client_of(server).generate([user("?")], sampling=Sampling(logprobs=True)))


def test_reasoning_stays_out_of_the_text() -> None:
    with FakeOpenAIServer([Reply("Blue.", reasoning="Sky. Sky is blue.")]) as server:
        (completion,) = asyncio.run(client_of(server).generate([user("?")]))
    assert completion.text == "Blue."


def test_a_refusal_is_data() -> None:
    with FakeOpenAIServer([Reply(refusal="I cannot.")]) as server:
        (completion,) = asyncio.run(client_of(server).generate([user("?")]))
    assert (completion.text, completion.finish_reason) == ("I cannot.", "content_filter")


def test_length_is_told_apart_from_stop() -> None:
    with FakeOpenAIServer([Reply("Once upon a", finish_reason="length")]) as server:
        (completion,) = asyncio.run(client_of(server).generate([user("?")]))
    assert completion.finish_reason == "length"


def test_missing_usage_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with (
        FakeOpenAIServer(faults=lambda _: Fault.no_usage()) as server,
        caplog.at_level(logging.WARNING, "mmalign.models.openai"),
    ):
        model = client_of(server)
        for _ in range(2):
            (completion,) = asyncio.run(model.generate([user("?")]))
    assert completion.usage.prompt_tokens == 0
    assert ["no usage" in record.message for record in caplog.records] == [True]


def test_what_the_recipe_denies_is_refused_before_the_call() -> None:
    clip = MediaRef(kind="video", uri="missing.mp4")
    sound = MediaRef(kind="audio", uri="missing.wav")
    asked = {
        "video": {"messages": [user("?", clip)]},
        "audio": {"messages": [user("?", sound)]},
        "tools": {"messages": [user("?")], "tools": ["{}"]},
        "schema": {"messages": [user("?")], "response_schema": SCHEMA},
        "log-probabilities": {
            "messages": [user("?")],
            "sampling": Sampling(logprobs=True),
        },
    }
    with FakeOpenAIServer() as server:
        model = client_of(
            server, video="refuse", tools=False, response_schema="refuse", logprobs=False
        )
        assert model.capabilities == {"text", "image"}
        for what, arguments in asked.items():
            with pytest.raises(CapabilityError, match=what if what != "schema" else "JSON schema"):
                asyncio.run(model.generate(**arguments))  # type: ignore[arg-type]  # by keyword
        with pytest.raises(CapabilityError, match="score"):
            asyncio.run(model.score([user("?")], "Blue."))
    assert server.requests == []


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_KEY", "secret-1")
    with FakeOpenAIServer(api_key="secret-1") as server:
        model = client_of(server, api_key_env="FAKE_KEY")
        asyncio.run(model.generate([user("?")]))
        monkeypatch.setenv("FAKE_KEY", "secret-2")
        with pytest.raises(ConfigError, match=r"401.*api_key_env") as caught:
            asyncio.run(model.generate([user("?")]))
    assert "secret" not in str(caught.value)
    assert "secret" not in json.dumps([model.name, dict(model.identity)])


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_KEY", raising=False)
    with (
        FakeOpenAIServer() as server,
        pytest.raises(ConfigError, match=r"FAKE_KEY.*api_key_env: null"),
    ):
        asyncio.run(client_of(server, api_key_env="FAKE_KEY").generate([user("?")]))
    assert server.requests == []


def test_the_address_is_read_from_the_environment_at_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeOpenAIServer() as server:
        model = client_of(server, base_url=None)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        asyncio.run(model.generate([user("?")]))
    assert len(server.requests) == 1


def test_one_model_serves_several_loops_one_after_another() -> None:
    with FakeOpenAIServer() as server:
        model = client_of(server, max_concurrency=2)

        async def four() -> list[str]:
            drawn = await asyncio.gather(*(model.generate([user("?")]) for _ in range(4)))
            return [completion.text for (completion,) in drawn]

        async def and_close() -> list[str]:
            texts = await four()
            await model.close()
            return texts

        assert asyncio.run(four()) == asyncio.run(four()) == asyncio.run(and_close()) == ["ok"] * 4
    assert server.peak_concurrency <= 2


def test_name_and_identity_hold_what_changes_the_answers() -> None:
    with FakeOpenAIServer() as server:
        model = client_of(server, revision="a1b2", extra_body={"top_k": 3})
    assert model.name == "fake@a1b2"
    assert model.identity["extra_body"] == {"top_k": 3}
    assert model.identity["frame_sampling"]["num_frames"] == 4
    json.dumps(model.identity)


def test_extra_body_cannot_replace_what_mmalign_sets() -> None:
    with pytest.raises(ValueError, match="extra_body sets seed, temperature"):
        OpenAIModelConfig(model="m", extra_body={"temperature": 1, "seed": 3})


def test_an_address_without_its_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="base_url"):
        OpenAIModelConfig(model="m", base_url="localhost:8000/v1")


def test_importing_reads_no_environment() -> None:
    source = Path(__file__).parents[2] / "mmalign/models/transport.py"
    lines = source.read_text().splitlines()
    assert not [line for line in lines if "environ" in line and not line.startswith("    ")]
