"""The RRPO agent: every route, every reason to drop, every node on its own."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.runtime import Runtime

from mmalign.agents import rrpo
from mmalign.agents.rrpo import RRPOConfig, RRPOContext, RRPOState, build_graph
from mmalign.api import (
    Completion,
    ConfigError,
    DroppedSample,
    MediaRef,
    Message,
    PreferencePair,
    Sample,
    Sampling,
    user,
)
from mmalign.engine.agent import walk
from mmalign.testing.models import ScriptedModel

CLIP = MediaRef(kind="video", uri="clip.mp4", content_hash="ab" * 16)
LONG = "The red ball rolls slowly to the left of the box."
WRONG = "The blue ball rolls slowly to the right of the box."
INCORRECT = '{"verdict": "incorrect", "reason": "the colour"}'


@dataclass
class Listener(ScriptedModel):
    """Says its lines in order, the last one for ever, and keeps what it was sent."""

    lines: list[str] = field(default_factory=list)
    sent: list[tuple[Message, ...]] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    schemas: list[Mapping[str, Any] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.script = lambda _call, _draw: self.lines[min(len(self.calls), len(self.lines)) - 1]

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
        self.schemas.append(response_schema)
        return await super().generate(messages, n=n, sampling=sampling, seed=seed)


def says(*lines: str, name: str = "policy@1") -> Listener:
    return Listener(lines=list(lines), name=name)


def sample(answer: str | None = "red", question: str = "What colour?", **fields: Any) -> Sample:
    return Sample(id="s1", messages=(user(question, CLIP),), answer=answer, **fields)


def context(
    policy: Listener,
    *,
    judge: Listener | None = None,
    rewriter: Listener | None = None,
    **config: Any,
) -> RRPOContext:
    models = {"judge": judge, "rewriter": rewriter}
    return RRPOContext(
        policy=policy,
        models={role: model for role, model in models.items() if model},
        config=RRPOConfig(**config),
        sample_id="s1",
        seed=7,
    )


def build(asked: Sample, world: RRPOContext) -> PreferencePair | DroppedSample:
    (record,) = asyncio.run(walk(build_graph(), asked, world))
    return record


def pair_of(asked: Sample, world: RRPOContext) -> PreferencePair:
    record = build(asked, world)
    assert isinstance(record, PreferencePair), record
    return record


def dropped_of(asked: Sample, world: RRPOContext) -> DroppedSample:
    record = build(asked, world)
    assert isinstance(record, DroppedSample), record
    return record


def marked(response: Any) -> list[str]:
    return [response.text[span.start : span.end] for span in response.spans]


def test_a_short_answer_becomes_a_pair_without_another_model() -> None:
    pair = pair_of(sample("It is red."), context(says("Blue")))
    assert (pair.chosen.text, pair.rejected.text) == ("It is red.", "It is blue.")
    assert (marked(pair.chosen), marked(pair.rejected)) == (["red"], ["blue"])
    assert pair.lineage.tags == {
        "question_type": "short",
        "answer_form": "short",
        "route": "template",
        "error_category": "language prior",
    }
    assert pair.metadata["response"] == "Blue"
    assert "warning" not in pair.metadata


def test_a_one_word_answer_may_differ_as_a_whole() -> None:
    pair = pair_of(sample("red"), context(says("blue")))
    assert pair.metadata["chosen_coverage"] == 1.0
    assert "warning" not in pair.metadata


def test_the_policy_sees_the_perturbed_clip_and_the_pair_keeps_the_original() -> None:
    policy = says("blue")
    asked = sample("red")
    pair = pair_of(asked, context(policy))
    (shown,) = policy.sent[0][0].media
    assert [operation.name for operation in shown.operations] == ["mask", "local_shuffle"]
    assert shown.operations == pair.lineage.operations
    assert shown.operations[1].params == {"num_windows": 4}
    assert pair.prompt == asked.messages
    assert all(media.operations == () for media in pair.media)
    assert pair.lineage.source_clip == CLIP.content_hash


def test_operations_of_the_sample_itself_stay_on_both() -> None:
    cut = CLIP.model_copy(update={"start_s": 1.0, "end_s": 2.0})
    asked = Sample(id="s1", messages=(user("What colour?", cut),), answer="red")
    policy = says("blue")
    pair = pair_of(asked, context(policy))
    assert policy.sent[0][0].media[0].start_s == 1.0
    assert pair.media == (cut,)


@pytest.mark.parametrize(
    ("perturbation", "names"),
    [("mask", ["mask"]), ("shuffle", ["shuffle"]), ("local_shuffle", ["local_shuffle"])],
)
def test_perturbation_can_be_chosen(perturbation: str, names: list[str]) -> None:
    pair = pair_of(sample(), context(says("blue"), perturbation=perturbation))
    assert [operation.name for operation in pair.lineage.operations] == names


def test_without_perturbation_a_prompt_needs_no_video() -> None:
    asked = Sample(id="s1", messages=(user("What colour is the sky?"),), answer="blue")
    pair = pair_of(asked, context(says("green"), perturbation="none"))
    assert pair.lineage.operations == ()


def test_the_same_seed_gives_the_same_pair_and_another_seed_another_perturbation() -> None:
    world = context(says("blue"))
    first, again = pair_of(sample(), world), pair_of(sample(), context(says("blue")))
    assert first == again
    other = RRPOContext(policy=says("blue"), config=world.config, sample_id="s1", seed=8)
    assert pair_of(sample(), other).lineage.operations != first.lineage.operations


def test_short_answers_are_greedy_and_long_ones_are_sampled() -> None:
    short, long = says("blue"), says(WRONG)
    pair_of(sample("red"), context(short))
    pair_of(sample(LONG), context(long, route="template"))
    assert short.samplings[0].temperature == 0
    assert (long.samplings[0].temperature, long.samplings[0].top_p) == (1.0, 0.9)


def test_template_route_takes_an_aligned_long_answer_as_it_is() -> None:
    pair = pair_of(sample(LONG), context(says(WRONG.rstrip(".")), route="template"))
    assert pair.rejected.text == WRONG
    assert (marked(pair.chosen), marked(pair.rejected)) == (["red", "left"], ["blue", "right"])
    assert [span.phrase_id for span in pair.chosen.spans] == [1, 2]
    assert pair.lineage.tags["route"] == "direct"
    assert pair.lineage.judge is None


def test_auto_route_takes_an_aligned_long_answer_once_the_judge_says_it_is_wrong() -> None:
    judge = says(INCORRECT, name="judge@1")
    pair = pair_of(sample(LONG), context(says(WRONG), judge=judge))
    assert pair.rejected.text == WRONG
    assert pair.lineage.judge == "judge@1"
    assert pair.lineage.votes["judge"] == {
        "model": "judge@1",
        "verdict": "incorrect",
        "reason": "the colour",
        "num_invalid": 0,
    }
    schema = judge.schemas[0]
    assert schema is not None
    assert schema["additionalProperties"] is False
    assert LONG in judge.sent[0][0].text
    assert WRONG in judge.sent[0][0].text


def test_a_judge_that_cannot_enforce_a_schema_is_not_given_one() -> None:
    judge = says(INCORRECT)
    judge.capabilities = frozenset({"text"})
    pair_of(sample(LONG), context(says(WRONG), judge=judge))
    assert judge.schemas == [None]


def test_a_long_answer_of_other_wording_is_rewritten_in_two_turns() -> None:
    policy = says("I see something blue that goes right.")
    rewriter = says("red -> blue\nleft -> right", f'"{WRONG}"', name="rewriter@1")
    pair = pair_of(sample(LONG), context(policy, judge=says(INCORRECT), rewriter=rewriter))
    assert pair.rejected.text == WRONG
    assert (marked(pair.chosen), marked(pair.rejected)) == (["red", "left"], ["blue", "right"])
    assert pair.lineage.tags["route"] == "rewrite"
    assert pair.lineage.votes["rewriter"] == {
        "model": "rewriter@1",
        "differences": "red -> blue\nleft -> right",
    }
    assert [message.role for message in rewriter.sent[1]] == ["user", "assistant", "user"]
    assert rewriter.sent[1][:1] == rewriter.sent[0]
    assert all(not message.media for turn in rewriter.sent for message in turn)


def test_route_rewrite_rewrites_even_an_aligned_answer() -> None:
    rewriter = says("red -> green", LONG.replace("red", "green"))
    world = context(says(WRONG), judge=says(INCORRECT), rewriter=rewriter, route="rewrite")
    assert pair_of(sample(LONG), world).rejected.text == LONG.replace("red", "green")


def test_spans_may_come_from_the_rewriters_marks() -> None:
    marks = (
        "RIGHT: The <MASK>red ball</MASK> rolls slowly to the left of the box.\n"
        "WRONG: The <MASK>blue cube</MASK> rolls slowly to the left of the box."
    )
    rewriter = says("red ball -> blue cube", marks)
    world = context(
        says("Something else."), judge=says(INCORRECT), rewriter=rewriter, span_source="tags"
    )
    pair = pair_of(sample(LONG), world)
    assert (marked(pair.chosen), marked(pair.rejected)) == (["red ball"], ["blue cube"])


@pytest.mark.parametrize(
    ("marks", "problem"),
    [
        ("RIGHT: The <MASK>red ball rolls.\nWRONG: x", "at character 4.*never closed"),
        (f"RIGHT: {LONG[:-1]}!\nWRONG: x", "not the right answer"),
        (f"RIGHT: {LONG}\nWRONG: {WRONG}", "0 marks"),
        (WRONG, "expected two lines"),
    ],
)
def test_bad_marks_are_asked_for_again_and_then_dropped(marks: str, problem: str) -> None:
    rewriter = says("red -> blue", marks)
    world = context(
        says("Something else."), judge=says(INCORRECT), rewriter=rewriter, span_source="tags"
    )
    record = dropped_of(sample(LONG), world)
    assert (record.reason, record.node) == ("rewrite_invalid", "rewrite")
    assert len(rewriter.calls) == 3
    assert re.search(problem, record.message)


def test_a_badly_aligned_rewriting_is_kept_with_a_warning() -> None:
    other = "One tiny cube drops down beside the great tall tree."
    rewriter = says("everything", other)
    world = context(says("Something else."), judge=says(INCORRECT), rewriter=rewriter)
    pair = pair_of(sample(LONG), world)
    assert pair.metadata["warning"] == "answers_not_aligned"
    assert pair.metadata["rejected_coverage"] > 0.6


def test_a_right_answer_is_asked_for_again_with_other_seeds_until_it_is_wrong() -> None:
    policy = says("red", "", "blue")
    pair = pair_of(sample("red"), context(policy, num_attempts=3))
    assert pair.rejected.text == "blue"
    shown = [sent[0].media[0].operations for sent in policy.sent]
    assert len({operation.seed for operations in shown for operation in operations}) == 6
    assert len({call.seed for call in policy.calls}) == 3
    assert pair.lineage.sampling["attempt"] == 3
    assert pair.lineage.operations == shown[2]


def test_attempts_are_bounded() -> None:
    policy = says("red")
    record = dropped_of(sample("red"), context(policy, num_attempts=8))
    assert len(policy.calls) == 8
    assert record.reason == "answer_correct"
    assert "right in 8 of 8 attempts" in record.message


def test_an_invalid_verdict_is_asked_for_again_with_the_complaint() -> None:
    judge = says("It is wrong.", '{"verdict": "maybe", "reason": ""}', f"```json\n{INCORRECT}\n```")
    pair = pair_of(sample(LONG), context(says(WRONG), judge=judge))
    assert pair.lineage.votes["judge"]["num_invalid"] == 2
    assert [message.role for message in judge.sent[1]] == ["user", "assistant", "user"]
    assert "cannot be used" in judge.sent[1][2].text
    assert len({call.seed for call in judge.calls}) == 3


DROPS = {
    "no_answer": (sample(None), context(says("blue")), "perturb"),
    "no_media": (
        Sample(id="s1", messages=(user("What colour?"),), answer="red"),
        context(says("blue")),
        "perturb",
    ),
    "answer_correct": (sample("red"), context(says("Red.")), "check"),
    "answer_empty": (sample("red"), context(says("  ")), "check"),
    "judge_invalid": (sample(LONG), context(says(WRONG), judge=says("no JSON")), "check"),
    "not_aligned": (sample("red"), context(says("It is a dark red")), "template"),
    "no_differences": (
        sample(LONG),
        context(says("Hm."), judge=says(INCORRECT), rewriter=says("NO_DIFFERENCES.")),
        "find_differences",
    ),
    "rewrite_invalid": (
        sample(LONG),
        context(says("Hm."), judge=says(INCORRECT), rewriter=says("red -> blue", LONG.upper())),
        "rewrite",
    ),
    "no_span": (
        sample(LONG),
        context(
            says("Hm."),
            judge=says(INCORRECT),
            rewriter=says("no box", LONG.removesuffix(" of the box.") + "."),
        ),
        "mark_spans",
    ),
}


@pytest.mark.parametrize("reason", DROPS)
def test_every_reason_to_drop(reason: str) -> None:
    asked, world, node = DROPS[reason]
    record = dropped_of(asked, world)
    assert (record.reason, record.node, record.kind) == (reason, node, "dropped")
    assert record.message


def test_words_on_one_side_only_are_phrases_if_told_so() -> None:
    shorter = LONG.replace("slowly ", "").replace("red", "blue")
    rewriter = says("red -> blue", shorter)
    config: dict[str, Any] = {"judge": says(INCORRECT), "rewriter": rewriter, "route": "rewrite"}
    pair = pair_of(sample(LONG), context(says("Hm."), include_indels=True, **config))
    assert (marked(pair.chosen), marked(pair.rejected)) == (["red", "slowly"], ["blue"])


def test_template_route_drops_a_long_answer_of_other_wording() -> None:
    record = dropped_of(sample(LONG), context(says("Hm, a ball."), route="template"))
    assert record.reason == "not_aligned"
    assert "route: auto" in record.message
    assert record.lineage.tags["route"] == "direct"
    assert record.lineage.operations


def test_a_right_long_answer_needs_no_judge_if_it_is_the_gold_one() -> None:
    assert dropped_of(sample(LONG), context(says(LONG))).reason == "answer_correct"


def test_what_the_judge_said_stays_with_a_dropped_right_answer() -> None:
    judge = says(json.dumps({"verdict": "correct", "reason": "same"}))
    record = dropped_of(sample(LONG), context(says("A red ball goes left."), judge=judge))
    assert record.reason == "answer_correct"
    assert record.lineage.votes["judge"]["reason"] == "same"


def test_a_missing_judge_is_named() -> None:
    with pytest.raises(ConfigError, match=r"models\.judge"):
        build(sample(LONG), context(says(WRONG)))


def test_multiple_choice_works_with_letters_and_words() -> None:
    asked = sample("B", choices=("a dog", "a cat", "a cow"), metadata={"question_type": "object"})
    pair = pair_of(asked, context(says("The answer is C.")))
    assert (pair.chosen.text, pair.rejected.text) == ("B", "C")
    assert pair.lineage.tags["question_type"] == "object"
    assert pair.lineage.tags["answer_form"] == "multiple_choice"
    assert pair.lineage.tags["error_category"] == "co-occurrence"


def test_settings_are_checked() -> None:
    for wrong in ({"num_attempts": 9}, {"route": "auot"}, {"mask_area": (0.2, 1.5)}, {"x": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RRPOConfig(**wrong)


def run_node(node: Any, state: RRPOState, world: RRPOContext) -> dict[str, Any]:
    result: dict[str, Any] = asyncio.run(node(state, Runtime(context=world)))
    return result


def test_nodes_return_only_what_they_change() -> None:
    world = context(says("blue"))
    state = RRPOState(sample=sample())
    for node, keys in (
        (rrpo.perturb, {"attempt", "form", "operations"}),
        (rrpo.ask, {"response", "sampling"}),
        (rrpo.check, {"verdict", "route", "votes"}),
        (rrpo.template, {"rejected"}),
        (rrpo.mark_spans, {"chosen_spans", "rejected_spans"}),
        (rrpo.write_pair, {"records"}),
    ):
        written = run_node(node, state, world)
        assert written.keys() == keys, node.__name__
        state = RRPOState(**{**state, **written})  # type: ignore[typeddict-item]  # keys as above
    assert len(state["records"]) == 1


def test_perturb_counts_attempts() -> None:
    state = RRPOState(sample=sample(), attempt=2)
    assert run_node(rrpo.perturb, state, context(says("x")))["attempt"] == 3


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ({"verdict": "wrong", "route": "rewrite"}, "find_differences"),
        ({"verdict": "wrong", "route": "direct"}, "template"),
        ({"verdict": "right"}, "perturb"),
        ({"verdict": "right", "records": []}, "drop"),
    ],
)
def test_routes_follow_the_state(written: dict[str, Any], target: str) -> None:
    state: Any = {"sample": sample(), **written}
    assert asyncio.run(rrpo.after_check(state)) == target
    dropped = "records" in written
    assert asyncio.run(rrpo.after_perturb(state)) == ("drop" if dropped else "ask")
    assert asyncio.run(rrpo.go_on(state)) == ("drop" if dropped else "go_on")


def test_the_drawing_has_stable_names() -> None:
    drawn = build_graph().get_graph()
    assert set(drawn.nodes) == {
        "__start__",
        "perturb",
        "ask",
        "check",
        "template",
        "find_differences",
        "rewrite",
        "mark_spans",
        "write_pair",
        "__end__",
    }
    loops = {(edge.source, edge.target) for edge in drawn.edges if edge.target == "perturb"}
    assert loops == {("__start__", "perturb"), ("check", "perturb")}
