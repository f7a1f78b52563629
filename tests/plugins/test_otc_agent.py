"""OTC's pairs: a rollout with fewer calls over one with more, a right one over a wrong one."""

import asyncio
from dataclasses import dataclass

import pytest

from mmalign.agents.otc import OTCConfig, OTCContext, build_graph
from mmalign.api import (
    CapabilityError,
    DroppedSample,
    PreferencePair,
    RolloutConfig,
    Sample,
    ToolConfig,
    user,
)
from mmalign.engine.agent import AgentRecord, walk
from mmalign.testing.models import ScriptedModel
from mmalign.testing.policies import ScriptedPolicy

CALL = "<calculator>2 + 3</calculator>"
SHOWN = "\n\n<information>5</information>\n\n"
RIGHT, WRONG = "<answer>5</answer>", "<answer>6</answer>"


@dataclass
class NamedPolicy(ScriptedPolicy):
    """A policy that lineage can name."""

    name: str = "scripted"


def build(ways: list[tuple[int, str]], **settings: object) -> tuple[AgentRecord, ...]:
    """The records of a policy whose rollouts make so many calls and then answer."""
    seeds: dict[int, int] = {}

    def script(said: str, seed: int) -> str:
        if not said:  # a rollout begins: the next way is its own
            seeds[seed] = len(seeds)
            text = f"way {len(seeds) - 1}. "
        else:
            text = ""
        num_calls, answer = ways[int((said or text).split(".")[0].removeprefix("way "))]
        return text + (CALL if said.count(CALL) < num_calls else answer)

    config = OTCConfig(
        rollouts=RolloutConfig(
            num_generations=len(ways),
            format="search_r1",
            tools=(ToolConfig(path="mmalign.tools.calculator:calculator", price=0.5),),
            prompt="Answer: {question}",
        ),
        **settings,
    )
    context = OTCContext(policy=NamedPolicy(script), config=config, sample_id="s1")  # type: ignore[arg-type]  # rolls out only
    sample = Sample(
        id="s1", messages=(user("2 + 3?"),), answer="5", metadata={"question_type": "sum"}
    )
    return asyncio.run(walk(build_graph(), sample, context))


def pair_of(record: AgentRecord) -> PreferencePair:
    assert isinstance(record, PreferencePair)
    return record


def test_a_pair_of_each_pool() -> None:
    economy, correctness = map(pair_of, build([(2, RIGHT), (1, RIGHT), (0, WRONG)]))
    assert economy.metadata == {
        "pool": "economy", "fewest_calls": 1, "chosen_calls": 1, "rejected_calls": 2,
    }  # fmt: skip
    assert economy.chosen.text.endswith(f"{CALL}{SHOWN}{RIGHT}")
    assert economy.rejected.text.endswith(f"{CALL}{SHOWN}{CALL}{SHOWN}{RIGHT}")
    assert correctness.rejected.text.endswith(WRONG)
    assert correctness.lineage.tags == {"question_type": "sum", "pool": "correctness"}
    assert correctness.lineage.cost == pytest.approx(1.5)


def test_the_pair_shows_the_prompt_that_was_sent() -> None:
    (pair,) = build([(1, RIGHT), (0, RIGHT)])
    assert pair_of(pair).prompt[-1].text == "Answer: 2 + 3?"


def test_what_the_tool_said_is_marked() -> None:
    (pair,) = map(pair_of, build([(2, RIGHT), (0, RIGHT)]))
    text = pair.rejected.text
    assert [text[a:b] for a, b in pair.rejected.observed] == [SHOWN, SHOWN]
    assert pair.chosen.observed == ()


def test_a_pool_can_be_left_out() -> None:
    (pair,) = build([(2, RIGHT), (1, RIGHT), (0, WRONG)], pools=("economy",))
    assert pair_of(pair).metadata["pool"] == "economy"


@pytest.mark.parametrize(
    ("ways", "reason"),
    [
        ([(1, WRONG), (0, WRONG)], "none_correct"),
        ([(1, RIGHT), (1, RIGHT)], "no_gap"),
        ([(1, RIGHT)], "too_few_rollouts"),
    ],
)
def test_reasons_to_drop(ways: list[tuple[int, str]], reason: str) -> None:
    (record,) = build(ways)
    assert isinstance(record, DroppedSample)
    assert record.reason == reason


def test_a_policy_behind_a_server_is_refused() -> None:
    context = OTCContext(policy=ScriptedModel(), sample_id="s1")
    sample = Sample(id="s1", messages=(user("?"),), answer="5")
    with pytest.raises(CapabilityError, match="cannot be rolled out"):
        asyncio.run(walk(build_graph(), sample, context))
