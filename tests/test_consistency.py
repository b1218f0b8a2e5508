"""Moments of the views: what those of one object are like, and what a wrong geometry makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.command_line import body
from medrecon.consistency import moment_mismatch
from medrecon.data.volume import Geometry
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.noise import GaussianNoise, PoissonNoise
from medrecon.physics.simulate import simulate_ct
from medrecon.problem import Problem

GRID = Geometry.from_spacing((3, 32, 32), (3.0, 2.0, 2.0))
VIEWS, TURN = 16, 2 * np.pi


def volume() -> Tensor:
    """A body that is not round and not in the middle, 1/mm."""
    return torch.roll(torch.from_numpy(body(GRID.shape, GRID.spacing).to_quantity("1/mm").array), 2, dims=2)


def measured(noise: GaussianNoise | PoissonNoise | None = None, views: int = VIEWS, arc: float = TURN) -> Problem:
    geometry = CTGeometry.parallel(GRID.shape, GRID.spacing, views, arc=arc)
    data = simulate_ct(volume(), geometry, noise, seed=0)
    return Problem(CTOperator(geometry), data, GRID, "1/mm", noise_model=noise)


def described(problem: Problem, **changes: object) -> Problem:
    """The same data with another description."""
    return replace(problem, op=CTOperator(replace(problem.op.geometry, **changes)))


@pytest.mark.parametrize("arc", [np.pi, TURN])
@pytest.mark.parametrize("noise", [None, GaussianNoise(0.01), PoissonNoise(1e4)])
def test_the_moments_of_an_object_fit(noise: GaussianNoise | PoissonNoise | None, arc: float) -> None:
    assert moment_mismatch(measured(noise, arc=arc)) < 0.01


@pytest.mark.parametrize("columns", [0.5, 1.0])
def test_a_shifted_axis_shows_as_what_it_is(columns: float) -> None:
    """Over a whole turn a constant shift is at right angles to cosine and sine, so that all of it is seen."""
    problem = measured()
    pitch = problem.op.geometry.column_spacing
    found = moment_mismatch(described(problem, rotation_shift=columns * pitch))
    assert found == pytest.approx(columns * np.sqrt(VIEWS / (VIEWS - 2)), rel=0.02)


def test_wrong_angles_show_at_few_views_too() -> None:
    problem = measured(PoissonNoise(1e5), views=8, arc=np.pi)
    angles = np.asarray(problem.op.geometry.angles)
    assert moment_mismatch(described(problem, angles=angles * 0.94)) > 0.02
    assert moment_mismatch(described(problem, angles=angles + 0.3)) < 0.01  # only turns the object


def test_the_scale_of_data_and_pixels_does_not_matter() -> None:
    problem = described(measured(), rotation_shift=1.0)
    assert moment_mismatch(replace(problem, y=7 * problem.y)) == pytest.approx(moment_mismatch(problem))


def test_noise_alone_is_no_misfit() -> None:
    geometry, noise = CTGeometry.parallel(GRID.shape, GRID.spacing, 8), GaussianNoise(0.03)
    for seed in range(5):
        data = simulate_ct(volume(), geometry, noise, seed=seed)
        assert moment_mismatch(Problem(CTOperator(geometry), data, GRID, "1/mm", noise_model=noise)) == 0.0


def test_nothing_is_said_where_nothing_is_known() -> None:
    problem = measured()
    few = CTGeometry.parallel(GRID.shape, GRID.spacing, 5)
    fan = CTGeometry.fan(GRID.shape, GRID.spacing, 12, source_origin=200.0, source_detector=300.0)
    narrow = CTGeometry.parallel(GRID.shape, GRID.spacing, 12, columns=12)
    for geometry in (few, fan, narrow):
        assert moment_mismatch(Problem(CTOperator(geometry), CTOperator(geometry)(volume()), GRID, "1/mm")) is None
    for empty in (torch.zeros_like(problem.y), -problem.y, 1e-3 * torch.randn_like(problem.y)):
        assert moment_mismatch(replace(problem, y=empty, noise_model=GaussianNoise(0.01))) is None
    assert moment_mismatch(replace(problem, y=torch.zeros_like(problem.y))) is None
    assert moment_mismatch(replace(problem, used=torch.ones(VIEWS, 1, 1))) is None
