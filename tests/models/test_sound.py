"""Models that hear: what becomes of a sound, and what is refused."""

import asyncio
import json
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import CapabilityError, RecordError
from mmalign.media import AudioClip, FrameSampling, VideoClip, convert_audio
from mmalign.models.families import AUDIO, EncodedPrompt, family_of, media_kinds
from mmalign.models.families.sound import FEATURE_MASK, FEATURES, sound_token_count
from mmalign.models.local import TransformersChatModel
from mmalign.models.protocol import Sampling
from mmalign.records import MediaRef, text_of, user
from mmalign.testing.tiny_audio_models import TINY_AUDIO_MODELS, tiny_sound
from mmalign.testing.tiny_models import TinyModel, tiny_clip, tiny_image


@pytest.fixture(scope="module", params=sorted(TINY_AUDIO_MODELS))
def hearing(request: pytest.FixtureRequest) -> TinyModel:
    return TINY_AUDIO_MODELS[request.param]()


@pytest.fixture(scope="module")
def omni() -> TinyModel:
    return TINY_AUDIO_MODELS["qwen2_5_omni"]()


def kind_of(item: Any) -> str:
    if isinstance(item, AudioClip):
        return "audio"
    return "video" if isinstance(item, VideoClip) else "image"


def encode(tiny: TinyModel, media: Sequence[Any], text: str = "What is it?") -> EncodedPrompt:
    refs = [MediaRef.model_validate({"kind": kind_of(item), "uri": "in memory"}) for item in media]
    return tiny.family.encode_prompt(tiny.processor, [user(text, *refs)], media)


@torch.no_grad()
def features(tiny: TinyModel, prompt: EncodedPrompt) -> Tensor:
    return tiny.family.media_embeds(tiny.model, prompt.media)


@torch.no_grad()
def last_logits(tiny: TinyModel, prompt: EncodedPrompt) -> Tensor:
    embeds = tiny.family.embed_tokens(tiny.model)(prompt.input_ids).clone()
    embeds[prompt.token_types > 0] = features(tiny, prompt)
    positions = tiny.family.position_ids(tiny.model, prompt, prompt.input_ids[:0])
    hidden = tiny.family.decoder(tiny.model)(
        inputs_embeds=embeds[None],
        position_ids=positions[:, None] if len(positions) > 1 else positions,
    ).last_hidden_state
    logits: Tensor = tiny.family.head(tiny.model)(hidden)[0, -1]
    return logits


def test_processor_and_class_agree_end_to_end(hearing: TinyModel) -> None:
    """Ids and logits of the processor's own call, padded to its longest sound, fed to the class."""
    sounds = [tiny_sound(0.123, seed=1), tiny_sound(0.9, seed=2)]
    kinds = media_kinds(hearing.processor)
    clips = [tiny_clip(4)] if "video" in kinds else []
    pictures = [tiny_image()] if "image" in kinds else []
    prompt = encode(hearing, [*sounds[:1], *clips, *pictures, *sounds[1:]])
    parts = ["audio", *("video" for _ in clips), *("image" for _ in pictures), "audio"]
    text = hearing.processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [*({"type": p} for p in parts), {"type": "text", "text": "What is it?"}],
            }
        ],
        add_generation_prompt=True,
    )
    visible: dict[str, Any] = {"videos": [clip.frames for clip in clips]} if clips else {}
    if pictures:
        visible |= {"images": pictures, "videos_kwargs": {"cap_pixels_per_frame": False}}
    inputs = hearing.processor(
        text=[text],
        audio=[sound.waveform[0] for sound in sounds],
        audio_kwargs={"sampling_rate": 16_000},
        return_tensors="pt",
        **visible,
    )
    assert prompt.input_ids.tolist() == inputs["input_ids"][0].tolist()
    if pictures:
        hearing.model.model.rope_deltas = None
    with torch.no_grad():
        native = hearing.model(**inputs).logits[0, -1]
    assert_close(last_logits(hearing, prompt), native, rtol=1e-5, atol=1e-5)


def test_sound_and_its_place_change_the_logits(hearing: TinyModel) -> None:
    one, two = tiny_sound(seed=1), tiny_sound(seed=2)
    said = [last_logits(hearing, encode(hearing, media)) for media in ([one], [two])]
    assert (said[0] - said[1]).abs().max() > 0.05
    turned = [last_logits(hearing, encode(hearing, media)) for media in ([one, two], [two, one])]
    assert (turned[0] - turned[1]).abs().max() > 0.05


@pytest.mark.parametrize("num_samples", [321, 480, 481, 1120, 1121, 4_000, 8_001, 15_999, 16_000])
def test_arithmetic_counts_the_tokens(hearing: TinyModel, num_samples: int) -> None:
    prompt = encode(hearing, [tiny_sound(num_samples / 16_000)])
    counted = hearing.family.media_token_count(
        hearing.processor, "audio", num_frames=num_samples, height=1, width=1
    )
    assert counted == prompt.num_media_tokens == len(features(hearing, prompt)) > 0
    assert set(prompt.token_types.tolist()) == {0, AUDIO}


def test_tokens_of_a_second_worked_by_hand(hearing: TinyModel) -> None:
    """100 frames of 10 ms, 50 steps, 25 tokens: one for 40 ms."""
    assert sound_token_count(hearing.processor, 16_000) == 25


def test_channels_are_averaged_and_rates_converted(hearing: TinyModel) -> None:
    stereo = tiny_sound(0.4, rate_hz=44_100, num_channels=2)
    mono = AudioClip(stereo.waveform.mean(axis=0, keepdims=True), 44_100)
    expected = encode(hearing, [convert_audio(mono, sample_rate_hz=16_000)])
    found = encode(hearing, [stereo])
    assert found.num_media_tokens == expected.num_media_tokens == 10
    assert torch.equal(found.media[FEATURES], expected.media[FEATURES])


def test_joined_sounds_give_the_features_of_each(hearing: TinyModel) -> None:
    """Batches of sounds of unequal length, and of prompts without any."""
    lengths = [[0.8], [], [0.05, 0.31], [0.5]]
    prompts = [encode(hearing, [tiny_sound(length) for length in each]) for each in lengths]
    joined = hearing.family.join_media([prompt.media for prompt in prompts])
    assert len(joined[FEATURE_MASK]) == 4
    with torch.no_grad():
        together = hearing.family.media_embeds(hearing.model, joined)
    apart = torch.cat([features(hearing, prompt) for prompt in prompts])
    assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_joined_kinds_stay_in_the_order_of_their_prompts(omni: TinyModel) -> None:
    media: list[list[Any]] = [
        [tiny_sound(0.3)],
        [tiny_image()],
        [tiny_clip(2), tiny_sound(0.7)],
        [],
    ]
    prompts = [encode(omni, items) for items in media]
    joined = omni.family.join_media([prompt.media for prompt in prompts])
    with torch.no_grad():
        together = omni.family.media_embeds(omni.model, joined)
    apart = torch.cat([features(omni, prompt) for prompt in prompts])
    assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_seconds_of_a_grid_are_those_of_each_clip(omni: TinyModel) -> None:
    """Two frames make a step: 2 s at one frame a second, 0.5 s at four."""
    prompt = encode(omni, [tiny_clip(6, fps=1.0), tiny_clip(6, fps=4.0)])
    assert prompt.media["video_second_per_grid"].tolist() == [2.0, 0.5]


def test_spectra_are_as_long_as_the_sound(omni: TinyModel) -> None:
    prompt = encode(omni, [tiny_sound(0.2), tiny_sound(0.5)])
    assert prompt.media[FEATURES].shape[-1] == 50
    assert prompt.media[FEATURE_MASK].sum(-1).tolist() == [20, 50]


def test_sound_that_would_be_cut_is_refused(hearing: TinyModel) -> None:
    limit_s = hearing.processor.feature_extractor.chunk_length
    with pytest.raises(CapabilityError, match=rf"hears at most {limit_s} s and nothing is ever"):
        encode(hearing, [tiny_sound(limit_s + 0.01)])
    with pytest.raises(CapabilityError, match="shorter than one token"):
        encode(hearing, [tiny_sound(0.02)])
    with pytest.raises(CapabilityError, match="shorter than one token"):
        encode(hearing, [AudioClip(np.zeros((1, 0), np.float32), 16_000)])


def test_pictures_are_refused_by_a_model_that_only_hears() -> None:
    tiny = TINY_AUDIO_MODELS["qwen2_audio"]()
    assert media_kinds(tiny.processor) == {"audio"}
    with pytest.raises(CapabilityError, match="the model reads sound, no pictures"):
        encode(tiny, [tiny_image()])
    with pytest.raises(CapabilityError, match="no tokens for a video"):
        tiny.family.media_token_count(tiny.processor, "video", num_frames=2, height=9, width=9)


def test_placeholder_of_sound_in_a_text_is_refused(hearing: TinyModel) -> None:
    with pytest.raises(RecordError, match=r"1 sound.*2 times <\|AUDIO\|>. Remove placeholders"):
        encode(hearing, [tiny_sound()], "What is <|AUDIO|>?")


def test_sound_inside_a_clip_is_refused(omni: TinyModel) -> None:
    built = TINY_AUDIO_MODELS["qwen2_5_omni"]()
    built.processor.load_audio_from_video = True
    with pytest.raises(CapabilityError, match="give the sound as an audio part of the message"):
        encode(built, [tiny_clip(2)])


def test_model_in_this_process_answers_about_a_file(hearing: TinyModel, tmp_path: Path) -> None:
    """At 8 kHz in two channels; its score is that of the sound, converted, in memory."""
    stereo = tiny_sound(0.4, rate_hz=8_000, num_channels=2)
    samples = (stereo.waveform.T * 32767).round().astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(samples.tobytes())
    asked = [user("What is it?", MediaRef(kind="audio", uri=str(tmp_path / "a.wav")))]

    async def ask() -> tuple[frozenset[str], Sequence[float], int]:
        chat = TransformersChatModel(
            hearing.model, hearing.processor, hearing.family, FrameSampling(num_frames=4)
        )
        try:
            scored = await chat.score(asked, "a")
            (drawn,) = await chat.generate(asked, sampling=Sampling(max_completion_length=2))
            return chat.capabilities, scored.logprobs, drawn.usage.completion_tokens
        finally:
            await chat.close()

    capabilities, logprobs, num_drawn = asyncio.run(ask())
    assert "audio" in capabilities
    assert num_drawn > 0
    heard = AudioClip((samples.T / 32768).astype(np.float32), 8_000)
    expected = last_logits(hearing, encode(hearing, [heard])).log_softmax(-1)
    answer = hearing.family.encode_completion(hearing.processor, asked, [text_of("a")])
    assert logprobs[0] == pytest.approx(expected[answer.input_ids[0]].item(), abs=1e-4)


def test_thinker_of_a_whole_checkpoint_loads(omni: TinyModel, tmp_path: Path) -> None:
    """As published: weights under `thinker.`, its settings inside those of the whole."""
    omni.processor.save_pretrained(tmp_path)
    names = {
        "model.language_model.": "model.",
        "model.audio_tower.": "audio_tower.",
        "model.visual.": "visual.",
    }
    published = {}
    for name, weight in omni.model.state_dict().items():
        prefix = next((prefix for prefix in names if name.startswith(prefix)), "")
        published["thinker." + names.get(prefix, "") + name.removeprefix(prefix)] = weight.clone()
    save_file(published, tmp_path / "model.safetensors", metadata={"format": "pt"})
    settings = {"model_type": "qwen2_5_omni", "thinker_config": omni.model.config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    family = family_of(str(tmp_path))
    assert family is omni.family
    model, processor = family.load(str(tmp_path), dtype=torch.float32, device="cpu")
    prompt = encode(omni, [tiny_sound(), tiny_image()])
    loaded = TinyModel(model, processor, family)
    assert torch.equal(last_logits(loaded, prompt), last_logits(omni, prompt))
