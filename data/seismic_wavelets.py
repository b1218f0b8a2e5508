"""Wavelets by their spectra, and the convolution of a finely sampled reflectivity with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Wavelet:
    """A Ricker or Ormsby wavelet; its spectrum is at most 1.

    ``corners`` are in hertz: the peak frequency of a Ricker wavelet alone, or the four corners of an Ormsby trapezoid.
    ``phase`` turns all frequencies alike, in radians.
    """

    corners: tuple[float, ...]
    phase: float = 0.0

    def spectrum(self, frequencies: np.ndarray) -> np.ndarray:
        """Complex values at frequencies in hertz (Ricker 1953: ``(f/p)^2 exp(1 - (f/p)^2)``)."""
        if len(self.corners) == 1:
            ratio = (frequencies / self.corners[0]) ** 2
            size = ratio * np.exp(1 - ratio)
        else:
            size = np.interp(frequencies, self.corners, [0.0, 1.0, 1.0, 0.0], left=0.0, right=0.0)
        return size * np.exp(1j * self.phase)

    def lowered(self, factor: float) -> Wavelet:
        """The same with all frequencies times ``factor``."""
        return Wavelet(tuple(factor * f for f in self.corners), self.phase)


def random_wavelet(rng: np.random.Generator, highest: float) -> Wavelet:
    """A wavelet of random kind, band and phase, with hardly anything above ``highest`` hertz."""
    phase = rng.choice([0.0, rng.uniform(-np.pi, np.pi)])
    if rng.random() < 0.6:
        return Wavelet((highest * rng.uniform(0.1, 0.42),), phase)
    low, high = highest * rng.uniform(0.03, 0.1), highest * rng.uniform(0.3, 0.95)
    return Wavelet((0.5 * low, 1.5 * low, rng.uniform(0.5, 0.75) * high, high), phase)


def filtered(
    fine: np.ndarray, factor: int, wavelets: tuple[Wavelet, ...], interval: float, padding: int = 64
) -> list[np.ndarray]:
    """Series ``(..., factor * n)`` filtered and brought to ``n`` samples of ``interval`` seconds, for each wavelet.

    Frequencies above that of the coarse sampling are dropped, not folded back.
    """
    count = fine.shape[-1] // factor
    length = count + padding
    spectrum = np.fft.rfft(fine, n=factor * length, axis=-1)[..., : length // 2 + 1] / factor
    frequencies = np.fft.rfftfreq(length, interval)
    return [np.fft.irfft(spectrum * w.spectrum(frequencies), n=length, axis=-1)[..., :count] for w in wavelets]
