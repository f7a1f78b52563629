"""mmalign view, export and import: people's decisions from the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mmalign.cli.app import run
from mmalign.engine.label_studio import import_decisions
from mmalign.engine.reviews import current_reviews, decide
from mmalign.engine.store import RunStore
from mmalign.records import PreferencePair
from mmalign.records.interop import import_pairs
from mmalign.records.jsonl import read_jsonl
from mmalign.testing.demo_store import write_demo_store

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return write_demo_store(tmp_path / "run", num_pairs=4)


def pairs(folder: Path) -> list[PreferencePair]:
    with RunStore(folder, read_only=True) as store:
        return list(store.pairs())


def exported(folder: Path) -> list[PreferencePair]:
    return list(read_jsonl(folder / "data" / "pairs.jsonl", PreferencePair))


def test_view_serves_the_run_until_ctrl_c(built: Path) -> None:
    code = "from mmalign.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "view", str(built), "--read-only"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert "HttpOnly" in answer.headers["set-cookie"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "Ctrl-C ends it" in err


@pytest.mark.parametrize("content", [None, "empty", "foreign"])
def test_view_of_what_is_no_run_is_an_error(
    tmp_path: Path, content: str | None, capsys: Capture
) -> None:
    folder = tmp_path / "folder"
    if content is not None:
        folder.mkdir()
    if content == "foreign":
        (folder / "store.sqlite").write_text("This is no database, only some text in a file.")
    assert run(["view", str(folder)]) == 1
    said = capsys.readouterr().err
    expected = {
        None: "no such run folder",
        "empty": "no such store; build the run first",
        "foreign": "is no intact store of a run",
    }
    assert "StoreError" in said
    assert expected[content] in said


def test_a_port_that_is_taken_is_wrong_use(built: Path, capsys: Capture) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run(["view", str(built), "--port", str(port)]) == 2
    assert f"--port {port}: cannot be listened on" in capsys.readouterr().err


def test_export_without_a_file_writes_the_data_as_reviewed(built: Path, capsys: Capture) -> None:
    first, second, *_ = pairs(built)
    with RunStore(built, read_only=True) as store:
        decide(store, first, "reject", by="ada")
        decide(store, second, "edit", by="ada", chosen="A cow.")
    assert run(["export", str(built)]) == 0
    assert "wrote 3 pairs" in capsys.readouterr().out
    assert exported(built)[0].chosen.text == "A cow."


def test_formats_hold_what_was_decided_since_the_last_export(
    built: Path, tmp_path: Path, capsys: Capture
) -> None:
    with RunStore(built, read_only=True) as store:
        for pair in pairs(built)[1:]:
            decide(store, pair, "reject", by="ada")
    out = tmp_path / "pairs.jsonl"
    assert run(["export", str(built), str(out), "--to", "trl", "--allow-lossy"]) == 0
    assert "wrote 1 pairs" in capsys.readouterr().out
    assert len(list(import_pairs(out, "trl"))) == 1


def test_decisions_go_to_label_studio_and_back(
    built: Path, tmp_path: Path, capsys: Capture
) -> None:
    first, second, third, fourth = pairs(built)
    with RunStore(built, read_only=True) as store:
        decide(store, first, "accept", by="ada")
        decide(store, second, "reject", by="ada")
        decide(store, third, "edit", by="ada", rejected="A cow.")
    tasks = tmp_path / "tasks.json"
    assert run(["export", str(built), str(tasks), "--to", "label_studio"]) == 0
    assert "wrote 4 tasks" in capsys.readouterr().out
    assert "<Choices" in (tmp_path / "tasks.xml").read_text()
    other = write_demo_store(tmp_path / "other", num_pairs=4)
    assert run(["import", str(other), str(tasks)]) == 0
    assert "read 4 tasks, 3 pairs were decided anew" in capsys.readouterr().out
    with RunStore(other, read_only=True) as store:
        reviews = current_reviews(store)
    assert {pair_id: row.decision for pair_id, row in reviews.items()} == {
        first.id: "accepted",
        second.id: "rejected",
        third.id: "edited",
    }
    assert reviews[third.id].rejected == "A cow."
    assert reviews[first.id].by == "ada"
    assert fourth.id not in reviews
    assert run(["import", str(other), str(tasks)]) == 0
    assert "0 pairs were decided anew" in capsys.readouterr().out


def task(pair: PreferencePair, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"id": 7, "data": {"pair_id": pair.id}, "annotations": list(annotations)}


def choice(value: str, created_at: str, **more: Any) -> dict[str, Any]:
    result = {
        "from_name": "decision",
        "to_name": "chosen",
        "type": "choices",
        "value": {"choices": [value]},
    }
    return {"created_at": created_at, "completed_by": 3, "result": [result], **more}


def test_the_last_annotation_that_was_not_cancelled_counts(built: Path, tmp_path: Path) -> None:
    first = pairs(built)[0]
    path = tmp_path / "tasks.json"
    annotations = (
        choice("rejected", "2026-02-01T10:00:00Z"),
        choice("accepted", "2026-01-01T10:00:00Z", updated_at="2026-03-01T10:00:00Z"),
        choice("rejected", "2026-04-01T10:00:00Z", was_cancelled=True),
    )
    path.write_text(json.dumps([task(first, *annotations)]))
    with RunStore(built, read_only=True) as store:
        assert import_decisions(store, path, by="label_studio") == (1, 1)
        state = current_reviews(store)[first.id]
    assert (state.decision, state.by) == ("accepted", "3")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is no JSON text"),
        ("{}", "holds a dict, expected the list of tasks"),
        ('[{"data": {"pair_id": "nobody"}}]', "task 1: there is no pair 'nobody' in this run"),
        ("[3]", "task 1: is no task of this project"),
        ('[{"data": {}}]', "task 1: is no task of this project: KeyError: 'pair_id'"),
        ("BURN", "task 2: the choice is 'burn'; known: accepted, rejected"),
        ("EMPTY", "the edited texts make no pair"),
    ],
)
def test_a_file_with_one_bad_task_changes_nothing(
    built: Path, tmp_path: Path, content: str, problem: str, capsys: Capture
) -> None:
    first, second, *_ = pairs(built)
    good = task(first, choice("accepted", "2026-01-01"))
    if content == "BURN":
        content = json.dumps([good, task(second, choice("burn", "2026-01-01"))])
    if content == "EMPTY":
        edit = choice("accepted", "2026-01-01")
        edit["result"].append({"from_name": "chosen_text", "value": {"text": [" "]}})
        content = json.dumps([good, task(second, edit)])
    path = tmp_path / "tasks.json"
    path.write_text(content)
    assert run(["import", str(built), str(path)]) == 1
    assert problem in capsys.readouterr().err.replace("\n", " ")
    with RunStore(built, read_only=True) as store:
        assert current_reviews(store) == {}
