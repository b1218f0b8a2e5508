"""Joseph forward and adjoint projection for any source and detector, in numba: tilted panels, measured vectors.

Every ray steps through the voxel planes of its steepest axis and interpolates linearly along the two others. Data are
flat ``[view][column][row]``; the volume has two empty voxels at every face. Adjoint tasks own a slab of planes of one
axis, so that none writes where another does, and every voxel is summed in the order of the rays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

PAD = 2


@njit(nogil=True, cache=True)
def _ray(source: Any, end: Any, counts: Any, sizes: Any, ray: Any, span: Any) -> None:
    """A ray in voxel coordinates: ``span`` = steepest axis, first and last step; ``ray`` = places, slopes, length.

    Axes are z, y, x. ``ray`` holds the place along the next axis at step 0 and its slope, the same for the axis after
    it, and the millimetres of a step.
    """
    axis = 0
    for k in range(1, 3):
        if abs(end[k] - source[k]) >= abs(end[axis] - source[axis]):
            axis = k
    major = end[axis] - source[axis]
    one, two = (axis + 1) % 3, (axis + 2) % 3
    low, high = 0.0, float(counts[axis] - 1)
    length = 1.0 * sizes[axis] * sizes[axis]
    for k in range(2):
        other = one if k == 0 else two
        slope = (end[other] - source[other]) / major
        place = source[other] - slope * source[axis]
        ray[2 * k], ray[2 * k + 1] = place, slope
        length += (slope * sizes[other]) ** 2
        # Steps i with -1 < place + slope i < count.
        if abs(slope) < 1e-12:
            if place <= -1.0 or place >= counts[other]:
                high = -1.0
        else:
            a, b = (-1.0 - place) / slope, (counts[other] - place) / slope
            low, high = max(low, min(a, b)), min(high, max(a, b))
    ray[4] = math.sqrt(length)
    # Nothing behind the source.
    if major > 0:
        low = max(low, source[axis])
    else:
        high = min(high, source[axis])
    span[0] = axis
    span[1] = math.ceil(low)
    span[2] = math.floor(high) + 1 if high >= low else 0


@njit(nogil=True, cache=True)
def project(
    volume: Any,
    data: Any,
    sources: Any,
    middles: Any,
    ups: Any,
    rows: int,
    begin: int,
    end: int,
    counts: Any,
    sizes: Any,
) -> None:
    """Line integrals of views ``begin`` to ``end``. ``volume`` is ``(y, x, z)`` with its pads."""
    ray, span, pixel = np.empty(5), np.empty(3, np.int64), np.empty(3)
    flat = volume.reshape(-1)
    strides = np.array([1, volume.shape[1] * volume.shape[2], volume.shape[2]])
    origin = PAD * (strides[0] + strides[1] + strides[2])
    columns = middles.shape[1]
    for view in range(begin, end):
        for column in range(columns):
            for row in range(rows):
                for k in range(3):
                    pixel[k] = middles[view, column, k] + (row - 0.5 * (rows - 1)) * ups[view, k]
                _ray(sources[view], pixel, counts, sizes, ray, span)
                axis = span[0]
                major, one, two = strides[axis], strides[(axis + 1) % 3], strides[(axis + 2) % 3]
                total = np.float32(0.0)
                for step in range(span[1], span[2]):
                    p, q = ray[0] + ray[1] * step, ray[2] + ray[3] * step
                    i, j = int(p + PAD) - PAD, int(q + PAD) - PAD
                    u, v = np.float32(p - i), np.float32(q - j)
                    at = origin + step * major + i * one + j * two
                    near = flat[at] + v * (flat[at + two] - flat[at])
                    far = flat[at + one] + v * (flat[at + one + two] - flat[at + one])
                    total += near + u * (far - near)
                data[view, column, row] = np.float32(ray[4]) * total


@njit(nogil=True, cache=True)
def backproject(
    volume: Any, data: Any, sources: Any, middles: Any, ups: Any, slab_axis: int, top: int, bottom: int, counts: Any,
    sizes: Any,
) -> None:  # fmt: skip
    """Add the adjoint of the rays along ``slab_axis`` to its planes ``top`` to ``bottom`` of ``volume``, (z, y, x)."""
    ray, span, pixel = np.empty(5), np.empty(3, np.int64), np.empty(3)
    one, two = (slab_axis + 1) % 3, (slab_axis + 2) % 3
    slab = np.zeros((bottom - top, counts[one] + 2 * PAD, counts[two] + 2 * PAD), np.float32)
    views, columns, rows = data.shape
    for view in range(views):
        for column in range(columns):
            for row in range(rows):
                for k in range(3):
                    pixel[k] = middles[view, column, k] + (row - 0.5 * (rows - 1)) * ups[view, k]
                away = abs(pixel[slab_axis] - sources[view, slab_axis])
                if away < max(abs(pixel[one] - sources[view, one]), abs(pixel[two] - sources[view, two])):
                    continue
                _ray(sources[view], pixel, counts, sizes, ray, span)
                if span[0] != slab_axis:
                    continue
                value = np.float32(ray[4]) * data[view, column, row]
                for step in range(max(top, span[1]), min(bottom, span[2])):
                    p, q = ray[0] + ray[1] * step + PAD, ray[2] + ray[3] * step + PAD
                    i, j = int(p), int(q)
                    u, v = np.float32(p - i), np.float32(q - j)
                    far = u * value
                    near = value - far
                    slab[step - top, i, j] += near - v * near
                    slab[step - top, i, j + 1] += v * near
                    slab[step - top, i + 1, j] += far - v * far
                    slab[step - top, i + 1, j + 1] += v * far
    for step in range(bottom - top):
        for i in range(counts[one]):
            for j in range(counts[two]):
                value = slab[step, i + PAD, j + PAD]
                if slab_axis == 0:
                    volume[top + step, i, j] += value
                elif slab_axis == 1:
                    volume[j, top + step, i] += value
                else:
                    volume[i, j, top + step] += value
