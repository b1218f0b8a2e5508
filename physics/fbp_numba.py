"""Pixel-driven back-projection in numba, slices innermost."""

from __future__ import annotations

from typing import Any

from numba import njit

from medrecon.physics.ct_kernels import add_to, aligned_floats
from medrecon.physics.lanes import add_scaled, load, width_of, zero

BLOCK = 8
"""Neighbouring pixels read neighbouring columns: blocks of 8 x 8 pixels keep those of all views in the L2 cache."""


@njit(nogil=True, cache=True)
def gather(
    lanes: Any,
    image: Any,
    filtered: Any,
    place: Any,
    weight: Any,
    columns: int,
    slices: int,
    z: int,
    count: int,
) -> None:
    """Add the weighted, interpolated data of all views to slices ``z .. z + count`` of a tile ``[row][x][z]``.

    ``place`` and ``weight`` are ``(views, rows, x)``. ``filtered`` is flat ``[view][column][z]`` with one vector of
    spare floats at its end: lanes from ``count`` on read what follows and are not used.
    """
    views, rows, width = place.shape
    spill = aligned_floats(width_of(lanes))
    for left in range(0, width, BLOCK):
        for row in range(rows):
            for x in range(left, min(left + BLOCK, width)):
                total = zero(lanes)
                for view in range(views):
                    column = int(place[view, row, x])
                    high = (place[view, row, x] - column) * weight[view, row, x]
                    low = weight[view, row, x] - high
                    at = (view * columns + column) * slices + z
                    total = add_scaled(total, low, load(lanes, filtered, at))
                    total = add_scaled(total, high, load(lanes, filtered, at + slices))
                add_to(lanes, image, (row * width + x) * slices + z, 1.0, total, count, spill)
