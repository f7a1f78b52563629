"""mmalign answer and show waiting, and a whole run that stops for people."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmalign.cli.app import run
from mmalign.engine import RunStore, answers_given
from mmalign.report.funnel import view_funnel
from mmalign.report.run_folder import read_run
from mmalign.testing.fake_server import FakeOpenAIServer

Write = Callable[..., Path]
AGENT = {"path": "mmalign.testing.agents:build_person_graph"}
DATA = {"path": "mmalign.testing.agents:numbered_samples", "num_samples": 2}


def test_a_run_stops_for_people_and_goes_on_with_their_answers(
    write_recipe: Write,
    tmp_path: Path,
    server: FakeOpenAIServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = str(write_recipe(agent=AGENT, dataset=DATA))
    folder = str(tmp_path / "run")
    assert run(["run", recipe]) == 0
    said = capsys.readouterr().out
    assert f"2 samples wait for a person: mmalign view {folder}" in said
    assert "stopped before the next stage" in said
    assert "the report is" not in said
    assert not (tmp_path / "run" / "report").exists()

    assert run(["answer", folder, "s0", "good", "--by", "ann"]) == 0
    assert run(["run", recipe]) == 0
    assert "1 samples wait for a person" in capsys.readouterr().out
    assert run(["answer", folder, "s1", '{"verdict": "bad"}', "--by", "ann"]) == 0
    num_asked = len(server.requests)
    capsys.readouterr()
    assert run(["run", recipe, "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["num_pairs"] == 1
    assert Path(state["report"]).exists()
    assert len(server.requests) == num_asked
    with RunStore(tmp_path / "run", read_only=True) as store:
        assert [one.value for one in answers_given(store)] == ["good", {"verdict": "bad"}]


def test_waiting_samples_are_listed_and_counted(
    write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert run(["build", str(write_recipe(agent=AGENT, dataset=DATA)), "--json"]) == 0
    funnel = json.loads(capsys.readouterr().out)
    assert (funnel["num_in"], funnel["num_kept"], funnel["num_waiting"]) == (2, 0, 2)
    assert run(["answer", folder, "s1", "3"]) == 0
    capsys.readouterr()
    assert run(["show", "waiting", folder, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["sample_id"], first["node"], first["answer"]) == ("s0", "ask_verdict", None)
    assert first["payload"]["choices"] == ["good", "bad"]
    assert second["answer"]["value"] == 3
    assert run(["show", "waiting", folder]) == 0
    assert "ask_verdict" in capsys.readouterr().out

    data = read_run(tmp_path / "run")
    view = view_funnel(data.funnel, data.pairs or (), data.dropped)
    assert (view.num_in, view.num_waiting, view.num_pending) == (2, 2, 0)


def test_an_answer_to_nobody_is_wrong_use(
    write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(write_recipe(agent=AGENT, dataset=DATA))]) == 0
    assert run(["answer", str(tmp_path / "run"), "s7", "good"]) == 2
    assert "sample 's7' does not wait for a person" in capsys.readouterr().err
    assert run(["answer", str(tmp_path / "nowhere"), "s7", "good"]) == 1
    assert "no such store" in capsys.readouterr().err
