import struct
from pathlib import Path

import pytest

from mmalign.errors import StoreError
from mmalign.report import before_after_picture, funnel_picture


def test_pictures_are_drawn_of_a_whole_run(demo_run: Path, tmp_path: Path) -> None:
    for draw in (funnel_picture, before_after_picture):
        content = draw(demo_run, tmp_path / f"{draw.__name__}.png").read_bytes()
        assert struct.unpack(">I", content[16:20])[0] == 1152


def test_the_funnel_as_svg_holds_its_counts(demo_run: Path, tmp_path: Path) -> None:
    text = funnel_picture(demo_run, tmp_path / "funnel.svg").read_text()
    assert "<!-- answer correct  (check) -->" in text
    assert "<!-- −58 -->" in text


def test_a_stage_that_did_not_run_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run `mmalign build` first"):
        funnel_picture(tmp_path, tmp_path / "funnel.png")
    with pytest.raises(StoreError, match="run `mmalign eval` first"):
        before_after_picture(tmp_path, tmp_path / "arms.png")
