"""Random numbers of the samplers, keyed by (seed, sample, step, slice).

A slice draws the same numbers whatever the chunk size, the order of work or the number of processes, and a
resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_REACH = 3  # the correlation kernel ends after this many standard deviations


@dataclass(frozen=True)
class KeyedNoise:
    """Standard normal volumes for one sample of one seed."""

    seed: int
    sample: int = 0

    def slice_normal(self, step: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """White noise of one slice; ``index`` may lie outside the volume."""
        key = np.array([self.seed, (self.sample << 48) ^ (step << 24) ^ (index + (1 << 20))], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)

    def volume(self, step: int, shape: tuple[int, ...], correlation: float = 0.0) -> Tensor:
        """Unit-variance noise ``(z, y, x)`` (or more axes after z), white in the plane and Gaussian-correlated along z.

        ``correlation`` is the standard deviation, in slices, of the kernel that smooths white noise along z; at
        a distance of d slices the correlation is ``exp(-d^2 / (4 correlation^2))``. Noise is drawn beyond both
        ends, so that the first and last slices are like the others.
        """
        slices, *plane = shape
        reach = int(np.ceil(_REACH * correlation))
        white = np.stack([self.slice_normal(step, index, tuple(plane)) for index in range(-reach, slices + reach)])
        if reach == 0:
            return torch.from_numpy(white)
        offsets = np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (offsets / correlation) ** 2)
        kernel = (kernel / np.linalg.norm(kernel)).astype(np.float32)
        total = np.zeros(shape, dtype=np.float32)
        for weight, start in zip(kernel, range(2 * reach + 1), strict=True):
            total += weight * white[start : start + slices]
        return torch.from_numpy(total)
