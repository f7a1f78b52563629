"""Which kind of pair each type of question was given, and what an online run leaves to show."""

import json
from pathlib import Path

import pytest

from mmalign.records import DroppedSample, Lineage, PreferencePair, Response, text_of, user
from mmalign.report import write_report
from mmalign.report.crossed import view_crossings
from mmalign.report.lineage import view_lineage
from mmalign.report.run_folder import read_run


def pair(number: int, weight: float | None = None, **tags: str) -> PreferencePair:
    return PreferencePair(
        sample_id=f"s{number}",
        prompt=(user("?"),),
        chosen=Response(messages=(text_of("yes"),)),
        rejected=Response(messages=(text_of("no"),)),
        metadata={} if weight is None else {"weight": weight},
        lineage=Lineage(tags=tags),
    )


PAIRS = (
    pair(0, 1.0, question_type="order", augmentation="reverse"),
    pair(1, 0.5, question_type="order", augmentation="reverse"),
    pair(2, 0.5, question_type="order", augmentation="crop"),
    pair(3, 0.2, question_type="colour", augmentation="crop"),
)


def test_shares_of_each_question_type() -> None:
    (crossing,) = view_crossings(PAIRS)
    assert (crossing.key, crossing.columns) == ("augmentation", ("crop", "reverse"))
    colour, order = crossing.rows
    assert colour == ("colour", 1, (1.0, 0.0))
    assert order[:2] == ("order", 3)
    assert order[2] == pytest.approx((1 / 3, 2 / 3))


def test_a_tag_with_one_value_or_without_question_types_is_no_table() -> None:
    assert view_crossings([pair(0, question_type="order", graph="a")]) == ()
    assert view_crossings([pair(0, route="a"), pair(1, route="b")]) == ()


def test_rows_of_the_lineage_carry_the_mean_weight() -> None:
    weights = {(row.key, row.value): row.weight for row in view_lineage(PAIRS, [])}
    assert weights["question_type", "colour"] == 0.2
    assert weights["augmentation", "reverse"] == 0.75
    assert view_lineage([pair(0, route="a")], [])[0].weight is None


def test_an_online_run_shows_the_pairs_that_training_made(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "online"
    folder.mkdir(parents=True)
    rows = [{"step": 0, "epoch": 0.0, "record": p.model_dump(mode="json")} for p in PAIRS]
    (folder / "pairs-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    gone = DroppedSample(sample_id="s9", reason="static_clip", node="augment", message="still")
    row = {"step": 1, "epoch": 0.0, "record": gone.model_dump(mode="json")}
    (folder / "dropped-0.jsonl").write_text(json.dumps(row) + "\n")
    assert read_run(tmp_path).pairs == PAIRS
    assert read_run(tmp_path).dropped == (gone,)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Augmentation of the pairs of each question type" in page
    assert "--share:67%" in page
    assert ">Weight<" in page
