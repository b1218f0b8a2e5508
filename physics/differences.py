"""Finite differences of a volume, with fused loops for what solvers do with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medrecon.physics.linop import LinearOperator, Space
from medrecon.physics.threads import has_numba, run_tasks

_OPERATIONS = 6  # per value, of every kernel here


class Differences(LinearOperator):
    """Forward differences ``(z, y, x) -> (3, z, y, x)`` with Neumann borders (the last difference is 0).

    ``factors`` multiply the differences along (z, y, x): 1 / relative spacing, or 0 to leave an axis out. The result
    has the memory layout of the input.
    """

    def __init__(self, shape: tuple[int, int, int], factors: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        self.factors = factors
        self.domain = Space(tuple(shape))
        self.range = Space((3, *shape))

    def _forward(self, x: Tensor) -> Tensor:
        order = _layout(x)
        out = torch.zeros((3, *(x.shape[axis] for axis in order)), dtype=x.dtype, device=x.device)
        out = out.permute(0, *(1 + axis for axis in _inverse(order)))
        for axis, factor in enumerate(self.factors):
            if factor != 0:
                size = x.shape[axis]
                body = out[axis].narrow(axis, 0, size - 1)
                torch.sub(x.narrow(axis, 1, size - 1), x.narrow(axis, 0, size - 1), out=body)
                body.mul_(factor)
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        out = torch.zeros_like(y[0])
        for axis, factor in enumerate(self.factors):
            if factor != 0:
                size = out.shape[axis]
                body = y[axis].narrow(axis, 0, size - 1)
                out.narrow(axis, 1, size - 1).add_(body, alpha=factor)
                out.narrow(axis, 0, size - 1).sub_(body, alpha=factor)
        return out

    def gram_of(self, x: Tensor) -> Tensor:
        """``D'D x`` in one pass."""
        if not _fusible(x):
            return self._adjoint(self._forward(x))
        from medrecon.physics import difference_kernels

        order = _layout(x)
        source = x.permute(order).contiguous()
        out = torch.empty_like(source)
        factors = (self.factors[axis] for axis in order)
        _in_parts(difference_kernels.gram, len(out), source.numpy(), *factors, out.numpy())
        return out.permute(_inverse(order))

    def adjoint_of_difference(self, z: Tensor, u: Tensor) -> Tensor:
        """``D'(z - u)`` in one pass."""
        if not _fusible(z):
            return self._adjoint(z - u)
        from medrecon.physics import difference_kernels

        order = _layout(z[0])
        first, second = _ordered(z, order), _ordered(u, order)
        out = torch.empty_like(first[0])
        factors = (self.factors[axis] for axis in order)
        arrays = (first.numpy(), second.numpy())
        _in_parts(difference_kernels.divergence, len(out), *arrays, order, *factors, out.numpy())
        return out.permute(_inverse(order))

    def shrink_update(
        self, x: Tensor, z: Tensor, u: Tensor, threshold: float, relaxation: float
    ) -> tuple[Tensor, Tensor]:
        """Split and dual update of ADMM for isotropic total variation, in one pass; may overwrite ``z`` and ``u``.

        ``v = relaxation D x + (1 - relaxation) z + u``; returns ``shrink(v)`` and ``v - shrink(v)``.
        """
        if not _fusible(x):
            v = torch.lerp(z, self._forward(x), relaxation) + u
            length = torch.linalg.vector_norm(v, dim=0).clamp_min(threshold) if threshold > 0 else 1.0
            split = v * (1 - threshold / length)
            return split, v - split
        from medrecon.physics import difference_kernels

        order = _layout(x)
        split, dual = _ordered(z, order), _ordered(u, order)
        arrays = (t.numpy() for t in (x.permute(order).contiguous(), split, dual))
        factors = (self.factors[axis] for axis in order)
        _in_parts(difference_kernels.shrink_update, split.shape[1], *arrays, order, *factors, threshold, relaxation)
        back = (0, *(1 + axis for axis in _inverse(order)))
        return split.permute(back), dual.permute(back)


def _in_parts(kernel: Callable[..., None], size: int, *arguments: object) -> None:
    """Run a kernel on ranges of the first axis, one for each thread."""
    parts = min(torch.get_num_threads(), size)
    ends = [size * part // parts for part in range(parts + 1)]
    work = _OPERATIONS * max(part.size for part in arguments if isinstance(part, np.ndarray))
    run_tasks([partial(kernel, *arguments, low, high) for low, high in pairwise(ends)], work)


def _fusible(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and has_numba()


def _layout(x: Tensor) -> tuple[int, ...]:
    """Axes of ``x`` from the slowest to the fastest in memory."""
    return tuple(sorted(range(3), key=lambda axis: (-x.stride()[axis], axis)))


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(3))


def _ordered(z: Tensor, order: tuple[int, ...]) -> Tensor:
    """``(3, z, y, x)`` as a contiguous ``(3, a, b, c)`` with the axes in memory order."""
    return z.permute(0, *(1 + axis for axis in order)).contiguous()
