"""The verbs that show and hand over: show, list, export, view, cache, doctor, help."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mmalign.cli.app import run
from mmalign.diagnostics import DIAGNOSTICS
from mmalign.media import FrameSampling, default_cache, load_video, write_video
from mmalign.objectives import LOSSES, OBJECTIVES
from mmalign.records import MediaRef, PreferencePair
from mmalign.records.interop import import_pairs
from mmalign.records.jsonl import read_jsonl
from mmalign.rewards import REWARDS
from mmalign.selection.table import SELECTION_RULES

Capture = pytest.CaptureFixture[str]
TABLES = {
    "losses": LOSSES,
    "rewards": REWARDS,
    "selection": SELECTION_RULES,
    "diagnostics": DIAGNOSTICS,
}
VERBS = (
    ["run"],
    ["build"],
    ["train"],
    ["eval"],
    ["plan"],
    ["show", "graph"],
    ["show", "pair"],
    ["show", "schema"],
    ["list"],
    ["export"],
    ["import"],
    ["report"],
    ["view"],
    ["cache", "ls"],
    ["cache", "why"],
    ["cache", "rm"],
    ["doctor"],
)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_has_an_example(verb: list[str], capsys: Capture) -> None:
    assert run([*verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"mmalign {' '.join(verb)}" in said.partition("Example")[2]


def test_help_imports_nothing_slow() -> None:
    """The modules of the command line import torch, transformers and LangGraph in their verbs."""
    import subprocess

    code = (
        "import sys; from mmalign.cli.app import run; assert run(['list', '--help']) == 0;"
        "slow = {'torch', 'transformers', 'langgraph', 'numpy'} & set(sys.modules);"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "Did you mean 'run'"),
        (["list", "objectivs"], "did you mean 'objectives'"),
        (["show", "graph", "rrop"], "did you mean 'rrpo'"),
        (["eval", "x.yaml", "--arm", "during"], "before"),
        (["export", "runs/x", "out.jsonl", "--to", "tlr"], "did you mean 'trl'"),
        (["cache", "rm"], "give --all"),
        (["cache", "why", "0123"], "no keys start with '0123'"),
        (["run"], "Missing argument"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_exit_code_2(arguments: list[str], message: str, capsys: Capture) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out[0].isdigit()


def test_lists_are_those_of_the_tables(capsys: Capture) -> None:
    assert run(["list", "objectives", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(OBJECTIVES)
    for kind, table in TABLES.items():
        assert run(["list", kind, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in rows] == sorted(table)
        assert all(row["source"] and row["family"] for row in rows)
    for kind in ("metrics", "operators", "formats", "families", "datasets"):
        assert run(["list", kind, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows
        assert all(row["name"] and row["about"] for row in rows)
    assert run(["list", "agents"]) == 0
    assert "mmalign.agents.rrpo:build_graph" in capsys.readouterr().out


def test_a_graph_is_drawn_and_saved(tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "rrpo.svg"
    assert run(["show", "graph", "rrpo", "--output", str(picture)]) == 0
    assert "perturb" in capsys.readouterr().out
    assert "write_pair" in picture.read_text()
    assert run(["show", "graph", "mmalign.testing.agents:build_graph", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert {"caption", "judge"} <= {node["id"] for node in drawn["nodes"]}


def test_a_pair_is_shown_by_the_beginning_of_its_id(demo_run: Path, capsys: Capture) -> None:
    pair = next(read_jsonl(demo_run / "data" / "pairs.jsonl", PreferencePair))
    assert run(["show", "pair", pair.id[:10], "--run", str(demo_run)]) == 0
    said = capsys.readouterr()
    assert "rejected" in said.out
    assert "without tokens" in said.err  # its policy is nowhere
    assert run(["show", "pair", pair.id, "--run", str(demo_run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pair"]["id"] == pair.id
    assert run(["show", "pair", "", "--run", str(demo_run)]) == 2
    assert "pairs have an id that starts with ''; give more" in capsys.readouterr().err
    assert run(["show", "pair", "zz", "--run", str(demo_run)]) == 2
    assert "no pair has an id" in capsys.readouterr().err


def test_the_latest_run_is_looked_into(
    demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["show", "pair", "a"]) == 2
    assert "there is no run with pairs below runs/" in capsys.readouterr().err
    shutil.copytree(demo_run / "data", tmp_path / "runs" / "one" / "data")
    pair = next(read_jsonl(demo_run / "data" / "pairs.jsonl", PreferencePair))
    assert run(["show", "pair", pair.id]) == 0
    assert "looking into runs/one" in capsys.readouterr().err


def test_the_schema_knows_both_backends(capsys: Capture) -> None:
    assert run(["show", "schema"]) == 0
    text = capsys.readouterr().out
    assert "output_dir" in json.loads(text)["properties"]
    assert "model_name_or_path" in text
    assert "base_url" in text


def test_an_export_that_loses_something_lists_the_rows(
    demo_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "pairs.jsonl"
    command = ["export", str(demo_run), str(out), "--to", "trl"]
    assert run(command) == 1
    said = capsys.readouterr().err
    assert "LossyExportError" in said
    assert "row 1 (pair" in said
    assert not out.exists()
    assert run([*command, "--allow-lossy"]) == 0
    said_now = capsys.readouterr()
    assert "wrote 6 pairs" in said_now.out
    assert "lost: row 1" in said_now.err
    assert len(list(import_pairs(out, "trl"))) == 6


def test_a_model_is_exported_only_when_it_is_finished(
    demo_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run(["export", str(demo_run), str(tmp_path / "model")]) == 2
    assert "holds no finished training" in capsys.readouterr().err


def test_a_fully_trained_model_is_copied_without_its_training_state(
    tmp_path: Path, capsys: Capture
) -> None:
    trained = tmp_path / "run" / "train"
    (trained / "checkpoint-1").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "all_results.json"):
        (trained / name).write_text("{}")
    (trained / "optimizer.pt").write_text("")
    assert run(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert run(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_report_writes_the_page(demo_run: Path, capsys: Capture) -> None:
    assert run(["report", str(demo_run), "--num-pairs", "2"]) == 0
    assert "<html" in Path(capsys.readouterr().out.strip()).read_text()
    assert run(["report", "nowhere"]) == 1
    assert "StoreError" in capsys.readouterr().err


def test_the_cache_is_listed_explained_and_cleared(tmp_path: Path, capsys: Capture) -> None:
    clip = tmp_path / "clip[1].mp4"
    write_video(clip, np.zeros((4, 32, 32, 3), np.uint8), 8.0)
    cache = default_cache()
    for num_frames in (2, 3):
        sampling = FrameSampling(num_frames=num_frames)
        load_video(MediaRef(kind="video", uri=str(clip)), sampling, cache=cache)
    assert run(["cache", "ls", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {entry["num_frames"] for entry in entries} == {2, 3}
    key = entries[0]["key"]
    assert run(["cache", "ls"]) == 0
    assert key[:12] in capsys.readouterr().out
    assert run(["cache", "why", key[:12]]) == 0
    assert str(clip) in capsys.readouterr().out
    assert run(["cache", "rm", key[:12]]) == 0
    assert capsys.readouterr().out == "removed 1\n"
    assert run(["cache", "rm", "--all"]) == 0
    assert capsys.readouterr().out == "removed 1\n"
    assert default_cache().entries() == []


def test_doctor_finds_this_machine_sound(capsys: Capture) -> None:
    code = run(["doctor", "--json"])
    findings = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert findings["decoding"]["works"]
    assert findings["import datasets"]["works"]
    assert findings["sandbox: ending early"] == {
        "what": "sandbox: ending early",
        "works": True,
        "found": "scored error",
    }
    assert code == (0 if all(row["works"] for row in findings.values()) else 1)


def test_doctor_says_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(blocked))
    assert run(["doctor", "--json"]) == 1
    findings = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert not findings["cache"]["works"]
    assert "cannot be made a cache folder" in findings["cache"]["found"]
