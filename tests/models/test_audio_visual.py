"""mmalign's own audio-visual class: towers, order of media, clues, files, generation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModelForMultimodalLM,
    AutoProcessor,
    WhisperConfig,
    WhisperModel,
)

from mmalign.errors import CapabilityError
from mmalign.media import AudioClip, VideoClip
from mmalign.models.audio_visual import (
    AudioVisualConfig,
    AudioVisualProcessor,
)
from mmalign.models.audio_visual.modeling import MEDIA_ARGUMENTS
from mmalign.models.audio_visual.sound_encoder import SoundEncoder
from mmalign.models.families import EncodedPrompt, media_kinds
from mmalign.records import MediaRef, user
from mmalign.testing.tiny_audio_models import tiny_audio_visual, tiny_clue_model, tiny_sound
from mmalign.testing.tiny_models import TinyModel, tiny_clip, tiny_image

BUILDS: dict[str, Callable[[], TinyModel]] = {
    "plain": tiny_audio_visual,
    "with clues": tiny_clue_model,
    "clues alone": lambda: tiny_clue_model(keep_media_tokens=False),
}


@pytest.fixture(scope="module")
def plain() -> TinyModel:
    return tiny_audio_visual()


@pytest.fixture(scope="module", params=sorted(BUILDS))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return BUILDS[request.param]()


def encode(tiny: TinyModel, media: Sequence[Any], text: str = "What moves?") -> EncodedPrompt:
    refs = [
        MediaRef(kind="audio" if isinstance(item, AudioClip) else "video", uri="in memory")
        for item in media
    ]
    return tiny.family.encode_prompt(tiny.processor, [user(text, *refs)], media)


def inputs(prompt: EncodedPrompt) -> dict[str, Tensor]:
    media = {key: value for key, value in prompt.media.items() if key in MEDIA_ARGUMENTS}
    ids = prompt.input_ids[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **media}


@torch.no_grad()
def last_logits(tiny: TinyModel, prompt: EncodedPrompt) -> Tensor:
    logits: Tensor = tiny.model(**inputs(prompt)).logits[0, -1]
    return logits


@torch.no_grad()
def features(tiny: TinyModel, prompt: EncodedPrompt) -> Tensor:
    return tiny.family.media_embeds(tiny.model, prompt.media)


def turned(clip: VideoClip) -> VideoClip:
    return replace(clip, frames=clip.frames[::-1].copy())


def differ(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


# towers


def test_sound_encoder_is_whispers_on_its_whole_length() -> None:
    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        max_source_positions=50,
        init_std=0.2,
    )
    torch.manual_seed(0)
    whisper: Any = WhisperModel(config)
    own: Any = SoundEncoder(config)
    whisper.train(False)
    own.train(False)
    own.load_state_dict(whisper.encoder.state_dict())
    spectrum = torch.randn(2, 80, 100)
    with torch.no_grad():
        expected = whisper.encoder(spectrum).last_hidden_state
        assert_close(own(spectrum).last_hidden_state, expected, rtol=1e-6, atol=1e-6)
        assert_close(
            own(spectrum, torch.ones(2, 100)).last_hidden_state, expected, rtol=1e-6, atol=1e-6
        )
    with pytest.raises(ValueError, match="takes 51 steps, the encoder has 50 positions"):
        own(torch.randn(1, 80, 101))


@pytest.mark.parametrize("num_frames", [30, 31, 33, 64])
def test_padding_of_a_sound_is_not_heard(plain: TinyModel, num_frames: int) -> None:
    """Whatever stands behind its end, and however long."""
    tower: Any = plain.model.model.audio_tower
    spectrum = torch.randn(1, 16, num_frames)
    padded = torch.cat([spectrum, torch.zeros(1, 16, 57)], dim=-1)
    mask = (torch.arange(num_frames + 57) < num_frames).long()[None]
    num_steps = (num_frames + 1) // 2
    with torch.no_grad():
        alone = tower(spectrum).last_hidden_state
        behind = tower(padded, mask).last_hidden_state[:, :num_steps]
    assert_close(behind, alone, rtol=1e-5, atol=1e-5)


def test_frame_is_seen_alone(plain: TinyModel) -> None:
    """Four tokens a frame; the others of the clip do not change them."""
    clip, other = tiny_clip(4), tiny_clip(4, seed=9)
    mixed = replace(clip, frames=np.concatenate([clip.frames[:2], other.frames[2:]]))
    one, two = features(plain, encode(plain, [clip])), features(plain, encode(plain, [mixed]))
    assert one.shape == (16, 32)
    assert_close(one[:8], two[:8], rtol=1e-5, atol=1e-6)
    assert differ(one[8:], two[8:]) > 0.05


def test_pooling_averages_quarters_of_a_frame(plain: TinyModel) -> None:
    """Patches 0, 1, 4 and 5 of a 4 x 4 grid are the upper left quarter."""
    patches = torch.randn(2, 16, 32)
    pooled = plain.model.model._pool(patches)
    assert_close(pooled[:, 0], patches[:, [0, 1, 4, 5]].mean(1))
    assert_close(pooled[:, 3], patches[:, [10, 11, 14, 15]].mean(1))


def test_sound_tokens_are_means_of_steps(plain: TinyModel) -> None:
    """Half a second: 25 steps, 12 tokens of two; the last step fills none."""
    media = encode(plain, [tiny_sound(0.5)]).media
    inner: Any = plain.model.model
    with torch.no_grad():
        found = inner.get_audio_features(media["input_features"], media["feature_attention_mask"])
        steps = found.last_hidden_state[0]
        expected = inner.audio_projector((steps[2] + steps[3]) / 2)
    (sound,) = found.pooler_output
    assert (len(steps), len(sound)) == (25, 12)
    assert_close(sound[1], expected, rtol=1e-5, atol=1e-5)


# media in a prompt


def test_frames_sounds_and_their_order_change_the_answer(plain: TinyModel) -> None:
    clip, sound = tiny_clip(4), tiny_sound(0.4)
    said = last_logits(plain, encode(plain, [clip, sound]))
    for media in (
        [tiny_clip(4, seed=9), sound],
        [clip, tiny_sound(0.4, seed=9)],
        [turned(clip), sound],
        [clip, replace(sound, waveform=sound.waveform[:, ::-1].copy())],
        [sound, clip],
    ):
        assert differ(said, last_logits(plain, encode(plain, media))) > 0.02


@pytest.mark.parametrize("num_frames", [1, 3, 8])
def test_tokens_are_counted_by_arithmetic(tiny: TinyModel, num_frames: int) -> None:
    media = [tiny_clip(num_frames, 48, 64), tiny_sound(0.1 * num_frames)]
    prompt = encode(tiny, media)
    counted = tiny.family.media_token_count(
        tiny.processor, "video", num_frames=num_frames, height=48, width=64
    ) + tiny.family.media_token_count(
        tiny.processor, "audio", num_frames=1600 * num_frames, height=0, width=0
    )
    assert counted == prompt.num_media_tokens == len(features(tiny, prompt))


def test_joined_media_give_the_features_of_each(tiny: TinyModel) -> None:
    """Clips and sounds of unequal length, prompts without media, questions of unequal length."""
    prompts = [
        encode(tiny, [tiny_clip(4), tiny_sound(0.3)], "What?"),
        encode(tiny, []),
        encode(tiny, [tiny_sound(0.7, seed=1), tiny_clip(2, seed=1), tiny_sound(0.2)], "How many?"),
        encode(tiny, [tiny_clip(5, 24, 40, seed=2)], "Where does the circle go?"),
    ]
    joined = tiny.family.join_media([prompt.media for prompt in prompts])
    with torch.no_grad():
        together = tiny.family.media_embeds(tiny.model, joined)
    apart = torch.cat([features(tiny, prompt) for prompt in prompts])
    assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_units_give_the_features_of_the_whole() -> None:
    """Frames and sounds of their own length; a clip's clues come of the whole."""
    media = [tiny_sound(0.3), tiny_clip(4), tiny_sound(0.5, seed=1), tiny_clip(2, seed=1)]
    for build, num_units in ((tiny_audio_visual, 8), (tiny_clue_model, 1)):
        tiny = build()
        prompt = encode(tiny, media)
        units = tiny.family.split_media(prompt.media)
        with torch.no_grad():
            found = [tiny.family.media_embeds(tiny.model, unit) for unit in units]
        assert len(units) == num_units
        joined = tiny.family.join_features(prompt.media, found)
        assert_close(joined, features(tiny, prompt), rtol=1e-4, atol=1e-5)


def test_pictures_are_refused(plain: TinyModel) -> None:
    assert media_kinds(plain.processor) == {"video", "audio"}
    picture = MediaRef(kind="image", uri="a.png")
    with pytest.raises(CapabilityError, match="the model reads clips and sound, no pictures"):
        plain.family.encode_prompt(plain.processor, [user("What?", picture)], [tiny_image()])
    with pytest.raises(CapabilityError, match="as a clip of one frame"):
        plain.family.media_token_count(plain.processor, "image", num_frames=1, height=32, width=32)


def test_tokens_and_placeholders_must_agree(plain: TinyModel) -> None:
    given = inputs(encode(plain, [tiny_clip(4)]))
    with pytest.raises(ValueError, match="hold 16 video placeholders, the media give 12 tokens"):
        plain.model(
            **given
            | {
                "pixel_values_videos": given["pixel_values_videos"][:3],
                "video_num_frames": torch.tensor([3]),
            }
        )
    del given["video_num_frames"]
    with pytest.raises(ValueError, match="without video_num_frames"):
        plain.model(**given)


def test_processor_cuts_no_sound(plain: TinyModel) -> None:
    with pytest.raises(ValueError, match="longer than the 32000 that the model hears"):
        plain.processor(
            text="<|AUDIO|>",
            audio=[np.zeros(32_001, np.float32)],
            audio_kwargs={"sampling_rate": 16_000},
        )


# as a transformers model


def test_saved_whole_and_found_by_the_auto_classes(tiny: TinyModel, tmp_path: Path) -> None:
    tiny.model.save_pretrained(tmp_path)
    tiny.processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert type(AutoConfig.from_pretrained(tmp_path)) is AudioVisualConfig
    model = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    build: Any = AutoProcessor
    processor = build.from_pretrained(tmp_path)
    assert type(processor) is AudioVisualProcessor
    loaded = TinyModel(model, processor, tiny.family)
    media = [tiny_sound(0.4), tiny_clip(3)]
    assert_close(
        last_logits(loaded, encode(loaded, media)),
        last_logits(tiny, encode(tiny, media)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_generation_follows_the_forward_pass(tiny: TinyModel) -> None:
    """Greedy by `generate` is greedy by whole forward passes."""
    given = inputs(encode(tiny, [tiny_clip(3), tiny_sound(0.3), tiny_clip(2, seed=3)]))
    model: Any = tiny.model
    drawn = model.generate(**given, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    ids = given["input_ids"]
    eos = tiny.processor.tokenizer.eos_token_id
    for _ in range(4):
        with torch.no_grad():
            mask = torch.ones_like(ids)
            logits = model(**given | {"input_ids": ids, "attention_mask": mask}).logits[0, -1]
        logits[eos] = -torch.inf
        ids = torch.cat([ids, logits.argmax()[None, None]], dim=1)
    assert drawn.tolist() == ids.tolist()


def test_beams_repeat_rows_and_not_frames(tiny: TinyModel) -> None:
    """Two answers of the best beams, as from a batch of one row for each beam."""
    model: Any = tiny.model
    prompt = encode(tiny, [tiny_clip(3), tiny_clip(2, seed=3), tiny_sound(0.3)])
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 3}
    two = model.generate(**inputs(prompt), **options, num_return_sequences=2)
    one = model.generate(**inputs(prompt), **options)
    width = one.shape[1]
    assert len(two) == 2
    assert two[0, :width].tolist() == one[0].tolist()
    assert two[1].tolist() != two[0].tolist()


def test_loss_is_that_of_the_next_token(plain: TinyModel) -> None:
    given = inputs(encode(plain, [tiny_clip(2)]))
    labels = torch.full_like(given["input_ids"], -100)
    labels[0, -1] = 40
    with torch.no_grad():
        output = plain.model(**given, labels=labels)
        short = plain.model(**given, logits_to_keep=2).logits
    expected = -output.logits[0, -2].log_softmax(-1)[40]
    assert_close(output.loss, expected)
    assert_close(short, output.logits[:, -2:])


@pytest.mark.parametrize("build", [tiny_audio_visual, tiny_clue_model])
def test_every_part_learns_with_checkpointing(build: Callable[[], TinyModel]) -> None:
    """The same gradients as without, in every weight but Whisper's fixed positions."""
    found = []
    for checkpointing in (False, True):
        tiny = build()
        tiny.model.train()
        if checkpointing:
            tiny.model.activation_checkpointing_enable({"use_reentrant": False})
        given = inputs(encode(tiny, [tiny_clip(3), tiny_sound(0.3)]))
        tiny.model(**given, labels=given["input_ids"]).loss.backward()
        found.append({name: p.grad for name, p in tiny.model.named_parameters()})
    without = {name for name, gradient in found[0].items() if gradient is None}
    unread = {"post_layernorm", "embed_positions", "lm_head"}
    assert all(any(part in name for part in unread) for name in without)
    for name, gradient in found[0].items():
        if gradient is not None:
            assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_adapters_sit_where_they_are_put(plain: TinyModel) -> None:
    tiny = tiny_audio_visual()
    names = [
        *tiny.family.language_linears(tiny.model),
        "model.audio_tower.layers.0.fc1",
        "model.video_projector.linear_1",
    ]
    model: Any = get_peft_model(
        tiny.model, LoraConfig(target_modules=names, r=2, init_lora_weights=False)
    )
    prompt = encode(tiny, [tiny_clip(2), tiny_sound(0.2)])
    adapted = last_logits(TinyModel(model, tiny.processor, tiny.family), prompt)
    with model.disable_adapter():
        without = last_logits(TinyModel(model, tiny.processor, tiny.family), prompt)
    assert_close(without, last_logits(plain, prompt), rtol=1e-5, atol=1e-5)
    assert differ(adapted, without) > 0.01
