"""Decoding in worker processes: the limit holds, nothing leaks, nothing starts without need."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from mmalign.errors import DecodeTimeoutError, MediaCorruptError, MissingStreamError
from mmalign.media import DecodePool, FrameCache, FrameSampling, load_audio, load_video
from mmalign.records import MediaRef
from mmalign.testing.clips import read_numbers, tone, write_numbered, write_sound

EIGHT = FrameSampling()


@pytest.fixture
def hanging() -> Iterator[DecodePool]:
    pool = DecodePool(1, entry="mmalign.testing.clips:hang_on_video")
    yield pool
    pool.close()


def video(path: Path) -> MediaRef:
    return MediaRef(kind="video", uri=str(path))


def test_both_ways_give_the_same(tmp_path: Path) -> None:
    ref = video(write_numbered(tmp_path / "v.mp4", 40, audio=tone(1.6)))
    apart, here = (load_video(ref, EIGHT, isolate=isolate) for isolate in (True, False))
    assert np.array_equal(apart.frames, here.frames)
    assert np.array_equal(apart.timestamps_s, here.timestamps_s)
    assert np.array_equal(apart.indices, here.indices)
    assert (apart.fps, apart.decoder, apart.source_hash) == (
        here.fps,
        here.decoder,
        here.source_hash,
    )
    sound = [load_audio(ref, isolate=isolate).waveform for isolate in (True, False)]
    assert np.array_equal(sound[0], sound[1])


def test_a_hanging_decoder_is_killed_and_replaced(tmp_path: Path, hanging: DecodePool) -> None:
    good = video(write_numbered(tmp_path / "good.mp4", 20))
    bad = video(write_numbered(tmp_path / "hang.mp4", 20))
    load_video(good, EIGHT, pool=hanging)
    begin = time.monotonic()
    with pytest.raises(DecodeTimeoutError, match=r"hang.mp4: found no answer .* after 0.5 s"):
        load_video(bad, EIGHT, pool=hanging, time_limit_s=0.5)
    assert time.monotonic() - begin < 10
    assert len(read_numbers(load_video(good, EIGHT, pool=hanging).frames)) == 8
    assert hanging.num_started == 2


def test_a_crashing_decoder_is_an_error_of_the_file(tmp_path: Path) -> None:
    pool = DecodePool(1, entry="mmalign.testing.clips:crash_on_video")
    path = write_numbered(tmp_path / "v.mp4", 20)
    with pytest.raises(MediaCorruptError, match=r"v.mp4: the decoder crashed \(SIGSEGV\)"):
        load_video(video(path), EIGHT, pool=pool)
    with pytest.raises(MissingStreamError, match="audio"):
        load_audio(video(path), pool=pool)  # the replacement works
    pool.close()


def test_a_worker_that_died_idle_is_replaced(tmp_path: Path) -> None:
    pool = DecodePool(1)
    ref = video(write_numbered(tmp_path / "v.mp4", 20))
    load_video(ref, EIGHT, pool=pool)
    (worker,) = [p for p in psutil.Process().children() if _belongs_to(p, pool)]
    worker.send_signal(signal.SIGKILL)
    while worker.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert read_numbers(load_video(ref, EIGHT, pool=pool).frames)[0] == 1
    assert pool.num_started == 2
    pool.close()


def test_threads_share_few_workers(tmp_path: Path) -> None:
    pool = DecodePool(2)
    refs = [video(write_numbered(tmp_path / f"{n}.mp4", 10 + n)) for n in range(12)]
    with ThreadPoolExecutor(8) as threads:
        clips = list(threads.map(lambda ref: load_video(ref, EIGHT, pool=pool), refs))
    for clip in clips:
        assert read_numbers(clip.frames) == clip.indices.tolist()
    assert pool.num_started <= 2
    pool.close()


def test_closing_leaves_no_process(tmp_path: Path) -> None:
    pool = DecodePool(1)
    load_video(video(write_numbered(tmp_path / "v.mp4", 20)), EIGHT, pool=pool)
    (worker,) = [p for p in psutil.Process().children() if _belongs_to(p, pool)]
    pool.close()
    assert not worker.is_running()


def test_cached_reads_start_no_worker(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", 10**7)
    ref = video(write_numbered(tmp_path / "v.mp4", 20))
    first = load_video(ref, EIGHT, cache=cache, isolate=False)
    pool = DecodePool(1)
    again = load_video(ref, EIGHT, cache=cache, pool=pool)
    assert pool.num_started == 0
    assert np.array_equal(first.frames, again.frames)
    assert (cache.num_hits, cache.num_misses) == (1, 1)


SCRIPT = """
import os, sys
from mmalign.media import FrameSampling, load_video
from mmalign.records import MediaRef
import psutil
load_video(MediaRef(kind="video", uri=sys.argv[1]), FrameSampling())
print(*[child.pid for child in psutil.Process().children()], flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), 9)
if sys.argv[2] == "fork":
    child = os.fork()
    clip = load_video(MediaRef(kind="video", uri=sys.argv[1]), FrameSampling())
    if child:
        os.waitpid(child, 0)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("how", ["end", "die", "fork"])
def test_nothing_outlives_the_interpreter(tmp_path: Path, how: str) -> None:
    path = write_numbered(tmp_path / "v.mp4", 20)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(path), how],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == (-signal.SIGKILL if how == "die" else 0), done.stderr
    assert done.stderr == ""
    (worker,) = [int(word) for word in done.stdout.split()]
    for _ in range(100):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie":
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} still runs")


def test_the_worker_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, mmalign.media.worker; print(sorted({'torch', 'torchaudio', 'decord', "
    code += "'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_faulty_worker_is_no_error_of_the_file(tmp_path: Path) -> None:
    pool = DecodePool(1, entry="mmalign.testing.clips:no_such_function")
    path = write_numbered(tmp_path / "v.mp4", 20)
    with pytest.raises(RuntimeError, match=r"(?s)decode worker failed:.*no_such_function"):
        load_video(video(path), EIGHT, pool=pool)
    pool.close()


def test_sound_is_decoded_apart_too(tmp_path: Path, hanging: DecodePool) -> None:
    ref = MediaRef(kind="audio", uri=str(write_sound(tmp_path / "t.wav", tone(0.5))))
    assert load_audio(ref, pool=hanging).duration_s == pytest.approx(0.5)
    assert threading.active_count() < 30
    assert hanging.num_started == 1


def _belongs_to(process: psutil.Process, pool: DecodePool) -> bool:
    worker = pool._slots.queue[-1]  # the test looks where a user cannot
    return worker is not None and process.pid == worker._process.pid
