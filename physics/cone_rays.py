"""Cone beams with upright detectors as a table: one entry for every detector column, with all its rows.

Seen along z, all rays of a detector column are one ray of a fan, so the table of the fan serves
(medrecon.physics.ct_rays). At step ``i`` of that ray, detector row ``r`` meets the slice coordinate
``z = (low + low_step i) + (rise + rise_step i) r``: evenly spaced, which is what the kernels make use of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_rays import RaySet, rays_along


@dataclass(frozen=True, eq=False)
class ConeRaySet:
    """The detector columns of one major axis that meet the volume, in the order of measurement.

    Attributes
    ----------
    flat
        Their rays as seen along z; ``length`` counts the distance from source to detector as 1.
    low, low_step, rise, rise_step
        Slice coordinate of the rows at every step, in voxels.
    reach
        Square of the distance from source to detector as seen along z, mm^2.
    height, row_step
        Height of row 0 above the source, and of every row above the one before, mm.
    """

    flat: RaySet
    low: np.ndarray
    low_step: np.ndarray
    rise: np.ndarray
    rise_step: np.ndarray
    reach: np.ndarray
    height: np.ndarray
    row_step: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What a kernel reads of every entry."""
        f = self.flat
        return (
            f.index, f.position, f.slope, f.length, f.first, f.last,
            self.low, self.low_step, self.rise, self.rise_step, self.reach, self.height, self.row_step,
        )  # fmt: skip


def cone_rays(geometry: ConeGeometry) -> tuple[ConeRaySet, ConeRaySet] | None:
    """The rays that step through rows, and those that step through columns of a slice.

    None where the detector is tilted, a source stands above the volume, or a ray climbs more than a slice per step:
    those need the general kernels. Rows count from the lowest: where ``v`` points down they are those of the data in
    reverse.
    """
    if not geometry.axial:
        return None
    (n_z, n_y, n_x), (s_z, s_y, s_x) = geometry.shape, geometry.spacing
    away = geometry.middle_row() - geometry.source[:, None]
    footprint = np.array([0.5 * n_x + 1, 0.5 * n_y + 1]) * (s_x, s_y)
    if (np.abs(geometry.source[:, :2]) <= footprint).all(axis=1).any():
        return None
    row_step = np.abs(geometry.vectors[:, 11])[:, None] + 0.0 * away[..., 0]
    height = away[..., 2] - 0.5 * (geometry.rows - 1) * row_step
    d_x, d_y = away[..., 0] / s_x, away[..., 1] / s_y
    steepest = np.maximum(np.abs(height), np.abs(height + (geometry.rows - 1) * row_step)) / s_z
    if (steepest > np.maximum(np.abs(d_x), np.abs(d_y))).any():
        return None
    x = np.broadcast_to(geometry.source[:, :1] / s_x + (n_x - 1) / 2, d_x.shape).ravel()
    y = np.broadcast_to(geometry.source[:, 1:2] / s_y + (n_y - 1) / 2, d_x.shape).ravel()
    z = np.broadcast_to(geometry.source[:, 2:3] / s_z + (n_z - 1) / 2, d_x.shape).ravel()
    d_x, d_y, height, row_step = d_x.ravel(), d_y.ravel(), height.ravel(), row_step.ravel()
    reach = (away[..., :2] ** 2).sum(axis=-1).ravel()
    along_y = np.abs(d_y) >= np.abs(d_x)
    sets = []
    for transposed, chosen, major, minor, d_major, d_minor, steps, width in (
        (False, along_y, y, x, d_y, d_x, n_y, n_x),
        (True, ~along_y, x, y, d_x, d_y, n_x, n_y),
    ):
        flat = rays_along(transposed, steps, width, np.flatnonzero(chosen), major, minor, d_major, d_minor)
        at = flat.index
        start, per_step = -major[at] / d_major[at], 1.0 / d_major[at]
        # Nothing behind the source: a source outside of the volume can only have all of it on one side of a ray.
        ahead = start + per_step * 0.5 * (flat.first + flat.last - 1) > 0
        flat = RaySet(
            transposed, steps, width, at, flat.position, flat.slope, flat.length, flat.first,
            np.where(ahead, flat.last, flat.first).astype(np.int32),
        )  # fmt: skip
        sets.append(
            ConeRaySet(
                flat=flat,
                low=z[at] + start * height[at] / s_z,
                low_step=per_step * height[at] / s_z,
                rise=start * row_step[at] / s_z,
                rise_step=per_step * row_step[at] / s_z,
                reach=reach[at],
                height=height[at],
                row_step=row_step[at],
            )
        )
    return sets[0], sets[1]
