"""A policy on a server: what is sent, what is read, which weights answer."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mmalign.errors import CapabilityError, ConfigError, ModelCallError, ModelResponseError
from mmalign.models.protocol import SamplesTokens, Sampling
from mmalign.models.token_server import TokenServer, TokenServerConfig
from mmalign.records import MediaRef, user
from mmalign.testing.fake_server import FakeOpenAIServer, Faults
from mmalign.testing.faults import Fault
from mmalign.testing.tiny_models import CHATML, tiny_tokenizer

Value = TypeVar("Value")
WARM = Sampling(temperature=1.0, top_p=0.9, max_completion_length=20)


def ask(
    work: Callable[[TokenServer], Coroutine[Any, Any, Value]],
    answers: str = "it is red¶",
    faults: Faults = (),
) -> tuple[Value, FakeOpenAIServer]:
    async def run(server: FakeOpenAIServer) -> Value:
        config = TokenServerConfig(
            model="base",
            tokenizer="unused",
            base_url=server.base_url,
            api_key_env=None,
            max_retries=1,
            first_wait_s=0.01,
        )
        policy = TokenServer(config, tiny_tokenizer(chat_template=CHATML))
        assert isinstance(policy, SamplesTokens)
        try:
            return await work(policy)
        finally:
            await policy.close()

    with FakeOpenAIServer(answers, faults=faults) as server:
        return asyncio.run(run(server)), server


def test_ids_go_out_and_come_back_as_they_are() -> None:
    sampled, server = ask(
        lambda p: p.sample_tokens([user("What?")], [7, 9], sampling=WARM, seed=2**40 + 5)
    )
    tokenizer = tiny_tokenizer(chat_template=CHATML)
    prompt = tokenizer("<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    body = server.requests[0].body
    end = tokenizer.eos_token_id
    assert body["prompt"] == [*prompt, 7, 9]
    assert body["seed"] == 5
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (1.0, 0.9, 20)
    assert body["stop_token_ids"] == [end]
    assert "stop" not in body
    assert sampled.token_ids == (*map(ord, "it is red"), end)
    assert sampled.logps == tuple(-1.0 / (k + 1) for k in range(10))
    assert sampled.finish_reason == "stop"


def test_stop_text_stays_in_the_turn() -> None:
    stopping = WARM.model_copy(update={"stop": ("is",)})
    sampled, server = ask(lambda p: p.sample_tokens([user("?")], sampling=stopping, seed=0))
    assert server.requests[0].body["include_stop_str_in_output"] is True
    assert (sampled.token_ids, sampled.finish_reason) == (tuple(map(ord, "it is")), "stop")


def test_each_push_answers_under_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")

    async def work(policy: TokenServer) -> list[str]:
        names = [policy.name]
        for _ in range(2):
            await policy.push_adapter(tmp_path)
            await policy.sample_tokens([user("?")], sampling=WARM, seed=0)
            names.append(policy.name)
        return names

    names, server = ask(work)
    assert names == ["base", "policy-1", "policy-2"]
    drawn = [r.body["model"] for r in server.requests if r.path == "/v1/completions"]
    assert drawn == ["policy-1", "policy-2"]
    assert server.adapters == {"policy-2": str(tmp_path)}


def test_push_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no adapter_model.safetensors"):
        ask(lambda p: p.push_adapter(tmp_path))


def test_server_that_refuses_the_adapter_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")

    async def work(policy: TokenServer) -> str:
        with pytest.raises(ModelCallError):
            await policy.push_adapter(tmp_path)
        return policy.name

    assert ask(work, faults=[Fault("status", status=400)])[0] == "base"


def test_answer_without_ids_is_no_answer() -> None:
    with pytest.raises(ModelResponseError, match="return_token_ids"):
        ask(
            lambda p: p.sample_tokens([user("?")], sampling=WARM, seed=0),
            faults=[Fault("wrong_schema")] * 2,
        )
    (sampled, server) = ask(
        lambda p: p.sample_tokens([user("?")], sampling=WARM, seed=0),
        faults=[Fault("wrong_schema")],
    )
    assert sampled.finish_reason == "stop"
    assert len(server.requests) == 2


def test_media_are_refused() -> None:
    clip = MediaRef(kind="video", uri="clip.mp4")
    with pytest.raises(CapabilityError, match=r"clip.mp4, but only text goes"):
        ask(lambda p: p.sample_tokens([user("?", clip)], sampling=WARM, seed=0))
