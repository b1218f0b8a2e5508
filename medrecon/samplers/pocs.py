"""POCS: traces filled by the strongest parts of the Fourier spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.dip_fan import fan_weights
from medrecon.physics.slopes import LARGEST
from medrecon.samplers.base import samplers
from medrecon.samplers.windowed import Windowed


@samplers.register("pocs", family="classical", modality="seismic")
@dataclass(frozen=True)
class Pocs(Windowed):
    """Projection onto convex sets with a falling Fourier threshold (Abma and Kabir 2006), in overlapping windows.

    In each iteration the parts of the spectrum above the threshold are kept and the live traces put back. The threshold
    falls exponentially from the largest value to ``last`` of it. ``window`` is ``(rows, time, columns)``; with
    ``dimensions=2`` each section is filled by itself. Fills irregular holes; the aliases of regular decimation are as
    strong as the signal, and nothing is gained there unless ``fan`` tells them apart: with it parts of the spectrum
    compete by amplitude times the ``fan``-th power of how plausible they are by the dips of the window, of up to
    ``largest`` samples from trace to trace (see `medrecon.physics.dip_fan`).
    """

    iterations: int = 60
    last: float = 0.002
    window: tuple[int, ...] = (32, 64, 32)
    dimensions: int = 3
    fan: float = 0.0
    largest: float = LARGEST

    def __post_init__(self) -> None:
        if len(self.window) != 3 or min(self.window) < 1:
            raise UsageError("a window has three sizes (rows, time, columns)", found=self.window)
        if self.dimensions not in (2, 3):
            raise UsageError("POCS works in 2 or 3 dimensions", found=self.dimensions)
        if not 0 < self.last < 1:
            raise UsageError("the last threshold is a share of the first", found=self.last)

    def window_for(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """As set; of one section, twice as wide where the volume has no other rows."""
        rows, time, columns = self.window
        if self.dimensions == 2:
            return 1, time, columns
        return rows, time, 2 * columns if shape[0] == 1 else columns

    def fill(self, data: Tensor, mask: Tensor) -> Tensor:
        """All iterations on a batch of windows."""
        axes = (1, 3, 2)  # of the last one, time, half the spectrum is enough
        size = [data.shape[axis] for axis in axes]
        estimate, known = data, mask > 0
        amplitude = torch.fft.rfftn(data, dim=axes).abs()
        weight = torch.ones(())
        if self.fan > 0:
            weight = fan_weights(amplitude, data.shape[2], self.largest).pow(self.fan)
        first = (amplitude * weight).amax(dim=axes, keepdim=True)
        for number in range(self.iterations):
            threshold = first * self.last ** (number / max(self.iterations - 1, 1))
            spectrum = torch.fft.rfftn(estimate, dim=axes)
            loud = spectrum.abs() * weight >= threshold
            spectrum = torch.where(loud, spectrum, torch.zeros((), dtype=spectrum.dtype))
            estimate = torch.where(known, data, torch.fft.irfftn(spectrum, s=size, dim=axes))
        return estimate


@samplers.register("pocs-fan", family="classical", modality="seismic")
@dataclass(frozen=True)
class FanPocs(Pocs):
    """POCS for lines missing at regular distances: dips found at low frequencies tell events from their aliases."""

    window: tuple[int, ...] = (24, 48, 24)
    fan: float = 4.0
