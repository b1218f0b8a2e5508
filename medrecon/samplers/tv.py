"""Total variation by ADMM, with the weight chosen by the discrepancy principle where none is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.solvers import SplitState, admm, least_squares_gram

_ITERATIONS_PER_STEP = 10
_SEARCH_STEPS = 10  # steps in which the automatic weight may still move
_START_WEIGHT = 3e-4


@samplers.register("tv", family="classical")
@dataclass(frozen=True)
class TV(Sampler):
    """3D total variation, isotropic over (z, y, x), with the lower bound, by ADMM.

    Minimises ``1/2 ||A x - y||^2 + weight TV(x)`` on the normalised system. ``weight=0`` chooses the weight by
    Morozov's discrepancy principle: the residual is brought to ``discrepancy`` times the noise, or, where the model
    does not fit that well, to within that factor of the best fit.
    """

    weight: float = 0.0
    iterations: int = 150
    axes: tuple[int, ...] = (0, 1, 2)
    z_weight: float = 0.0
    discrepancy: float = 1.0
    cg_iterations: int = 4

    @property
    def total_steps(self) -> int:
        """Ten ADMM iterations a step."""
        return -(-self.iterations // _ITERATIONS_PER_STEP)

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Start from ``start`` or from a few CG iterations."""
        from medrecon.solvers import cg

        gram = least_squares_gram(system.op)
        x = system.start if system.start is not None else cg(gram, system.back_projection, max_iterations=10).x
        terms = self._terms(system)
        state = SplitState.zeros(terms, x)
        weight = torch.tensor(self.weight or _START_WEIGHT, dtype=torch.float64)
        return State(0, x, _pack(state) | {"weight": weight})

    def _terms(self, system: System) -> list:
        terms = [system.total_variation(self.axes)]
        if self.z_weight > 0:
            terms.append(system.total_variation((0,)))
        return [*terms, *system.bounds()]

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Ten ADMM iterations, then a move of the automatic weight."""
        terms = self._terms(system)
        weight = float(state.tensors["weight"])
        weights = [weight, self.z_weight * weight, 0.0] if self.z_weight > 0 else [weight, 0.0]
        # The split threshold weight / rho should be a small fraction of the contrast (of order one).
        rho = [weight / 0.02] * (len(terms) - len(system.bounds())) + [weight / 0.02 * 3] * len(system.bounds())
        result = admm(
            least_squares_gram(system.op),
            system.back_projection,
            terms,
            weights[: len(terms)],
            x=state.estimate,
            state=_unpack(state.tensors, len(terms)),
            rho=rho,
            iterations=_ITERATIONS_PER_STEP,
            cg_iterations=self.cg_iterations,
        )
        splits = result.state
        discrepancy = system.discrepancy(result.x)
        if self.weight == 0 and system.noise_level > 0 and state.step < _SEARCH_STEPS:
            factor = min(max((self.discrepancy / discrepancy) ** 1.0, 0.5), 2.0)
            new_weight = weight * factor
            # rho follows the weight, so the scaled duals u = dual / rho shrink when it grows
            splits = SplitState(splits.splits, tuple(u / factor for u in splits.duals))
            weight = new_weight
        estimate = result.x
        if system.lower is not None and state.step + 1 >= self.total_steps:
            estimate = estimate.clamp_min(system.lower)
        tensors = _pack(splits) | {"weight": torch.tensor(weight, dtype=torch.float64)}
        return state.advance(estimate, tensors, discrepancy=discrepancy, weight=weight, change=result.changes[-1])


@samplers.register("tv-slice", family="classical")
@dataclass(frozen=True)
class SliceTV(TV):
    """Total variation in each slice plus total variation along z of its own weight (``z_weight`` times as much)."""

    axes: tuple[int, ...] = (1, 2)
    z_weight: float = 0.5


def _pack(state: SplitState) -> dict[str, torch.Tensor]:
    named = {f"split{i}": z for i, z in enumerate(state.splits)}
    return named | {f"dual{i}": u for i, u in enumerate(state.duals)}


def _unpack(tensors, count: int) -> SplitState:  # noqa: ANN001 - a mapping of tensors
    return SplitState(
        tuple(tensors[f"split{i}"] for i in range(count)), tuple(tensors[f"dual{i}"] for i in range(count))
    )
