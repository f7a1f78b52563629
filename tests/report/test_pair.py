from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from mmalign.report import PairTokens, render_pair
from mmalign.report.run_folder import read_run


def printed(renderable: RenderableType, *, color: bool = False) -> str:
    console = Console(
        file=StringIO(),
        width=100,
        force_terminal=color,
        color_system="standard" if color else None,
    )
    console.print(renderable)
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_both_sides_show_their_numbered_phrases(demo_run: Path) -> None:
    pair = (read_run(demo_run).pairs or ())[1]
    text = printed(render_pair(pair))
    assert "It moves from left to right[1] across the picture." in text
    assert "It moves from right to left[1] across the picture." in text
    assert "scene-01.mp4" in text
    assert "mmalign.agents.rrpo:build_graph" in text
    colored = printed(render_pair(pair), color=True)
    assert colored.count("\x1b[1;4;35m") == 2


def test_tokens_that_carry_reward_are_counted_and_marked(demo_run: Path) -> None:
    pair = (read_run(demo_run).pairs or ())[1]
    tokens = PairTokens(["It", " moves", " left"], [0, 0, 1], ["It", " right"], [0, 1])
    text = printed(render_pair(pair, tokens))
    assert "1 of 3 tokens carry reward" in text
    assert "It|·moves|·left|" in text
    assert printed(render_pair(pair, tokens), color=True).count("\x1b[7;35m") == 2


def test_a_mask_of_another_length_is_refused(demo_run: Path) -> None:
    pair = (read_run(demo_run).pairs or ())[1]
    with pytest.raises(ValueError, match="zip"):
        render_pair(pair, PairTokens(["a", "b"], [0], ["a"], [0]))
