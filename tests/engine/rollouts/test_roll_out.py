"""The loop: who wrote which token, what stops it, what a call costs, what is told to the policy."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, ToolException, tool

from mmalign.engine.rollouts import RolloutConfig, RolloutTool, ToolConfig, roll_out
from mmalign.errors import MediaError, ModelUnavailableError, ToolError
from mmalign.records import Rollout, Sample, user
from mmalign.testing.policies import ScriptedPolicy

SAMPLE = Sample(id="q1", messages=(user("What is 2 + 2?"),), answer="4")
NAMED = (ToolConfig(path="tests:tool"),)


@tool
async def search(query: str) -> str:
    """Find what is known.

    Args:
        query: What to look for.
    """
    if query == "slow":
        await asyncio.sleep(30)
    if query == "bad":
        raise ToolError("nothing is known of bad things")
    if query == "worse":
        raise ToolException("nothing is known of worse things")
    if query == "broken":
        raise OSError("the index is gone")
    return f"Doc 1(Title: {query}) all about {query}¶</information>"


@tool
async def lists(queries: list[str]) -> str:
    """Find several things.

    Args:
        queries: What to look for.
    """
    return " and ".join(queries)


def roll(
    script: Any,
    *,
    tools: Sequence[BaseTool] = (search,),
    price: float = 0.0,
    fails: Any = lambda text: None,
    num_generations: int = 1,
    **options: Any,
) -> list[Rollout]:
    config = RolloutConfig(
        **{"format": "search_r1", "tools": NAMED * len(tools), "max_turn_length": 200} | options
    )
    policy = ScriptedPolicy(script, fails)
    groups = asyncio.run(
        roll_out(
            policy,
            [SAMPLE],
            config,
            [RolloutTool(item, price=price, timeout_s=0.3) for item in tools],
            seed=3,
            epoch=0,
            num_generations=num_generations,
        )
    )
    return groups[0]


def turns(*texts: str) -> Any:
    """A script that says one after another, and the last for ever."""
    place = itertools.count()
    return lambda said, seed: texts[min(next(place), len(texts) - 1)]


def test_call_is_run_and_its_result_spliced_in() -> None:
    (rollout,) = roll(
        turns("I look.<search> sums </search>not mine", "So <answer> 4 </answer>!"), price=2.5
    )
    kinds = [segment.kind for segment in rollout.segments]
    assert kinds == ["policy", "observation", "policy"]
    assert rollout.segments[0].text == "I look.<search> sums </search>"
    assert rollout.segments[1].text == (
        "\n\n<information>Doc 1(Title: sums) all about sums¶</information></information>\n\n"
    )
    assert (rollout.stop, rollout.answer) == ("answer", "4")
    assert rollout.policy_text == "I look.<search> sums </search>So <answer> 4 </answer>"
    (run,) = rollout.tool_runs
    assert (run.tool, run.arguments, run.outcome) == ("search", '{"query": "sums"}', "ok")
    assert run.cost == rollout.lineage.cost == 2.5
    assert rollout.num_tool_calls == 1
    assert rollout.num_prompt_tokens > len(SAMPLE.question)


@given(
    pieces=st.lists(
        st.sampled_from(
            [
                "<search>x</search>",
                "<search>slower</search>",
                "<search>bad</search>",
                "<lists>a</lists>",
                "<answer>4</answer>",
                "nothing",
                "<search>unclosed",
                "",
                "¶",
                "some words¶",
                "<search></search>¶",
                "é💡<search>é💡</search>",
            ]
        ),
        min_size=1,
        max_size=6,
    ),
    max_turns=st.integers(1, 5),
    max_tool_calls=st.one_of(st.none(), st.integers(0, 3)),
    lengths=st.tuples(st.integers(1, 400), st.integers(1, 60), st.integers(1, 60)),
)
@settings(deadline=None, max_examples=150)
def test_no_token_of_tools_and_hints_ever_counts(
    pieces: list[str], max_turns: int, max_tool_calls: int | None, lengths: tuple[int, int, int]
) -> None:
    """Over random loops: only sampled tokens have mask 1, and every length agrees."""
    said: list[str] = []
    place = itertools.count()

    def script(before: str, seed: int) -> str:
        said.append(pieces[next(place) % len(pieces)] or "-")
        return said[-1]

    (rollout,) = roll(
        script,
        tools=(search, lists),
        max_turns=max_turns,
        max_tool_calls=max_tool_calls,
        max_completion_length=lengths[0],
        max_turn_length=lengths[1],
        max_observation_length=lengths[2],
    )
    assert len(rollout.token_ids) == len(rollout.mask) <= lengths[0]
    counted = [
        token for token, is_own in zip(rollout.token_ids, rollout.mask, strict=True) if is_own
    ]
    written = [
        token
        for segment in rollout.segments
        if segment.kind == "policy"
        for token in segment.token_ids
    ]
    assert counted == written
    assert len(said) == sum(segment.kind == "policy" for segment in rollout.segments)
    for segment, turn in zip(
        [s for s in rollout.segments if s.kind == "policy"], said, strict=True
    ):
        assert turn.startswith(segment.text)
        assert segment.logps is not None
        assert len(segment.logps) == len(segment.token_ids) <= lengths[1]
    for segment in rollout.segments:
        if segment.kind != "policy":
            assert segment.logps is None
    executed = rollout.num_tool_calls
    assert max_tool_calls is None or executed <= max_tool_calls
    assert executed <= max_turns - 1 or max_turns == 1
    assert rollout.metadata["num_turns"] == len(said) <= max_turns


CALL = "<search>x</search>"


@pytest.mark.parametrize(
    ("script", "options", "stop", "num_calls"),
    [
        (turns("<answer>4</answer>"), {}, "answer", 0),
        (turns("four¶"), {"format": "none", "tools": ()}, "answer", 0),
        (turns("four"), {"format": "none", "tools": ()}, "length", 0),
        (turns("no box¶"), {"format": "torl"}, "end", 0),
        (turns(CALL), {"max_turns": 3}, "max_turns", 2),
        (turns("hm"), {"max_turns": 3}, "max_turns", 0),
        (turns(CALL), {"max_tool_calls": 1}, "max_tool_calls", 1),
        (turns(CALL), {"max_completion_length": 100}, "length", 1),
        (turns("x" * 50), {"max_completion_length": 20}, "length", 0),
        (turns("<search>slow</search>"), {"max_seconds": 0.1, "max_turns": 3}, "time", 1),
        (turns("<search>broken</search>"), {}, "error", 0),
    ],
)
def test_every_reason_to_stop(
    script: Any, options: dict[str, Any], stop: str, num_calls: int
) -> None:
    (rollout,) = roll(script, **options)
    assert (rollout.stop, rollout.num_tool_calls) == (stop, num_calls)
    assert rollout.segments[-1].kind == "policy" or stop in ("time", "max_turns")


def test_search_in_the_last_turn_is_not_run() -> None:
    (rollout,) = roll(turns(CALL), max_turns=2)
    assert [run.outcome for run in rollout.tool_runs] == ["ok", "refused"]
    assert rollout.num_tool_calls == 1
    assert rollout.segments[-1].kind == "policy"


def test_queries_of_one_call_count_as_many() -> None:
    call = '<tool_call>{"name": "lists", "arguments": {"queries": ["a", "b", "c"]}}</tool_call>¶'
    (rollout,) = roll(
        turns(call, "4¶"), tools=(lists,), format="template", max_tool_calls=2, price=1.0
    )
    assert [run.outcome for run in rollout.tool_runs] == ["ok", "ok", "refused"]
    assert rollout.num_tool_calls == 2
    assert rollout.lineage.cost == 2.0
    assert rollout.answer == "4"


@pytest.mark.parametrize(
    ("call", "outcome", "told"),
    [
        (
            '{"name": "search", "arguments": {"query": "bad"}}',
            "error",
            "Error: nothing is known of",
        ),
        ('{"name": "search", "arguments": {"query": "worse"}}', "error", "of worse things"),
        ('{"name": "search", "arguments": {"query": "slow"}}', "timeout", "longer than 0.3 s"),
        ('{"name": "serach", "arguments": {}}', "unknown_tool", "there are: search"),
        ('{"name": "search", "arguments": {}}', "invalid_arguments", "query: Field required"),
        ('{"name": "search", "arguments": [1]}', "invalid_arguments", "expected an object"),
        ('{"name": 7}', "invalid_arguments", "has no 'name' that is a text"),
        ("search for it", "invalid_arguments", "no JSON object"),
        ("[" * 100_000, "invalid_arguments", "no JSON object"),
    ],
)
def test_what_the_policy_did_wrong_is_told_to_it(call: str, outcome: str, told: str) -> None:
    script = turns(f"<tool_call>{call}</tool_call>¶", "so be it¶")
    (rollout,) = roll(
        script, format="template", max_turn_length=200_000, max_completion_length=300_000
    )
    (run,) = rollout.tool_runs
    assert run.outcome == outcome
    assert told in run.output
    assert run.output in rollout.segments[1].text
    assert (rollout.stop, rollout.answer) == ("answer", "so be it")
    assert rollout.num_tool_calls == (outcome in ("error", "timeout"))


def test_failure_of_the_machine_says_nothing_about_the_policy() -> None:
    (broken,) = roll(turns(CALL, "<search>broken</search>"))
    assert (broken.stop, broken.reward) == ("error", None)
    assert broken.metadata["error"] == "tool 'search': OSError: the index is gone"
    assert [run.outcome for run in broken.tool_runs] == ["ok"]

    def gone(text: str) -> Exception | None:
        return ModelUnavailableError("the server is gone") if "Doc" in text else None

    (alone,) = roll(turns(CALL), fails=gone)
    assert (alone.stop, alone.segments[-1].kind) == ("error", "observation")
    (unread,) = roll(turns(CALL), fails=lambda text: MediaError("clip.mp4: cannot be read"))
    assert "clip.mp4" in unread.metadata["error"]
    assert unread.token_ids == ()


def test_observation_is_cut_and_still_closed() -> None:
    (rollout,) = roll(
        turns("<search>" + "y" * 80 + "</search>", "<answer>4</answer>"), max_observation_length=9
    )
    assert rollout.segments[1].text == "\n\n<information>Doc 1(Tit</information>\n\n"
    assert "".join(map(chr, rollout.segments[1].token_ids)) == rollout.segments[1].text
    assert rollout.tool_runs[0].output == "Doc 1(Tit"


def test_turn_without_call_and_answer_is_hinted_at() -> None:
    (rollout,) = roll(turns("I do not know.", "<answer>4</answer>"))
    assert [segment.kind for segment in rollout.segments] == ["policy", "hint", "policy"]
    assert "<search>query</search>" in rollout.segments[1].text
    assert rollout.answer == "4"


def test_program_is_run_and_its_output_follows() -> None:
    @tool
    def python(code: str) -> str:
        """Run a program.

        Args:
            code: The program.
        """
        assert code == "print(2 + 2)\n"
        return "4"

    text = (
        "Let me see.\n```python\nx\n```\nbetter:\n```python\nprint(2 + 2)\n```\n```output\n7\n```"
    )
    (rollout,) = roll(
        turns(text, r"So it is \boxed{\frac{8}{2}}.¶"), tools=(python,), format="torl"
    )
    assert rollout.segments[0].text.endswith("```output")
    assert rollout.segments[1].text == "\n4\n```\n"
    assert rollout.answer == r"\frac{8}{2}"


def test_after_the_last_call_a_program_is_text() -> None:
    @tool
    def python(code: str) -> str:
        """Run a program.

        Args:
            code: The program.
        """
        return code

    text = "```python\n1\n```\n```output"
    (rollout,) = roll(
        turns(text, text + "\n1\n```\n\\boxed{1}¶"),
        tools=(python,),
        format="torl",
        max_tool_calls=1,
    )
    assert (rollout.stop, rollout.answer, rollout.num_tool_calls) == ("answer", "1", 1)


def test_draws_depend_on_seed_sample_epoch_draw_and_turn_alone() -> None:
    def script(said: str, seed: int) -> str:
        return f"<search>{seed}</search>" if "Doc" not in said else f"<answer>{seed}</answer>"

    group = roll(script, num_generations=4)
    again = roll(script, num_generations=2)
    assert [r.token_ids for r in again] == [r.token_ids for r in group[:2]]
    assert len({r.answer for r in group} | {r.tool_runs[0].arguments for r in group}) == 8
    assert [r.draw_index for r in group] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "search_r1"}, "names none"),
        ({"format": "none", "tools": NAMED}, "calls no tools"),
        ({"format": "torl", "tools": NAMED * 2}, "Python alone"),
    ],
)
def test_settings_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutConfig(**options)
