"""A program earns by its tests, and cannot pay itself."""

from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.evaluation.program_reward import passes_tests
from mmalign.records import Sample, user
from mmalign.rewards.config import RewardConfig, load_reward
from mmalign.rewards.contract import Episode
from mmalign.rewards.reward import NotApplicable, Reward

RIGHT = "Like this:\n```python\ndef double(x):\n    return 2 * x\n```"
CASES = {
    "right": (RIGHT, 1.0),
    "wrong": (RIGHT.replace("2 *", "3 *"), 0.0),
    "no code": ("I cannot.", 0.0),
    "leaves": ("```python\nimport sys\ndef double(x):\n    sys.exit(0)\n```", 0.0),
    "equal to all": (
        "```python\nclass All:\n    def __eq__(self, other):\n        return True\n"
        "def double(x):\n    return All()\n```",
        0.0,
    ),
}


def episode(text: str, **changed: Any) -> Episode:
    sample = Sample(
        id="s",
        messages=(user("double a number"),),
        tests=("assert double(2) == 4", "assert double(-1) == -2"),
        metadata={"entry_point": "double"},
    )
    return Episode(
        sample=sample.model_copy(update=changed),
        text=text,
        answer=None,
        num_tokens=9,
        num_tool_calls=0,
        tool_cost=0.0,
        stop="end",
    )


@pytest.mark.sandbox
@pytest.mark.parametrize("case", CASES)
def test_a_program_earns_by_its_tests(case: str) -> None:
    text, expected = CASES[case]
    found = passes_tests(episode(text))
    assert isinstance(found, Reward)
    assert found.value == expected
    assert bool(found.note) == (expected == 0.0)


def test_a_sample_without_tests_is_passed_over() -> None:
    assert isinstance(passes_tests(episode(RIGHT, tests=None)), NotApplicable)


def test_tests_that_the_program_could_fool_are_refused() -> None:
    suite = {"entry_point": "double", "mode": "suite"}
    with pytest.raises(RecordError, match=r"sample 's': tests of mode 'suite'"):
        passes_tests(episode(RIGHT, metadata=suite))


def test_a_recipe_finds_it_by_name() -> None:
    assert load_reward(RewardConfig(name="passes_tests")).function == passes_tests
