"""DSTC's recipe: a scripted author's programs become pairs that DPO and KTO learn from."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mmalign.pipeline import RunConfig, read_recipe
from mmalign.pipeline.stages import build_pairs, make_report, train_policy
from mmalign.records import EXECUTION_MATRIX, DroppedSample, ExecutionMatrix, PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.testing.tiny_models import tiny_causal_lm

pytestmark = pytest.mark.sandbox

RECIPE = Path(__file__).parents[2] / "configs" / "dstc_starcoder2.yaml"
AUTHOR = """
from mmalign.testing.models import ScriptedModel

PROGRAMS = ("def add(a, b):\\n    return a + b", "def add(a, b):\\n    return a - b")
TESTS = ("assert add(0, 0) == 0", "assert add(2, 3) == 5")


def author():
    def reply(call, draw):
        written = TESTS if "Write a test of" in call.prompt else PROGRAMS
        if "Do nothing." in call.prompt:
            written = ("", "")
        return f"```python\\n{written[draw % 2]}\\n```"

    return ScriptedModel(script=reply, name="author@1")
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "author_of_dstc", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "author_of_dstc.py").write_text(AUTHOR)
    problems = ("Add two numbers.", "Return the sum of both.", "Do nothing.")
    rows = [{"lang": "python", "problem": text} for text in problems]
    (tmp_path / "oss.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "problems.jsonl").write_text(json.dumps({"prompt": "def sort(xs):"}))
    tiny = tiny_causal_lm()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    return read_recipe(
        RECIPE,
        [
            f"output_dir={tmp_path / 'run'}",
            f"dataset.file={tmp_path / 'oss.jsonl'}",
            f"agent.exclude={tmp_path / 'problems.jsonl'}",
            "agent.num_programs=4",
            "agent.num_tests=4",
            f"models.policy.model_name_or_path={tmp_path / 'model'}",
            "models.policy.dtype=float32",
            "models.policy.device=cpu",
            "trainer.max_steps=1",
            "trainer.per_device_train_batch_size=2",
            "trainer.gradient_accumulation_steps=1",
            "trainer.logging_steps=1",
            "trainer.bf16=false",
            "trainer.min_reward_accuracy=null",
        ],
    )


@pytest.fixture
def built(recipe: RunConfig, tmp_path: Path) -> RunConfig:
    """The recipe, once the scripted author has built its pairs."""
    policy = "{backend: python, path: 'author_of_dstc:author'}"
    scripted = recipe.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "build.json").write_text(json.dumps(scripted))
    build_pairs(
        read_recipe(tmp_path / "build.json", [f"models.policy={policy}"]), Console(quiet=True)
    )
    return recipe


def test_pairs_are_built_and_shown(built: RunConfig) -> None:
    pairs = list(read_jsonl(built.output_dir / "data" / "pairs.jsonl", PreferencePair))
    assert [pair.metadata["entry_point"] for pair in pairs] == ["add", "add"]
    for pair in pairs:
        matrix = ExecutionMatrix.model_validate(pair.metadata[EXECUTION_MATRIX])
        assert matrix.results == [[1, 1], [1, 0]]
        assert (matrix.chosen, matrix.rejected) == ((0, 1), (1, 1))
    (dropped,) = read_jsonl(built.output_dir / "data" / "dropped.jsonl", DroppedSample)
    assert dropped.reason == "no_entry_point"
    page = make_report(built).read_text()
    assert page.count('<figure class="matrix">') == 2


def test_dpo_learns_from_the_pairs(built: RunConfig) -> None:
    train_policy(built, Console(quiet=True))
    (step,) = _steps(built.output_dir)
    assert step["loss"] == pytest.approx(0.693147, abs=1e-4)  # policy is the reference
    assert step["grad_norm"] > 0


def test_kto_learns_from_the_sides_of_the_pairs(built: RunConfig) -> None:
    kto = {"objective": {"name": "kto", "beta": 0.1}}
    train_policy(built.model_copy(update=kto), Console(quiet=True))
    (step,) = _steps(built.output_dir)
    assert step["loss"] == pytest.approx(0.5, abs=1e-4)
    assert step["grad_norm"] > 0


def _steps(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "train" / "trainer_log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss" in row]
