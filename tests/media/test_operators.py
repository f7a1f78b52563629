"""The augmentation table: pure, seeded, shape-keeping, and each doing what its name says."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign.errors import ConfigError, ShapeError
from mmalign.media import OPERATORS, VideoClip, apply_operations, operation, same_clip
from mmalign.media.operators import apply_operation, frame_order
from mmalign.media.transforms import kendall_distance
from mmalign.records import MediaOperation, MediaRef

OTHER = MediaRef(kind="video", uri="other.mp4")
SHUFFLED = [6, 0, 3, 7, 5, 1, 2, 4]
WINDOW = [5, 5, 5, 6, 6, 7, 7, 7]
ALONE = sorted(set(OPERATORS) - {"swap"})


def clip_of(num_frames: int = 8, height: int = 32, width: int = 48) -> VideoClip:
    rng = np.random.default_rng(num_frames)
    frames = rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
    return VideoClip(
        frames=frames,
        timestamps_s=np.arange(num_frames) / 4,
        indices=np.arange(num_frames) * 3,
        fps=12.0,
        decoder="test",
        source_hash="0",
    )


def changed(name: str, seed: int = 0, clip: VideoClip | None = None, **params: object) -> VideoClip:
    return apply_operations(clip or clip_of(), [operation(name, seed, **params)])  # type: ignore[arg-type]  # kwargs


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("num_frames", [1, 2, 7, 8])
def test_shape_type_and_times_stay(name: str, num_frames: int) -> None:
    clip = clip_of(num_frames)
    before = clip.frames.copy()
    after = changed(name, 3, clip)
    assert after.frames.shape == clip.frames.shape
    assert after.frames.dtype == np.uint8
    assert np.array_equal(after.timestamps_s, clip.timestamps_s)
    assert np.array_equal(clip.frames, before)  # the argument is not touched


@pytest.mark.parametrize("name", ALONE)
def test_one_seed_one_result(name: str) -> None:
    assert same_clip(changed(name, 11), changed(name, 11))


@pytest.mark.parametrize("name", [name for name in ALONE if OPERATORS[name].draws])
def test_other_seeds_give_other_results(name: str) -> None:
    results = {changed(name, seed, clip_of(16)).frames.tobytes() for seed in range(12)}
    assert len(results) > 2


@pytest.mark.parametrize("name", ALONE)
def test_the_clip_really_changes(name: str) -> None:
    assert not same_clip(changed(name, 1), clip_of())


@pytest.mark.parametrize("name", [name for name in ALONE if OPERATORS[name].order])
def test_indices_move_with_their_frames(name: str) -> None:
    clip, after = clip_of(12), changed(name, 5, clip_of(12))
    for frame, index in zip(after.frames, after.indices, strict=True):
        assert np.array_equal(frame, clip.frames[index // 3])


def test_an_operation_survives_json() -> None:
    written = operation("crop", 4, area=(0.3, 0.4))
    read = MediaOperation.model_validate_json(written.model_dump_json())
    assert json.loads(written.model_dump_json())["params"]["aspect"] == [3 / 4, 4 / 3]
    assert same_clip(apply_operation(clip_of(), read), apply_operation(clip_of(), written))


def test_draws_stay_the_same_from_release_to_release() -> None:
    """Records of an earlier release must still show the clips that they were made with."""
    assert frame_order(operation("shuffle", 0, stage="before_sampling"), 8).tolist() == SHUFFLED
    window = operation("temporal_crop", 0, stage="before_sampling")
    assert frame_order(window, 8).tolist() == WINDOW


def test_reversing_twice_changes_nothing() -> None:
    assert same_clip(changed("reverse", 0, changed("reverse")), clip_of())


def test_mirroring_twice_changes_nothing() -> None:
    assert same_clip(changed("hflip", 0, changed("hflip")), clip_of())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), num_frames=st.integers(2, 33))
def test_a_shuffle_keeps_the_frames_and_is_far_enough(seed: int, num_frames: int) -> None:
    for granularity in ("frame", "segments"):
        shuffle = operation("shuffle", seed, stage="before_sampling", granularity=granularity)
        order = frame_order(shuffle, num_frames)
        assert sorted(order) == list(range(num_frames))
        assert kendall_distance(order) >= 0.25


def test_segments_keep_their_inner_order() -> None:
    order = changed("shuffle", 2, clip_of(16), granularity="segments").indices // 3
    blocks = order.reshape(4, 4)
    assert np.array_equal(np.diff(blocks, axis=1), np.ones((4, 3)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), num_frames=st.integers(8, 40))
def test_a_local_shuffle_stays_in_its_windows(seed: int, num_frames: int) -> None:
    order = frame_order(operation("local_shuffle", seed, stage="before_sampling"), num_frames)
    places = np.arange(num_frames)
    for window in np.array_split(places, 4):
        assert sorted(order[window]) == window.tolist()
    assert not np.array_equal(order, places)


@pytest.mark.parametrize(
    ("order", "distance"), [([0, 1, 2], 0.0), ([2, 1, 0], 1.0), ([1, 0, 2], 1 / 3), ([0], 0.0)]
)
def test_kendall_distance_by_hand(order: list[int], distance: float) -> None:
    assert kendall_distance(np.array(order)) == pytest.approx(distance)


def test_a_temporal_crop_is_a_contiguous_part() -> None:
    """A quarter of 16 frames, each shown four times."""
    order = frame_order(
        operation("temporal_crop", 5, stage="before_sampling", ratio=(0.25, 0.25)), 16
    )
    assert order.tolist() == np.repeat(np.arange(order[0], order[0] + 4), 4).tolist()


def test_freezing_repeats_one_frame() -> None:
    assert len(set(changed("freeze", 3).indices)) == 1


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(2.0, [0, 2, 4, 6, 7, 7, 7, 7]), (0.5, [0, 0, 1, 1, 2, 2, 3, 3]), (0.25, [0] * 4 + [1] * 4)],
)
def test_speed_by_hand(rate: float, shown: list[int]) -> None:
    assert (changed("speed", 0, rates=(rate,)).indices // 3).tolist() == shown


def test_a_mask_hides_one_rectangle_of_the_right_size() -> None:
    clip = clip_of(4, 100, 100)
    for seed in range(10):
        hidden = np.all(changed("mask", seed, clip).frames == 211, axis=-1)
        everywhere = hidden.all(axis=0)
        rows, columns = everywhere.any(axis=1).sum(), everywhere.any(axis=0).sum()
        assert everywhere.sum() == rows * columns
        assert 0.24 <= everywhere.mean() <= 0.51


def test_a_crop_magnifies_the_same_box_of_every_frame() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, None, :, None], (3, 60, 100, 3))
    clip = VideoClip(ramp.copy(), np.arange(3.0), np.arange(3), 1.0, "test", "0")
    for seed in range(10):
        cropped = changed("crop", seed, clip).frames
        assert np.array_equal(cropped[0], cropped[2])
        kept_width = int(cropped[0, 0, -1, 0]) - int(cropped[0, 0, 0, 0]) + 1
        assert kept_width < 90
        assert np.all(np.diff(cropped[0, 0, :, 0].astype(int)) >= 0)


def test_dropped_frames_are_grey_and_counted() -> None:
    grey = np.all(changed("frame_drop", 0, clip_of(10), ratio=0.3).frames == 128, axis=(1, 2, 3))
    assert grey.sum() == 3


def test_a_hue_shift_moves_red_to_another_primary() -> None:
    """Half of the circle from red lies cyan; grey has no hue and stays."""
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[..., 0] = 255
    frames[0, 1] = 90
    clip = VideoClip(frames, np.zeros(1), np.zeros(1, np.int64), 1.0, "test", "0")
    after = changed("color", 0, clip, shift=(0.5, 0.5)).frames
    assert np.abs(after[0, 0, 0].astype(int) - [0, 255, 255]).max() <= 6
    assert after[0, 1, 0].tolist() == [90, 90, 90]
    grey = changed("color", 0, clip, mode="grey").frames
    assert grey[0, 0, 0].tolist() == [76, 76, 76]


def test_noise_has_the_asked_deviation() -> None:
    frames = np.full((4, 64, 64, 3), 128, np.uint8)
    clip = VideoClip(frames, np.zeros(4), np.zeros(4, np.int64), 1.0, "test", "0")
    noisy = changed("noise", 0, clip, sigma=(0.1, 0.1)).frames.astype(float)
    assert noisy.std() == pytest.approx(25.5, rel=0.05)
    assert noisy.mean() == pytest.approx(128, abs=1)


def test_swap_takes_frames_and_origin_of_the_other() -> None:
    other = clip_of(8)
    taken = apply_operation(clip_of(), operation("swap", None, other=OTHER), other)
    assert same_clip(taken, other)
    with pytest.raises(ShapeError, match=r"second clip has frames \[4, .*expected \[8, "):
        apply_operation(clip_of(), operation("swap", None, other=OTHER), clip_of(4))


def test_operations_of_one_seed_draw_apart() -> None:
    """One seed for mask and crop must not put both boxes at the same place."""
    clip = clip_of(1, 100, 100)
    both = apply_operations(clip, [operation("crop", 9), operation("mask", 9)])
    assert np.all(both.frames == 211, axis=-1).mean() < 0.52


@pytest.mark.parametrize(
    ("name", "seed", "fields", "message"),
    [
        ("shufle", 0, {}, "did you mean 'shuffle'"),
        ("wobble", 0, {}, "known: crop, shuffle"),
        ("crop", 0, {"are": (0.1, 0.2)}, "did you mean 'area'"),
        ("crop", 0, {"area": (0.5, 0.2)}, "smaller first"),
        ("crop", 0, {"area": (0.5, 1.2)}, "less than or equal to 1"),
        ("crop", None, {}, "found no seed"),
        ("crop", -1, {}, "expected one >= 0"),
        ("crop", 0, {"stage": "before_sampling"}, "acts on sampled frames only"),
        ("swap", 0, {}, "needs the second clip"),
        ("crop", 0, {"other": OTHER}, "takes no `other`"),
        ("speed", 0, {"rates": ()}, "at least 1 item"),
        ("reverse", 0, {"rate": 2}, "rate: unknown key"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, seed: int | None, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        operation(name, seed, **fields)  # type: ignore[arg-type]  # wrong on purpose


def test_an_operation_before_sampling_is_refused_on_sampled_frames() -> None:
    with pytest.raises(ConfigError, match="acts before sampling"):
        apply_operations(clip_of(), [operation("reverse", None, stage="before_sampling")])
