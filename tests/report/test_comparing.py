"""Two evaluations stand in one table only if both were made in the same way."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.report.arms import compare
from mmalign.report.comparing import comparison_problem
from mmalign.report.run_folder import read_run


def report(name: str = "before", **changes: Any) -> dict[str, Any]:
    settings = {
        "sampling": {"temperature": 0.0},
        "prompt_templates": ["human_eval/chat-1"],
        "benchmark": {"names": ["human_eval"], "samples": "ab"},
        "num_samples": 1,
        "identity": {"weights": name},
        **changes.pop("settings", {}),
    }
    return {
        "name": name,
        "scorer": "pass_at_k",
        "profile": "strict",
        "metric": "pass@1",
        "metrics": {"pass@1": 50.0},
        "settings": settings,
        **changes,
    }


def test_other_weights_are_what_a_comparison_is_about() -> None:
    assert comparison_problem(report("before"), report("after")) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"settings": {"sampling": {"temperature": 0.8}}},
            'sampling: {"temperature": 0.0} against {"temperature": 0.8}',
        ),
        (
            {"settings": {"prompt_templates": ["human_eval/completion-1"]}},
            'prompt_templates: ["human_eval/chat-1"] against ["human_eval/completion-1"]',
        ),
        (
            {"settings": {"benchmark": {"names": ["human_eval"], "samples": "cd"}}},
            '"samples": "ab"} against',
        ),
        ({"settings": {"num_samples": 10}}, "num_samples: 1 against 10"),
        ({"profile": "official"}, 'profile: "strict" against "official"'),
        ({"scorer": "exact_match"}, 'scorer: "pass_at_k" against "exact_match"'),
    ],
)
def test_other_ways_of_evaluating_are_refused_by_name(changes: dict[str, Any], told: str) -> None:
    problem = comparison_problem(report(), report("after", **changes))
    assert problem is not None
    assert problem.startswith("before and after were evaluated in different ways (")
    assert told in problem


def test_what_an_earlier_version_did_not_state_is_not_held_against_it() -> None:
    old = {"name": "before", "metric": "pass@1", "metrics": {"pass@1": 40.0}}
    assert comparison_problem(old, report("after")) is None


def test_report_leaves_out_an_arm_that_cannot_be_compared(tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    folder.mkdir()
    warm = {"settings": {"sampling": {"temperature": 0.8}}}
    for name, changes in (("before", warm), ("later", {}), ("after", {})):
        (folder / f"{name}.json").write_text(json.dumps(report(name, **changes)))
    run = read_run(tmp_path)
    comparison = compare(run.arms)
    assert comparison is not None
    assert comparison.arms == ("later", "after")
    (problem,) = run.problems
    assert problem.startswith("eval/before.json: left out: before and after were evaluated in")
