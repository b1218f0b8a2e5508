"""Fused loops for total variation on CPU: each makes one pass over memory where tensor code makes ten.

All work on contiguous float32 arrays ``(a, b, c)``, whatever those axes mean; ``f0, f1, f2`` multiply the forward
differences along them (0 leaves an axis out). Borders are Neumann. A call fills ``low <= i < high`` of the first axis
alone, so that calls on disjoint ranges can run side by side and give the same bits as one call.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True, fastmath=True, cache=True)
def gram(x: Any, f0: float, f1: float, f2: float, out: Any, low: int, high: int) -> None:
    """``out = D'D x`` for the factors given."""
    n0, n1, n2 = x.shape
    g0, g1, g2 = np.float32(f0 * f0), np.float32(f1 * f1), np.float32(f2 * f2)
    for i in range(low, high):
        for j in range(n1):
            for k in range(n2):
                out[i, j, k] = 0
            if f0 != 0:
                if i > 0:
                    for k in range(n2):
                        out[i, j, k] += g0 * (x[i, j, k] - x[i - 1, j, k])
                if i < n0 - 1:
                    for k in range(n2):
                        out[i, j, k] += g0 * (x[i, j, k] - x[i + 1, j, k])
            if f1 != 0:
                if j > 0:
                    for k in range(n2):
                        out[i, j, k] += g1 * (x[i, j, k] - x[i, j - 1, k])
                if j < n1 - 1:
                    for k in range(n2):
                        out[i, j, k] += g1 * (x[i, j, k] - x[i, j + 1, k])
            if f2 != 0:
                for k in range(1, n2):
                    out[i, j, k] += g2 * (x[i, j, k] - x[i, j, k - 1])
                for k in range(n2 - 1):
                    out[i, j, k] += g2 * (x[i, j, k] - x[i, j, k + 1])


@numba.njit(nogil=True, fastmath=True, cache=True)
def divergence(z: Any, u: Any, order: Any, f0: float, f1: float, f2: float, out: Any, low: int, high: int) -> None:
    """``out = D'(z - u)``; z and u are ``(3, a, b, c)``; ``order[i]`` is the component of loop axis i."""
    _, n0, n1, n2 = z.shape
    p, q, r = order
    g0, g1, g2 = np.float32(f0), np.float32(f1), np.float32(f2)
    for i in range(low, high):
        for j in range(n1):
            for k in range(n2):
                out[i, j, k] = 0
            if f0 != 0:
                if i > 0:
                    for k in range(n2):
                        out[i, j, k] += g0 * (z[p, i - 1, j, k] - u[p, i - 1, j, k])
                if i < n0 - 1:
                    for k in range(n2):
                        out[i, j, k] -= g0 * (z[p, i, j, k] - u[p, i, j, k])
            if f1 != 0:
                if j > 0:
                    for k in range(n2):
                        out[i, j, k] += g1 * (z[q, i, j - 1, k] - u[q, i, j - 1, k])
                if j < n1 - 1:
                    for k in range(n2):
                        out[i, j, k] -= g1 * (z[q, i, j, k] - u[q, i, j, k])
            if f2 != 0:
                for k in range(1, n2):
                    out[i, j, k] += g2 * (z[r, i, j, k - 1] - u[r, i, j, k - 1])
                for k in range(n2 - 1):
                    out[i, j, k] -= g2 * (z[r, i, j, k] - u[r, i, j, k])


@numba.njit(nogil=True, fastmath=True, cache=True)
def shrink_update(
    x: Any,
    z: Any,
    u: Any,
    order: Any,
    f0: float,
    f1: float,
    f2: float,
    threshold: float,
    relaxation: float,
    low: int,
    high: int,
) -> None:
    """One split and dual update of ADMM, in place: isotropic shrinkage of the gradient by ``threshold``."""
    n0, n1, n2 = x.shape
    p, q, r = order
    over, keep = np.float32(relaxation), np.float32(1 - relaxation)
    g0, g1, g2 = over * np.float32(f0), over * np.float32(f1), over * np.float32(f2)
    t = np.float32(threshold)
    one, zero, tiny = np.float32(1), np.float32(0), np.float32(1e-20)
    for i in range(low, high):
        up = min(i + 1, n0 - 1)
        for j in range(n1):
            right = min(j + 1, n1 - 1)
            # The last k has no neighbour; kept out of the loop so that the loop vectorises
            for k in range(n2 - 1):
                centre = x[i, j, k]
                a = g0 * (x[up, j, k] - centre) + keep * z[p, i, j, k] + u[p, i, j, k]
                b = g1 * (x[i, right, k] - centre) + keep * z[q, i, j, k] + u[q, i, j, k]
                c = g2 * (x[i, j, k + 1] - centre) + keep * z[r, i, j, k] + u[r, i, j, k]
                length = np.sqrt(a * a + b * b + c * c)
                factor = max(zero, one - t / max(length, tiny))
                z[p, i, j, k] = factor * a
                z[q, i, j, k] = factor * b
                z[r, i, j, k] = factor * c
                u[p, i, j, k] = a - factor * a
                u[q, i, j, k] = b - factor * b
                u[r, i, j, k] = c - factor * c
            k = n2 - 1
            centre = x[i, j, k]
            a = g0 * (x[up, j, k] - centre) + keep * z[p, i, j, k] + u[p, i, j, k]
            b = g1 * (x[i, right, k] - centre) + keep * z[q, i, j, k] + u[q, i, j, k]
            c = keep * z[r, i, j, k] + u[r, i, j, k]
            length = np.sqrt(a * a + b * b + c * c)
            factor = max(zero, one - t / max(length, tiny))
            z[p, i, j, k], z[q, i, j, k], z[r, i, j, k] = factor * a, factor * b, factor * c
            u[p, i, j, k], u[q, i, j, k], u[r, i, j, k] = a - factor * a, b - factor * b, c - factor * c
