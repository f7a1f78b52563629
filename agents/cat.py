"""CAT's preference data: a grounded answer over the policy's own vaguest one.

How the paper collects ambiguous answers could not be read. The three labels of sentences are those
of a figure in its repository; prompts, rules, thresholds and fallbacks are a reconstruction.

Source: ADPO of CAT (Ye et al., 2024).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from mmalign.agents.cat_config import CATConfig
from mmalign.agents.cat_replies import is_about_sound, read_rewritten, word_bounds
from mmalign.agents.dialogue import load_prompts, prompt
from mmalign.agents.state import SampleInput
from mmalign.api import (
    Context,
    DroppedSample,
    Judgement,
    Lineage,
    MediaError,
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    Reply,
    Response,
    Sample,
    Sampling,
    answer_blocks,
    ask_until_valid,
    choose_ambiguous,
    clues_of,
    gold_answer,
    judge_answer,
    load_audio,
    sentences_of,
    text_of,
)

__all__ = ["CATConfig", "CATContext", "CATState", "build_graph"]


@dataclass(frozen=True)
class CATContext(Context):
    """Roles besides the policy: `judge` and `rewriter`, which are shown text alone."""

    config: CATConfig = field(default_factory=CATConfig)


class CATState(SampleInput, total=False):
    """What the nodes write."""

    gold: str
    clues: tuple[str, ...]
    prompt: tuple[Message, ...]
    """The sample's, without sounds that are not there."""
    answers: tuple[str, ...]
    """The policy's: the sampled ones, then the greedy one."""
    sampling: dict[str, Any]
    judged: tuple[Reply[Judgement], ...]
    """One for each answer."""
    rejected: str
    rejected_judgement: Judgement
    rewritten: str | None
    chosen: str
    chosen_source: Literal["rewritten", "gold"]
    chosen_judgement: Judgement
    votes: dict[str, Any]
    records: list[PreferencePair | DroppedSample]


async def collect_clues(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Gather what is known about the answer; see that what is asked about can be heard."""
    sample = state["sample"]
    gold = gold_answer(sample)
    if gold is None:
        message = "the question has no gold answer; give it one"
        return _drop(state, "collect_clues", "no_answer", message)
    peaks = [(ref, await _peak(ref)) for ref in sample.media if ref.kind == "audio"]
    loudest = max((peak for _, peak in peaks if peak is not None), default=None)
    if is_about_sound(sample) and (loudest is None or loudest <= runtime.context.config.silence):
        found = "the prompt has no sound" if loudest is None else f"its peak is {loudest:g}"
        message = f"no audio for {sample.id}: {found}, and the question is about what is heard"
        return _drop(state, "collect_clues", "no_audio", message)
    without = [ref for ref, peak in peaks if peak is None]
    return {"gold": gold, "clues": clues_of(sample), "prompt": _prompt(sample, without)}


async def sample_answers(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Ask the policy several times, and once greedily."""
    context, config = runtime.context, runtime.context.config
    length = config.max_completion_length
    sampling = Sampling(
        temperature=config.temperature, top_p=config.top_p, max_completion_length=length
    )
    seed = context.draw_seed("answers")
    completions = await context.policy.generate(
        state["prompt"], n=config.num_generations, sampling=sampling, seed=seed
    )
    if config.with_greedy:
        completions += await context.policy.generate(
            state["prompt"], sampling=Sampling(max_completion_length=length), seed=seed
        )
    drawn = {
        **sampling.model_dump(mode="json"),
        "num_generations": config.num_generations,
        "with_greedy": config.with_greedy,
        "seed": seed,
    }
    return {"answers": tuple(one.text.strip() for one in completions), "sampling": drawn}


async def judge_answers(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Have every answer judged, sentence by sentence; equal answers once."""
    replies = {
        text: await _judge(state, runtime.context, text) for text in dict.fromkeys(state["answers"])
    }
    judged = tuple(replies[text] for text in state["answers"])
    votes = {
        "model": runtime.context.model("judge").name,
        "num_invalid": sum(reply.value is None for reply in judged),
        "answers": [_vote(reply.value) for reply in judged],
    }
    return {"judged": judged, "votes": {"judge": votes}}


async def choose_rejected(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Reject the most ambiguous answer; an empty one qualifies, but can be no side of a pair."""
    answers, threshold = state["answers"], runtime.context.config.ambiguity_threshold
    if not any(answers):
        message = f"the policy said nothing in {len(answers)} answers"
        return _drop(state, "choose_rejected", "answer_empty", message)
    judged = [
        (text, reply.value)
        for text, reply in zip(answers, state["judged"], strict=True)
        if text and reply.value is not None
    ]
    choice = choose_ambiguous(
        [judgement.counts for _, judgement in judged], has_chosen=True, threshold=threshold
    )
    if choice.rejected is not None:
        rejected, judgement = judged[choice.rejected]
        return {"rejected": rejected, "rejected_judgement": judgement}
    if problems := [reply.problems[-1] for reply in state["judged"] if reply.value is None]:
        message = f"{len(problems)} of {len(answers)} answers were not judged: {problems[-1]}"
        return _drop(state, "choose_rejected", "judge_invalid", message)
    largest = max(judgement.counts.ambiguity for _, judgement in judged)
    message = f"the most ambiguous of {len(answers)} answers has {largest:.2f}, below {threshold:g}"
    return _drop(state, "choose_rejected", "no_ambiguous_answer", message)


async def rewrite(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Have the rejected answer written again from the clues."""
    reply = await _rewritten(state, runtime.context, "cat_rewrite")
    said = {
        "model": runtime.context.model("rewriter").name,
        "num_invalid": len(reply.problems),
    }
    return {"rewritten": reply.value, "votes": {**state["votes"], "rewriter": said}}


async def judge_chosen(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Take the rewritten answer if the judge finds nothing ambiguous in it, else the gold one."""
    sources = {"rewritten": state["rewritten"], "gold": state["gold"]}
    replies: list[Reply[Judgement]] = []
    for source, text in sources.items():
        if text is None:
            continue
        reply = await _judge(state, runtime.context, text)
        replies.append(reply)
        if reply.value is None or reply.value.counts.ambiguous:
            continue
        if text == state["rejected"]:
            message = f"the gold answer is the rejected one: {text[:80]!r}"
            return _drop(state, "judge_chosen", "identical_texts", message)
        return {"chosen": text, "chosen_source": source, "chosen_judgement": reply.value}
    votes = {**state["votes"], "chosen": [_vote(reply.value) for reply in replies]}
    state = {**state, "votes": votes}
    if all(reply.value is None for reply in replies):
        message = f"the chosen answer was not judged: {replies[-1].problems[-1]}"
        return _drop(state, "judge_chosen", "judge_invalid", message)
    message = f"the judge finds even the gold answer ambiguous: {state['gold'][:80]!r}"
    return _drop(state, "judge_chosen", "chosen_ambiguous", message)


async def restyle_rejected(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """Have the rejected answer written again as vague as it is; where it is not, leave it."""
    context = runtime.context
    reply = await _rewritten(state, context, "cat_vague")
    if reply.value is None or reply.value == state["chosen"]:
        return {}
    judged = await _judge(state, context, reply.value)
    if judged.value is None or judged.value.counts.ambiguity < context.config.ambiguity_threshold:
        return {}
    said = {**state["votes"]["rewriter"], "rejected": state["rejected"]}
    return {
        "rejected": reply.value,
        "rejected_judgement": judged.value,
        "votes": {**state["votes"], "rewriter": said},
    }


async def write_pair(state: CATState, runtime: Runtime[CATContext]) -> dict[str, object]:
    """The pair, both sides on the same clip and sound, with everything that made it."""
    chosen, rejected = state["chosen_judgement"], state["rejected_judgement"]
    pair = PreferencePair(
        sample_id=state["sample"].id,
        prompt=state["prompt"],
        chosen=Response(messages=(text_of(state["chosen"]),), score=1.0),
        rejected=Response(
            messages=(text_of(state["rejected"]),), score=1.0 - rejected.counts.ambiguity
        ),
        metadata={
            "ambiguity": rejected.counts.ambiguity,
            "sentence_labels": {"chosen": list(chosen.labels), "rejected": list(rejected.labels)},
        },
        lineage=_lineage(state).model_copy(
            update={"node": "write_pair", "policy": runtime.context.policy.name}
        ),
    )
    return {"records": [pair]}


async def go_on(state: CATState) -> Literal["go_on", "drop"]:
    """What was dropped ends here."""
    return "drop" if "records" in state else "go_on"


async def after_judge_chosen(
    state: CATState, runtime: Runtime[CATContext]
) -> Literal["restyle_rejected", "write_pair", "drop"]:
    """The rejected side is rewritten only if wished."""
    if "records" in state:
        return "drop"
    return "restyle_rejected" if runtime.context.config.rewrite_rejected else "write_pair"


def build_graph() -> CompiledStateGraph[CATState, CATContext, SampleInput, CATState]:
    """Read `sample`; write one pair, or the reason why there is none, to `records`.

    There is no loop. Routes are coroutines because LangGraph gives plain functions a thread.
    """
    load_prompts("cat_rewrite", "cat_vague")
    graph = StateGraph(CATState, CATContext, input_schema=SampleInput)
    graph.add_node("collect_clues", collect_clues)
    graph.add_node("sample_answers", sample_answers)
    graph.add_node("judge_answers", judge_answers)
    graph.add_node("choose_rejected", choose_rejected)
    graph.add_node("rewrite", rewrite)
    graph.add_node("judge_chosen", judge_chosen)
    graph.add_node("restyle_rejected", restyle_rejected)
    graph.add_node("write_pair", write_pair)
    graph.add_edge(START, "collect_clues")
    graph.add_conditional_edges("collect_clues", go_on, {"go_on": "sample_answers", "drop": END})
    graph.add_edge("sample_answers", "judge_answers")
    graph.add_edge("judge_answers", "choose_rejected")
    graph.add_conditional_edges("choose_rejected", go_on, {"go_on": "rewrite", "drop": END})
    graph.add_edge("rewrite", "judge_chosen")
    graph.add_conditional_edges(
        "judge_chosen",
        after_judge_chosen,
        {"restyle_rejected": "restyle_rejected", "write_pair": "write_pair", "drop": END},
    )
    graph.add_edge("restyle_rejected", "write_pair")
    graph.add_edge("write_pair", END)
    return graph.compile()


async def _peak(ref: MediaRef) -> float | None:
    """The loudest sample, 1 is full scale; None where the file has no sound."""
    try:
        clip = await asyncio.to_thread(load_audio, ref)
    except MediaError as error:
        if error.reason == "media_missing_stream":
            return None
        raise
    return float(abs(clip.waveform).max(initial=0.0))


def _prompt(sample: Sample, without: list[MediaRef]) -> tuple[Message, ...]:
    return tuple(
        message.model_copy(
            update={
                "content": tuple(
                    part
                    for part in message.content
                    if not (isinstance(part, MediaPart) and part.media in without)
                )
            }
        )
        for message in sample.messages
    )


async def _judge(state: CATState, context: CATContext, text: str) -> Reply[Judgement]:
    return await judge_answer(
        context.model("judge"),
        text,
        question=state["sample"].question,
        gold=state["gold"],
        clues=state["clues"],
        draw_seed=context.draw_seed,
        num_attempts=context.config.num_judge_attempts,
        sampling=Sampling(max_completion_length=context.config.max_judge_length),
    )


async def _rewritten(state: CATState, context: CATContext, name: str) -> Reply[str]:
    """The rejected answer as the rewriter writes it again."""
    config, rejected = context.config, state["rejected"]
    bounds = word_bounds(
        rejected, min_ratio=config.min_length_ratio, max_ratio=config.max_length_ratio
    )
    blocks = answer_blocks(
        state["sample"].question, state["gold"], state["clues"], sentences_of(rejected)
    )
    text = prompt(name, blocks=blocks, fewest=str(bounds.fewest), most=str(bounds.most))
    return await ask_until_valid(
        context.model("rewriter"),
        [text_of(text, role="user")],
        lambda reply: read_rewritten(reply, rejected, bounds),
        draw_seed=context.draw_seed,
        draw=name,
        num_attempts=config.num_rewrite_attempts,
        sampling=Sampling(max_completion_length=config.max_rewrite_length),
    )


def _vote(judgement: Judgement | None) -> Mapping[str, Any] | None:
    """What the judge said, as JSON; None where it could not be read."""
    if judgement is None:
        return None
    return {
        "labels": list(judgement.labels),
        "answered": judgement.answered,
        "ambiguity": round(judgement.counts.ambiguity, 4),
    }


def _lineage(state: CATState) -> Lineage:
    sample, votes = state["sample"], state.get("votes", {})
    tags = {"question_type": str(sample.metadata.get("question_type") or "")}
    if "rejected_judgement" in state:
        tags["ambiguity"] = state["rejected_judgement"].counts.kind or ""
    if "chosen_source" in state:
        tags["chosen"] = state["chosen_source"]
    return Lineage(
        graph="mmalign.agents.cat:build_graph",
        judge=votes.get("judge", {}).get("model"),
        votes=votes,
        sampling=state.get("sampling", {}),
        source=sample.metadata.get("dataset"),
        source_clip=next((media.content_hash for media in sample.media), None),
        tags=tags,
    )


def _drop(state: CATState, node: str, reason: str, message: str) -> dict[str, object]:
    dropped = DroppedSample(
        sample_id=state["sample"].id,
        reason=reason,
        node=node,
        message=message,
        lineage=_lineage(state),
    )
    return {"records": [dropped]}
