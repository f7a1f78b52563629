"""Scenes are what their sentences say, and only sound tells who plays."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mmalign.datasets.bands.facts import clues, facts_of, holds, read_facts
from mmalign.datasets.bands.language import Claim, parse_statement, state
from mmalign.datasets.bands.render import render_frames, render_sound
from mmalign.datasets.bands.world import (
    BEAT_S,
    LEVELS,
    NUM_BEATS,
    Beats,
    Place,
    Player,
    Scene,
    draw_scene,
)
from mmalign.datasets.shapes.render import SAMPLE_RATE_HZ, TONE_HZ
from mmalign.datasets.shapes.world import KINDS, SIZE, Kind


def player(kind: Kind, place: Place | None, beats: Beats | None, level: float = 0.16) -> Player:
    return Player(kind, "red", place, beats, level if beats else 0.0, 32.0, 32.0, 0.0)


DUET = Scene(
    "duet",
    (
        player("ring", "left", Beats(2, 3), 0.16),
        player("bar", "right", None),
        player("pole", None, Beats(1, 1), 0.32),
    ),
    shade=20,
)
"""A ring on the left and a pole off screen play; a bar on the right is silent."""


def scenes(number: int) -> list[Scene]:
    return [draw_scene(np.random.default_rng((7, place))) for place in range(number)]


def test_the_same_seed_gives_the_same_scene() -> None:
    assert scenes(5) == scenes(5)
    assert len({scene.id for scene in scenes(200)}) == 200


def test_names_places_starts_and_levels_are_unique() -> None:
    for scene in scenes(300):
        for values in (
            [player.kind for player in scene.players],
            [player.colour for player in scene.players],
            [player.place for player in scene.players],
            [player.beats.first for player in scene.players if player.beats],
            [player.level for player in scene.players if player.beats],
        ):
            assert len(set(values)) == len(values)
        assert 1 <= sum(player.place is not None for player in scene.players) <= 3
        assert all(p.beats is None or p.beats.last <= NUM_BEATS for p in scene.players)


def test_everything_that_can_occur_occurs() -> None:
    players = [player for scene in scenes(300) for player in scene.players]
    assert {player.kind for player in players} == set(KINDS)
    assert {player.place for player in players} == {"left", "middle", "right", None}
    assert {player.level for player in players} == {0.0, *LEVELS}
    seen = [player for player in players if player.place]
    assert 0.4 < Counter(player.beats is None for player in seen)[True] / len(seen) < 0.6


def test_shapes_stand_where_they_are_said_to_and_stay_inside() -> None:
    for scene in scenes(100):
        frames = render_frames(scene).astype(int)
        assert frames.shape == (16, SIZE, SIZE, 3)
        differs = (np.abs(frames - scene.shade).max(axis=-1) > 60).any(axis=0)
        assert not differs[[0, -1]].any()
        assert not differs[:, [0, -1]].any()
        thirds = {"left": differs[:, :22], "middle": differs[:, 23:41], "right": differs[:, 42:]}
        seen = {player.place for player in scene.players if player.place}
        assert {name for name, part in thirds.items() if part.any()} == seen


def test_no_picture_tells_who_plays() -> None:
    silent = replace(DUET, players=tuple(replace(p, beats=None, level=0.0) for p in DUET.players))
    assert np.array_equal(render_frames(DUET), render_frames(silent))
    assert np.abs(render_sound(silent).waveform).max() == 0.0


def test_tones_are_heard_on_their_beats_at_their_level() -> None:
    sound = render_sound(DUET).waveform[0]
    assert len(sound) == NUM_BEATS * BEAT_S * SAMPLE_RATE_HZ
    for player in DUET.players:
        for beat in range(1, NUM_BEATS + 1):
            part = slice(
                int((beat - 0.9) * BEAT_S * SAMPLE_RATE_HZ),
                int((beat - 0.1) * BEAT_S * SAMPLE_RATE_HZ),
            )
            time_s = np.arange(part.start, part.stop) / SAMPLE_RATE_HZ
            wave = np.exp(-2j * np.pi * TONE_HZ[player.kind] * time_s)
            level = 2 * abs((sound[part] * wave).mean())
            plays = player.beats and player.beats.first <= beat <= player.beats.last
            assert level == pytest.approx(player.level if plays else 0.0, abs=0.002)


def test_clues_by_hand() -> None:
    assert clues(facts_of(DUET)) == [
        "the ring is seen on the left .",
        "the bar is seen on the right .",
        "the ring plays from beat two to beat three .",
        "the pole plays from beat one to beat one .",
        "the bar is silent .",
        "the pole is heard off screen .",
        "the number of seen shapes is two .",
        "the number of heard sounds is two .",
        "the number of seen shapes that play is one .",
        "the pole plays first .",
        "the ring starts last .",
        "the pole is the loudest .",
        "the ring plays longer than the pole .",
        "the pole is louder than the ring .",
    ]


def test_clues_hold_and_tell_the_whole_truth() -> None:
    for scene in scenes(200):
        facts = facts_of(scene)
        told = clues(facts)
        assert read_facts(["some prose .", *reversed(told), "yes , no ring is seen ."]) == facts
        claims = [parse_statement(sentence) for sentence in told]
        assert all(claim is not None and holds(facts, claim) for claim in claims)


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (Claim("plays", "ring", "left"), True),
        (Claim("plays", "ring", "right"), False),
        (Claim("plays", "pole", "off screen"), True),
        (Claim("seen", "pole"), False),
        (Claim("unseen", "pole"), True),
        (Claim("silent", "circle"), False),
        (Claim("unheard", "circle"), True),
        (Claim("none_off_screen"), False),
        (Claim("beats", "ring", beats=Beats(2, 2)), False),
        (Claim("first", "pole"), True),
        (Claim("last", "pole"), False),
        (Claim("louder", "pole", None, "ring", "left"), True),
        (Claim("louder", "pole", None, "ring", "middle"), False),
        (Claim("louder", "pole", None, "bar", None), False),
        (Claim("longer", "ring", "left", "pole", "off screen"), True),
        (Claim("play_count", number="two"), False),
    ],
)
def test_claims_are_written_read_and_checked(claim: Claim, expected: bool) -> None:
    assert parse_statement(f"{state(claim).capitalize()}.") == claim
    assert holds(facts_of(DUET), claim) is expected
