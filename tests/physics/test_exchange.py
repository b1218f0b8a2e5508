"""Geometries in other libraries' words: round trips, ASTRA and RTK numerically, the others by their own formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medrecon.errors import InputError, UsageError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.exchange import conventions, export, read
from medrecon.physics.exchange.rtk import matrices, parse_xml, to_xml
from medrecon.physics.phantoms import random_ellipsoids

GRID = ((12, 30, 34), (3.0, 2.0, 2.2))
FAN = {"source_origin": 200.0, "source_detector": 320.0}
ANGLES = np.arange(14) * 0.41 + 0.1

GEOMETRIES = {
    "parallel": CTGeometry.parallel((1, 30, 34), GRID[1], angles=ANGLES, detector_offset=1.5),
    "fan": CTGeometry.fan((1, 30, 34), GRID[1], angles=ANGLES, detector_offset=2.5, rotation_shift=1.2, **FAN),
    "circle": ConeGeometry.circular(
        *GRID, angles=ANGLES, detector_offset=2.5, row_offset=-3.0, rotation_shift=1.2, **FAN
    ),
    "tilted": ConeGeometry.circular(*GRID, 14, tilt=(0.1, -0.2, 0.15), detector_offset=3.0, **FAN),
    "helix": ConeGeometry.helical(*GRID, 14, 20.0, detector="flat", **FAN),
}
TAKEN = {
    "astra": list(GEOMETRIES),
    "tomosipo": ["circle", "tilted", "helix"],
    "rtk": ["circle", "tilted", "helix"],
    "tigre": ["circle"],
    "cil": ["parallel", "fan", "circle"],
}


def pixels(geometry) -> np.ndarray:
    """Unit directions and one point of all rays: what any two descriptions of one scan share."""
    if isinstance(geometry, ConeGeometry):
        ends = np.stack([geometry.pixel_positions(v) for v in range(geometry.n_views)])
        return np.concatenate([ends, np.broadcast_to(geometry.source[:, None, None], ends.shape)], axis=-1)
    origins, directions = geometry.rays()
    foot = origins - (origins * directions).sum(-1, keepdims=True) * directions
    return np.concatenate([foot, directions], axis=-1)


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, kinds in TAKEN.items() for k in kinds])
def test_round_trips(name: str, kind: str):
    geometry = GEOMETRIES[kind]
    back = read(export(geometry, name), name)
    assert type(back) is type(geometry) and back.shape == geometry.shape
    flat = name == "astra" and not isinstance(geometry, ConeGeometry)  # a slice has no thickness there
    assert np.allclose(back.spacing[flat:], geometry.spacing[flat:])
    assert np.allclose(pixels(back), pixels(geometry), atol=1e-9)


@pytest.mark.parametrize("name", conventions.names())
def test_what_cannot_be_said_is_refused(name: str):
    curved = ConeGeometry.circular(*GRID, 6, detector="curved", **FAN)
    with pytest.raises(InputError, match=r"flat|cone"):
        export(curved, name)
    for values in ({}, {"type": "odd", "projections": 3, "volume": {}}):
        with pytest.raises(InputError):
            read(values, name)
    with pytest.raises(UsageError, match="Did you mean"):
        export(curved, name[:-1] + "_")


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_astra_measures_the_same(kind: str):
    astra = pytest.importorskip("astra", reason="could not import 'astra'")
    # Square pixels are all that ASTRA's CPU projectors take.
    square = CTGeometry.from_dict(GEOMETRIES[kind].to_dict() | {"spacing": [3.0, 2.0, 2.0]})
    image = random_ellipsoids(2, radius=28.0).rasterise(square.shape, square.spacing, (1, 4, 4))
    values = export(square, "astra")
    model = "linear" if kind == "parallel" else "line_fanflat"
    projector = astra.create_projector(model, values["projections"], values["volume"])
    identifier, data = astra.create_sino(image[0].numpy(), projector)
    astra.data2d.delete(identifier)
    ours = CTOperator(square)(image)[:, 0].numpy()
    assert np.linalg.norm(ours - data) / np.linalg.norm(data) < (1e-4 if kind == "parallel" else 0.02)


@pytest.mark.parametrize("kind", ["parallel", "fanflat", "cone"])
def test_angles_and_distances_of_astra_are_its_vectors(kind: str):
    astra = pytest.importorskip("astra", reason="could not import 'astra'")
    if kind == "cone":
        rays = astra.create_proj_geom("cone", 1.7, 1.3, 8, 20, ANGLES, 200.0, 120.0)
        volume = astra.create_vol_geom(30, 34, 12, -37, 37, -30, 30, -18, 18)
    else:
        distances = () if kind == "parallel" else (200.0, 120.0)
        rays, volume = astra.create_proj_geom(kind, 1.7, 20, ANGLES, *distances), astra.create_vol_geom(30, 34)
    vectors = astra.geom_2vec(rays)
    plain, told = (read({"projections": r, "volume": volume}, "astra") for r in (rays, vectors))
    assert np.allclose(pixels(plain), pixels(told), atol=1e-9)


def test_matrices_of_rtk_project_points():
    """A matrix finds the same place on the detector as the geometry itself, for points in RTK's axes."""
    points = np.random.default_rng(0).uniform(-20, 20, (5, 3))
    for kind in TAKEN["rtk"]:
        geometry = GEOMETRIES[kind]
        values = export(geometry, "rtk")
        turned = np.stack([points[:, 0], points[:, 2], -points[:, 1], np.ones(5)], axis=1)
        u, v, w = np.moveaxis(np.einsum("kij,nj->kni", values["Matrix"], turned), 2, 0)
        column = (u / w - values["origin"][0]) / values["spacing"][0]
        row = (v / w - values["origin"][1]) / values["spacing"][1]
        expected = geometry.project_points(points)
        assert np.allclose(column, expected[0], atol=1e-6) and np.allclose(row, expected[1], atol=1e-6)


def test_rtk_files_come_back():
    geometry = GEOMETRIES["tilted"]
    values = export(geometry, "rtk")
    parsed = parse_xml(to_xml(values))
    again = read({**parsed, **{k: values[k] for k in ("size", "spacing", "origin", "shape", "voxel_spacing")}}, "rtk")
    assert np.allclose(again.vectors, geometry.vectors, atol=1e-9)
    broken = {
        "not a geometry file": "<a/>",
        "no projection": "<RTKThreeDCircularGeometry>",
        "has no SourceToDetector": to_xml(values).replace("SourceToDetectorDistance", "Other"),
        "not a number": to_xml(values).replace("<GantryAngle>", "<GantryAngle>x"),
    }
    for message, text in broken.items():
        with pytest.raises(InputError, match=message):
            parse_xml(text)


def test_tigre_by_its_own_formulas():
    """Source and pixels as TIGRE's code places them at angle 0, turned about z by the angle."""
    geometry = GEOMETRIES["circle"]
    values = export(geometry, "tigre")
    for view in (0, 5):
        angle = float(values["angles"][view])
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        centre_of_rotation = np.array([0.0, values["COR"], 0.0])
        source = turn @ (np.array([values["DSO"], 0, 0]) + centre_of_rotation)
        rows, columns = values["nDetector"]
        place = np.array([
            values["DSO"] - values["DSD"],
            values["offDetector"][1] + (4 - (columns - 1) / 2) * values["dDetector"][1],
            values["offDetector"][0] + (2 - (rows - 1) / 2) * values["dDetector"][0],
        ])  # fmt: skip
        assert np.allclose(source, geometry.source[view])
        assert np.allclose(turn @ (place + centre_of_rotation), geometry.pixel_positions(view)[2, 4])


def test_cil_by_its_own_formulas():
    """Source and detector turn by the negative angle about the axis of rotation, which is our origin."""
    geometry = GEOMETRIES["circle"]
    values = export(geometry, "cil")
    axis = np.array(values["rotation_axis_position"])
    for view in (0, 5):
        angle = -math.radians(values["angles"][view])
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        assert np.allclose(turn @ (np.array(values["source_position"]) - axis), geometry.source[view])
        assert np.allclose(turn @ (np.array(values["detector_position"]) - axis), geometry.centre[view])


def test_matrices_follow_from_parameters_alone():
    values = export(GEOMETRIES["helix"], "rtk")
    assert np.allclose(matrices({k: v for k, v in values.items() if k != "Matrix"}), values["Matrix"])
