"""Records with sound: planned by arithmetic, encoded by decoding, trained end to end."""

import json
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from mmalign.errors import CapabilityError
from mmalign.media import FrameSampling, write_video
from mmalign.models.families import AUDIO, VIDEO
from mmalign.objectives import parse_objective
from mmalign.records import MediaRef, PreferencePair, Response, text_of, user
from mmalign.testing.tiny_audio_models import (
    TINY_AUDIO_MODELS,
    tiny_qwen2_5_omni,
    tiny_qwen2_audio,
    tiny_sound,
)
from mmalign.testing.tiny_models import TinyModel, tiny_clip, tiny_llava_onevision
from mmalign.training import TrainerConfig, train
from mmalign.training.examples import Encoder
from mmalign.training.run import plan_training

SAMPLING = FrameSampling(num_frames=4)
MakeSound = Callable[..., MediaRef]


@pytest.fixture
def sound(tmp_path: Path) -> MakeSound:
    def make(
        duration_s: float, *, rate_hz: int = 16_000, seed: int = 0, **where: float
    ) -> MediaRef:
        path = tmp_path / f"{seed}-{rate_hz}-{duration_s}.wav"
        samples = tiny_sound(duration_s, rate_hz=rate_hz, seed=seed, num_channels=2).waveform
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes((samples.T * 32767).round().astype("<i2").tobytes())
        return MediaRef(kind="audio", uri=str(path), **where)

    return make


@pytest.fixture(params=sorted(TINY_AUDIO_MODELS))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return TINY_AUDIO_MODELS[request.param]()


@pytest.mark.parametrize(
    ("duration_s", "rate_hz", "where"),
    [
        (0.5, 16_000, {}),
        (0.999, 16_000, {}),
        (0.777, 44_100, {}),
        (0.777, 8_000, {}),
        (3.0, 16_000, {"start_s": 1.25, "end_s": 2.13}),
        (3.0, 22_050, {"end_s": 0.43}),
        (3.0, 22_050, {"start_s": 2.6}),
        (1.0, 16_000, {"start_s": 0.4, "end_s": 1.7}),
    ],
)
def test_planned_tokens_are_those_of_the_decoded_sound(
    tiny: TinyModel, sound: MakeSound, duration_s: float, rate_hz: int, where: dict[str, float]
) -> None:
    ref = sound(duration_s, rate_hz=rate_hz, **where)
    encoder = Encoder(tiny.family, tiny.processor, SAMPLING)
    messages = (user("What is it?", ref),)
    planned = encoder.for_planning().prompt(messages)
    encoded = encoder.prompt(messages)
    assert planned.input_ids.tolist() == encoded.input_ids.tolist()
    assert planned.token_types.tolist() == encoded.token_types.tolist()
    assert not planned.media
    assert encoded.num_media_tokens > 0


def test_clip_and_sound_are_planned_without_decoding(sound: MakeSound, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", tiny_clip(8).frames, 8.0)
    clip = MediaRef(kind="video", uri=str(tmp_path / "clip.mp4"))
    tiny = tiny_qwen2_5_omni()
    encoder = Encoder(tiny.family, tiny.processor, SAMPLING)
    messages = (user("What is it?", sound(0.3), clip, sound(0.6, seed=1)),)
    planned = encoder.for_planning().prompt(messages)
    assert planned.input_ids.tolist() == encoder.prompt(messages).input_ids.tolist()
    assert set(planned.media) <= {"media_order"}
    kinds = [kind for kind in dict.fromkeys(planned.token_types.tolist()) if kind]
    assert kinds == [AUDIO, VIDEO]


def test_sound_that_is_too_long_is_named_in_planning(sound: MakeSound) -> None:
    tiny = tiny_qwen2_audio()
    ref = sound(1.5)
    encoder = Encoder(tiny.family, tiny.processor, SAMPLING).for_planning()
    with pytest.raises(CapabilityError, match=r"1\.5\.wav: a sound lasts 1\.50 s, the model hears"):
        encoder.prompt((user("What is it?", ref),))


def test_sound_is_refused_by_a_model_that_sees(sound: MakeSound) -> None:
    tiny = tiny_llava_onevision()
    encoder = Encoder(tiny.family, tiny.processor, SAMPLING)
    for each in (encoder, encoder.for_planning()):
        with pytest.raises(CapabilityError, match="reads no sound"):
            each.prompt((user("What is it?", sound(0.3)),))


def test_pairs_about_sound_are_planned_and_learnt(
    tiny: TinyModel, sound: MakeSound, tmp_path: Path
) -> None:
    """The margin of two pairs grows when all weights follow DPO."""
    folder = tmp_path / "model"
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    pairs = [
        PreferencePair(
            sample_id=f"sound-{index}",
            prompt=(user("how many tones?", sound(0.3 + 0.2 * index, seed=index)),),
            chosen=Response(messages=(text_of("three."),)),
            rejected=Response(messages=(text_of("one."),)),
        )
        for index in range(2)
    ]
    trainer = TrainerConfig(
        learning_rate=1e-3, max_steps=6, per_device_train_batch_size=2, logging_steps=1, seed=0
    )
    objective = parse_objective({"name": "dpo", "beta": 0.1})
    plan = plan_training(
        str(folder), pairs, objective=objective, trainer=trainer, lora=None, media=SAMPLING
    )
    assert [count.media_tokens for count in plan.counts] == [7, 12]
    out = train(
        str(folder),
        pairs,
        tmp_path / "out",
        objective=objective,
        trainer=trainer,
        lora=None,
        media=SAMPLING,
    )
    lines = map(json.loads, (out / "trainer_log.jsonl").read_text().splitlines())
    margins = [line["rewards/margins"] for line in lines if "loss" in line]
    assert margins[0] == pytest.approx(0.0, abs=1e-5)
    assert margins[-1] > 0.05
    ours = tiny.family.name == "audio_visual"
    home = "mmalign.models.audio_visual" if ours else "transformers"
    assert f"from {home} import {type(tiny.model).__name__}" in (out / "README.md").read_text()
