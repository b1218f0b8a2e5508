"""Cone-beam projection against exact line integrals, for every scan and detector; both sets of kernels alike."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.errors import InputError
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.phantoms import EllipsoidPhantom

DISTANCES = {"source_origin": 300.0, "source_detector": 500.0}


def grid(n: int) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    return (n, n, n), (128.0 / n,) * 3


BODY = EllipsoidPhantom(
    centres=np.array([[3.0, 2.0, -4.0], [-10.0, 12.0, 8.0]]),
    semi_axes=np.array([[42.0, 46.0, 50.0], [14.0, 10.0, 18.0]]),
    rotations=np.array([0.3, -0.8]),
    values=np.array([0.02, 0.01]),
)

SCANS = {
    "flat": lambda n: ConeGeometry.circular(*grid(n), 20, **DISTANCES),
    "curved": lambda n: ConeGeometry.circular(*grid(n), 20, detector="curved", **DISTANCES),
    "offset": lambda n: ConeGeometry.circular(
        *grid(n), 20, detector_offset=60.0, columns=n, rotation_shift=2.0, row_offset=5.0, **DISTANCES
    ),
    "tilted": lambda n: ConeGeometry.circular(*grid(n), 20, tilt=(0.1, -0.15, 0.2), **DISTANCES),
    "helical flat": lambda n: ConeGeometry.helical(*grid(n), 20, 60.0, detector="flat", **DISTANCES),
    "helical curved": lambda n: ConeGeometry.helical(*grid(n), 20, -50.0, **DISTANCES),
    "wild vectors": lambda n: wild(n),
}


def wild(n: int) -> ConeGeometry:
    """Sources all around, detectors that face them askew."""
    random = np.random.default_rng(4)
    source = random.normal(size=(20, 3))
    source *= 300 / np.linalg.norm(source, axis=1)[:, None]
    centre = -source * 0.7 + random.uniform(-8, 8, (20, 3))
    u = np.cross(source, random.normal(size=(20, 3)))
    v = np.cross(u, source) + 0.2 * source * np.linalg.norm(u, axis=1)[:, None]
    u, v = (a / np.linalg.norm(a, axis=1)[:, None] * (220.0 / n) for a in (u, v))
    return ConeGeometry(np.concatenate([source, centre, u, v], axis=1), n, n, *grid(n))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.mark.parametrize("scan", list(SCANS))
def test_projections_of_ellipsoids(scan: str):
    """Within 2.5 % of the exact integrals on 64 voxels; the error halves from 32; the mass is right to 2e-3."""
    errors = []
    for n in (32, 64):
        geometry = SCANS[scan](n)
        data = ConeOperator(geometry)(BODY.rasterise(geometry.shape, geometry.spacing, (3, 3, 3)))
        exact = BODY.project(geometry)
        errors.append(relative(data, exact))
        assert float(data.sum() / exact.sum()) == pytest.approx(1, abs=2e-3)
    assert errors[1] < 0.025
    assert errors[1] < 0.65 * errors[0]


@pytest.mark.parametrize("scan", ["flat", "curved", "offset", "helical flat", "helical curved"])
def test_vector_kernels_equal_the_general_ones(scan: str):
    """Two codes, one model: also where a chunk of slices ends, and for rows finer and coarser than voxels."""
    generator = torch.Generator().manual_seed(1)
    geometry = SCANS[scan](20)
    for shape, rows in (((20, 20, 20), 1.0), ((7, 20, 22), 0.4), ((140, 9, 9), 3.0)):
        vectors = geometry.vectors.copy()
        vectors[:, 9:] *= rows
        other = ConeGeometry(vectors, geometry.rows, geometry.columns, shape, (2.0, 5.0, 5.5), geometry.detector)
        fast, general = ConeOperator(other), ConeOperator(other, "general")
        x = torch.zeros(shape)
        x[1:-1, 1:-1, 1:-1] = torch.randn([n - 2 for n in shape], generator=generator)
        assert relative(fast(x), general(x)) < 2e-5
        y = torch.randn(other.data_shape, generator=generator)
        inner = (slice(1, -1),) * 3
        assert relative(fast.adjoint(y)[inner], general.adjoint(y)[inner]) < 2e-5


@pytest.mark.parametrize("scan", ["flat", "tilted", "helical curved"])
def test_exact_adjoint_at_size(scan: str):
    op = ConeOperator(SCANS[scan](33))
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(op.domain.shape, generator=generator), torch.randn(op.range.shape, generator=generator)
    ax, aty = op(x), op.adjoint(y)
    gap = (ax.double() * y).sum() - (x.double() * aty).sum()
    assert abs(float(gap / (torch.linalg.vector_norm(ax) * torch.linalg.vector_norm(y)))) < 1e-6


def test_units_of_length_scale_the_data():
    a = ConeGeometry.circular((10, 12, 12), (4.0, 5.0, 5.0), 6, rows=14, columns=20, **DISTANCES)
    b = ConeGeometry(10 * a.vectors, a.rows, a.columns, a.shape, tuple(10 * s for s in a.spacing))
    x = torch.rand(a.shape)
    assert relative(ConeOperator(b)(x), 10 * ConeOperator(a)(x)) < 1e-5


def test_views_in_subsets_are_those_of_the_whole():
    geometry = SCANS["flat"](16)
    op, x = ConeOperator(geometry), torch.rand(geometry.shape)
    parts = op.view_subsets(3)
    assert sorted(view for views, _ in parts for view in views) == list(range(20))
    for views, part in parts:
        assert torch.equal(part(x), op(x)[views])


def test_binning_and_cropping_follow_the_pixels():
    """The mean of merged pixels is what the merged pixel sees; a cropped detector sees its part."""
    for detector in ("flat", "curved"):
        geometry = ConeGeometry.circular(
            *grid(32), 5, detector=detector, rows=132, columns=187, row_spacing=1.0, column_spacing=1.0,
            detector_offset=7.0, row_offset=-4.0, **DISTANCES,
        )  # fmt: skip
        data = BODY.project(geometry)
        binned = geometry.binned(2, 3)
        merged = data[:, :, :186].unflatten(1, (66, 2)).unflatten(3, (62, 3)).mean((2, 4))
        assert relative(BODY.project(binned), merged) < 0.01
        part = geometry.cropped(slice(5, 30), slice(10, 91))
        assert relative(BODY.project(part), data[:, 5:30, 10:91]) < 1e-6


def test_grids_elsewhere_see_the_same_rays():
    geometry = SCANS["helical curved"](32)
    moved = geometry.with_grid((40, 30, 20), (3.0, 4.0, 5.0), (5.0, -6.0, 7.0))
    shifted = EllipsoidPhantom(BODY.centres - [7.0, -6.0, 5.0], BODY.semi_axes, BODY.rotations, BODY.values)
    assert relative(shifted.project(moved), BODY.project(geometry)) < 1e-6


def test_a_fitted_volume_lies_in_the_field_of_view():
    geometry = ConeGeometry.circular(
        *grid(16), 30, rows=40, columns=50, row_spacing=4.0, column_spacing=4.0, **DISTANCES
    )
    fitted = geometry.fit_volume()
    assert fitted.spacing == pytest.approx((2.4, 2.4, 2.4))
    half = 0.5 * fitted.shape[2] * fitted.spacing[2]
    assert half == pytest.approx(300 * math.sin(math.atan(100 / 500)), abs=2.4)
    assert "volume" not in " ".join(fitted.describe().split("note:")[1:])
    assert fitted.fit_volume(1.2).shape[0] >= 2 * fitted.shape[0]


def test_rays_that_miss_are_refused():
    geometry = SCANS["flat"](16)
    with pytest.raises(InputError, match=r"misses the volume.*millimetres"):
        geometry.with_grid((16, 16, 16), (1.0, 1.0, 1.0), (0.0, 0.0, 900.0))
    with pytest.raises(InputError, match="inside the volume"):
        geometry.with_grid((16, 200, 200), (8.0, 8.0, 8.0))


def test_plain_values_come_back_to_the_bit():
    for scan in ("curved", "tilted", "helical flat"):
        geometry = SCANS[scan](16)
        assert ConeGeometry.from_dict(geometry.to_dict()) == geometry


def test_plot_shows_source_and_detector():
    figure = SCANS["helical curved"](16).plot()
    assert len(figure.axes) == 2
    assert "from the feet" in figure.axes[1].get_title()


@pytest.mark.slow
def test_machines_without_avx2_give_the_same():
    """The element-wise way of the vector kernels, compiled for a plain processor in a process of its own."""
    code = """
import torch
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
g = ConeGeometry.circular((24, 20, 22), (2.0, 3.0, 3.0), 6, source_origin=200.0, source_detector=300.0)
x = torch.zeros(g.shape)
x[1:-1, 1:-1, 1:-1] = torch.rand((22, 18, 20))
fast, general = ConeOperator(g), ConeOperator(g, "general")
y = torch.rand(g.data_shape)
gap = (fast(x) - general(x)).norm() / general(x).norm()
back = ((fast.adjoint(y) - general.adjoint(y))[1:-1, 1:-1, 1:-1]).norm() / general.adjoint(y).norm()
assert max(gap, back) < 2e-5, (gap, back)
"""
    root = Path(__file__).parents[2]
    for name in ("generic", "haswell"):
        environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CACHE_DIR": ""}
        subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environment)
