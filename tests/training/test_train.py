"""Training runs end to end on real files: objectives, logs, resume, adapters, plans."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmalign.errors import CheckpointError, ConfigError, MediaError, RecordError
from mmalign.media import FrameSampling, operation
from mmalign.objectives import parse_objective
from mmalign.records import MediaRef, PreferencePair, Sample, text_of, user
from mmalign.testing.tiny_models import TinyModel, tiny_llava_onevision, tiny_qwen2_5_vl
from mmalign.training import LoraSettings, TrainerConfig, merge_adapter, train
from mmalign.training.examples import Encoder
from mmalign.training.plan import count_tokens

SAMPLING = FrameSampling(num_frames=4)
RRPO = {"name": "rrpo", "beta": 0.5, "alpha": 0.05}
FAST = {
    "learning_rate": 1e-2,
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_steps": 2,
    "warmup_steps": 0,
}


def run(
    model_dir: Path,
    records: Any,
    output_dir: Path,
    *,
    objective: dict[str, Any] | None = RRPO,
    lora: LoraSettings | None = None,
    **settings: Any,
) -> Path:
    return train(
        str(model_dir),
        records,
        output_dir,
        objective=parse_objective(objective) if objective else None,
        trainer=TrainerConfig(**{**FAST, **settings}),
        lora=lora,
        media=SAMPLING,
    )


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "trainer_log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def weights(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / name)


LORA = LoraSettings(lora_r=8, lora_alpha=16)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["dpo", "rrpo"])
def test_the_margin_grows(
    name: str,
    lora: LoraSettings | None,
    model_dir: Path,
    pairs: list[PreferencePair],
    tmp_path: Path,
) -> None:
    folder = run(
        model_dir,
        pairs,
        tmp_path,
        objective={"name": name, "beta": 0.5},
        lora=lora,
        per_device_train_batch_size=4,
        max_steps=8,
        learning_rate=1e-2 if lora else 2e-3,
    )
    log = log_of(folder)
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    assert log[0]["loss"] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-4)
    assert log[-1]["rewards/margins"] > 0.1
    assert log[-1]["rewards/accuracies"] > 0.7
    assert "lineage/question_type=colour/rewards/margins" in log[-1]
    card = (folder / "README.md").read_text()
    assert name in card
    assert "mmalign.agents.rrpo:build_graph" in card


def test_an_adapter_merges_into_plain_weights_that_load_in_another_process(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    folder = run(model_dir, pairs, tmp_path / "train", lora=LORA)
    assert (folder / "adapter_model.safetensors").exists()
    merged = merge_adapter(folder, tmp_path / "merged")
    code = (
        "import sys; from transformers import AutoModelForImageTextToText as M, AutoProcessor as P;"
        "m = M.from_pretrained(sys.argv[1]); P.from_pretrained(sys.argv[1]);"
        "print(sum(float(p.detach().double().abs().sum()) for p in m.parameters()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(merged)], capture_output=True, text=True, check=True
    )
    own = sum(float(v.double().abs().sum()) for v in weights(merged).values())
    base = sum(float(v.double().abs().sum()) for v in weights(model_dir).values())
    assert own != pytest.approx(base, rel=1e-9)
    assert float(done.stdout) >= own * (1 - 1e-9)


def test_a_stopped_run_ends_with_the_weights_of_an_uninterrupted_one(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    whole = run(model_dir, pairs, tmp_path / "whole", lora=LORA)
    stopped = run(model_dir, pairs, tmp_path / "stopped", lora=LORA)
    (stopped / "all_results.json").unlink()
    later = sorted(stopped.glob("checkpoint-*"))[-1]
    (later / "complete.json").unlink()  # as if it had been killed while writing it
    run(model_dir, pairs, tmp_path / "stopped", lora=LORA)
    ours, theirs = (weights(f, "adapter_model.safetensors") for f in (stopped, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [e["step"] for e in log_of(stopped)] == [1, 2, 3, 4]


def test_another_recipe_is_refused_in_the_same_folder(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    run(model_dir, pairs, tmp_path, max_steps=1)
    with pytest.raises(CheckpointError, match=r"other settings \(trainer: was"):
        run(model_dir, pairs, tmp_path, max_steps=2)


def test_supervised_training_lowers_the_loss(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    samples = [Sample(id=p.sample_id, messages=p.prompt, answer=p.chosen.text) for p in pairs]
    folder = run(
        model_dir, samples, tmp_path, objective=None, max_steps=12, per_device_train_batch_size=8
    )
    log = log_of(folder)
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]


def test_a_question_without_an_answer_cannot_be_learnt_from(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    samples = [Sample(id="mute", messages=pairs[0].prompt)]
    with pytest.raises(RecordError, match="'mute': a question without an answer"):
        run(model_dir, samples, tmp_path, objective=None)


def test_no_records_is_wrong_use(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no records to train on"):
        run(model_dir, [], tmp_path)


def test_long_records_stop_the_run_or_are_dropped_and_counted(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    long = pairs[0].model_copy(
        update={"id": "long", "prompt": (*pairs[0].prompt, text_of("a " * 50, "user"))}
    )
    with pytest.raises(ConfigError, match=r"1 of 9 records exceed max_length .* 'long' with \d+"):
        run(model_dir, [*pairs, long], tmp_path / "error", max_length=90)
    folder = run(model_dir, [*pairs, long], tmp_path / "drop", max_length=90, over_length="drop")
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["too_long"] == ["long"]
    assert plan["percentiles"]["media_tokens"]["max"] > 0
    assert plan["memory"]["weights"] > 0


def test_the_world_size_is_asserted(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="asks for 2 processes, there are 1"):
        run(model_dir, pairs, tmp_path, world_size=2)


def test_a_clip_that_was_spoilt_to_provoke_an_error_never_reaches_the_trainer(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    spoil = operation("mask", 7)
    clip = pairs[0].media[0]
    spoilt = pairs[0].model_copy(
        update={
            "prompt": (user("describe the video.", clip.then(spoil)),),
            "lineage": pairs[0].lineage.model_copy(update={"operations": (spoil,)}),
        }
    )
    with pytest.raises(RecordError, match="only to provoke a wrong answer"):
        run(model_dir, [spoilt], tmp_path)


def test_unreadable_media_are_counted_and_too_many_stop_the_run(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    gone = MediaRef(kind="video", uri=str(tmp_path / "gone.mp4"))
    broken = pairs[0].model_copy(update={"id": "broken", "prompt": (user("describe.", gone),)})
    with pytest.raises(
        MediaError, match=r"1 of 9 records .* more than 5%.*'broken': media_missing"
    ):
        run(model_dir, [*pairs, broken], tmp_path / "many")
    many = [p.model_copy(update={"id": f"{p.id}-{n}"}) for n in range(3) for p in pairs]
    folder = run(model_dir, [*many, broken], tmp_path / "few", max_steps=1)
    assert list(json.loads((folder / "plan.json").read_text())["broken"]) == ["broken"]


@pytest.mark.parametrize("tiny", [tiny_llava_onevision, tiny_qwen2_5_vl])
def test_the_plan_counts_without_decoding_what_training_will_see(
    tiny: Callable[[], TinyModel], pairs: list[PreferencePair]
) -> None:
    model = tiny()
    encoder = Encoder(model.family, model.processor, SAMPLING)
    for pair in pairs[:3]:
        exact = count_tokens(encoder.pair(pair))
        assert exact.media_tokens > 4
        assert count_tokens(encoder.for_planning().pair(pair)) == exact
