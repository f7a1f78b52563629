"""The small language of the bands world: questions and statements, written and read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from mmalign.datasets.bands.world import NUM_BEATS, PLACES, Beats, Place
from mmalign.datasets.shapes.reader import FORMS
from mmalign.datasets.shapes.world import KINDS, Kind

__all__ = [
    "ASKS",
    "CLASSES",
    "NUMBERS",
    "OFF_SCREEN",
    "QUESTION_TYPES",
    "STATEMENTS",
    "TYPE_OF",
    "WORDINGS",
    "Ask",
    "Claim",
    "Query",
    "Says",
    "ask",
    "parse_question",
    "parse_statement",
    "state",
    "words_of",
]

Ask = Literal[
    "heard_count",
    "heard",
    "louder",
    "longer",
    "seen_count",
    "seen",
    "where",
    "which_at",
    "plays_at",
    "off_screen",
    "play_count",
    "where_plays",
    "where_loudest",
    "louder_at",
    "longer_at",
    "first",
    "last",
    "where_first",
    "where_last",
]
ASKS: tuple[Ask, ...] = get_args(Ask)

TYPE_OF: dict[Ask, str] = {
    "heard_count": "Audio/Counting",
    "heard": "Audio/Counting",
    "louder": "Audio/Comparative",
    "longer": "Audio/Comparative",
    "seen_count": "Visual/Counting",
    "seen": "Visual/Counting",
    "where": "Visual/Location",
    "which_at": "Visual/Location",
    "plays_at": "Audio-Visual/Existential",
    "off_screen": "Audio-Visual/Existential",
    "play_count": "Audio-Visual/Counting",
    "where_plays": "Audio-Visual/Location",
    "where_loudest": "Audio-Visual/Location",
    "louder_at": "Audio-Visual/Comparative",
    "longer_at": "Audio-Visual/Comparative",
    "first": "Audio-Visual/Temporal",
    "last": "Audio-Visual/Temporal",
    "where_first": "Audio-Visual/Temporal",
    "where_last": "Audio-Visual/Temporal",
}
"""MUSIC-AVQA's modality and kind."""
QUESTION_TYPES = tuple(dict.fromkeys(TYPE_OF.values()))

NUMBERS = ("zero", "one", "two", "three", "four")
OFF_SCREEN = "off screen"

_YES_NO = ("yes", "no")
CLASSES: dict[Ask, tuple[str, ...]] = {
    "heard_count": NUMBERS[:4],
    "heard": _YES_NO,
    "louder": _YES_NO,
    "longer": _YES_NO,
    "seen_count": NUMBERS[1:4],
    "seen": _YES_NO,
    "where": PLACES,
    "which_at": KINDS,
    "plays_at": _YES_NO,
    "off_screen": _YES_NO,
    "play_count": NUMBERS[:4],
    "where_plays": PLACES,
    "where_loudest": PLACES,
    "louder_at": _YES_NO,
    "longer_at": _YES_NO,
    "first": KINDS,
    "last": KINDS,
    "where_first": PLACES,
    "where_last": PLACES,
}
"""All that the short answer can be; about equally often it is each of them."""

WORDINGS: dict[Ask, tuple[str, str]] = {
    "heard_count": ("how many sounds are heard", "what is the number of heard sounds"),
    "heard": ("is a {kind} heard", "is there the sound of a {kind}"),
    "louder": (
        "is the {kind} louder than the {other}",
        "does the {kind} sound louder than the {other}",
    ),
    "longer": (
        "does the {kind} play longer than the {other}",
        "is the {kind} heard longer than the {other}",
    ),
    "seen_count": ("how many shapes are seen", "what is the number of seen shapes"),
    "seen": ("is a {kind} seen", "is there a {kind} in the video"),
    "where": ("where is the {kind}", "where is the {kind} seen"),
    "which_at": ("which shape is seen {at}", "what is seen {at}"),
    "plays_at": ("does the shape {at} play", "is the shape {at} heard"),
    "off_screen": ("does a sound come from off screen", "is a shape heard that is not seen"),
    "play_count": ("how many of the seen shapes play", "how many of the seen shapes are heard"),
    "where_plays": (
        "where is the only seen shape that plays",
        "where is the only seen shape that is heard",
    ),
    "where_loudest": ("where is the loudest shape", "where is the shape that plays loudest"),
    "louder_at": (
        "is the shape {at} louder than the shape {other_at}",
        "does the shape {at} sound louder than the shape {other_at}",
    ),
    "longer_at": (
        "does the shape {at} play longer than the shape {other_at}",
        "is the shape {at} heard longer than the shape {other_at}",
    ),
    "first": ("which shape plays first", "what is heard first"),
    "last": ("which shape starts to play last", "what starts to be heard last"),
    "where_first": ("where is the shape that plays first", "where is the first sound from"),
    "where_last": ("where is the shape that starts to play last", "where is the last sound from"),
}
"""Without the question mark."""

Says = Literal[
    "seen",
    "unseen",
    "heard",
    "unheard",
    "off_screen",
    "none_off_screen",
    "plays",
    "silent",
    "beats",
    "first",
    "last",
    "loudest",
    "louder",
    "longer",
    "heard_count",
    "seen_count",
    "play_count",
]
STATEMENTS: dict[Says, str] = {
    "seen": "the {kind} is seen{after}",
    "unseen": "no {kind} is seen",
    "heard": "a {kind} is heard",
    "unheard": "no {kind} is heard",
    "off_screen": "the {kind} is heard off screen",
    "none_off_screen": "no sound comes from off screen",
    "plays": "the {kind}{after} plays",
    "silent": "the {kind}{after} is silent",
    "beats": "the {kind}{after} plays from beat {start} to beat {end}",
    "first": "the {kind}{after} plays first",
    "last": "the {kind}{after} starts last",
    "loudest": "the {kind}{after} is the loudest",
    "louder": "the {kind}{after} is louder than the {other}{other_after}",
    "longer": "the {kind}{after} plays longer than the {other}{other_after}",
    "heard_count": "the number of heard sounds is {number}",
    "seen_count": "the number of seen shapes is {number}",
    "play_count": "the number of seen shapes that play is {number}",
}
"""Without the full stop; a place may follow a shape's name."""

_AT: dict[Place, str] = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
_PLACE_OF = {phrase: place for place, phrase in _AT.items()} | {OFF_SCREEN: OFF_SCREEN}


@dataclass(frozen=True)
class Query:
    """What is asked, apart from its wording."""

    ask: Ask
    kind: Kind | None = None
    other: Kind | None = None
    place: Place | None = None
    other_place: Place | None = None

    @property
    def type(self) -> str:
        """Modality and kind, `Audio-Visual/Location`."""
        return TYPE_OF[self.ask]

    @property
    def classes(self) -> tuple[str, ...]:
        """All that the short answer can be."""
        return CLASSES[self.ask]


@dataclass(frozen=True)
class Claim:
    """What a statement says."""

    says: Says
    kind: Kind | None = None
    place: str | None = None
    """Where the shape is said to be: a place or off screen."""
    other: Kind | None = None
    other_place: str | None = None
    beats: Beats | None = None
    number: str | None = None


def ask(query: Query, wording: int) -> str:
    """A query as a question, in one of two wordings."""
    at = {
        "at": _AT[query.place] if query.place else "",
        "other_at": _AT[query.other_place] if query.other_place else "",
    }
    text = WORDINGS[query.ask][wording].format(kind=query.kind, other=query.other, **at)
    return f"{text} ?"


def state(claim: Claim) -> str:
    """A claim as a statement, without its full stop."""
    return STATEMENTS[claim.says].format(
        kind=claim.kind,
        after=_after(claim.place),
        other=claim.other,
        other_after=_after(claim.other_place),
        start=NUMBERS[claim.beats.first] if claim.beats else "",
        end=NUMBERS[claim.beats.last] if claim.beats else "",
        number=claim.number,
    )


def parse_question(text: str) -> Query | None:
    """What a question asks, with or without the words that ask for a form of answer; None where
    it is not of this language.
    """
    words = _plain(text)
    for form in FORMS.values():
        words = words.removesuffix(f" {form}")
    for ask_, pattern in _QUESTIONS:
        if found := pattern.fullmatch(words.removesuffix(" ?")):
            said = found.groupdict()
            return Query(
                ask_,
                kind=cast("Kind | None", said.get("kind")),
                other=cast("Kind | None", said.get("other")),
                place=_place(said.get("at")),
                other_place=_place(said.get("other_at")),
            )
    return None


def parse_statement(text: str) -> Claim | None:
    """What a statement, with or without its full stop, says; None where it is not of this
    language.
    """
    words = words_of(text)
    for says, pattern in _STATED:
        if found := pattern.fullmatch(words):
            return _claim(says, found.groupdict())
    return None


def words_of(text: str) -> str:
    """A sentence in lower case, punctuation apart from the words, without its full stop."""
    return _plain(text).removesuffix(".").rstrip()


def _claim(says: Says, said: Mapping[str, str | None]) -> Claim | None:
    beats = None
    start, end = said.get("start"), said.get("end")
    if start is not None and end is not None:
        beats = Beats(NUMBERS.index(start), NUMBERS.index(end))
    at, other_at = said.get("after"), said.get("other_after")
    return Claim(
        says,
        kind=cast("Kind | None", said.get("kind")),
        place=_PLACE_OF[at] if at else None,
        other=cast("Kind | None", said.get("other")),
        other_place=_PLACE_OF[other_at] if other_at else None,
        beats=beats,
        number=said.get("number"),
    )


def _place(phrase: str | None) -> Place | None:
    return cast("Place", _PLACE_OF[phrase]) if phrase else None


def _after(place: str | None) -> str:
    """What follows a shape's name to say where it is."""
    if place is None:
        return ""
    phrases = {there: phrase for phrase, there in _PLACE_OF.items()}
    return f" {phrases[place]}"


def _plain(text: str) -> str:
    """Lower case, punctuation apart from the words, single spaces."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def _pattern(template: str) -> re.Pattern[str]:
    kinds, places = "|".join(KINDS), "|".join(_AT.values())
    beats = "|".join(NUMBERS[1 : NUM_BEATS + 1])
    return re.compile(
        template.format(
            kind=f"(?P<kind>{kinds})",
            other=f"(?P<other>{kinds})",
            at=f"(?P<at>{places})",
            other_at=f"(?P<other_at>{places})",
            after=f"(?: (?P<after>{places}|{OFF_SCREEN}))?",
            other_after=f"(?: (?P<other_after>{places}|{OFF_SCREEN}))?",
            start=f"(?P<start>{beats})",
            end=f"(?P<end>{beats})",
            number=f"(?P<number>{'|'.join(NUMBERS)})",
        )
    )


_QUESTIONS = tuple((name, _pattern(text)) for name in ASKS for text in WORDINGS[name])
_STATED = tuple((says, _pattern(text)) for says, text in STATEMENTS.items())
