"""Decoded frames on disk, named by everything that they depend on.

An entry is one file: a header of JSON, then the frames. Its modification time is its last use.
"""

import json
import logging
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import StoreError
from mmalign.media.clip import VideoClip
from mmalign.records import content_id

__all__ = ["CacheEntry", "FrameCache", "FrameKey"]

_log = logging.getLogger(__name__)
_LENGTH = struct.Struct("<I")
_SUFFIX = ".frames"
_FORMAT = 1
_KEEP_SHARE = 0.9
"""Eviction goes below the limit by this much, so that it does not run at every write."""


@dataclass(frozen=True)
class FrameKey:
    """All that decoded frames depend on; `uri` is only for people."""

    uri: str
    source_hash: str
    start_s: float | None
    end_s: float | None
    before: tuple[dict[str, Any], ...]
    """Operations that act before sampling."""
    sampling: dict[str, Any]
    decoder: str
    """As asked for: `auto`, `decord`, `pyav`."""
    versions: dict[str, str]
    """Of the decoders."""

    @property
    def parts(self) -> dict[str, Any]:
        """What the digest is made of."""
        parts = asdict(self) | {"format": _FORMAT, "before": list(self.before)}
        del parts["uri"]
        return parts

    @property
    def digest(self) -> str:
        """32 hexadecimal digits: the entry's name."""
        return content_id(self.parts)


@dataclass(frozen=True)
class CacheEntry:
    """One line of a listing."""

    key: str
    uri: str
    num_bytes: int
    num_frames: int
    last_used: float
    """Seconds since 1970."""


class FrameCache:
    """Frames by key, in one folder, the least recently used dropped above a size.

    Several processes may share a folder: an entry appears whole or not at all, and one that
    another process dropped is a miss.

    Args:
        folder: Made where it is missing.
        max_bytes: Size above which entries are dropped.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.num_hits = 0
        self.num_misses = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot be made a cache folder ({error.strerror}); "
                f"give a folder that can be written"
            ) from error
        self._lock = threading.Lock()
        self._num_bytes = sum(size for _, size, _ in self._files())

    def get(self, key: FrameKey) -> VideoClip | None:
        """The frames of a key, or None; counts the hit or miss."""
        clip = self._read(key.digest)
        with self._lock:
            if clip is None:
                self.num_misses += 1
            else:
                self.num_hits += 1
        return clip

    def put(self, key: FrameKey, clip: VideoClip) -> None:
        """Keep frames. A full disk is logged and does no harm: they were decoded anyway."""
        header = json.dumps(
            {
                "uri": key.uri,
                "made_from": key.parts,
                "shape": clip.frames.shape,
                "timestamps_s": clip.timestamps_s.tolist(),
                "indices": clip.indices.tolist(),
                "fps": clip.fps,
                "decoder": clip.decoder,
                "source_hash": clip.source_hash,
            }
        ).encode()
        path = self._path(key.digest)
        try:
            handle, partial = tempfile.mkstemp(dir=self.folder, suffix=".partial")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_LENGTH.pack(len(header)) + header)
                    file.write(np.ascontiguousarray(clip.frames).data.cast("B"))
                    num_bytes = file.tell()
                Path(partial).replace(path)
            finally:
                Path(partial).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s: cannot keep frames of %s (%s)", self.folder, key.uri, error)
            return
        with self._lock:
            self._num_bytes += num_bytes
            if self._num_bytes > self.max_bytes:
                self._evict()

    def entries(self) -> list[CacheEntry]:
        """What is kept, the most recently used first."""
        found = []
        for path, size, used in self._files():
            header = _read_header(path)
            if header is not None:
                found.append(CacheEntry(path.stem, header["uri"], size, header["shape"][0], used))
        return sorted(found, key=lambda entry: -entry.last_used)

    def remove(self, *keys: str) -> int:
        """Drop the entries with these keys, or all where none is given; how many there were."""
        num = 0
        for path, size, _ in self._files():
            if not keys or path.stem in keys:
                path.unlink(missing_ok=True)
                num += 1
                with self._lock:
                    self._num_bytes -= size
        return num

    def explain(self, key: str | FrameKey) -> str:
        """Why frames are here, or why not: what they were made from, what differs from others."""
        digest = key if isinstance(key, str) else key.digest
        header = _read_header(self._path(digest))
        if header is not None:
            used = time.strftime(
                "%Y-%m-%d %H:%M:%S", time.localtime(self._path(digest).stat().st_mtime)
            )
            made = json.dumps(header["made_from"], sort_keys=True)
            return f"{digest}: kept, last used {used}; frames of {header['uri']}, made from {made}"
        if isinstance(key, str):
            return f"{digest}: not here: never written, or dropped to keep the size limit"
        differences = sorted(
            {
                ", ".join(name for name, value in key.parts.items() if made.get(name) != value)
                for made in self._made_from(key.uri)
            },
            key=len,
        )
        if not differences:
            return f"{digest}: not here: nothing of {key.uri} is kept"
        return f"{digest}: not here: what is kept of {key.uri} differs in {differences[0]}"

    def _made_from(self, uri: str) -> Iterator[dict[str, Any]]:
        for path, _, _ in self._files():
            header = _read_header(path)
            if header is not None and header["uri"] == uri:
                # through JSON lists and tuples look alike
                yield header["made_from"]

    def _read(self, digest: str) -> VideoClip | None:
        path = self._path(digest)
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0]))
                frames = np.empty(header["shape"], dtype=np.uint8)
                complete = file.readinto(frames.data.cast("B")) == frames.size
            os.utime(path)
        except FileNotFoundError:
            return None
        except (struct.error, ValueError):
            complete = False
        if not complete:
            _log.warning("%s: damaged cache entry dropped", path)
            path.unlink(missing_ok=True)
            return None
        return VideoClip(
            frames=frames,
            timestamps_s=np.array(header["timestamps_s"], dtype=np.float64),
            indices=np.array(header["indices"], dtype=np.int64),
            fps=header["fps"],
            decoder=header["decoder"],
            source_hash=header["source_hash"],
        )

    def _evict(self) -> None:
        """Drop the least recently used; the folder is counted anew, others write to it too."""
        files = sorted(self._files(), key=lambda item: item[2])
        self._num_bytes = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if self._num_bytes <= self.max_bytes * _KEEP_SHARE:
                return
            path.unlink(missing_ok=True)
            self._num_bytes -= size

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        with os.scandir(self.folder) as found:
            for item in found:
                if item.name.endswith(_SUFFIX):
                    try:
                        state = item.stat()
                    except FileNotFoundError:
                        continue
                    yield Path(item.path), state.st_size, state.st_mtime

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_SUFFIX}"


def _read_header(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(
                file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0])
            )
    except (FileNotFoundError, struct.error, ValueError):
        return None
    return header
