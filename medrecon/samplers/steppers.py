"""Time steppers: from the noisy volume of one level to that of the next, given estimates of the clean one.

In terms of ``s``, the standard deviation of the noise, the probability-flow equation of every diffusion process reads
``dx/ds = (x - D(x, s)) / s`` with D the prior (Karras et al. 2022, eq. 3). With ``l = -log s`` it is linear but for D::

    x(l + h) = exp(-h) x(l) + integral_0^h exp(t - h) D(l + t) dt

A stepper is a rule for that integral. The exponential ones interpolate D between the levels that were visited
(DPM-Solver++, UniPC), the others the slope (Heun, iPNDM). Part of the noise may be fresh: the step then goes on to a
lower level ``down``, and noise is added that makes up for it. That is the reverse stochastic equation too
(SDE-DPM-Solver++; Lu et al. 2022b, appendix), if ``l`` runs faster by ``log(s / down) / log(s / next)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import expm1, log, sqrt

import numpy as np
from torch import Tensor

from medrecon.registry import Registry

steppers: Registry[type[Stepper]] = Registry("stepper")

Evaluate = Callable[[Tensor, float], Tensor]
"""Estimate of the clean volume of a noisy one at a level."""


@dataclass(frozen=True)
class Place:
    """Where a step stands.

    ``levels`` are those visited, the present one last; ``next`` is the level to reach and ``down`` the one to reach
    before ``sqrt(next^2 - down^2)`` of fresh noise is added. ``down = next`` for the deterministic equation.
    """

    levels: Sequence[float]
    next: float
    down: float

    @property
    def level(self) -> float:
        """The present level."""
        return self.levels[-1]


@dataclass(frozen=True)
class Stepper(ABC):
    """A rule for one step; what it remembers of earlier ones travels in ``memory``, a part of the sampler's state."""

    @abstractmethod
    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The volume at ``place.down``, where fresh noise is still to be added, and the new memory.

        ``clean`` is the estimate at the present level. The memory is empty before the first step.
        """

    def corrected(self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor]) -> Tensor:
        """The present noisy volume, improved now that the estimate there is known; most steppers leave it."""
        return x

    deterministic = False
    """Whether it cannot take fresh noise."""

    def extra_evaluations(self, steps: int) -> int:
        """Evaluations besides one per step, if the last one ends at level zero."""
        return 0

    def fresh_share(self, eta: float, level: float, following: float) -> float:
        """Share of the next level's noise that is fresh, where the user asked for ``eta``."""
        return eta


def exponential_weights(nodes: Sequence[float], step: float) -> np.ndarray:
    """Weights ``w`` with ``integral_0^h exp(t - h) D(t) dt = sum w_i D(node_i)``, exact for polynomials.

    The moments ``m_k = integral_0^h exp(t - h) t^k dt`` obey ``m_k = h^k - k m_(k-1)`` with ``m_0 = 1 - exp(-h)``; for
    a small step that loses all digits, so they are summed as ``m_k = h^(k+1) k! sum_j (-h)^j / (k+1+j)!``. Times are
    measured in steps.
    """
    moments, count = [], len(nodes)
    for k in range(count):
        if step < 1:
            term, total = 1.0 / (k + 1), 0.0
            for j in range(30):
                total += term
                term *= -step / (k + 2 + j)
            moments.append(step * total)
        else:
            moments.append(-expm1(-step) if k == 0 else 1 - k * moments[-1] / step)
    return np.linalg.solve(np.vander(np.array(nodes) / step, count, increasing=True).T, np.array(moments))


def plain_weights(nodes: Sequence[float], step: float) -> np.ndarray:
    """Weights with ``integral_0^h f(t) dt = sum w_i f(node_i)``, exact for polynomials."""
    count = len(nodes)
    moments = 1 / np.arange(1.0, count + 1)
    return step * np.linalg.solve(np.vander(np.array(nodes) / step, count, increasing=True).T, moments)


def _past(place: Place, memory: Mapping[str, Tensor], order: int) -> tuple[list[Tensor], list[float]]:
    """Remembered values, the newest first, and their levels: at most ``order - 1``, from levels that differ."""
    levels: list[float] = []
    while len(levels) < order - 1 and f"past{len(levels)}" in memory:
        level = place.levels[-2 - len(levels)]
        if not level > (levels[-1] if levels else place.level):
            break
        levels.append(level)
    return [memory[f"past{i}"] for i in range(len(levels))], levels


def _remember(newest: Tensor, past: Sequence[Tensor], order: int) -> dict[str, Tensor]:
    return {f"past{i}": value for i, value in enumerate([newest, *past][: order - 1])}


def _weighted(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total.add(tensor, alpha=float(weight))
    return total


def _exponential(x: Tensor, place: Place, values: Sequence[Tensor], levels: Sequence[float]) -> Tensor:
    """From ``x`` at the present level to ``place.down``, D interpolated through ``values`` at ``levels``."""
    start = place.level
    if place.down == 0:  # an infinite step, which only the newest estimate can take
        return values[0]
    step = log(start / place.down)
    if step == 0:
        return x
    faster = step / log(start / place.next) if start > place.next else 1.0
    weights = exponential_weights([faster * log(start / level) for level in levels], step)
    return _weighted([place.down / start, *weights.tolist()], [x, *values])


@steppers.register("ddim")
@dataclass(frozen=True)
class DDIM(Stepper):
    """First order, the estimate kept for the whole step (Song et al. 2021, DDIM, eq. 12; order 1)."""

    order = 1

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`."""
        past, levels = _past(place, memory, self.order)
        moved = _exponential(x, place, [clean, *past], [place.level, *levels])
        return moved, _remember(clean, past, self.order)


@steppers.register("dpm++2m")
@dataclass(frozen=True)
class DPMSolver2M(DDIM):
    """Two estimates, interpolated linearly (Lu et al. 2022b, DPM-Solver++, algorithm 2; order 2).

    The integral is exact; the paper takes the slope of the estimate at half the step.
    """

    order = 2


@steppers.register("dpm++3m")
@dataclass(frozen=True)
class DPMSolver3M(DDIM):
    """Three estimates, interpolated by a parabola (Lu et al. 2022b, DPM-Solver++, section 4.2; order 3)."""

    order = 3


@steppers.register("sde-dpm++2m")
@dataclass(frozen=True)
class SDEDPMSolver2M(DPMSolver2M):
    """The same for the reverse stochastic equation: as much fresh noise as it has, whatever eta (Lu et al. 2022b)."""

    def fresh_share(self, eta: float, level: float, following: float) -> float:
        """``sqrt(1 - (s' / s)^2)``."""
        return sqrt(1 - (following / level) ** 2)


@steppers.register("unipc")
@dataclass(frozen=True)
class UniPC(DPMSolver2M):
    """Two estimates to predict, one more to correct the step just done (Zhao et al. 2023, UniPC; order 3).

    The corrector uses the estimate that the next step needs anyway, so it costs no evaluation; as published, that
    estimate is not made again for the corrected volume. With as many conditions as estimates the coefficients do not
    depend on the paper's ``B(h)``.
    """

    def corrected(self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor]) -> Tensor:
        """Moved by what the last step gains from the estimate where it ended."""
        if "moved" not in memory:
            return x
        past, levels = _past(place, memory, self.order + 1)
        done = Place(place.levels[:-1], place.level, place.level)
        again = _exponential(memory["before"], done, [clean, *past], [place.level, *levels])
        return x + (again - memory["moved"])

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`."""
        past, _ = _past(place, memory, self.order + 1)
        moved, _ = super().advance(x, clean, place, memory, evaluate)
        kept = _remember(clean, past, self.order + 1)
        return moved, kept | ({"before": x, "moved": moved} if place.down == place.next else {})


@steppers.register("heun")
@dataclass(frozen=True)
class Heun(Stepper):
    """Mean slope of both ends of the step, two evaluations (Karras et al. 2022, EDM, algorithm 1; order 2)."""

    deterministic = True

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`."""
        if place.down == 0:
            return clean, {}
        slope = (x - clean) / place.level
        end = x + (place.down - place.level) * slope
        second = (end - evaluate(end, place.down)) / place.down
        return x + (place.down - place.level) * 0.5 * (slope + second), {}

    def extra_evaluations(self, steps: int) -> int:
        """One more per step but for the last."""
        return steps - 1


@steppers.register("ipndm")
@dataclass(frozen=True)
class IPNDM(Stepper):
    """Slopes of up to four levels, extrapolated (Zhang and Chen 2023, iPNDM, appendix; order 4).

    Adams and Bashforth's formula for the levels as they are; where they are equidistant it is the published one,
    ``(55 e0 - 59 e1 + 37 e2 - 9 e3) / 24``.
    """

    order = 4

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`."""
        slope = (x - clean) / place.level
        past, levels = _past(place, memory, self.order)
        if place.down in (0, place.level):
            return clean if place.down == 0 else x, {}
        nodes = [level - place.level for level in [place.level, *levels]]
        weights = plain_weights(nodes, place.down - place.level)
        return _weighted([1.0, *weights.tolist()], [x, slope, *past]), _remember(slope, past, self.order)
