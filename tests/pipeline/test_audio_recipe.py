"""The audio-only recipe from end to end: a tiny Qwen2-Audio hears real sound files on a CPU."""

import json
import math
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmalign.media import write_video
from mmalign.pipeline import read_recipe, run_pipeline
from mmalign.records import DroppedSample, PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.testing.tiny_audio_models import tiny_qwen2_audio, tiny_sound

RECIPE = Path(__file__).parents[2] / "configs" / "dpo_qwen2_audio.yaml"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))


def write_sounds(folder: Path, num_sounds: int) -> Iterator[str]:
    """Sound files of half a second, and the names that they were given."""
    folder.mkdir(parents=True)
    for number in range(num_sounds):
        sound = tiny_sound(0.5, seed=number)
        with wave.open(str(folder / f"tones-{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sound.sample_rate_hz)
            file.writeframes((sound.waveform[0] * 32767).astype("<i2").tobytes())
        yield f"tones-{number}.wav"


def write_questions(root: Path) -> None:
    """Eight sounds with a question each, and one about a clip that has no sound."""
    names = list(write_sounds(root / "audio_files", 8))
    silent = np.zeros((4, 16, 16, 3), np.uint8)
    write_video(root / "audio_files" / "silent.mp4", silent, fps=8)
    for split in ("train", "test"):
        rows = [f"{name},Which shape makes the tone?,star,yes\n" * 3 for name in names]
        if split == "train":
            rows.append("silent.mp4,What is heard?,star,yes\n" * 3)
        header = "file_name,QuestionText,answer,confidence\n"
        (root / f"clotho_aqa_{split}.csv").write_text(header + "".join(rows))


def test_the_recipe_builds_trains_evaluates_and_shows_sounds_alone(tmp_path: Path) -> None:
    write_questions(tmp_path / "data")
    tiny = tiny_qwen2_audio()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    recipe = read_recipe(
        RECIPE,
        [
            f"output_dir={tmp_path / 'run'}",
            f"dataset.root={tmp_path / 'data'}",
            f"evaluation.dataset.root={tmp_path / 'data'}",
            "evaluation.sampling.max_completion_length=4",
            "agent.max_completion_length=2",
            f"models.policy.model_name_or_path={tmp_path / 'model'}",
            "models.policy.dtype=float32",
            "models.policy.device=cpu",
            "trainer.max_steps=2",
            "trainer.gradient_accumulation_steps=1",
            "trainer.logging_steps=1",
            "trainer.bf16=false",
            "trainer.warmup_steps=0",
            "trainer.learning_rate=0.01",
            "lora.lora_r=4",
        ],
    )
    state = run_pipeline(recipe, Console(quiet=True))

    data = tmp_path / "run" / "data"
    pairs = list(read_jsonl(data / "pairs.jsonl", PreferencePair))
    dropped = list(read_jsonl(data / "dropped.jsonl", DroppedSample))
    assert state["num_pairs"] == len(pairs) == 9 - len(dropped) > 1
    assert {media.kind for pair in pairs for media in pair.media} == {"audio"}
    assert {pair.chosen.text for pair in pairs} == {"star"}
    assert all(pair.lineage.operations == () for pair in pairs)
    (failed,) = (one for one in dropped if one.kind == "failed")
    assert (failed.reason, failed.node) == ("media_missing_stream", "ask")
    message = "silent.mp4: found only streams of type video, expected an audio stream"
    assert message in failed.message

    assert set(state["before"]) == set(state["after"])
    log = (tmp_path / "run" / "train" / "trainer_log.jsonl").read_text().splitlines()
    first, second = (row["loss"] for row in map(json.loads, log) if "loss" in row)
    assert first == pytest.approx(math.log(2), abs=1e-4) != second
    page = Path(state["report"]).read_text()
    assert page.count("<audio src=") == len(pairs)
    assert page.count('class="spectrogram"') == len(pairs)
    assert page.count("data:audio/wav;base64,") == len(pairs)
    assert "<video src=" not in page
