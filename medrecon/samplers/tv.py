"""Total variation by ADMM, with the weight chosen by the discrepancy principle where none is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.regularisers import check_axes
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.solvers import SplitState, admm, cg, least_squares_gram

_ITERATIONS_PER_STEP = 10
_SPLIT_THRESHOLD = 0.05  # weight / rho, in units of the contrast: how far a gradient is shrunk in one iteration
_SETTLING_STEPS = 2  # before the residual says anything about the weight
_SEARCH_STEPS = 8  # until the automatic weight stands still
_START_WEIGHT = 0.012  # where the automatic weight starts; the best one on validation patients is near it
_UNKNOWN_NOISE = 1.5e-3  # stands for the noise level where there is no noise model
_SEARCH_RANGE = 4.0  # the automatic weight stays within this factor of its start
_SEARCH_POWER = 0.25


@samplers.register("tv", family="classical")
@dataclass(frozen=True)
class TV(Sampler):
    """3D total variation, isotropic over (z, y, x), with the lower bound, by ADMM.

    Minimises ``1/2 ||A x - y||^2 + weight noise_level TV(x)`` on the normalised system, so that a weight means the
    same at every dose and number of views. ``weight=0`` finds it by Morozov's discrepancy principle: from a weight
    that suits most scans towards the one whose residual is ``discrepancy`` times the noise, at most a factor of four
    away.
    """

    weight: float = 0.0
    iterations: int = 100
    axes: tuple[int, ...] = (0, 1, 2)
    z_weight: float = 0.0
    discrepancy: float = 1.2  # a little above 1: no discrete model fits a real object to its noise
    cg_iterations: int = 20

    def __post_init__(self) -> None:
        check_axes(self.axes)

    @property
    def total_steps(self) -> int:
        """Ten ADMM iterations a step."""
        return -(-self.iterations // _ITERATIONS_PER_STEP)

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Start from ``start`` or from a few CG iterations."""
        gram = least_squares_gram(system.op)
        x = system.start if system.start is not None else cg(gram, system.back_projection, max_iterations=10).x
        terms = self._terms(system)
        state = SplitState.zeros(terms, x)
        weight = torch.tensor(self.weight or _START_WEIGHT, dtype=torch.float64)
        return State(0, x, state.to_tensors() | {"weight": weight})

    def _terms(self, system: System) -> list:
        terms = [system.total_variation(self.axes)]
        if self.z_weight > 0:
            terms.append(system.total_variation((0,)))
        return [*terms, *system.bounds()]

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Ten ADMM iterations, then a move of the automatic weight."""
        terms = self._terms(system)
        weight = float(state.tensors["weight"])
        penalty = weight * (system.noise_level or _UNKNOWN_NOISE)
        weights = [penalty, self.z_weight * penalty, 0.0] if self.z_weight > 0 else [penalty, 0.0]
        rho = [penalty / _SPLIT_THRESHOLD] * len(terms)
        result = admm(
            least_squares_gram(system.op),
            system.back_projection,
            terms,
            weights[: len(terms)],
            x=state.estimate,
            state=SplitState.from_tensors(state.tensors, len(terms)),
            rho=rho,
            iterations=_ITERATIONS_PER_STEP,
            cg_iterations=self.cg_iterations,
        )
        splits = result.state
        discrepancy = system.discrepancy(result.x)
        if self.weight == 0 and system.noise_level > 0 and _SETTLING_STEPS <= state.step < _SEARCH_STEPS:
            moved = self._moved(weight, discrepancy)
            # rho follows the weight, so the scaled duals u = dual / rho shrink when it grows
            splits = SplitState(splits.splits, tuple(u * (weight / moved) for u in splits.duals))
            weight = moved
        estimate = result.x
        if system.lower is not None and state.step + 1 >= self.total_steps:
            estimate = estimate.clamp_min(system.lower)
        tensors = splits.to_tensors() | {"weight": torch.tensor(weight, dtype=torch.float64)}
        return state.advance(estimate, tensors, discrepancy=discrepancy, weight=weight, change=result.changes[-1])

    def _moved(self, weight: float, discrepancy: float) -> float:
        """A smaller weight where the residual is larger than it should be, and the reverse; slowly and not far."""
        moved = weight * (self.discrepancy / max(discrepancy, 1e-6)) ** _SEARCH_POWER
        return min(max(moved, _START_WEIGHT / _SEARCH_RANGE), _START_WEIGHT * _SEARCH_RANGE)


@samplers.register("tv-slice", family="classical")
@dataclass(frozen=True)
class SliceTV(TV):
    """Total variation in each slice plus total variation along z of its own weight (``z_weight`` times as much)."""

    axes: tuple[int, ...] = (1, 2)
    z_weight: float = 0.5
