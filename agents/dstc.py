"""DSTC's preference data: a model's own programs, run against its own tests.

Each side of a pair is a program followed by a test, so that the label is a fact: this program
passes this test, that one does not. No solution, no test of others and no other model is needed.

No code of the paper exists. The prompts, the entry point's way into them, the reading of replies,
the rejected program's rule and all numbers are mmalign's reading; see `DSTCConfig`.

Source: DSTC (Liu et al., 2024).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from mmalign.agents.dialogue import load_prompts, own_prompt, prompt
from mmalign.agents.dstc_config import DSTCConfig
from mmalign.agents.dstc_overlaps import overlap, read_benchmark
from mmalign.agents.dstc_replies import (
    Candidates,
    FunctionNamed,
    UnreadableError,
    name_function,
    read_all,
    read_program,
    read_test,
)
from mmalign.agents.dstc_runs import Execution, run_all, unspoilt
from mmalign.agents.dstc_warnings import warnings_about
from mmalign.agents.state import SampleInput
from mmalign.api import (
    EXECUTION_MATRIX,
    Cell,
    Completion,
    Context,
    DroppedSample,
    ExecutionMatrix,
    Lineage,
    Message,
    MinimaxChoice,
    PreferencePair,
    Response,
    Sample,
    Sampling,
    minimax_pair,
    random_pair,
    text_of,
    user,
)

__all__ = ["DSTCConfig", "DSTCContext", "DSTCState", "build_graph"]


@dataclass(frozen=True)
class DSTCContext(Context):
    """The policy writes programs and tests; the sandbox runs them."""

    config: DSTCConfig = field(default_factory=DSTCConfig)

    @classmethod
    def warnings(cls, records: Sequence[PreferencePair | DroppedSample]) -> Sequence[str]:
        """Signs that the data teaches little."""
        return warnings_about(records)


class DSTCState(SampleInput, total=False):
    """What the nodes write."""

    function: FunctionNamed
    programs: Candidates
    tests: Candidates
    execution: Execution
    matrix: ExecutionMatrix
    """Of the programs and tests that the machine did not spoil."""
    choice: MinimaxChoice
    votes: dict[str, Any]
    """How replies were read and what the runs gave."""
    records: list[PreferencePair | DroppedSample]


async def find_function(state: DSTCState, runtime: Runtime[DSTCContext]) -> dict[str, object]:
    """Fix the function that tests call; see that no benchmark asks the same."""
    sample, config = state["sample"], runtime.context.config
    name, signature = sample.metadata.get("entry_point"), sample.metadata.get("signature")
    if isinstance(name, str) and name.isidentifier():
        function = FunctionNamed(name, signature if isinstance(signature, str) else name)
    elif not config.infer_entry_point:
        message = (
            f"metadata.entry_point is {name!r}, expected the name of a function; give the sample "
            f"one or set infer_entry_point: true"
        )
        return _drop(state, "find_function", "no_entry_point", message)
    else:
        asked = _asked(sample, prompt("dstc_first_program", instruction=sample.question))
        (first,) = await _write(runtime.context, asked, "first_program", n=1, temperature=0.0)
        try:
            function = name_function(first.text)
        except UnreadableError as problem:
            message = f"the greedy program names no function: {problem}: {first.text[:80]!r}"
            return _drop(state, "find_function", "no_entry_point", message)
    if config.exclude is not None:
        benchmark = await asyncio.to_thread(read_benchmark, config.exclude)
        if shared := overlap(sample.question, function.name, benchmark):
            message = f"{config.exclude} has {shared}"
            return _drop(state, "find_function", "overlaps_benchmark", message)
    return {"function": function}


async def write_programs(state: DSTCState, runtime: Runtime[DSTCContext]) -> dict[str, object]:
    """Draw programs; keep those that can be run, each once."""
    context, config = runtime.context, runtime.context.config
    asked = await _prompt_of_programs(state, config)
    completions = await _write(context, asked, "programs", n=config.num_programs)
    read = partial(read_program, entry_point=state["function"].name)
    programs = read_all(completions, read)
    votes = {"programs": {**programs.counts, "unreadable": programs.examples}}
    state = {**state, "programs": programs, "votes": votes}
    if len(programs.texts) < config.min_programs:
        message = _too_few("programs", programs, config.min_programs)
        return _drop(state, "write_programs", "too_few_programs", message)
    return {"programs": programs, "votes": votes}


async def write_tests(state: DSTCState, runtime: Runtime[DSTCContext]) -> dict[str, object]:
    """Draw tests, to which no program is shown; keep those that assert something about a call."""
    context, config = runtime.context, runtime.context.config
    text = await own_prompt(config.test_prompt, "dstc_test", **_named(state))
    asked = _asked(state["sample"], text)
    completions = await _write(context, asked, "tests", n=config.num_tests)
    tests = read_all(completions, partial(read_test, entry_point=state["function"].name))
    votes = {**state["votes"], "tests": {**tests.counts, "unreadable": tests.examples}}
    state = {**state, "tests": tests, "votes": votes}
    if len(tests.texts) < config.min_tests:
        message = _too_few("tests", tests, config.min_tests)
        return _drop(state, "write_tests", "too_few_tests", message)
    return {"tests": tests, "votes": votes}


async def execute(state: DSTCState, runtime: Runtime[DSTCContext]) -> dict[str, object]:
    """Run everything against everything; leave out what the machine spoilt."""
    context, config = runtime.context, runtime.context.config
    codes, tests = state["programs"].texts, state["tests"].texts
    execution = await run_all(
        codes,
        tests,
        state["function"].name,
        sandbox=context.sandbox,
        limits=config.limits,
        max_execution_s=config.max_execution_s,
        max_concurrency=config.max_concurrency,
        check_flaky=config.check_flaky,
    )
    kept_codes, kept_tests = unspoilt(execution.statuses)
    told: dict[str, Any] = {
        "num_runs": execution.num_runs,
        "seconds": round(execution.seconds, 3),
        "num_flaky": execution.count("flaky"),
        "num_infra_errors": execution.count("infra_error"),
        "num_spoilt_programs": len(codes) - len(kept_codes),
        "num_spoilt_tests": len(tests) - len(kept_tests),
    }
    state = {**state, "votes": {**state["votes"], "execution": told}}
    if num_left := execution.count("not_run"):
        message = (
            f"{num_left} of {len(codes)} x {len(tests)} runs were left when the others had taken "
            f"{execution.seconds:.0f} s; raise max_execution_s or lower limits.wall_s"
        )
        return _drop(state, "execute", "execution_budget", message)
    if len(kept_codes) < config.min_programs or len(kept_tests) < config.min_tests:
        message = (
            f"{told['num_infra_errors']} runs were spoilt by the machine; {len(kept_codes)} "
            f"programs and {len(kept_tests)} tests are left. Run `mmalign doctor`"
        )
        return _drop(state, "execute", "infra_error", message, kind="failed")
    matrix = ExecutionMatrix(
        codes=tuple(codes[j] for j in kept_codes),
        tests=tuple(tests[k] for k in kept_tests),
        statuses=tuple(tuple(execution.statuses[j][k] for k in kept_tests) for j in kept_codes),
    )
    told["mean_score"] = round(fmean(matrix.code_scores) / len(kept_tests), 4)
    told |= {"code_scores": matrix.code_scores, "test_scores": matrix.test_scores}
    return {"execution": execution, "matrix": matrix, "votes": state["votes"]}


async def choose(state: DSTCState, runtime: Runtime[DSTCContext]) -> dict[str, object]:
    """Choose a pass and a failure by the votes of the matrix."""
    config, results = runtime.context.config, state["matrix"].results
    if config.selection == "random_pair":
        choice = random_pair(results, rng=runtime.context.rng("random_pair"))
    else:
        choice = minimax_pair(results)
    if choice.status != "ok":
        found = {"no_code_passes": "no program passes a test", "all_pass": "all programs pass all"}
        message = f"{len(results)} programs x {len(results[0])} tests: {found[choice.status]}"
        return _drop(state, "choose", choice.status, message)
    if choice.same_code and (config.code_only or config.drop_same_code):
        message = "the program that most tests agree on is also the one that is rejected"
        return _drop(state, "choose", "same_code", message)
    return {"choice": choice}


async def write_pair(state: DSTCState, runtime: Runtime[DSTCContext]) -> dict[str, object]:
    """Both sides behind one prompt, with the whole matrix."""
    context, config, choice = runtime.context, runtime.context.config, state["choice"]
    assert choice.chosen is not None  # `choose` has dropped the others
    assert choice.rejected is not None
    cells = {"chosen": tuple(choice.chosen), "rejected": tuple(choice.rejected)}
    matrix = state["matrix"].model_copy(update=cells)
    chosen = _response(matrix, choice.chosen, code_only=config.code_only)
    rejected = _response(matrix, choice.rejected, code_only=config.code_only)
    if chosen.text == rejected.text:
        return _drop(state, "write_pair", "identical", "both sides have the same text")
    if config.code_only:
        asked = await _prompt_of_programs(state, config)
    else:
        text = await own_prompt(config.pair_prompt, "dstc_program_and_test", **_named(state))
        asked = _asked(state["sample"], text)
    pair = PreferencePair(
        sample_id=state["sample"].id,
        prompt=asked,
        chosen=chosen,
        rejected=rejected,
        metadata={
            "entry_point": state["function"].name,
            EXECUTION_MATRIX: matrix.model_dump(mode="json"),
            "code_scores": choice.code_scores,
            "test_scores": choice.test_scores,
            "same_code": choice.same_code,
            "same_test": choice.same_test,
            "ties": choice.ties and choice.ties._asdict(),
        },
        lineage=_lineage(state, context),
    )
    return {"records": [pair]}


async def go_on(state: DSTCState) -> Literal["go_on", "drop"]:
    """What was dropped ends here."""
    return "drop" if "records" in state else "go_on"


def build_graph() -> CompiledStateGraph[DSTCState, DSTCContext, SampleInput, DSTCState]:
    """Read `sample`; write one pair, or the reason why there is none, to `records`.

    There is no loop. Routes are coroutines because LangGraph gives plain functions a thread.
    """
    load_prompts("dstc_first_program", "dstc_program", "dstc_test", "dstc_program_and_test")
    graph = StateGraph(DSTCState, DSTCContext, input_schema=SampleInput)
    graph.add_node("find_function", find_function)
    graph.add_node("write_programs", write_programs)
    graph.add_node("write_tests", write_tests)
    graph.add_node("execute", execute)
    graph.add_node("choose", choose)
    graph.add_node("write_pair", write_pair)
    graph.add_edge(START, "find_function")
    graph.add_conditional_edges("find_function", go_on, {"go_on": "write_programs", "drop": END})
    graph.add_conditional_edges("write_programs", go_on, {"go_on": "write_tests", "drop": END})
    graph.add_conditional_edges("write_tests", go_on, {"go_on": "execute", "drop": END})
    graph.add_conditional_edges("execute", go_on, {"go_on": "choose", "drop": END})
    graph.add_conditional_edges("choose", go_on, {"go_on": "write_pair", "drop": END})
    graph.add_edge("write_pair", END)
    return graph.compile()


def _asked(sample: Sample, text: str) -> tuple[Message, ...]:
    """The sample's messages with another text in place of its last turn."""
    return (*sample.messages[:-1], user(text))


def _named(state: DSTCState) -> Mapping[str, str]:
    return {
        "instruction": state["sample"].question.strip(),
        "entry_point": state["function"].name,
        "signature": state["function"].signature,
    }


async def _prompt_of_programs(state: DSTCState, config: DSTCConfig) -> tuple[Message, ...]:
    text = await own_prompt(config.program_prompt, "dstc_program", **_named(state))
    return _asked(state["sample"], text)


async def _write(
    context: DSTCContext,
    asked: Sequence[Message],
    draw: str,
    *,
    n: int,
    temperature: float | None = None,
) -> tuple[Completion, ...]:
    config = context.config
    sampling = Sampling(
        temperature=config.temperature if temperature is None else temperature,
        top_p=config.top_p,
        max_completion_length=config.max_completion_length,
    )
    seed = context.draw_seed(draw)
    return await context.policy.generate(asked, n=n, sampling=sampling, seed=seed)


def _too_few(what: str, found: Candidates, fewest: int) -> str:
    lost = ", ".join(f"{n} {reason}" for reason, n in found.counts.items() if "num" not in reason)
    return f"{len(found.texts)} of {found.counts['num_drawn']} {what} stay, below {fewest}: {lost}"


def _response(matrix: ExecutionMatrix, cell: Cell, *, code_only: bool) -> Response:
    """One fenced block, as the prompt asks for; its score is the share of tests that it passes."""
    code, test = matrix.codes[cell.code], matrix.tests[cell.test]
    text = code if code_only else f"{code}\n\n{test}"
    score = matrix.code_scores[cell.code] / len(matrix.tests)
    return Response(messages=(text_of(f"```python\n{text}\n```"),), score=score)


def _lineage(state: DSTCState, context: DSTCContext) -> Lineage:
    sample, config = state["sample"], context.config
    choice = state["choice"]
    sides = "same code" if choice.same_code else "same test" if choice.same_test else "both differ"
    return Lineage(
        graph="mmalign.agents.dstc:build_graph",
        node="write_pair",
        policy=context.policy.name,
        sampling={
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_completion_length": config.max_completion_length,
            "num_programs": config.num_programs,
            "num_tests": config.num_tests,
        },
        source=sample.metadata.get("dataset"),
        tags={
            "question_type": str(sample.metadata.get("question_type") or ""),
            "selection": config.selection,
            "sides": sides,
        },
        votes=state["votes"],
    )


def _drop(
    state: DSTCState,
    node: str,
    reason: str,
    message: str,
    *,
    kind: Literal["dropped", "failed"] = "dropped",
) -> dict[str, object]:
    dropped = DroppedSample(
        sample_id=state["sample"].id,
        reason=reason,
        node=node,
        message=message,
        kind=kind,
        lineage=Lineage(graph="mmalign.agents.dstc:build_graph", votes=state.get("votes", {})),
    )
    return {"records": [dropped]}
