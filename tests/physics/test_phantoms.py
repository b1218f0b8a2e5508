"""Ellipsoid phantoms: chords, rasters and projections agree with each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medrecon.errors import InputError
from medrecon.physics import phantoms
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.phantoms import EllipsoidPhantom, random_ellipsoids, shepp_logan


def one(centre=(0.0, 0.0, 0.0), semi_axes=(10.0, 20.0, 30.0), rotation=0.0, value=0.5) -> EllipsoidPhantom:
    return EllipsoidPhantom(np.array([centre]), np.array([semi_axes]), np.array([rotation]), np.array([value]))


def test_chords_through_the_centre():
    origin = np.zeros((3, 3))
    assert one().line_integrals(origin, np.eye(3)) == pytest.approx([10.0, 20.0, 30.0])


def test_a_chord_off_centre():
    """A sphere of radius 5 has a chord of 8 at distance 3."""
    ball = one(centre=(1.0, 2.0, 3.0), semi_axes=(5.0, 5.0, 5.0), value=1.0)
    direction = np.array([0.0, math.sqrt(0.5), math.sqrt(0.5)])
    beside = np.array([1.0 + 3.0, 2.0, 3.0]) + 7.0 * direction
    assert ball.line_integrals(beside, direction) == pytest.approx(8.0)
    assert ball.line_integrals(beside + np.array([2.5, 0, 0]), direction) == pytest.approx(0.0)


def test_rotation_runs_from_x_towards_y():
    turned = one(semi_axes=(10.0, 20.0, 30.0), rotation=math.pi / 6, value=1.0)
    along = np.array([0.0, math.sin(math.pi / 6), math.cos(math.pi / 6)])
    assert turned.line_integrals(np.zeros(3), along) == pytest.approx(60.0)
    raster = turned.rasterise((1, 64, 64), (1.0, 1.0, 1.0), (1, 1, 1))[0].numpy()
    y, x = np.nonzero(raster)
    assert np.cov(x, y)[0, 1] > 0


def test_volume_of_the_raster():
    phantom = one(centre=(1.0, -2.0, 3.0), semi_axes=(9.0, 14.0, 18.0), rotation=0.4, value=0.5)
    raster = phantom.rasterise((24, 50, 50), (1.0, 1.0, 1.0), (4, 4, 4))
    assert float(raster.double().sum()) == pytest.approx(0.5 * 4 / 3 * math.pi * 9 * 14 * 18, rel=1e-3)


def test_rows_of_a_raster_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch):
    grid, spacing, subsamples = (10, 50, 50), (8.0, 2.0, 2.0), (2, 2, 2)
    whole = shepp_logan(40.0).rasterise(grid, spacing, subsamples)
    assert float(whole.max()) == pytest.approx(0.04, rel=1e-6)
    monkeypatch.setattr(phantoms, "_POINTS_AT_ONCE", 1 << 15)
    assert (shepp_logan(40.0).rasterise(grid, spacing, subsamples) == whole).all()


def test_mass_of_the_projections():
    """Every parallel view of a slice sums to its mass."""
    geometry = CTGeometry.parallel((1, 80, 80), (1.0, 1.0, 1.0), 5, column_spacing=0.1)
    phantom = one(semi_axes=(math.inf, 14.0, 28.0), rotation=0.3, centre=(0.0, 4.0, -5.0))
    mass = phantom.project(geometry).double().sum(dim=(1, 2)) * 0.1
    assert mass.numpy() == pytest.approx(np.full(5, 0.5 * math.pi * 14 * 28), rel=1e-4)


def test_a_cylinder_looks_the_same_in_every_slice():
    geometry = CTGeometry.fan((3, 40, 40), (4.0, 1.0, 1.0), 4)
    data = one(semi_axes=(math.inf, 12.0, 9.0)).project(geometry)
    assert (data == data[:, :1]).all()
    assert float(data.max()) > 0


def test_shepp_logan_values():
    raster = shepp_logan(100.0, attenuation=0.05).rasterise((101, 101, 101), (2.0, 2.0, 2.0), (1, 1, 1))
    assert float(raster[50, 50, 50]) == pytest.approx(0.01)
    assert float(raster.max()) == pytest.approx(0.05)
    assert float(raster.min()) > -1e-8
    # The skull is longer from front to back than from side to side.
    assert int((raster[50, :, 50] > 0).sum()) > int((raster[50, 50] > 0).sum())


@pytest.mark.parametrize("seed", range(5))
def test_random_phantoms_are_bodies(seed: int):
    raster = random_ellipsoids(seed, radius=50.0).rasterise((20, 60, 60), (5.0, 2.0, 2.0), (1, 1, 1))
    assert float(raster.min()) >= 0
    assert 0.01 < float(raster[10, 30, 30]) < 0.2
    border = raster.clone()
    border[:, 5:-5, 5:-5] = 0
    assert float(border.abs().max()) == 0
    again = random_ellipsoids(seed, radius=50.0)
    assert (again.centres == random_ellipsoids(seed, radius=50.0).centres).all()
    assert (again.values != random_ellipsoids(seed + 1, radius=50.0).values).any()


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="semi_axes"):
        EllipsoidPhantom(np.zeros((2, 3)), np.ones((1, 3)), np.zeros(2), np.ones(2))
    with pytest.raises(InputError, match="positive"):
        one(semi_axes=(1.0, 0.0, 1.0))
