"""Total variation by ADMM, weighted by the noise; with the discrepancy principle as an alternative."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.regularisers import check_axes
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.solvers import SplitState, admm, cg, least_squares_gram

_ITERATIONS_PER_STEP = 10
_THRESHOLD = 0.2  # weight / rho, in units of the contrast: how far a gradient is shrunk in one iteration
_BOUND = 10.0  # rho of the bound over that of total variation: both, measured, reach the minimum soonest
_AUTOMATIC_WEIGHT = 3.0  # best, or within 0.1 dB of it, from 4 to 32 views (docs/decisions/006)
_SETTLING_STEPS = 2  # before the residual says anything about the weight
_SEARCH_STEPS = 8  # until a weight that is searched for stands still
_SEARCH_RANGE = 64.0  # it stays within this factor of its start
_SEARCH_POWER = 4.0  # the residual hardly depends on the weight
_LARGEST_MOVE = 2.0


@samplers.register("tv", family="classical")
@dataclass(frozen=True)
class TV(Sampler):
    """3D total variation, isotropic over (z, y, x), with the lower bound, by ADMM.

    Minimises ``1/2 ||A x - y||^2 + weight e^2 TV(x)`` on the normalised system, where ``e`` is the error of a datum:
    its noise, and ``model_error`` of the data, because no discrete model fits a real object to its noise. So a weight
    means the same at every dose and number of views: 1 over the typical step of the volume, as in a Bayesian estimate
    with Laplace-distributed gradients. ``weight=0`` takes the one that was best on validation volumes.

    With ``discrepancy`` the weight is searched for instead, until the residual is that many times ``e`` (Morozov's
    principle; 1 is the textbook's choice). At few views that smooths too much: the best volume fits its data more
    closely than the truth does, because it has nearly as many degrees of freedom as there are data.

    With ``reach`` (MRI) what it puts far from all measured frequencies counts less in the end; 0 keeps all of it.
    """

    weight: float = 0.0
    iterations: int = 100
    axes: tuple[int, ...] = (0, 1, 2)
    z_weight: float = 0.0
    discrepancy: float = 0.0
    model_error: float = 0.01
    cg_iterations: int = 20
    reach: float = 0.0

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
        weight = torch.tensor(self.weight or _AUTOMATIC_WEIGHT, dtype=torch.float64)
        return State(0, x, state.to_tensors() | {"weight": weight})

    def _terms(self, system: System) -> list:
        terms = [system.total_variation(self.axes)]
        if self.z_weight > 0:
            terms.append(system.total_variation((0,)))
        return [*terms, *system.bounds()]

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Ten ADMM iterations, then a move of the automatic weight."""
        terms, bounds = self._terms(system), len(system.bounds())
        weight = float(state.tensors["weight"])
        error = system.data_error(self.model_error)
        penalty = weight * error**2
        weights = [penalty, self.z_weight * penalty, 0.0] if self.z_weight > 0 else [penalty, 0.0]
        rho = [penalty / _THRESHOLD] * (len(terms) - bounds) + [_BOUND * penalty / _THRESHOLD] * bounds
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
            cg_tolerance=0.0,  # what is left of a residual of 1e-4 is 1 dB of fine detail
        )
        splits = result.state
        discrepancy = system.discrepancy(result.x)
        if self.discrepancy > 0 and _SETTLING_STEPS <= state.step < _SEARCH_STEPS:
            residual = float(torch.linalg.vector_norm(system.data_residual(result.x))) / system.data_count**0.5
            moved = self._moved(weight, residual / error)
            # rho follows the weight, so the scaled duals u = dual / rho shrink when it grows
            splits = SplitState(splits.splits, tuple(u * (weight / moved) for u in splits.duals))
            weight = moved
        estimate, last = result.x, state.step + 1 >= self.total_steps
        if last and self.reach > 0:
            estimate = system.within_reach(estimate, self.reach)
        if last and system.lower is not None:
            estimate = estimate.clamp_min(system.lower)
        tensors = splits.to_tensors() | {"weight": torch.tensor(weight, dtype=torch.float64)}
        return state.advance(estimate, tensors, discrepancy=discrepancy, weight=weight, change=result.changes[-1])

    def _moved(self, weight: float, ratio: float) -> float:
        """A smaller weight where the residual is larger than it should be, and the reverse; not too far."""
        start = self.weight or _AUTOMATIC_WEIGHT
        change = (self.discrepancy / max(ratio, 1e-6)) ** _SEARCH_POWER
        moved = weight * min(max(change, 1 / _LARGEST_MOVE), _LARGEST_MOVE)
        return min(max(moved, start / _SEARCH_RANGE), start * _SEARCH_RANGE)


@samplers.register("tv-slice", family="classical")
@dataclass(frozen=True)
class SliceTV(TV):
    """Total variation in each slice plus total variation along z of its own weight (``z_weight`` times as much)."""

    axes: tuple[int, ...] = (1, 2)
    z_weight: float = 0.5
