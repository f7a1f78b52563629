"""Looking into a clip: which frames, which place, what is refused."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmalign.api import RolloutTool, invoke_tool, write_video
from mmalign.tools.video import crop_clip, look_at_frame, zoom_into_frame


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds: red, then blue from 5 s on; a white square at the bottom right."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.zeros((40, 64, 64, 3), dtype=np.uint8)
    frames[:20, ..., 0] = frames[20:, ..., 2] = 200
    frames[:, 48:, 48:] = 255
    write_video(folder / "two.mp4", frames, 4.0)
    (folder.parent / "secret.mp4").write_bytes(b"x")
    (folder / "broken.mp4").write_bytes(b"no clip")
    return folder


def ask(tool: Any, **arguments: Any) -> Any:
    return asyncio.run(invoke_tool({"t": RolloutTool(tool)}, "t", {"video": "two.mp4"} | arguments))


def colours(said: Any) -> list[list[int]]:
    """Mean colour of the upper left quarter of every picture."""
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(part["base64"]))))
        for part in said.parts
        if part["type"] == "image"
    ]
    return [[round(float(v), -2) for v in p[:32, :32].mean((0, 1))] for p in pictures]  # type: ignore[misc]


def test_part_of_a_clip_shows_its_frames(root: Path) -> None:
    said = ask(crop_clip(str(root), num_frames=2), start_s=3.0, end_s=7.0)
    assert colours(said) == [[200, 0, 0], [0, 0, 200]]
    assert said.text.splitlines() == ["two.mp4 at 4.00, 6.00 s", "[image]", "[image]"]


def test_one_frame(root: Path) -> None:
    tool = look_at_frame(str(root))
    assert colours(ask(tool, time_s=0.0)) == [[200, 0, 0]]
    assert colours(ask(tool, time_s=8.1)) == [[0, 0, 200]]


def test_place_of_a_frame_is_enlarged(root: Path) -> None:
    said = ask(zoom_into_frame(str(root)), time_s=1.0, box=[0.8, 0.8, 1.0, 1.0])
    assert colours(said) == [[300, 300, 300]] or min(colours(said)[0]) >= 200
    picture = Image.open(io.BytesIO(base64.b64decode(said.parts[1]["base64"])))
    assert picture.size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"start_s": 7.0, "end_s": 3.0}, r"Call again with 0 <= start < end <= 10.00"),
        ({"start_s": 3.0, "end_s": 99.0}, "cannot look at"),
        ({"video": "none.mp4", "start_s": 0, "end_s": 1}, "there is no clip"),
        ({"video": "../secret.mp4", "start_s": 0, "end_s": 1}, "there is no clip"),
        ({"video": "broken.mp4", "start_s": 0, "end_s": 1}, "cannot be looked at"),
    ],
)
def test_what_cannot_be_shown_is_told(root: Path, arguments: dict[str, Any], why: str) -> None:
    said = ask(crop_clip(str(root)), **arguments)
    assert said.outcome == "error"
    assert why in said.text


def test_place_outside_the_frame_is_told(root: Path) -> None:
    said = ask(zoom_into_frame(str(root)), time_s=1.0, box=[0.5, 0.0, 0.2, 1.0])
    assert (said.outcome, "left < right" in said.text) == ("error", True)
