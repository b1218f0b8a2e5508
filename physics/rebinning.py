r"""Single-slice rebinning: helical cone-beam data as one full-turn fan beam for every slice.

A slice at height ``z`` gets, from every angle, the view whose source is nearest to it, and of that view the oblique
rays that cross the slice where they are nearest to the axis. With :math:`a` the distance from the source to that point
as seen along z, :math:`r` that to the detector, and :math:`\Delta z` the height of the slice above the source, such a
ray meets the detector at the height :math:`v = \Delta z\, r / a`, and its integral counts :math:`r / \sqrt{r^2 + v^2}`.
Where the detector is high enough for it, neighbouring turns are blended. The approximation is good for small cone
angles; iterative methods take the helix as it is.

Reference: F. Noo, M. Defrise, R. Clackdoyle, Phys. Med. Biol. 44, 561-570 (1999).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.linop import Space

_WIDEST_BLEND = 0.5  # of a turn's feed: more would only take rays of larger cone angle
_LARGEST_DRIFT = 0.5  # of an angular step, over the whole scan


def rebin_helical(geometry: ConeGeometry, y: Tensor) -> tuple[CTGeometry, Tensor]:
    """Fan-beam geometry and data ``(views of a turn, slices, columns)`` of a helical scan.

    Parameters
    ----------
    geometry
        A helix around the z axis with a constant feed and a whole number of views per turn, upright detector; its
        grid says where the slices are.
    y
        Line integrals ``(views, rows, columns)``, float32.

    Raises
    ------
    InputError
        Another trajectory, or data of another shape or dtype.
    """
    Space(geometry.data_shape).check(y, "projections")
    fan, per_turn = _turn_of(geometry)
    heights = geometry.source[:, 2]
    feed = abs(heights[-1] - heights[0]) * per_turn / (geometry.n_views - 1)
    blend = _blend(geometry, fan, feed)
    slices = (np.arange(geometry.shape[0]) - (geometry.shape[0] - 1) / 2) * geometry.spacing[0]
    shares = _shares(heights, slices, per_turn, feed, blend)
    along, reach = _columns(fan)
    sense = float(np.sign(geometry.up[0, 2]))
    level = ((geometry.centre - geometry.source) * geometry.up).sum(axis=1)
    out = np.zeros((per_turn, geometry.shape[0], geometry.columns), np.float32)
    data = y.detach().cpu().numpy()
    columns = np.arange(geometry.columns)
    for view in range(geometry.n_views):
        chosen = np.flatnonzero(shares[view])
        if chosen.size == 0:
            continue
        v = sense * (slices[chosen] - heights[view])[:, None] * reach / along
        row = (v - level[view]) / geometry.row_pitch[view] + (geometry.rows - 1) / 2
        row = np.clip(row, 0, geometry.rows - 1)  # beyond the detector its edge is the nearest ray there is
        low = np.minimum(row.astype(np.intp), max(geometry.rows - 2, 0))
        part = row - low
        high = np.minimum(low + 1, geometry.rows - 1)
        value = (1 - part) * data[view, low, columns] + part * data[view, high, columns]
        weight = shares[view, chosen, None] * reach / np.hypot(reach, v)
        out[view % per_turn, chosen] += weight * value
    return fan, torch.from_numpy(out)


def is_helical(geometry: ConeGeometry) -> bool:
    """Whether the source travels along z while it turns."""
    return bool(np.ptp(geometry.source[:, 2]) > 1e-6)


def _turn_of(geometry: ConeGeometry) -> tuple[CTGeometry, int]:
    """One turn as a fan, and its number of views."""
    heights = geometry.source[:, 2]
    if not geometry.axial or geometry.n_views < 3 or not is_helical(geometry):
        raise InputError("rebinning needs a helix and a detector whose rows run along z", found=repr(geometry))
    steps = np.diff(np.unwrap(geometry.angles))
    step, rise = float(steps.mean()), np.diff(heights)
    per_turn = round(2 * math.pi / max(abs(step), 1e-9))
    ideal = math.copysign(2 * math.pi / max(per_turn, 1), step)
    drift = np.abs(np.cumsum(steps) - ideal * np.arange(1, len(steps) + 1)).max() / abs(ideal)
    uneven = np.abs(rise - rise.mean()).max() / abs(rise.mean())
    if drift > _LARGEST_DRIFT or uneven > 0.01 or geometry.n_views < per_turn:
        raise InputError(
            "rebinning needs a constant feed and at least one turn with a whole number of views",
            found=f"{geometry.n_views} views, {2 * math.pi / max(abs(step), 1e-9):.3f} in a turn, steps of z that "
            f"differ by {100 * uneven:.1f} %",
            hint="Use an iterative method (sirt, cgls, tv), which takes any trajectory.",
        )
    vectors = geometry.vectors.copy()
    vectors[:, (2, 5)] -= heights[:, None]
    level = replace(geometry, vectors=vectors).central_fan()
    return replace(level, angles=level.angles[:per_turn]), per_turn


def _columns(fan: CTGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the source to the point nearest to the axis, and to the detector, of every column's ray."""
    ratio = fan.column_positions / fan.detector_radius
    angle = np.arctan(ratio) if fan.kind == "fan-flat" else ratio
    along = fan.source_radius * np.cos(angle) + fan.rotation_shift * np.sin(angle)
    sideways = fan.column_positions if fan.kind == "fan-flat" else np.zeros(fan.columns)
    return along, np.hypot(fan.detector_radius, sideways)


def _blend(geometry: ConeGeometry, fan: CTGeometry, feed: float) -> float:
    """Share of the feed over which neighbouring turns are blended, as far as the detector sees both."""
    seen = geometry.rows * float(geometry.row_pitch.mean()) / fan.magnification
    return float(np.clip(seen / feed - 1, 0.0, _WIDEST_BLEND))


def _shares(heights: np.ndarray, slices: np.ndarray, per_turn: int, feed: float, blend: float) -> np.ndarray:
    """Share of every view in every slice, ``(views, slices)``: one in all for each angle of a turn."""
    away = np.abs(heights[:, None] - slices) / feed
    shares = np.clip((0.5 + 0.5 * blend - away) / max(blend, 1e-9), 0, 1)
    for angle in range(per_turn):
        part = away[angle::per_turn]
        nearest = part == part.min(axis=0)
        mine = np.where(shares[angle::per_turn].sum(axis=0) > 0, shares[angle::per_turn], nearest)
        shares[angle::per_turn] = mine / mine.sum(axis=0)
    return shares
