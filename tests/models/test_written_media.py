"""Families that write times and names of tiles into the prompt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling, VideoClip, write_video
from mmalign.models.families import WritesClips
from mmalign.records import MediaRef, user
from mmalign.testing.tiny_models import TinyModel, tiny_clip, tiny_image, tiny_llava_onevision
from mmalign.testing.tiny_vision_models import TINY_VISION_MODELS, tiny_qwen3_vl, tiny_smolvlm
from mmalign.training.examples import Encoder

CLIP = MediaRef(kind="video", uri="clip.mp4")
PICTURE = MediaRef(kind="image", uri="picture.png")


@pytest.fixture(scope="module", params=sorted(TINY_VISION_MODELS))
def writing(request: pytest.FixtureRequest) -> TinyModel:
    return TINY_VISION_MODELS[request.param]()


def starting_at(start_s: float, clip: VideoClip) -> VideoClip:
    return replace(clip, timestamps_s=clip.timestamps_s + start_s)


def text_with(tiny: TinyModel, clip: VideoClip) -> str:
    prompt = tiny.family.encode_prompt(tiny.processor, [user("What moves?", CLIP)], [clip])
    text = tiny.processor.tokenizer.decode(prompt.input_ids[prompt.token_types == 0])
    return str(text)


def test_qwen_writes_the_mean_time_of_every_pair_of_frames() -> None:
    """Frames at 61, 61.5, 62 and 62.5 s of the source; of three, the last one counts twice."""
    tiny = tiny_qwen3_vl()
    text = text_with(tiny, starting_at(61.0, tiny_clip(4)))
    assert [part for part in text.split("<") if "seconds" in part] == [
        "61.2 seconds>",
        "62.2 seconds>",
    ]
    assert "<62.0 seconds>" in text_with(tiny, starting_at(61.0, tiny_clip(3)))
    assert "<61.0 seconds>" in text_with(tiny, starting_at(61.0, tiny_clip(1)))


def test_smolvlm_writes_the_time_of_every_frame() -> None:
    text = text_with(tiny_smolvlm(), starting_at(61.0, tiny_clip(3)))
    assert "three frames from a 0:00:01" in text
    assert [part[:5] for part in text.split("Frame from ")[1:]] == ["01:01", "01:01", "01:02"]


def test_smolvlm_names_the_tiles_of_a_picture() -> None:
    """64 x 32 pixels, enlarged to two tiles side by side, and the whole picture behind them."""
    tiny = tiny_smolvlm()
    prompt = tiny.family.encode_prompt(
        tiny.processor, [user("What?", PICTURE)], [tiny_image(32, 64)]
    )
    text = tiny.processor.tokenizer.decode(prompt.input_ids)
    places = [text.index(name) for name in ("<row_1_col_1>", "<row_1_col_2>", "<global-img>")]
    assert places == sorted(places)
    assert prompt.media["pixel_values"].shape == (1, 3, 3, 32, 32)


def test_smolvlm_counts_a_picture_that_is_not_cut() -> None:
    tiny = tiny_smolvlm()
    tiny.processor.image_processor.do_image_splitting = False
    prompt = tiny.family.encode_prompt(
        tiny.processor, [user("What?", PICTURE)], [tiny_image(32, 64)]
    )
    counted = tiny.family.media_token_count(
        tiny.processor, "image", num_frames=1, height=32, width=64
    )
    assert prompt.num_media_tokens == counted == 4


def test_smolvlm_frames_of_unequal_clips_are_not_padded() -> None:
    tiny = tiny_smolvlm()
    prepared = tiny.family.prepare_media(tiny.processor, [tiny_clip(2), tiny_image(), tiny_clip(5)])
    assert prepared.num_tokens == (8, 20, 20)
    one = tiny.family.prepare_media(tiny.processor, [tiny_clip(5)])
    assert torch.equal(prepared.tensors["pixel_values"][:, 7:], one.tensors["pixel_values"])
    assert [text.split(" frames")[0].split()[-1] for text in prepared.texts[::2]] == ["two", "five"]


def test_smolvlm_refuses_tiles_that_the_tower_does_not_take() -> None:
    tiny = tiny_smolvlm()
    tiny.processor.video_processor.do_resize = False
    with pytest.raises(ConfigError, match="tiles of 32 x 24 pixels, the tower takes 32 x 32"):
        tiny.family.prepare_media(tiny.processor, [tiny_clip(2, 32, 24)])


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_text_of_a_clip_is_known_without_its_pixels(writing: TinyModel, num_frames: int) -> None:
    clip = starting_at(8.7, tiny_clip(num_frames))
    prepared = writing.family.prepare_media(writing.processor, [clip])
    assert isinstance(writing.family, WritesClips)
    written = writing.family.clip_text(
        writing.processor,
        num_tokens=prepared.num_tokens[0],
        timestamps_s=clip.timestamps_s,
        fps=clip.fps,
    )
    assert (written,) == prepared.texts


def test_planned_ids_are_those_of_training(writing: TinyModel, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, np.zeros((30, 48, 32, 3), dtype=np.uint8), 8.0)
    encoder = Encoder(writing.family, writing.processor, FrameSampling(num_frames=5))
    ref = MediaRef(kind="video", uri=str(path), start_s=1.0, end_s=3.5)
    messages = [user("What moves?", ref, MediaRef(kind="video", uri=str(path)))]
    planned, real = (each.prompt(messages) for each in (encoder.for_planning(), encoder))
    assert planned.input_ids.tolist() == real.input_ids.tolist()
    assert torch.equal(planned.token_types, real.token_types)


def test_other_families_write_no_texts() -> None:
    tiny = tiny_llava_onevision()
    assert not isinstance(tiny.family, WritesClips)
    assert tiny.family.prepare_media(tiny.processor, [tiny_clip(2)]).texts == ()
