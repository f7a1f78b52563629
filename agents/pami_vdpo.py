"""PaMi-VDPO's preference data: one answer, the clip it is about, and an altered clip to avoid.

The same graph serves `mmalign build`, which writes auditable pairs, and a trainer that asks for
pairs of every batch with the weights that it has then (`trainer.online`).

Source: PaMi-VDPO (Ding et al., 2025). No code is published; see `PaMiVDPOConfig` for what is
theirs and what is mmalign's reading.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from mmalign.agents.clips import altered
from mmalign.agents.pami_vdpo_config import PaMiVDPOConfig
from mmalign.agents.state import SampleInput
from mmalign.api import (
    CapabilityError,
    ChatModel,
    ClipChoice,
    ComparesClips,
    ConfigError,
    Context,
    DroppedSample,
    Lineage,
    MediaOperation,
    MediaRef,
    PreferencePair,
    Response,
    Sample,
    choose_clip,
    operation,
    text_of,
)

__all__ = ["PaMiVDPOConfig", "PaMiVDPOContext", "PaMiVDPOState", "build_graph"]

_MAX_FALLBACKS = 0.2
_MIN_WEIGHT = 0.05
_OPTION = re.compile(r"\s*\(?([A-Z])[).:]?\s*$")


@dataclass(frozen=True)
class PaMiVDPOContext(Context):
    """`reference`, where it is among the models, scores candidates unless the policy is to."""

    config: PaMiVDPOConfig = field(default_factory=PaMiVDPOConfig)

    @classmethod
    def warnings(cls, records: Sequence[PreferencePair | DroppedSample]) -> Sequence[str]:
        """Thresholds that do not fit the bag."""
        pairs = [record for record in records if isinstance(record, PreferencePair)]
        if not pairs:
            return ()
        fallbacks = fmean(bool(pair.metadata["fallback"]) for pair in pairs)
        weight = fmean(float(pair.metadata["weight"]) for pair in pairs)
        found = []
        if fallbacks > _MAX_FALLBACKS:
            found.append(
                f"tau_close too high: of {fallbacks:.0%} of {len(pairs)} samples no candidate is "
                f"close enough; lower it"
            )
        if weight < _MIN_WEIGHT:
            found.append(
                f"bag is prompt-irrelevant: the mean weight of {len(pairs)} pairs is "
                f"{weight:.3f}; add spatial operators"
            )
        return found


class PaMiVDPOState(SampleInput, total=False):
    """What the nodes write; lists stand candidate by candidate."""

    operations: list[MediaOperation]
    closeness: list[float | None]
    divergence: list[float | None]
    choice: ClipChoice
    records: list[PreferencePair | DroppedSample]


async def augment(state: PaMiVDPOState, runtime: Runtime[PaMiVDPOContext]) -> dict[str, object]:
    """Draw the bag of altered clips; those that show the same as the clip fall out."""
    sample, context, config = state["sample"], runtime.context, runtime.context.config
    if not (sample.answer or "").strip():
        return _drop(state, "augment", "no_answer", "the question has no answer; give it one")
    if not any(media.kind == "video" for media in sample.media):
        return _drop(state, "augment", "no_media", "the prompt has no video to alter; give it one")
    names = list(config.bag)
    if config.num_candidates is not None:
        drawn = min(config.num_candidates, len(names))
        names = context.rng("augment/bag").sample(names, drawn)
    operations = [_operation(name, state, context) for name in names]
    differ = await _scorer(context).clips_differ(
        sample.messages, [altered(sample, item) for item in operations]
    )
    kept = [item for item, is_other in zip(operations, differ, strict=True) if is_other]
    if not kept:
        message = (
            f"static clip: {', '.join(names)} leave it as it is, only spatial augmentations apply; "
            f"add crop, mask or color to the bag"
        )
        return _drop(state, "augment", "static_clip", message)
    return {"operations": kept}


async def close(state: PaMiVDPOState, runtime: Runtime[PaMiVDPOContext]) -> dict[str, object]:
    """How like the clip each candidate looks, whatever is asked about it."""
    sample, context = state["sample"], runtime.context
    if context.config.tau_close == -1:
        return {"closeness": [None] * len(state["operations"])}
    found = await _scorer(context).clip_closeness(
        sample.messages, [altered(sample, item) for item in state["operations"]]
    )
    return {"closeness": list(found)}


async def far(state: PaMiVDPOState, runtime: Runtime[PaMiVDPOContext]) -> dict[str, object]:
    """How much each close candidate changes what the model would say in the response's place."""
    sample, context, config = state["sample"], runtime.context, runtime.context.config
    asked = _close_enough(state["closeness"], config.tau_close)
    divergence: list[float | None] = [None] * len(state["operations"])
    if config.scores:
        found = await _scorer(context).response_divergence(
            sample.messages,
            _answer(sample),
            [altered(sample, state["operations"][k]) for k in asked],
            spans=_counted(sample, config),
            num_tokens=config.js_num_tokens if config.js_tokens == "first_n" else None,
        )
        for k, value in zip(asked, found, strict=True):
            divergence[k] = value
    return {"divergence": divergence}


async def weigh(state: PaMiVDPOState, runtime: Runtime[PaMiVDPOContext]) -> dict[str, object]:
    """Choose the candidate, and say how much the pair counts."""
    context, config = runtime.context, runtime.context.config
    early = config.close_to_far == "schedule" and context.progress < 1 / 3
    choice = choose_clip(
        [1.0 if value is None else value for value in state["closeness"]],
        [0.0 if value is None else value for value in state["divergence"]],
        tau_close=config.tau_close,
        tau_far=config.tau_far,
        gamma=config.gamma,
        prefer="close" if early else "far",
    )
    return {"choice": choice}


async def write_pair(state: PaMiVDPOState, runtime: Runtime[PaMiVDPOContext]) -> dict[str, object]:
    """The answer about the clip over the same answer about the chosen candidate."""
    sample, context, choice = state["sample"], runtime.context, state["choice"]
    selected = state["operations"][choice.selected]
    answer = text_of(_answer(sample))
    media = tuple(ref for message in altered(sample, selected) for ref in message.media)
    tags = {"augmentation": selected.name, "answer_type": _answer_type(sample)}
    pair = PreferencePair(
        sample_id=sample.id,
        prompt=sample.messages,
        chosen=Response(messages=(answer,)),
        rejected=Response(messages=(answer,), media=media),
        metadata={
            "weight": choice.weight,
            "selected": choice.selected,
            "fallback": choice.fallback,
            "candidates": _candidates(state),
        },
        lineage=_lineage(state, tags).model_copy(
            update={
                "node": "write_pair",
                "policy": context.policy.name,
                "judge": _judge(context).name,
                "seed": selected.seed,
            }
        ),
    )
    return {"records": [pair]}


async def go_on(state: PaMiVDPOState) -> Literal["go_on", "drop"]:
    """What was dropped ends here."""
    return "drop" if "records" in state else "go_on"


def build_graph() -> CompiledStateGraph[PaMiVDPOState, PaMiVDPOContext, SampleInput, PaMiVDPOState]:
    """Read `sample`; write one pair, or the reason why there is none, to `records`."""
    graph = StateGraph(PaMiVDPOState, PaMiVDPOContext, input_schema=SampleInput)
    graph.add_node("augment", augment)
    graph.add_node("close", close)
    graph.add_node("far", far)
    graph.add_node("weigh", weigh)
    graph.add_node("write_pair", write_pair)
    graph.add_edge(START, "augment")
    graph.add_conditional_edges("augment", go_on, {"go_on": "close", "drop": END})
    graph.add_edge("close", "far")
    graph.add_edge("far", "weigh")
    graph.add_edge("weigh", "write_pair")
    graph.add_edge("write_pair", END)
    return graph.compile()


def _judge(context: PaMiVDPOContext) -> ChatModel:
    """Who tells what a candidate does."""
    if context.config.score_with == "reference":
        return context.models.get("reference", context.policy)
    return context.policy


def _scorer(context: PaMiVDPOContext) -> ComparesClips:
    model = _judge(context)
    if not isinstance(model, ComparesClips):
        raise CapabilityError(
            f"model {model.name!r} cannot compare clips, for it gives neither whole distributions "
            f"nor visual features (which tau_close: -1 does without); load it into this process "
            f"(backend: transformers)"
        )
    return model


def _operation(name: str, state: PaMiVDPOState, context: PaMiVDPOContext) -> MediaOperation:
    params = context.config.params.get(name, {})  # type: ignore[call-overload]  # one of the bag
    if name == "swap":
        return operation(name, None, other=_other_clip(state["sample"], context))
    seed = None if name in ("reverse", "hflip") else context.draw_seed(f"augment/{name}")
    return operation(name, seed, **params)


def _other_clip(sample: Sample, context: PaMiVDPOContext) -> MediaRef:
    """A clip of another sample of the batch."""
    own = {(media.content_hash, media.uri) for media in sample.media}
    clips = [
        media
        for neighbour in context.neighbours
        for media in neighbour.media
        if media.kind == "video" and (media.content_hash, media.uri) not in own
    ]
    if not clips:
        raise ConfigError(
            "bag: swap shows a clip of another sample of the batch, and there is none; use it in "
            "training (trainer.online) with batches of several clips, or take it out of the bag"
        )
    return context.rng("augment/swap").choice(clips)


def _answer(sample: Sample) -> str:
    assert sample.answer is not None  # `augment` has dropped the others
    return sample.answer


def _close_enough(closeness: list[float | None], tau_close: float) -> list[int]:
    """Candidates that may be chosen: the rule is `choose_clip`'s, before there are divergences."""
    values = [1.0 if value is None else value for value in closeness]
    choice = choose_clip(values, [0.0] * len(values), tau_close=tau_close)
    return [k for k, is_kept in enumerate(choice.kept) if is_kept]


def _counted(sample: Sample, config: PaMiVDPOConfig) -> list[tuple[int, int]] | None:
    """Characters of the response whose tokens count."""
    option = _OPTION.match(_answer(sample)) if sample.choices else None
    if option:
        return [option.span(1)]
    if config.js_tokens == "content":
        return [word.span() for word in re.finditer(r"\w+", _answer(sample))]
    return None


def _candidates(state: PaMiVDPOState) -> list[dict[str, Any]]:
    """What is known of each, for the record."""
    rows = zip(
        state["operations"],
        state["closeness"],
        state["divergence"],
        state["choice"].kept,
        strict=True,
    )
    return [
        {
            "augmentation": item.name,
            "params": item.params,
            "seed": item.seed,
            "closeness": closeness,
            "js": divergence,
            "kept": kept,
        }
        for item, closeness, divergence, kept in rows
    ]


def _answer_type(sample: Sample) -> str:
    """yes, no, option, or open."""
    if first := re.match(r"\W*(yes|no)\b", _answer(sample).lower()):
        return str(first.group(1))
    return "option" if sample.choices else "open"


def _lineage(state: PaMiVDPOState, tags: dict[str, str]) -> Lineage:
    sample = state["sample"]
    kind = sample.metadata.get("question_type")
    if isinstance(kind, str):
        tags = {"question_type": kind, **tags}
    clip = next((media for media in sample.media if media.kind == "video"), None)
    dataset = sample.metadata.get("dataset")
    return Lineage(
        graph="mmalign.agents.pami_vdpo:build_graph",
        source=dataset if isinstance(dataset, str) else None,
        source_clip=clip.content_hash if clip else None,
        tags=tags,
    )


def _drop(state: PaMiVDPOState, node: str, reason: str, message: str) -> dict[str, object]:
    dropped = DroppedSample(
        sample_id=state["sample"].id,
        reason=reason,
        node=node,
        message=message,
        lineage=_lineage(state, {}),
    )
    return {"records": [dropped]}
