"""Source and detector of the usual cone-beam scans, as the twelve numbers of each view.

A row of ``vectors`` is ``(source, detector centre, u, v)``, each ``(x, y, z)`` in mm: ``u`` is the step from one
detector column to the next, ``v`` from one row to the next. That is ASTRA's ``cone_vec``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.ct_checks import MAX_LENGTH, as_number


def circular_vectors(
    angles: np.ndarray,
    heights: np.ndarray,
    *,
    detector: str,
    source_origin: float,
    source_detector: float,
    column_spacing: float,
    row_spacing: float,
    detector_offset: float,
    row_offset: float,
    rotation_shift: float,
    tilt: Sequence[float],
) -> np.ndarray:
    """Vectors ``(views, 12)`` of a source that circles the z axis at ``heights`` mm.

    As in a fan (medrecon.physics.ct_geometry): at angle ``t`` the detector runs along ``u = (cos t, sin t)`` and the
    central ray along ``d = (-sin t, cos t)``; rows run along ``+z``.
    """
    lengths = {"detector_offset": detector_offset, "row_offset": row_offset, "rotation_shift": rotation_shift}
    for name, value in lengths.items():
        if not abs(as_number(name, value)) < MAX_LENGTH:
            raise InputError(f"{name} must be finite", found=value, expected="millimetres")
    zero = np.zeros_like(angles)
    across = np.stack([np.cos(angles), np.sin(angles), zero], axis=1)
    along = np.stack([-np.sin(angles), np.cos(angles), zero], axis=1)
    up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), across.shape)
    source = -source_origin * along - rotation_shift * across + heights[:, None] * up
    if detector == "curved":
        if any(tilt):
            raise InputError("a curved detector stands upright", found=f"tilt {tuple(tilt)}", expected="no tilt")
        turn = detector_offset / source_detector
        centre = source + source_detector * (math.cos(turn) * along + math.sin(turn) * across) + row_offset * up
        across = math.cos(turn) * across - math.sin(turn) * along
    else:
        centre = source + source_detector * along + detector_offset * across + row_offset * up
        across, up = _tilted(across, up, along, tilt)
    return np.concatenate([source, centre, column_spacing * across, row_spacing * up], axis=1)


def _tilted(
    across: np.ndarray, up: np.ndarray, along: np.ndarray, tilt: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The detector's axes turned about its column axis, its row axis and its normal, one after the other."""
    if len(tilt) != 3 or not all(abs(as_number("tilt", angle)) < math.pi / 2 for angle in tilt):
        raise InputError(
            "a tilt has three angles below a quarter turn", found=tuple(tilt),
            expected="radians about u, about v and in the plane of the detector",
        )  # fmt: skip
    about_u, about_v, in_plane = tilt
    up, along = math.cos(about_u) * up + math.sin(about_u) * along, math.cos(about_u) * along - math.sin(about_u) * up
    across = math.cos(about_v) * across - math.sin(about_v) * along
    turned = math.cos(in_plane) * across + math.sin(in_plane) * up
    return turned, math.cos(in_plane) * up - math.sin(in_plane) * across


def covering_rows(half_height: float, radius: float, source_origin: float, source_detector: float) -> float:
    """Half height of a detector that sees ``half_height`` mm of a cylinder of that radius from everywhere."""
    nearest = max(source_origin - radius, 0.02 * source_origin)
    return half_height * source_detector / nearest


def box_corners(shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Corners ``(8, 3)`` of the volume as (x, y, z) in mm."""
    half = [0.5 * n * s for n, s in zip(shape, spacing, strict=True)]
    return np.array([(i * half[2], j * half[1], k * half[0]) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])


def as_vectors(vectors: object) -> np.ndarray:
    """A read-only float64 array ``(views, 12)`` whose detectors face their sources. Raises InputError otherwise."""
    try:
        array = np.array(vectors, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("the vectors of a cone beam are numbers", found=type(vectors).__name__) from None
    if array.ndim != 2 or array.shape[1] != 12 or len(array) == 0:
        raise InputError(
            "wrong shape of the vectors of a cone beam", found=array.shape,
            expected="(views, 12): source, detector centre, u and v of each view, mm",
        )  # fmt: skip
    if not (np.abs(array) < MAX_LENGTH).all():
        raise InputError("the vectors of a cone beam must be finite", found="NaN, infinity or beyond 1e9 mm")
    source, centre, u, v = (array[:, i : i + 3] for i in (0, 3, 6, 9))
    area = np.linalg.norm(np.cross(u, v), axis=1)
    pitch = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    depth = np.abs((np.cross(u, v) * (centre - source)).sum(axis=1))
    bad = np.flatnonzero((pitch == 0) | (area < 0.1 * pitch) | (depth < 1e-3 * area * np.abs(array).max()))
    if bad.size:
        raise InputError(
            "a detector has no area, or its plane holds the source", found=f"view {bad[0]}: {array[bad[0]].tolist()}",
            expected="u and v that span a plane in front of the source",
        )  # fmt: skip
    array.setflags(write=False)
    return array
