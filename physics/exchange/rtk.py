"""RTK: the parameters and 3 x 4 matrices of ``ThreeDCircularProjectionGeometry``, and its XML files.

RTK turns about its y axis: its (x, y, z) are our (x, z, -y). In the frame of a view, which the three angles turn, the
source stands at ``(SourceOffsetX, SourceOffsetY, SID)`` and the detector lies in the plane ``z = SID - SDD``; the
origin of the projection image is ``(ProjectionOffsetX, ProjectionOffsetY)`` there. A matrix maps ``(x, y, z, 1)`` in mm
to millimetres on the projection image. Data are ``(views, rows, columns)``.

Reference: S. Rit et al., J. Phys. Conf. Ser. 489, 012079 (2014); the documentation of RTK's geometry.
"""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.exchange.base import CTLike, Values, convention

LENGTHS = (
    "SourceToIsocenterDistance", "SourceToDetectorDistance", "SourceOffsetX", "SourceOffsetY", "ProjectionOffsetX",
    "ProjectionOffsetY",
)  # fmt: skip
ANGLES = ("GantryAngle", "OutOfPlaneAngle", "InPlaneAngle")
"""Names in the XML file; angles in degrees there."""
_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Our (x, y, z) to RTK's."""


def read_rtk(values: Values) -> ConeGeometry:
    """Parameters (see `export_rtk`); ``origin`` of the projection image is its centre's by default."""
    turn = _rotations(*(np.deg2rad(_list(values, name)) for name in ANGLES))
    sid, sdd, sox, soy, pox, poy = (_list(values, name) for name in LENGTHS)
    columns, rows = (int(n) for n in values["size"])
    pitch_u, pitch_v = (float(s) for s in values["spacing"])
    default = (-0.5 * (columns - 1) * pitch_u, -0.5 * (rows - 1) * pitch_v)
    first = np.asarray(values.get("origin", default), dtype=np.float64)
    middle_u, middle_v = first[0] + 0.5 * (columns - 1) * pitch_u, first[1] + 0.5 * (rows - 1) * pitch_v
    local = [
        np.stack([sox, soy, sid], axis=1),
        np.stack([pox + middle_u, poy + middle_v, sid - sdd], axis=1),
        np.tile([pitch_u, 0.0, 0.0], (len(sid), 1)),
        np.tile([0.0, pitch_v, 0.0], (len(sid), 1)),
    ]
    # A row vector times the rotation is its inverse applied; then from RTK's axes to ours.
    vectors = np.concatenate([np.einsum("vi,vij->vj", part, turn) @ _AXES for part in local], axis=1)
    return ConeGeometry(vectors, rows, columns, tuple(values["shape"]), tuple(values["voxel_spacing"]))


@convention("rtk", read_rtk, checked="numerically")
def export_rtk(geometry: CTLike) -> dict[str, Any]:
    """One list per parameter, matrices ``(views, 3, 4)``, and the projection image; angles in degrees.

    The volume's image in RTK is ours with axes (x, z, -y): see ``shape`` and ``voxel_spacing``, ours as ``(z, y, x)``.
    """
    if not isinstance(geometry, ConeGeometry) or geometry.detector != "flat":
        raise InputError("RTK's vectors describe cone beams with flat detectors", found=geometry.kind)
    across, up = geometry.across @ _AXES.T, geometry.up @ _AXES.T
    source, centre = geometry.source @ _AXES.T, geometry.centre @ _AXES.T
    towards = np.cross(across, up)
    sdd = ((source - centre) * towards).sum(axis=1)
    if np.abs((across * up).sum(axis=1)).max() > 1e-6 or (sdd <= 0).any():
        raise InputError(
            "RTK's detectors have rows at right angles to columns, and u x v points to the source",
            found=f"distances {sdd.min():.4g} to {sdd.max():.4g} mm", hint="Turn the order of rows or columns around.",
        )  # fmt: skip
    turn = np.stack([across, up, towards], axis=1)
    gantry, out_of_plane, in_plane = _angles(turn)
    columns, rows = geometry.columns, geometry.rows
    pitch = float(geometry.column_pitch.mean()), float(geometry.row_pitch.mean())
    values: dict[str, Any] = {
        "SourceToIsocenterDistance": (source * towards).sum(axis=1),
        "SourceToDetectorDistance": sdd,
        "SourceOffsetX": (source * across).sum(axis=1),
        "SourceOffsetY": (source * up).sum(axis=1),
        "ProjectionOffsetX": (centre * across).sum(axis=1),
        "ProjectionOffsetY": (centre * up).sum(axis=1),
        "GantryAngle": np.rad2deg(gantry) % 360,
        "OutOfPlaneAngle": np.rad2deg(out_of_plane),
        "InPlaneAngle": np.rad2deg(in_plane),
    }
    values["Matrix"] = matrices(values)
    values |= {
        "size": (columns, rows),
        "spacing": pitch,
        "origin": (-0.5 * (columns - 1) * pitch[0], -0.5 * (rows - 1) * pitch[1]),
        "shape": geometry.shape,
        "voxel_spacing": geometry.spacing,
    }
    return values


def matrices(values: Values) -> np.ndarray:
    """The projection matrices ``(views, 3, 4)`` of RTK's parameters."""
    turn = _rotations(*(np.deg2rad(_list(values, name)) for name in ANGLES))
    sid, sdd, sox, soy, pox, poy = (_list(values, name) for name in LENGTHS)
    zero, one = np.zeros_like(sid), np.ones_like(sid)
    # Perspective from the source, then the shift to the origin of the projection image.
    rows = [
        [-sdd, zero, sox - pox, sdd * sox - sid * (sox - pox)],
        [zero, -sdd, soy - poy, sdd * soy - sid * (soy - poy)],
        [zero, zero, one, -sid],
    ]
    perspective = np.moveaxis(np.array(rows), 2, 0)
    full = np.zeros((len(sid), 4, 4))
    full[:, :3, :3], full[:, 3, 3] = turn, 1.0
    return perspective @ full


def to_xml(values: Values) -> str:
    """RTK's geometry file (version 3): parameters and matrices of every view."""
    lines = ['<?xml version="1.0"?>', "<!DOCTYPE RTKGEOMETRY>", '<RTKThreeDCircularGeometry version="3">']
    for view in range(len(_list(values, ANGLES[0]))):
        lines.append("  <Projection>")
        lines += [f"    <{name}>{_list(values, name)[view]:.17g}</{name}>" for name in (*ANGLES, *LENGTHS)]
        matrix = "\n".join("      " + " ".join(f"{v:.15g}" for v in row) for row in values["Matrix"][view])
        lines += [f"    <Matrix>\n{escape(matrix)}\n    </Matrix>", "  </Projection>"]
    return "\n".join([*lines, "</RTKThreeDCircularGeometry>", ""])


def parse_xml(text: str) -> dict[str, Any]:
    """Parameters of every view of an RTK geometry file, as `read_rtk` takes them; the image's grid is not in the file.

    Raises InputError where a view is not complete, or the detector is a cylinder.
    """
    opening = re.search(r"<RTKThreeDCircularGeometry\b[^>]*>", text)
    if opening is None:
        raise InputError("this is not a geometry file of RTK", expected="<RTKThreeDCircularGeometry>")
    views = re.findall(r"<Projection>(.*?)</Projection>", text, re.DOTALL)
    if not views:
        raise InputError("the geometry file holds no projection")
    # What is the same for all views stands before or between them.
    common = re.sub(r"<Projection>.*?</Projection>", "", text, flags=re.DOTALL)
    radius = _number(common, "RadiusCylindricalDetector", 0.0)
    if radius:
        raise InputError("cylindrical detectors are not read from RTK files", found=f"radius {radius:g} mm")
    values: dict[str, Any] = {}
    for name in (*ANGLES, *LENGTHS):
        shared = _number(common, name, None if name in LENGTHS[:2] else 0.0)
        numbers = [_number(view, name, shared) for view in views]
        if any(n is None for n in numbers):
            raise InputError(f"a projection of the geometry file has no {name}")
        values[name] = np.array(numbers, dtype=np.float64)
    return values


def _number(text: str, name: str, default: float | None) -> float | None:
    found = re.search(rf"<{name}>\s*([^<\s]+)\s*</{name}>", text)
    if found is None:
        return default
    try:
        return float(found.group(1))
    except ValueError:
        raise InputError(f"{name} of the geometry file is not a number", found=found.group(1)[:20]) from None


def _list(values: Values, name: str) -> np.ndarray:
    count = len(np.atleast_1d(values["GantryAngle"]))
    return np.broadcast_to(np.asarray(values.get(name, 0.0), dtype=np.float64), (count,))


def _rotations(gantry: np.ndarray, out_of_plane: np.ndarray, in_plane: np.ndarray) -> np.ndarray:
    """From RTK's world to the frame of a view: about y, then x, then z, each by the negative angle."""
    return _about(2, -in_plane) @ _about(0, -out_of_plane) @ _about(1, -gantry)


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out = np.tile(np.eye(3), (len(angle), 1, 1))
    out[:, i, i], out[:, i, j], out[:, j, i], out[:, j, j] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return out


def _angles(turn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gantry, out-of-plane and in-plane angle of rotations ``(views, 3, 3)``."""
    out_of_plane = -np.arcsin(np.clip(turn[:, 2, 1], -1, 1))
    gantry = -np.arctan2(-turn[:, 2, 0], turn[:, 2, 2])
    in_plane = -np.arctan2(-turn[:, 0, 1], turn[:, 1, 1])
    return gantry, out_of_plane, in_plane
