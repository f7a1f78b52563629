"""The code model of the world: its tokenizer, how it begins, and what the shipped one writes."""

import asyncio
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from mmalign.api import Sampling, Sandbox, SandboxConfig
from mmalign.datasets.programs import model as programs_model
from mmalign.datasets.programs.reader import read, read_lessons
from mmalign.datasets.small_language_model import write_untrained
from mmalign.media import FrameSampling
from mmalign.models.load import load_model
from mmalign.models.local import TransformersModelConfig

BASE_MODEL = Path(programs_model.__file__).parent / "base_model"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(
        programs_model.tokenizer(), tmp_path_factory.mktemp("programs") / "start"
    )


def test_every_text_of_the_world_comes_back_from_the_tokenizer(untrained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(untrained)
    texts = [sample.question for sample in read("validation")]
    texts += [sample.answer or "" for sample in [*read("validation"), *read_lessons(200)]]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_letters_of_a_string_are_tokens_of_their_own(untrained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(untrained)
    assert tokenizer.tokenize("f('moat')")[-6:] == ["('", "m", "o", "a", "t", "')"]


def test_the_seed_fixes_the_weights(untrained: Path, tmp_path: Path) -> None:
    first, again, other = (
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        for folder in (
            untrained,
            write_untrained(programs_model.tokenizer(), tmp_path / "again"),
            write_untrained(programs_model.tokenizer(), tmp_path / "other", seed=1),
        )
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_shipped_model_writes_programs_of_which_some_are_right() -> None:
    """Greedy answers to instructions of templates that it has not learnt from."""
    samples = list(read("validation", num_samples=12))
    config = TransformersModelConfig(model_name_or_path=str(BASE_MODEL), dtype="float32")

    async def answers() -> list[str]:
        model = load_model(config, FrameSampling())
        sampling = Sampling(max_completion_length=64)
        found = await asyncio.gather(
            *(model.generate(sample.messages, sampling=sampling) for sample in samples)
        )
        await model.close()
        return [completion.text for (completion,) in found]

    texts = asyncio.run(answers())
    with Sandbox(SandboxConfig(packages=())) as sandbox:
        statuses = [
            sandbox.check(
                text.removeprefix("```python\n").removesuffix("\n```"),
                "\n".join(sample.tests or ()),
                sample.metadata["entry_point"],
            ).status
            for text, sample in zip(texts, samples, strict=True)
        ]
    assert 2 <= statuses.count("pass") <= 10, statuses
