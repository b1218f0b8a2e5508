"""Finite differences along chosen axes of a volume."""

from __future__ import annotations

import torch
from torch import Tensor

from medrecon.physics.linop import LinearOperator, Space


class Differences(LinearOperator):
    """Forward differences ``(z, y, x) -> (axes, z, y, x)`` with Neumann borders (the last difference is 0).

    ``factors`` multiply the difference of each axis (1 / relative spacing).
    """

    def __init__(self, shape: tuple[int, int, int], axes: tuple[int, ...], factors: tuple[float, ...]) -> None:
        self.axes, self.factors = axes, factors
        self.domain = Space(tuple(shape))
        self.range = Space((len(axes), *shape))

    def _forward(self, x: Tensor) -> Tensor:
        out = torch.empty_strided(self.range.shape, (x.numel(), *x.stride()), dtype=x.dtype, device=x.device)
        for part, axis, factor in zip(out, self.axes, self.factors, strict=True):
            size = x.shape[axis]
            body = part.narrow(axis, 0, size - 1)
            torch.sub(x.narrow(axis, 1, size - 1), x.narrow(axis, 0, size - 1), out=body)
            if factor != 1.0:
                body.mul_(factor)
            part.narrow(axis, size - 1, 1).zero_()
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        out = torch.zeros_like(y[0])
        for part, axis, factor in zip(y, self.axes, self.factors, strict=True):
            size = out.shape[axis]
            body = part.narrow(axis, 0, size - 1)
            out.narrow(axis, 1, size - 1).add_(body, alpha=factor)
            out.narrow(axis, 0, size - 1).sub_(body, alpha=factor)
        return out
