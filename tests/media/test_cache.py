"""The frame cache: what it is keyed by, what it drops, what it tells."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.errors import StoreError
from mmalign.media import FrameCache, FrameKey, FrameSampling, VideoClip, load_video, operation
from mmalign.records import MediaRef
from mmalign.testing.clips import read_numbers, write_numbered

KEY = FrameKey(
    uri="v.mp4",
    source_hash="a" * 32,
    start_s=None,
    end_s=None,
    before=(),
    sampling={"num_frames": 2},
    decoder="auto",
    versions={"pyav": "1"},
)


def clip_of(value: int = 7) -> VideoClip:
    frames = np.full((2, 10, 10, 3), value, np.uint8)
    times_s = np.array([0.1, 1 / 3])
    return VideoClip(frames, times_s, np.array([3, 9]), 30000 / 1001, "pyav-1", "a" * 32)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, 10**6)
    assert cache.get(KEY) is None
    cache.put(KEY, clip_of())
    found = FrameCache(tmp_path, 10**6).get(KEY)
    assert found is not None
    assert np.array_equal(found.frames, clip_of().frames)
    assert found.timestamps_s.tolist() == [0.1, 1 / 3]
    assert found.indices.tolist() == [3, 9]
    assert (found.fps, found.decoder, found.source_hash) == (30000 / 1001, "pyav-1", "a" * 32)


@pytest.mark.parametrize(
    "change",
    [
        {"source_hash": "b" * 32},
        {"start_s": 0.5},
        {"end_s": 0.5},
        {"before": ({"name": "reverse"},)},
        {"sampling": {"num_frames": 3}},
        {"decoder": "pyav"},
        {"versions": {"pyav": "2"}},
    ],
)
def test_everything_that_matters_is_in_the_key(change: dict[str, Any]) -> None:
    assert replace(KEY, **change).digest != KEY.digest


def test_the_name_of_the_file_does_not_matter() -> None:
    assert replace(KEY, uri="copy.mp4").digest == KEY.digest


def test_one_entry_serves_every_operation_after_sampling(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", 10**7)
    ref = MediaRef(kind="video", uri=str(write_numbered(tmp_path / "v.mp4", 40)))
    sampling = FrameSampling(num_frames=4)
    for name in ("reverse", "hflip"):
        load_video(ref.then(operation(name, None)), sampling, cache=cache, isolate=False)
    plain = load_video(ref, sampling, cache=cache, isolate=False)
    assert read_numbers(plain.frames) == [5, 15, 25, 35]
    assert (len(cache.entries()), cache.num_hits, cache.num_misses) == (1, 2, 1)
    before = ref.then(operation("reverse", None, stage="before_sampling"))
    load_video(before, sampling, cache=cache, isolate=False)
    assert len(cache.entries()) == 2


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", 10**7)
    path = write_numbered(tmp_path / "v.mp4", 40)
    ref, sampling = MediaRef(kind="video", uri=str(path)), FrameSampling(num_frames=1)
    assert read_numbers(load_video(ref, sampling, cache=cache, isolate=False).frames) == [20]
    write_numbered(path, 80)
    assert read_numbers(load_video(ref, sampling, cache=cache, isolate=False).frames) == [40]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    size = _size_of_one(tmp_path / "probe")
    cache = FrameCache(tmp_path / "cache", int(3.5 * size))
    keys = [replace(KEY, start_s=float(n)) for n in range(3)]
    for age, key in enumerate(keys):
        cache.put(key, clip_of())
        os.utime(cache.folder / f"{key.digest}.frames", (1000 + age, 1000 + age))
    assert cache.get(keys[0]) is not None  # used now
    cache.put(replace(KEY, start_s=9.0), clip_of())
    left = {entry.key for entry in cache.entries()}
    assert keys[0].digest in left
    assert keys[1].digest not in left
    assert sum(entry.num_bytes for entry in cache.entries()) <= cache.max_bytes


def test_entries_can_be_listed_explained_and_removed(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, 10**6)
    other = replace(KEY, sampling={"num_frames": 5})
    cache.put(KEY, clip_of())
    (entry,) = cache.entries()
    assert (entry.key, entry.uri, entry.num_frames) == (KEY.digest, "v.mp4", 2)
    assert "kept, last used" in cache.explain(KEY.digest)
    assert cache.explain(other).endswith("what is kept of v.mp4 differs in sampling")
    assert "never written, or dropped" in cache.explain("0" * 32)
    assert "nothing of w.mp4 is kept" in cache.explain(replace(KEY, uri="w.mp4", start_s=1.0))
    assert cache.remove("0" * 32) == 0
    assert cache.remove(KEY.digest) == 1
    assert cache.entries() == []


def test_a_damaged_entry_is_dropped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FrameCache(tmp_path, 10**6)
    cache.put(KEY, clip_of())
    path = tmp_path / f"{KEY.digest}.frames"
    for content in (path.read_bytes()[:-1], b"", b"\xff\xff\xff\x7f", b"\x02\x00\x00\x00no"):
        path.write_bytes(content)
        assert cache.get(KEY) is None
        assert not path.exists()
    assert "damaged cache entry dropped" in caplog.text


def test_what_cannot_be_kept_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FrameCache(tmp_path / "cache", 10**6)
    (tmp_path / "cache").rmdir()
    cache.put(KEY, clip_of())
    assert "cannot keep frames of v.mp4" in caplog.text


def test_no_unfinished_file_is_left(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, 10**6)
    cache.put(KEY, clip_of())
    assert [path.suffix for path in tmp_path.iterdir()] == [".frames"]
    assert stat.S_ISREG(next(tmp_path.iterdir()).stat().st_mode)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made a cache folder"):
        FrameCache(tmp_path / "file", 10**6)


def _size_of_one(folder: Path) -> int:
    cache = FrameCache(folder, 10**6)
    cache.put(KEY, clip_of())
    return cache.entries()[0].num_bytes
