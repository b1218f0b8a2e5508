"""Linear operators on torch tensors, with exact adjoints.

A modality writes ``_forward`` and ``_adjoint``; composition, norm, Gram operator and automatic
differentiation follow. Shapes, rank and dtype are checked on every public call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.registry import Registry

operators: Registry = Registry("operator")


@dataclass(frozen=True)
class Space:
    """Shape and dtype of the tensors on one side of an operator."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def check(self, x: Tensor, name: str) -> None:
        """Raise InputError unless ``x`` belongs to this space (rank included)."""
        if tuple(x.shape) != self.shape:
            raise InputError(f"wrong shape of the {name}", found=tuple(x.shape), expected=self.shape)
        if x.dtype != self.dtype:
            raise InputError(f"wrong dtype of the {name}", found=x.dtype, expected=self.dtype)


class LinearOperator(ABC):
    """A linear map from ``domain`` to ``range``; ``op(x)`` applies it and ``op.adjoint(y)`` its adjoint.

    Subclasses set ``domain`` and ``range`` and write ``_forward`` and ``_adjoint``. The adjoint is exact with
    respect to the inner product ``sum(conj(a) * b)``.
    """

    domain: Space
    range: Space
    couples_slices = True
    """False when slice ``z`` of the output depends on slice ``z`` of the volume alone."""

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor: ...

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the operator; differentiable."""
        self.domain.check(x, "operator's input")
        if x.requires_grad:
            return _Apply.apply(x, self, False)
        return self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint; differentiable."""
        self.range.check(y, "adjoint's input")
        if y.requires_grad:
            return _Apply.apply(y, self, True)
        return self._adjoint(y)

    def _normal(self, x: Tensor) -> Tensor:
        """``A'A x``; a subclass overrides it where there is a shorter way."""
        return self._adjoint(self._forward(x))

    def normal(self, x: Tensor) -> Tensor:
        """``adjoint(op(x))``, by a shorter way where the operator knows one; differentiable."""
        if x.requires_grad:
            return self.adjoint(self(x))
        self.domain.check(x, "operator's input")
        return self._normal(x)

    @cached_property
    def H(self) -> LinearOperator:  # noqa: N802 - the field's symbol
        """The adjoint as an operator."""
        return Adjoint(self)

    @cached_property
    def gram(self) -> LinearOperator:
        """``adjoint(op(x))`` as an operator."""
        return Composition(self.H, self)

    def norm(self, *, tolerance: float = 1e-3, max_iterations: int = 100) -> float:
        """Largest singular value, by Lanczos iterations on the Gram operator from a fixed start; cached.

        Crowded spectra, as those of projectors, take them few steps, and power iteration many. No vectors but the last
        two are kept: what orthogonality is lost makes copies of the largest value, and no other one (Paige 1971).
        """
        if not hasattr(self, "_norm"):
            self._norm = self._lanczos(tolerance, max_iterations)
        return self._norm

    def _lanczos(self, tolerance: float, max_iterations: int) -> float:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.domain.shape, dtype=self.domain.dtype, generator=generator)
        # A positive bias: the leading singular vector of a projector is positive and smooth.
        x = x + 1 if not x.is_complex() else x
        length = torch.linalg.vector_norm(x)
        if length == 0:
            return 0.0
        x, before = x / length, torch.zeros_like(x)
        diagonal, beside, previous = list[float](), list[float](), 0.0
        for _ in range(max_iterations):
            following = self._normal(x)
            diagonal.append(float(torch.vdot(x.flatten(), following.flatten()).real))
            tridiagonal = np.diag(diagonal) + np.diag(beside, -1)
            value = max(0.0, float(np.linalg.eigvalsh(tridiagonal)[-1])) ** 0.5  # of the lower triangle
            following = following - diagonal[-1] * x - (beside[-1] if beside else 0.0) * before
            beside.append(float(torch.linalg.vector_norm(following)))
            # What is left is rounding where the steps have seen all that the start consists of
            if abs(value - previous) <= tolerance * 0.1 * value or beside[-1] <= 1e-6 * value**2:
                return value
            x, before, previous = following / beside[-1], x, value
        return previous

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Composition(self, other)

    def __mul__(self, factor: complex | Tensor) -> LinearOperator:
        return Composition(Diagonal(self.range, factor), self)

    __rmul__ = __mul__

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, other)


class _Apply(torch.autograd.Function):
    """Backward of the forward is the adjoint, and the reverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: LinearOperator, reverse: bool) -> Tensor:  # type: ignore[override]
        ctx.op, ctx.reverse = op, reverse
        return op._adjoint(x) if reverse else op._forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        op = ctx.op
        return (op(gradient) if ctx.reverse else op.adjoint(gradient)), None, None


class Adjoint(LinearOperator):
    """The adjoint of an operator; its adjoint is the operator itself."""

    def __init__(self, op: LinearOperator) -> None:
        self.op, self.domain, self.range = op, op.range, op.domain
        self.couples_slices = op.couples_slices

    def _forward(self, x: Tensor) -> Tensor:
        return self.op._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.op._forward(y)

    @property
    def H(self) -> LinearOperator:  # type: ignore[override]  # noqa: N802
        """The operator that this is the adjoint of."""
        return self.op


class Composition(LinearOperator):
    """``outer(inner(x))``."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        if inner.range != outer.domain:
            raise InputError("operators do not fit together", found=inner.range, expected=outer.domain)
        self.outer, self.inner = outer, inner
        self.domain, self.range = inner.domain, outer.range
        self.couples_slices = outer.couples_slices or inner.couples_slices

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer._forward(self.inner._forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        if isinstance(self.outer, Diagonal) and not isinstance(self.outer.factor, Tensor):
            return self.inner._normal(x) * abs(self.outer.factor) ** 2
        return self.inner._adjoint(self.outer._normal(self.inner._forward(x)))


class Diagonal(LinearOperator):
    """Multiplication by a number, or by a tensor that broadcasts to the space."""

    couples_slices = False

    def __init__(self, space: Space, factor: complex | Tensor) -> None:
        shape = tuple(factor.shape) if isinstance(factor, Tensor) else ()
        fits = len(shape) <= len(space.shape) and all(
            n in (1, m) for n, m in zip(reversed(shape), reversed(space.shape), strict=False)
        )
        if not fits:
            raise InputError("the factors do not fit the space", found=shape, expected=space.shape)
        self.domain = self.range = space
        self.factor = factor

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * (self.factor.conj() if isinstance(self.factor, Tensor) else self.factor.conjugate())


class Sum(LinearOperator):
    """``first(x) + second(x)``."""

    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        if (first.domain, first.range) != (second.domain, second.range):
            raise InputError(
                "operators to add differ in their spaces",
                found=(second.domain, second.range),
                expected=(first.domain, first.range),
            )
        self.first, self.second = first, second
        self.domain, self.range = first.domain, first.range
        self.couples_slices = first.couples_slices or second.couples_slices

    def _forward(self, x: Tensor) -> Tensor:
        return self.first._forward(x) + self.second._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.first._adjoint(y) + self.second._adjoint(y)


class Stack(LinearOperator):
    """The outputs of several operators one after the other, flattened."""

    def __init__(self, parts: Sequence[LinearOperator]) -> None:
        domains = {op.domain for op in parts}
        dtypes = {op.range.dtype for op in parts}
        if len(domains) != 1 or len(dtypes) != 1:
            raise InputError("operators to stack differ in their domain or dtype", found=(domains, dtypes))
        self.parts = tuple(parts)
        self.domain = parts[0].domain
        self.sizes = [torch.Size(op.range.shape).numel() for op in parts]
        self.range = Space((sum(self.sizes),), parts[0].range.dtype)
        self.couples_slices = any(op.couples_slices for op in parts)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.cat([op._forward(x).reshape(-1) for op in self.parts])

    def _adjoint(self, y: Tensor) -> Tensor:
        pieces = y.split(self.sizes)
        terms = [op._adjoint(p.reshape(op.range.shape)) for op, p in zip(self.parts, pieces, strict=True)]
        return torch.stack(terms).sum(0)


def stack(parts: Sequence[LinearOperator]) -> LinearOperator:
    """Several operators on one volume as one operator with a flat range."""
    return Stack(parts)


class Identity(LinearOperator):
    """Returns its input."""

    couples_slices = False

    def __init__(self, space: Space) -> None:
        self.domain = self.range = space

    def _forward(self, x: Tensor) -> Tensor:
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        return y
