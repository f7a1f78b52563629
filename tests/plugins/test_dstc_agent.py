"""The DSTC agent on the real sandbox: every choice, every reason to drop, every node's record."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langgraph.runtime import Runtime

from mmalign.agents import dstc
from mmalign.agents.dstc import DSTCConfig, DSTCContext, DSTCState, build_graph
from mmalign.agents.dstc_replies import FunctionNamed
from mmalign.api import (
    EXECUTION_MATRIX,
    Cell,
    Completion,
    ConfigError,
    DroppedSample,
    ExecutionMatrix,
    Message,
    MinimaxChoice,
    PreferencePair,
    RunResult,
    Sample,
    Sampling,
    Sandbox,
    SandboxConfig,
    text_of,
    user,
)
from mmalign.engine.agent import walk
from mmalign.testing.models import ScriptedModel

pytestmark = pytest.mark.sandbox

TASK = "Return the sum of two numbers."
RIGHT = "def add(a, b):\n    return a + b"
MINUS = "def add(a, b):\n    return a - b"
FIRST = "def add(a, b):\n    return a"
TEST_ZERO = "assert add(0, 0) == 0"
TEST_SUM = "assert add(2, 3) == 5"
TEST_LEFT = "assert add(4, 0) == 4"
WRONG_TEST = "assert add(2, 2) == 5"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(num_workers=2)) as opened:
        yield opened


def block(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```"


@dataclass
class Author(ScriptedModel):
    """Writes its programs and tests, one for each draw, and keeps what it was asked."""

    programs: Sequence[str] = ()
    tests: Sequence[str] = ()
    first: str = ""
    sent: list[tuple[Message, ...]] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        sampling: Sampling = Sampling(),
        tools: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> tuple[Completion, ...]:
        self.sent.append(tuple(messages))
        self.samplings.append(sampling)
        asked = messages[-1].text
        replies = self.tests if "Write a test of" in asked else self.programs
        if "Give it a telling name" in asked:
            replies = (self.first,)
        assert len(replies) == n
        return tuple(Completion(text=reply) for reply in replies)


def writes(
    programs: Sequence[str], tests: Sequence[str], *, first: str = "", fenced: bool = True
) -> Author:
    if fenced:
        programs, tests = [*map(block, programs)], [*map(block, tests)]
    return Author(programs=tuple(programs), tests=tuple(tests), first=first, name="policy@1")


def sample(entry_point: str | None = "add", text: str = TASK) -> Sample:
    metadata = {} if entry_point is None else {"entry_point": entry_point, "dataset": "sums"}
    return Sample(id="s1", messages=(user(text),), metadata=metadata)


def context(policy: Author, sandbox: Sandbox, *, seed: int = 7, **config: Any) -> DSTCContext:
    numbers = {"num_programs": len(policy.programs), "num_tests": len(policy.tests)}
    settings = DSTCConfig(**{"check_flaky": False, **numbers, **config})
    return DSTCContext(
        policy=policy, config=settings, sample_id="s1", seed=seed, code_sandbox=sandbox
    )


def build(asked: Sample, world: DSTCContext) -> PreferencePair | DroppedSample:
    (record,) = asyncio.run(walk(build_graph(), asked, world))
    return record


def pair_of(asked: Sample, world: DSTCContext) -> PreferencePair:
    record = build(asked, world)
    assert isinstance(record, PreferencePair), record
    return record


def dropped_of(asked: Sample, world: DSTCContext) -> DroppedSample:
    record = build(asked, world)
    assert isinstance(record, DroppedSample), record
    return record


def matrix_of(pair: PreferencePair) -> ExecutionMatrix:
    return ExecutionMatrix.model_validate(pair.metadata[EXECUTION_MATRIX])


# The pair ------------------------------------------------------------------------------------


def test_worked_by_hand(sandbox: Sandbox) -> None:
    """Programs x, 0 and {0: 0, 2: 5} against f(0) = 0, f(1) = 1, f(2) = 5 give the rows 110, 100
    and 101: program 0 with test 1, which it alone passes, against program 1 with test 1."""
    programs = [
        "def f(x):\n    return x",
        "def f(x):\n    return 0",
        "def f(x):\n    return {0: 0, 2: 5}.get(x, 9)",
    ]
    tests = ["assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 5"]
    pair = pair_of(sample("f", "Double it."), context(writes(programs, tests), sandbox))
    matrix = matrix_of(pair)
    assert matrix.results == [[1, 1, 0], [1, 0, 0], [1, 0, 1]]
    assert (matrix.chosen, matrix.rejected) == ((0, 1), (1, 1))
    assert (matrix.codes, matrix.tests) == (tuple(programs), tuple(tests))
    assert pair.chosen.text == f"```python\n{programs[0]}\n\n{tests[1]}\n```"
    assert pair.rejected.text == f"```python\n{programs[1]}\n\n{tests[1]}\n```"
    assert (pair.chosen.score, pair.rejected.score) == (2 / 3, 1 / 3)
    told = {name: v for name, v in pair.metadata.items() if name != EXECUTION_MATRIX}
    assert told == {
        "entry_point": "f",
        "code_scores": [2, 1, 2],
        "test_scores": [3, 1, 1],
        "same_code": False,
        "same_test": True,
        "ties": {"chosen_code": 2, "chosen_test": 1, "rejected_test": 2, "rejected_code": 1},
    }
    assert pair.lineage.tags == {
        "question_type": "",
        "selection": "minimax",
        "sides": "same test",
    }


def test_programs_and_tests_are_one_request_each_and_tests_see_no_program(sandbox: Sandbox) -> None:
    policy = writes([RIGHT, MINUS], [TEST_ZERO, TEST_SUM])
    pair = pair_of(sample(), context(policy, sandbox))
    programs, tests = (sent[-1].text for sent in policy.sent)
    assert TASK in programs
    assert "`add`" in programs
    assert TASK in tests
    assert "return a" not in tests
    assert [(s.temperature, s.top_p) for s in policy.samplings] == [(0.8, 0.95)] * 2
    assert TASK in pair.prompt[-1].text
    assert "then assert statements" in pair.prompt[-1].text


def test_turns_before_the_instruction_stay(sandbox: Sandbox) -> None:
    system = text_of("You write Python.", role="system")
    asked = Sample(id="s1", messages=(system, user(TASK)), metadata={"entry_point": "add"})
    policy = writes([RIGHT, MINUS], [TEST_ZERO, TEST_SUM])
    pair = pair_of(asked, context(policy, sandbox))
    assert pair.prompt[0] == system
    assert all(sent[0] == system for sent in policy.sent)


def test_a_wrong_test_spoils_neither_side(sandbox: Sandbox) -> None:
    """Three right programs outvote a wrong one and a wrong test."""
    other = ["def add(a, b):\n    return b + a", "def add(a, b):\n    return sum((a, b))"]
    policy = writes([MINUS, RIGHT, *other], [WRONG_TEST, TEST_ZERO, TEST_SUM, TEST_LEFT])
    matrix = matrix_of(pair_of(sample(), context(policy, sandbox)))
    assert matrix.chosen == (1, 2)
    assert matrix.rejected == (0, 2)


EXITS = {
    "sys.exit": "import sys\ndef add(a, b):\n    sys.exit(0)",
    "os._exit": "import os\ndef add(a, b):\n    os._exit(0)",
    "at import": "def add(a, b):\n    return 0\nimport os\nos._exit(0)",
    "equal to all": "class A(int):\n    __eq__ = lambda s, o: True\ndef add(a, b):\n    return A()",
}


@pytest.mark.parametrize("trick", EXITS)
def test_a_program_that_leaves_early_or_equals_everything_does_not_win(
    trick: str, sandbox: Sandbox
) -> None:
    policy = writes([EXITS[trick], RIGHT], [TEST_SUM, TEST_LEFT])
    matrix = matrix_of(pair_of(sample(), context(policy, sandbox)))
    assert matrix.code_scores == [0, 2]
    assert matrix.chosen is not None
    assert matrix.chosen[0] == 1


def test_a_program_that_hangs_fails_and_the_rest_goes_on(sandbox: Sandbox) -> None:
    hangs = "def add(a, b):\n    while True:\n        pass"
    limits = {"wall_s": 1.0, "cpu_s": 1.0}
    policy = writes([hangs, RIGHT], [TEST_ZERO, TEST_SUM])
    matrix = matrix_of(pair_of(sample(), context(policy, sandbox, limits=limits)))
    assert matrix.statuses == (("timeout", "timeout"), ("pass", "pass"))


# Ablations and options -----------------------------------------------------------------------


def test_code_only_leaves_the_tests_out_and_asks_for_a_program(sandbox: Sandbox) -> None:
    policy = writes([RIGHT, MINUS], [TEST_ZERO, TEST_SUM])
    pair = pair_of(sample(), context(policy, sandbox, code_only=True))
    assert (pair.chosen.text, pair.rejected.text) == (
        f"```python\n{RIGHT}\n```",
        f"```python\n{MINUS}\n```",
    )
    assert pair.prompt == policy.sent[0]


SAME_CODE = (
    [
        "def f(x):\n    return x",
        "def f(x):\n    return 5",
        "def f(x):\n    return 3 + 2",
    ],
    ["assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 5"],
)
"""The matrix 110, 001, 001: the best program alone fails the easiest test that is not passed by
all."""


def test_one_program_may_stand_on_both_sides_with_different_tests(sandbox: Sandbox) -> None:
    pair = pair_of(sample("f"), context(writes(*SAME_CODE), sandbox))
    assert pair.metadata["same_code"]
    assert pair.lineage.tags["sides"] == "same code"
    assert pair.chosen.text.split("\n\n")[0] == pair.rejected.text.split("\n\n")[0]


@pytest.mark.parametrize("option", ["code_only", "drop_same_code"])
def test_pairs_of_one_program_can_be_dropped(option: str, sandbox: Sandbox) -> None:
    record = dropped_of(sample("f"), context(writes(*SAME_CODE), sandbox, **{option: True}))
    assert (record.reason, record.node) == ("same_code", "choose")


def test_random_pairs_are_a_pass_and_a_failure_fixed_by_the_seed(sandbox: Sandbox) -> None:
    def cells(seed: int) -> tuple[Any, Any]:
        policy = writes([RIGHT, MINUS, FIRST], [TEST_ZERO, TEST_SUM, TEST_LEFT, WRONG_TEST])
        world = context(policy, sandbox, seed=seed, selection="random_pair")
        pair = pair_of(sample(), world)
        matrix = matrix_of(pair)
        assert matrix.chosen is not None
        assert matrix.rejected is not None
        assert matrix.results[matrix.chosen[0]][matrix.chosen[1]] == 1
        assert matrix.results[matrix.rejected[0]][matrix.rejected[1]] == 0
        assert pair.metadata["ties"] is None
        return matrix.chosen, matrix.rejected

    drawn = [cells(seed) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_the_function_can_be_taken_from_a_greedy_program(sandbox: Sandbox) -> None:
    policy = writes([RIGHT, MINUS], [TEST_ZERO, TEST_SUM], first=block(RIGHT))
    pair = pair_of(sample(None), context(policy, sandbox, infer_entry_point=True))
    assert pair.metadata["entry_point"] == "add"
    assert policy.samplings[0].temperature == 0.0
    assert "`add(a, b)`" in policy.sent[2][-1].text


def test_prompts_can_be_ones_own(sandbox: Sandbox, tmp_path: Path) -> None:
    for name in ("program", "test", "pair"):
        (tmp_path / name).write_text(f"{name}: Write a test of $$ $entry_point: $instruction\n")
    prompts: dict[str, Any] = {f"{name}_prompt": tmp_path / name for name in ("test", "pair")}
    policy = writes([RIGHT, MINUS], [TEST_ZERO, TEST_SUM])
    pair = pair_of(sample(), context(policy, sandbox, **prompts))
    assert policy.sent[1][-1].text == f"test: Write a test of $ add: {TASK}"
    assert pair.prompt[-1].text == f"pair: Write a test of $ add: {TASK}"


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("$nothing", r"'nothing'; it may hold \$instr")]
)
def test_a_prompt_that_does_not_fit_ends_the_run(
    text: str | None, message: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "p.md").write_text(text)
    world = context(
        writes([RIGHT, MINUS], []), sandbox, program_prompt=tmp_path / "p.md", num_tests=2
    )
    with pytest.raises(ConfigError, match=message):
        build(sample(), world)


def test_more_candidates_than_are_drawn_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="min_programs 11"):
        DSTCConfig(min_programs=11)


# Drops ---------------------------------------------------------------------------------------

GOOD = ([RIGHT, MINUS], [TEST_ZERO, TEST_SUM])
DROPS: dict[str, tuple[str | None, tuple[list[str], list[str]], dict[str, Any], str]] = {
    "no_entry_point": (None, GOOD, {}, "find_function"),
    "too_few_programs": (
        "add",
        ([RIGHT, f"{RIGHT}  # again"], [TEST_ZERO] * 2),
        {},
        "write_programs",
    ),
    "too_few_tests": ("add", ([RIGHT, MINUS], [TEST_ZERO, "add(1, 2)"]), {}, "write_tests"),
    "execution_budget": (
        "add",
        GOOD,
        {"max_execution_s": 1e-9, "max_concurrency": 1},
        "execute",
    ),
    "no_code_passes": (
        "add",
        ([RIGHT, FIRST], [WRONG_TEST, "assert add(1, 0) == 7"]),
        {},
        "choose",
    ),
    "all_pass": ("add", ([RIGHT, FIRST], [TEST_ZERO, TEST_LEFT]), {}, "choose"),
}


@pytest.mark.parametrize("reason", DROPS)
def test_every_reason_to_drop(reason: str, sandbox: Sandbox) -> None:
    entry_point, written, config, node = DROPS[reason]
    record = dropped_of(sample(entry_point), context(writes(*written), sandbox, **config))
    assert (record.reason, record.node, record.kind) == (reason, node, "dropped")
    assert record.message


def test_a_sample_that_is_dropped_after_its_runs_keeps_the_scores(sandbox: Sandbox) -> None:
    policy = writes([RIGHT, FIRST], [TEST_ZERO, TEST_LEFT])
    execution = dropped_of(sample(), context(policy, sandbox)).lineage.votes["execution"]
    assert (execution["code_scores"], execution["test_scores"]) == ([2, 2], [2, 2])
    assert (execution["mean_score"], execution["num_runs"]) == (1.0, 4)


def test_a_dropped_sample_tells_how_its_replies_were_read(sandbox: Sandbox) -> None:
    replies = ["No.", block(RIGHT), "```python\ndef add(a, b):", block("def sub(a): pass")]
    policy = writes(replies, [TEST_ZERO] * 2, fenced=False)
    record = dropped_of(sample(), context(policy, sandbox))
    assert record.message == (
        "1 of 4 programs stay, below 2: 1 no_block, 1 truncated, 1 no_entry_point"
    )
    votes = record.lineage.votes["programs"]
    assert (votes["num_drawn"], votes["num_kept"]) == (4, 1)
    assert votes["unreadable"][0] == {"reason": "no_block", "text": "No."}


def test_a_greedy_program_without_a_function_names_none(sandbox: Sandbox) -> None:
    policy = writes(*GOOD, first="I cannot.")
    record = dropped_of(sample(None), context(policy, sandbox, infer_entry_point=True))
    assert record.reason == "no_entry_point"
    assert "no_block" in record.message


def test_an_instruction_of_a_benchmark_is_dropped(sandbox: Sandbox, tmp_path: Path) -> None:
    asked = "Write what tells whether any two numbers of a list are closer than that."
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"prompt": asked, "entry_point": "close"}) + "\n")
    policy = writes(*GOOD)
    record = dropped_of(sample("near", asked), context(policy, sandbox, exclude=problems))
    assert record.reason == "overlaps_benchmark"
    assert "ten words in a row" in record.message
    assert policy.sent == []
    pair_of(sample(), context(policy, sandbox, exclude=problems))


def test_identical_sides_are_dropped(sandbox: Sandbox) -> None:
    """A program that ends with the first assert of another cell's test gives the same text."""
    codes = ("def f(x):\n    return x", "def f(x):\n    return x\n\nassert f(0) == 0")
    tests = ("assert f(0) == 0\n\nassert f(1) == 1", "assert f(1) == 1")
    statuses = (("pass", "pass"), ("pass", "fail"))
    choice = MinimaxChoice([2, 1], [2, 1], "ok", Cell(0, 0), Cell(1, 1))
    state: DSTCState = {
        "sample": sample("f"),
        "function": FunctionNamed("f", "f(x)"),
        "matrix": ExecutionMatrix(codes=codes, tests=tests, statuses=statuses),
        "choice": choice,
        "votes": {},
    }
    runtime = Runtime(context=context(writes(*GOOD), sandbox))
    written: Any = asyncio.run(dstc.write_pair(state, runtime))
    (record,) = written["records"]
    assert (record.reason, record.node) == ("identical", "write_pair")


@dataclass
class Unlucky:
    """The real sandbox on a machine that fails whenever it meets some text."""

    sandbox: Sandbox
    spoils: str

    def check(self, candidate: str, tests: str, *args: Any, **kwargs: Any) -> RunResult:
        if self.spoils in candidate + tests:
            return RunResult(status="infra_error", message="the machine fails")
        return self.sandbox.check(candidate, tests, *args, **kwargs)


def test_a_program_that_the_machine_spoils_leaves_and_the_rest_becomes_a_pair(
    sandbox: Sandbox,
) -> None:
    policy = writes([f"{MINUS}  # unlucky", RIGHT, FIRST], [TEST_ZERO, TEST_SUM])
    unlucky: Any = Unlucky(sandbox, "# unlucky")
    pair = pair_of(sample(), context(policy, unlucky))
    assert matrix_of(pair).codes == (RIGHT, FIRST)
    execution = pair.lineage.votes["execution"]
    assert (execution["num_infra_errors"], execution["num_spoilt_programs"]) == (2, 1)


def test_a_machine_that_spoils_all_makes_a_failed_sample(sandbox: Sandbox) -> None:
    unlucky: Any = Unlucky(sandbox, "def")
    record = dropped_of(sample(), context(writes(*GOOD), unlucky))
    assert (record.reason, record.node, record.kind) == ("infra_error", "execute", "failed")
    assert "mmalign doctor" in record.message
