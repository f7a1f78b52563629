"""The reward bench finds rewards that can be had for nothing, and passes one that cannot."""

import itertools
import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from mmalign.cli.app import run
from mmalign.rewards.config import RewardConfig, load_reward
from mmalign.rewards.contract import Episode, declare, reward
from mmalign.rewards.episodes import ROLLOUT_REWARDS
from mmalign.rewards.probes import PROBES, built_in_samples, check_reward
from mmalign.rewards.scoring import WeightedReward


def outcomes(function: Callable[..., Any], **declared: Any) -> dict[str, str]:
    known = declare(function, "f", **{"low": 0.0, "high": 1.0, **declared})
    checks = check_reward(WeightedReward("f", known), built_in_samples())
    return {check.name: check.outcome for check in checks}


def failed(function: Callable[..., Any], **declared: Any) -> set[str]:
    return {name for name, outcome in outcomes(function, **declared).items() if outcome == "fail"}


def right(episode: Episode) -> bool:
    return bool(ROLLOUT_REWARDS["exact_match"](episode).value)


def test_a_strict_reward_passes_everything() -> None:
    found = outcomes(lambda episode: float(right(episode)))
    assert set(PROBES) <= found.keys()
    assert set(found.values()) == {"pass"}


def test_a_reward_of_form_alone_is_found_out() -> None:
    assert failed(lambda episode: float("<answer>" in episode.text)) >= {
        "format only", "copied prompt", "keyword stuffing",
    }  # fmt: skip


def test_a_reward_that_looks_for_the_gold_anywhere_is_stuffed() -> None:
    found = failed(lambda episode: float(str(episode.sample.answer) in episode.text))
    assert "keyword stuffing" in found
    assert "empty" not in found


def test_a_reward_of_length_pays_for_endless_text() -> None:
    def long(episode: Episode) -> float:
        return min(1.0, len(episode.text) / 1000)

    assert "endless" in failed(long)


def test_a_reward_that_pays_for_nothing_is_found_out() -> None:
    assert "empty" in failed(lambda episode: 0.75 if not episode.text else float(right(episode)))


def test_recall_of_boxes_pays_for_all_boxes() -> None:
    """Every grid that is fine enough holds a box near the gold one."""

    def recall(episode: Episode) -> float:
        return float(episode.text.count("bbox_2d") >= 1)

    assert "all boxes" in failed(recall)


def test_a_reward_that_changes_its_mind_is_found_out() -> None:
    numbers = itertools.count()
    assert "determinism" in failed(lambda episode: next(numbers) % 7 / 7)


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        (lambda episode: 2.0 if not episode.text else float(right(episode)), "range"),
        (lambda episode: math.nan if not episode.text else float(right(episode)), "numbers"),
        (lambda episode: 1 / len(episode.text) if episode.text == "" else 1.0, "numbers"),
    ],
)
def test_broken_promises_are_named(function: Callable[..., Any], broken: str) -> None:
    found = failed(function)
    assert broken in found
    assert not found & ({"range", "time limit", "numbers"} - {broken})


def test_a_reward_that_is_slow_on_long_text_breaks_its_time_limit() -> None:
    def slow(episode: Episode) -> float:
        if len(episode.text) > 10_000:
            time.sleep(1.0)
        return float(right(episode))

    assert failed(slow, time_limit_s=0.05) >= {"time limit", "speed"}


def test_a_reward_of_nothing_says_so() -> None:
    assert failed(lambda episode: 0.0) == {"gold answers"}


@reward(low=0.0, high=1.0)
def lenient(episode: Episode, *, bonus: float = 0.0) -> float:
    """For the command line."""
    return min(1.0, float(right(episode)) + bonus)


@pytest.mark.parametrize(("bonus", "code"), [(0.0, 0), (0.9, 1)])
def test_the_command_prints_a_table_and_exits_by_it(
    bonus: float, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = f"{__name__}:lenient"
    assert run(["reward", "test", path, f"bonus={bonus}"]) == code
    out = capsys.readouterr().out
    assert "format only" in out
    assert run(["reward", "test", path, f"bonus={bonus}", "--json"]) == code
    rows = json.loads(capsys.readouterr().out)
    assert rows["reward"] == "lenient"
    assert any(check["outcome"] == "fail" for check in rows["checks"]) == bool(code)


def test_a_wrong_setting_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reward", "test", "exact_match", "bonus=1"]) == 2
    assert "no setting 'bonus'" in capsys.readouterr().err


def test_every_named_reward_of_answers_is_worth_its_name() -> None:
    for name in ("exact_match", "f1"):
        checks = check_reward(load_reward(RewardConfig(name=name)), built_in_samples())
        assert {check.name for check in checks if check.outcome == "fail"} == set(), name
