"""Every 2D CT geometry as one table of rays: major axis, position, slope and step length.

A ray that runs mostly along ``y`` crosses the rows ``i = 0, 1, ...`` of a slice at the column position
``a + b * i``; one that runs mostly along ``x`` crosses the columns at row position ``a + b * i``. Joseph's
method interpolates linearly between the two nearest pixels of each row (or column) and multiplies the sum by the
length of the ray between two rows. Parallel, fan, offset and arbitrary rays differ in the table alone, so there is
one forward and one adjoint kernel for all of them.

Reference: P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med.
Imaging 1, 192-196 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.physics.ct_geometry import CTGeometry


@dataclass(frozen=True, eq=False)
class RaySet:
    """The rays of one major axis that meet the slice, in the order of measurement.

    Attributes
    ----------
    transposed
        False: rays step through rows (``y``) and interpolate along ``x``; True: the reverse.
    steps, width
        Number of pixels along the axis that is stepped through, and along the axis of interpolation.
    index
        Place of each ray in the data of one slice, ``view * columns + column``.
    position, slope
        ``a`` and ``b``, in pixels; ``|b| <= 1``.
    length
        Millimetres of the ray between two steps.
    first, last
        Steps ``first <= i < last`` at which the ray has a pixel of the slice for a neighbour.
    """

    transposed: bool
    steps: int
    width: int
    index: np.ndarray
    position: np.ndarray
    slope: np.ndarray
    length: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def size(self) -> int:
        """Number of rays."""
        return int(self.index.size)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What a kernel reads of every ray: index, position, slope, length, first, last."""
        return self.index, self.position, self.slope, self.length, self.first, self.last


def ray_table(geometry: CTGeometry) -> tuple[RaySet, RaySet]:
    """The rays of ``geometry`` that step through rows, and those that step through columns."""
    (_, n_y, n_x), (_, s_y, s_x) = geometry.shape, geometry.spacing
    origins, directions = geometry.rays()
    x = origins[..., 0].ravel() / s_x + (n_x - 1) / 2
    y = origins[..., 1].ravel() / s_y + (n_y - 1) / 2
    # Directions in pixels per millimetre: the larger one counts how many rows or columns a millimetre crosses.
    d_x, d_y = directions[..., 0].ravel() / s_x, directions[..., 1].ravel() / s_y
    along_y = np.abs(d_y) >= np.abs(d_x)
    return (
        rays_along(False, n_y, n_x, np.flatnonzero(along_y), y, x, d_y, d_x),
        rays_along(True, n_x, n_y, np.flatnonzero(~along_y), x, y, d_x, d_y),
    )


def rays_along(
    transposed: bool,
    steps: int,
    width: int,
    index: np.ndarray,
    major: np.ndarray,
    minor: np.ndarray,
    d_major: np.ndarray,
    d_minor: np.ndarray,
) -> RaySet:
    """Table of the rays ``index``; ``major``, ``minor`` a point on each, ``d_*`` its direction, in pixels."""
    slope = d_minor[index] / d_major[index]
    position = minor[index] - slope * major[index]
    length = 1.0 / np.abs(d_major[index])
    # Steps i with -1 < a + b i < width. A flat ray (b = 0) meets all steps or none.
    flat = np.abs(slope) < 1e-12
    safe = np.where(flat, 1.0, slope)
    ends = np.stack([(-1.0 - position) / safe, (width - position) / safe])
    inside = (position > -1.0) & (position < width)
    low = np.where(flat, np.where(inside, -1.0, steps), ends.min(axis=0))
    high = np.where(flat, steps, ends.max(axis=0))
    first = np.clip(np.floor(low) + 1, 0, steps).astype(np.int32)
    last = np.clip(np.ceil(high), 0, steps).astype(np.int32)
    hit = first < last
    return RaySet(
        transposed=transposed,
        steps=steps,
        width=width,
        index=index[hit].astype(np.int64),
        position=position[hit],
        slope=slope[hit],
        length=length[hit].astype(np.float32),
        first=first[hit],
        last=last[hit],
    )
