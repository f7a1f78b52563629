"""The CAT agent: what becomes chosen and rejected, every reason to drop, every node on its own."""

import asyncio
import itertools
import json
import re
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langgraph.runtime import Runtime

from mmalign.agents import cat
from mmalign.agents.cat import CATConfig, CATContext, CATState, build_graph
from mmalign.agents.cat_replies import read_rewritten, word_bounds
from mmalign.api import (
    ChatModel,
    Completion,
    ConfigError,
    DroppedSample,
    MediaError,
    MediaRef,
    Message,
    PreferencePair,
    Sample,
    Sampling,
    gold_answer,
    user,
    write_video,
)
from mmalign.datasets import bands
from mmalign.datasets.bands.judge import judge as bands_judge
from mmalign.datasets.bands.judge import rewriter as bands_rewriter
from mmalign.engine import EngineConfig, Funnel, Manifest, RunStore, run_agent_blocking
from mmalign.engine.agent import walk
from mmalign.testing.models import Call, ScriptedModel

GOLD = "A drum plays first. It stands on the left."
VAGUE = "The video features music. There is some kind of sound. A drum plays first."
WRONG = "A flute plays first. It stands on the left."
VAGUEST = "The video has a warm mood. It features a mix of sounds."
MARKS = {
    "wrong": ("flute", "right"),
    "useless": ("features", "mood", "some kind", "mix of"),
}


def rule(call: Call, _draw: int) -> str:
    """Labels the numbered sentences of a judge's prompt by their words."""
    numbered = re.findall(r"^(\d+): (.*)$", call.prompt, flags=re.MULTILINE)
    sentences = [{"i": int(i), "label": label(text), "reason": "by rule"} for i, text in numbered]
    answered = any(word in text for _, text in numbered for word in ("drum", "flute"))
    return json.dumps({"sentences": sentences, "answered": answered})


def label(sentence: str) -> str:
    for name, words in MARKS.items():
        if any(word in sentence.casefold() for word in words):
            return name
    return "grounded"


@dataclass
class Speaker(ScriptedModel):
    """Gives its lines as draws of sampled requests, the last one to greedy ones."""

    lines: Sequence[str] = ()
    samplings: list[Sampling] = field(default_factory=list)
    sent: list[tuple[Message, ...]] = field(default_factory=list)
    schemas: list[Mapping[str, Any] | None] = field(default_factory=list)

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
        self.samplings.append(sampling)
        self.sent.append(tuple(messages))
        self.schemas.append(response_schema)
        if not self.lines:
            return await super().generate(messages, n=n, sampling=sampling, seed=seed)
        self.calls.append(Call(messages[-1].text, n, seed))
        lines = self.lines[:n] if sampling.temperature else self.lines[-1:]
        return tuple(Completion(text=line, model=self.name) for line in lines)


def says(*lines: str, name: str = "policy@1") -> Speaker:
    """A policy whose last line is its greedy one."""
    return Speaker(lines=lines, name=name)


def replies(*lines: str, name: str = "judge@1") -> Speaker:
    """A judge or rewriter that says its lines in order, the last one for ever."""
    spoken = itertools.chain(lines, itertools.repeat(lines[-1]))
    return Speaker(script=lambda _call, _draw: next(spoken), name=name)


def by_rule() -> Speaker:
    return Speaker(script=rule, name="judge@1")


def sample(answer: str | None = GOLD, *media: MediaRef, **metadata: Any) -> Sample:
    asked = user("Which instrument plays first?", *media)
    return Sample(id="s1", messages=(asked,), answer=answer, metadata=metadata)


def context(
    *answers: str, judge: ChatModel | None = None, rewriter: ChatModel | None = None, **config: Any
) -> CATContext:
    return CATContext(
        policy=says(*answers),
        models={
            "judge": judge or by_rule(),
            "rewriter": rewriter or replies(GOLD, name="rewriter@1"),
        },
        config=CATConfig(**{"num_generations": max(1, len(answers) - 1), **config}),
        sample_id="s1",
        seed=7,
    )


def build(asked: Sample, world: CATContext) -> PreferencePair | DroppedSample:
    (record,) = asyncio.run(walk(build_graph(), asked, world))
    return record


def pair_of(asked: Sample, world: CATContext) -> PreferencePair:
    record = build(asked, world)
    assert isinstance(record, PreferencePair), record
    return record


def test_the_most_ambiguous_answer_is_rejected_and_its_rewriting_chosen() -> None:
    rewriter = replies("A drum plays first. It is on the left, I see.", name="rewriter@1")
    asked = sample(question_type="Audio-Visual/Temporal", about_sound=False)
    pair = pair_of(asked, context(WRONG, VAGUEST, VAGUE, GOLD, rewriter=rewriter))
    assert pair.chosen.text == "A drum plays first. It is on the left, I see."
    assert pair.rejected.text == VAGUEST
    assert pair.prompt == asked.messages
    assert (pair.chosen.score, pair.rejected.score) == (1.0, 0.0)
    assert pair.metadata == {
        "ambiguity": 1.0,
        "sentence_labels": {
            "chosen": ["grounded", "grounded"],
            "rejected": ["useless", "useless"],
        },
    }
    assert pair.lineage.tags == {
        "question_type": "Audio-Visual/Temporal",
        "ambiguity": "uncommitted",
        "chosen": "rewritten",
    }
    assert pair.lineage.judge == "judge@1"
    assert pair.lineage.votes["rewriter"] == {"model": "rewriter@1", "num_invalid": 0}
    votes = pair.lineage.votes["judge"]
    assert [vote["ambiguity"] for vote in votes["answers"]] == [0.5, 1.0, 0.6667, 0.0]
    assert votes["num_invalid"] == 0
    assert pair.lineage.sampling["num_generations"] == 3
    assert pair.lineage.sampling["temperature"] == 1.0


def test_answers_are_sampled_with_the_settings_and_one_is_greedy() -> None:
    world = context(VAGUE, VAGUEST, GOLD)
    pair_of(sample(), world)
    policy = world.policy
    assert isinstance(policy, Speaker)
    assert [call.n for call in policy.calls] == [2, 1]
    assert [(s.temperature, s.top_p) for s in policy.samplings] == [(1.0, 0.9), (0.0, 1.0)]
    assert all(s.max_completion_length == 128 for s in policy.samplings)


def test_without_the_greedy_answer_only_sampled_ones_are_judged() -> None:
    world = context(VAGUE, WRONG, with_greedy=False, num_generations=2)
    pair = pair_of(sample(), world)
    assert len(pair.lineage.votes["judge"]["answers"]) == 2


def test_equal_answers_are_judged_once() -> None:
    judge = by_rule()
    pair_of(sample(), context(VAGUE, VAGUE, VAGUE, VAGUE, judge=judge))
    assert len(judge.calls) == 2  # the answer and the chosen side


def test_judge_and_rewriter_read_the_same_blocks() -> None:
    judge, rewriter = by_rule(), replies(GOLD)
    asked = sample(clues=["a flute plays second"], labels=["drum", "flute"])
    pair_of(asked, context(VAGUEST, VAGUEST, judge=judge, rewriter=rewriter))
    blocks = (
        "Question: Which instrument plays first?\n"
        f"Reference answer: {GOLD}\n"
        "Facts:\n"
        f"- {GOLD}\n"
        "- drum\n"
        "- flute\n"
        "- a flute plays second\n"
        "Answer, sentence by sentence:\n"
        "0: The video has a warm mood.\n"
        "1: It features a mix of sounds.\n"
    )
    assert blocks in judge.calls[0].prompt
    assert blocks in rewriter.calls[0].prompt
    assert "from 6 to 18 words" in rewriter.calls[0].prompt
    schema = judge.schemas[0]
    assert schema is not None
    assert schema["additionalProperties"] is False
    assert rewriter.schemas == [None]


ORDERS = list(itertools.permutations([WRONG, VAGUEST, VAGUE]))


@pytest.mark.parametrize("answers", ORDERS)
def test_the_choice_does_not_depend_on_the_order_of_the_answers(answers: tuple[str, ...]) -> None:
    pair = pair_of(sample(), context(*answers, GOLD))
    assert pair.rejected.text == VAGUEST
    first = pair_of(sample(), context(*ORDERS[0], GOLD))
    assert pair.chosen == first.chosen


def test_on_ties_more_useless_sentences_then_the_first_answer() -> None:
    wrong = "A flute plays first. Right."
    assert pair_of(sample(), context(wrong, VAGUEST, GOLD)).rejected.text == VAGUEST
    other = VAGUEST.replace("warm", "cold")
    assert pair_of(sample(), context(other, VAGUEST, GOLD)).rejected.text == other


@pytest.mark.parametrize(
    ("rejected", "kind"),
    [
        (WRONG, "wrong"),
        (VAGUEST, "uncommitted"),
        ("The drum features here.", "useless"),
    ],
)
def test_the_tag_says_what_is_ambiguous(rejected: str, kind: str) -> None:
    rewriter = replies("not usable " * 20)
    pair = pair_of(sample(), context(rejected, GOLD, rewriter=rewriter))
    assert pair.lineage.tags["ambiguity"] == kind
    assert pair.lineage.tags["chosen"] == "gold"


def test_a_rewriting_of_another_length_is_asked_for_again_then_the_gold_answer_is_taken() -> None:
    rewriter = replies("Drum.", "", name="rewriter@1")
    pair = pair_of(sample(), context(VAGUEST, GOLD, rewriter=rewriter))
    assert pair.chosen.text == GOLD
    assert pair.lineage.votes["rewriter"] == {"model": "rewriter@1", "num_invalid": 2}
    assert "expected 6 to 18 words, found 1" in rewriter.calls[1].prompt
    assert len({call.seed for call in rewriter.calls}) == 2


def test_a_rewriting_that_the_judge_finds_ambiguous_gives_way_to_the_gold_answer() -> None:
    rewriter = replies("A flute plays first on the left side of us.")
    pair = pair_of(sample(), context(VAGUEST, GOLD, rewriter=rewriter))
    assert pair.chosen.text == GOLD
    assert pair.lineage.tags["chosen"] == "gold"


def test_an_answer_whose_judge_is_unreadable_twice_is_left_out_and_counted() -> None:
    def unsure(call: Call, draw: int) -> str:
        return "no idea" if "warm mood" in call.prompt or "cannot be used" in call.prompt else (
            rule(call, draw)
        )  # fmt: skip

    judge = Speaker(script=unsure)
    pair = pair_of(sample(), context(VAGUEST, VAGUE, GOLD, judge=judge))
    assert pair.rejected.text == VAGUE
    assert pair.lineage.votes["judge"]["num_invalid"] == 1
    assert pair.lineage.votes["judge"]["answers"][0] is None


def test_an_invalid_reply_of_the_judge_is_asked_for_once_more() -> None:
    half = '{"sentences": [{"i": 0, "label": "useless", "reason": "mood"}], "answered": false}'
    whole = half.replace("}]", '}, {"i": 1, "label": "useless", "reason": "mix"}]')
    fine = whole.replace("useless", "grounded").replace("false", "true")
    judge = replies(half, f"```json\n{whole}\n```", fine)
    pair = pair_of(sample(), context(VAGUEST, VAGUEST, judge=judge))
    assert pair.metadata["sentence_labels"]["rejected"] == ["useless", "useless"]
    assert "each sentence from 0 to 1, found labels for [0]" in judge.calls[1].prompt


def test_an_empty_answer_qualifies_but_another_one_is_taken() -> None:
    pair = pair_of(sample(), context("", WRONG, GOLD))
    assert pair.rejected.text == WRONG
    assert pair.lineage.votes["judge"]["answers"][0]["ambiguity"] == 1.0


def test_the_rejected_side_is_rewritten_if_wished_and_only_if_it_stays_ambiguous() -> None:
    vague = "Some kind of mood is in this video of sounds."
    kept = replies(GOLD, vague, name="rewriter@1")
    pair = pair_of(sample(), context(VAGUEST, GOLD, rewriter=kept, rewrite_rejected=True))
    assert (pair.chosen.text, pair.rejected.text) == (GOLD, vague)
    assert pair.metadata["sentence_labels"]["rejected"] == ["useless"]
    assert pair.lineage.votes["rewriter"]["rejected"] == VAGUEST
    mended = replies(GOLD, "A drum plays first on the left of it.")
    pair = pair_of(sample(), context(VAGUEST, GOLD, rewriter=mended, rewrite_rejected=True))
    assert pair.rejected.text == VAGUEST
    assert "rejected" not in pair.lineage.votes["rewriter"]


def chosen_never() -> Speaker:
    """A judge to whom everything is useless."""

    def script(call: Call, draw: int) -> str:
        return rule(call, draw).replace("grounded", "useless")

    return Speaker(script=script)


def unreadable_on_chosen() -> Speaker:
    def script(call: Call, draw: int) -> str:
        return rule(call, draw) if "warm mood" in call.prompt else "no JSON"

    return Speaker(script=script, name="judge@1")


def fickle() -> Speaker:
    """Finds the gold answer ambiguous first, and grounded when asked again."""
    seen: list[str] = []

    def script(call: Call, draw: int) -> str:
        text = rule(call, draw)
        seen.append(text)
        return text.replace("grounded", "wrong") if len(seen) == 1 else text

    return Speaker(script=script)


DROPS: dict[str, tuple[Callable[[], Sample], Callable[[], CATContext], str, str]] = {
    "no_answer": (lambda: sample(None), lambda: context(VAGUE, GOLD), "collect_clues", "give it"),
    "no_audio": (
        lambda: sample(question_type="Audio/Counting"),
        lambda: context(VAGUE, GOLD),
        "collect_clues",
        "no audio for s1: the prompt has no sound",
    ),
    "answer_empty": (sample, lambda: context("", " "), "choose_rejected", "nothing in 2 answers"),
    "no_ambiguous_answer": (
        sample,
        lambda: context(GOLD, GOLD),
        "choose_rejected",
        "has 0.00, below 0.5",
    ),
    "judge_invalid": (
        sample,
        lambda: context(VAGUEST, GOLD, judge=replies("no JSON")),
        "choose_rejected",
        "2 of 2 answers were not judged: expected one JSON object",
    ),
    "chosen_ambiguous": (
        sample,
        lambda: context(VAGUEST, GOLD, judge=chosen_never()),
        "judge_chosen",
        "even the gold answer ambiguous",
    ),
    "identical_texts": (
        sample,
        lambda: context(GOLD, GOLD, judge=fickle(), rewriter=replies("")),
        "judge_chosen",
        "the gold answer is the rejected one",
    ),
}


@pytest.mark.parametrize("reason", DROPS)
def test_every_reason_to_drop(reason: str) -> None:
    make_sample, make_context, node, said = DROPS[reason]
    record = build(make_sample(), make_context())
    assert isinstance(record, DroppedSample), record
    assert (record.reason, record.node, record.kind) == (reason, node, "dropped")
    assert said in record.message


def test_a_chosen_side_that_nobody_could_judge_is_dropped_with_the_votes() -> None:
    record = build(sample(), context(VAGUEST, VAGUEST, judge=unreadable_on_chosen()))
    assert isinstance(record, DroppedSample)
    assert (record.reason, record.node) == ("judge_invalid", "judge_chosen")
    assert record.lineage.votes["chosen"] == [None, None]
    assert record.lineage.judge == "judge@1"


def write_wave(path: Path, level: float) -> MediaRef:
    samples = (level * np.sin(np.arange(8000) / 5) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return MediaRef(kind="audio", uri=str(path))


def test_a_question_about_sound_needs_a_sound_that_can_be_heard(tmp_path: Path) -> None:
    loud, silent = write_wave(tmp_path / "a.wav", 0.5), write_wave(tmp_path / "b.wav", 0.0)
    pair = pair_of(sample(GOLD, loud, about_sound=True), context(VAGUEST, GOLD))
    assert pair.media == (loud,)
    record = build(sample(GOLD, silent, about_sound=True), context(VAGUEST, GOLD))
    assert isinstance(record, DroppedSample)
    assert record.reason == "no_audio"
    assert "its peak is 0" in record.message
    pair = pair_of(sample(GOLD, silent, about_sound=False), context(VAGUEST, GOLD))
    assert pair.media == (silent,)


def test_a_clip_without_a_sound_track_is_shown_without_one(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    write_video(path, np.zeros((6, 32, 32, 3), dtype=np.uint8), 6.0)
    seen = MediaRef(kind="video", uri=str(path))
    heard = MediaRef(kind="audio", uri=str(path))
    world = context(VAGUEST, GOLD)
    pair = pair_of(sample(GOLD, seen, heard, question_type="Visual/Location"), world)
    assert pair.media == (seen,)
    assert isinstance(world.policy, Speaker)
    assert world.policy.sent[0][0].media == (seen,)
    record = build(sample(GOLD, seen, heard, modality="Audio-Visual"), context(VAGUEST, GOLD))
    assert isinstance(record, DroppedSample)
    assert record.reason == "no_audio"


def test_a_sound_that_cannot_be_read_is_no_silence(tmp_path: Path) -> None:
    missing = MediaRef(kind="audio", uri=str(tmp_path / "none.wav"))
    with pytest.raises(MediaError, match=r"none\.wav"):
        build(sample(GOLD, missing), context(VAGUEST, GOLD))


@pytest.mark.parametrize("role", ["judge", "rewriter"])
def test_a_missing_model_is_named(role: str) -> None:
    world = context(VAGUEST, GOLD)
    models = {name: model for name, model in world.models.items() if name != role}
    without = CATContext(policy=world.policy, models=models, config=world.config, sample_id="s1")
    with pytest.raises(ConfigError, match=rf"models\.{role}"):
        build(sample(), without)


def test_settings_are_checked() -> None:
    for wrong in (
        {"num_generations": 0},
        {"temperature": 0},
        {"ambiguity_threshold": 0},
        {"max_length_ratio": 0.9},
        {"num_generations": 1, "with_greedy": False},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CATConfig(**wrong)


def test_bounds_of_a_rewriting() -> None:
    assert word_bounds("a b c", min_ratio=0.5, max_ratio=1.5) == (2, 4)
    assert word_bounds("a", min_ratio=0.5, max_ratio=1.5) == (1, 1)
    bounds = word_bounds("a b c", min_ratio=0.5, max_ratio=1.5)
    assert read_rewritten(' "x y" ', "a b c", bounds) == "x y"
    with pytest.raises(ValueError, match="to be written again"):
        read_rewritten("a b c", " a b c", bounds)


def run_node(node: Any, state: CATState, world: CATContext) -> dict[str, Any]:
    result: dict[str, Any] = asyncio.run(node(state, Runtime(context=world)))
    return result


def test_nodes_return_only_what_they_change() -> None:
    world = context(VAGUEST, GOLD)
    state = CATState(sample=sample())
    for node, keys in (
        (cat.collect_clues, {"gold", "clues", "prompt"}),
        (cat.sample_answers, {"answers", "sampling"}),
        (cat.judge_answers, {"judged", "votes"}),
        (cat.choose_rejected, {"rejected", "rejected_judgement"}),
        (cat.rewrite, {"rewritten", "votes"}),
        (cat.judge_chosen, {"chosen", "chosen_source", "chosen_judgement"}),
        (cat.restyle_rejected, set()),
        (cat.write_pair, {"records"}),
    ):
        written = run_node(node, state, world)
        assert written.keys() == keys, node.__name__
        state = CATState(**{**state, **written})  # type: ignore[typeddict-item]  # keys as above
    assert len(state["records"]) == 1


def test_the_drawing_has_stable_names() -> None:
    drawn = build_graph().get_graph()
    assert set(drawn.nodes) == {
        "__start__",
        "collect_clues",
        "sample_answers",
        "judge_answers",
        "choose_rejected",
        "rewrite",
        "judge_chosen",
        "restyle_rejected",
        "write_pair",
        "__end__",
    }


def test_a_run_that_is_resumed_pays_for_nothing_twice(tmp_path: Path) -> None:
    samples = [sample().model_copy(update={"id": f"s{number}"}) for number in range(4)]
    manifest = Manifest(agent="mmalign.agents.cat:build_graph", dataset="tones", seed=3)
    broken = [True]

    def run(judge: Speaker, policy: Speaker) -> Funnel:
        with RunStore(tmp_path) as store:
            return run_agent_blocking(
                build_graph(),
                samples,
                store=store,
                manifest=manifest,
                policy=policy,
                models={"judge": judge, "rewriter": replies(GOLD, name="rewriter@1")},
                config=CATConfig(num_generations=2),
                engine=EngineConfig(max_concurrency=1, max_attempts=1, retry_failed=True),
            )

    def fails_once(call: Call, draw: int) -> str:
        if len(judge.calls) == 12 and broken:
            broken.clear()
            raise MediaError("a passing fault")
        return rule(call, draw)

    judge, policy = Speaker(script=fails_once, name="judge@1"), says(VAGUEST, VAGUE, GOLD)
    first = run(judge, policy)
    assert (first.num_kept, first.num_failed) == (3, 1)
    num_paid, num_asked = first.num_calls, len(judge.calls)
    again = run(judge, policy)
    assert (again.num_kept, again.num_failed) == (4, 0)
    assert len(policy.calls) == 2 * len(samples)  # sampled and greedy, once each
    num_judged = len(judge.calls) - num_asked
    assert num_judged == 1  # only the call that failed
    assert again.num_calls == num_paid + num_judged
    idle = Speaker(script=rule, name="judge@1")
    assert run(idle, says(GOLD)).num_calls == again.num_calls
    assert idle.calls == []


def test_the_bands_world_closes_the_loop_by_rule(tmp_path: Path) -> None:
    """Its exact judge and rewriter read this agent's prompts; no model is asked."""
    samples = [
        found
        for found in bands.read("validation", root=tmp_path, num_samples=12, form="long")
        if gold_answer(found)
    ]
    vague = "there is a mix of shapes and sounds in the video . it might be some kind of ring ."
    for asked in samples:
        world = CATContext(
            policy=says(vague, gold_answer(asked) or ""),
            models={"judge": bands_judge(), "rewriter": bands_rewriter()},
            config=CATConfig(num_generations=1),
            sample_id=asked.id,
        )
        pair = pair_of(asked, world)
        assert pair.rejected.text == vague
        assert pair.metadata["ambiguity"] == 1.0
        assert set(pair.metadata["sentence_labels"]["chosen"]) == {"grounded"}
        assert {media.kind for media in pair.media} == {"video", "audio"}
