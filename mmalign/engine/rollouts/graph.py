"""One rollout as a graph: act, call tools, observe, until it stops."""

import logging
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal, NamedTuple, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from mmalign.engine.context import draw_seed
from mmalign.engine.rollouts.config import RolloutConfig
from mmalign.engine.rollouts.formats import Action, Format
from mmalign.engine.rollouts.tools import Call, RolloutTool, expanded, run_call
from mmalign.errors import MediaError, ModelCallError
from mmalign.models.protocol import SampledTokens, SamplesTokens, Sampling
from mmalign.records import Message, Segment, Stop, ToolRun

__all__ = ["RolloutContext", "RolloutState", "act", "build_graph", "call_tools", "observe"]

_log = logging.getLogger(__name__)

Room = Literal["open", "max_turns", "max_tool_calls"]


@dataclass(frozen=True)
class RolloutContext:
    """What one rollout's nodes may see of the world."""

    policy: SamplesTokens
    messages: Sequence[Message]
    """The prompt."""
    schemas: Sequence[str]
    """Of the tools, for the chat template."""
    tools: Mapping[str, RolloutTool]
    format: Format
    config: RolloutConfig
    sample_id: str
    seed: int
    epoch: int
    draw_index: int
    started_s: float = field(default_factory=time.monotonic)

    @property
    def is_late(self) -> bool:
        """Whether the budget of seconds is used up."""
        limit = self.config.max_seconds
        return limit is not None and time.monotonic() - self.started_s >= limit

    def turn_seed(self, turn: int) -> int:
        """A pure function of run seed, sample, epoch, draw and turn."""
        draw = f"rollout/{self.draw_index}/{turn}"
        return draw_seed(self.seed, self.sample_id, self.epoch, draw)


class Output(NamedTuple):
    """What is shown of a call."""

    text: str
    token_ids: tuple[int, ...]


class RolloutState(TypedDict, total=False):
    """What the nodes write."""

    segments: Annotated[list[Segment], operator.add]
    runs: Annotated[list[ToolRun], operator.add]
    num_turns: int
    calls: tuple[Call, ...]
    """Of the turn, one query each; none where it has to be hinted at."""
    outputs: list[Output]
    """Of the turn's calls."""
    answer: str | None
    stop: Stop
    error: str
    """What failed of the machine."""


async def act(state: RolloutState, runtime: Runtime[RolloutContext]) -> dict[str, object]:
    """Let the policy write a turn, and read what it asks for."""
    context, config = runtime.context, runtime.context.config
    if context.is_late:
        return {"stop": "time"}
    turn = state.get("num_turns", 0)
    segments = state.get("segments", [])
    room = _room(config, turn, state.get("runs", []))
    num_left = config.max_completion_length - _num_tokens(segments)
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_completion_length=min(num_left, config.max_turn_length),
        stop=context.format.stop if room == "open" else context.format.last_stop,
    )
    try:
        sampled = await context.policy.sample_tokens(
            context.messages,
            [token for segment in segments for token in segment.token_ids],
            tools=context.schemas,
            sampling=sampling,
            seed=context.turn_seed(turn),
        )
    except (ModelCallError, MediaError) as error:
        return _failed(context, f"the policy was not asked: {error}")
    written = Segment(
        kind="policy", token_ids=sampled.token_ids, logps=sampled.logps, text=sampled.text
    )
    action = context.format.read(sampled.text, sampled.finish_reason == "stop")
    is_full = len(sampled.token_ids) == num_left
    return {"segments": [written], "num_turns": turn + 1} | _outcome(
        action, sampled, room, is_full=is_full, has_hint=bool(context.format.hint)
    )


async def call_tools(state: RolloutState, runtime: Runtime[RolloutContext]) -> dict[str, object]:
    """Run what was called, as far as the budget goes; cut what is shown of it."""
    context, config = runtime.context, runtime.context.config
    num_run = sum(run.is_executed for run in state.get("runs", []))
    num_left = config.max_observation_length
    runs: list[ToolRun] = []
    outputs: list[Output] = []
    for call in state["calls"]:
        if config.max_tool_calls is not None and num_run >= config.max_tool_calls:
            run = _refused(call, f"refused: all {config.max_tool_calls} calls are made")
        else:
            try:
                run = await run_call(context.tools, call)
            except Exception as error:  # noqa: BLE001  # a tool may be anybody's; it is counted
                failure = f"tool {call.tool!r}: {type(error).__name__}: {error}"
                return {"runs": runs} | _failed(context, failure)
        num_run += run.is_executed
        outputs.append(await _cut(context.policy, run.output, num_left))
        num_left -= len(outputs[-1].token_ids)
        runs.append(run.model_copy(update={"output": outputs[-1].text}))
    return {"runs": runs, "outputs": outputs}


async def observe(state: RolloutState, runtime: Runtime[RolloutContext]) -> dict[str, object]:
    """Splice what the tools said, or the hint, in behind the turn."""
    context, config = runtime.context, runtime.context.config
    if state["calls"]:
        shown = await _observation(context, state["outputs"])
    else:
        ids = await context.policy.tokenize(context.format.hint, is_trusted=True)
        shown = Segment(kind="hint", token_ids=ids, text=context.format.hint)
    num_tokens = _num_tokens(state["segments"]) + len(shown.token_ids)
    if num_tokens >= config.max_completion_length:  # the policy could not answer to it
        return {"stop": "length"}
    return {"segments": [shown]}


def after_act(state: RolloutState) -> Literal["call_tools", "observe", "stop"]:
    """Tools where there are calls, a hint where there are none."""
    if "stop" in state:
        return "stop"
    return "call_tools" if state["calls"] else "observe"


def unless_stopped(state: RolloutState) -> Literal["go_on", "stop"]:
    """A failure or a full context ends the rollout."""
    return "stop" if "stop" in state else "go_on"


@cache
def build_graph() -> CompiledStateGraph[RolloutState, RolloutContext, RolloutState, RolloutState]:
    """Write `segments` and `runs` turn by turn, until there is a `stop`."""
    graph = StateGraph(RolloutState, RolloutContext)
    graph.add_node("act", act)
    graph.add_node("call_tools", call_tools)
    graph.add_node("observe", observe)
    graph.add_edge(START, "act")
    graph.add_conditional_edges(
        "act", after_act, {"call_tools": "call_tools", "observe": "observe", "stop": END}
    )
    graph.add_conditional_edges("call_tools", unless_stopped, {"go_on": "observe", "stop": END})
    graph.add_conditional_edges("observe", unless_stopped, {"go_on": "act", "stop": END})
    return graph.compile()


def _room(config: RolloutConfig, turn: int, runs: Sequence[ToolRun]) -> Room:
    """Which budget, if any, a call of this turn would break."""
    num_run = sum(run.is_executed for run in runs)
    if config.max_tool_calls is not None and num_run >= config.max_tool_calls:
        return "max_tool_calls"
    return "open" if turn + 1 < config.max_turns else "max_turns"


def _outcome(
    action: Action, sampled: SampledTokens, room: Room, *, is_full: bool, has_hint: bool
) -> dict[str, object]:
    """Where the rollout goes from a turn."""
    if action.answer is not None:
        return {"stop": "answer", "answer": action.answer}
    calls = tuple(one for call in action.calls for one in expanded(call))
    if calls and room != "open":
        return {"stop": room, "runs": [_refused(call, f"refused: {room}") for call in calls]}
    if is_full:
        return {"stop": "length"}
    if calls or (has_hint and room == "open"):
        return {"calls": calls}
    if has_hint:
        return {"stop": room}
    return {"stop": "end" if sampled.finish_reason == "stop" else "length"}


async def _cut(policy: SamplesTokens, output: str, num_tokens: int) -> Output:
    """What a tool said is text, whatever it looks like."""
    ids = await policy.tokenize(output)
    if len(ids) <= num_tokens:
        return Output(output, ids)
    return Output(await policy.decode(ids[:num_tokens]), ids[:num_tokens])


async def _observation(context: RolloutContext, outputs: Sequence[Output]) -> Segment:
    """What is around the outputs is never cut."""
    form, policy = context.format, context.policy
    ids: list[int] = []
    for place, output in enumerate(outputs):
        ids += await policy.tokenize(form.between if place else form.opener, is_trusted=True)
        ids += output.token_ids
    ids += await policy.tokenize(form.closer, is_trusted=True)
    text = form.opener + form.between.join(output.text for output in outputs) + form.closer
    return Segment(kind="observation", token_ids=tuple(ids), text=text)


def _refused(call: Call, why: str) -> ToolRun:
    return ToolRun(tool=call.tool, arguments=call.arguments, outcome="refused", output=why)


def _failed(context: RolloutContext, what: str) -> dict[str, object]:
    _log.warning("rollout %d of %r failed: %s", context.draw_index, context.sample_id, what)
    return {"stop": "error", "error": what}


def _num_tokens(segments: Sequence[Segment]) -> int:
    return sum(len(segment.token_ids) for segment in segments)
