"""How pictures, clips and sounds reach the server."""

import asyncio
import base64
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmalign.errors import CapabilityError, MediaError, MediaMissingError
from mmalign.media import operation, write_video
from mmalign.records import MediaRef, user
from mmalign.testing.fake_server import FakeOpenAIServer
from mmalign.testing.servers import client_of


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 8 frames a second that fade from dark to bright."""
    path = tmp_path_factory.mktemp("media") / "fade.mp4"
    frames = np.stack([np.full((32, 48, 3), 10 + 15 * k, np.uint8) for k in range(16)])
    write_video(path, frames, 8.0)
    return path


def sent(ref: MediaRef, **settings: Any) -> list[dict[str, Any]]:
    with FakeOpenAIServer() as server:
        asyncio.run(client_of(server, **settings).generate([user("What is it?", ref)]))
    parts: list[dict[str, Any]] = server.requests[0].messages[0]["content"]
    assert parts[-1] == {"type": "text", "text": "What is it?"}
    return parts[:-1]


def picture(url: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def brightness(parts: list[dict[str, Any]]) -> list[float]:
    return [float(picture(part["image_url"]["url"]).mean()) for part in parts]


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_a_clip_becomes_its_sampled_frames(clip: Path, form: str) -> None:
    parts = sent(MediaRef(kind="video", uri=str(clip)), picture_format=form)
    assert [part["type"] for part in parts] == ["image_url"] * 4
    assert parts[0]["image_url"]["url"].startswith(f"data:image/{form};base64,")
    assert picture(parts[0]["image_url"]["url"]).shape == (32, 48, 3)
    levels = brightness(parts)
    assert levels == sorted(levels)
    assert levels[0] < 60 < 180 < levels[3]


def test_operations_are_applied_before_sending(clip: Path) -> None:
    ref = MediaRef(kind="video", uri=str(clip))
    forward = brightness(sent(ref, picture_format="png"))
    backward = brightness(sent(ref.then(operation("reverse", seed=0)), picture_format="png"))
    assert backward == forward[::-1]


def test_frames_can_travel_as_one_video(clip: Path) -> None:
    (part,) = sent(MediaRef(kind="video", uri=str(clip)), video="video_jpeg")
    head, *frames = part["video_url"]["url"].split(",")
    assert head == "data:video/jpeg;base64"
    assert [picture("," + frame).shape for frame in frames] == [(32, 48, 3)] * 4


def test_a_file_can_travel_as_it_is(clip: Path) -> None:
    (part,) = sent(MediaRef(kind="video", uri=str(clip)), video="video_url")
    head, _, data = part["video_url"]["url"].partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == clip.read_bytes()


def test_a_changed_clip_cannot_travel_as_a_file(clip: Path) -> None:
    ref = MediaRef(kind="video", uri=str(clip), end_s=1.0)
    with pytest.raises(CapabilityError, match="video_jpeg"):
        sent(ref, video="video_url")


def test_a_picture_travels_without_loss_as_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    ref = MediaRef(kind="image", uri=str(tmp_path / "noise.png"))
    (part,) = sent(ref, picture_format="png")
    np.testing.assert_array_equal(picture(part["image_url"]["url"]), pixels)


def test_sound_travels_as_wav(tmp_path: Path) -> None:
    """Two seconds of a 440 Hz tone, resampled from 32 to 16 kHz."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(64000) / 32000)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as out:
        out.setparams((1, 2, 32000, 0, "NONE", "not compressed"))
        out.writeframes((tone * 32767).astype("<i2").tobytes())
    (part,) = sent(MediaRef(kind="audio", uri=str(tmp_path / "tone.wav")), audio=True)
    assert part["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32767
    spectrum = np.abs(np.fft.rfft(samples[4000:20000]))  # one second: one bin per Hz
    assert np.argmax(spectrum) == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)


def test_a_missing_file_is_a_media_error_and_no_request(tmp_path: Path) -> None:
    ref = MediaRef(kind="video", uri=str(tmp_path / "gone.mp4"))
    with FakeOpenAIServer() as server:
        for video, error in (("frames", MediaError), ("video_url", MediaMissingError)):
            with pytest.raises(error, match="gone"):
                asyncio.run(client_of(server, video=video).generate([user("?", ref)]))
    assert server.requests == []
