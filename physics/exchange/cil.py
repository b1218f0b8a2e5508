"""CIL: the arguments of ``AcquisitionGeometry.create_Parallel2D``, ``create_Cone2D`` and ``create_Cone3D``.

CIL turns the object by the angle, and so the source by its negative; at angle 0 rays run along +y, columns along +x and
rows along +z, as ours do. The axis of rotation is given, source and detector stand where they are at angle 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.exchange.base import CTLike, Values, convention, flat_circle


def read_cil(values: Values) -> CTLike:
    """The same dictionary; angles in degrees, the detector at right angles to +y."""
    angles = -np.deg2rad(np.asarray(values["angles"], dtype=np.float64) + float(values.get("initial_angle", 0.0)))
    axis = np.asarray(values.get("rotation_axis_position", (0.0, 0.0)), dtype=np.float64)
    pixels, pitch = list(values["num_pixels"]), [float(s) for s in values["pixel_size"]]
    shape, spacing = tuple(values["voxel_num"]), tuple(values["voxel_size"])
    place = np.asarray(values["detector_position"], dtype=np.float64)
    if values["type"] == "Parallel2D":
        return CTGeometry.parallel(
            shape, spacing, angles=angles, columns=pixels[0], column_spacing=pitch[0],
            detector_offset=float(place[0] - axis[0]),
        )  # fmt: skip
    source = np.asarray(values["source_position"], dtype=np.float64)
    if values["type"] not in ("Cone2D", "Cone3D"):
        raise InputError("unknown kind of CIL geometry", found=values["type"], expected="Parallel2D, Cone2D or Cone3D")
    common: dict[str, Any] = {
        "angles": angles, "columns": pixels[0], "column_spacing": pitch[0],
        "source_origin": float(axis[1] - source[1]), "source_detector": float(place[1] - source[1]),
        "detector_offset": float(place[0] - source[0]), "rotation_shift": float(axis[0] - source[0]),
    }  # fmt: skip
    if values["type"] == "Cone2D":
        return CTGeometry.fan(shape, spacing, **common)
    return ConeGeometry.circular(
        shape, spacing, rows=pixels[1], row_spacing=pitch[1], row_offset=float(place[2] - source[2]), **common
    )


@convention("cil", read_cil, checked="against its documentation, by hand")
def export_cil(geometry: CTLike) -> dict[str, Any]:
    """Parallel beams, flat fans, and circular cone beams with an upright flat detector."""
    grid = {"voxel_num": geometry.shape, "voxel_size": geometry.spacing, "angle_unit": "degree"}
    if isinstance(geometry, ConeGeometry):
        circle = {key: value if key == "angles" else float(value) for key, value in flat_circle(geometry).items()}
        return {
            "type": "Cone3D",
            "source_position": [0.0, -circle["source_origin"], 0.0],
            "detector_position": [
                circle["detector_offset"], circle["source_detector"] - circle["source_origin"], circle["row_offset"],
            ],
            "detector_direction_x": [1.0, 0.0, 0.0],
            "detector_direction_y": [0.0, 0.0, 1.0],
            "rotation_axis_position": [circle["rotation_shift"], 0.0, 0.0],
            "rotation_axis_direction": [0.0, 0.0, 1.0],
            "angles": -np.rad2deg(circle["angles"]),
            "num_pixels": [geometry.columns, geometry.rows],
            "pixel_size": [circle["column_spacing"], circle["row_spacing"]],
            **grid,
        }  # fmt: skip
    if geometry.kind == "fan-curved":
        raise InputError("CIL has flat detectors only", found=geometry.kind)
    plane = {
        "detector_direction_x": [1.0, 0.0],
        "rotation_axis_position": [geometry.rotation_shift, 0.0],
        "angles": -np.rad2deg(np.asarray(geometry.angles)),
        "num_pixels": [geometry.columns],
        "pixel_size": [geometry.column_spacing],
        **grid,
    }
    if geometry.kind == "parallel":
        place = [geometry.detector_offset, 0.0]
        return {"type": "Parallel2D", "ray_direction": [0.0, 1.0], "detector_position": place, **plane}
    return {
        "type": "Cone2D",
        "source_position": [0.0, -geometry.source_radius],
        "detector_position": [geometry.detector_offset, geometry.detector_radius - geometry.source_radius],
        **plane,
    }
