"""Training that builds its pairs at every step: the same pairs and steps as built beforehand."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from mmalign.agents import pami_vdpo
from mmalign.agents.pami_vdpo import PaMiVDPOConfig, PaMiVDPOContext
from mmalign.engine.agent import walk
from mmalign.errors import ConfigError, FailedRatioError
from mmalign.media import FrameSampling, write_video
from mmalign.models.local import TransformersChatModel
from mmalign.objectives import parse_objective
from mmalign.records import DroppedSample, MediaRef, PreferencePair, Sample, user
from mmalign.testing.tiny_models import tiny_llava_onevision
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.live_model import KnownReference, LiveModel
from mmalign.training.online import OnlineAgent, OnlineTrainer

NUM_FRAMES = 4
SAMPLING = FrameSampling(num_frames=NUM_FRAMES)
PATH = "mmalign.agents.pami_vdpo:build_graph"
ANSWERS = ("it is red.", "yes, it is blue.", "no, it is not.", "two shapes collide.")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("online")
    found = []
    for index in range(6):
        rng = np.random.default_rng(index)
        clip = folder / f"{index}.mp4"
        write_video(clip, rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8), 8.0)
        found.append(
            Sample(
                id=f"s{index}",
                messages=(user("describe it.", MediaRef(kind="video", uri=str(clip))),),
                answer=ANSWERS[index % len(ANSWERS)],
                metadata={"question_type": ("colour", "action")[index % 2]},
            )
        )
    return found


def online(**settings: Any) -> OnlineAgent:
    config = PaMiVDPOConfig(**settings)
    return OnlineAgent(pami_vdpo.build_graph(), config, PATH, seed=3)


def settings(**changes: Any) -> TrainerConfig:
    known: dict[str, Any] = {
        "online": True,
        "learning_rate": 1e-2,
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "lineage_keys": ("question_type", "augmentation"),
    }
    return TrainerConfig(**known | changes)


def fit(
    model_dir: Path,
    records: Sequence[Any],
    output: Path,
    trainer: TrainerConfig,
    agent: OnlineAgent | None,
    **objective: Any,
) -> Path:
    return train(
        str(model_dir),
        records,
        output,
        objective=parse_objective({"name": "pami_vdpo", "beta": 0.5, **objective}),
        trainer=trainer,
        lora=LoraSettings(lora_r=4, lora_alpha=8),
        media=SAMPLING,
        agent=agent,
    )


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    text = (folder / "online" / f"{name}-0.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def log_of(folder: Path) -> list[dict[str, float]]:
    text = (folder / "trainer_log.jsonl").read_text(encoding="utf-8")
    return [entry for entry in map(json.loads, text.splitlines()) if "loss" in entry]


def remembered(monkeypatch: pytest.MonkeyPatch) -> list[OnlineTrainer]:
    """The trainers that run from now on, once for each of their steps."""
    loops: list[OnlineTrainer] = []
    original = OnlineTrainer.prepare_step

    def remember(self: OnlineTrainer, batches: list[Any]) -> Any:
        loops.append(self)
        return original(self, batches)

    monkeypatch.setattr(OnlineTrainer, "prepare_step", remember)
    return loops


def test_pairs_of_the_reference_are_those_that_a_build_writes(
    model_dir: Path, samples: list[Sample], tmp_path: Path
) -> None:
    fit(model_dir, samples, tmp_path, settings(), online())
    tiny = tiny_llava_onevision()
    model = TransformersChatModel(tiny.model, tiny.processor, tiny.family, SAMPLING)
    by_id = {sample.id: sample for sample in samples}
    rows = lines(tmp_path, "pairs")
    assert sorted(row["record"]["sample_id"] for row in rows) == sorted(by_id)
    for row in rows:
        made = PreferencePair.model_validate(row["record"])
        context = PaMiVDPOContext(policy=model, sample_id=made.sample_id, seed=3)
        (built,) = asyncio.run(walk(pami_vdpo.build_graph(), by_id[made.sample_id], context))
        assert isinstance(built, PreferencePair)
        assert made.rejected == built.rejected
        assert made.metadata["weight"] == pytest.approx(built.metadata["weight"], abs=1e-5)
        for one, other in zip(
            made.metadata["candidates"], built.metadata["candidates"], strict=True
        ):
            assert one["closeness"] == pytest.approx(other["closeness"], abs=1e-5)
            assert one["js"] == pytest.approx(other["js"], abs=1e-6)


def test_training_on_them_equals_training_on_stored_pairs(
    model_dir: Path, samples: list[Sample], tmp_path: Path
) -> None:
    fit(model_dir, samples, tmp_path / "online", settings(), online())
    made = {
        row["record"]["sample_id"]: PreferencePair.model_validate(row["record"])
        for row in lines(tmp_path / "online", "pairs")
    }
    stored = [made[sample.id] for sample in samples]
    fit(model_dir, stored, tmp_path / "stored", settings(online=False), None)
    one, other = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("online", "stored")
    )
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


def test_scoring_by_the_reference_gives_its_log_probabilities_of_the_loss(
    model_dir: Path,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loops = remembered(monkeypatch)
    fit(model_dir, samples, tmp_path / "reference", settings(), online())
    reference = loops[0].reference
    assert isinstance(reference, KnownReference)
    assert reference.num_computed == 0
    scorer = loops[0].models["reference"]
    assert isinstance(scorer, LiveModel)
    assert scorer.num_rows == 6 * (1 + 4)  # K + 1 prompts of each sample, and none for the loss
    assert loops[0].vision is not None  # an adapter leaves the tower frozen
    # of each clip and of its crop, no others
    assert loops[0].vision.num_encoded == 6 * 2 * NUM_FRAMES

    loops.clear()
    fit(model_dir, samples, tmp_path / "policy", settings(), online(score_with="policy"))
    reference = loops[0].reference
    assert isinstance(reference, KnownReference)
    assert reference.num_computed == 6 * 2


def test_unweighted_losses_begin_at_log_2_and_margins_rise(
    model_dir: Path, samples: list[Sample], tmp_path: Path
) -> None:
    fit(model_dir, samples, tmp_path, settings(max_steps=12, save_steps=100), online(gamma=0))
    log = log_of(tmp_path)
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert log[-1]["rewards/margins"] > log[0]["rewards/margins"] + 0.05
    assert log[-1]["rewards/accuracies"] == 1.0
    assert {"online/entropy/augmentation", "online/entropy/question_type"} <= log[0].keys()
    assert any(key.startswith("lineage/augmentation=") for key in log[-1])


def test_a_step_whose_samples_all_fall_out_changes_nothing(
    model_dir: Path, samples: list[Sample], tmp_path: Path
) -> None:
    frames = np.full((6, 32, 32, 3), 90, dtype=np.uint8)
    write_video(tmp_path / "still.mp4", frames, 8.0)
    still = MediaRef(kind="video", uri=str(tmp_path / "still.mp4"))
    dull = [s.model_copy(update={"messages": (user("what?", still),)}) for s in samples]
    bag = online(bag=("reverse", "shuffle"))
    fit(model_dir, dull, tmp_path / "run", settings(), bag)
    assert [entry["loss"] for entry in log_of(tmp_path / "run")] == [0.0] * 3
    rows = lines(tmp_path / "run", "dropped")
    assert {row["record"]["reason"] for row in rows} == {"static_clip"}
    assert [row["step"] for row in rows] == [0, 0, 1, 1, 2, 2]


class StopAfter(TrainerCallback):
    """As if the machine had failed behind a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    model_dir: Path,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = settings(max_steps=5, save_steps=2)
    agent = online(score_with="policy", gamma=1.0)
    fit(model_dir, samples, tmp_path / "whole", trainer, agent)
    with monkeypatch.context() as patched:
        original = OnlineTrainer.__init__

        def stopping(self: OnlineTrainer, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.add_callback(StopAfter())

        patched.setattr(OnlineTrainer, "__init__", stopping)
        with pytest.raises(KeyboardInterrupt):
            fit(model_dir, samples, tmp_path / "cut", trainer, agent)
    assert [row["step"] for row in lines(tmp_path / "cut", "pairs")] == [0, 0, 1, 1, 2, 2]
    fit(model_dir, samples, tmp_path / "cut", trainer, agent)
    one, other = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "cut")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert lines(tmp_path / "cut", "pairs") == lines(tmp_path / "whole", "pairs")


def test_clips_that_cannot_be_read_stop_the_run(
    model_dir: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> tuple[DroppedSample, ...]:
        return (
            DroppedSample(
                sample_id="s0", reason="media_corrupt", node="augment", message="cut", kind="failed"
            ),
        )

    monkeypatch.setattr("mmalign.training.online.walk", broken)
    trainer = settings(max_steps=60, per_device_train_batch_size=6)
    with pytest.raises(FailedRatioError, match=r"50 of 50 samples failed.*media_corrupt"):
        fit(model_dir, samples, tmp_path, trainer, online())


def test_falling_chosen_responses_are_told(
    model_dir: Path,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loops = remembered(monkeypatch)
    fit(model_dir, samples, tmp_path, settings(max_steps=1), online())
    with caplog.at_level(logging.WARNING, "mmalign.training.online"):
        loops[0].log({"loss": 0.5, "rewards/chosen": -4.9})
        assert not caplog.records
        loops[0].log({"loss": 0.5, "rewards/chosen": -5.1})  # beta is 0.5
    (record,) = caplog.records
    assert "chosen responses have lost 10.2 nats" in record.getMessage()


@pytest.mark.parametrize(
    ("objective", "changes", "agent", "message"),
    [
        ("pami_vdpo", {}, None, "the recipe has no agent"),
        ("kto", {}, online(), "the objective counts a response"),
        ("pami_vdpo", {"reference_logps": "store"}, online(), "reference_logps: store"),
    ],
)
def test_what_cannot_be_built_online_is_refused(
    model_dir: Path,
    samples: list[Sample],
    tmp_path: Path,
    objective: str,
    changes: Mapping[str, Any],
    agent: OnlineAgent | None,
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(
            str(model_dir),
            samples,
            tmp_path,
            objective=parse_objective({"name": objective}),
            trainer=settings(**changes),
            lora=None,
            media=SAMPLING,
            agent=agent,
        )
