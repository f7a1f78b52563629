"""Intervals: seeded, within strata, paired; and the proof file."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmalign.errors import RecordError
from mmalign.evaluation import (
    Difference,
    Proof,
    arm_result,
    intervals,
    paired_bootstrap,
    write_proof,
)
from mmalign.evaluation.bootstrap import draw_weights
from mmalign.evaluation.table import Table


def table(right: list[int], strata: list[str] | None = None) -> Table:
    strata = strata or ["all"] * len(right)
    return Table(
        units=tuple(f"u{number}" for number in range(len(right))),
        strata=tuple(strata),
        columns={"accuracy": np.array(right, dtype=np.float64)},
        means=("accuracy",),
        over=tuple(dict.fromkeys(strata)),
    )


def test_interval_of_a_proportion_is_the_binomial_one() -> None:
    """60 of 100 right: the middle 95 % of Binomial(100, 0.6) / 100 are 50 to 69 or 70."""
    low, high = intervals(table([1] * 60 + [0] * 40), num_draws=4000)["accuracy"]
    assert low == pytest.approx(50, abs=1)
    assert high == pytest.approx(69.5, abs=1)


def test_interval_is_seeded_and_holds_the_value() -> None:
    outcomes = table([1, 0, 1, 1, 0, 1, 0, 1] * 50)
    first = intervals(outcomes, num_draws=50, seed=3)
    assert intervals(outcomes, num_draws=50, seed=3) == first
    assert intervals(outcomes, num_draws=50, seed=4) != first
    assert first["accuracy"].low <= 62.5 <= first["accuracy"].high


def test_all_right_has_no_width() -> None:
    assert intervals(table([1] * 9))["accuracy"] == (100.0, 100.0)


def test_strata_keep_their_sizes_and_their_mean() -> None:
    strata = ["a"] * 3 + ["b"] * 5
    weights = draw_weights(strata, 50, np.random.default_rng(0))
    assert (weights[:, :3].sum(axis=1) == 3).all()
    assert (weights[:, 3:].sum(axis=1) == 5).all()
    assert intervals(table([1] * 3 + [0] * 5, strata))["accuracy"] == (50.0, 50.0)


def test_equal_arms_do_not_differ() -> None:
    arm = table([1, 0, 1, 0, 1])
    assert paired_bootstrap([arm], [arm], "accuracy") == Difference(0.0, 0.0, 0.0, 0.0)


def test_pairing_sees_what_separate_intervals_hide() -> None:
    """The second arm is right wherever the first is, and on ten of a hundred items more."""
    first, second = [1] * 45 + [0] * 55, [1] * 55 + [0] * 45
    difference = paired_bootstrap([table(first)], [table(second)], "accuracy")
    assert difference.value == pytest.approx(10.0)
    assert difference.low > 3
    assert difference.share_above_zero == 1.0
    one, other = intervals(table(first))["accuracy"], intervals(table(second))["accuracy"]
    assert one.high > other.low


def test_seeds_widen_the_interval() -> None:
    """Two seeds of which one gains 20 points and the other nothing: draws of seeds alone reach
    from 0 to 20."""
    base = table([1] * 50 + [0] * 50)
    better = table([1] * 70 + [0] * 30)
    mixed = paired_bootstrap([base], [better, base], "accuracy")
    same = paired_bootstrap([base], [better], "accuracy")
    assert mixed.value == pytest.approx(10.0)
    assert mixed.high - mixed.low > same.high - same.low
    assert mixed.low == pytest.approx(0.0, abs=1e-9)


def test_arms_of_other_items_or_seeds_are_refused() -> None:
    with pytest.raises(RecordError, match="not scored on the same items"):
        paired_bootstrap([table([1, 0])], [table([1, 0, 1])], "accuracy")
    arm = table([1, 0])
    with pytest.raises(RecordError, match="one arm has 2 seeds, the other 3"):
        paired_bootstrap([arm] * 2, [arm] * 3, "accuracy")


def test_arm_and_proof_file(tmp_path: Path) -> None:
    base, trained = table([1, 0, 0, 0]), [table([1, 1, 0, 0]), table([1, 1, 1, 0])]
    arm = arm_result(trained, "accuracy")
    assert arm.values == (50.0, 75.0)
    assert arm.mean == 62.5
    assert arm.low < 62.5 < arm.high
    proof = Proof(
        command="make proof-x",
        versions={"mmalign": "0.1.0"},
        seeds=(0, 1),
        metric="accuracy",
        arms={"base": arm_result([base], "accuracy"), "x": arm},
    )
    difference = paired_bootstrap([base], trained, "accuracy")
    write_proof(tmp_path / "x.json", proof, {"x - base": difference})
    found = json.loads((tmp_path / "x.json").read_text())
    assert {"command", "versions", "seeds", "metric", "higher_is_better", "arms"} <= found.keys()
    assert found["arms"]["x"]["values"] == [50.0, 75.0]
    assert found["differences"]["x - base"]["value"] == 37.5
    with pytest.raises(RecordError, match="one table per seed, all of the same items"):
        arm_result([base, table([1])], "accuracy")
