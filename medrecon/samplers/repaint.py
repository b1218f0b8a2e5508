"""RePaint: what is known is noised and put back at every level, with resampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.regularisers import check_axes
from medrecon.samplers.annealed import Annealed
from medrecon.samplers.base import State, samplers
from medrecon.samplers.turns import denoise_in_turn
from medrecon.solvers import cg, least_squares_gram

_INITIAL, _PER_STEP = 0, 3  # noise keys: the first volume, then three fields a step


@samplers.register("repaint", family="diffusion")
@dataclass(frozen=True)
class Repaint(Annealed):
    """Known traces noised and put back at every level, levels gone through again (Lugmayr et al., CVPR 2022).

    Algorithm 1: one step from level s to the next one s', with D the prior and fresh noise n, m::

        x = D + (s' / s)^2 (x - D) + s' sqrt(1 - (s' / s)^2) n      the prior alone (DDPM)
        x = x + A^+ (y + s' A m - A x)                              the data, as noisy as x, in their place

    The prior's step does not know what was put back beside it; so after every ``jump`` levels noise of as many levels
    is added and they are gone through again, ``visits`` times in all, until both agree. A guided prior sees the
    classical volume and what is known of it as well: then this is the conditional scheme that SeisFusion uses on
    seismic cubes, with sections in turns in place of its 3D network. For data without noise.
    """

    steps: int = 50
    jump: int = 5  # levels that are gone through again
    visits: int = 4  # 1: no resampling
    guided: bool = True  # whether a prior that was trained with a guide gets one
    directions: tuple[int, ...] = (0,)  # axes along which the prior takes its slices, in turns; 0 is z
    correlation_mm: float = 6.0  # of all noise along z, where slices are taken along z alone
    cg_iterations: int = 10  # of A^+; of traces one is exact

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.jump, self.visits) < 1:
            raise UsageError("jump and visits are at least 1", found=f"jump {self.jump}, visits {self.visits}")
        check_axes(self.directions)

    def path(self) -> list[tuple[int, int]]:
        """For every evaluation of the prior: the level it starts from, and the one the next starts from."""
        left = dict.fromkeys(range(self.jump, self.steps, self.jump), self.visits - 1)
        moves, place = [], 0
        while place < self.steps:
            start, place = place, place + 1
            if left.get(place, 0) > 0:
                left[place] -= 1
                place -= self.jump
            moves.append((start, place))
        return moves

    @property
    def total_steps(self) -> int:
        """One for every evaluation of the prior."""
        return len(self.path())

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True

    def init(self, system: System, noise: KeyedNoise) -> State:
        """The classical volume, or zero, plus noise of the first level."""
        clean = system.start if system.start is not None else torch.zeros_like(system.back_projection)
        return State(0, clean, {"x": clean + self.levels()[0] * self._noise(system, noise, _INITIAL)})

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """The prior's step down, the data in their place, and back up where it is time to."""
        levels, (start, end) = self.levels(), self.path()[state.step]
        sigma, below = levels[start], levels[start + 1]
        x, key = state.tensors["x"], _INITIAL + 1 + _PER_STEP * state.step
        asked = system if self.guided else replace(system, start=None)
        clean = denoise_in_turn(asked, x, sigma, self.directions, state.step)
        share = (below / sigma) ** 2
        x = torch.lerp(clean, x, share) + below * (1 - share) ** 0.5 * self._noise(system, noise, key)
        x = self._with_data(system, x, below * self._noise(system, noise, key + 1))
        if levels[end] > below:
            x = x + (levels[end] ** 2 - below**2) ** 0.5 * self._noise(system, noise, key + 2)
        estimate = x if below == 0 else self._with_data(system, clean, torch.zeros(()))
        if system.lower is not None:
            estimate = estimate.clamp_min(system.lower)
        return state.advance(estimate, {"x": x}, sigma=sigma, discrepancy=system.discrepancy(estimate))

    def _noise(self, system: System, noise: KeyedNoise, key: int) -> Tensor:
        correlation = self.correlation_mm / system.geometry.spacing[0] if self.directions == (0,) else 0.0
        return noise.volume(key, system.geometry.shape, correlation)

    def _with_data(self, system: System, x: Tensor, noise: Tensor) -> Tensor:
        """``x + A^+ (y - A (x - noise))``."""
        missing = -system.data_residual(x - noise)
        gram = least_squares_gram(system.op, 1e-6)
        return x + cg(gram, system.op.adjoint(missing), max_iterations=self.cg_iterations).x
