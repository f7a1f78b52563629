"""The process that decodes: reads requests from stdin, writes answers to stdout, may be killed.

One message is a header of JSON behind its length in four bytes, then as many bytes of numbers
as the header says. Imports stay light (no torch), so that a killed worker is back at once.
"""

import json
import math
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.errors import MmalignError
from mmalign.media.decode import decode_audio, decode_video
from mmalign.media.sampling import FrameSampling
from mmalign.records import MediaOperation

__all__ = ["HANDLERS", "Answer", "main", "read_message", "serve", "write_message"]

_LENGTH = struct.Struct("<I")
_ORPHAN_CHECK_S = 2.0


class Answer(NamedTuple):
    """What a handler gives back: small values and one array."""

    values: dict[str, Any]
    array: npt.NDArray[Any]


class EndOfStream(EOFError):  # noqa: N818  # not an error of the worker: its caller has gone
    """The other process closed its end."""


def video(request: Mapping[str, Any]) -> Answer:
    """Sampled frames; the request holds `decode_video`'s arguments as JSON."""
    arguments = dict(request)
    arguments["before"] = [MediaOperation.model_validate(item) for item in request["before"]]
    arguments["sampling"] = FrameSampling.model_validate(request["sampling"])
    decoded = decode_video(**arguments)
    return Answer(
        {
            "timestamps_s": decoded.timestamps_s.tolist(),
            "indices": decoded.indices.tolist(),
            "fps": decoded.fps,
            "decoder": decoded.decoder,
        },
        decoded.frames,
    )


def audio(request: Mapping[str, Any]) -> Answer:
    """Sound; the request holds `decode_audio`'s arguments."""
    clip = decode_audio(**request)
    return Answer({"sample_rate_hz": clip.sample_rate_hz}, clip.waveform)


Handler = Callable[[Mapping[str, Any]], Answer]

HANDLERS: dict[str, Handler] = {"video": video, "audio": audio}


def main() -> None:
    """Serve until stdin ends."""
    serve(HANDLERS)


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer requests {"call": name, ...} until the caller closes stdin or dies.

    Errors of ours are answers; anything else ends the process with its traceback on stderr.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, which then ends us
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not mix with answers
    write_message(answers, {"ready": True}, None)
    while True:
        try:
            request, _ = read_message(requests)
        except EndOfStream:
            return
        try:
            answer = handlers[request.pop("call")](request)
        except MmalignError as error:
            write_message(answers, {"error": type(error).__name__, "message": str(error)}, None)
        else:
            write_message(answers, answer.values, answer.array)


def write_message(
    stream: BinaryIO, values: Mapping[str, Any], array: npt.NDArray[Any] | None
) -> None:
    """Send values, and an array behind them."""
    header = dict(values)
    if array is not None:
        header["array"] = {"dtype": array.dtype.str, "shape": array.shape}
    text = json.dumps(header).encode()
    _write_all(stream, memoryview(_LENGTH.pack(len(text)) + text))
    if array is not None and array.size:
        _write_all(stream, np.ascontiguousarray(array).data.cast("B"))


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], npt.NDArray[Any] | None]:
    """Receive values and an array.

    Raises:
        EndOfStream: The other process closed its end.
    """
    (length,) = _LENGTH.unpack(_read_all(stream, _LENGTH.size))
    values: dict[str, Any] = json.loads(_read_all(stream, length))
    layout = values.pop("array", None)
    if layout is None:
        return values, None
    dtype = np.dtype(layout["dtype"])
    content = _read_all(stream, math.prod(layout["shape"]) * dtype.itemsize)
    return values, np.frombuffer(content, dtype=dtype).reshape(layout["shape"])


def _write_all(stream: BinaryIO, content: memoryview) -> None:
    while content:
        content = content[stream.write(content) :]


def _read_all(stream: BinaryIO, length: int) -> bytearray:
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        received = stream.readinto(rest)  # type: ignore[attr-defined]  # every real stream has it
        if not received:
            raise EndOfStream
        rest = rest[received:]
    return content


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_S)
    os._exit(1)  # a hanging decoder would not let a tidy exit through
