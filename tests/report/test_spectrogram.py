"""The picture of a sound: pitch upwards, time to the right, loudness as opacity."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mmalign.media import AudioClip
from mmalign.report.spectrogram import spectrogram_png


def opacity(waveform: npt.NDArray[np.float64], rate_hz: int = 16_000) -> npt.NDArray[np.uint8]:
    """[64, 320], the lowest pitch first."""
    picture = spectrogram_png(AudioClip(waveform[None].astype(np.float32), rate_hz))
    return np.asarray(Image.open(io.BytesIO(picture)))[::-1, :, 3]


@pytest.mark.parametrize("pitch_hz", [500, 2000, 6000])
def test_a_tone_stands_at_its_pitch(pitch_hz: int) -> None:
    times = np.arange(16_000) / 16_000
    shown = opacity(0.3 * np.sin(2 * np.pi * pitch_hz * times))
    row = int(shown.mean(axis=1).argmax())
    assert row == pytest.approx(64 * pitch_hz / 8000, abs=1)
    assert shown[row].min() > 200


def test_a_sound_stands_at_its_time() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.1
    noise[8000:] = 0
    shown = opacity(noise)
    assert shown[:, :150].mean() > 150
    assert shown[:, 170:].max() == 0


@pytest.mark.parametrize("num_samples", [1, 100, 16_000 * 60])
def test_short_long_and_silent_sounds_have_a_picture(num_samples: int) -> None:
    shown = opacity(np.zeros(num_samples))
    assert shown.shape == (64, 320)
    assert shown.max() == 0
