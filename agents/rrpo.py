"""RRPO's preference data: answers that a model gets wrong on a spoilt clip, laid on the gold one.

The pair keeps the original clip; what was done to it stands in `lineage.operations` only.
Chosen here, since the paper does not state it: how answers are sampled, where the rectangle lies
and how many windows there are, the prompts, and the rules that name an error's category.

Source: RRPO (Sarkar & Etemad, 2025), data construction.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from mmalign.agents.answers import (
    AnswerForm,
    answer_form,
    coverage,
    error_category,
    gold_answer,
    in_gold_form,
    is_right,
    like_gold,
    same_skeleton,
)
from mmalign.agents.clips import altered
from mmalign.agents.dialogue import load_prompts, prompt
from mmalign.agents.rrpo_config import RRPOConfig
from mmalign.agents.rrpo_replies import (
    NO_DIFFERENCES,
    Rewritten,
    Verdict,
    read_differences,
    read_rewritten,
    read_tagged,
    read_verdict,
)
from mmalign.agents.state import SampleInput
from mmalign.api import (
    Context,
    DroppedSample,
    Lineage,
    MediaOperation,
    PreferencePair,
    Response,
    Sampling,
    Span,
    ask_until_valid,
    differing_spans,
    operation,
    text_of,
    user,
)

__all__ = ["RRPOConfig", "RRPOContext", "RRPOState", "build_graph"]


@dataclass(frozen=True)
class RRPOContext(Context):
    """Roles besides the policy: `judge` and `rewriter`, for long answers only."""

    config: RRPOConfig = field(default_factory=RRPOConfig)


class RRPOState(SampleInput, total=False):
    """What the nodes write."""

    form: AnswerForm
    attempt: int
    operations: tuple[MediaOperation, ...]
    sampling: dict[str, Any]
    response: str
    """The policy's own words."""
    verdict: Literal["right", "wrong", "empty"]
    route: Literal["template", "direct", "rewrite"]
    differences: str
    rejected: str
    """The wrong answer in the gold answer's wording."""
    chosen_spans: tuple[Span, ...]
    rejected_spans: tuple[Span, ...]
    votes: dict[str, Any]
    records: list[PreferencePair | DroppedSample]


async def perturb(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """Draw what is done to the clip in this attempt."""
    sample, context = state["sample"], runtime.context
    gold = gold_answer(sample)
    if gold is None:
        return _drop(state, "perturb", "no_answer", "the question has no gold answer; give it one")
    perturbation = context.config.perturbation
    names = [] if perturbation == "none" else perturbation.split("+")
    if names and not any(media.kind == "video" for media in sample.media):
        message = "the prompt has no video to perturb; give it one or set perturbation: none"
        return _drop(state, "perturb", "no_media", message)
    attempt = state.get("attempt", 0) + 1
    params: dict[str, dict[str, Any]] = {
        "mask": {"area": context.config.mask_area},
        "local_shuffle": {"num_windows": context.config.num_windows},
    }
    return {
        "attempt": attempt,
        "form": answer_form(sample, gold, short_answer_words=context.config.short_answer_words),
        "operations": tuple(
            operation(name, context.draw_seed(f"perturb/{name}/{attempt}"), **params.get(name, {}))
            for name in names
        ),
    }


async def ask(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """Ask the policy about the perturbed clip."""
    context, config = runtime.context, runtime.context.config
    is_long = state["form"] == "long"
    sampling = Sampling(
        temperature=config.temperature if is_long else 0.0,
        top_p=config.top_p if is_long else 1.0,
        max_completion_length=config.max_completion_length,
    )
    seed = context.draw_seed(f"ask/{state['attempt']}")
    (completion,) = await context.policy.generate(
        altered(state["sample"], *state["operations"]), sampling=sampling, seed=seed
    )
    drawn = {**sampling.model_dump(mode="json"), "seed": seed, "attempt": state["attempt"]}
    return {"response": completion.text.strip(), "sampling": drawn}


async def check(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """Tell a wrong answer, which makes a pair, from a right or empty one."""
    sample, gold, response = state["sample"], _gold(state), state["response"]
    config = runtime.context.config
    if not response or is_right(sample, gold, response, state["form"]):
        return _asked_enough(state, config, "right" if response else "empty", {})
    if state["form"] != "long" or config.route == "template":
        route = "template" if state["form"] != "long" else "direct"
        return {"verdict": "wrong", "route": route, "votes": {}}
    judge = runtime.context.model("judge")
    text = prompt("rrpo_judge", question=sample.question, gold=gold, response=response)
    reply = await ask_until_valid(
        judge,
        [user(text)],
        read_verdict,
        draw_seed=runtime.context.draw_seed,
        draw=f"judge/{state['attempt']}",
        num_attempts=config.num_judge_attempts,
        sampling=Sampling(max_completion_length=config.max_rewrite_length),
        response_schema=Verdict.model_json_schema(),
    )
    if reply.value is None:
        message = f"{len(reply.problems)} replies of the judge were invalid: {reply.problems[-1]}"
        return _drop(state, "check", "judge_invalid", message)
    votes = {
        "judge": {
            "model": judge.name,
            **reply.value.model_dump(),
            "num_invalid": len(reply.problems),
        }
    }
    if reply.value.verdict == "correct":
        return _asked_enough(state, config, "right", votes)
    aligned = same_skeleton(gold, like_gold(gold, response), max_coverage=config.max_coverage)
    route = "direct" if config.route == "auto" and aligned else "rewrite"
    return {"verdict": "wrong", "route": route, "votes": votes}


async def template(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """Put the wrong answer into the gold answer's wording without asking anyone."""
    gold, response, config = _gold(state), state["response"], runtime.context.config
    if state["route"] == "direct":
        rejected = like_gold(gold, response)
        if same_skeleton(gold, rejected, max_coverage=config.max_coverage):
            return {"rejected": rejected}
        message = f"not the gold answer's sentence with other words: {response[:80]!r}"
        return _drop(state, "template", "not_aligned", f"{message}; set route: auto to rewrite it")
    found = in_gold_form(
        state["sample"],
        gold,
        response,
        state["form"],
        short_answer_words=config.short_answer_words,
    )
    if found is None:
        message = f"cannot be read as a wrong {state['form']} answer: {response[:80]!r}"
        return _drop(state, "template", "not_aligned", message)
    return {"rejected": found}


async def find_differences(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """First turn of the rewriter: on which points is the answer wrong?"""
    config = runtime.context.config
    reply = await ask_until_valid(
        runtime.context.model("rewriter"),
        [user(_differences_prompt(state))],
        read_differences,
        draw_seed=runtime.context.draw_seed,
        draw="find_differences",
        num_attempts=config.num_rewrite_attempts,
        sampling=Sampling(max_completion_length=config.max_rewrite_length),
    )
    if reply.value is None:
        return _drop(state, "find_differences", "rewrite_invalid", "the rewriter lists nothing")
    if NO_DIFFERENCES in reply.value:
        message = f"the rewriter sees no contradiction in {state['response'][:80]!r}"
        return _drop(state, "find_differences", "no_differences", message)
    return {"differences": reply.value}


async def rewrite(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """Second turn of the rewriter: the gold answer with these mistakes built in."""
    gold, config = _gold(state), runtime.context.config
    rewriter, tagged = runtime.context.model("rewriter"), config.span_source == "tags"

    def read(text: str) -> Rewritten:
        return read_tagged(text, gold) if tagged else Rewritten(read_rewritten(text, gold))

    reply = await ask_until_valid(
        rewriter,
        [
            user(_differences_prompt(state)),
            text_of(state["differences"]),
            user(prompt("rrpo_rewrite_tagged" if tagged else "rrpo_rewrite")),
        ],
        read,
        draw_seed=runtime.context.draw_seed,
        draw="rewrite",
        num_attempts=config.num_rewrite_attempts,
        sampling=Sampling(max_completion_length=config.max_rewrite_length),
    )
    if reply.value is None:
        message = f"{len(reply.problems)} rewritten answers were invalid: {reply.problems[-1]}"
        return _drop(state, "rewrite", "rewrite_invalid", message)
    said = {"model": rewriter.name, "differences": state["differences"]}
    return {
        "rejected": reply.value.text,
        "chosen_spans": reply.value.gold_spans,
        "rejected_spans": reply.value.spans,
        "votes": {**state["votes"], "rewriter": said},
    }


async def mark_spans(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """Find the phrases that differ, unless the rewriter has marked them."""
    gold, rejected = _gold(state), state["rejected"]
    if state.get("chosen_spans"):
        return {}
    include_indels = runtime.context.config.include_indels
    spans = differing_spans(gold, rejected, include_indels=include_indels)
    if not spans.chosen or not spans.rejected:
        message = f"no phrase of {rejected[:80]!r} stands for another one of {gold[:80]!r}"
        return _drop(state, "mark_spans", "no_span", message)
    return {"chosen_spans": spans.chosen, "rejected_spans": spans.rejected}


async def write_pair(state: RRPOState, runtime: Runtime[RRPOContext]) -> dict[str, object]:
    """The pair on the original clip, with everything that made it."""
    sample, gold, config = state["sample"], _gold(state), runtime.context.config
    rejected = state["rejected"]
    chosen_spans, rejected_spans = state["chosen_spans"], state["rejected_spans"]
    shares = {
        "chosen_coverage": round(coverage(gold, chosen_spans), 4),
        "rejected_coverage": round(coverage(rejected, rejected_spans), 4),
    }
    metadata: dict[str, Any] = {"response": state["response"], **shares}
    if state["form"] == "long" and max(shares.values()) > config.max_coverage:
        metadata["warning"] = "answers_not_aligned"
    pair = PreferencePair(
        sample_id=sample.id,
        prompt=sample.messages,
        chosen=Response(messages=(text_of(gold),), spans=chosen_spans, score=1.0),
        rejected=Response(messages=(text_of(rejected),), spans=rejected_spans, score=0.0),
        metadata=metadata,
        lineage=_lineage(state).model_copy(
            update={"node": "write_pair", "policy": runtime.context.policy.name}
        ),
    )
    return {"records": [pair]}


async def after_perturb(state: RRPOState) -> Literal["ask", "drop"]:
    """A question that cannot be asked is dropped."""
    return "drop" if "records" in state else "ask"


async def after_check(
    state: RRPOState,
) -> Literal["perturb", "template", "find_differences", "drop"]:
    """A right answer is asked for again as long as attempts are left."""
    if "records" in state:
        return "drop"
    if state["verdict"] != "wrong":
        return "perturb"
    return "find_differences" if state["route"] == "rewrite" else "template"


async def go_on(state: RRPOState) -> Literal["go_on", "drop"]:
    """What was dropped ends here."""
    return "drop" if "records" in state else "go_on"


def build_graph() -> CompiledStateGraph[RRPOState, RRPOContext, SampleInput, RRPOState]:
    """Read `sample`; write one pair, or the reason why there is none, to `records`.

    The only loop, check -> perturb, is bounded by `num_attempts`. Routes are coroutines because
    LangGraph gives plain functions a thread, which costs a quarter more time for each sample.
    """
    load_prompts("rrpo_judge", "rrpo_differences", "rrpo_rewrite", "rrpo_rewrite_tagged")
    graph = StateGraph(RRPOState, RRPOContext, input_schema=SampleInput)
    graph.add_node("perturb", perturb)
    graph.add_node("ask", ask)
    graph.add_node("check", check)
    graph.add_node("template", template)
    graph.add_node("find_differences", find_differences)
    graph.add_node("rewrite", rewrite)
    graph.add_node("mark_spans", mark_spans)
    graph.add_node("write_pair", write_pair)
    graph.add_edge(START, "perturb")
    graph.add_conditional_edges("perturb", after_perturb, {"ask": "ask", "drop": END})
    graph.add_edge("ask", "check")
    graph.add_conditional_edges(
        "check",
        after_check,
        {
            "perturb": "perturb",
            "template": "template",
            "find_differences": "find_differences",
            "drop": END,
        },
    )
    graph.add_conditional_edges("template", go_on, {"go_on": "mark_spans", "drop": END})
    graph.add_conditional_edges("find_differences", go_on, {"go_on": "rewrite", "drop": END})
    graph.add_conditional_edges("rewrite", go_on, {"go_on": "mark_spans", "drop": END})
    graph.add_conditional_edges("mark_spans", go_on, {"go_on": "write_pair", "drop": END})
    graph.add_edge("write_pair", END)
    return graph.compile()


def _gold(state: RRPOState) -> str:
    gold = gold_answer(state["sample"])
    assert gold is not None  # `perturb` has dropped the others
    return gold


def _asked_enough(
    state: RRPOState, config: RRPOConfig, verdict: Literal["right", "empty"], votes: dict[str, Any]
) -> dict[str, object]:
    """Back to `perturb`, or the end where no attempt is left."""
    if state["attempt"] < config.num_attempts:
        return {"verdict": verdict, "votes": votes}
    state = {**state, "votes": votes}
    asked = f"in {state['attempt']} of {config.num_attempts} attempts"
    if verdict == "empty":
        return _drop(state, "check", "answer_empty", f"the policy said nothing {asked}")
    message = f"the policy was right {asked}: {state['response'][:80]!r}"
    return _drop(state, "check", "answer_correct", message)


def _differences_prompt(state: RRPOState) -> str:
    return prompt(
        "rrpo_differences",
        question=state["sample"].question,
        gold=_gold(state),
        response=state["response"],
        sentinel=NO_DIFFERENCES,
    )


def _lineage(state: RRPOState) -> Lineage:
    sample, votes = state["sample"], state.get("votes", {})
    tags = {"question_type": str(sample.metadata.get("question_type") or state.get("form", ""))}
    if "form" in state:
        tags["answer_form"] = state["form"]
    if "route" in state:
        tags["route"] = state["route"]
        tags["error_category"] = error_category(sample.question, state["response"], sample.metadata)
    return Lineage(
        graph="mmalign.agents.rrpo:build_graph",
        judge=votes.get("judge", {}).get("model"),
        votes=votes,
        sampling=state.get("sampling", {}),
        source=sample.metadata.get("dataset"),
        source_clip=next((media.content_hash for media in sample.media), None),
        operations=state.get("operations", ()),
        tags=tags,
    )


def _drop(state: RRPOState, node: str, reason: str, message: str) -> dict[str, object]:
    lineage = _lineage(state)
    dropped = DroppedSample(
        sample_id=state["sample"].id, reason=reason, node=node, message=message, lineage=lineage
    )
    return {"records": [dropped]}
