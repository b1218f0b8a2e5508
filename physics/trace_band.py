"""Traces at a fraction of their frequencies, to test on coarse lines what is to fill fine ones."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

_SMOOTH = 9  # frequencies over which power is averaged
_FLOOR = 1e-3  # of the largest power: what is fainter is not brought up
_LARGEST = 10.0  # of the gain


def slowed(sections: np.ndarray, factor: int) -> np.ndarray:
    """Sections ``(row, time, column)`` with the spectrum of before at 1/``factor`` of the frequencies, and so sampled.

    An event is late by the same time from trace to trace at all frequencies. So of lines ``factor`` times as far apart
    the slowed sections show the same phases from line to line, the same aliases, and the same slopes in samples. One
    filter without phase for all traces; missing traces, which are zero, stay zero; as loud as before.
    """
    samples = sections.shape[1]
    spectra = np.fft.rfft(sections, n=2 * samples, axis=1)
    power = uniform_filter1d(np.square(np.abs(spectra)).sum(axis=(0, 2)), _SMOOTH).clip(min=0)  # a running sum
    frequency = np.arange(len(power))
    wanted = np.interp(factor * frequency, frequency, power, right=0.0)
    gain = np.sqrt(wanted / np.maximum(power + _FLOOR * power.max(), np.finfo(float).tiny)).clip(max=_LARGEST)
    slow = np.fft.irfft(spectra * gain[None, :, None], n=2 * samples, axis=1)[:, :samples:factor]
    loudness = np.square(slow).mean()
    return (slow * np.sqrt(np.square(sections).mean() / loudness) if loudness > 0 else slow).astype(sections.dtype)
