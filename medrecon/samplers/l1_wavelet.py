"""Compressed sensing with wavelets: sparse details in randomly shifted Daubechies wavelets, by FISTA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.physics.mri.wavelet import levels_of, shrink
from medrecon.problem import System
from medrecon.regularisers import check_axes
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.samplers.complex_system import complex_system, discrepancy, magnitude

_ITERATIONS_PER_STEP = 10
_STEP = 0.98  # of 1 / ||A||^2; the norm is known to 1e-4


@samplers.register("l1-wavelet", family="classical", modality="mri")
@dataclass(frozen=True)
class L1Wavelet(Sampler):
    """L1-ESPIRiT (Lustig et al. 2007, Uecker et al. 2014): the modulus of a complex volume with sparse wavelets.

    Minimises ``1/2 ||A x - y||^2 + weight ||W x||_1`` with ``||A|| = 1`` and a bright voxel at 1, so that a weight
    means the same for every scan. The wavelets are shifted at random in every iteration, against block artefacts
    (Figueiredo and Nowak 2003). Wavelets are those of each slice, or of ``axes``.
    """

    weight: float = 0.0015
    iterations: int = 100
    axes: tuple[int, ...] = (1, 2)
    shifts: bool = True

    def __post_init__(self) -> None:
        check_axes(self.axes)

    @property
    def total_steps(self) -> int:
        """Ten iterations a step."""
        return -(-self.iterations // _ITERATIONS_PER_STEP)

    def init(self, system: System, noise: KeyedNoise) -> State:
        """The back-projection."""
        x = complex_system(system).back_projection
        stored = torch.view_as_real(x.contiguous())
        tensors = {"x": stored, "momentum": stored.clone(), "t": torch.ones((), dtype=torch.float64)}
        return State(0, magnitude(system, x), tensors)

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Ten iterations of FISTA (Beck and Teboulle 2009, section 4)."""
        form = complex_system(system)
        rhs = form.back_projection
        x, z = (torch.view_as_complex(state.tensors[name]).clone() for name in ("x", "momentum"))
        t = float(state.tensors["t"])
        last = min(_ITERATIONS_PER_STEP, self.iterations - state.step * _ITERATIONS_PER_STEP)
        change = 0.0
        for index in range(last):
            moved = z - _STEP * (form.op.normal(z) - rhs)
            new = self._shrink(moved, state.step * _ITERATIONS_PER_STEP + index)
            following = (1 + (1 + 4 * t * t) ** 0.5) / 2
            z = new + (t - 1) / following * (new - x)
            size = float(torch.linalg.vector_norm(new))
            change = float(torch.linalg.vector_norm(new - x)) / size if size > 0 else 0.0
            x, t = new, following
        tensors = {
            "x": torch.view_as_real(x.contiguous()),
            "momentum": torch.view_as_real(z.contiguous()),
            "t": torch.tensor(t, dtype=torch.float64),
        }
        return state.advance(magnitude(system, x), tensors, discrepancy=discrepancy(system, form, x), change=change)

    def _shrink(self, x: Tensor, iteration: int) -> Tensor:
        axes = [x.ndim - 3 + axis for axis in self.axes]
        sizes = [x.shape[axis] for axis in axes]
        levels = levels_of(sizes)
        # Not the seed of the run: the method has one answer, and the shifts are a means to it
        random = np.random.default_rng([iteration])
        shift = [int(random.integers(1 << levels)) if self.shifts else 0 for _ in axes]
        return shrink(x, self.weight * _STEP, axes, levels, shift)
