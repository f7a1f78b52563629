"""Questions read back as they were asked; the oracle knows the truth and spots every lie."""

from collections import Counter

import numpy as np
import pytest

from mmalign.datasets.shapes.language import (
    QUESTION_TYPES,
    Query,
    parse_question,
    parse_statement,
    state,
)
from mmalign.datasets.shapes.oracle import answer, judge
from mmalign.datasets.shapes.questions import Question, draw_questions
from mmalign.datasets.shapes.world import NUM_FRAMES, Scene, Shape, draw_scene

DUO = Scene(
    "duo",
    (
        Shape("circle", "red", "move", "left", 40.0, 20.0, 1.5, 0, NUM_FRAMES, sings=False),
        Shape("ring", "blue", "grow", None, 20.0, 48.0, 0.0, 4, NUM_FRAMES, sings=True),
    ),
    shade=20,
)
"""A red circle moves left, then a blue ring grows and sings."""


def drawn(number: int) -> list[tuple[Scene, Question]]:
    pairs = []
    for i in range(number):
        scene = draw_scene(np.random.default_rng((8, i)))
        pairs += [(scene, q) for q in draw_questions(np.random.default_rng((9, i)), scene)]
    return pairs


@pytest.mark.parametrize(
    ("question", "short", "long"),
    [
        ("is there a red circle in the video ?", "yes", "yes , there is a red circle ."),
        ("does a red ring appear in the video ?", "no", "no , there is no red ring ."),
        ("which shape is blue ?", "ring", "the blue shape is a ring ."),
        ("is the circle red ?", "yes", "yes , the circle is red ."),
        ("is the colour of the circle blue ?", "no", "no , the circle is red ."),
        ("what colour is the ring ?", "blue", "the ring is blue ."),
        ("is the number of shapes three ?", "no", "no , the number of shapes is two ."),
        ("how many shapes are there ?", "two", "the number of shapes is two ."),
        ("does the red circle move right ?", "no", "no , the red circle moves left ."),
        ("which way does the red circle move ?", "left", "the red circle moves left ."),
        (
            "does the blue ring appear before the red circle ?",
            "no",
            "no , the blue ring appears after the red circle .",
        ),
        ("what appears first ?", "circle", "the red circle appears first ."),
        ("does the blue ring vanish ?", "no", "no , the blue ring grows ."),
        ("what happens to the blue ring ?", "grows", "the blue ring grows ."),
        ("does the red circle sing ?", "no", "no , the blue ring sings ."),
        ("Who makes the sound?", "ring", "the blue ring sings ."),
        (
            "describe the video .",
            "",
            "a red circle moves left , then a blue ring grows and sings .",
        ),
    ],
)
def test_worked_by_hand(question: str, short: str, long: str) -> None:
    assert answer(DUO, question) == (short, long)


@pytest.mark.parametrize(
    ("question", "response", "correct"),
    [
        ("is the circle red ?", "yes", True),
        ("is the circle red ?", "Yes, the circle is red.", True),
        ("is the circle red ?", "yes , the circle is blue .", False),
        ("is the circle blue ?", "no , the circle is red .", True),
        ("is the circle blue ?", "no , the circle is green .", False),
        ("is the circle blue ?", "yes , the circle is blue .", False),
        ("is the circle red ?", "yes , the number of shapes is two .", False),
        ("is the circle red ?", "", False),
        ("is the circle red ?", "perhaps", False),
        ("is there a red ring in the video ?", "no , there is no red ring .", True),
        ("is there a red ring in the video ?", "no , there is no blue ring .", False),
        ("what does the red circle do ?", "moves", True),
        ("what does the red circle do ?", "the red circle grows .", False),
        ("what does the red circle do ?", "the circle the circle", False),
        ("describe the video .", "a blue ring grows .", False),
    ],
)
def test_judges_responses(question: str, response: str, correct: bool) -> None:
    verdict = judge(DUO, question, response)
    assert verdict.correct is correct, verdict.reason


def test_every_drawn_question_is_read_back() -> None:
    for _, question in drawn(100):
        assert parse_question(question.text) == question.query


def test_gold_answers_are_true_and_wrong_ones_false() -> None:
    for scene, question in drawn(100):
        assert judge(scene, question.text, question.answer_long).correct
        if question.type != "description":
            assert judge(scene, question.text, question.answer_short).correct
            assert not judge(scene, question.text, question.wrong_short).correct
            assert not judge(scene, question.text, question.wrong_long).correct


def test_right_and_wrong_sentences_differ_in_words_not_in_length() -> None:
    for _, question in drawn(100):
        right, wrong = question.answer_long.split(), question.wrong_long.split()
        if question.type != "description":
            assert len(right) == len(wrong)
            assert 1 <= sum(a != b for a, b in zip(right, wrong, strict=True)) <= 4


def test_twins_are_worded_alike_and_answered_yes_and_no() -> None:
    scene = draw_scene(np.random.default_rng(3))
    for i in range(50):
        questions = draw_questions(np.random.default_rng(i), scene)
        basic = {q.type: q for q in questions if q.role == "basic"}
        twins = {q.type: q for q in questions if q.role == "hallucinated"}
        assert basic.keys() == twins.keys()
        for name, question in basic.items():
            assert (question.answer_short, twins[name].answer_short) == ("yes", "no")
            assert len(question.text.split()) == len(twins[name].text.split())


def test_every_type_is_asked_in_every_role() -> None:
    seen = Counter((question.type, question.role) for _, question in drawn(100))
    for name in QUESTION_TYPES:
        assert seen[name, "open"] > 0
        if name != "description":
            assert seen[name, "basic"] == seen[name, "hallucinated"] > 0


def test_statements_are_read_back() -> None:
    query = Query("order", "red circle", "before", "blue ring")
    assert parse_statement(state(query) + " .") == query
    assert parse_statement("there is no red ring .") == Query(
        "existence", "red", "ring", negated=True
    )
    assert parse_statement("the sky is blue .") is None


def test_a_foreign_question_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a question of the shapes world"):
        answer(DUO, "is it raining ?")
    with pytest.raises(ValueError, match="has no answer"):
        answer(DUO, "where does the blue ring move ?")
