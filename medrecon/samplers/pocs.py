"""POCS: traces filled by the strongest parts of the Fourier spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.samplers.base import samplers
from medrecon.samplers.windowed import Windowed


@samplers.register("pocs", family="classical", modality="seismic")
@dataclass(frozen=True)
class Pocs(Windowed):
    """Projection onto convex sets with a falling Fourier threshold (Abma and Kabir 2006), in overlapping windows.

    In each iteration the parts of the spectrum above the threshold are kept and the live traces put back. The threshold
    falls exponentially from the largest value to ``last`` of it. ``window`` is ``(rows, time, columns)``; with
    ``dimensions=2`` each section is filled by itself. Fills irregular holes; the aliases of regular decimation are as
    strong as the signal, and nothing is gained there.
    """

    iterations: int = 60
    last: float = 0.002
    window: tuple[int, ...] = (32, 64, 32)
    dimensions: int = 3

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
        axes, size = (1, 2, 3), data.shape[1:]
        estimate, known = data, mask > 0
        first = torch.fft.rfftn(data, dim=axes).abs().amax(dim=axes, keepdim=True)
        for number in range(self.iterations):
            threshold = first * self.last ** (number / max(self.iterations - 1, 1))
            spectrum = torch.fft.rfftn(estimate, dim=axes)
            spectrum = torch.where(spectrum.abs() >= threshold, spectrum, torch.zeros((), dtype=spectrum.dtype))
            estimate = torch.where(known, data, torch.fft.irfftn(spectrum, s=size, dim=axes))
        return estimate
