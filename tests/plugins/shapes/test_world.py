"""The world keeps its promises: room, times, names, and what biased worlds are biased to."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mmalign.datasets.shapes.render import (
    SAMPLE_RATE_HZ,
    TONE_HZ,
    render_frames,
    render_sound,
)
from mmalign.datasets.shapes.world import (
    ACTIONS,
    COLOURS,
    DIRECTIONS,
    FPS,
    KINDS,
    NUM_FRAMES,
    SIZE,
    Scene,
    Shape,
    draw_scene,
    track,
)


def scenes(number: int, *, bias: float = 0.0) -> list[Scene]:
    return [draw_scene(np.random.default_rng((7, i)), bias=bias) for i in range(number)]


def still(**changes: object) -> Scene:
    """One red circle that stays in the middle."""
    shape = Shape("circle", "red", "vanish", None, 32.0, 32.0, 0.0, 0, NUM_FRAMES, sings=False)
    return Scene("s", (replace(shape, **changes),), shade=20)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_scene() -> None:
    assert scenes(5) == scenes(5)
    assert len({scene.id for scene in scenes(50)}) == 50


def test_names_are_unique_and_shapes_stand_in_order_of_appearance() -> None:
    for scene in scenes(100):
        assert len({shape.kind for shape in scene.shapes}) == len(scene.shapes)
        assert len({shape.colour for shape in scene.shapes}) == len(scene.shapes)
        starts = [shape.appears for shape in scene.shapes]
        assert starts == sorted(starts)
        assert starts[0] == 0
        assert sum(shape.sings for shape in scene.shapes) == 1


def test_everything_that_can_occur_occurs() -> None:
    shapes = [shape for scene in scenes(300) for shape in scene.shapes]
    assert {shape.kind for shape in shapes} == set(KINDS)
    assert {shape.colour for shape in shapes} == set(COLOURS)
    assert {shape.action for shape in shapes} == set(ACTIONS)
    assert {shape.direction for shape in shapes if shape.action == "move"} == set(DIRECTIONS)


def test_only_colliding_shapes_touch() -> None:
    for scene in scenes(100):
        for place, shape in enumerate(scene.shapes):
            for other in scene.shapes[:place]:
                here, there = track(shape), track(other)
                apart = np.hypot(here.x - there.x, here.y - there.y)
                gap = float((apart - here.radius - there.radius).min())
                collide = shape.action == other.action == "collide"
                assert (gap < 1.0) == collide


def test_all_shapes_stay_inside_the_frame() -> None:
    for scene in scenes(100):
        for shape in scene.shapes:
            path = track(shape)
            assert min((path.x - path.radius).min(), (path.y - path.radius).min()) >= 0
            assert max((path.x + path.radius).max(), (path.y + path.radius).max()) <= SIZE


def test_bias_makes_circles_red_and_red_things_go_left() -> None:
    def share_red(bias: float) -> float:
        colours = [s.colour for c in scenes(300, bias=bias) for s in c.shapes if s.kind == "circle"]
        return Counter(colours)["red"] / len(colours)

    assert share_red(0.0) < 0.3
    assert share_red(0.8) > 0.6
    ways = [
        shape.direction
        for scene in scenes(300, bias=0.8)
        for shape in scene.shapes
        if shape.colour == "red" and shape.action == "move"
    ]
    assert Counter(ways)["left"] / len(ways) > 0.7


def test_a_moving_shape_goes_where_it_is_said_to_go() -> None:
    path = track(still(action="move", direction="up", speed=1.5).shapes[0])
    assert path.y.tolist() == pytest.approx([32.0 - 1.5 * frame for frame in range(NUM_FRAMES)])
    assert set(path.x) == {32.0}


def test_a_vanishing_shape_is_gone_for_good() -> None:
    frames = render_frames(still(appears=4, vanishes=9))
    seen = [bool((frame[..., 0] > 150).any()) for frame in frames]
    assert seen == [4 <= number < 9 for number in range(NUM_FRAMES)]


def test_a_blinking_shape_comes_and_goes() -> None:
    visible = track(still(action="blink").shapes[0]).visible
    assert visible.tolist() == [True, True, False, False] * 4


def test_shapes_have_their_colour_and_singers_a_white_outline() -> None:
    silent, singing = render_frames(still())[0], render_frames(still(sings=True))[0]
    assert silent[32, 32].tolist() == [225, 40, 40]
    assert singing[32, 32].tolist() == [225, 40, 40]
    assert (silent > 240).sum() == 0
    assert (singing.min(axis=-1) > 240).any()


def test_a_singer_is_heard_at_its_pitch_while_it_is_seen() -> None:
    sound = render_sound(still(appears=4, vanishes=12, sings=True)).waveform[0]
    assert len(sound) == NUM_FRAMES / FPS * SAMPLE_RATE_HZ
    start, end = int(4 / FPS * SAMPLE_RATE_HZ), int(12 / FPS * SAMPLE_RATE_HZ)
    assert np.abs(sound[: start - 200]).max() == 0.0
    assert np.abs(sound[end + 200 :]).max() == 0.0
    spectrum = np.abs(np.fft.rfft(sound[start:end]))
    loudest_hz = np.fft.rfftfreq(end - start, 1 / SAMPLE_RATE_HZ)[spectrum.argmax()]
    assert loudest_hz == pytest.approx(TONE_HZ["circle"], abs=2.0)


def test_a_silent_shape_only_gives_a_short_tone_when_it_appears() -> None:
    sound = render_sound(still()).waveform[0]
    assert np.abs(sound[: SAMPLE_RATE_HZ // 10]).max() > 0.1
    assert np.abs(sound[SAMPLE_RATE_HZ // 2 :]).max() == 0.0
