"""Loops over sections ``(row, time, column)`` whose neighbours are taken at other times, by cubic interpolation.

All work on contiguous float32 arrays. ``d_row`` and ``d_column`` say which neighbour is meant: that one row, or one
column, before. A call treats rows ``row0 <= i < row1`` and columns ``column0 <= k < column1`` alone, so that calls that
share no row (or no column, where the neighbour is in another row) can run side by side and give the same bits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(inline="always")
def _weights(f: Any) -> Any:
    """Of the samples before, at, after and two after a place ``f`` between two samples (Lagrange, four points)."""
    return (
        -f * (f - 1) * (f - 2) / 6,
        (f + 1) * (f - 1) * (f - 2) / 2,
        -(f + 1) * f * (f - 2) / 2,
        (f + 1) * f * (f - 1) / 6,
    )


@numba.njit(inline="always")
def _clipped(j: Any, count: Any) -> Any:
    return min(max(j, 0), count - 1)


@numba.njit(nogil=True, cache=True)
def difference(
    x: Any, slopes: Any, d_row: int, d_column: int, out: Any, row0: int, row1: int, column0: int, column1: int
) -> None:
    """``out = x - W x``: each sample less its neighbour's at ``slopes`` samples earlier; 0 where that lies outside."""
    count = x.shape[1]
    for i in range(row0, row1):
        for j in range(count):
            for k in range(column0, column1):
                place = j - slopes[i, j, k]
                if i < d_row or k < d_column or place < -1 or place > count:
                    out[i, j, k] = 0
                    continue
                base = int(np.floor(place))
                a, b, c, d = _weights(place - base)
                m, n = i - d_row, k - d_column
                out[i, j, k] = x[i, j, k] - (
                    a * x[m, _clipped(base - 1, count), n]
                    + b * x[m, _clipped(base, count), n]
                    + c * x[m, _clipped(base + 1, count), n]
                    + d * x[m, _clipped(base + 2, count), n]
                )


@numba.njit(nogil=True, cache=True)
def adjoint(
    y: Any, slopes: Any, d_row: int, d_column: int, out: Any, row0: int, row1: int, column0: int, column1: int
) -> None:
    """Adds the adjoint of `difference` at ``y`` to ``out``."""
    count = y.shape[1]
    for i in range(row0, row1):
        for j in range(count):
            for k in range(column0, column1):
                place = j - slopes[i, j, k]
                if i < d_row or k < d_column or place < -1 or place > count:
                    continue
                base = int(np.floor(place))
                a, b, c, d = _weights(place - base)
                m, n = i - d_row, k - d_column
                value = y[i, j, k]
                out[i, j, k] += value
                out[m, _clipped(base - 1, count), n] -= a * value
                out[m, _clipped(base, count), n] -= b * value
                out[m, _clipped(base + 1, count), n] -= c * value
                out[m, _clipped(base + 2, count), n] -= d * value


@numba.njit(nogil=True, cache=True)
def warp(x: Any, slopes: Any, lag: int, value: Any, derivative: Any) -> None:
    """``x`` at ``lag * slopes`` samples earlier, and its derivative there; NaN where that lies outside."""
    rows, count, columns = x.shape
    for i in range(rows):
        for j in range(count):
            for k in range(columns):
                place = j - lag * slopes[i, j, k]
                if place < -1 or place > count:
                    value[i, j, k] = derivative[i, j, k] = np.nan
                    continue
                base = int(np.floor(place))
                f = place - base
                a, b, c, d = _weights(f)
                p, q = x[i, _clipped(base - 1, count), k], x[i, _clipped(base, count), k]
                r, s = x[i, _clipped(base + 1, count), k], x[i, _clipped(base + 2, count), k]
                value[i, j, k] = a * p + b * q + c * r + d * s
                derivative[i, j, k] = (
                    -(3 * f * f - 6 * f + 2) / 6 * p
                    + (3 * f * f - 4 * f - 1) / 2 * q
                    - (3 * f * f - 2 * f - 2) / 2 * r
                    + (3 * f * f - 1) / 6 * s
                )
