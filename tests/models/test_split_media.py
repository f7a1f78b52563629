"""Features of units that went through a tower apart are those of the whole prompt."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import CapabilityError
from mmalign.media import AudioClip, VideoClip
from mmalign.models.families import EncodedPrompt
from mmalign.models.families.vision_family import VisionFamily
from mmalign.records import MediaRef, user
from mmalign.testing.tiny_audio_models import TINY_AUDIO_MODELS, tiny_sound
from mmalign.testing.tiny_models import TINY_MODELS, TinyModel, tiny_clip, tiny_image
from mmalign.testing.tiny_vision_models import TINY_VISION_MODELS

FAMILIES: dict[str, Callable[..., TinyModel]] = {
    name: build
    for name, build in {**TINY_MODELS, **TINY_VISION_MODELS, **TINY_AUDIO_MODELS}.items()
    if name != "causal_lm"
}
CLIPS = [tiny_clip(5, seed=1), tiny_clip(4, 32, 48, seed=2)]
PICTURES = [tiny_image(32, 64, seed=3), tiny_image(48, 32, seed=4)]
SOUNDS = [tiny_sound(0.3, seed=5), tiny_sound(0.8, seed=6)]
PROMPTS: dict[str, dict[str, list[Any]]] = {
    "sees": {
        "a clip": CLIPS[:1],
        "a frame": [tiny_clip(1)],
        "two clips": CLIPS,
        "a picture": PICTURES[:1],
        "two pictures": PICTURES,
        "all": [PICTURES[0], CLIPS[0], PICTURES[1], CLIPS[1]],
    },
    "hears": {"a sound": SOUNDS[:1], "two sounds": SOUNDS[::-1]},
    "both": {"all": [SOUNDS[1], CLIPS[0], PICTURES[0], SOUNDS[0]]},
    "sees clips": {"a clip": CLIPS[:1], "a frame": [tiny_clip(1)], "two clips": CLIPS},
    "clips and sounds": {"all": [SOUNDS[1], CLIPS[0], SOUNDS[0], CLIPS[1]]},
}
SENSES = {
    "qwen2_audio": ("hears",),
    "qwen2_5_omni": ("sees", "hears", "both"),
    "audio_visual": ("sees clips", "hears", "clips and sounds"),
}
CASES = [
    (name, sense, shown)
    for name in FAMILIES
    for sense in SENSES.get(name, ("sees",))
    for shown in PROMPTS[sense]
]


def encode(tiny: TinyModel, media: list[Any]) -> EncodedPrompt:
    kinds = {VideoClip: "video", AudioClip: "audio", np.ndarray: "image"}
    refs = [MediaRef.model_validate({"kind": kinds[type(item)], "uri": "it"}) for item in media]
    return tiny.family.encode_prompt(tiny.processor, [user("What is it?", *refs)], media)


def in_float64(media: Any) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in media.items()}


def apart(tiny: TinyModel, media: dict[str, Tensor]) -> list[Tensor]:
    return [
        tiny.family.media_embeds(tiny.model, tiny.family.join_media([unit]))
        for unit in tiny.family.split_media(media)
    ]


@pytest.mark.parametrize(("name", "sense", "shown"), CASES)
@torch.no_grad()
def test_units_apart_give_the_whole(name: str, sense: str, shown: str) -> None:
    tiny = FAMILIES[name]()
    tiny.model.double()
    prompt = encode(tiny, PROMPTS[sense][shown])
    media = in_float64(prompt.media)
    whole = tiny.family.media_embeds(tiny.model, media)
    joined = tiny.family.join_features(media, apart(tiny, media))
    assert len(joined) == prompt.num_media_tokens > 0
    assert whole.dtype == torch.float64
    assert_close(joined, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "num_units"),
    [
        ("llava_onevision", 2 + 5 + 4),
        ("qwen2_5_vl", 2 + 3 + 2),  # pairs of frames, the fifth with itself
        ("qwen3_vl", 2 + 3 + 2),
        ("smolvlm", 3 + 5 + 5 + 4),  # tiles and the whole picture behind them
        ("qwen2_5_omni", 2 + 3 + 2),
    ],
)
def test_frames_tiles_and_pictures_are_units(name: str, num_units: int) -> None:
    tiny = FAMILIES[name]()
    prompt = encode(tiny, PROMPTS["sees"]["all"])
    assert len(tiny.family.split_media(prompt.media)) == num_units


def test_a_sound_is_the_same_unit_beside_a_longer_one() -> None:
    tiny = FAMILIES["qwen2_5_omni"]()
    (alone,) = tiny.family.split_media(encode(tiny, SOUNDS[:1]).media)
    beside = tiny.family.split_media(encode(tiny, SOUNDS).media)[0]
    assert alone.keys() == beside.keys()
    assert all(torch.equal(value, beside[key]) for key, value in alone.items())


def test_a_family_that_says_nothing_has_one_unit() -> None:
    tiny = FAMILIES["llava_onevision"]()
    media = encode(tiny, CLIPS).media
    (unit,) = VisionFamily.split_media(tiny.family, media)  # type: ignore[arg-type]  # is one
    assert all(unit[key] is value for key, value in media.items())
    with torch.no_grad():
        whole = tiny.family.media_embeds(tiny.model, unit)
    assert torch.equal(VisionFamily.join_features(tiny.family, media, [whole]), whole)  # type: ignore[arg-type]


def test_text_has_no_units() -> None:
    text = TINY_MODELS["causal_lm"]()
    assert text.family.split_media({}) == []
    with pytest.raises(CapabilityError, match="a text model has no features of media"):
        text.family.join_features({}, [])
