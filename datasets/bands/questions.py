"""Questions about a scene, so chosen that what is usually right is not worth guessing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

from numpy.random import Generator

from mmalign.datasets.bands.facts import Facts, answer, clues, implied_answer, truth
from mmalign.datasets.bands.language import ASKS, Ask, Query, ask, parse_statement
from mmalign.datasets.bands.world import PLACES
from mmalign.datasets.shapes.world import KINDS

__all__ = [
    "DESCRIPTIONS",
    "Question",
    "Taken",
    "draw_questions",
    "pick",
    "vague_answer",
    "vague_words",
]

T = TypeVar("T")
Taken = Counter[tuple[str, str]]
"""How often each answer was right so far, by what was asked."""

DESCRIPTIONS = (
    "describe what is seen .",
    "describe what is heard .",
    "describe what is seen and heard .",
)

_SLACK = 1
"""An answer may be ahead of the rarest one by so many."""

_OFTEN: tuple[Ask, ...] = (
    *("heard_count", "heard", "seen_count", "seen", "where", "which_at"),
    *("plays_at", "off_screen"),
)
"""What nearly every scene can be asked; half of the scenes are."""

_MOODS = (
    "there is a mix of shapes and sounds in the video .",
    "the video features some shapes and some music .",
    "many things happen at once .",
    "the sounds make a lively mood .",
    "it is a nice scene .",
)
_HEDGED = (
    "it might be some kind of {answer} .",
    "maybe it is {answer} .",
    "it is possibly {answer} .",
    "perhaps the answer may be {answer} .",
)
_RESTATED = ("the question is : {question}", "one may ask : {question}")


@dataclass(frozen=True)
class Question:
    """A question with its right answer in both forms."""

    query: Query
    text: str
    answer_short: str
    answer_long: str


def draw_questions(rng: Generator, facts: Facts, taken: Taken) -> list[Question]:
    """At most one question of each kind that fits a scene; of the commonest kinds every other one.

    Args:
        rng: Chooses among questions of a kind, and wordings.
        facts: What the scene shows and lets hear.
        taken: Answers so far, by kind of question; the drawn ones are added. A question whose
            answer is ahead of the rarest one is left out, so that over many scenes no answer is
            likelier than another. What can be seen does not tell what is heard, nor the other
            way round: for these two, shapes that are and are not there are counted apart.
    """
    found: dict[Ask, list[Query]] = {}
    for query in _queries(facts):
        if truth(facts, query) is not None:
            found.setdefault(query.ask, []).append(query)
    questions = []
    for name in ASKS:
        if name not in found:
            continue
        queries = [found[name][place] for place in rng.permutation(len(found[name]))]
        query = min(queries, key=lambda one: _lead(facts, one, taken))
        wording = int(rng.integers(2))
        is_left_out = name in _OFTEN and rng.random() < 0.5
        if not is_left_out and _lead(facts, query, taken) <= _SLACK:
            gold = answer(facts, query)
            taken[_stratum(facts, query), gold.short] += 1
            questions.append(Question(query, ask(query, wording), *gold))
    return questions


def vague_answer(rng: Generator, facts: Facts, question: Question) -> str:
    """What a careless annotator writes: moods, hedges, the question again, truth beside them."""
    gold = question.answer_long.split(" . ")[0].removesuffix(" .") + " ."
    hedged = pick(rng, _HEDGED).format(answer=question.answer_short)
    restated = pick(rng, _RESTATED).format(question=question.text)
    mood, other = (_MOODS[int(place)] for place in rng.permutation(len(_MOODS))[:2])
    claims = {clue: parse_statement(clue) for clue in clues(facts)}
    beside = [
        clue for clue, said in claims.items() if said and not implied_answer(question.query, said)
    ]
    forms = (
        (mood,),
        (mood, other),
        (hedged, mood),
        (restated, hedged),
        (gold, mood),
        (gold, mood, other),
        (pick(rng, beside), mood, other),
    )
    return " ".join(pick(rng, forms))


def pick(rng: Generator, options: "list[T] | tuple[T, ...]") -> T:
    """One of them, each alike."""
    return options[int(rng.integers(len(options)))]


def vague_words() -> str:
    """All words that vague answers add to the language."""
    return " ".join((*_MOODS, *_HEDGED, *_RESTATED)).format(answer="", question="")


def _queries(facts: Facts) -> Iterator[Query]:
    """All questions that could be asked, also those without an answer."""
    for name in ASKS:
        match name:
            case "heard" | "seen" | "where":
                yield from (Query(name, kind) for kind in KINDS)
            case "louder" | "longer":
                yield from (Query(name, a, b) for a, b in permutations(facts.played, 2))
            case "which_at" | "plays_at":
                yield from (Query(name, place=place) for place in PLACES)
            case "louder_at" | "longer_at":
                pairs = permutations(facts.at, 2)
                yield from (Query(name, place=a, other_place=b) for a, b in pairs)
            case _:
                yield Query(name)


def _lead(facts: Facts, query: Query, taken: Taken) -> int:
    """By how much the answer of a question is ahead of the rarest one."""
    stratum = _stratum(facts, query)
    rarest = min(taken[stratum, name] for name in query.classes)
    return taken[stratum, str(truth(facts, query))] - rarest


def _stratum(facts: Facts, query: Query) -> str:
    """What was asked, and what can be known of it by the wrong sense."""
    if query.ask == "heard":
        return f"heard, {'seen' if query.kind in facts.seen else 'unseen'}"
    if query.ask == "seen":
        return f"seen, {'heard' if query.kind in facts.played else 'unheard'}"
    return query.ask
