"""ASTRA: the dictionaries of ``astra.create_vol_geom`` and ``astra.create_proj_geom``, as vectors.

ASTRA's 2D images have their first row at the largest y, so y changes its sign there; its 3D volumes are ours. Images
and volumes pass as they are, sinograms ``(views, columns)`` too; 3D data are ``(rows, views, columns)`` in ASTRA.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.exchange.base import CTLike, Values, convention, fan_of, one_row

_FLIP = np.array([1.0, -1.0])


def read_astra(values: Values) -> CTLike:
    """``{"projections": ..., "volume": ...}`` with the dictionaries that ASTRA's ``create_`` functions return."""
    rays, window = values["projections"], values["volume"]
    shape, spacing, centre = _grid(window)
    kind = rays["type"]
    if kind in ("cone", "cone_vec"):
        vectors = _cone_vectors(rays) if kind == "cone" else np.asarray(rays["Vectors"], dtype=np.float64)
        geometry = ConeGeometry(
            vectors - np.concatenate([centre, centre, np.zeros(6)]), rays["DetectorRowCount"], rays["DetectorColCount"],
            shape, spacing,
        )  # fmt: skip
        return geometry
    if np.abs(centre[:2]).max() > 1e-9:
        raise InputError("the image must be centred on the axis of rotation", found=f"centre {centre[:2].tolist()}")
    columns = rays["DetectorCount"]
    if kind in ("parallel", "parallel_vec"):
        vectors = _parallel_vectors(rays) if kind == "parallel" else np.asarray(rays["Vectors"], dtype=np.float64)
        return _parallel(vectors, columns, shape, spacing)
    if kind in ("fanflat", "fanflat_vec"):
        vectors = _fan_vectors(rays) if kind == "fanflat" else np.asarray(rays["Vectors"], dtype=np.float64)
        return fan_of(vectors * np.tile(_FLIP, 3), columns, shape, spacing)
    raise InputError(
        "unknown kind of ASTRA geometry", found=repr(kind),
        expected="parallel, parallel_vec, fanflat, fanflat_vec, cone or cone_vec",
    )  # fmt: skip


@convention("astra", read_astra, checked="numerically, 2D on the CPU; 3D is CUDA only")
def export_astra(geometry: CTLike) -> dict[str, Any]:
    """Vector geometries: ``parallel_vec`` or ``fanflat_vec`` for a slice, ``cone_vec`` for a cone beam."""
    n_z, n_y, n_x = geometry.shape
    half_z, half_y, half_x = (0.5 * n * s for n, s in zip(geometry.shape, geometry.spacing, strict=True))
    window = {"WindowMinX": -half_x, "WindowMaxX": half_x, "WindowMinY": -half_y, "WindowMaxY": half_y}
    volume: dict[str, Any] = {"GridRowCount": n_y, "GridColCount": n_x, "option": window}
    rays: dict[str, Any]
    if isinstance(geometry, ConeGeometry):
        if geometry.detector != "flat":
            raise InputError("ASTRA has flat detectors only", found=geometry.kind)
        volume["GridSliceCount"] = n_z
        window |= {"WindowMinZ": -half_z, "WindowMaxZ": half_z}
        rays = {"type": "cone_vec", "DetectorRowCount": geometry.rows, "Vectors": geometry.vectors.copy()}
        return {"projections": rays | {"DetectorColCount": geometry.columns}, "volume": volume}
    if geometry.kind == "parallel":
        origins, directions = geometry.rays()
        middle = 0.5 * (origins[:, 0] + origins[:, -1])
        angle = np.asarray(geometry.angles)
        across = geometry.column_spacing * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        vectors = np.concatenate([directions[:, 0], middle, across], axis=1) * np.tile(_FLIP, 3)
        rays = {"type": "parallel_vec", "DetectorCount": geometry.columns, "Vectors": vectors}
    else:
        vectors = one_row(geometry).vectors[:, (0, 1, 3, 4, 6, 7)] * np.tile(_FLIP, 3)
        rays = {"type": "fanflat_vec", "DetectorCount": geometry.columns, "Vectors": vectors}
    return {"projections": rays, "volume": volume}


def _grid(window: Values) -> tuple[tuple[int, int, int], tuple[float, float, float], np.ndarray]:
    counts = (int(window.get("GridSliceCount", 1)), int(window["GridRowCount"]), int(window["GridColCount"]))
    option = window["option"]
    ends = np.array(
        [(option.get(f"WindowMin{a}", -0.5), option.get(f"WindowMax{a}", 0.5)) for a in "ZYX"], dtype=np.float64
    )
    z, y, x = ((high - low) / n for (low, high), n in zip(ends, counts, strict=True))
    return counts, (float(z), float(y), float(x)), ends.mean(axis=1)[::-1]


def _parallel(vectors: np.ndarray, columns: int, shape: Any, spacing: Any) -> CTGeometry:
    """Rays at right angles to a detector that keeps its distance from the axis."""
    direction, middle, across = (vectors[:, i : i + 2] * _FLIP for i in (0, 2, 4))
    pitch = np.linalg.norm(across, axis=1)
    lean = (direction * across).sum(axis=1) / (pitch * np.linalg.norm(direction, axis=1))
    offset = (middle * across).sum(axis=1) / pitch
    if np.ptp(pitch) > 1e-6 * pitch[0] or np.abs(lean).max() > 1e-6 or np.ptp(offset) > 1e-6 * pitch[0]:
        raise InputError(
            "the detector of a parallel beam must stand at right angles to the rays, alike in all views",
            found=f"offsets {offset.min():.4g} to {offset.max():.4g}, lean {np.abs(lean).max():.2g}",
        )
    return CTGeometry.parallel(
        shape, spacing, angles=np.arctan2(across[:, 1], across[:, 0]), columns=columns, column_spacing=float(pitch[0]),
        detector_offset=float(offset.mean()),
    )  # fmt: skip


def _parallel_vectors(rays: Values) -> np.ndarray:
    """``parallel``: at angle t rays run along (sin t, -cos t), columns along (cos t, sin t)."""
    t = np.asarray(rays["ProjectionAngles"], dtype=np.float64)
    zero, width = np.zeros_like(t), float(rays["DetectorWidth"])
    return np.stack([np.sin(t), -np.cos(t), zero, zero, width * np.cos(t), width * np.sin(t)], axis=1)


def _fan_vectors(rays: Values) -> np.ndarray:
    """``fanflat``: at angle t the source stands at (sin t, -cos t) times its distance."""
    t = np.asarray(rays["ProjectionAngles"], dtype=np.float64)
    near, far, width = (float(rays[k]) for k in ("DistanceOriginSource", "DistanceOriginDetector", "DetectorWidth"))
    sine, cosine = np.sin(t), np.cos(t)
    return np.stack([sine * near, -cosine * near, -sine * far, cosine * far, width * cosine, width * sine], axis=1)


def _cone_vectors(rays: Values) -> np.ndarray:
    """``cone``: as ``fanflat``, with rows along +z; ASTRA calls the column pitch ``DetectorSpacingX``."""
    t = np.asarray(rays["ProjectionAngles"], dtype=np.float64)
    near, far = float(rays["DistanceOriginSource"]), float(rays["DistanceOriginDetector"])
    zero, sine, cosine = np.zeros_like(t), np.sin(t), np.cos(t)
    u, v = float(rays["DetectorSpacingX"]), float(rays["DetectorSpacingY"])
    columns = [sine * near, -cosine * near, zero, -sine * far, cosine * far, zero, u * cosine, u * sine, zero]
    return np.stack([*columns, zero, zero, np.full_like(t, v)], axis=1)
