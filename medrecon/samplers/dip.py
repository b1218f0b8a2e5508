"""Missing traces filled along the slopes of events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.slopes import LARGEST, local_slopes
from medrecon.physics.steering import SteeredDifferences
from medrecon.samplers.base import samplers
from medrecon.samplers.trace_system import TraceSystem
from medrecon.samplers.windowed import Windowed
from medrecon.solvers import cg

_TIE = 1e-3  # to linear interpolation: decides only what no slope reaches


@samplers.register("dip", family="classical", modality="seismic")
@dataclass(frozen=True)
class AlongSlopes(Windowed):
    """Interpolation along the local slopes of events (plane-wave destruction, Fomel 2002), in overlapping windows.

    Missing traces are chosen so that neighbours differ as little as possible along the slopes, in the sense of least
    squares, with the live traces as they are. The slopes come from live traces first and then, ``rounds`` times in
    all, from the volume so far. Strong on steep events and on lines missing at regular distances, where Fourier and
    rank methods see aliases; one slope at each place, so crossing events (gathers) are not for it. ``largest`` is the
    steepest slope, in samples from trace to trace; ``smoothing`` the window that a slope is estimated in.
    """

    rounds: int = 4
    iterations: int = 30
    largest: float = LARGEST
    smoothing: tuple[int, ...] = (5, 11, 5)
    window: tuple[int, ...] = (32, 128, 32)

    def __post_init__(self) -> None:
        for name, sizes in (("window", self.window), ("smoothing window", self.smoothing)):
            if len(sizes) != 3 or min(sizes) < 1:
                raise UsageError(f"a {name} has three sizes (rows, time, columns)", found=sizes)
        if not self.largest > 0:
            raise UsageError("the steepest slope must be positive", found=self.largest)

    def window_for(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """As set; twice as wide where the volume has no other rows."""
        rows, time, columns = self.window
        return rows, time, 2 * columns if shape[0] == 1 else columns

    def fill(self, data: Tensor, mask: Tensor) -> Tensor:
        """All rounds, one window after the other."""
        return torch.stack([self._fill_one(x, live[:, 0] > 0) for x, live in zip(data, mask, strict=True)])

    def _fill_one(self, data: Tensor, live: Tensor) -> Tensor:
        linear = TraceSystem(data, live).linear()
        missing = (~live)[:, None].to(data.dtype)
        estimate, known = data, live.numpy()
        for number in range(self.rounds):
            op = self._differences(estimate.numpy(), known if number == 0 else None)
            if op is None:
                return linear

            def gram(x: Tensor, op: SteeredDifferences = op) -> Tensor:
                return missing * op.normal(missing * x) + _TIE * x

            estimate = linear + cg(gram, -missing * op.normal(linear), max_iterations=self.iterations).x
        return estimate

    def _differences(self, sections: np.ndarray, live: np.ndarray | None) -> SteeredDifferences | None:
        """Along the slopes of these sections, over the axes that have more than one trace; None where none has."""
        slopes = {}
        for axis in (0, 2):
            if sections.shape[axis] > 1:
                turned = sections.swapaxes(0, axis)
                seen = live if live is None or axis == 0 else live.T
                size = self.smoothing if axis == 0 else self.smoothing[::-1]
                found = local_slopes(turned, seen, largest=self.largest, window=(size[0], size[1], size[2]))
                slopes[axis] = torch.from_numpy(np.ascontiguousarray(found.swapaxes(0, axis)))
        return SteeredDifferences(sections.shape, slopes) if slopes else None  # type: ignore[arg-type]
