"""Questions about a scene: truthful and hallucinated twins, open questions, a description."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

from numpy.random import Generator

from mmalign.datasets.shapes.language import (
    Query,
    QuestionType,
    ask,
    templates_of,
    values_of,
)
from mmalign.datasets.shapes.oracle import Answer, answer, holds, response_to, truth
from mmalign.datasets.shapes.world import COLOURS, KINDS, Scene

__all__ = ["CATEGORIES", "Question", "Role", "draw_questions"]

T = TypeVar("T")

Role = Literal["basic", "hallucinated", "open"]

CATEGORIES: dict[QuestionType, str] = {
    "existence": "object_relation",
    "sound": "object_relation",
    "direction": "temporal",
    "action": "temporal",
    "order": "temporal",
    "colour": "semantic_detail",
    "count": "semantic_detail",
    "description": "description",
}
"""VideoHallucer's category of each type."""


@dataclass(frozen=True)
class Question:
    """A question with its right answer and a wrong one that differs only in what is wrong."""

    query: Query
    role: Role
    text: str
    answer_short: str
    answer_long: str
    wrong_short: str
    wrong_long: str
    """Empty for descriptions."""

    @property
    def type(self) -> QuestionType:
        """What it is about."""
        return self.query.type


def draw_questions(rng: Generator, scene: Scene) -> list[Question]:
    """All kinds of question that a scene can be asked, one twin pair and one open one of each.

    Args:
        rng: Chooses shapes, false claims and wordings; nothing else depends on chance.
        scene: What the clip shows.

    Returns:
        Pairs of twins, basic before hallucinated and worded alike; open questions; last the
        description. Types that the scene has no matter for are left out.
    """
    questions: list[Question] = []
    for twins in _draw_twins(rng, scene):
        true, false = twins.true, twins.false
        wording = int(rng.integers(len(templates_of(true))))
        denied = response_to(true, twins.lie, negated=true.type == "existence")
        claimed = response_to(false, str(false.claim))
        questions.append(_question(scene, true, "basic", wording, denied))
        questions.append(_question(scene, false, "hallucinated", wording, claimed))
    for query in _open_queries(rng, scene):
        wording = int(rng.integers(len(templates_of(query))))
        wrong = response_to(query, _pick(rng, _false_claims(scene, query)))
        questions.append(_question(scene, query, "open", wording, wrong))
    description = Query("description")
    return [*questions, _question(scene, description, "open", 0, Answer("", ""))]


class _Twins(NamedTuple):
    true: Query
    false: Query
    lie: str
    """What is claimed by who denies the true one."""


def _question(scene: Scene, query: Query, role: Role, wording: int, wrong: Answer) -> Question:
    gold = answer(scene, query)
    text = ask(query, templates_of(query)[wording])
    return Question(query, role, text, gold.short, gold.long, wrong.short, wrong.long)


def _draw_twins(rng: Generator, scene: Scene) -> Iterator[_Twins]:
    """A true claim and a false one of every type."""
    for query in _open_queries(rng, scene):
        claim = truth(scene, query)
        if query.type == "order" or claim is None:
            continue
        true = replace(query, claim=claim)
        if query.type == "existence":
            yield _Twins(true, _absent(rng, scene, query.subject), claim)
        else:
            lie = _pick(rng, _false_claims(scene, query))
            yield _Twins(true, replace(query, claim=lie), lie)
    pairs = [
        (first.name, second.name)
        for place, first in enumerate(scene.shapes)
        for second in scene.shapes[place + 1 :]
        if first.appears < second.appears
    ]
    if pairs:
        first, second = _pick(rng, pairs)
        told = [Query("order", first, "before", second), Query("order", second, "after", first)]
        untold = [Query("order", first, "after", second), Query("order", second, "before", first)]
        true = _pick(rng, told)
        yield _Twins(true, _pick(rng, untold), "after" if true.claim == "before" else "before")


def _open_queries(rng: Generator, scene: Scene) -> Iterator[Query]:
    yield Query("existence", _pick(rng, scene.shapes).colour)
    yield Query("colour", _pick(rng, scene.shapes).kind)
    yield Query("count")
    if movers := [shape for shape in scene.shapes if shape.action == "move"]:
        yield Query("direction", _pick(rng, movers).name)
    yield Query("action", _pick(rng, scene.shapes).name)
    if len(scene.shapes) > 1:
        yield Query("sound")
        if truth(scene, Query("order")):
            yield Query("order")


def _false_claims(scene: Scene, query: Query) -> list[str]:
    """What could be believed and is false; names are those of shapes that are there."""
    claims = list(values_of(query))
    if query.type in ("sound", "order"):
        claims = [shape.name for shape in scene.shapes]
    return [claim for claim in claims if not holds(scene, replace(query, claim=claim))]


def _absent(rng: Generator, scene: Scene, colour: str) -> Query:
    """A shape that is not there: only its kind, only its colour, or both are strange."""
    strange_kinds = [kind for kind in KINDS if kind not in {s.kind for s in scene.shapes}]
    strange_colours = [c for c in COLOURS if c not in {s.colour for s in scene.shapes}]
    kinds = [shape.kind for shape in scene.shapes]
    match int(rng.integers(3)):
        case 0:
            return Query("existence", colour, _pick(rng, strange_kinds))
        case 1:
            return Query("existence", _pick(rng, strange_colours), _pick(rng, kinds))
        case _:
            return Query("existence", _pick(rng, strange_colours), _pick(rng, strange_kinds))


def _pick(rng: Generator, options: "list[T] | tuple[T, ...]") -> T:
    return options[int(rng.integers(len(options)))]
