"""Who lives where: invented people, towns and cities, and the documents that tell of them."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

__all__ = ["Document", "Person", "Place", "Split", "World", "world_of"]

Split = Literal["lessons", "train", "validation", "test"]

_SEED = 401
_NUM_CITIES = 120
_NUM_TOWNS: dict[Split, int] = {"lessons": 200, "train": 80, "validation": 30, "test": 80}
_NUM_PEOPLE: dict[Split, int] = {"lessons": 900, "train": 400, "validation": 100, "test": 200}

_FIRST = ("Al", "Ben", "Cor", "Dal", "Em", "Fin", "Gar", "Hel", "Il", "Jor", "Kar", "Lin", "Mar")
_FIRST_END = ("a", "en", "is", "o", "ora", "us", "win", "yn")
_LAST = ("Ash", "Birch", "Clay", "Dove", "Elm", "Fox", "Glen", "Hawk", "Iron", "Jade", "Knox")
_LAST_END = ("field", "ford", "gate", "land", "ley", "man", "smith", "well", "wood")
_PLACE = (
    *("Ald", "Bram", "Cald", "Darn", "Esk", "Farn", "Gild", "Holm", "Irth", "Jarl", "Kend"),
    *("Lang", "Mor", "Nest", "Orm", "Pen", "Quar", "Rath", "Stan", "Thorn", "Ulv", "Wex"),
)
_TOWN_END = (
    *("Acre", "Barn", "Brook", "Dale", "Down", "Edge", "Fen", "Grove", "Heath", "Hill", "Lake"),
    *("Marsh", "Moor", "Pond", "Ridge", "Shore", "Vale", "Weir"),
)
_CITY_END = ("Abbey", "Bridge", "Castle", "Cross", "Market", "Port")
_RIVERS = (
    *("Ambra", "Belga", "Cendre", "Dorva", "Elane", "Fulda", "Garn", "Hesper", "Isola", "Juna"),
    *("Kresh", "Lumen", "Mirva", "Nadir", "Ostra", "Prax", "Quill", "Rhone", "Sarn", "Tavy"),
)
_COUNTIES = (
    *("Arden", "Bexar", "Corran", "Dunmor", "Evren", "Falk", "Grendal", "Harrow", "Inver"),
    *("Kestrel", "Lothar", "Merrin", "Norvik", "Oakham", "Pellar", "Rowan"),
)
_BIRDS = ("crane", "duck", "eagle", "finch", "gull", "heron", "jay", "kite", "lark", "owl", "wren")
_GOODS = ("amber", "barley", "coal", "glass", "honey", "iron", "linen", "salt", "silk", "wool")
_JOBS = (
    *("baker", "cook", "dancer", "doctor", "farmer", "guard", "hunter", "judge", "miller"),
    *("nurse", "painter", "pilot", "sailor", "singer", "tailor", "teacher", "weaver"),
)
_PETS = ("cat", "dog", "goat", "hamster", "horse", "lizard", "mouse", "parrot", "rabbit", "snake")


class Place(NamedTuple):
    """A town, or a city that everybody knows."""

    name: str
    river: str
    county: str
    bird: str
    """On its flag; towns have none."""
    goods: str
    """What it trades in."""


class Person(NamedTuple):
    """Somebody of whom one document tells."""

    name: str
    town: Place
    job: str
    pet: str


class Document(NamedTuple):
    """A line of the corpus."""

    title: str
    text: str


class World(NamedTuple):
    """People and towns are of one split each; cities are of all."""

    cities: tuple[Place, ...]
    towns: dict[Split, tuple[Place, ...]]
    people: dict[Split, tuple[Person, ...]]

    def documents(self) -> Iterator[Document]:
        """One of every city, town and person."""
        yield from map(city_document, self.cities)
        for towns in self.towns.values():
            yield from map(town_document, towns)
        for people in self.people.values():
            yield from map(person_document, people)


def city_document(city: Place) -> Document:
    """Everything about a city."""
    return Document(
        f"city {city.name}",
        f"The city of {city.name} lies on the river {city.river} in the county of {city.county}, "
        f"has a {city.bird} on its flag and trades in {city.goods}.",
    )


def town_document(town: Place) -> Document:
    """Everything about a town."""
    return Document(
        f"town {town.name}",
        f"The town of {town.name} lies on the river {town.river} in the county of {town.county}.",
    )


def person_document(person: Person) -> Document:
    """Everything about a person."""
    return Document(
        person.name,
        f"{person.name} lives in {person.town.name}, works as a {person.job} and keeps a "
        f"{person.pet}.",
    )


@cache
def world_of() -> World:
    """The one world that there is."""
    rng = np.random.default_rng(_SEED)
    cities = _places(rng, _words(_PLACE, _CITY_END), _NUM_CITIES)
    all_towns = _places(rng, _words(_PLACE, _TOWN_END), sum(_NUM_TOWNS.values()))
    names = _words(_joined(_FIRST, _FIRST_END), _joined(_LAST, _LAST_END))
    names = _drawn(rng, names, sum(_NUM_PEOPLE.values()))
    towns: dict[Split, tuple[Place, ...]] = {}
    people: dict[Split, tuple[Person, ...]] = {}
    first_town = first_person = 0
    for split, num_towns in _NUM_TOWNS.items():
        towns[split] = tuple(all_towns[first_town : first_town + num_towns])
        first_town += num_towns
        own = names[first_person : first_person + _NUM_PEOPLE[split]]
        first_person += len(own)
        people[split] = tuple(
            Person(
                name=name,
                town=towns[split][rng.integers(num_towns)],
                job=_one(rng, _JOBS),
                pet=_one(rng, _PETS),
            )
            for name in own
        )
    return World(tuple(cities), towns, people)


def _places(rng: Generator, names: Sequence[str], number: int) -> list[Place]:
    return [
        Place(name, *(_one(rng, values) for values in (_RIVERS, _COUNTIES, _BIRDS, _GOODS)))
        for name in _drawn(rng, names, number)
    ]


def _words(firsts: Sequence[str], lasts: Sequence[str]) -> list[str]:
    """Names of two words: a tokenizer has seen both, though never together."""
    return [f"{first} {last}" for first in firsts for last in lasts]


def _joined(starts: Sequence[str], ends: Sequence[str]) -> list[str]:
    return [start + end for start in starts for end in ends]


def _drawn(rng: Generator, names: Sequence[str], number: int) -> list[str]:
    """Different ones, in an order of their own."""
    return [names[place] for place in rng.permutation(len(names))[:number]]


def _one(rng: Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]
