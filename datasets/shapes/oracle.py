"""The exact truth about a scene: answers any question of its language and judges any response."""

from dataclasses import replace
from typing import NamedTuple

from mmalign.datasets.shapes.language import (
    NUMBERS,
    THIRD_PERSON,
    Query,
    QuestionType,
    parse_question,
    parse_statement,
    state,
)
from mmalign.datasets.shapes.world import Scene, Shape

__all__ = ["Answer", "Verdict", "answer", "describe", "holds", "judge", "response_to", "truth"]


class Answer(NamedTuple):
    """An answer in both forms."""

    short: str
    """`yes`, `no` or one word."""
    long: str
    """A sentence."""


class Verdict(NamedTuple):
    """Whether a response is right, and if not, why."""

    correct: bool
    reason: str


def answer(scene: Scene, question: str | Query) -> Answer:
    """The right answer to any question of the language.

    Args:
        scene: What the clip shows.
        question: Its text, or what it asks.

    Raises:
        ValueError: The question is not of this language, or asks for what the scene does not
            have (the direction of a shape that stays).
    """
    query = _query_of(question)
    if query.type == "description":
        return Answer("", f"{describe(scene)} .")
    true_claim = truth(scene, query)
    if query.claim is not None and query.type == "existence":
        return response_to(query, query.claim, negated=true_claim != query.claim)
    if true_claim is None:
        raise ValueError(f"scene {scene.id} has no answer to {question!r}; ask what it shows")
    return response_to(query, true_claim)


def response_to(query: Query, claim: str, *, negated: bool = False) -> Answer:
    """The answer of someone who believes a claim, right or wrong.

    Args:
        query: What was asked.
        claim: What is believed of its subject.
        negated: Believed is that there is no such shape (existence only).
    """
    believed = replace(query, claim=claim, negated=negated)
    if query.claim is None:
        return Answer(_one_word(query, claim), f"{state(believed, answers_open=True)} .")
    verdict = "yes" if claim == query.claim and not negated else "no"
    return Answer(verdict, f"{verdict} , {state(believed)} .")


def truth(scene: Scene, query: Query) -> str | None:
    """What is true of a query's subject; None where the scene does not have it."""
    subject = _find(scene, query.subject)
    match query.type:
        case "existence":
            return next((s.kind for s in scene.shapes if s.colour == query.subject), None)
        case "colour":
            return next((s.colour for s in scene.shapes if s.kind == query.subject), None)
        case "count":
            return NUMBERS[len(scene.shapes) - 1]
        case "direction":
            return subject.direction if subject and subject.action == "move" else None
        case "action":
            return subject.action if subject else None
        case "sound":
            return scene.singer.name
        case "order" if query.other:
            other = _find(scene, query.other)
            if subject is None or other is None or subject.appears == other.appears:
                return None
            return "before" if subject.appears < other.appears else "after"
        case "order":
            first, *rest = scene.shapes
            return None if any(s.appears == first.appears for s in rest) else first.name
    return None


def holds(scene: Scene, statement: Query) -> bool:
    """Whether a statement is true; what presupposes something absent is false."""
    if statement.negated:
        return truth(scene, statement) != statement.claim
    if statement.type == "action" and statement.claim == "move":
        shape = _find(scene, statement.subject)
        return shape is not None and shape.direction is not None
    return truth(scene, statement) == statement.claim


def judge(scene: Scene, question: str | Query, response: str) -> Verdict:
    """Whether a response answers a question rightly and says nothing false.

    A response is yes or no, one word, or a sentence; a sentence after yes or no must be true
    as well, so "yes , the circle is blue ." is wrong for a blue square.

    Args:
        scene: What the clip shows.
        question: Its text, or what it asks.
        response: Anything a model may write; what cannot be read is wrong.
    """
    query = _query_of(question)
    gold = answer(scene, query)
    words = response.lower().replace(",", " ").replace(".", " ").split()
    if not words:
        return Verdict(False, "empty")
    if query.type == "description":
        right = " ".join(words) == " ".join(gold.long.replace(",", " ").replace(".", " ").split())
        return Verdict(right, "as described" if right else "another description")
    if not query.is_open:
        verdict, *words = words
        if verdict != gold.short:
            return Verdict(False, f"expected {gold.short}, found {verdict}")
        if not words:
            return Verdict(True, "right word")
    elif len(words) == 1:
        right = words[0] == gold.short
        return Verdict(right, "right word" if right else f"expected {gold.short}, found {words[0]}")
    statement = parse_statement(" ".join(words))
    if statement is None:
        return Verdict(False, "not a sentence of this language")
    if statement.type != query.type:
        return Verdict(False, f"speaks of {statement.type}, asked for {query.type}")
    right = holds(scene, statement)
    return Verdict(right, "true" if right else f"false, right is: {gold.long}")


def describe(scene: Scene) -> str:
    """All that happens, in order of appearance, without a full stop."""
    clauses: list[str] = []
    for place, shape in enumerate(scene.shapes):
        later = place > 0 and shape.appears > scene.shapes[place - 1].appears
        way = f" {shape.direction}" if shape.action == "move" else ""
        song = " and sings" if shape.sings else ""
        clauses.append(
            f"{'then ' if later else ''}a {shape.name} {THIRD_PERSON[shape.action]}{way}{song}"
        )
    return " , ".join(clauses)


def _one_word(query: Query, claim: str) -> str:
    naming: tuple[QuestionType, ...] = ("sound", "order")
    if query.type in naming:
        return claim.split()[-1]
    return THIRD_PERSON[claim] if query.type == "action" else claim  # type: ignore[index]  # an Action


def _find(scene: Scene, name: str) -> Shape | None:
    return next((shape for shape in scene.shapes if shape.name == name), None)


def _query_of(question: str | Query) -> Query:
    if isinstance(question, Query):
        return question
    query = parse_question(question)
    if query is None:
        raise ValueError(f"{question!r} is not a question of the shapes world; see TEMPLATES")
    return query
