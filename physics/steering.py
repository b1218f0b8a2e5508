"""Differences between neighbouring traces along the slopes of events, instead of at equal times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.linop import LinearOperator, Space, operators
from medrecon.physics.threads import has_numba, run_tasks

_OPERATIONS = 20  # per value, of the kernels


class SteeredDifferences(LinearOperator):
    """Each trace less the one before it, taken where its events were: ``D x = x[i] - W x[i-1]``.

    Sections ``(row, time, column) -> (axes, row, time, column)``. ``slopes`` says for axis 0 (rows) or 2 (columns) how
    many samples later an event is than in the neighbour before, at each place ``(row, time, column)``; W interpolates
    between samples by cubics (Lagrange, four points), and repeats the first and last sample for what lies up to one
    sample outside. The difference is zero where an event comes from farther outside, and in the first row or column.
    With slopes of zero it is the difference at equal times. ``factors`` multiply the differences.

    Reference: Fomel 2002, Geophysics 67(6) (plane-wave destruction), with interpolation in place of allpass filters.
    """

    def __init__(
        self, shape: tuple[int, int, int], slopes: Mapping[int, Tensor], factors: Mapping[int, float] | None = None
    ) -> None:
        if not slopes or not set(slopes) <= {0, 2}:
            raise UsageError("events slope over rows (axis 0) and columns (2)", found=tuple(slopes))
        for field in slopes.values():
            if tuple(field.shape) != tuple(shape):
                raise UsageError("the slopes do not fit", found=tuple(field.shape), expected=tuple(shape))
        self.slopes = {axis: slopes[axis].to(torch.float32).contiguous() for axis in sorted(slopes)}
        self.factors = {axis: 1.0 if factors is None else factors[axis] for axis in self.slopes}
        self.domain = Space(tuple(shape))
        self.range = Space((len(self.slopes), *shape))

    def _forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.factors[axis] * self._one(axis, x, adjoint=False) for axis in self.slopes])

    def _adjoint(self, y: Tensor) -> Tensor:
        parts = [self._one(axis, self.factors[axis] * part, adjoint=True) for axis, part in zip(self.slopes, y)]  # noqa: B905
        return sum(parts[1:], parts[0])

    def _normal(self, x: Tensor) -> Tensor:
        parts = [
            factor**2 * self._one(axis, self._one(axis, x, adjoint=False), adjoint=True)
            for axis, factor in self.factors.items()
        ]
        return sum(parts[1:], parts[0])

    def _one(self, axis: int, x: Tensor, *, adjoint: bool) -> Tensor:
        """The difference along one axis, or its adjoint, by kernels where they can run."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or not has_numba():
            return _gathered(x, self.slopes[axis].to(x.device), axis, adjoint=adjoint)
        from medrecon.physics import steering_kernels

        kernel = steering_kernels.adjoint if adjoint else steering_kernels.difference
        source, out = x.contiguous(), torch.zeros(x.shape, dtype=x.dtype)
        arrays = (source.numpy(), self.slopes[axis].numpy(), int(axis == 0), int(axis == 2), out.numpy())
        rows, _, columns = x.shape
        # Parts that share no trace: along the axis where every trace has its neighbour in its own part
        split = columns if axis == 0 else rows
        count = min(torch.get_num_threads(), split)
        ends = [split * part // count for part in range(count + 1)]
        boxes = [(0, rows, *pair) if axis == 0 else (*pair, 0, columns) for pair in pairwise(ends)]
        run_tasks([partial(kernel, *arrays, *box) for box in boxes], _OPERATIONS * x.numel())
        return out


def _gathered(x: Tensor, slopes: Tensor, axis: int, *, adjoint: bool) -> Tensor:
    """What the kernels do, in tensor operations: for other devices and for double precision."""
    x, slopes = x.transpose(0, axis), slopes.transpose(0, axis)[1:]
    count = x.shape[1]
    place = torch.arange(count, device=x.device, dtype=torch.float32)[None, :, None] - slopes
    inside = ((place >= -1) & (place <= count)).to(x.dtype)
    base = place.floor()
    f = (place - base).to(x.dtype)
    weights = (
        -f * (f - 1) * (f - 2) / 6,
        (f + 1) * (f - 1) * (f - 2) / 2,
        -(f + 1) * f * (f - 2) / 2,
        (f + 1) * f * (f - 1) / 6,
    )
    taps = [(weight * inside, (base.long() + offset).clamp(0, count - 1)) for offset, weight in enumerate(weights, -1)]
    out = torch.zeros_like(x)
    if adjoint:
        out[1:] += inside * x[1:]
        for weight, index in taps:
            out[:-1].scatter_add_(1, index, -weight * x[1:])
    else:
        out[1:] = inside * x[1:]
        for weight, index in taps:
            out[1:] -= weight * x[:-1].gather(1, index)
    return out.transpose(0, axis)


def _example() -> SteeredDifferences:
    generator = torch.Generator().manual_seed(5)
    shape = (3, 7, 4)
    return SteeredDifferences(shape, {axis: 1.5 * torch.randn(shape, generator=generator) for axis in (0, 2)})


operators.register("steered-differences", example=_example)(SteeredDifferences)
