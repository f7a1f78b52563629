"""The PaMi-VDPO agent: which altered clip is chosen, what a pair records, why samples drop."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mmalign.agents.pami_vdpo import PaMiVDPOConfig, PaMiVDPOContext, build_graph
from mmalign.agents.pami_vdpo_config import DEFAULT_BAG
from mmalign.api import (
    CapabilityError,
    ConfigError,
    DroppedSample,
    MediaRef,
    Message,
    PreferencePair,
    Sample,
    user,
)
from mmalign.config import validate
from mmalign.engine import Manifest, RunStore, agent_warnings, run_agent_blocking
from mmalign.engine.agent import walk
from mmalign.testing.models import ScriptedModel

CLIP = MediaRef(kind="video", uri="clip.mp4", content_hash="ab" * 16)
OTHER = MediaRef(kind="video", uri="other.mp4", content_hash="cd" * 16)


@dataclass
class Scorer(ScriptedModel):
    """Says of each operator what the test tells it to, and keeps what it was asked."""

    closeness: Mapping[str, float] = field(default_factory=dict)
    divergence: Mapping[str, float] = field(default_factory=dict)
    same: frozenset[str] = frozenset()
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    spans: Sequence[tuple[int, int]] | None = None
    num_tokens: int | None = None

    async def clips_differ(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[bool, ...]:
        return tuple(name not in self.same for name in self.names("differ", altered))

    async def clip_closeness(
        self, messages: Sequence[Message], altered: Sequence[Sequence[Message]]
    ) -> tuple[float, ...]:
        return tuple(self.closeness.get(name, 1.0) for name in self.names("close", altered))

    async def response_divergence(
        self,
        messages: Sequence[Message],
        response: str,
        altered: Sequence[Sequence[Message]],
        *,
        spans: Sequence[tuple[int, int]] | None = None,
        num_tokens: int | None = None,
    ) -> tuple[float, ...]:
        self.spans, self.num_tokens = spans, num_tokens
        return tuple(self.divergence.get(name, 0.0) for name in self.names("far", altered))

    def names(self, what: str, altered: Sequence[Sequence[Message]]) -> tuple[str, ...]:
        found = tuple(messages[-1].media[0].operations[-1].name for messages in altered)
        self.asked.append((what, found))
        return found


def sample(answer: str | None = "the car goes left .", **fields: Any) -> Sample:
    return Sample(id="s1", messages=(user("where to ?", CLIP),), answer=answer, **fields)


def build(
    asked: Sample,
    policy: ScriptedModel,
    *,
    reference: ScriptedModel | None = None,
    config: PaMiVDPOConfig | None = None,
    **fields: Any,
) -> PreferencePair | DroppedSample:
    context = PaMiVDPOContext(
        policy=policy,
        models={"reference": reference} if reference else {},
        config=config or PaMiVDPOConfig(),
        sample_id=asked.id,
        seed=fields.pop("seed", 7),
        **fields,
    )
    (record,) = asyncio.run(walk(build_graph(), asked, context))
    return record


def pair_of(*args: Any, **kwargs: Any) -> PreferencePair:
    record = build(*args, **kwargs)
    assert isinstance(record, PreferencePair), record
    return record


def chosen_operator(pair: PreferencePair) -> str:
    assert pair.rejected.media is not None
    return pair.rejected.media[0].operations[-1].name


def test_the_pair_shows_the_same_answer_about_the_clip_that_changes_it_most() -> None:
    pair = pair_of(
        sample(metadata={"question_type": "direction", "dataset": "toy"}),
        Scorer(divergence={"reverse": 0.4, "shuffle": 0.2}),
    )
    assert chosen_operator(pair) == "reverse"
    assert pair.chosen.text == pair.rejected.text == "the car goes left ."
    assert pair.chosen.media is None
    assert pair.metadata["weight"] == 1.0
    assert [c["augmentation"] for c in pair.metadata["candidates"]] == list(DEFAULT_BAG)
    assert [c["js"] for c in pair.metadata["candidates"]] == [0.0, 0.2, 0.4, 0.0]
    assert pair.lineage.tags == {
        "question_type": "direction",
        "augmentation": "reverse",
        "answer_type": "open",
    }
    assert pair.lineage.source_clip == CLIP.content_hash
    assert pair.lineage.operations == ()


def test_a_clip_that_is_not_close_is_never_asked_about_and_never_chosen() -> None:
    policy = Scorer(closeness={"crop": 0.3}, divergence={"crop": 0.9, "shuffle": 0.05})
    pair = pair_of(sample(), policy)
    assert policy.asked[-1] == ("far", ("shuffle", "reverse", "temporal_crop"))
    assert chosen_operator(pair) == "shuffle"
    assert pair.metadata["weight"] == pytest.approx(0.5)
    assert pair.metadata["candidates"][0] | {"params": None, "seed": None} == {
        "augmentation": "crop",
        "closeness": 0.3,
        "js": None,
        "kept": False,
        "params": None,
        "seed": None,
    }


def test_where_none_is_close_the_closest_stands_in() -> None:
    policy = Scorer(closeness={"crop": 0.1, "shuffle": 0.2, "reverse": 0.1, "temporal_crop": 0.1})
    pair = pair_of(sample(), policy)
    assert (chosen_operator(pair), pair.metadata["fallback"]) == ("shuffle", True)
    assert policy.asked[-1] == ("far", ("shuffle",))


def test_what_shows_the_same_falls_out_before_it_is_scored() -> None:
    policy = Scorer(same=frozenset({"reverse", "shuffle"}))
    pair_of(sample(), policy)
    left = ("crop", "temporal_crop")
    assert policy.asked[1:] == [("close", left), ("far", left)]


def test_a_static_clip_under_temporal_operators_is_dropped() -> None:
    config = PaMiVDPOConfig(bag=("reverse", "shuffle"))
    dropped = build(sample(), Scorer(same=frozenset(config.bag)), config=config)
    assert isinstance(dropped, DroppedSample)
    assert dropped.reason == "static_clip"
    assert "static clip" in dropped.message
    assert "only spatial augmentations apply" in dropped.message


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (sample(None), "no_answer"),
        (sample("  "), "no_answer"),
        (Sample(id="s1", messages=(user("why ?"),), answer="so ."), "no_media"),
    ],
)
def test_what_cannot_become_a_pair_says_why(asked: Sample, reason: str) -> None:
    dropped = build(asked, Scorer())
    assert isinstance(dropped, DroppedSample)
    assert (dropped.reason, dropped.node) == (reason, "augment")


def test_the_same_seed_sample_and_epoch_give_the_same_bag() -> None:
    def bag(**fields: Any) -> list[tuple[str, int | None]]:
        found = pair_of(sample(), Scorer(), **fields).metadata["candidates"]
        return [(item["augmentation"], item["seed"]) for item in found]

    assert bag() == bag()
    assert bag() != bag(epoch=1)
    assert bag() != bag(seed=8)


def test_plain_video_dpo_draws_one_operator_and_asks_nobody() -> None:
    config = PaMiVDPOConfig(num_candidates=1, tau_close=-1, gamma=0)
    policy = Scorer()
    drawn = {chosen_operator(pair_of(sample(), policy, config=config, seed=s)) for s in range(40)}
    assert drawn == set(DEFAULT_BAG)
    assert {what for what, _ in policy.asked} == {"differ"}
    assert pair_of(sample(), policy, config=config).metadata["weight"] == 1.0


def test_the_reference_scores_unless_the_policy_is_to() -> None:
    policy, reference = Scorer(name="policy@1"), Scorer(name="reference@1")
    assert pair_of(sample(), policy, reference=reference).lineage.judge == "reference@1"
    assert (policy.asked, len(reference.asked)) == ([], 3)
    config = PaMiVDPOConfig(score_with="policy")
    pair_of(sample(), policy, reference=reference, config=config)
    assert (len(policy.asked), len(reference.asked)) == (3, 3)


def test_a_model_that_cannot_compare_clips_is_refused() -> None:
    with pytest.raises(CapabilityError, match=r"cannot compare clips.*backend: transformers"):
        build(sample(), ScriptedModel())


def test_early_in_a_schedule_the_closest_telling_clip_is_taken() -> None:
    config = PaMiVDPOConfig(close_to_far="schedule")
    policy = Scorer(
        closeness={"crop": 0.7, "shuffle": 0.9},
        divergence={"crop": 0.5, "shuffle": 0.06, "reverse": 0.01},
    )
    assert chosen_operator(pair_of(sample(), policy, config=config, progress=0.1)) == "shuffle"
    assert chosen_operator(pair_of(sample(), policy, config=config, progress=0.5)) == "crop"


def test_swap_shows_a_clip_of_another_sample_of_the_step() -> None:
    config = PaMiVDPOConfig(bag=("swap",))
    neighbour = Sample(id="s2", messages=(user("?", OTHER),), answer="no .")
    twin = Sample(id="s3", messages=(user("?", CLIP),), answer="no .")
    pair = pair_of(sample(), Scorer(), config=config, neighbours=(twin, neighbour))
    assert pair.rejected.media is not None
    assert pair.rejected.media[0].operations[0].other == OTHER
    with pytest.raises(ConfigError, match="swap shows a clip of another sample"):
        build(sample(), Scorer(), config=config, neighbours=(twin,))


@pytest.mark.parametrize(
    ("config", "asked", "spans", "num_tokens"),
    [
        ({}, sample("a b ."), None, None),
        ({"js_tokens": "content"}, sample("a b ."), [(0, 1), (2, 3)], None),
        ({"js_tokens": "first_n", "js_num_tokens": 3}, sample("a b ."), None, 3),
        ({}, sample("(B)", choices=("x", "y"), answer_index=1), [(1, 2)], None),
    ],
)
def test_which_tokens_count(
    config: dict[str, Any], asked: Sample, spans: object, num_tokens: int | None
) -> None:
    policy = Scorer()
    build(asked, policy, config=PaMiVDPOConfig(**config))
    assert (policy.spans, policy.num_tokens) == (spans, num_tokens)


@pytest.mark.parametrize(
    ("answer", "fields", "kind"),
    [
        ("yes , it is .", {}, "yes"),
        ("No.", {}, "no"),
        ("nobody .", {}, "open"),
        ("(A)", {"choices": ("x", "y"), "answer_index": 0}, "option"),
    ],
)
def test_answer_types(answer: str, fields: dict[str, Any], kind: str) -> None:
    assert pair_of(sample(answer, **fields), Scorer()).lineage.tags["answer_type"] == kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bag": []}, "bag"),
        ({"bag": ["crop", "crop"]}, "an operator occurs twice"),
        ({"bag": ["cropp"]}, "bag"),
        ({"num_candidates": 0}, "num_candidates"),
        ({"tau_far": 0}, "tau_far"),
        ({"gamma": -1}, "gamma"),
        ({"tau_close": 1.5}, "tau_close"),
        ({"params": {"mask": {"area": [0.1, 0.2]}}}, "the bag holds no mask"),
        ({"params": {"crop": {"aera": [0.1, 0.2]}}}, "aera"),
    ],
)
def test_bad_settings_name_the_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(PaMiVDPOConfig, settings, "agent")


def test_thresholds_that_do_not_fit_the_bag_are_told() -> None:
    def pairs(weight: float, fallback: bool) -> list[PreferencePair]:
        closeness = {str(name): 0.0 if fallback else 1.0 for name in DEFAULT_BAG}
        divergence = {str(name): weight / 10 for name in DEFAULT_BAG}
        policy = Scorer(closeness=closeness, divergence=divergence)
        return [pair_of(sample(), policy) for _ in range(3)]

    assert PaMiVDPOContext.warnings(pairs(0.5, fallback=False)) == []
    (high,) = PaMiVDPOContext.warnings(pairs(0.5, fallback=True))
    assert high.startswith("tau_close too high")
    (irrelevant,) = PaMiVDPOContext.warnings(pairs(0.01, fallback=False))
    assert irrelevant.startswith("bag is prompt-irrelevant")
    assert "add spatial operators" in irrelevant
    assert not PaMiVDPOContext.warnings([])


def test_a_build_ends_with_what_the_agent_has_to_say(tmp_path: Path) -> None:
    samples = [sample().model_copy(update={"id": f"s{n}"}) for n in range(3)]
    graph = build_graph()
    with RunStore(tmp_path) as store:
        run_agent_blocking(
            graph,
            samples,
            store=store,
            manifest=Manifest(agent="pami_vdpo", seed=0),
            policy=Scorer(divergence={"crop": 0.001}),
        )
        (warning,) = agent_warnings(graph, store)
    assert warning.startswith("bag is prompt-irrelevant: the mean weight of 3 pairs is 0.010")


def test_a_weight_is_the_divergence_over_its_threshold() -> None:
    config = PaMiVDPOConfig(tau_far=0.2, gamma=2)
    pair = pair_of(sample(), Scorer(divergence={"crop": 0.1}), config=config)
    assert math.isclose(pair.metadata["weight"], 0.25)
