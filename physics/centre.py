"""The axis of rotation found in the data of one slice.

A full turn measures every line twice: where the axis is right, both agree. From less than a turn, a wrong axis doubles
edges and turns points into rings of both signs, which adds to the sum of absolute values of the filtered
back-projection. Either score is searched for its minimum, first coarsely on merged columns, then on finer steps.

Reference: T. Donath, F. Beckmann, A. Schreyer, J. Opt. Soc. Am. A 23, 1048-1057 (2006).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from medrecon.errors import InputError
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.fbp import fbp
from medrecon.physics.fbp_weights import centred_angles

_COARSE_COLUMNS = 192
_MOST_VIEWS = 90
_PIXELS = 192
_REACH = 0.1  # of the width of the detector, to either side
_PARTS = 5  # of a step in the next finer search
_FINEST = 0.05  # of a column
_FULL = 1.8 * math.pi


def find_rotation_shift(geometry: CTGeometry, sinogram: np.ndarray, reach: float | None = None) -> float:
    """The ``rotation_shift`` in mm that fits one slice's data ``(views, columns)`` best.

    Parameters
    ----------
    geometry
        Rays; the search begins at its own shift.
    reach
        How far to search to either side, mm; by default a tenth of the detector.

    Raises
    ------
    InputError
        Views over less than about half a turn, from which the axis cannot be told.
    """
    arc = _arc(geometry)
    if arc < 0.85 * math.pi:
        raise InputError(
            "the axis of rotation cannot be found from so small an arc", found=f"{math.degrees(arc):.0f} degrees",
            expected="at least half a turn", hint="Give it: --correct centre=MM.",
        )  # fmt: skip
    most = _MOST_VIEWS if arc <= _FULL else geometry.n_views
    kept = np.linspace(0, geometry.n_views - 1, min(geometry.n_views, most)).round().astype(int)
    bins = max(1, geometry.columns // _COARSE_COLUMNS)
    width = geometry.column_spacing / geometry.magnification
    best, step = geometry.rotation_shift, bins * width
    reach = reach or _REACH * geometry.columns * width
    low, high = best - reach, best + reach
    while True:
        merged, data = _merged(geometry, sinogram, bins, kept)
        candidates = np.arange(low, high + 0.5 * step, step)
        scores = [_score(merged, data, float(shift)) for shift in candidates]
        at = int(np.argmin(scores))
        best = _vertex(candidates, np.array(scores), at)
        if step <= _FINEST * width:
            return float(best)
        low, high = best - 1.5 * step, best + 1.5 * step
        bins, step = 1, max(step / _PARTS, 0.5 * _FINEST * width)


def _merged(
    geometry: CTGeometry, sinogram: np.ndarray, bins: int, views: np.ndarray
) -> tuple[CTGeometry, torch.Tensor]:
    """One slice on pixels that fill the field of view with some of the views and columns merged."""
    columns = geometry.columns // bins * bins
    shifted = geometry.detector_offset - 0.5 * (geometry.columns - columns) * geometry.column_spacing
    data = sinogram[views, :columns].reshape(len(views), columns // bins, bins).mean(axis=2)
    half = max(geometry.field_radius, 0.25 * geometry.columns * geometry.column_spacing / geometry.magnification)
    if geometry.source_origin is not None:
        half = min(half, 0.6 * geometry.source_origin)
    pixels = min(_PIXELS, columns // bins)
    size = 2 * half / pixels
    thin = replace(
        geometry, angles=tuple(np.asarray(geometry.angles)[views].tolist()), columns=columns // bins,
        column_spacing=geometry.column_spacing * bins, detector_offset=shifted, shape=(1, pixels, pixels),
        spacing=(1.0, size, size),
    )  # fmt: skip
    return thin, torch.from_numpy(np.ascontiguousarray(data[:, None], dtype=np.float32))


def _score(geometry: CTGeometry, data: torch.Tensor, shift: float) -> float:
    """How badly a shift fits: disagreement of repeated lines in a full turn, else the sum of absolute values."""
    moved = replace(geometry, rotation_shift=shift)
    if _arc(geometry) > _FULL:
        return _disagreement(moved, data[:, 0].numpy())
    image = fbp(moved, data, "shepp-logan")[0]
    place = torch.linspace(-1, 1, len(image))
    return float(image[place[:, None] ** 2 + place**2 < 1].abs().sum(dtype=torch.float64))


def _arc(geometry: CTGeometry) -> float:
    """Arc that the views cover, radians."""
    angles = np.sort(np.asarray(geometry.angles) % (2 * math.pi))
    gaps = np.diff(angles, append=angles[0] + 2 * math.pi)
    return 2 * math.pi - float(gaps.max()) if len(angles) > 1 else 0.0


def _disagreement(geometry: CTGeometry, sinogram: np.ndarray) -> float:
    """Mean square difference of lines that a full turn measures twice, over their mean square."""
    from scipy.ndimage import map_coordinates

    order = np.argsort(np.asarray(geometry.angles) % (2 * math.pi), kind="stable")
    angles, data = (np.asarray(geometry.angles) % (2 * math.pi))[order], sinogram[order]
    if geometry.kind == "parallel":
        side = geometry.column_positions - geometry.rotation_shift
        other, turn = -side + geometry.rotation_shift, np.full(geometry.columns, math.pi)
    else:
        side = centred_angles(geometry)
        middle = math.atan2(geometry.rotation_shift, geometry.source_radius)
        ratio = np.tan(middle - side) if geometry.kind == "fan-flat" else middle - side
        other, turn = ratio * geometry.detector_radius, math.pi - 2 * side
    column = (other - geometry.column_positions[0]) / geometry.column_spacing
    wanted = (angles[:, None] + turn) % (2 * math.pi)
    around = np.concatenate([[angles[-1] - 2 * math.pi], angles, [angles[0] + 2 * math.pi]])
    row = np.interp(wanted, around, np.arange(-1, len(angles) + 1))
    seen = (column >= 0) & (column <= geometry.columns - 1)
    if seen.sum() < 2:
        return math.inf
    wrapped = np.concatenate([data[-1:], data, data[:1]])
    places = [row[:, seen] + 1, np.broadcast_to(column[seen], row[:, seen].shape)]
    repeated = map_coordinates(wrapped, places, order=1)
    here = data[:, seen]
    return float(((here - repeated) ** 2).mean() / max((here**2).mean(), 1e-30))


def _vertex(places: np.ndarray, scores: np.ndarray, at: int) -> float:
    """Vertex of the parabola through the lowest score and its neighbours."""
    if not 0 < at < len(places) - 1:
        return float(places[at])
    before, here, after = scores[at - 1 : at + 2]
    curve = before - 2 * here + after
    move = 0.5 * (before - after) / curve if curve > 0 else 0.0
    return float(places[at] + np.clip(move, -0.5, 0.5) * (places[1] - places[0]))
