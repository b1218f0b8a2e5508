"""Time steppers: from the noisy volume of one level to that of the next, given estimates of the clean one.

In terms of ``s``, the standard deviation of the noise, the probability-flow equation of every diffusion process reads
``dx/ds = (x - D(x, s)) / s`` with D the prior (Karras et al. 2022, eq. 3). With ``l = -log s`` it is linear but for D::

    x(l + h) = exp(-h) x(l) + integral_0^h exp(t - h) D(l + t) dt

A stepper is a rule for that integral. The exponential ones interpolate D between the levels that were visited
(DPM-Solver++, UniPC) or what a linear model leaves of it (DPM-Solver-v3), the others the slope (Heun, PNDM, iPNDM).
Part of the noise may be fresh: the step then goes on to a
lower level ``down``, and noise is added that makes up for it. That is the reverse stochastic equation too
(SDE-DPM-Solver++; Lu et al. 2022b, appendix), if ``l`` runs faster by ``log(s / down) / log(s / next)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.model_statistics import PLAIN, ModelStatistics
from medrecon.registry import Registry

if TYPE_CHECKING:
    from medrecon.prior import PriorCard

steppers: Registry[type[Stepper]] = Registry("stepper")

_NODES, _SUMS = np.polynomial.legendre.leggauss(24)
_POINTS, _SHARES = (_NODES + 1) / 2, _SUMS / 2  # on 0 to 1

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

    @classmethod
    def for_prior(cls, card: PriorCard) -> Stepper:
        """With what it needs to know of a prior. Raises UsageError where the card does not tell."""
        return cls()

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


def quadrature(function: Callable[[np.ndarray], np.ndarray], step: float) -> float:
    """``integral_0^h f(t) dt`` by Gauss and Legendre's 24 points, for smooth functions."""
    return step * float(_SHARES @ function(step * _POINTS))


def interpolating_weights(
    nodes: Sequence[float], step: float, kernel: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Weights ``w`` with ``integral_0^h kernel(t) f(t) dt = sum w_i f(node_i)``, exact for polynomials."""
    powers = np.vander(np.array(nodes) / step, increasing=True)  # times are measured in steps
    moments = [quadrature(lambda t, k=k: kernel(t) * (t / step) ** k, step) for k in range(len(nodes))]  # type: ignore[misc]
    return np.linalg.solve(powers.T, np.array(moments))


def exponential_weights(nodes: Sequence[float], step: float) -> np.ndarray:
    """Weights of ``integral_0^h exp(t - h) D(t) dt``."""
    return interpolating_weights(nodes, step, lambda t: np.exp(t - step))


def _past(place: Place, memory: Mapping[str, Tensor], order: int) -> tuple[list[Tensor], list[float]]:
    """Remembered terms, the newest first, and their levels: at most ``order - 1``, from levels that differ."""
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


@dataclass(frozen=True)
class Multistep(Stepper):
    """Interpolates one term of the equation through the levels that were visited."""

    order = 1
    """How many terms the next step is made from."""

    @property
    def remembered(self) -> int:
        """How many terms are known at a time, the present one included."""
        return self.order

    @abstractmethod
    def term(self, x: Tensor, clean: Tensor, level: float) -> Tensor:
        """What is interpolated, at a level."""

    @abstractmethod
    def integrate(self, x: Tensor, place: Place, terms: Sequence[Tensor], levels: Sequence[float]) -> Tensor:
        """From ``x`` at the present level to ``0 < place.down < place.level``, through ``terms`` at ``levels``."""

    def move(self, x: Tensor, place: Place, terms: Sequence[Tensor], levels: Sequence[float]) -> Tensor:
        """The same, no step included."""
        return x if place.down == place.level else self.integrate(x, place, terms, levels)

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`. A step to level zero is infinite in ``l``: only the newest estimate can take it."""
        past, levels = _past(place, memory, self.remembered)
        term = self.term(x, clean, place.level)
        terms, nodes = [term, *past][: self.order], [place.level, *levels][: self.order]
        moved = clean if place.down == 0 else self.move(x, place, terms, nodes)
        return moved, _remember(term, past, self.remembered)


@steppers.register("ddim")
@dataclass(frozen=True)
class DDIM(Multistep):
    """First order, the estimate kept for the whole step (Song et al. 2021, DDIM, eq. 12; order 1)."""

    def term(self, x: Tensor, clean: Tensor, level: float) -> Tensor:
        """The estimate."""
        return clean

    def integrate(self, x: Tensor, place: Place, terms: Sequence[Tensor], levels: Sequence[float]) -> Tensor:
        """See :class:`Multistep`."""
        start, step = place.level, log(place.level / place.down)
        faster = step / log(start / place.next) if start > place.next else 1.0
        weights = exponential_weights([faster * log(start / level) for level in levels], step)
        return _weighted([place.down / start, *weights.tolist()], [x, *terms])


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

    @property
    def remembered(self) -> int:
        """One more, for the corrector."""
        return self.order + 1

    def corrected(self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor]) -> Tensor:
        """Moved by what the last step gains from the estimate where it ended."""
        if "moved" not in memory:
            return x
        past, levels = _past(place, memory, self.remembered)
        done = Place(place.levels[:-1], place.level, place.level)
        terms = [self.term(x, clean, place.level), *past]
        return x + (self.move(memory["before"], done, terms, [place.level, *levels]) - memory["moved"])

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`."""
        moved, kept = super().advance(x, clean, place, memory, evaluate)
        return moved, kept | ({"before": x, "moved": moved} if place.down == place.next else {})


@steppers.register("dpm-v3")
@dataclass(frozen=True)
class DPMSolverV3(UniPC):
    """UniPC for what a linear model of the prior leaves over (Zheng et al. 2023, DPM-Solver-v3; order 3).

    With ``l``, ``s`` and ``b`` of the level (:class:`~medrecon.model_statistics.ModelStatistics`) and
    ``N = (1 - l) x - D`` the flow is ``dx/dt = -l x - N``, and ``dN/dt`` is near ``s N + b``. So ``N`` without the
    part that the model foretells, ``exp(-S) N - B`` with ``S`` and ``B`` the integrals of ``s`` and ``exp(-S) b`` from
    the present level, hardly changes; it is what is interpolated (eqs. 8 to 11), exactly where the paper takes
    differences. With ``l = 1`` and ``s = b = 0`` it is UniPC.
    """

    statistics: ModelStatistics = PLAIN

    deterministic = True

    @classmethod
    def for_prior(cls, card: PriorCard) -> DPMSolverV3:
        """With the statistics of its card."""
        if not card.statistics:
            raise UsageError(
                "the prior has no model statistics, which stepper dpm-v3 needs",
                where=card.name,
                hint="Make a copy that has them: medrecon priors stats PRIOR VOLUMES -o NEW.safetensors; "
                "unipc and dpm++2m need none.",
            )
        return cls(ModelStatistics.from_dict(card.statistics))

    def term(self, x: Tensor, clean: Tensor, level: float) -> Tensor:
        """``N``, from which the linear part was taken."""
        return (1 - self.statistics.linear(level)) * x - clean

    def integrate(self, x: Tensor, place: Place, terms: Sequence[Tensor], levels: Sequence[float]) -> Tensor:
        """See :class:`Multistep`."""
        step, nodes = log(place.level / place.down), [log(place.level / level) for level in levels]
        path = self.statistics.path(place.level)
        weights = interpolating_weights(nodes, step, lambda t: np.exp(path.linear(t) + path.growth(t)))
        offset = -quadrature(lambda t: np.exp(path.linear(t) + path.growth(t)) * path.offset(t), step)
        offset += float(weights @ path.offset(np.array(nodes)))
        damped = weights * np.exp(-path.growth(np.array(nodes)))
        shrink = exp(-float(path.linear(np.array(step))))
        return _weighted([shrink, *(-shrink * damped).tolist()], [x, *terms]) + shrink * offset


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
class IPNDM(Multistep):
    """Slopes of up to four levels, extrapolated (Zhang and Chen 2023, iPNDM, appendix; order 4).

    Adams and Bashforth's formula for the levels as they are; where they are equidistant it is the published one,
    ``(55 e0 - 59 e1 + 37 e2 - 9 e3) / 24``.
    """

    order = 4

    def term(self, x: Tensor, clean: Tensor, level: float) -> Tensor:
        """The slope."""
        return (x - clean) / level

    def integrate(self, x: Tensor, place: Place, terms: Sequence[Tensor], levels: Sequence[float]) -> Tensor:
        """See :class:`Multistep`."""
        weights = interpolating_weights(
            [level - place.level for level in levels], place.down - place.level, np.ones_like
        )
        return _weighted([1.0, *weights.tolist()], [x, *terms])


@steppers.register("pndm")
@dataclass(frozen=True)
class PNDM(IPNDM):
    """The same, the first three steps by Runge and Kutta, four evaluations each (Liu et al. 2022, PNDM; order 4).

    Each of their slopes leads on along the flow of a constant slope (algorithm 1, eq. 12). The middle of a step is
    that of its levels, where the paper takes the middle of its times; so the start has the classical fourth order.
    """

    deterministic = True

    def advance(
        self, x: Tensor, clean: Tensor, place: Place, memory: Mapping[str, Tensor], evaluate: Evaluate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Stepper`."""
        moved, kept = super().advance(x, clean, place, memory, evaluate)
        if len(_past(place, memory, self.order)[0]) == self.order - 1 or place.down in (0, place.level):
            return moved, kept
        step = place.down - place.level
        slopes = [self.term(x, clean, place.level)]
        for part in (0.5, 0.5, 1.0):
            level = place.level + part * step
            inner = x.add(slopes[-1], alpha=part * step)
            slopes.append(self.term(inner, evaluate(inner, level), level))
        return _weighted([1.0, *(step / 6 * w for w in (1, 2, 2, 1))], [x, *slopes]), kept

    def extra_evaluations(self, steps: int) -> int:
        """Three more in each of the first three steps; none in the last, which ends at zero."""
        return 3 * min(self.order - 1, steps - 1)
