"""The truth about a scene as sentences, and what follows from such sentences alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

from mmalign.datasets.bands.language import (
    NUMBERS,
    OFF_SCREEN,
    Claim,
    Query,
    Says,
    parse_statement,
    state,
)
from mmalign.datasets.bands.world import PLACES, Beats, Place, Scene
from mmalign.datasets.shapes.world import Kind

__all__ = [
    "Answer",
    "Facts",
    "answer",
    "clues",
    "facts_of",
    "holds",
    "implied_answer",
    "read_facts",
    "response_to",
    "truth",
]


@dataclass(frozen=True)
class Facts:
    """All that can be asked about a scene; what is not in it is not so."""

    seen: Mapping[Kind, Place]
    """Where each shape is seen."""
    played: Mapping[Kind, Beats]
    """When each shape is heard."""
    louder: frozenset[tuple[Kind, Kind]]
    """Pairs of shapes that are heard, the louder one first."""

    @cached_property
    def at(self) -> Mapping[Place, Kind]:
        """Which shape is seen at a place."""
        return {place: kind for kind, place in self.seen.items()}

    @property
    def first(self) -> Kind | None:
        """The shape that starts to play before the others; None where nobody plays."""
        return min(self.played, key=lambda kind: self.played[kind].first, default=None)

    @property
    def last(self) -> Kind | None:
        """The shape that starts to play after the others; None where nobody plays."""
        return max(self.played, key=lambda kind: self.played[kind].first, default=None)

    @property
    def loudest(self) -> Kind | None:
        """The shape that is louder than the others; None where nobody plays."""
        beaten = {quieter for _, quieter in self.louder}
        return next((kind for kind in self.played if kind not in beaten), None)

    @property
    def seen_playing(self) -> list[Kind]:
        """Shapes that are seen and heard."""
        return [kind for kind in self.seen if kind in self.played]

    @property
    def off_screen(self) -> list[Kind]:
        """Shapes that are only heard."""
        return [kind for kind in self.played if kind not in self.seen]

    def is_longer(self, kind: Kind | None, other: Kind | None) -> bool:
        """Whether both are heard, and the first for more beats."""
        mine, others = (self.played.get(name) if name else None for name in (kind, other))
        return mine is not None and others is not None and mine.num_beats > others.num_beats


class Answer(NamedTuple):
    """An answer in both forms."""

    short: str
    """One word."""
    long: str
    """One or two sentences."""


def facts_of(scene: Scene) -> Facts:
    """What a scene shows and lets hear."""
    levels = {player.kind: player.level for player in scene.players if player.beats}
    return Facts(
        seen={player.kind: player.place for player in scene.players if player.place},
        played={player.kind: player.beats for player in scene.players if player.beats},
        louder=frozenset((a, b) for a, b in permutations(levels, 2) if levels[a] > levels[b]),
    )


def clues(facts: Facts) -> list[str]:
    """The facts as sentences: seen, heard, and what follows from both."""
    counts: dict[Says, int] = {
        "seen_count": len(facts.seen),
        "heard_count": len(facts.played),
        "play_count": len(facts.seen_playing),
    }
    claims = [Claim("seen", kind, place) for kind, place in facts.seen.items()]
    claims += [Claim("beats", kind, beats=beats) for kind, beats in facts.played.items()]
    claims += [Claim("silent", kind) for kind in facts.seen if kind not in facts.played]
    claims += [Claim("off_screen", kind) for kind in facts.off_screen]
    claims += [Claim(says, number=NUMBERS[number]) for says, number in counts.items()]
    if len(facts.played) > 1:
        claims += [Claim("first", facts.first), Claim("last", facts.last)]
        claims += [Claim("loudest", facts.loudest)]
    for a, b in permutations(facts.played, 2):
        claims += [Claim("louder", a, other=b)] if (a, b) in facts.louder else []
        claims += [Claim("longer", a, other=b)] if facts.is_longer(a, b) else []
    return [f"{state(claim)} ." for claim in claims]


def read_facts(sentences: Iterable[str]) -> Facts:
    """The facts that sentences tell; those of another language are passed over.

    Args:
        sentences: All clues of a scene, in any order. Who is seen where, who plays when and
            who is louder is enough; the others follow.
    """
    claims = [claim for claim in map(parse_statement, sentences) if claim is not None]
    seen: dict[Kind, Place] = {}
    for claim in claims:
        if claim.says == "seen" and claim.kind and claim.place in PLACES:
            seen[claim.kind] = claim.place
    return Facts(
        seen=seen,
        played={c.kind: c.beats for c in claims if c.says == "beats" and c.kind and c.beats},
        louder=frozenset(
            (c.kind, c.other) for c in claims if c.says == "louder" and c.kind and c.other
        ),
    )


def holds(facts: Facts, claim: Claim) -> bool:
    """Whether a claim is true; what presupposes something that is not so is false."""
    kind, other = claim.kind, claim.other
    if not _is_at(facts, kind, claim.place) or not _is_at(facts, other, claim.other_place):
        return False
    match claim.says:
        case "seen":
            return kind in facts.seen
        case "unseen":
            return kind not in facts.seen
        case "heard" | "plays":
            return kind in facts.played
        case "unheard":
            return kind not in facts.played
        case "silent":
            return kind in facts.seen and kind not in facts.played
        case "off_screen":
            return kind in facts.off_screen
        case "none_off_screen":
            return not facts.off_screen
        case "beats":
            return (kind, claim.beats) in facts.played.items()
        case "first":
            return kind == facts.first
        case "last":
            return kind == facts.last
        case "loudest":
            return kind == facts.loudest
        case "louder":
            return (kind, other) in facts.louder
        case "longer":
            return facts.is_longer(kind, other)
        case "heard_count":
            return claim.number == NUMBERS[len(facts.played)]
        case "seen_count":
            return claim.number == NUMBERS[len(facts.seen)]
        case "play_count":
            return claim.number == NUMBERS[len(facts.seen_playing)]


def truth(facts: Facts, query: Query) -> str | None:
    """The short answer; None where the question presupposes what is not so."""
    seen, played = facts.seen, facts.played
    one, other = query.kind, query.other
    if query.ask in ("louder_at", "longer_at"):
        one, other = facts.at.get(query.place), facts.at.get(query.other_place)  # type: ignore[arg-type]  # None is no key
    match query.ask:
        case "heard_count":
            return NUMBERS[len(played)]
        case "seen_count":
            return NUMBERS[len(seen)]
        case "play_count":
            return NUMBERS[len(facts.seen_playing)]
        case "heard":
            return _yes_no(one in played)
        case "seen":
            return _yes_no(one in seen)
        case "louder" | "louder_at":
            known = one in played and other in played
            return _yes_no((one, other) in facts.louder) if known else None
        case "longer" | "longer_at":
            differs = facts.is_longer(one, other) or facts.is_longer(other, one)
            return _yes_no(facts.is_longer(one, other)) if differs else None
        case "where":
            return seen.get(one) if one else None
        case "which_at":
            return facts.at.get(query.place) if query.place else None
        case "plays_at":
            here = facts.at.get(query.place) if query.place else None
            return _yes_no(here in played) if here else None
        case "off_screen":
            return _yes_no(bool(facts.off_screen))
        case "first" | "last":
            return _subject(facts, query) if len(played) > 1 else None
        case "where_plays" | "where_loudest" | "where_first" | "where_last":
            subject = _subject(facts, query)
            return seen.get(subject) if subject and len(seen) > 1 else None


def answer(facts: Facts, query: Query) -> Answer:
    """The right answer; the long one goes on with when the shape is heard, where that helps.

    Raises:
        ValueError: The question presupposes what is not so.
    """
    short = truth(facts, query)
    if short is None:
        raise ValueError(f"{facts} have no answer to {query}; ask what is seen or heard")
    claim = _claim_of(facts, query, short)
    long = response_to(facts, query, short)
    beats = facts.played.get(claim.kind) if claim.kind else None
    if query.type.startswith("Visual") or beats is None:
        return Answer(short, long)
    times = Claim("beats", claim.kind, beats=beats)
    return Answer(short, f"{long} {state(times)} .")


def response_to(facts: Facts, query: Query, short: str) -> str:
    """The sentence of someone who believes a short answer, right or wrong."""
    verdict = f"{short} , " if short in ("yes", "no") else ""
    return f"{verdict}{state(_claim_of(facts, query, short))} ."


def implied_answer(query: Query, claim: Claim) -> str | None:
    """The short answer that a claim gives to a question; None where it does not decide it."""
    says, kind, place = claim.says, claim.kind, claim.place
    here = place if place in PLACES else None
    match query.ask:
        case "heard_count" | "seen_count" | "play_count":
            return claim.number if says == query.ask else None
        case "heard" if kind == query.kind:
            if says in ("unheard", "silent"):
                return "no"
            return "yes" if says not in ("seen", "unseen") else None
        case "seen" if kind == query.kind:
            if says in ("unseen", "off_screen") or place == OFF_SCREEN:
                return "no"
            return "yes" if says in ("seen", "silent") or here else None
        case "louder" | "longer" if says == query.ask:
            return _order(query.kind, query.other, kind, claim.other)
        case "louder_at" | "longer_at" if query.ask == f"{says}_at":
            return _order(query.place, query.other_place, place, claim.other_place)
        case "where" if kind == query.kind:
            return here
        case "which_at" if place == query.place:
            return kind
        case "plays_at" if place == query.place:
            return None if says == "seen" else _yes_no(says != "silent")
        case "off_screen":
            is_yes = says == "off_screen" or place == OFF_SCREEN
            return "yes" if is_yes else "no" if says == "none_off_screen" else None
        case "first" | "last" if says == query.ask:
            return kind
        case "where_plays" if says not in ("seen", "silent"):
            return here
        case "where_loudest" | "where_first" | "where_last" if query.ask == f"where_{says}":
            return here
    return None


def _claim_of(facts: Facts, query: Query, short: str) -> Claim:
    """What is believed by who gives a short answer."""
    yes = short == "yes"
    match query.ask:
        case "heard_count" | "seen_count" | "play_count":
            return Claim(query.ask, number=short)
        case "heard":
            return Claim("heard" if yes else "unheard", query.kind)
        case "seen":
            return Claim("seen" if yes else "unseen", query.kind)
        case "louder" | "longer":
            one, other = (query.kind, query.other) if yes else (query.other, query.kind)
            return Claim(query.ask, one, other=other)
        case "louder_at" | "longer_at":
            places = (query.place, query.other_place)
            first, second = places if yes else places[::-1]
            return Claim(
                "louder" if query.ask == "louder_at" else "longer",
                facts.at[first] if first else None,
                first,
                facts.at[second] if second else None,
                second,
            )
        case "where":
            return Claim("seen", query.kind, short)
        case "which_at":
            return Claim("seen", short, query.place)  # type: ignore[arg-type]  # one of its classes
        case "plays_at":
            here = facts.at[query.place] if query.place else None
            return Claim("plays" if yes else "silent", here, query.place)
        case "off_screen":
            believed = next(iter([*facts.off_screen, *facts.played, *facts.seen]))
            return Claim("off_screen", believed) if yes else Claim("none_off_screen")
        case "first" | "last":
            return Claim(query.ask, short)  # type: ignore[arg-type]  # one of its classes
        case "where_plays":
            return Claim("plays", _subject(facts, query), short)
        case "where_loudest":
            return Claim("loudest", _subject(facts, query), short)
        case "where_first" | "where_last":
            says: Says = "first" if query.ask == "where_first" else "last"
            return Claim(says, _subject(facts, query), short)


def _subject(facts: Facts, query: Query) -> Kind | None:
    """The shape that a question speaks of without naming it."""
    match query.ask:
        case "where_plays":
            return facts.seen_playing[0] if len(facts.seen_playing) == 1 else None
        case "where_loudest":
            return facts.loudest if len(facts.played) > 1 else None
        case "first" | "where_first":
            return facts.first if len(facts.played) > 1 else None
        case _:
            return facts.last if len(facts.played) > 1 else None


def _is_at(facts: Facts, kind: Kind | None, place: str | None) -> bool:
    """Whether a shape is where it is said to be, if that is said."""
    if place is None:
        return True
    if place == OFF_SCREEN:
        return kind in facts.off_screen
    return kind is not None and facts.seen.get(kind) == place


def _order(one: object, other: object, greater: object, lesser: object) -> str | None:
    if {one, other} != {greater, lesser} or one == other:
        return None
    return _yes_no(one == greater)


def _yes_no(so: bool) -> str:
    return "yes" if so else "no"
