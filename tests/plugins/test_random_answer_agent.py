"""The control of choosing: any of the policy's own answers below the gold one."""

import asyncio

import pytest

from mmalign.agents.random_answer import RandomAnswerContext, build_graph
from mmalign.api import DroppedSample, PreferencePair, Sample, user
from mmalign.engine.agent import walk
from mmalign.testing.models import ScriptedModel


def build(answers: list[str], *, gold: str | None = "left", seed: int = 0) -> object:
    sample = Sample(
        id="s1", messages=(user("where ?"),), answer=gold, metadata={"question_type": "place"}
    )
    policy = ScriptedModel(script=lambda _call, draw: answers[draw])
    context = RandomAnswerContext(policy=policy, sample_id="s1", seed=seed)
    (record,) = asyncio.run(walk(build_graph(), sample, context))
    return record


def test_any_other_answer_may_be_rejected() -> None:
    found = [build(["left", "right", "", "up", "left"], seed=seed) for seed in range(12)]
    pairs = [pair for pair in found if isinstance(pair, PreferencePair)]
    assert {pair.rejected.text for pair in pairs} == {"right", "up"}
    assert {pair.chosen.text for pair in pairs} == {"left"}
    assert pairs[0].lineage.tags == {"question_type": "place"}


@pytest.mark.parametrize(
    ("answers", "gold", "reason"),
    [(["left"] * 5, "left", "no_other_answer"), (["right"] * 5, None, "no_answer")],
)
def test_reasons_to_drop(answers: list[str], gold: str | None, reason: str) -> None:
    record = build(answers, gold=gold)
    assert isinstance(record, DroppedSample)
    assert record.reason == reason
