"""Feldkamp's method: absolute values of spheres for full, short and half-fan scans; other beams are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medrecon.errors import InputError
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.fdk import fdk
from medrecon.physics.phantoms import EllipsoidPhantom

GRID = ((40, 60, 60), (2.0, 2.0, 2.0))
DISTANCES = {"source_origin": 400.0, "source_detector": 600.0}
BALL = EllipsoidPhantom(
    centres=np.array([[2.0, 5.0, -8.0]]),
    semi_axes=np.full((1, 3), 33.0),
    rotations=np.zeros(1),
    values=np.array([0.02]),
)


def scan(views: int = 240, **changes) -> ConeGeometry:
    return ConeGeometry.circular(*GRID, views, **{**DISTANCES, **changes})


SCANS = {
    "full": lambda d: scan(detector=d),
    "backwards": lambda d: scan(detector=d, arc=-2 * math.pi, start=1.0),
    "short": lambda d: scan(detector=d, short=True),
    "longer than short": lambda d: scan(detector=d, arc=math.radians(260)),
    "half fan": lambda d: scan(detector=d, detector_offset=55.0, columns=46),
    "other half fan": lambda d: scan(detector=d, detector_offset=-55.0, columns=46),
    "shifted": lambda d: scan(detector=d, detector_offset=4.0, rotation_shift=3.0, row_offset=6.0),
}


@pytest.mark.parametrize("detector", ["flat", "curved"])
@pytest.mark.parametrize("name", list(SCANS))
def test_a_ball_is_recovered(name: str, detector: str):
    geometry = SCANS[name](detector)
    image = fdk(geometry, BALL.project(geometry)).double().numpy() / 0.02
    places = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(*GRID, strict=True)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    distance = np.sqrt((z - 2) ** 2 + (y - 5) ** 2 + (x + 8) ** 2)
    inside, outside = distance < 28, (distance > 40) & (np.hypot(x, y) < 52) & (np.abs(z) < 30)
    assert image[inside].mean() == pytest.approx(1, abs=0.01)
    assert np.abs(image[(np.abs(z) < 3) & inside] - 1).max() < 0.02
    assert abs(image[outside].mean()) < 0.01


def test_tilted_detectors_and_turned_rows():
    """The general back-projection; rows counted from the top give the same volume."""
    upright = scan(120)
    ball = BALL.project(upright)
    reference = fdk(upright, ball)
    vectors = upright.vectors.copy()
    vectors[:, 9:] *= -1
    turned = ConeGeometry(vectors, upright.rows, upright.columns, *GRID)
    assert torch.allclose(fdk(turned, ball.flip(1)), reference, atol=1e-6)
    tilted = scan(120, tilt=(0.02, -0.01, 0.0))
    image = fdk(tilted, BALL.project(tilted))
    assert float((image - reference).abs()[18:22].mean() / 0.02) < 0.005


def test_scans_that_are_no_circle_are_refused():
    helix = ConeGeometry.helical(*GRID, 60, 40.0, **DISTANCES)
    with pytest.raises(InputError, match="no circular scan"):
        fdk(helix, torch.zeros(helix.data_shape))
    assert ConeOperator(helix).direct_method is None
    assert ConeOperator(scan(8)).direct_method == "fdk"
