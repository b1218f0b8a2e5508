"""Orthonormal Daubechies wavelets with periodic borders, on real or complex tensors, without a library.

One level maps a signal of even length to its smooth and detail halves; sizes that do not divide are padded with
zeros by the caller (`padded_size`). The transform is orthonormal, so that its adjoint is its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Daubechies 1988, table 1: scaling filters of 2 vanishing moments
_DB2 = (0.48296291314453414, 0.8365163037378079, 0.2241438680420134, -0.1294095225512604)
SMALLEST = 16  # no level makes the smooth part shorter than this


def levels_of(sizes: Sequence[int]) -> int:
    """Levels until the shortest axis would fall below `SMALLEST`, at least one."""
    levels, shortest = 0, min(sizes)
    while shortest >= 2 * SMALLEST:
        shortest, levels = (shortest + 1) // 2, levels + 1
    return max(levels, 1)


def padded_size(size: int, levels: int) -> int:
    """The next size that ``levels`` halvings divide."""
    step = 1 << levels
    return -(-size // step) * step


def _split(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Smooth and detail halves along an axis: ``s[n] = sum_k h[k] x[2n + k]``, periodic."""
    smooth = torch.zeros_like(x.narrow(axis, 0, x.shape[axis] // 2))
    detail = torch.zeros_like(smooth)
    even = x.unflatten(axis, (-1, 2))
    last = len(_DB2) - 1
    axis = axis % x.ndim
    for k, h in enumerate(_DB2):
        part = even.select(axis + 1, k % 2).roll(-(k // 2), axis)
        smooth.add_(part, alpha=h)
        detail.add_(part, alpha=(-1) ** k * _DB2[last - k])
    return smooth, detail


def _merge(smooth: Tensor, detail: Tensor, axis: int) -> Tensor:
    """The inverse of :func:`_split`."""
    axis = axis % smooth.ndim
    last = len(_DB2) - 1
    phases = [torch.zeros_like(smooth), torch.zeros_like(smooth)]
    for k, h in enumerate(_DB2):
        part = smooth * h + detail * ((-1) ** k * _DB2[last - k])
        phases[k % 2].add_(part.roll(k // 2, axis))
    return torch.stack(phases, dim=axis + 1).flatten(axis, axis + 1)


def analyse(x: Tensor, axes: Sequence[int], levels: int) -> Tensor:
    """Coefficients in the shape of ``x``: after each level the smooth part stands first along every axis."""
    out = x.clone()
    sizes = [x.shape[a] for a in axes]
    for _ in range(levels):
        block = out
        for axis, size in zip(axes, sizes, strict=True):
            block = block.narrow(axis, 0, size)
        values: Tensor = block
        for axis in axes:
            values = torch.cat(_split(values, axis), dim=axis)
        block.copy_(values)
        sizes = [size // 2 for size in sizes]
    return out


def synthesise(coefficients: Tensor, axes: Sequence[int], levels: int) -> Tensor:
    """The inverse, and the adjoint, of :func:`analyse`."""
    out = coefficients.clone()
    for level in reversed(range(levels)):
        block = out
        for axis in axes:
            block = block.narrow(axis, 0, coefficients.shape[axis] >> level)
        values: Tensor = block
        for axis in axes:
            half = values.shape[axis] // 2
            values = _merge(values.narrow(axis, 0, half), values.narrow(axis, half, half), axis)
        block.copy_(values)
    return out


def shrink(x: Tensor, threshold: float, axes: Sequence[int], levels: int, shift: Sequence[int]) -> Tensor:
    """Soft thresholding of the details of the shifted ``x``: the proximal map of ``threshold ||W x||_1``.

    The modulus of complex coefficients shrinks, their phase stays; the smooth part of the last level is kept. Axes are
    padded with zeros to sizes that the levels divide, and cropped afterwards.
    """
    sizes = [x.shape[a] for a in axes]
    padded = x
    for axis, size in zip(axes, sizes, strict=True):
        extra = padded_size(size, levels) - size
        if extra:
            tail = list(padded.shape)
            tail[axis] = extra
            padded = torch.cat([padded, padded.new_zeros(tail)], dim=axis)
    coefficients = analyse(padded.roll(tuple(shift), tuple(axes)), axes, levels)
    smooth: Tensor = coefficients
    for axis in axes:
        smooth = smooth.narrow(axis, 0, padded.shape[axis] >> levels)
    kept = smooth.clone()
    magnitude = coefficients.abs()
    coefficients.mul_((1 - threshold / magnitude.clamp_min(max(threshold, 1e-30))).clamp_min(0))
    smooth.copy_(kept)
    out = synthesise(coefficients, axes, levels).roll([-s for s in shift], tuple(axes))
    for axis, length in zip(axes, sizes, strict=True):
        out = out.narrow(axis, 0, length)
    return out
