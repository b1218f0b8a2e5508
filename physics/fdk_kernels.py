"""Voxel-driven back-projection of filtered cone-beam data, in numba.

``frames`` is ``(views, 3, 4)``: applied to ``(x, y, z, 1)`` in voxels it gives the offset along ``u`` and ``v`` times
the depth, in pixels, and the depth, which is 1 at the detector. ``filtered`` is flat ``[view][column][row]`` with a
column of zeros at either end, and lines padded as those of a tile (medrecon.physics.cone_kernels).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from medrecon.physics.cone_kernels import BEFORE, line_size
from medrecon.physics.cone_lanes import LARGEST_STEP, WIDTH, accumulate, lerp_line
from medrecon.physics.ct_kernels import aligned_floats


@njit(nogil=True, cache=True)
def gather_upright(
    out: Any, filtered: Any, frames: Any, top: int, columns: int, rows: int, centre: float, curved: Any
) -> None:
    """Sum of all views for the slice rows ``top ..`` in ``out`` ``(y, x, z)``; detector rows along z.

    ``centre`` is the place of the detector's centre among the columns. ``curved`` holds, for every view, the columns
    per radian of a curved detector (0 for a flat one) and the height of its centre above the source in rows.
    """
    height, width, slices = out.shape
    line = line_size(rows)
    total = aligned_floats(line_size(slices))
    middle = 0.5 * (rows - 1)
    for y in range(height):
        for x in range(width):
            total[:] = 0.0
            for view in range(frames.shape[0]):
                f = frames[view]
                across = f[0, 0] * x + f[0, 1] * (y + top) + f[0, 3]
                rise = f[1, 0] * x + f[1, 1] * (y + top) + f[1, 3]
                depth = f[2, 0] * x + f[2, 1] * (y + top) + f[2, 3]
                if depth <= 0.0:
                    continue
                if curved[view, 0] > 0.0:
                    angle = math.atan2(across, depth * curved[view, 0])
                    reach = math.hypot(across / curved[view, 0], depth)
                    place = angle * curved[view, 0] + centre
                    rise += curved[view, 1] * (depth - reach)
                    depth = reach
                else:
                    place = across / depth + centre
                if not -1.0 < place < columns:
                    continue
                column = math.floor(place)
                weight = 1.0 / (depth * depth)
                right = np.float32((place - column) * weight)
                left = np.float32(weight) - right
                start, climb = rise / depth + middle, f[1, 2] / depth
                low, high = 0, slices
                if climb > 1e-9:
                    low = max(0, math.floor(max((-1.0 - start) / climb, -1.0)))
                    high = min(slices, math.floor(min((rows - start) / climb, 1.0 * slices)) + 1)
                elif not -1.0 < start < rows:
                    continue
                at = (view * (columns + 2) + column + 1) * line + BEFORE
                if climb <= LARGEST_STEP:
                    for k in range(low // WIDTH * WIDTH, high, WIDTH):
                        where = start + climb * k
                        whole = math.floor(where)
                        value = lerp_line(
                            filtered, at + int(whole), line, left, right, np.float32(where - whole), np.float32(climb)
                        )
                        accumulate(total, k, np.float32(1.0), value)
                else:
                    for k in range(low, high):
                        where = start + climb * k
                        if -1.0 < where < rows:
                            whole = math.floor(where)
                            j, part = at + int(whole), np.float32(where - whole)
                            below = left * filtered[j] + right * filtered[j + line]
                            above = left * filtered[j + 1] + right * filtered[j + line + 1]
                            total[k] += below + part * (above - below)
            for k in range(slices):
                out[y, x, k] = total[k]


@njit(nogil=True, cache=True)
def gather_any(
    out: Any, filtered: Any, frames: Any, top: int, columns: int, rows: int, centre: float, curved: Any
) -> None:
    """As ``gather_upright`` for flat detectors that stand in any way."""
    height, width, slices = out.shape
    line = line_size(rows)
    middle = 0.5 * (rows - 1)
    for y in range(height):
        for x in range(width):
            for z in range(slices):
                total = np.float32(0.0)
                for view in range(frames.shape[0]):
                    f = frames[view]
                    depth = f[2, 0] * x + f[2, 1] * (y + top) + f[2, 2] * z + f[2, 3]
                    if depth <= 0.0:
                        continue
                    inverse = 1.0 / depth
                    place = (f[0, 0] * x + f[0, 1] * (y + top) + f[0, 2] * z + f[0, 3]) * inverse + centre
                    where = (f[1, 0] * x + f[1, 1] * (y + top) + f[1, 2] * z + f[1, 3]) * inverse + middle
                    if -1.0 < place < columns and -1.0 < where < rows:
                        column, row = math.floor(place), math.floor(where)
                        u, v = np.float32(place - column), np.float32(where - row)
                        j = (view * (columns + 2) + column + 1) * line + BEFORE + row
                        near = filtered[j] + v * (filtered[j + 1] - filtered[j])
                        far = filtered[j + line] + v * (filtered[j + line + 1] - filtered[j + line])
                        total += np.float32(inverse * inverse) * (near + u * (far - near))
                out[y, x, z] = total
