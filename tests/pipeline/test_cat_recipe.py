"""CAT's recipe from end to end: a tiny Qwen2.5-Omni sees and hears real clips on a CPU."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmalign.media import AudioClip, write_video
from mmalign.pipeline import RunConfig, read_recipe, run_pipeline
from mmalign.records import DroppedSample, PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.testing.tiny_audio_models import tiny_qwen2_5_omni, tiny_sound

RECIPE = Path(__file__).parents[2] / "configs" / "cat_qwen2_5_omni.yaml"
PLUGINS = """
import json
import re

from mmalign.api import MediaRef, Sample, user
from mmalign.testing.models import ScriptedModel

GOLD = "the circle plays ."


def read(root, num_samples):
    for number in range(num_samples):
        uri = f"{root}/{number}.mp4"
        asked = user(
            "which shape plays ?",
            MediaRef(kind="video", uri=uri),
            MediaRef(kind="audio", uri=uri),
        )
        yield Sample(
            id=f"clip-{number}",
            messages=(asked,),
            answer=GOLD,
            metadata={"question_type": "Audio-Visual/Location", "dataset": "test"},
        )


def judge():
    def reply(call, draw):
        numbered = re.findall(r"^(\\d+): (.*)$", call.prompt, flags=re.MULTILINE)
        sentences = [
            {"i": int(i), "label": "grounded" if text in GOLD else "useless", "reason": "rule"}
            for i, text in numbered
        ]
        return json.dumps({"sentences": sentences, "answered": bool(numbered)})

    return ScriptedModel(script=reply, name="judge@1")


def rewriter():
    return ScriptedModel(script=lambda call, draw: GOLD, name="rewriter@1")
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "plugins_of_cat", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plugins_of_cat.py").write_text(PLUGINS)
    for number in range(5):
        sound = tiny_sound(0.5, seed=number)
        if number == 4:
            sound = AudioClip(np.zeros_like(sound.waveform), sound.sample_rate_hz)
        frames = np.full((4, 64, 64, 3), 50 * number, np.uint8)
        write_video(tmp_path / f"{number}.mp4", frames, 8.0, audio=sound)
    tiny = tiny_qwen2_5_omni()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    python = "{backend: python, path: 'plugins_of_cat:%s'}"
    return read_recipe(
        RECIPE,
        [
            f"output_dir={tmp_path / 'run'}",
            f"dataset={{path: 'plugins_of_cat:read', root: {tmp_path}, num_samples: 5}}",
            f"evaluation.dataset={{path: 'plugins_of_cat:read', root: {tmp_path}, num_samples: 2}}",
            "evaluation.beside=exact_match",
            "evaluation.sampling.max_completion_length=4",
            f"evaluation.judge={python % 'judge'}",
            f"models.judge={python % 'judge'}",
            f"models.rewriter={python % 'rewriter'}",
            f"models.policy.model_name_or_path={tmp_path / 'model'}",
            "models.policy.dtype=float32",
            "models.policy.device=cpu",
            "agent.num_generations=2",
            "agent.max_completion_length=4",
            "agent.max_length_ratio=4",
            "media.num_frames=2",
            "trainer.max_steps=3",
            "trainer.gradient_accumulation_steps=1",
            "trainer.learning_rate=1.0e-3",
            "trainer.logging_steps=1",
            "trainer.bf16=false",
            "trainer.min_reward_accuracy=null",
            "lora.lora_r=4",
        ],
    )


def test_the_recipe_builds_judges_trains_and_evaluates(recipe: RunConfig) -> None:
    folder = recipe.output_dir
    state = run_pipeline(recipe, Console(quiet=True))

    pairs = list(read_jsonl(folder / "data" / "pairs.jsonl", PreferencePair))
    assert state["num_pairs"] == len(pairs) == 4
    for pair in pairs:
        assert [media.kind for media in pair.media] == ["video", "audio"]
        assert pair.chosen.media is None
        assert pair.rejected.media is None  # both sides see and hear the prompt's
        assert pair.chosen.text == "the circle plays ."
        assert pair.metadata["ambiguity"] == 1.0
        assert pair.lineage.judge == "judge@1"
    (dropped,) = read_jsonl(folder / "data" / "dropped.jsonl", DroppedSample)
    assert (dropped.sample_id, dropped.reason) == ("clip-4", "no_audio")

    log = [json.loads(x) for x in (folder / "train" / "trainer_log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "loss" in line]
    assert steps[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert steps[-1]["rewards/margins"] > 0.0
    assert any(name.startswith("lineage/ambiguity=") for name in steps[0])

    for arm in ("before", "after"):
        told = json.loads((folder / "eval" / f"{arm}.json").read_text())
        assert told["metric"] == "specific"
        assert set(told["metrics"]) >= {"specific", "ambiguity_rate", "mean_ambiguity", "accuracy"}
        assert told["unparsed"] == 0
    difference = json.loads((folder / "eval" / "difference.json").read_text())
    assert difference["metric"] == "specific"
    calls = (folder / "eval" / "after.judged.jsonl").read_text()
    assert run_pipeline(recipe, Console(quiet=True))["num_pairs"] == 4
    assert (folder / "eval" / "after.judged.jsonl").read_text() == calls
