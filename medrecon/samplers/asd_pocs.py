"""Adaptive steepest descent, projection onto convex sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.physics.linop import LinearOperator
from medrecon.problem import System
from medrecon.regularisers import TotalVariation
from medrecon.samplers.base import Sampler, State, samplers

_FLAT = 1e-4  # gradients shorter than that, in units of the contrast, are smoothed: they have no direction
_NEGLIGIBLE = 1e-3  # of the largest sum of a row or column: such rays hardly meet the volume


@samplers.register("asd-pocs", family="classical")
@dataclass(frozen=True)
class ASDPOCS(Sampler):
    """Sweeps over ordered subsets of views alternated with steepest descent of 3D total variation.

    One outer iteration passes once over all data, subset by subset, each a step ``x + b C_s A_s' W R_s (y_s - A_s x)``
    of the simultaneous algebraic technique weighted by the noise, then projects onto the lower bound. Then
    ``descents`` steps down the gradient of total variation, each ``alpha`` times as long as the first sweep was. Where
    they undo the sweep (they move the volume more than ``largest_share`` of what it did) although the data are not
    fitted, they are shortened by ``reduction``; so the volume settles where total variation is least among those that
    fit the data. The result is the volume after the last sweep, before the descents.

    The data count as fitted at ``discrepancy`` times the error of a datum, which is as for ``tv``. Operators without
    views are swept in one block.

    References
    ----------
    Sidky and Pan 2008, doi:10.1088/0031-9155/53/17/021, section 2.3. Differences: subsets in place of single rays, and
    a smaller ``alpha``, as a volume has to be reached in tens of iterations and the first sweep starts at zero.
    """

    iterations: int = 60
    descents: int = 20
    subsets: int = 16
    alpha: float = 0.01
    reduction: float = 0.95
    largest_share: float = 0.95
    relaxation: float = 1.0
    relaxation_reduction: float = 0.995
    discrepancy: float = 0.8
    model_error: float = 0.01

    @property
    def total_steps(self) -> int:
        """One outer iteration a step."""
        return self.iterations

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Empty, at the lower bound where there is one; with what each datum and each ray weighs."""
        problem, x = system.raw, torch.zeros_like(system.back_projection)
        weights = torch.ones_like(problem.y)
        if problem.noise_model is not None:
            weights = problem.noise_model.weights(problem.y).sqrt()  # the full one leaves dark rays behind for long
        if problem.used is not None:
            weights = weights * problem.used
        rays = _reciprocal(problem.op(torch.ones_like(x)))
        x = x if system.lower is None else x + system.lower
        size = torch.tensor(0.0, dtype=torch.float64)
        return State(0, x, {"descended": x, "size": size, "weights": weights * (rays > 0), "rays": rays})

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """One sweep and its descents."""
        before, size = state.tensors["descended"], float(state.tensors["size"])
        swept = self._sweep(system, state)
        swept_by = _distance(swept, before)
        if state.step == 0:
            size = self.alpha * swept_by
        x = descend(system.total_variation(), swept, size, self.descents)
        moved = _distance(x, swept)
        residual = float(torch.linalg.vector_norm(system.data_residual(swept))) / system.data_count**0.5
        if moved > self.largest_share * swept_by and residual > self.discrepancy * system.data_error(self.model_error):
            size *= self.reduction
        tensors = dict(state.tensors) | {"descended": x, "size": torch.tensor(size, dtype=torch.float64)}
        return state.advance(swept, tensors, discrepancy=system.discrepancy(swept), change=swept_by)

    def _sweep(self, system: System, state: State) -> Tensor:
        """Once over all data, then onto the lower bound."""
        weights, rays = state.tensors["weights"], state.tensors["rays"]
        relaxation = self.relaxation * self.relaxation_reduction**state.step
        raw = system.to_quantity(state.tensors["descended"])
        for views, op in subsets_of(system.raw.op, self.subsets):
            residual = system.raw.y[views] - op(raw)
            columns = _reciprocal(op.adjoint(weights[views]))
            raw = raw + relaxation * columns * op.adjoint(weights[views] * rays[views] * residual)
        x = system.from_quantity(raw)
        return x if system.lower is None else x.clamp_min(system.lower)


def subsets_of(op: LinearOperator, count: int) -> Sequence[tuple[Any, LinearOperator]]:
    """Indices along the first axis of the data, and the operator that measures these; one block without views."""
    split = getattr(op, "view_subsets", None)
    return [(slice(None), op)] if split is None else split(count)


def descend(variation: TotalVariation, x: Tensor, size: float, steps: int) -> Tensor:
    """``steps`` steps of length ``size`` each, down the gradient of total variation."""
    for _ in range(steps):
        gradient = variation.K(x)
        direction = variation.K.adjoint(gradient / torch.linalg.vector_norm(gradient, dim=0).clamp_min(_FLAT))
        length = float(torch.linalg.vector_norm(direction))
        if length == 0.0:  # a flat volume
            break
        x = x - (size / length) * direction
    return x


def _distance(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b))


def _reciprocal(sums: Tensor) -> Tensor:
    """``1 / sums``, 0 where next to nothing adds up."""
    floor = max(_NEGLIGIBLE * float(sums.max()), 1e-30)
    return torch.where(sums > floor, 1 / sums.clamp_min(floor), 0)
