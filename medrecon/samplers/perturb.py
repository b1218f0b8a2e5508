"""A draw of the clean volume given the data at every noise level, then all noise anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.annealed import Annealed, check_choices
from medrecon.samplers.base import State, samplers
from medrecon.samplers.steppers import Place, steppers
from medrecon.schedules import log_schedule
from medrecon.solvers import cg, least_squares_gram

_INITIAL, _PER_STEP = 0, 3  # noise keys: the first volume, then three fields a step


@samplers.register("perturb-and-solve", family="diffusion")
@dataclass(frozen=True)
class PerturbAndSolve(Annealed):
    """Sampled data step: a draw around the estimate by one perturbed solve, then all noise anew.

    One step, from level s to the next one s', with e the error of a datum and D the prior::

        x0 = D(x, s)
        xh = draw from  p(x | y) ~ exp(-||A x - y||^2 / 2 e^2 - ||x - x0||^2 / 2 r^2)
        x  = xh + s' n

    The draw is one linear solve with a perturbed right-hand side, ``A'(y + e n1) + (e / r)^2 (x0 + r n2)`` (Papandreou
    and Yuille 2010). ``radius`` says how far the clean volume is taken to lie from the estimate: ``"matched"`` is the
    prior's validated error at s, ``"level"`` s and ``"next"`` s'. With ``ode_steps`` above one the estimate is the end
    of the probability flow that starts at x. The spread of the samples is near that of the posterior, but depends on
    how one ``r`` suits all frequencies: for error bars take ``posterior``.

    With ``compensate`` the noise that the draw brings in is counted as part of the noise of the next level, so that
    with ``radius = "next"`` noise of the data and fresh noise add up to ``s'^2`` in every direction.
    """

    steps: int = 50
    radius: str = "matched"
    ode_steps: int = 1
    compensate: bool = False
    cg_iterations: int = 30
    correlation_mm: float = 6.0  # of all noise along z
    model_error: float = 0.01  # of the forward model, relative to the data, added to the noise

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(("radius", self.radius, ["matched", "level", "next"]))

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True

    def evaluations(self) -> int:
        """``ode_steps`` per level."""
        return self.steps * self.ode_steps

    def init(self, system: System, noise: KeyedNoise) -> State:
        """The classical volume, or zero, plus noise of the first level."""
        clean = system.start if system.start is not None else torch.zeros_like(system.back_projection)
        return State(0, clean, {"x": clean + self.levels()[0] * self._noise(system, noise, _INITIAL)})

    def _noise(self, system: System, noise: KeyedNoise, key: int) -> Tensor:
        return noise.volume(key, system.geometry.shape, self.correlation_mm / system.geometry.spacing[0])

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Estimate, draw, re-noise."""
        sigma, following = self.levels()[state.step : state.step + 2]
        clean = self._estimate(system, state.tensors["x"], sigma)
        radius = {"matched": system.prior_error(sigma), "level": sigma, "next": following}[self.radius]
        key = _INITIAL + 1 + _PER_STEP * state.step
        fresh = self._noise(system, noise, key)
        drawn = clean
        if radius > 0:
            jitter = self._noise(system, noise, key + 1) - (fresh if self.compensate else 0)
            drawn = self._draw(system, clean + radius * jitter, radius, noise, key + 2)
        x = drawn + following * fresh
        estimate = clean if self.compensate else drawn
        if system.lower is not None:
            estimate = estimate.clamp_min(system.lower)
        return state.advance(estimate, {"x": x}, sigma=sigma, discrepancy=system.discrepancy(estimate))

    def _estimate(self, system: System, x: Tensor, sigma: float) -> Tensor:
        """The prior's, or the end of the flow from ``x``."""
        if self.ode_steps == 1:
            return system.denoise(x, sigma)
        levels = [*log_schedule(sigma, self.sigma_min, self.ode_steps).tolist(), 0.0]
        stepper, memory = steppers.get("ddim")(), dict[str, Tensor]()
        for i, level in enumerate(levels[:-1]):
            place = Place(levels[: i + 1], levels[i + 1], levels[i + 1])
            x, memory = stepper.advance(x, system.denoise(x, level), place, memory, system.denoise)
        return x

    def _draw(self, system: System, centre: Tensor, radius: float, noise: KeyedNoise, key: int) -> Tensor:
        """``argmin ||A x - (y + e n1)||^2 / e^2 + ||x - centre||^2 / r^2``."""
        error = system.data_error(self.model_error)
        damping = (error / radius) ** 2
        perturbed = system.op.adjoint(error * self._data_noise(system, noise, key))
        rhs = torch.add(system.back_projection + perturbed, centre, alpha=damping)
        gram = least_squares_gram(system.op, damping)
        return cg(gram, rhs, centre, max_iterations=self.cg_iterations, tolerance=1e-5).x

    def _data_noise(self, system: System, noise: KeyedNoise, key: int) -> Tensor:
        """White noise of the data; along their slices it is correlated like that of the volume."""
        shape, axis = system.y.shape, system.slice_axis
        correlation = self.correlation_mm / system.geometry.spacing[0]
        if axis is None:
            return noise.volume(key, shape)
        slices_first = (shape[axis], *shape[:axis], *shape[axis + 1 :])
        return noise.volume(key, slices_first, correlation).movedim(0, axis)


@samplers.register("daps", family="diffusion")
@dataclass(frozen=True)
class DAPS(PerturbAndSolve):
    """Decoupled annealing: end of the flow, a draw around it, all noise anew (Zhang et al., CVPR 2025, algorithm 1).

    The paper draws by 100 Langevin steps; for linear operators one perturbed solve draws from the same law.
    """

    steps: int = 20
    radius: str = "level"
    ode_steps: int = 5


@samplers.register("ddnm+", family="diffusion")
@dataclass(frozen=True)
class DDNMPlus(PerturbAndSolve):
    """Range and null space for noisy data (Wang et al., ICLR 2023, section 3.3, eqs. 17 to 19).

    The paper scales each singular value s so that its data noise ``e / s`` does not exceed the level, by
    ``min(1, s' s / e)``, and adds that much less fresh noise. Without singular vectors the smooth scale
    ``s^2 / (s^2 + (e / s')^2)`` takes its place, and the sum of both noises is ``s'^2`` exactly.
    """

    steps: int = 20
    radius: str = "next"
    compensate: bool = True
