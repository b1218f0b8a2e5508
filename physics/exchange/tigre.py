"""TIGRE: the fields of its ``geometry`` object, lengths in mm.

At angle 0 TIGRE's source stands on +x, columns run along +y and rows along +z; offsets are ``(row, column)``, sizes
``(z, y, x)``. Arrays pass as they are: volumes ``(z, y, x)``, data ``(views, rows, columns)``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.exchange.base import CTLike, Values, convention, flat_circle

_QUARTER = 0.5 * math.pi


def read_tigre(values: Values) -> ConeGeometry:
    """A circular cone beam; ``rotDetector`` must be zero and the distances one number each."""
    if values.get("mode", "cone") != "cone" or np.any(np.asarray(values.get("rotDetector", 0.0))):
        raise InputError("only cone beams with an unrotated detector are read from TIGRE", found=values.get("mode"))
    row_offset, column_offset = (float(v) for v in np.asarray(values.get("offDetector", (0.0, 0.0))).reshape(2))
    rows, columns = (int(n) for n in values["nDetector"])
    row_spacing, column_spacing = (float(s) for s in values["dDetector"])
    z, y, x = (int(n) for n in values["nVoxel"])
    spacing = tuple(float(s) for s in values["dVoxel"])
    geometry = ConeGeometry.circular(
        (z, y, x), spacing, angles=np.asarray(values["angles"], dtype=np.float64) + _QUARTER,
        source_origin=float(values["DSO"]), source_detector=float(values["DSD"]), rows=rows, columns=columns,
        row_spacing=row_spacing, column_spacing=column_spacing, detector_offset=column_offset, row_offset=row_offset,
        rotation_shift=-float(values.get("COR", 0.0)),
    )  # fmt: skip
    centre = np.asarray(values.get("offOrigin", (0.0, 0.0, 0.0)), dtype=np.float64).reshape(3)[::-1]
    return geometry.with_grid(geometry.shape, geometry.spacing, centre.tolist()) if centre.any() else geometry


@convention("tigre", read_tigre, checked="against its source code, by hand")
def export_tigre(geometry: CTLike) -> dict[str, Any]:
    """A circular cone beam with an upright flat detector."""
    if not isinstance(geometry, ConeGeometry):
        raise InputError("only cone beams are written for TIGRE", found=geometry.kind)
    circle = flat_circle(geometry)
    size = [n * s for n, s in zip(geometry.shape, geometry.spacing, strict=True)]
    pitch = np.array([circle["row_spacing"], circle["column_spacing"]])
    counts = np.array([geometry.rows, geometry.columns])
    return {
        "mode": "cone",
        "DSD": circle["source_detector"],
        "DSO": circle["source_origin"],
        "nDetector": counts,
        "dDetector": pitch,
        "sDetector": counts * pitch,
        "nVoxel": np.array(geometry.shape),
        "dVoxel": np.array(geometry.spacing),
        "sVoxel": np.array(size),
        "offOrigin": np.zeros(3),
        "offDetector": np.array([circle["row_offset"], circle["detector_offset"]]),
        "COR": -float(circle["rotation_shift"]),
        "rotDetector": np.zeros(3),
        "angles": circle["angles"] - _QUARTER,
    }
