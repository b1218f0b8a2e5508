"""Adaptive steepest descent, projection onto convex sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers


@samplers.register("asd-pocs", family="classical")
@dataclass(frozen=True)
class ASDPOCS(Sampler):
    """Data sweeps alternated with steepest descent of 3D total variation (Sidky and Pan 2008).

    One SIRT-like sweep with positivity, then ``descents`` gradient steps whose length follows the change that the
    sweep made, reduced when the data misfit grows.
    """

    iterations: int = 60
    descents: int = 15
    alpha: float = 0.2
    reduction: float = 0.95

    @property
    def total_steps(self) -> int:
        """One outer iteration a step."""
        return self.iterations

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Zero, with the reciprocal sums of rows and columns of the normalised operator."""
        ones = torch.ones_like(system.back_projection)
        rows, columns = system.op(ones), system.op.adjoint(torch.ones_like(system.y))
        tensors = {
            "rows": 1 / rows.clamp_min(1e-3 * float(rows.max())),
            "columns": 1 / columns.clamp_min(1e-3 * float(columns.max())),
            "alpha": torch.tensor(self.alpha, dtype=torch.float64),
            "size": torch.tensor(0.0, dtype=torch.float64),
        }
        return State(0, torch.zeros_like(ones), tensors)

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """One sweep and its descents."""
        tensors = dict(state.tensors)
        residual = -system.data_residual(state.estimate)
        swept = state.estimate + system.op.adjoint(tensors["rows"] * residual) * tensors["columns"]
        if system.lower is not None:
            swept = swept.clamp_min(system.lower)
        data_change = float(torch.linalg.vector_norm(swept - state.estimate))
        size = float(tensors["size"]) or float(tensors["alpha"]) * data_change
        variation = system.total_variation()
        x = swept
        for _ in range(self.descents):
            gradient = variation.K(x)
            length = torch.linalg.vector_norm(gradient, dim=0).clamp_min_(1e-4)
            direction = variation.K.adjoint(gradient / length)
            steepness = max(float(torch.linalg.vector_norm(direction)), 1e-12)  # 0 for a flat volume
            x = x - size * direction / steepness / self.descents * 4
        moved = float(torch.linalg.vector_norm(x - swept))
        discrepancy = system.discrepancy(swept)
        if moved > 0.95 * data_change and discrepancy > 1.0:
            size *= self.reduction
        tensors["size"] = torch.tensor(size, dtype=torch.float64)
        return state.advance(x, tensors, discrepancy=discrepancy)
