"""The rewards that a recipe names."""

import math
from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.records import Sample, user
from mmalign.rewards.contract import Episode
from mmalign.rewards.episodes import ROLLOUT_REWARDS, is_search_r1_form

GOLD = "the Eiffel Tower"
THOUGHT, ANSWER = "<think>hm</think>", "<answer>Eiffel Tower</answer>"
LOOKED_UP = "<search>tower</search>\n\n<information>Doc 1: The Eiffel tower</information>\n\n"


def episode(text: str, **known: Any) -> Episode:
    sample = Sample(id="s", messages=(user("what?"),), answer=GOLD)
    settings = {"answer": None, "num_tokens": 3, "num_tool_calls": 0, "tool_cost": 0.0}
    return Episode(**{"sample": sample, "text": text, "stop": "end", **settings, **known})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("exact_match", "eiffel tower!", 1.0),
        ("exact_match", "it is the eiffel tower", 0.0),
        ("sub_em", "it is the eiffel tower", 1.0),
        ("f1", "it is the eiffel tower", 2 * (2 / 4) * 1 / (2 / 4 + 1)),
    ],
)
def test_answers_are_compared_once_normalised(name: str, text: str, expected: float) -> None:
    assert ROLLOUT_REWARDS[name](episode(text)).value == pytest.approx(expected)
    other = ROLLOUT_REWARDS[name](episode("thoughts", answer=text)).value
    assert other == pytest.approx(expected)  # the format's answer goes before the whole text


def test_several_gold_answers_are_known() -> None:
    sample = Sample(
        id="s", messages=(user("?"),), answer="x", metadata={"golden_answers": ["Paris", "Rome"]}
    )
    found = episode("rome", sample=sample)
    assert ROLLOUT_REWARDS["exact_match"](found).value == 1.0
    assert ROLLOUT_REWARDS["exact_match"](episode("x", sample=sample)).value == 0.0


def test_a_sample_without_gold_is_refused() -> None:
    sample = Sample(id="s", messages=(user("?"),))
    with pytest.raises(RecordError, match="no gold answer"):
        ROLLOUT_REWARDS["exact_match"](episode("x", sample=sample))


def test_otc_ppo_discounts_by_calls() -> None:
    """cos(pi / (2 + 4)) for one call with c = 4."""
    one = ROLLOUT_REWARDS["otc_ppo"](episode(GOLD, num_tool_calls=1), smoothing=4)
    assert one.value == pytest.approx(math.cos(math.pi / 6))
    wrong = ROLLOUT_REWARDS["otc_ppo"](episode("Rome", num_tool_calls=0), smoothing=4)
    assert wrong.value == 0.0


def test_otc_grpo_remembers_the_fewest_calls() -> None:
    """Alone, two calls are the optimum; once one call was enough, they earn sin(2 pi / 3)."""
    history: dict[str, Any] = {}
    otc = ROLLOUT_REWARDS["otc_grpo"]
    two = [episode(GOLD, num_tool_calls=2), episode("Rome", num_tool_calls=0)]
    assert [r.value for r in otc(two, history, smoothing=4)] == [1.0, 0.0]
    otc([episode(GOLD, num_tool_calls=1)], history, smoothing=4)
    assert history == {"fewest_correct_calls": 1}
    again = otc(two, history, smoothing=4)
    assert again[0].value == pytest.approx(math.sin(2 * math.pi / 3))
    otc([episode(GOLD, num_tool_calls=3)], history, smoothing=4)
    assert history == {"fewest_correct_calls": 1}  # it never rises


def test_otc_grpo_of_a_group_without_right_answer_is_0_and_remembers_nothing() -> None:
    history: dict[str, Any] = {}
    found = ROLLOUT_REWARDS["otc_grpo"]([episode("Rome"), episode("Oslo")], history, smoothing=4)
    assert [r.value for r in found] == [0.0, 0.0]
    assert history == {}


@pytest.mark.parametrize(("num_tokens", "expected"), [(16, 0.0), (18, -0.5), (20, -1.0)])
def test_overlong_rollouts_pay(num_tokens: int, expected: float) -> None:
    found = ROLLOUT_REWARDS["overlong_penalty"](
        episode("x", num_tokens=num_tokens), max_tokens=20, cache_tokens=4
    )
    assert found.value == expected


@pytest.mark.parametrize(
    ("text", "observed", "expected"),
    [
        (THOUGHT + ANSWER, (), 1.0),
        (THOUGHT + LOOKED_UP + THOUGHT + ANSWER, ("Doc 1: The Eiffel tower",), 1.0),
        (ANSWER, (), 0.8),
        (THOUGHT + "<answer>Rome</answer>", (), 0.2),
        (
            THOUGHT + LOOKED_UP + THOUGHT + "<answer>Rome</answer>",
            ("Doc 1: The Eiffel tower",),
            0.3,
        ),
        ("<answer>Rome</answer>", (), 0.1),
        ("Rome", (), 0.0),
        ("", (), 0.0),
    ],
)
def test_search_r1_pays_answer_and_form(
    text: str, observed: tuple[str, ...], expected: float
) -> None:
    found = ROLLOUT_REWARDS["search_r1_format"](episode(text, observations=observed))
    assert found.value == expected
    assert ROLLOUT_REWARDS["search_r1_format"].sees == "all"


@pytest.mark.parametrize(
    "text",
    [
        THOUGHT + LOOKED_UP + ANSWER,  # no thought after the information
        THOUGHT + "<search>tower</search>" + THOUGHT + ANSWER,  # no information
        THOUGHT + ANSWER + ANSWER,
        THOUGHT + ANSWER + " and more",
        "<think><think>hm</think></think>" + ANSWER,
    ],
)
def test_what_breaks_the_form_of_search_r1(text: str) -> None:
    assert not is_search_r1_form(text)


def test_endless_text_is_read_at_once() -> None:
    assert not is_search_r1_form("<think>" + "<search>" * 200_000)
