"""What a judge is told of a question's answer."""

from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.records import Sample, user
from mmalign.selection.clues import clues_of


def sample(answer: str | None = None, **fields: Any) -> Sample:
    return Sample(id="s1", messages=(user("How many?"),), answer=answer, **fields)


def test_clues_come_from_every_place_once() -> None:
    asked = sample(
        "There are  two.",
        choices=("one", "two"),
        answer_index=1,
        metadata={"correct_answer": "two", "labels": ["drum"], "clues": ["drum", "a flute"]},
    )
    assert clues_of(asked) == ("There are two.", "two", "drum", "a flute")
    assert clues_of(sample()) == ()


@pytest.mark.parametrize("wrong", ["drum", [1], {"a": 1}])
def test_clues_are_a_list_of_texts(wrong: Any) -> None:
    with pytest.raises(RecordError, match=r"sample 's1': metadata\.clues is .* list of texts"):
        clues_of(sample("two", metadata={"clues": wrong}))
