"""The frontier of accuracy and calls: who answers best for the calls that are made."""

import json
from pathlib import Path

import pytest

from mmalign.errors import StoreError
from mmalign.report import write_report
from mmalign.report.frontier import frontier_of, frontier_picture, frontier_uri
from mmalign.report.run_folder import read_run


def evaluated(folder: Path, arms: dict[str, tuple[float, float]]) -> Path:
    (folder / "eval").mkdir(parents=True)
    for name, (calls, accuracy) in arms.items():
        report = {
            "name": name,
            "metric": "accuracy",
            "metrics": {"accuracy": accuracy, "calls": calls},
            "subsets": {"sum": {"accuracy": accuracy, "calls": calls}},
            "tools": {"search": {"calls": 4, "failures": 1, "cost": 2.0, "seconds": 0.001}},
        }
        (folder / "eval" / f"{name}.json").write_text(json.dumps(report))
    return folder


ARMS = {
    "before": (286.0, 70.0),
    "checkpoint-100": (150.0, 85.0),
    "checkpoint-50": (200.0, 84.0),
    "after": (95.0, 84.0),
}


def test_the_frontier_holds_who_is_beaten_by_nobody(tmp_path: Path) -> None:
    points = frontier_of(read_run(evaluated(tmp_path, ARMS)).arms)
    assert [point.arm for point in points] == ["before", "checkpoint-50", "checkpoint-100", "after"]
    assert [point.on_frontier for point in points] == [False, False, True, True]
    assert points[0].calls == pytest.approx(2.86)


def test_the_page_shows_picture_and_tools(tmp_path: Path) -> None:
    page = write_report(evaluated(tmp_path, ARMS)).read_text(encoding="utf-8")
    assert "Accuracy and calls" in page
    assert "2.86 calls of a question" in page
    assert "data:image/png;base64" in page
    assert '<td>search</td><td class="n">4</td><td class="n">1</td>' in page


def test_the_picture_is_a_file(tmp_path: Path) -> None:
    path = frontier_picture(evaluated(tmp_path, ARMS), tmp_path / "frontier.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_other_runs_have_none(tmp_path: Path) -> None:
    assert frontier_uri({}) == ""
    (tmp_path / "eval").mkdir()
    with pytest.raises(StoreError, match="no arm was scored by tool_use"):
        frontier_picture(tmp_path, tmp_path / "frontier.png")
