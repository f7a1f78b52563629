"""The judge is exact: right answers are grounded, wrong ones wrong, vague ones useless."""

import asyncio
import json
import re
from typing import Any

import numpy as np
import pytest

from mmalign.api import CapabilityError, ChatModel, ConfigError, Sampling, text_of
from mmalign.datasets.bands.facts import Facts, answer, clues, facts_of, response_to
from mmalign.datasets.bands.judge import (
    HEDGES,
    RuleModel,
    judge,
    judge_sentence,
    rewriter,
)
from mmalign.datasets.bands.language import Query, parse_question
from mmalign.datasets.bands.questions import vague_answer
from mmalign.datasets.bands.reader import questions_of, scenes_of
from mmalign.datasets.bands.world import Beats

DUET = Facts(
    seen={"ring": "left", "bar": "right"},
    played={"ring": Beats(2, 3), "pole": Beats(1, 1)},
    louder=frozenset({("pole", "ring")}),
)
"""A ring on the left and a pole off screen play; a bar on the right is silent."""


def sentences(text: str) -> list[str]:
    return [f"{part} ." for part in re.split(r" [.?] ?", text) if part]


def prompt(facts: Facts, question: str, reference: str, said: list[str]) -> str:
    return "\n".join(
        (
            "Label every sentence.",
            f"Question: {question}",
            f"Reference answer: {reference}",
            "Facts:",
            *(f"- {clue}" for clue in clues(facts)),
            "Answer, sentence by sentence:",
            *(f"{place}: {sentence}" for place, sentence in enumerate(said)),
            "",
            "Reply with JSON.",
        )
    )


def ask(model: RuleModel, text: str) -> str:
    (completion,) = asyncio.run(model.generate([text_of(text, "user")]))
    assert completion.model == model.name
    return completion.text


def verdict(facts: Facts, question: str, said: list[str]) -> Any:
    return json.loads(ask(judge(), prompt(facts, question, "", said)))


def rewritten(facts: Facts, question: str, said: list[str]) -> str:
    query = parse_question(question)
    assert query is not None
    return ask(rewriter(), prompt(facts, question, answer(facts, query).long, said))


def asked() -> list[tuple[Facts, Query, str, str, str]]:
    return [
        (facts_of(scene), one.query, one.text, one.answer_short, one.answer_long)
        for scene, questions in zip(
            scenes_of("validation"), questions_of("validation"), strict=True
        )
        for one in questions
    ]


def test_both_are_chat_models_of_text() -> None:
    for model in (judge(), rewriter()):
        assert isinstance(model, ChatModel)
        assert model.capabilities == {"text", "schema"}


def test_gold_answers_are_grounded_and_answered() -> None:
    for facts, _, text, short, long in asked():
        for said in (sentences(long), [short]):
            found = verdict(facts, f"{text} answer in a sentence .", said)
            assert {one["label"] for one in found["sentences"]} == {"grounded"}
            assert found["answered"]


def test_wrong_answers_are_never_grounded() -> None:
    for facts, query, _, short, _ in asked():
        for wrong in set(query.classes) - {short}:
            for sentence in (wrong, response_to(facts, query, wrong)):
                found = judge_sentence(facts, query, sentence)
                assert (found.label, found.commits) == ("wrong", True), sentence


def test_vague_answers_are_useless_but_for_what_is_true_in_them() -> None:
    for number, (scene, questions) in enumerate(
        zip(scenes_of("validation"), questions_of("validation"), strict=True)
    ):
        facts = facts_of(scene)
        for question in questions:
            vague = vague_answer(np.random.default_rng(number), facts, question)
            found = verdict(facts, question.text, sentences(vague))
            labels = [one["label"] for one in found["sentences"]]
            assert "wrong" not in labels
            assert labels.count("useless") / len(labels) >= 0.5
            first = sentences(question.answer_long)[0]
            assert found["answered"] == (first in sentences(vague))


@pytest.mark.parametrize("hedge", HEDGES)
def test_a_hedge_makes_the_truth_useless(hedge: str) -> None:
    found = judge_sentence(DUET, Query("where", "ring"), f"{hedge} the ring is seen on the left .")
    assert (found.label, found.commits) == ("useless", False)
    assert hedge in found.reason


@pytest.mark.parametrize(
    ("question", "sentence", "label", "answered"),
    [
        ("where is the ring ?", "The ring is seen on the left.", "grounded", True),
        ("where is the ring ?", "the ring on the left plays .", "grounded", True),
        ("where is the ring ?", "the ring plays .", "grounded", False),
        ("where is the ring ?", "left .", "grounded", True),
        ("where is the ring ?", "two .", "useless", False),
        ("where is the ring ?", "yes .", "useless", False),
        ("where is the ring ?", "where is the ring ?", "useless", False),
        ("where is the ring ?", "the bar is seen in the middle .", "wrong", False),
        ("is a bar heard ?", "no , no bar is heard .", "grounded", True),
        ("is a bar heard ?", "no bar is heard .", "grounded", True),
        ("is a bar heard ?", "yes , no bar is heard .", "wrong", True),
        ("is a bar heard ?", "no , the pole is silent .", "wrong", True),
        ("is a bar heard ?", "no , it is a nice scene .", "useless", False),
        ("is a bar heard ?", "the bar is silent .", "grounded", True),
        ("is a bar heard ?", "the bar plays first .", "wrong", True),
        ("is a bar heard ?", "no", "grounded", True),
        ("is the pole louder than the ring ?", "the ring is louder than the pole .", "wrong", True),
        ("does a sound come from off screen ?", "the pole off screen plays .", "grounded", True),
        (
            "does the shape on the right play ?",
            "the bar on the right is silent .",
            "grounded",
            True,
        ),
        ("does the shape on the right play ?", "the bar is silent .", "grounded", False),
        ("how many sounds are heard ?", "the number of seen shapes is two .", "grounded", False),
        ("what is the weather like ?", "the ring plays .", "grounded", False),
        ("what is the weather like ?", "", "useless", False),
    ],
)
def test_sentences_by_hand(question: str, sentence: str, label: str, answered: bool) -> None:
    found = verdict(DUET, question, [sentence])
    assert [one["label"] for one in found["sentences"]] == [label]
    assert found["sentences"][0]["i"] == 0
    assert found["answered"] is answered


def test_an_answer_without_sentences_is_not_answered() -> None:
    assert verdict(DUET, "is a bar heard ?", []) == {"sentences": [], "answered": False}


def test_the_last_blocks_count() -> None:
    example = prompt(DUET, "is a pole heard ?", "yes", ["the moon shines ."])
    real = prompt(DUET, "is a bar heard ?", "no", ["the bar is silent .", "it is nice ."])
    found = json.loads(ask(judge(), f"{example}\n{real}"))
    assert [one["label"] for one in found["sentences"]] == ["grounded", "useless"]


def test_rewritten_answers_are_grounded_committed_and_of_like_length() -> None:
    num_near = 0
    for number, (facts, query, text, short, _) in enumerate(asked()):
        wrong = next(name for name in query.classes if name != short)
        said = [
            ["it is a nice scene .", "the sounds make a lively mood ."],
            [response_to(facts, query, wrong), "many things happen at once ."],
            ["maybe it is so .", response_to(facts, query, short)],
        ][number % 3]
        found = sentences(rewritten(facts, text, said))
        judged = [judge_sentence(facts, query, sentence) for sentence in found]
        assert {one.label for one in judged} == {"grounded"}
        assert judged[0].commits
        ratio = sum(len(s.split()) for s in found) / sum(len(s.split()) for s in said)
        assert ratio >= 0.5
        num_near += ratio <= 1.5
    assert num_near / len(asked()) > 0.95


def test_a_rewritten_answer_names_one_possible_answer() -> None:
    for facts, query, text, _, long in asked():
        said = ["many things happen at once .", "there is a mix of shapes and sounds ."] * 2
        words = set(rewritten(facts, text, said).split())
        assert words & set(query.classes) <= set(long.split())


def test_true_sentences_are_kept() -> None:
    said = ["it is a nice scene .", "the bar is silent .", "the ring on the left plays ."]
    text = rewritten(DUET, "where is the ring ?", said)
    assert text.startswith("the ring on the left plays . the bar is silent .")


def test_a_foreign_question_gets_the_reference_answer() -> None:
    text = prompt(DUET, "what is the weather like ?", "the sun shines .", ["it is nice ."])
    assert ask(rewriter(), text) == "the sun shines ."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Label this.", "no line 'Question:'"),
        ("Question: q\nReference answer: r\nFacts:\n- it rains", "no line 'Answer, sentence by"),
        (
            "Question: q\nReference answer: r\nFacts:\n- it rains\nAnswer, sentence by sentence:",
            "hold no sentence of the bands world",
        ),
    ],
)
def test_a_prompt_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask(judge(), text)


def test_rules_have_no_log_probabilities() -> None:
    messages = [text_of("?", "user")]
    with pytest.raises(CapabilityError, match="no log-probabilities; score with"):
        asyncio.run(judge().score(messages, "x"))
    with pytest.raises(CapabilityError, match="no tools and no log-probabilities"):
        asyncio.run(judge().generate(messages, sampling=Sampling(logprobs=True)))
