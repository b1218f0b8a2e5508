"""Joseph forward and adjoint projection for cone beams with upright detectors, in numba.

Arrays are flat float32: volumes ``[y][x][z]``, data ``[view][column][row]``. A tile is a few rows (or columns) of the
volume and up to ``CHUNK`` slices, padded so that no border needs a test; it stays in the L2 cache while all rays of a
task pass. Forward tasks own detector columns, adjoint tasks own tiles: no two write to one place, and sums have one
order, so the result does not depend on the number of threads.

The adjoint pulls: every voxel collects the rows around it with the weights that the forward gives it, which are hats
``max(0, 1 - distance in slices)`` on both sides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from medrecon.physics.cone_lanes import (
    LARGEST_STEP,
    LARGEST_STEP_OF_HATS,
    WIDTH,
    accumulate,
    lerp_line,
    narrow_hats,
    wide_hats,
)
from medrecon.physics.ct_kernels import aligned_floats

PAD = 2
"""Empty pixels at either side of a tile."""
BEFORE, AFTER = 16, 32
"""Empty floats before and after a line: places of a vector that lie outside of the volume read them."""
CHUNK = 128
"""Most slices in a tile."""


@njit(nogil=True, cache=True)
def line_size(count: int) -> int:
    """Floats of a padded line, a multiple of the vector."""
    return BEFORE + (count + WIDTH - 1) // WIDTH * WIDTH + AFTER


@njit(nogil=True, cache=True)
def _row_lengths(out: Any, rows: int, step: float, reach: float, height: float, row_step: float) -> None:
    """Millimetres of every row's ray between two steps."""
    for row in range(rows):
        rise = np.float32(height + row * row_step)
        out[row] = np.float32(step) * np.sqrt(np.float32(reach) + rise * rise)


@njit(nogil=True, cache=True)
def _fill(tile: Any, image: Any, start: int, rows: int, row_step: int, width: int, pixel_step: int, count: int) -> None:
    """Copy ``rows`` x ``width`` lines of ``count`` slices into a tile whose pads are zero."""
    line = line_size(count)
    for row in range(rows):
        for pixel in range(width):
            source = start + row * row_step + pixel * pixel_step
            target = (row * (width + 2 * PAD) + pixel + PAD) * line + BEFORE
            for z in range(count):
                tile[target + z] = image[source + z]


@njit(nogil=True, cache=True)
def project(
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
    rows: int,
    tile_rows: int,
) -> None:
    """Line integrals along the entries ``begin`` to ``end`` of a ray set, all rows, into ``data``."""
    index, position, slope, length, first, last, low, low_step, rise, rise_step, reach, height, row_step = rays
    chunk = min(slices, CHUNK)
    tile = aligned_floats(tile_rows * (width + 2 * PAD) * line_size(chunk))
    total = aligned_floats(line_size(rows))
    lengths = aligned_floats(line_size(rows))
    for z in range(0, slices, CHUNK):
        count = min(CHUNK, slices - z)
        line = line_size(count)
        tile[:] = 0.0
        for top in range(0, steps, tile_rows):
            bottom = min(top + tile_rows, steps)
            _fill(tile, image, top * step_stride + z, bottom - top, step_stride, width, pixel_stride, count)
            for ray in range(begin, end):
                from_step, to_step = max(first[ray], top), min(last[ray], bottom)
                if from_step >= to_step:
                    continue
                lowest, highest = rows, 0
                for step in range(from_step, to_step):
                    place = position[ray] + slope[ray] * step + PAD
                    pixel = int(place)
                    right = np.float32(place - pixel)
                    left = np.float32(1.0) - right
                    start = low[ray] + low_step[ray] * step - z
                    climb = rise[ray] + rise_step[ray] * step
                    low_row = max(0, math.floor((-1.0 - start) / climb))
                    high_row = min(rows, math.floor((count - start) / climb) + 1)
                    if low_row >= high_row:
                        continue
                    low_row = low_row // WIDTH * WIDTH
                    high_row = (high_row + WIDTH - 1) // WIDTH * WIDTH
                    # Rows that no step has reached yet start from zero.
                    if lowest > highest:
                        lowest, highest = low_row, low_row
                    for row in range(low_row, lowest):
                        total[row] = 0.0
                    for row in range(highest, high_row):
                        total[row] = 0.0
                    lowest, highest = min(lowest, low_row), max(highest, high_row)
                    at = ((step - top) * (width + 2 * PAD) + pixel) * line + BEFORE
                    if climb <= LARGEST_STEP:
                        fine = np.float32(climb)
                        for row in range(low_row, high_row, WIDTH):
                            where = start + climb * row
                            whole = math.floor(where)
                            value = lerp_line(
                                tile, at + int(whole), line, left, right, np.float32(where - whole), fine
                            )  # fmt: skip
                            accumulate(total, row, np.float32(1.0), value)
                    else:
                        for row in range(low_row, high_row):
                            where = start + climb * row
                            if -1.0 < where < count:
                                whole = math.floor(where)
                                part = np.float32(where - whole)
                                k = at + int(whole)
                                below = left * tile[k] + right * tile[k + line]
                                above = left * tile[k + 1] + right * tile[k + line + 1]
                                total[row] += below + part * (above - below)
                if lowest < highest:
                    highest = min(highest, rows)
                    _row_lengths(lengths, rows, length[ray], reach[ray], height[ray], row_step[ray])
                    target = index[ray] * rows
                    for row in range(lowest, highest):
                        data[target + row] += lengths[row] * total[row]


@njit(nogil=True, cache=True)
def backproject(
    image: Any,
    data: Any,
    rays: Any,
    top: int,
    bottom: int,
    width: int,
    step_stride: int,
    pixel_stride: int,
    slices: int,
    rows: int,
    z: int,
    count: int,
) -> None:
    """Add the adjoint of ``project`` to rows (or columns) ``top .. bottom``, slices ``z .. z + count`` of ``image``."""
    index, position, slope, length, first, last, low, low_step, rise, rise_step, reach, height, row_step = rays
    line = line_size(count)
    tile = aligned_floats((bottom - top) * (width + 2 * PAD) * line)
    tile[:] = 0.0
    column = aligned_floats(line_size(rows))
    column[:] = 0.0
    for ray in range(index.size):
        from_step, to_step = max(first[ray], top), min(last[ray], bottom)
        if from_step >= to_step:
            continue
        filled = False
        for step in range(from_step, to_step):
            start = low[ray] + low_step[ray] * step - z
            climb = rise[ray] + rise_step[ray] * step
            low_z = max(0, math.floor(start))
            high_z = min(count, math.floor(start + climb * (rows - 1)) + 2)
            if low_z >= high_z:
                continue
            if not filled:
                _row_lengths(column[BEFORE:], rows, length[ray], reach[ray], height[ray], row_step[ray])
                source = index[ray] * rows
                for row in range(rows):
                    column[BEFORE + row] *= data[source + row]
                filled = True
            place = position[ray] + slope[ray] * step + PAD
            pixel = int(place)
            right = np.float32(place - pixel)
            left = np.float32(1.0) - right
            at = ((step - top) * (width + 2 * PAD) + pixel) * line + BEFORE
            per_slice = 1.0 / climb
            if per_slice <= LARGEST_STEP_OF_HATS:
                fine, stretch = np.float32(climb), np.float32(per_slice)
                for k in range(low_z // WIDTH * WIDTH, high_z, WIDTH):
                    where = (k - start) * per_slice
                    whole = math.floor(where)
                    begin = BEFORE + int(whole)
                    part = np.float32(where - whole)
                    if climb >= 1.0:
                        value = narrow_hats(column, begin, part, stretch, fine)
                    else:
                        value = wide_hats(column, begin - 1, part, stretch, fine)
                    accumulate(tile, at + k, left, value)
                    accumulate(tile, at + line + k, right, value)
            else:
                low_row = max(0, math.floor((-1.0 - start) / climb))
                high_row = min(rows, math.floor((count - start) / climb) + 1)
                for row in range(low_row, high_row):
                    where = start + climb * row
                    if -1.0 < where < count:
                        whole = math.floor(where)
                        part = np.float32(where - whole)
                        k = at + int(whole)
                        above = part * column[BEFORE + row]
                        below = column[BEFORE + row] - above
                        tile[k] += left * below
                        tile[k + 1] += left * above
                        tile[k + line] += right * below
                        tile[k + line + 1] += right * above
    for row in range(bottom - top):
        for pixel in range(width):
            source = (row * (width + 2 * PAD) + pixel + PAD) * line + BEFORE
            target = (top + row) * step_stride + pixel * pixel_stride + z
            for k in range(count):
                image[target + k] += tile[source + k]
