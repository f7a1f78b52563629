"""Sound, pictures, and what is written."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign.errors import ConfigError, MediaTruncatedError, ShapeError
from mmalign.media import (
    FrameSampling,
    file_hash,
    load_audio,
    load_image,
    load_video,
    operation,
    probe,
    probe_audio,
    write_video,
)
from mmalign.records import MediaRef
from mmalign.testing.clips import (
    cut_off,
    numbered_frames,
    read_numbers,
    tone,
    uneven_times,
    write_numbered,
    write_sound,
)


def sound(path: Path, **fields: float) -> MediaRef:
    return MediaRef(kind="audio", uri=str(path), **fields)


def test_a_wave_file_comes_back_exactly(tmp_path: Path) -> None:
    played = tone(1.0)
    heard = load_audio(sound(write_sound(tmp_path / "t.wav", played)), isolate=False)
    assert heard.waveform.dtype == np.float32
    assert heard.waveform.shape == (1, 16_000)
    np.testing.assert_allclose(heard.waveform, played.waveform, atol=1e-4)


def test_resampling_keeps_pitch_and_length(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "t.wav", tone(1.0, hz=1000, sample_rate_hz=44_100))
    heard = load_audio(sound(path), sample_rate_hz=16_000, isolate=False)
    assert heard.waveform.shape == (1, 16_000)
    assert np.argmax(np.abs(np.fft.rfft(heard.waveform[0]))) == 1000


def test_channels_are_averaged_or_kept(tmp_path: Path) -> None:
    stereo = tone(0.5, num_channels=2)
    stereo.waveform[1] = 0
    ref = sound(write_sound(tmp_path / "t.wav", stereo))
    assert load_audio(ref, mono=False, isolate=False).waveform.shape == (2, 8000)
    mono = load_audio(ref, isolate=False).waveform
    np.testing.assert_allclose(mono[0], stereo.waveform[0] / 2, atol=1e-4)


@pytest.mark.parametrize("suffix", [".wav", ".mp4"])
def test_the_range_cuts_sound_to_the_sample(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    played = tone(4.0, hz=333)
    if suffix == ".wav":
        write_sound(path, played)
    else:
        write_numbered(path, 100, audio=played)
    whole = load_audio(sound(path), isolate=False).waveform
    part = load_audio(sound(path, start_s=1.5, end_s=2.25), isolate=False).waveform
    assert part.shape == (1, 12_000)
    np.testing.assert_allclose(part, whole[:, 24_000:36_000], atol=2e-3)


def test_sound_and_picture_of_one_file_start_together(tmp_path: Path) -> None:
    """The tone begins in the middle: its first loud sample must lie at 1 s."""
    played = tone(2.0)
    played.waveform[:, :16_000] = 0
    path = write_numbered(tmp_path / "v.mp4", 50, audio=played)
    heard = load_audio(MediaRef(kind="video", uri=str(path)), isolate=False).waveform[0]
    assert np.argmax(np.abs(heard) > 0.2) / 16_000 == pytest.approx(1.0, abs=0.01)
    assert probe(str(path)).has_audio
    info = probe_audio(str(path))
    assert (info.sample_rate_hz, info.num_channels, info.codec) == (16_000, 1, "aac")
    assert info.duration_s == pytest.approx(2.0, abs=0.1)


def test_cut_sound_is_told_with_its_time(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mp4", 100, audio=tone(4.0))
    cut_off(path, 0.6)
    with pytest.raises(MediaTruncatedError, match=r"sound breaks off at \d\.\d+ s, the header p"):
        load_audio(sound(path), isolate=False)


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 20:] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "p.png", exif=exif)
    shown = load_image(MediaRef(kind="image", uri=str(tmp_path / "p.png")))
    assert np.array_equal(shown, np.rot90(picture, -1))


def test_pictures_in_data_uris_and_with_operations(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "p.png")
    text = base64.b64encode((tmp_path / "p.png").read_bytes()).decode()
    ref = MediaRef(kind="image", uri=f"data:image/png;base64,{text}")
    assert np.array_equal(load_image(ref), picture)
    assert np.array_equal(load_image(ref.then(operation("hflip", None))), picture[:, ::-1])
    with pytest.raises(ConfigError, match="'freeze' needs a video"):
        load_image(ref.then(operation("freeze", 0)))


def test_the_same_input_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "a.mkv", "b.mkv"):
        write_numbered(tmp_path / name, 30, audio=tone(1.2))
    assert file_hash(tmp_path / "a.mp4") == file_hash(tmp_path / "b.mp4")
    assert file_hash(tmp_path / "a.mkv") == file_hash(tmp_path / "b.mkv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "a.mp4", "b.mkv", "b.mp4"]


def test_colours_survive(tmp_path: Path) -> None:
    """Flat areas of the six full colours come back within three steps of 255."""
    colours = np.array([c for c in np.ndindex(2, 2, 2) if 0 < sum(c) < 3], np.uint8) * 255
    frames = np.zeros((6, 64, 64, 3), np.uint8) + colours[:, None, None]
    write_video(tmp_path / "c.mp4", frames, 4.0)
    ref = MediaRef(kind="video", uri=str(tmp_path / "c.mp4"))
    shown = load_video(ref, FrameSampling(num_frames=6), isolate=False).frames
    assert np.abs(shown.astype(int) - frames).max() <= 3


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 8.0, 12.5])
def test_the_written_rate_is_read_back(tmp_path: Path, fps: float) -> None:
    assert probe(str(write_numbered(tmp_path / "v.mp4", 40, fps=fps))).fps == pytest.approx(fps)


def test_the_last_frame_of_a_variable_rate_has_its_length(tmp_path: Path) -> None:
    times_s = uneven_times(10)
    path = write_numbered(tmp_path / "v.mp4", 10, timestamps_s=times_s, fps=2.0)
    assert probe(str(path)).duration_s == pytest.approx(times_s[-1] + 0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "frames", "times_s", "message"),
    [
        ("v.gif", numbered_frames(2), None, "found ending '.gif', expected .mp4"),
        ("v.mp4", numbered_frames(2)[:, :63], None, "expected even height and width"),
        ("v.mp4", numbered_frames(2)[0], None, r"expected uint8 \[F, H, W, 3\]"),
        ("v.mp4", numbered_frames(2).astype(float), None, "found frames float64"),
        ("v.mp4", numbered_frames(0), None, "expected uint8"),
        ("v.mp4", numbered_frames(2), np.array([1.0, 0.5]), "expected 2 rising ones"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, name: str, frames: np.ndarray, times_s: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        write_video(tmp_path / name, frames, 4.0, timestamps_s=times_s)
    assert list(tmp_path.iterdir()) == []


def test_helpers_number_frames_as_they_read_them() -> None:
    assert read_numbers(numbered_frames(5, first=300)) == [300, 301, 302, 303, 304]


def test_a_hash_follows_the_content_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b")
    before = file_hash(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"22")
    assert file_hash(tmp_path / "a") != before
    assert len(before) == 32
