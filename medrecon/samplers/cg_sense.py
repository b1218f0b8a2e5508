"""CG-SENSE: least squares over complex images by conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.samplers.complex_system import complex_system, discrepancy, magnitude
from medrecon.solvers import cg, least_squares_gram


@samplers.register("cg-sense", family="classical", modality="mri")
@dataclass(frozen=True)
class CGSense(Sampler):
    """Parallel imaging without a model of the image (Pruessmann et al. 2001): the modulus of a complex volume.

    Minimises ``||A x - y||^2 + damping ||x||^2`` with ``||A|| = 1``, over all sets of coil maps.
    """

    iterations: int = 30
    damping: float = 1e-3

    @property
    def total_steps(self) -> int:
        """One: the iterations run inside, because restarting would lose conjugacy."""
        return 1

    def init(self, system: System, noise: KeyedNoise) -> State:
        """An empty volume."""
        return State(0, torch.zeros_like(system.back_projection))

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """All iterations."""
        form = complex_system(system)
        gram = least_squares_gram(form.op, self.damping)
        solved = cg(gram, form.back_projection, max_iterations=self.iterations, tolerance=1e-6)
        return state.advance(
            magnitude(system, solved.x),
            cg_residual=solved.residuals[-1],
            discrepancy=discrepancy(system, form, solved.x),
        )
