"""Helical scans rebinned to fans: absolute values of ellipsoids, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.fbp import fbp
from medrecon.physics.phantoms import EllipsoidPhantom
from medrecon.physics.rebinning import rebin_helical

GRID = ((16, 40, 40), (3.0, 3.0, 3.0))
BODY = EllipsoidPhantom(
    centres=np.array([[1.0, 3.0, -4.0], [0.0, 10.0, 8.0]]),
    semi_axes=np.array([[40.0, 40.0, 45.0], [15.0, 10.0, 10.0]]),
    rotations=np.zeros(2),
    values=np.array([0.02, 0.01]),
)


def helix(pitch: float = 12.0, **changes) -> ConeGeometry:
    settings = {"source_origin": 500.0, "source_detector": 900.0, "rows": 12, "row_spacing": 3.6} | changes
    return ConeGeometry.helical(*GRID, 120, pitch, **settings)


SCANS = {
    "curved": lambda: helix(),
    "flat": lambda: helix(detector="flat"),
    "downwards": lambda: helix(-12.0),
    "fast": lambda: helix(24.0),
    "shifted": lambda: helix(detector="flat", rotation_shift=3.0, row_offset=2.0, detector_offset=5.0),
    "rows from the top": lambda: turned(helix()),
}


def turned(geometry: ConeGeometry) -> ConeGeometry:
    vectors = geometry.vectors.copy()
    vectors[:, 9:] *= -1
    return ConeGeometry(vectors, geometry.rows, geometry.columns, *GRID, geometry.detector)


@pytest.mark.parametrize("name", list(SCANS))
def test_ellipsoids_are_recovered_from_a_helix(name: str):
    geometry = SCANS[name]()
    fan, data = rebin_helical(geometry, BODY.project(geometry))
    assert fan.n_views == 120 and fan.shape == GRID[0]
    assert fan.kind == geometry.kind.replace("cone", "fan")
    image = fbp(fan, data).numpy()
    truth = BODY.rasterise(*GRID, (3, 3, 3)).numpy()
    error = np.abs(image - truth)[:, 4:-4, 4:-4] / 0.03
    assert error.mean() < 0.02
    inside = truth > 0.0299
    assert image[inside].mean() == pytest.approx(0.03, rel=0.01)


def test_the_fan_of_a_slice_is_that_of_a_true_fan():
    """Rebinned data of a cylinder along z are exactly the data of the fan."""
    cylinder = EllipsoidPhantom(
        np.array([[0.0, 5.0, -6.0]]), np.array([[math.inf, 30.0, 40.0]]), np.zeros(1), np.array([0.02])
    )
    for name in ("curved", "flat", "shifted"):
        geometry = SCANS[name]()
        fan, data = rebin_helical(geometry, cylinder.project(geometry))
        assert torch.allclose(data, cylinder.project(fan), rtol=2e-4, atol=2e-4)


def test_other_trajectories_are_refused():
    circle = ConeGeometry.circular(*GRID, 30, source_origin=500.0, source_detector=900.0)
    uneven = ConeGeometry(helix().vectors[np.r_[0:150, 180:300]], 12, helix().columns, *GRID, "curved")
    for geometry in (circle, uneven):
        with pytest.raises(InputError, match="rebinning needs"):
            rebin_helical(geometry, torch.zeros(geometry.data_shape))
