"""Files that cannot give what is asked: which error, and what it tells the user."""

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.errors import (
    ConfigError,
    MediaCorruptError,
    MediaEmptyError,
    MediaError,
    MediaMissingError,
    MediaTruncatedError,
    MissingStreamError,
)
from mmalign.media import FrameSampling, load_audio, load_image, load_video, probe, probe_audio
from mmalign.records import MediaRef
from mmalign.testing.clips import corrupt, cut_off, read_numbers, tone, write_numbered, write_sound


def read(path: Path | str, kind: str = "video", **fields: Any) -> object:
    ref = MediaRef(kind=kind, uri=str(path), **fields)
    if kind == "audio":
        return load_audio(ref, isolate=False)
    if kind == "image":
        return load_image(ref)
    return load_video(ref, FrameSampling(), isolate=False)


@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_a_missing_file(tmp_path: Path, kind: str) -> None:
    with pytest.raises(MediaMissingError, match=r"gone.mp4: no such file .*give the path"):
        read(tmp_path / "gone.mp4", kind)


@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_an_empty_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(MediaEmptyError, match=r"empty.mp4: the file has 0 bytes, expected media"):
        read(path, kind)


@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_a_file_of_something_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "words.mp4"
    path.write_text("not a film\n" * 500)
    with pytest.raises(MediaCorruptError, match=r"words.mp4: (FFmpeg|Pillow) finds no"):
        read(path, kind)


def test_a_folder_and_a_pipe_are_no_media(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaMissingError, match="found a pipe, socket or device"):
        read(tmp_path / "pipe.mp4")  # reading it would wait for ever
    with pytest.raises(MediaMissingError, match="found a directory"):
        read(tmp_path)


def test_a_network_address_is_refused() -> None:
    with pytest.raises(MediaMissingError, match=r"found a network address.*download the file"):
        read("https://example.org/v.mp4")


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("data:video/mp4;base64,", MediaEmptyError, "holds 0 bytes"),
        ("data:video/mp4;base64,@@@", MediaCorruptError, "not valid base64"),
        ("data:video/mp4", MediaCorruptError, "has a comma"),
    ],
)
def test_bad_data_uris(uri: str, error: type[MediaError], message: str) -> None:
    with pytest.raises(error, match=message):
        read(uri)


def test_sound_only_asked_for_picture(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "tone.wav", tone(1.0))
    for attempt in (partial(read, path), partial(probe, str(path))):
        with pytest.raises(MissingStreamError, match=r"tone.wav: found only streams of type audio"):
            attempt()


def test_picture_only_asked_for_sound(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "silent.mp4", 10)
    for attempt in (partial(read, path, "audio"), partial(probe_audio, str(path))):
        with pytest.raises(MissingStreamError, match=r"silent.mp4: found only streams of type vid"):
            attempt()


def test_a_cut_file_says_when_it_breaks_and_its_intact_part_is_usable(tmp_path: Path) -> None:
    path = cut_off(write_numbered(tmp_path / "cut.mp4", 100, gop=5), 0.6)
    with pytest.raises(MediaTruncatedError, match=r"breaks off at \d\.\d+ s: found .* 100;"):
        read(path)
    end_s = probe(str(path)).duration_s
    assert 0.3 < end_s < 3.5
    ref = MediaRef(kind="video", uri=str(path), end_s=end_s)
    clip = load_video(ref, FrameSampling(), isolate=False)
    assert read_numbers(clip.frames) == clip.indices.tolist()


def test_a_file_cut_before_its_header_ends(tmp_path: Path) -> None:
    path = cut_off(write_numbered(tmp_path / "stub.mp4", 100), 0.01)
    with pytest.raises(MediaCorruptError, match=r"stub.mp4: FFmpeg .*may be cut"):
        read(path)


@pytest.mark.parametrize("decoder", ["pyav", "decord", "auto"])
def test_noise_inside_a_file_never_passes_for_its_frames(tmp_path: Path, decoder: str) -> None:
    """Refused with its time, or read without a wrong frame number: never a hang or a crash."""
    path = corrupt(write_numbered(tmp_path / "noisy.mp4", 100, gop=5))
    ref = MediaRef(kind="video", uri=str(path))
    clip = None
    with contextlib.suppress(MediaCorruptError):
        clip = load_video(ref, FrameSampling(num_frames=50), decoder=decoder)  # type: ignore[arg-type]  # a plain str
    if clip is not None:
        intact = [number for number in clip.indices if number < 20]
        assert read_numbers(clip.frames)[: len(intact)] == intact


def test_pyav_says_at_what_time_noise_stands(tmp_path: Path) -> None:
    path = corrupt(write_numbered(tmp_path / "noisy.mp4", 100, gop=5), begin=0.5, end=0.7)
    ref = MediaRef(kind="video", uri=str(path))
    with pytest.raises(MediaCorruptError, match=r"noisy.mp4: .* at \d\.\d{3} s"):
        load_video(ref, FrameSampling(num_frames=100), decoder="pyav", isolate=False)


def test_a_range_behind_the_end(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mp4", 50)
    with pytest.raises(
        MediaEmptyError, match=r"no frame from start_s 7.000 on, the clip ends at 2"
    ):
        read(path, start_s=7.0)
    with pytest.raises(MediaEmptyError, match=r"sound from 7.000 s on has no samples"):
        read(write_sound(tmp_path / "t.wav", tone(1.0)), "audio", start_s=7.0)


def test_changed_content_is_noticed(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mp4", 10)
    with pytest.raises(MediaCorruptError, match="the record expects 0123"):
        read(path, content_hash="0123")


def test_the_wrong_kind_of_reference(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mp4", 10)
    ref = MediaRef(kind="video", uri=str(path))
    with pytest.raises(MissingStreamError, match="found a video reference, expected image"):
        load_image(ref)
    with pytest.raises(MissingStreamError, match="found a image reference, expected video"):
        load_video(ref.model_copy(update={"kind": "image"}), FrameSampling())


def test_every_message_names_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    with pytest.raises(MediaError) as error:
        read(path)
    assert "drop the sample" in str(error.value)
    assert error.value.reason.startswith("media_")


def test_operations_on_sound_are_refused(tmp_path: Path) -> None:
    from mmalign.media import operation

    path = write_sound(tmp_path / "t.wav", tone(0.5))
    with pytest.raises(ConfigError, match="operations act on pictures"):
        read(path, "audio", operations=(operation("reverse", None),))
