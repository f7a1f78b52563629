import json
from pathlib import Path

import pytest

from mmalign.errors import StoreError
from mmalign.report.run_folder import read_run


def test_an_empty_folder_is_a_run_of_which_nothing_ran(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.pairs, run.log, run.plan, dict(run.arms), run.problems) == (
        None,
        None,
        None,
        {},
        (),
    )


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: no such run folder"):
        read_run(tmp_path / "nowhere")


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "eval").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text('\n{"sample_id": ""}\n')
    (tmp_path / "train" / "trainer_log.jsonl").write_text(
        '{"step": 1, "loss": 0.5}\n{"step": 2, "lo'
    )
    (tmp_path / "eval" / "before.json").write_text("[1]")
    run = read_run(tmp_path)
    assert run.pairs == ()
    assert run.log == ({"step": 1, "loss": 0.5},)
    assert run.problems[0].startswith("data/pairs.jsonl:2: not a PreferencePair, left out: ")
    assert run.problems[1] == "train/trainer_log.jsonl:2: not a JSON object; left out"
    assert run.problems[2] == "eval/before.json: holds no object"


def test_arms_stand_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    for name in ("after", "dpo", "before"):
        (tmp_path / "eval" / f"{name}.json").write_text(json.dumps({"metrics": {"overall": 1.0}}))
    assert list(read_run(tmp_path).arms) == ["before", "dpo", "after"]


def test_intervals_of_subsets_are_found_inside_and_beside_them(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    arm = {
        "metric": "overall",
        "metrics": {"overall": 50.0, "broken": float("nan")},
        "intervals": {"overall": [40, 60], "color/overall": [1, 2], "count/overall": [None, 2]},
        "subsets": {
            "color": {"overall": 1.5},
            "count": {"overall": 3, "intervals": {"overall": [2, 4]}},
        },
    }
    (tmp_path / "eval" / "after.json").write_text(json.dumps(arm))
    found = read_run(tmp_path).arms["after"]
    assert found.metrics == {"overall": 50.0}
    assert found.subset_intervals == {
        "color": {"overall": (1.0, 2.0)},
        "count": {"overall": (2.0, 4.0)},
    }


def test_a_difference_without_numbers_is_none(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    path = tmp_path / "eval" / "difference.json"
    path.write_text('{"value": 5, "low": 1.5, "high": 8}')
    assert read_run(tmp_path).difference_interval == (1.5, 8.0)
    path.write_text('{"value": 5, "low": null}')
    assert read_run(tmp_path).difference_interval is None
