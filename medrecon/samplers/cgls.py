"""Conjugate gradients on the weighted least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.solvers import cg, least_squares_gram


@samplers.register("cgls", family="classical")
@dataclass(frozen=True)
class ConjugateGradient(Sampler):
    """Weighted least squares by conjugate gradients; stopping early is its only regularisation.

    ``damping`` adds ``damping / 2 ||x||^2`` (relative to the operator's norm).
    """

    iterations: int = 15
    damping: float = 0.0

    @property
    def total_steps(self) -> int:
        """One: the iterations run inside, because restarting would lose conjugacy."""
        return 1

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Zero."""
        return State(0, torch.zeros_like(system.back_projection))

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """All iterations."""
        gram = least_squares_gram(system.op, self.damping)
        solved = cg(gram, system.back_projection, max_iterations=self.iterations, tolerance=1e-6)
        return state.advance(solved.x, cg_residual=solved.residuals[-1])
