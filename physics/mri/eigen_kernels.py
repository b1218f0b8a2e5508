"""Leading eigenvectors of many small Hermitian matrices that change slowly from one to the next."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_TOLERANCE = 1e-7  # of the squared change of the vector in one iteration
_ITERATIONS = 200


@numba.njit(nogil=True, fastmath=True, cache=True)
def power_iteration(matrices: Any, vectors: Any, values: Any) -> None:
    """Fill ``vectors`` (voxels, count, n) and ``values`` (voxels, count); overwrites ``matrices``.

    Each starts from the vector of the voxel before, mixed with a little of every coil so that no component is lost.
    """
    voxels, n, _ = matrices.shape
    count = vectors.shape[1]
    v = np.empty(n, np.complex64)
    w = np.empty(n, np.complex64)
    for p in range(voxels):
        a = matrices[p]
        for s in range(count):
            for i in range(n):
                v[i] = np.float32(0.05) + (vectors[p - 1, s, i] if p > 0 else np.complex64(1))
            value = np.float32(0)
            for _ in range(_ITERATIONS):
                length = np.float32(0)
                for i in range(n):
                    length += v[i].real * v[i].real + v[i].imag * v[i].imag
                if length <= np.float32(1e-30):
                    break
                scale = np.float32(1) / np.sqrt(length)
                for i in range(n):
                    v[i] = v[i] * scale
                value = np.float32(0)
                change = np.float32(0)
                for i in range(n):
                    total = np.complex64(0)
                    for j in range(n):
                        total += a[i, j] * v[j]
                    w[i] = total
                    value += total.real * v[i].real + total.imag * v[i].imag
                for i in range(n):
                    d = w[i] - value * v[i]
                    change += d.real * d.real + d.imag * d.imag
                if change <= _TOLERANCE * value * value:
                    break
                for i in range(n):
                    v[i] = w[i]
            values[p, s] = value
            for i in range(n):
                vectors[p, s, i] = v[i]
            if s + 1 < count:
                for i in range(n):
                    for j in range(n):
                        a[i, j] -= value * v[i] * np.conj(v[j])
