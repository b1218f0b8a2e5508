"""Methods that fill traces window by window: the loop over windows, their overlap and the way back to a volume."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.physics.windows import Windows
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State
from medrecon.samplers.trace_system import TraceSystem, trace_system

_PARTS = 8  # steps of a run: how often progress is shown and saved


@dataclass(frozen=True)
class Windowed(Sampler):
    """A method that fills one window after the other; windows overlap by half and are blended by tapers."""

    @property
    def total_steps(self) -> int:
        """A share of the windows in each."""
        return _PARTS

    @abstractmethod
    def window_for(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Size of a window ``(rows, time, columns)`` for a volume of this shape."""

    @abstractmethod
    def fill(self, data: Tensor, mask: Tensor) -> Tensor:
        """Windows ``(n, rows, time, columns)`` filled; ``mask`` is 1 where live, ``(n, rows, 1, columns)``."""

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Nothing is filled: linear interpolation is shown where no window has been."""
        traces = trace_system(system)
        return State(
            0, traces.linear(), {"sum": torch.zeros_like(traces.data), "weight": torch.zeros_like(traces.data)}
        )

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Fill a share of the windows."""
        traces = trace_system(system)
        shape = system.geometry.shape
        windows = Windows(shape, self.window_for(shape))
        total, weight = state.tensors["sum"].clone(), state.tensors["weight"].clone()
        self.fill_windows(traces, windows.share(state.step, _PARTS), windows.taper(), total, weight)
        done = weight > 0
        estimate = torch.where(done, total / weight.clamp_min(1e-12), state.estimate)
        return state.advance(traces.with_live(estimate), {"sum": total, "weight": weight})

    def fill_windows(
        self,
        traces: TraceSystem,
        places: Iterable[tuple[slice, slice, slice]],
        taper: Tensor,
        total: Tensor,
        weight: Tensor,
    ) -> None:
        """Fill the windows at these places; adds results times ``taper`` to ``total`` and tapers to ``weight``."""
        for place in places:
            total[place] += taper * self._filled(traces, place)
            weight[place] += taper

    def _filled(self, traces: TraceSystem, place: tuple[slice, slice, slice]) -> Tensor:
        data, mask = traces.data[place], traces.mask[place[0], :, place[2]]
        if bool((mask == 1).all()) or not bool(data.any()):
            return data
        return self.fill(data[None], mask[None])[0]
