"""Messages as an OpenAI-compatible server takes them: text, data URLs, tool calls."""

import base64
import io
import mimetypes
import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmalign.errors import CapabilityError, MediaMissingError
from mmalign.records import MediaPart, MediaRef, Message, TextPart

if TYPE_CHECKING:
    from mmalign.media import FrameSampling

__all__ = ["PictureFormat", "VideoForm", "wire_messages"]

VideoForm = Literal["frames", "video_jpeg", "video_url", "refuse"]
PictureFormat = Literal["jpeg", "png"]

Frame = npt.NDArray[np.uint8]

_JPEG_QUALITY = 90


def wire_messages(
    messages: Sequence[Message],
    sampling: "FrameSampling",
    *,
    video: VideoForm,
    picture: PictureFormat,
) -> list[dict[str, Any]]:
    """The `messages` of a request; decodes the media, so it may take seconds.

    Raises:
        CapabilityError: A clip with operations or a time range cannot be sent as a file.
        MediaError: A medium cannot be decoded.
    """
    wired = []
    unanswered: list[str] = []
    for turn, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message.role}
        if message.name:
            entry["name"] = message.name
        if message.media:
            parts = (_parts(part, sampling, video, picture) for part in message.content)
            entry["content"] = [item for group in parts for item in group]
        else:
            entry["content"] = message.text
        if message.tool_calls:
            ids = [call.id or f"call_{turn}_{k}" for k, call in enumerate(message.tool_calls)]
            unanswered = list(ids)
            entry["content"] = entry["content"] or None
            entry["tool_calls"] = [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call_id, call in zip(ids, message.tool_calls, strict=True)
            ]
        if message.role == "tool":
            call_id = message.tool_call_id or next(iter(unanswered), f"call_{turn}")
            unanswered = [other for other in unanswered if other != call_id]
            entry["tool_call_id"] = call_id
        wired.append(entry)
    return wired


def _parts(
    part: TextPart | MediaPart,
    sampling: "FrameSampling",
    video: VideoForm,
    picture: PictureFormat,
) -> list[Mapping[str, Any]]:
    if isinstance(part, TextPart):
        return [{"type": "text", "text": part.text}]
    ref = part.media
    if ref.kind == "image":
        from mmalign.media import load_image

        return [_image_part(load_image(ref), picture)]
    if ref.kind == "audio":
        return [_audio_part(ref)]
    if video == "video_url":
        return [{"type": "video_url", "video_url": {"url": _file_url(ref)}}]
    from mmalign.media import load_video

    frames = load_video(ref, sampling).frames
    if video == "video_jpeg":
        pictures = ",".join(_base64(_picture(frame, "jpeg")) for frame in frames)
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{pictures}"}}]
    return list(_image_parts(frames, picture))


def _image_parts(frames: Iterable[Frame], picture: PictureFormat) -> Iterable[dict[str, Any]]:
    return (_image_part(frame, picture) for frame in frames)


def _image_part(frame: Frame, picture: PictureFormat) -> dict[str, Any]:
    url = f"data:image/{picture};base64,{_base64(_picture(frame, picture))}"
    return {"type": "image_url", "image_url": {"url": url}}


def _picture(frame: Frame, picture: PictureFormat) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if picture == "jpeg" else {"compress_level": 1}
    Image.fromarray(np.ascontiguousarray(frame)).save(buffer, format=picture.upper(), **options)
    return buffer.getvalue()


def _audio_part(ref: MediaRef) -> dict[str, Any]:
    """16-bit PCM in a WAV container."""
    from mmalign.media import load_audio

    clip = load_audio(ref)
    samples = np.clip(np.asarray(clip.waveform), -1.0, 1.0)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(samples.shape[0])
        out.setsampwidth(2)
        out.setframerate(clip.sample_rate_hz)
        out.writeframes((samples.T * 32767.0).round().astype("<i2").tobytes())
    data = _base64(buffer.getvalue())
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def _file_url(ref: MediaRef) -> str:
    if ref.operations or ref.start_s is not None or ref.end_s is not None:
        raise CapabilityError(
            f"{ref.uri}: the clip has a time range or operations, but video: video_url sends the "
            f"file as it is. Set video: video_jpeg or frames"
        )
    if ref.uri.startswith("data:"):
        return ref.uri
    path = Path(ref.uri)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MediaMissingError(f"{path}: cannot be read: {error.strerror}") from error
    mime = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return f"data:{mime};base64,{_base64(data)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
