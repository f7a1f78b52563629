"""Rollout tables: every token with its author, on the report and in the viewer."""

import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mmalign.records import Lineage, Rollout, Segment, ToolRun
from mmalign.report import write_report
from mmalign.report.review.rollouts import RolloutPages, guarded_rollouts
from mmalign.report.rollouts import read_rollouts, steps_of, token_texts, view_rollouts
from mmalign.testing.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def rollout(sample_id: str, draw: int, reward: float | None) -> Rollout:
    said, shown, hint = ids("what moves?"), ids("a red <b>circle</b>"), ids("answer")
    return Rollout(
        sample_id=sample_id,
        draw_index=draw,
        num_prompt_tokens=9,
        segments=(
            Segment(kind="policy", token_ids=said, logps=(-0.5,) * len(said), text="what moves?"),
            Segment(kind="observation", token_ids=shown, text="a red <b>circle</b>"),
            Segment(kind="hint", token_ids=hint, text="answer"),
        ),
        tool_runs=(ToolRun(tool="search", arguments='{"query": "x"}', outcome="ok", cost=2.0),),
        stop="answer",
        answer="red",
        rewards={"exact_match": reward},
        reward=reward,
        advantage=None if reward is None else reward - 0.5,
        lineage=Lineage(),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "train" / "rollouts"
    folder.mkdir(parents=True)
    kept = {
        0: [rollout("q0", 0, 1.0)],
        4: [rollout("q1", 0, 1.0), rollout("q1", 1, 1.0), rollout("q2", 0, 1.0),
            rollout("q2", 1, 0.0), rollout("q3", 0, None)],
    }  # fmt: skip
    with (folder / "rollouts-0.jsonl").open("w") as file:
        for step, items in kept.items():
            for item in items:
                row = {"step": step, "epoch": 0.0, "record": item.model_dump(mode="json")}
                file.write(json.dumps(row) + "\n")
        file.write('{"step": 4, "epoch"')  # a killed process
    TOKENIZER.save_pretrained(tmp_path / "train")
    return tmp_path


def test_tokens_carry_their_author_and_mask(run: Path) -> None:
    problems: list[str] = []
    assert steps_of(run / "train") == [0, 4]
    groups = view_rollouts(
        read_rollouts(run / "train", 4, problems), 4, token_texts(run / "none", run / "train")
    )
    assert [group.sample_id for group in groups] == ["q2", "q1", "q3"]  # by spread of rewards
    assert len(problems) == 1
    first = groups[0].rollouts[0]
    by_kind = {
        kind: "".join(token.text for token in first.tokens if token.kind == kind)
        for kind in ("policy", "observation", "hint")
    }
    assert by_kind == {
        "policy": "what moves?",
        "observation": "a red <b>circle</b>",
        "hint": "answer",
    }
    assert {(token.kind, token.mask) for token in first.tokens} == {
        ("policy", 1),
        ("observation", 0),
        ("hint", 0),
    }
    assert first.num_counted == len(ids("what moves?")) < first.num_tokens
    assert first.tokens[0].title == f"id {ids('what moves?')[0]}, log-prob -0.500"


def test_without_a_tokenizer_ids_are_shown(run: Path) -> None:
    (run / "train" / "tokenizer.json").unlink()
    (group,) = view_rollouts(read_rollouts(run / "train", 0, []), 0, token_texts(run / "train"))
    assert group.rollouts[0].tokens[0].text == str(ids("what moves?")[0])


def test_report_shows_the_last_step(run: Path) -> None:
    page = write_report(run).read_text()
    section = page.partition('<section id="rollouts"')[2].partition("</section>")[0]
    assert "step 4" in section
    assert "step 0" not in section
    spans = re.findall(r'<span class="(\w+)" title="mask (\d),', section)
    assert set(spans) == {("policy", "1"), ("observation", "0"), ("hint", "0")}
    assert "<b>circle" not in section
    assert "<td>search</td>" in section
    assert "reward <b>–</b>" in section


def test_report_of_another_run_says_nothing_about_rollouts(tmp_path: Path) -> None:
    assert 'id="rollouts"' not in write_report(tmp_path).read_text()


def test_viewer_goes_through_the_steps(run: Path) -> None:
    app = guarded_rollouts(RolloutPages(run), token="secret", port=8123)
    client = TestClient(app, base_url="http://127.0.0.1:8123", follow_redirects=True)
    assert client.get("/").status_code == 403
    assert client.get("/?token=secret").status_code == 200
    last = client.get("/")
    assert "rollouts of step 4" in last.text
    assert "a line is no rollout" in last.text
    first = client.get("/?step=0")
    assert "rollouts of step 0" in first.text
    assert first.text.count("<article") == 1
    assert client.get("/?step=3").status_code == 404
    assert client.get("/static/page.css").status_code == 200
    assert client.get("/static/../page.py").status_code == 404
