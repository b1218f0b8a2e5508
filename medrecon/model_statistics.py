"""What a linear model foretells of a prior, level by level: the empirical model statistics of DPM-Solver-v3.

With ``t = -log s`` the probability flow is ``dx/dt = D(x, s) - x``. Three numbers of each level describe it best
(Zheng et al. 2023, section 3.2, with one number for all pixels):

- ``l``: the flow is ``-l x - N`` with ``N = (1 - l) x - D``, and ``l`` makes the derivative of ``N`` smallest, so it is
  the mean of the diagonal of ``1 - dD/dx``;
- ``s`` and ``b``: along the flow ``dN/dt`` is near ``s N + b``, by least squares over pixels and slices.

``l = 1`` and ``s = b = 0`` belong to a prior that is always of the same opinion, which is what DPM-Solver++ assumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

from medrecon.errors import NonFinite, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from medrecon.prior import Prior

_FEWEST = 4  # levels, of a cubic spline
_MARGIN = 0.02  # by how much a level may lie outside, as a share
_ALONG, _ACROSS = 0.02, 0.1  # steps of the differences: in t along the flow, in levels across it
_RESOLVED = 1e-3  # variance of N below which it is the error of l, as a share of the flow's
_FLOW = np.array([-1.0, 1.0, 0.0])  # dx/dt of x, D and dD/dt
_NODES, _SUMS = np.polynomial.legendre.leggauss(16)
_POINTS, _SHARES = (_NODES + 1) / 2, _SUMS / 2


@dataclass(frozen=True)
class ModelStatistics:
    """``l``, ``s`` and ``b`` at falling noise ``levels``, in network units; cubic splines of ``-log s`` in between."""

    levels: tuple[float, ...]
    l: tuple[float, ...]  # noqa: E741 - the paper's letter
    s: tuple[float, ...]
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless there are as many finite values as levels, and levels that fall."""
        columns = np.array([self.levels, self.l, self.s, self.b], dtype=float)
        if columns.ndim != 2 or columns.shape[1] < _FEWEST or not np.isfinite(columns).all():
            raise ValueError(f"model statistics are finite values at {_FEWEST} levels or more")
        if not (np.diff(columns[0]) < 0).all() or not columns[0, -1] > 0:
            raise ValueError("the levels of model statistics fall")

    @classmethod
    def from_dict(cls, values: dict) -> ModelStatistics:
        """From the JSON of a card. Raises ValueError or TypeError for anything else."""
        return cls(**{name: tuple(values[name]) for name in ("levels", "l", "s", "b")})

    def to_dict(self) -> dict:
        """Plain values for a JSON card."""
        return {name: list(column) for name, column in asdict(self).items()}

    @cached_property
    def _splines(self) -> CubicSpline:
        return CubicSpline(-np.log(self.levels), np.array([self.l, self.s, self.b]), axis=1)

    def linear(self, level: float) -> float:
        """``l`` at a level."""
        self._check(level)
        return float(self._splines(-log(level))[0])

    def path(self, level: float) -> Path:
        """Their integrals from a level on. Raises UsageError where the level is outside the statistics."""
        self._check(level)
        return Path(self._splines, self._splines.antiderivative(), -log(level))

    def _check(self, level: float) -> None:
        high, low = self.levels[0], self.levels[-1]
        if not low * (1 - _MARGIN) <= level <= high * (1 + _MARGIN):
            raise UsageError(
                "the prior's model statistics do not reach this noise level",
                found=f"{level:.4g}",
                expected=f"{low:.4g} to {high:.4g}",
                hint="Set sigma_min and sigma_max within that range.",
            )


@dataclass(frozen=True)
class Path:
    """Integrals over ``t`` from ``start`` on; arrays in, arrays out."""

    values: CubicSpline
    integrals: CubicSpline
    start: float

    def _since(self, t: np.ndarray) -> np.ndarray:
        begin = self.integrals(self.start).reshape(3, *[1] * t.ndim)
        return self.integrals(self.start + t) - begin

    def linear(self, t: np.ndarray) -> np.ndarray:
        """``integral_0^t l``."""
        return self._since(t)[0]

    def growth(self, t: np.ndarray) -> np.ndarray:
        """``integral_0^t s``."""
        return self._since(t)[1]

    def offset(self, t: np.ndarray) -> np.ndarray:
        """``integral_0^t exp(-growth) b``."""
        inner = t[..., None] * _POINTS
        return t * ((np.exp(-self.growth(inner)) * self.values(self.start + inner)[2]) @ _SHARES)


PLAIN = ModelStatistics((1e6, 1e2, 1e-2, 1e-6), (1.0,) * 4, (0.0,) * 4, (0.0,) * 4)
"""Of a prior whose answer never changes."""


Progress = Callable[[int, int], None]
"""Told how many parts of the work are done, and how many there are."""


def measured_statistics(
    prior: Prior, slices: Sequence[Tensor], levels: Sequence[float], *, progress: Progress | None = None
) -> ModelStatistics:
    """Statistics of a prior, asked without a guide, by differences of its answers alone: no Jacobian, no gradient.

    ``l`` is ``1 - v' (dD/dx) v / n`` with random signs v (Hutchinson), the product from ``D(x + e v) - D(x - e v)``.
    ``dD/dt`` is the difference of D a little ahead and a little behind on the flow. Then ``N`` and ``dN/dt`` are linear
    in ``x``, ``D`` and ``dD/dt``, whose covariance over pixels and slices gives ``s`` and ``b``. The prior is asked
    five times about each slice and level.

    Parameters
    ----------
    prior : Prior
        What is described.
    slices : sequence of Tensor
        Clean ones ``(h, w)`` like those that it was validated on, network units; sizes may differ.
    levels : sequence of float
        Falling, at least four, network units.

    Raises
    ------
    NonFinite
        The prior returned NaN or infinity; level and slice are named.
    """
    import torch

    card = prior.card

    def answer(x: Tensor, level: float) -> Tensor:
        clean = (prior.denoise(x[None, None] * card.scale + card.offset, level * card.scale) - card.offset) / card.scale
        if not bool(torch.isfinite(clean).all()):
            raise NonFinite("the prior returned NaN or infinity", where=f"{card.name}, level {level:.4g}, {where}")
        return clean[0, 0].double()

    linear, sums = [], np.zeros((len(levels), 4, 4))
    for number, level in enumerate(levels):
        trace = 0.0
        for place, clean in enumerate(slices):
            where = f"slice {place}"
            generator = torch.Generator().manual_seed(number * len(slices) + place)
            x = clean + level * torch.randn(clean.shape, generator=generator)
            signs = torch.randn(clean.shape, generator=generator).sign()
            estimate, step = answer(x, level), _ACROSS * level
            trace += float((signs * (answer(x + step * signs, level) - answer(x - step * signs, level))).sum())
            flow = estimate.to(x.dtype) - x
            ahead, behind = (answer(x + sign * _ALONG * flow, level * exp(-sign * _ALONG)) for sign in (1, -1))
            columns = torch.stack([x.double(), estimate, (ahead - behind) / (2 * _ALONG), torch.ones_like(estimate)])
            sums[number] += torch.einsum("iyx,jyx->ij", columns, columns).numpy()
            if progress is not None:
                progress(number * len(slices) + place + 1, len(levels) * len(slices))
        linear.append(1 - trace / (2 * _ACROSS * level) / sums[number, 3, 3])
    return _fitted(np.array(levels, dtype=float), np.array(linear), sums)


def _fitted(levels: np.ndarray, linear: np.ndarray, sums: np.ndarray) -> ModelStatistics:
    """From ``l`` and the sums of products of x, D, dD/dt and one."""
    slopes = CubicSpline(-np.log(levels), linear)(-np.log(levels), 1)
    growth, offset = np.zeros(len(levels)), np.zeros(len(levels))
    for number, (value, slope, products) in enumerate(zip(linear, slopes, sums, strict=True)):
        means = products[3, :3] / products[3, 3]
        covariance = products[:3, :3] / products[3, 3] - np.outer(means, means)
        term = np.array([1 - value, -1.0, 0.0])  # N of x, D and dD/dt
        change = np.array([value - 1 - slope, 1 - value, -1.0])  # dN/dt
        variance = float(term @ covariance @ term)
        if variance > _RESOLVED * float(_FLOW @ covariance @ _FLOW):
            growth[number] = float(term @ covariance @ change) / variance
        offset[number] = float((change - growth[number] * term) @ means)
    return ModelStatistics(*(tuple(column.tolist()) for column in (levels, linear, growth, offset)))
