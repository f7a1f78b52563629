"""A gate says whether it is passed, and by which numbers."""

import numpy as np
import pytest
from pydantic import ValidationError

from mmalign.evaluation.table import Table
from mmalign.pipeline.gates import Gate, verdict


def table(right: list[float], calls: list[float]) -> Table:
    units = tuple(f"q{number}" for number in range(len(right)))
    return Table(
        units=units,
        strata=("all",) * len(units),
        columns={"accuracy": np.array(right), "calls": np.array(calls)},
        means=("accuracy", "calls"),
        ratios={"productivity": ("accuracy", "calls")},
    )


ARMS = {
    "grpo": [table([1, 1, 1, 0] * 25, [4.0] * 100)],
    "otc": [table([1, 1, 1, 0] * 25, [2.0] * 100)],
    "worse": [table([1, 1, 0, 0] * 25, [0.0, 0.0, 0.0, 1.0] * 25)],
}


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"metric": "accuracy", "arm": "otc", "over": "grpo", "margin": -2.0},
         "gate passed: otc against grpo, accuracy: lower bound of the difference +0.0, wanted "
         "above -2"),
        ({"metric": "productivity", "arm": "otc", "over": "grpo", "factor": 2.0},
         "gate passed: otc against grpo, productivity: 37.5 against 18.8, wanted 2 times as much"),
        ({"metric": "productivity", "arm": "otc", "over": "grpo", "factor": 2.1},
         "gate NOT passed: otc against grpo, productivity: 37.5 against 18.8, wanted 2.1 times as "
         "much"),
        ({"metric": "calls", "arm": "otc", "above": 0.0},
         "gate passed: otc, calls: 200.0, wanted above 0"),
        ({"metric": "calls", "arm": "worse", "above": 25.0},
         "gate NOT passed: worse, calls: 25.0, wanted above 25"),
    ],
)  # fmt: skip
def test_verdicts(gate: dict[str, object], said: str) -> None:
    assert verdict(Gate.model_validate(gate), ARMS) == said


def test_a_worse_arm_does_not_pass() -> None:
    gate = Gate(metric="accuracy", arm="worse", over="grpo", margin=-2.0)
    assert verdict(gate, ARMS).startswith("gate NOT passed: worse against grpo, accuracy: lower")


@pytest.mark.parametrize(
    "gate",
    [
        {"metric": "calls", "arm": "a"},
        {"metric": "calls", "arm": "a", "over": "b"},
        {"metric": "calls", "arm": "a", "over": "b", "above": 0},
        {"metric": "calls", "arm": "a", "margin": 0},
        {"metric": "calls", "arm": "a", "over": "b", "margin": 0, "factor": 2},
    ],
)
def test_a_gate_says_one_thing(gate: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="a gate has `above`, or `over` with either"):
        Gate.model_validate(gate)
