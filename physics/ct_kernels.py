"""Joseph forward and adjoint projection of a stack of slices, in numba.

Arrays are flat float32 with the slices innermost: volumes ``[y][x][z]``, data ``[view][column][z]``. A task handles
up to 64 slices at a time as one vector (``lanes``), in tiles of a few rows that stay in the L2 cache, padded by two
pixels at either side so that no border needs a test. Tasks write to disjoint places and add in a fixed order, so the
result does not depend on the number of threads, to the bit.

Rays that step through columns work on transposed tiles and share all code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from medrecon.physics.lanes import add_scaled, load, store, width_of, zero

PAD = 2
"""Empty pixels at either side of a tile: rounding may put a ray one pixel further out than its table says."""


@njit(nogil=True, cache=True)
def aligned_floats(size: int) -> Any:
    """A flat float32 array that starts at a cache line: vector loads across lines take twice the time."""
    raw = np.empty(size + 16, np.float32)
    skip = (-(raw.ctypes.data // 4)) % 16
    return raw[skip : skip + size]


@njit(nogil=True, cache=True)
def tile_pitch(width: int) -> int:
    """Pixels per row of a tile: odd, so that the rows of a tile fall into different cache sets."""
    return (width + 2 * PAD) | 1


@njit(nogil=True, cache=True)
def _fill_tile(
    lanes: Any, tile: Any, image: Any, start: int, rows: int, row_step: int, width: int, pixel_step: int, count: int
) -> None:
    """Copy ``rows`` x ``width`` pixels of ``count`` slices into a tile; pads and unused lanes become zero."""
    n_lanes = width_of(lanes)
    pitch = tile_pitch(width)
    for row in range(rows):
        target = row * pitch * n_lanes
        for pad in range(PAD):
            store(tile, target + pad * n_lanes, zero(lanes))
        for pad in range(PAD + width, pitch):
            store(tile, target + pad * n_lanes, zero(lanes))
        for pixel in range(width):
            source = start + row * row_step + pixel * pixel_step
            place = target + (pixel + PAD) * n_lanes
            if count == n_lanes:
                store(tile, place, load(lanes, image, source))
            else:
                store(tile, place, zero(lanes))
                for z in range(count):
                    tile[place + z] = image[source + z]


@njit(nogil=True, cache=True)
def add_to(lanes: Any, array: Any, start: int, factor: float, vector: Any, count: int, spill: Any) -> None:
    """``array[start : start + count] += factor * vector``."""
    if count == width_of(lanes):
        store(array, start, add_scaled(load(lanes, array, start), factor, vector))
    else:
        store(spill, 0, add_scaled(zero(lanes), factor, vector))
        for z in range(count):
            array[start + z] += spill[z]


@njit(nogil=True, cache=True)
def project(
    lanes: Any,
    image: Any,
    data: Any,
    rays: Any,
    begin: int,
    end: int,
    steps: int,
    width: int,
    step_stride: int,
    pixel_stride: int,
    slices: int,
    z: int,
    count: int,
    tile_rows: int,
) -> None:
    """Add the line integrals of slices ``z .. z + count`` along ``rays[begin:end]`` to ``data``.

    ``rays`` is the tuple (index, position, slope, length, first, last) of a ray set; strides count floats.
    """
    index, position, slope, length, first, last = rays
    n_lanes = width_of(lanes)
    pitch = tile_pitch(width)
    tile = aligned_floats(tile_rows * pitch * n_lanes)
    spill = aligned_floats(n_lanes)
    for top in range(0, steps, tile_rows):
        bottom = min(top + tile_rows, steps)
        _fill_tile(lanes, tile, image, top * step_stride + z, bottom - top, step_stride, width, pixel_stride, count)
        for ray in range(begin, end):
            low, high = max(first[ray], top), min(last[ray], bottom)
            if low >= high:
                continue
            total = zero(lanes)
            for step in range(low, high):
                place = position[ray] + slope[ray] * step + PAD
                pixel = int(place)
                weight = place - pixel
                at = ((step - top) * pitch + pixel) * n_lanes
                total = add_scaled(total, 1.0 - weight, load(lanes, tile, at))
                total = add_scaled(total, weight, load(lanes, tile, at + n_lanes))
            add_to(lanes, data, index[ray] * slices + z, length[ray], total, count, spill)


@njit(nogil=True, cache=True)
def backproject(
    lanes: Any,
    image: Any,
    data: Any,
    rays: Any,
    top: int,
    bottom: int,
    width: int,
    step_stride: int,
    pixel_stride: int,
    slices: int,
    z: int,
    count: int,
) -> None:
    """Add the adjoint of ``project`` to rows (or columns) ``top .. bottom`` of ``image``."""
    index, position, slope, length, first, last = rays
    n_lanes = width_of(lanes)
    pitch = tile_pitch(width)
    tile = aligned_floats((bottom - top) * pitch * n_lanes)
    tile[:] = 0.0
    spill = aligned_floats(n_lanes)
    for ray in range(index.size):
        low, high = max(first[ray], top), min(last[ray], bottom)
        if low >= high:
            continue
        source = index[ray] * slices + z
        if count == n_lanes:
            value = add_scaled(zero(lanes), length[ray], load(lanes, data, source))
        else:
            store(spill, 0, zero(lanes))
            for k in range(count):
                spill[k] = data[source + k]
            value = add_scaled(zero(lanes), length[ray], load(lanes, spill, 0))
        for step in range(low, high):
            place = position[ray] + slope[ray] * step + PAD
            pixel = int(place)
            weight = place - pixel
            at = ((step - top) * pitch + pixel) * n_lanes
            store(tile, at, add_scaled(load(lanes, tile, at), 1.0 - weight, value))
            at += n_lanes
            store(tile, at, add_scaled(load(lanes, tile, at), weight, value))
    for row in range(bottom - top):
        for pixel in range(width):
            value = load(lanes, tile, (row * pitch + pixel + PAD) * n_lanes)
            place = (top + row) * step_stride + pixel * pixel_stride + z
            add_to(lanes, image, place, 1.0, value, count, spill)
