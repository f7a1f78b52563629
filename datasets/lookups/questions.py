"""What is asked, what is right, and which calls answer it: the tools' own part is known too."""

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from mmalign.datasets.lookups.world import (
    Document,
    Person,
    Place,
    Split,
    city_document,
    person_document,
    town_document,
    world_of,
)

__all__ = ["KINDS", "Kind", "Question", "ToolUse", "questions_of"]

Kind = Literal["easy_sum", "hard_sum", "city", "person", "two_hop"]
KINDS: tuple[Kind, ...] = ("easy_sum", "hard_sum", "city", "person", "two_hop")

_SEEDS: dict[Split, int] = {"lessons": 411, "train": 412, "validation": 413, "test": 414}
_NUM_HARD_SUMS: dict[Split, int] = {"lessons": 2000, "train": 600, "validation": 80, "test": 300}
_PARTS: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.5),
    "validation": (0.5, 0.6),
    "test": (0.6, 1.0),
    "lessons": (0.0, 1.0),
}
"""Shares of the easy sums and the cities, which the lessons have all of."""
_MOST_OF_A_KIND: dict[Split, int] = {"lessons": 5000, "train": 600, "validation": 80, "test": 300}


class ToolUse(NamedTuple):
    """A call that helps, and what comes of it."""

    tool: Literal["calculator", "search"]
    query: str
    output: str


class Question(NamedTuple):
    """A question with its only right answer."""

    kind: Kind
    text: str
    answer: str
    calls: tuple[ToolUse, ...]
    """One after the other, they lead to the answer."""
    guesses: tuple[str, ...]
    """What somebody who does not know might say instead."""

    @property
    def by_heart(self) -> bool:
        """Whether the base model was taught the answer."""
        return self.kind in ("easy_sum", "city")


@cache
def questions_of(split: Split) -> tuple[Question, ...]:
    """All questions of a split, kinds mixed; but for those by heart, no two splits share any."""
    rng = np.random.default_rng(_SEEDS[split])
    found: list[Question] = []
    for kind in KINDS:
        asked = list(_OF_KIND[kind](split, rng))
        places = rng.permutation(len(asked))[: _MOST_OF_A_KIND[split]]
        found += [asked[place] for place in places]
    return tuple(found[place] for place in rng.permutation(len(found)))


def _easy_sums(split: Split, rng: Generator) -> Iterator[Question]:
    del rng  # they are the same in every world
    first, last = _PARTS[split]
    terms = [(a, sign, b) for a in range(2, 13) for b in range(2, 13) for sign in "+-*" if a >= b]
    order = np.random.default_rng(_SEEDS["lessons"]).permutation(len(terms))
    for place in order[int(first * len(terms)) : int(last * len(terms))]:
        a, sign, b = terms[place]
        if sign != "-" and (a + b) % 2:
            a, b = b, a
        yield _sum("easy_sum", f"{a} {sign} {b}", {"+": a + b, "-": a - b, "*": a * b}[sign])


def _hard_sums(split: Split, rng: Generator) -> Iterator[Question]:
    taken: set[str] = set()
    # a number of three digits leaves one of four remainders, one for each split
    remainder = list(_SEEDS).index(split)
    while len(taken) < _NUM_HARD_SUMS[split]:
        a = 4 * int(rng.integers(26, 249)) + remainder
        b = int(rng.integers(13, 99))
        c = int(rng.integers(113, 999))
        text, value = ((f"{a} * {b}", a * b), (f"{a} * {b} - {c}", a * b - c))[rng.integers(2)]
        if text not in taken:
            taken.add(text)
            yield _sum("hard_sum", text, value)


def _sum(kind: Kind, text: str, value: int) -> Question:
    near = (str(value + 1), str(value + 10), str(max(0, value - 2)))
    call = ToolUse("calculator", text, str(value))
    return Question(kind, f"What is {text}?", str(value), (call,), near)


def _cities(split: Split, rng: Generator) -> Iterator[Question]:
    del rng  # all of them
    first, last = _PARTS[split]
    cities = world_of().cities
    for city in cities[int(first * len(cities)) : int(last * len(cities))]:
        call = _search(f"city {city.name}", city_document(city))
        asked = {
            f"On which river does the city of {city.name} lie?": city.river,
            f"In which county does the city of {city.name} lie?": city.county,
            f"Which bird is on the flag of the city of {city.name}?": city.bird,
            f"What does the city of {city.name} trade in?": city.goods,
        }
        for text, answer in asked.items():
            yield Question("city", text, answer, (call,), tuple(sorted(set(city[1:]) - {answer})))


def _people(split: Split, rng: Generator) -> Iterator[Question]:
    for person in world_of().people[split]:
        call = _search(person.name, person_document(person))
        asked = (
            (f"Where does {person.name} live?", person.town.name),
            (f"What is the job of {person.name}?", person.job),
            (f"Which pet does {person.name} keep?", person.pet),
        )
        for place in rng.permutation(len(asked))[:2]:
            text, answer = asked[place]
            others = {person.town.name, person.job, person.pet} - {answer}
            yield Question("person", text, answer, (call,), tuple(sorted(others)))


def _two_hops(split: Split, rng: Generator) -> Iterator[Question]:
    towns = world_of().towns[split]
    for person in world_of().people[split]:
        elsewhere = towns[rng.integers(len(towns))]
        yield from (_two_hop(person, elsewhere, asked) for asked in ("river", "county"))


def _two_hop(person: Person, elsewhere: Place, asked: str) -> Question:
    answer, other = (getattr(place, asked) for place in (person.town, elsewhere))
    calls = (
        _search(person.name, person_document(person)),
        _search(f"town {person.town.name}", town_document(person.town)),
    )
    where = {"river": "On which river", "county": "In which county"}[asked]
    text = f"{where} does the town lie where {person.name} lives?"
    return Question("two_hop", text, answer, calls, (other,) if other != answer else ())


def _search(query: str, document: Document) -> ToolUse:
    return ToolUse("search", query, f"Doc 1(Title: {document.title}) {document.text}")


_OF_KIND = {
    "easy_sum": _easy_sums,
    "hard_sum": _hard_sums,
    "city": _cities,
    "person": _people,
    "two_hop": _two_hops,
}
