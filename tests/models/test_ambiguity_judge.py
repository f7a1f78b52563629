"""What a judge is asked, and what of its replies is taken."""

import asyncio
import json

import pytest

from mmalign.models.ambiguity_judge import answer_blocks, judge_answer, read_judgement
from mmalign.selection.ambiguity import JudgedAnswer
from mmalign.testing.models import ScriptedModel


def reply(*labels: str, answered: object = True, first: int = 0) -> str:
    sentences = [{"i": first + i, "label": label, "reason": "so"} for i, label in enumerate(labels)]
    return json.dumps({"sentences": sentences, "answered": answered})


def test_counts_follow_the_labels() -> None:
    judgement = read_judgement(f"Here: {reply('grounded', 'wrong', 'useless', 'useless')}", 4)
    assert judgement.labels == ("grounded", "wrong", "useless", "useless")
    assert judgement.counts == JudgedAnswer(grounded=1, wrong=1, useless=2, answered=True)
    assert judgement.counts.ambiguity == 0.75


def test_labels_are_sorted_by_sentence() -> None:
    text = json.dumps(
        {
            "sentences": [
                {"i": 1, "label": "wrong", "reason": ""},
                {"i": 0, "label": "grounded", "reason": ""},
            ],
            "answered": False,
        }
    )
    assert read_judgement(text, 2).labels == ("grounded", "wrong")


@pytest.mark.parametrize(
    ("text", "num_sentences", "said"),
    [
        ("", 1, "expected one JSON object"),
        ("[1]", 1, "expected one JSON object"),
        (reply("good"), 1, "expected one JSON object"),
        (reply("wrong", answered="perhaps"), 1, "expected one JSON object"),
        (reply("wrong")[:-1] + ', "more": 1}', 1, "expected one JSON object"),
        (reply("wrong"), 2, r"from 0 to 1, found labels for \[0\]"),
        (reply("wrong", "wrong"), 1, r"from 0 to 0, found labels for \[0, 1\]"),
        (reply("wrong", first=1), 1, r"found labels for \[1\]"),
    ],
)
def test_replies_that_cannot_be_used(text: str, num_sentences: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_judgement(text, num_sentences)


def test_every_text_stands_on_one_line() -> None:
    blocks = answer_blocks("What\nplays?", "A drum.", ["a\n drum"], ["It\tis . "])
    assert blocks.splitlines() == [
        "Question: What plays?",
        "Reference answer: A drum.",
        "Facts:",
        "- a drum",
        "Answer, sentence by sentence:",
        "0: It is .",
    ]


def test_an_answer_without_a_sentence_is_ambiguous_without_being_sent() -> None:
    judge = ScriptedModel()
    found = asyncio.run(
        judge_answer(judge, " ", question="?", gold="x", clues=[], draw_seed=lambda _: 0)
    )
    assert found.value is not None
    assert found.value.counts.ambiguity == 1.0
    assert found.value.counts.ambiguous
    assert judge.calls == []
