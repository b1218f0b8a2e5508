"""The projectors against ASTRA's on the CPU: an independent code with the same models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from helpers.astra_projector import AstraProjector
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.phantoms import random_ellipsoids, shepp_logan

pytest.importorskip("astra", reason="could not import 'astra'")

SHAPE, SPACING = (1, 96, 96), (1.0, 2.0, 2.0)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(geometry: CTGeometry, kind: str, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Relative differences of the projections of ``x`` and of the back-projections of ``y``."""
    op, astra = CTOperator(geometry), AstraProjector(geometry, kind)
    return (
        relative(op(x).numpy()[:, 0], astra.forward(x[0].numpy())),
        relative(op.adjoint(y).numpy()[0], astra.adjoint(y[:, 0].numpy())),
    )


def head(geometry: CTGeometry) -> tuple[torch.Tensor, torch.Tensor]:
    phantom = shepp_logan(90.0)
    return phantom.rasterise(SHAPE, SPACING, (1, 4, 4)), phantom.project(geometry)


@pytest.mark.parametrize("offset", [0.0, 3.7])
def test_parallel_equals_astra_linear(offset: float):
    """ASTRA's `linear` is Joseph's method too; it finds places in single precision, which signed noise shows most."""
    angles = np.arange(50) * math.pi / 50 + 0.011
    geometry = CTGeometry.parallel(SHAPE, SPACING, angles=angles, detector_offset=offset, column_spacing=1.7)
    assert max(compare(geometry, "linear", *head(geometry))) <= 1e-4
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(SHAPE, generator=generator), torch.randn(geometry.data_shape, generator=generator)
    assert max(compare(geometry, "linear", x, y)) <= 3e-4


def test_fan_agrees_with_astra_line_fanflat():
    """ASTRA's fan projector takes exact lengths through square pixels (Siddon), whose adjoint is rougher."""
    geometry = CTGeometry.fan(
        SHAPE, SPACING, 60, source_origin=250.0, source_detector=400.0, detector_offset=2.5, columns=120
    )
    body = random_ellipsoids(3, radius=85.0)
    forward, adjoint = compare(
        geometry, "line_fanflat", body.rasterise(SHAPE, SPACING, (1, 4, 4)), body.project(geometry)
    )
    assert forward <= 0.006
    assert adjoint <= 0.04
