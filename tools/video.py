"""Look into a clip: a part of it, one frame, one place of a frame.

Results are a line of text and pictures (LangChain's content blocks). A policy that is rolled out
is shown the text alone, with the word image where a picture stands: a family encodes media of the
prompt only. Agents and MCP clients get the pictures.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from langchain_core.tools import BaseTool, StructuredTool
from PIL import Image

from mmalign.api import FrameSampling, MediaError, MediaRef, ToolError, VideoClip, load_video, probe

__all__ = ["crop_clip", "look_at_frame", "zoom_into_frame"]

Frame = npt.NDArray[np.uint8]


def crop_clip(root: str, num_frames: int = 4) -> BaseTool:
    """A LangChain tool `crop_clip(video, start_s, end_s)`: frames of a part of a clip.

    Args:
        root: Folder of the clips; nothing outside it is read.
        num_frames: Pictures that are shown, evenly spread.
    """

    def crop(video: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """Look at the part of a clip between two times.

        Args:
            video: Name of the clip.
            start_s: Where the part begins, in seconds from the start of the clip.
            end_s: Where it ends, later than start_s.
        """
        clip = _frames(root, video, start_s, end_s, num_frames)
        times = ", ".join(f"{time_s:.2f}" for time_s in clip.timestamps_s)
        return _shown(f"{video} at {times} s", list(clip.frames))

    return StructuredTool.from_function(crop, name="crop_clip", parse_docstring=True)


def look_at_frame(root: str) -> BaseTool:
    """A LangChain tool `look_at_frame(video, time_s)`; see `crop_clip`."""

    def look(video: str, time_s: float) -> list[dict[str, Any]]:
        """Look at one frame of a clip.

        Args:
            video: Name of the clip.
            time_s: Seconds from the start of the clip.
        """
        clip = _frames(root, video, time_s, None, 1)
        return _shown(f"{video} at {clip.timestamps_s[0]:.2f} s", [clip.frames[0]])

    return StructuredTool.from_function(look, name="look_at_frame", parse_docstring=True)


def zoom_into_frame(root: str) -> BaseTool:
    """A LangChain tool `zoom_into_frame(video, time_s, box)`; see `crop_clip`."""

    def zoom(video: str, time_s: float, box: list[float]) -> list[dict[str, Any]]:
        """Look at a place of one frame of a clip, enlarged to the size of the frame.

        Args:
            video: Name of the clip.
            time_s: Seconds from the start of the clip.
            box: Left, top, right and bottom of the place, each from 0 to 1.
        """
        if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise ToolError(
                f"{box} is no place in a frame. Call again with [left, top, right, bottom], each "
                f"from 0 to 1, left < right and top < bottom"
            )
        clip = _frames(root, video, time_s, None, 1)
        height, width = clip.frames.shape[1:3]
        picture = Image.fromarray(clip.frames[0]).resize(
            (width, height),
            Image.Resampling.BICUBIC,
            box=(box[0] * width, box[1] * height, box[2] * width, box[3] * height),
        )
        return _shown(f"{video} at {clip.timestamps_s[0]:.2f} s, {box}", [np.asarray(picture)])

    return StructuredTool.from_function(zoom, name="zoom_into_frame", parse_docstring=True)


def _frames(
    root: str, video: str, start_s: float, end_s: float | None, num_frames: int
) -> VideoClip:
    folder = Path(root).resolve()
    path = (folder / video).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise ToolError(f"there is no clip {video!r}")
    try:
        duration_s = probe(str(path)).duration_s
        end_s = duration_s if end_s is None else end_s
        if not 0 <= start_s < end_s <= duration_s:
            raise ToolError(
                f"cannot look at {start_s}-{end_s} s of a clip of {duration_s:.2f} s. Call again "
                f"with 0 <= start < end <= {duration_s:.2f}"
            )
        sampling = (
            FrameSampling(indices=(0,)) if num_frames == 1 else FrameSampling(num_frames=num_frames)
        )
        ref = MediaRef(kind="video", uri=str(path), start_s=start_s, end_s=end_s)
        return load_video(ref, sampling)
    except MediaError as error:
        raise ToolError(f"{video!r} cannot be looked at: {error}") from error


def _shown(text: str, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}, *map(_picture, frames)]


def _picture(frame: Frame) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}
