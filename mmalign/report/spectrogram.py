"""A small picture of a sound: which pitches are heard when."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmalign.media import AudioClip

__all__ = ["spectrogram_png"]

_WIDTH, _HEIGHT = 320, 64
_WINDOW_S = 0.032
_RANGE_DB = 70.0
_INK = (38, 120, 142)
"""One hue whose opacity is the loudness, so that it is read on light and on dark paper."""


def spectrogram_png(sound: AudioClip) -> bytes:
    """Time from left to right, pitch upwards in equal steps, loudness over 70 dB as opacity.

    Args:
        sound: [C, N]; the channels are averaged. Silence gives an empty picture.
    """
    power = _power(sound.waveform.mean(axis=0), round(_WINDOW_S * sound.sample_rate_hz))
    decibels = 10 * np.log10(np.maximum(power, 1e-20))
    loudest = max(float(decibels.max()), -60.0)
    opacity = np.clip((decibels - loudest) / _RANGE_DB + 1, 0, 1)
    picture = np.empty((*opacity.shape, 4), np.uint8)
    picture[..., :3] = _INK
    picture[..., 3] = np.round(255 * opacity)
    buffer = io.BytesIO()
    Image.fromarray(picture[::-1]).resize((_WIDTH, _HEIGHT), Image.Resampling.BOX).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def _power(samples: npt.NDArray[np.float32], num_window: int) -> npt.NDArray[np.float64]:
    """[pitches, times] of Hann windows: the loudest of the pitches that share a row."""
    padded = np.pad(samples, (0, max(0, num_window - len(samples))))
    hop = max(num_window // 2, len(padded) // (4 * _WIDTH))
    starts = np.arange(0, len(padded) - num_window + 1, hop)
    windows = padded[starts[:, None] + np.arange(num_window)] * np.hanning(num_window)
    spectrum = np.fft.rfft(windows, axis=1) / (num_window / 4)
    power = np.abs(spectrum).T ** 2
    num_rows = min(_HEIGHT, len(power))
    return np.stack([row.max(axis=0) for row in np.array_split(power, num_rows)])
