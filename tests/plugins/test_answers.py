"""Reading answers: which are right, and how wrong ones are put into the gold wording."""

from typing import Any

import pytest

from mmalign.agents.answers import (
    answer_form,
    coverage,
    error_category,
    gold_answer,
    in_gold_form,
    is_right,
    like_gold,
    normalise,
    option_of,
    same_skeleton,
    yes_or_no,
)
from mmalign.api import Sample, differing_spans, user

CHOICES = ("running", "swimming", "sitting down")


def sample(answer: str | None = "red", **fields: Any) -> Sample:
    return Sample(id="s", messages=(user("What colour is it?"),), answer=answer, **fields)


def form_of(asked: Sample) -> Any:
    gold = gold_answer(asked)
    assert gold is not None
    return answer_form(asked, gold, short_answer_words=3)


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        (sample("B", choices=CHOICES), "multiple_choice"),
        (sample("Yes."), "yes_no"),
        (sample("a red ball"), "short"),
        (sample("The ball rolls to the left."), "long"),
        (sample("yes , the ball is red ."), "long"),
    ],
)
def test_the_gold_answer_decides_the_form(asked: Sample, form: str) -> None:
    assert form_of(asked) == form


def test_gold_answer_falls_back_on_the_right_choice() -> None:
    assert gold_answer(sample(None, choices=CHOICES, answer_index=1)) == "swimming"
    assert gold_answer(sample("  ")) is None
    assert gold_answer(sample(None, choices=CHOICES)) is None


def test_normalise_drops_case_marks_and_articles_but_never_all_words() -> None:
    assert normalise("The  RED ball, two times!") == "red ball 2 times"
    assert normalise("A.") == "a"
    assert normalise("3.5 m") == "3.5 m"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes, it does.", "yes"),
        ("I think no", "no"),
        ("No, although others say yes", "no"),
        ("It may be yes or no", None),
        ("The ball", None),
    ],
)
def test_yes_or_no(text: str, said: str | None) -> None:
    assert yes_or_no(text) == said


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1),
        ("(b)", 1),
        ("B. running", 1),
        ("The answer is C.", 2),
        ("Answer: A", 0),
        ("The answer is A cat", None),
        ("I choose option B because he swims", 1),
        ("Swimming.", 1),
        ("The man is sitting down", 2),
        ("running or swimming", None),
        ("A man flies", None),
        ("D", None),
    ],
)
def test_option_of(text: str, index: int | None) -> None:
    assert option_of(text, CHOICES) == index
    assert option_of(text, [f"{x}. {c}" for x, c in zip("ABC", CHOICES, strict=True)]) == index


@pytest.mark.parametrize(
    ("asked", "response", "right"),
    [
        (sample("red"), "The answer is: Red.", True),
        (sample("two"), "2", True),
        (sample("red"), "dark red", False),
        (sample("No"), "no, there is not", True),
        (sample("No"), "yes", False),
        (sample("B", choices=CHOICES), "swimming", True),
        (sample(None, choices=CHOICES, answer_index=1), "(B)", True),
        (sample("B", choices=CHOICES), "C", False),
        (sample("the ball is red ."), "The ball is red.", True),
    ],
)
def test_is_right(asked: Sample, response: str, right: bool) -> None:
    gold = gold_answer(asked)
    assert gold is not None
    assert is_right(asked, gold, response, form_of(asked)) is right


@pytest.mark.parametrize(
    ("asked", "response", "rejected"),
    [
        (sample("red"), "It is Blue.", "blue"),
        (sample("It is red."), "Blue", "It is blue."),
        (sample("A ball"), "cube", "A cube"),
        (sample("ball"), "an orange", "orange"),
        (sample("an apple"), "a pear", "a pear"),
        (sample("red"), "TV", "TV"),
        (sample("Yes."), "no, it does not", "No."),
        (sample("B", choices=CHOICES), "sitting down", "C"),
        (sample("(B) swimming", choices=CHOICES), "The answer is A", "(A) running"),
        (sample("Swimming", choices=CHOICES), "C", "Sitting down"),
    ],
)
def test_a_wrong_response_takes_the_gold_wording(
    asked: Sample, response: str, rejected: str
) -> None:
    gold = gold_answer(asked)
    assert gold is not None
    found = in_gold_form(asked, gold, response, form_of(asked), short_answer_words=3)
    assert found == rejected


@pytest.mark.parametrize(
    ("asked", "response"),
    [
        (sample("red"), "The ball is dark red"),  # holds the gold answer: may be right
        (sample("red"), "a man walks slowly over the wide green field"),
        (sample("red"), "?!"),
        (sample("yes"), "the ball"),
        (sample("B", choices=CHOICES), "flying"),
    ],
)
def test_an_unclear_response_is_not_taken_for_a_wrong_one(asked: Sample, response: str) -> None:
    assert asked.answer is not None
    form = form_of(asked)
    assert in_gold_form(asked, asked.answer, response, form, short_answer_words=3) is None


def test_like_gold_takes_end_mark_and_case() -> None:
    assert like_gold("yes , it is red .", "No , it is blue") == "no , it is blue."
    assert like_gold("It is red", "it is blue!") == "It is blue"


@pytest.mark.parametrize(
    ("wrong", "same"),
    [
        ("no , the ball is blue .", True),
        ("yes , the ball is red .", False),  # nothing differs
        ("yes , the big ball is red .", False),  # one word more
        ("yes .", False),
        ("no , one cube was green !", False),  # too much differs
    ],
)
def test_same_skeleton(wrong: str, same: bool) -> None:
    assert same_skeleton("yes , the ball is red .", wrong, max_coverage=0.6) is same


def test_coverage_counts_characters() -> None:
    spans = differing_spans("a red ball", "a blue ball")
    assert coverage("a red ball", spans.chosen) == pytest.approx(3 / 10)


@pytest.mark.parametrize(
    ("question", "wrong", "metadata", "category"),
    [
        ("Which shape is it?", "circle", {"question_type": "order"}, "spatio-temporal"),
        ("Does the man fall before the dog barks?", "yes", {}, "spatio-temporal"),
        ("Is there a dog?", "Yes, there is a dog.", {}, "co-occurrence"),
        ("Is there a dog?", "No.", {}, "language prior"),
        ("Who makes it?", "the red one", {"question_type": "sound"}, "co-occurrence"),
        ("What colour is the banana?", "yellow", {}, "language prior"),
        ("Is there a dog?", "yes", {"error_category": "language prior"}, "language prior"),
        ("How many dogs are there?", "2", {"error_category": "other"}, "spatio-temporal"),
    ],
)
def test_error_category(question: str, wrong: str, metadata: dict[str, Any], category: str) -> None:
    assert error_category(question, wrong, metadata) == category
