"""Which decoder reads sampled frames soonest, by distance of key frames and sampling stride.

    python benchmarks/decode.py [--quick]

Writes films of moving noise, reads the same frames with decord and three ways of PyAV in turn,
and prints the smallest of several times. CPU seconds stand beside wall seconds: on a shared
machine only they compare. `mmalign.media.readers.AUTO` and
`SEEK_GAIN_FRAMES` rest on the last column.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmalign.media import Frames, write_video
from mmalign.media.index import FrameIndex, index_video
from mmalign.media.readers import Run, decoder_versions, read_decord, read_pyav
from mmalign.media.source import Source, open_source

NUM_FRAMES = 300
REPEATS = 3
SIZES = ((64, 64), (360, 640), (720, 1280))
GOPS = (1, 12, 30, 250)
WANTED = (4, 8, 32, 150)


class Cost(NamedTuple):
    """Seconds for one clip."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Print one row for each size, key-frame distance and stride."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small frames only")
    sizes = SIZES[:1] if parser.parse_args().quick else SIZES
    versions = ", ".join(f"{name} {value}" for name, value in decoder_versions().items())
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    )
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {versions}")
    print("seconds per clip, CPU (wall); best way of PyAV against decord, above 1: PyAV is sooner")
    print(
        f"{'height':>6} {'gop':>4} {'stride':>6} | " + " | ".join(f"{w:>17}" for w in WAYS), end=""
    )
    print(" | cpu ratio (wall)")
    with tempfile.TemporaryDirectory() as folder:
        for height, width in sizes:
            for gop in GOPS:
                path = Path(folder) / f"{height}-{gop}.mp4"
                write_video(path, _film(height, width), 30.0, gop=gop, crf=23)
                for num_wanted in WANTED:
                    _row(path, height, gop, num_wanted)
                path.unlink()


def _row(path: Path, height: int, gop: int, num_wanted: int) -> None:
    source = open_source(str(path))
    index = index_video(source)
    wanted = (2 * np.arange(num_wanted) + 1) * NUM_FRAMES // (2 * num_wanted)
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    for _ in range(REPEATS):
        for name, way in WAYS.items():  # in turn, so that a noisy moment hits all
            costs[name].append(_timed(lambda way=way: way(source, index, wanted)))  # type: ignore[misc]  # bound now
    best = {
        name: Cost(min(c.wall_s for c in found), min(c.cpu_s for c in found))
        for name, found in costs.items()
    }
    cells = " | ".join(f"{cost.cpu_s:7.4f} ({cost.wall_s:7.4f})" for cost in best.values())
    ratios = [
        getattr(best["decord"], field) / getattr(best["pyav"], field) for field in Cost._fields
    ]
    stride = NUM_FRAMES / num_wanted
    print(f"{height:>6} {gop:>4} {stride:>6.1f} | {cells} | {ratios[1]:.2f} ({ratios[0]:.2f})")
    sys.stdout.flush()


Way = Callable[[Source, FrameIndex, "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"], object]

WAYS: dict[str, Way] = {
    "decord": lambda source, index, wanted: read_decord(source, index, wanted, None),
    "sequential": lambda source, index, wanted: read_pyav(
        source, index, wanted, None, [Run(0, wanted.tolist())]
    ),
    "seek": lambda source, index, wanted: read_pyav(
        source, index, wanted, None, [Run(_key(index, int(n)), [int(n)]) for n in wanted]
    ),
    "pyav": lambda source, index, wanted: read_pyav(source, index, wanted, None),
}
"""`pyav` is what mmalign uses: it jumps only where a key frame lies far enough ahead."""


def _key(index: FrameIndex, number: int) -> int:
    return max(key for key in index.info.key_frames if key <= number)


def _timed(way: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def _film(height: int, width: int) -> Frames:
    """Blocks that move four pixels a frame, under noise."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (height // 8, (width + 4 * NUM_FRAMES) // 8 + 1, 3))
    scene = np.repeat(np.repeat(scene, 8, axis=0), 8, axis=1).astype(np.uint8)
    frames: Frames = np.stack([scene[:, 4 * i : 4 * i + width] for i in range(NUM_FRAMES)])
    noise = rng.integers(0, 12, (height, width, 1), dtype=np.uint8)
    for number in range(NUM_FRAMES):
        np.maximum(frames[number], np.roll(noise, 7 * number, axis=1), out=frames[number])
    return frames


if __name__ == "__main__":
    main()
