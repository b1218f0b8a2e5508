"""The only conjugate-gradient and the only ADMM in the repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import torch
from torch import Tensor

from medrecon.errors import NonFinite
from medrecon.physics.linop import LinearOperator
from medrecon.regularisers import Regulariser


def inner(a: Tensor, b: Tensor) -> float:
    """Real part of ``<a, b>``, accumulated in double precision."""
    if a.is_complex():
        return float(torch.view_as_real(a).mul(torch.view_as_real(b)).sum(dtype=torch.float64))
    return float((a * b).sum(dtype=torch.float64))


def _require_finite(value: float, iteration: int) -> None:
    if not isfinite(value):
        raise NonFinite("a NaN or infinity appeared in conjugate gradients", where=f"iteration {iteration}")


@dataclass(frozen=True)
class CGResult:
    """Solution, residual norms relative to the right-hand side, and whether the tolerance was met."""

    x: Tensor
    residuals: tuple[float, ...]
    converged: bool


def cg(
    apply: Callable[[Tensor], Tensor],
    rhs: Tensor,
    start: Tensor | None = None,
    *,
    max_iterations: int,
    tolerance: float = 0.0,
) -> CGResult:
    """Solve ``M x = rhs`` for a Hermitian positive (semi-)definite ``M``.

    Stops when ``||rhs - M x|| <= tolerance * ||rhs||`` or after ``max_iterations``; the tolerance is at least the
    rounding error of ``rhs``. Scalars are global: one pair for the whole volume, whatever couples the slices.
    Hestenes and Stiefel 1952.

    Raises NonFinite, naming the iteration, when a NaN or infinity appears.
    """
    # Where M is singular, what is left of the residual below this is rounding in its null space: a step along it
    # would be of any length. Projections (masked Fourier, missing traces) get there in one iteration.
    tolerance = max(tolerance, 4 * torch.finfo(rhs.dtype).eps)
    x = torch.zeros_like(rhs) if start is None else start.clone()
    residual = rhs - apply(x) if start is not None else rhs.clone()
    direction = residual.clone()
    power, scale = inner(residual, residual), inner(rhs, rhs)
    _require_finite(power + scale, 0)
    relative_to = scale or 1.0
    history = [(power / relative_to) ** 0.5]
    for iteration in range(max_iterations):
        if power <= tolerance**2 * scale or power == 0.0:
            break
        image = apply(direction)
        curvature = inner(direction, image)
        _require_finite(curvature, iteration)
        if curvature <= 0.0:  # a direction in the null space: nothing left to gain
            break
        step = power / curvature
        x.add_(direction, alpha=step)
        residual.sub_(image, alpha=step)
        previous, power = power, inner(residual, residual)
        _require_finite(power, iteration)
        direction.mul_(power / previous).add_(residual)
        history.append((power / relative_to) ** 0.5)
    return CGResult(x, tuple(history), power <= tolerance**2 * scale)


@dataclass(frozen=True)
class SplitState:
    """Split variables and scaled duals of ADMM, one of each per regulariser."""

    splits: tuple[Tensor, ...]
    duals: tuple[Tensor, ...]

    @classmethod
    def zeros(cls, terms: Sequence[Regulariser], x: Tensor) -> SplitState:
        """Splits at ``K x``, duals at zero."""
        splits = tuple(term.K(x) for term in terms)
        return cls(splits, tuple(torch.zeros_like(z) for z in splits))

    def to_tensors(self) -> dict[str, Tensor]:
        """Named tensors, for the state of a method."""
        named = {f"split{i}": z for i, z in enumerate(self.splits)}
        return named | {f"dual{i}": u for i, u in enumerate(self.duals)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], count: int) -> SplitState:
        """The inverse of :meth:`to_tensors` for ``count`` regularisers."""
        return cls(tuple(tensors[f"split{i}"] for i in range(count)), tuple(tensors[f"dual{i}"] for i in range(count)))

    def copy(self) -> SplitState:
        """The same values in memory of their own."""
        return SplitState(tuple(z.clone() for z in self.splits), tuple(u.clone() for u in self.duals))


@dataclass(frozen=True)
class ADMMResult:
    """Solution, the state to go on from, and the relative change of each iteration."""

    x: Tensor
    state: SplitState
    changes: tuple[float, ...]


def admm(
    gram: Callable[[Tensor], Tensor],
    rhs: Tensor,
    terms: Sequence[Regulariser],
    weights: Sequence[float],
    *,
    x: Tensor,
    state: SplitState | None = None,
    rho: Sequence[float],
    iterations: int,
    cg_iterations: int = 5,
    cg_tolerance: float = 1e-4,
    tolerance: float = 0.0,
    relaxation: float = 1.6,
) -> ADMMResult:
    """Minimise ``1/2 <x, G x> - <rhs, x> + sum_i weights_i g_i(K_i x)`` by ADMM (Boyd et al. 2011, section 3).

    ``gram`` applies the quadratic part G (for example ``A'WA + mu I``), ``terms`` are regularisers ``g_i(K_i x)``
    with penalty parameters ``rho``. One call of :func:`cg` per iteration, warm-started from the last ``x``.
    Without terms this is a plain linear solve. ``relaxation`` is the over-relaxation of section 3.4.3.
    """
    if not terms:
        solved = cg(gram, rhs, x, max_iterations=iterations * cg_iterations, tolerance=cg_tolerance)
        return ADMMResult(solved.x, state or SplitState((), ()), solved.residuals)
    # The updates below overwrite splits and duals; the caller's stay as they are
    state = SplitState.zeros(terms, x) if state is None else state.copy()

    def system(v: Tensor) -> Tensor:
        total = gram(v)
        for term, penalty in zip(terms, rho, strict=True):
            total = total.add_(term.K_gram(v), alpha=penalty) if total is not v else total + penalty * term.K_gram(v)
        return total

    changes = []
    for _ in range(iterations):
        target = rhs.clone()
        for term, penalty, z, u in zip(terms, rho, state.splits, state.duals, strict=True):
            target.add_(term.K_adjoint(z, u), alpha=penalty)
        new = cg(system, target, x, max_iterations=cg_iterations, tolerance=cg_tolerance).x
        splits, duals = [], []
        for term, weight, penalty, z, u in zip(terms, weights, rho, state.splits, state.duals, strict=True):
            split, dual = term.update(new, z, u, weight / penalty, relaxation)
            splits.append(split)
            duals.append(dual)
        state = replace(state, splits=tuple(splits), duals=tuple(duals))
        size = inner(new, new) ** 0.5
        change = inner(new - x, new - x) ** 0.5 / size if size > 0 else 0.0
        x = new
        changes.append(change)
        # Not after the first: from a start that fits the data, x moves only once the splits have
        if len(changes) > 1 and change <= tolerance:
            break
    return ADMMResult(x, state, tuple(changes))


def least_squares_gram(op: LinearOperator, damping: float | Tensor = 0.0) -> Callable[[Tensor], Tensor]:
    """``x -> A'A x + damping * x``; the damping is one number, or one for each voxel."""

    def apply(x: Tensor) -> Tensor:
        total = op.normal(x)
        if isinstance(damping, Tensor):
            return total.addcmul_(x, damping)
        return total.add_(x, alpha=damping) if damping else total

    return apply
