"""Simultaneous iterative reconstruction technique."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers


@samplers.register("sirt", family="classical")
@dataclass(frozen=True)
class SIRT(Sampler):
    """SIRT with row and column sums and the lower bound: ``x + C A' R (y - A x)`` (Gregor and Benson 2008)."""

    iterations: int = 100
    relaxation: float = 1.0

    @property
    def total_steps(self) -> int:
        """One step an iteration."""
        return self.iterations

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Zero, with the reciprocal sums of rows and columns."""
        op = system.raw.op
        rows = op(torch.ones_like(system.back_projection))
        columns = op.adjoint(torch.ones_like(system.y))
        floor_rows, floor_columns = 1e-3 * float(rows.max()), 1e-3 * float(columns.max())
        tensors = {
            "rows": torch.where(rows > floor_rows, 1 / rows.clamp_min(floor_rows), 0),
            "columns": torch.where(columns > floor_columns, 1 / columns.clamp_min(floor_columns), 0),
        }
        return State(0, torch.zeros_like(system.back_projection), tensors)

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """One sweep over all data."""
        op = system.raw.op
        x = system.to_quantity(state.estimate)
        residual = system.raw.y - op(x)
        update = op.adjoint(state.tensors["rows"] * residual) * state.tensors["columns"]
        x = system.from_quantity(x + self.relaxation * update)
        return state.advance(x if system.lower is None else x.clamp_min(system.lower))
