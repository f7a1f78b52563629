"""The committed tables are those of the code; the example of the README runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmalign.cli.app import run
from mmalign.cli.docs import support_page
from mmalign.testing.fake_server import FakeOpenAIServer

ROOT = Path(__file__).parents[2]


def test_committed_tables_are_current() -> None:
    command = [sys.executable, "-m", "mmalign.cli.docs", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_cell_without_a_test_is_empty() -> None:
    test = "tests/models/test_families.py::test_parts_give_the_logits_of_the_whole[qwen2_5_vl-clip]"
    page = support_page(ROOT, [test])
    assert "| `qwen2_5_vl` | - | - | 1 | - | - | - |" in page
    assert "| `causal_lm` | - | - | - | - | - | - |" in page
    assert "| `rrpo` | 3 | - | - |" in page
    assert "| `dpo_reference_free` | - | - | - |" in page


def test_the_readme_shows_the_example_as_it_is() -> None:
    example = (ROOT / "examples" / "own_graph.py").read_text()
    assert example in (ROOT / "README.md").read_text()


def test_the_example_builds_pairs(
    write_recipe: Callable[..., Path],
    server: FakeOpenAIServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    recipe = write_recipe(
        agent={"path": "examples.own_graph:build_graph"},
        dataset={"path": "mmalign.testing.recipes:arithmetic", "num_samples": 4},
    )
    assert run(["build", str(recipe), "--json"]) == 0
    funnel = json.loads(capsys.readouterr().out)
    assert funnel["num_pairs"] == 4
    pair = json.loads((tmp_path / "run" / "data" / "pairs.jsonl").read_text().splitlines()[0])
    assert pair["chosen"]["messages"][0]["content"][0]["text"] == "1"
    assert pair["lineage"]["graph"] == "examples.own_graph:build_graph"
    with FakeOpenAIServer("1") as knowing:
        right = [
            f"models.policy.base_url={knowing.base_url}",
            f"output_dir={tmp_path / 'other'}",
            "dataset.num_samples=1",
        ]
        assert run(["build", str(recipe), *right, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"][0]["reason"] == "not_wrong"
