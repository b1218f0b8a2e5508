"""The non-uniform operator against the sum that defines it, and trajectories."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from medrecon.errors import InputError, MissingDependency
from medrecon.physics.mri.nonuniform import NonCartesianSense, _finufft, radial_trajectory, spiral_trajectory
from medrecon.physics.mri.sense import CartesianSense

finufft = pytest.importorskip("finufft")


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("grid", "matrix"), [((2, 6, 5), (2, 8, 7)), ((1, 7, 8), (1, 7, 8))])
def test_the_operator_is_the_sum_over_the_image(grid: tuple[int, int, int], matrix: tuple[int, int, int]):
    trajectory = torch.from_numpy(spiral_trajectory(3, 20, matrix[1:], turns=2))
    maps = normal(1, 2, *grid)
    op = NonCartesianSense(maps, trajectory, matrix)
    x = normal(*grid, seed=2)
    places = [np.arange(m) - m // 2 for m in grid[1:]]
    k = trajectory.numpy().astype(float)
    wave = np.exp(-2j * np.pi * k[..., 0, None, None] * places[0][:, None] / matrix[1])
    wave = wave * np.exp(-2j * np.pi * k[..., 1, None, None] * places[1] / matrix[2])
    images = (maps[0] * x).numpy()
    expected = np.einsum("sjyx,czyx->zcsj", wave, images) / np.sqrt(matrix[1] * matrix[2])
    assert np.abs(op(x).numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_three_dimensional_trajectories():
    trajectory = torch.rand((3, 9, 3), generator=torch.Generator().manual_seed(4)) * 4 - 2
    op = NonCartesianSense(normal(1, 2, 4, 5, 6), trajectory, (4, 5, 6))
    x = normal(4, 5, 6, seed=2)
    z, y, xx = np.meshgrid(*(np.arange(n) - n // 2 for n in (4, 5, 6)), indexing="ij")
    phase = trajectory.numpy() @ np.stack([z / 4, y / 5, xx / 6]).reshape(3, -1)
    images = (op._maps[0] * x).reshape(2, -1).numpy()
    expected = np.einsum("sjp,cp->csj", np.exp(-2j * np.pi * phase), images)[None] / np.sqrt(120)
    assert np.abs(op(x).numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    assert op.couples_slices


def test_on_a_grid_of_frequencies_it_is_the_cartesian_operator():
    grid = (2, 6, 7)
    rows, columns = np.meshgrid(np.arange(6) - 3, np.arange(7) - 3, indexing="ij")
    trajectory = torch.from_numpy(np.stack([rows, columns], -1).astype(np.float32))
    maps, x = normal(1, 3, *grid), normal(*grid, seed=2)
    ours = NonCartesianSense(maps, trajectory, grid)
    full = CartesianSense(maps, torch.linspace(1, 1.0001, 42).reshape(1, 6, 7), grid)
    assert torch.allclose(ours(x).reshape(2, 3, -1), full(x), atol=2e-3)
    assert torch.allclose(ours.density_weights(), torch.ones(6, 7), atol=1e-3)
    images = ours.coil_images(ours(x))
    assert torch.allclose(images, maps[0] * x, atol=1e-3)
    assert torch.allclose(ours.zero_filled(ours(x)), (maps[0].abs().square().sum(dim=0)) * x, atol=5e-3)


def test_missing_samples_per_slice():
    trajectory = torch.from_numpy(radial_trajectory(4, 8, (6, 6)))
    amplitude = torch.ones((2, 4, 8))
    amplitude[1, 2:] = 0
    op = NonCartesianSense(normal(1, 2, 2, 6, 6), trajectory, (2, 6, 6), amplitude)
    y = op(normal(2, 6, 6))
    assert float(y[1, :, 2:].abs().max()) == 0
    assert float(y[0, :, 2:].abs().max()) > 0
    assert op.sample_count == 2 * (32 + 16)
    data = normal(2, 2, 4, 8)
    assert torch.equal(op.samples_of(data), data.transpose(0, 1) * amplitude[:, None])


def test_trajectories_stay_within_k_space_and_pass_the_centre():
    radial = radial_trajectory(7, 32, (64, 48))
    assert np.abs(radial[:, 16]).max() == 0
    assert np.abs(radial[..., 0]).max() <= 32
    assert np.abs(radial[..., 1]).max() <= 24
    spiral = spiral_trajectory(5, 100, (64, 64), density=2)
    assert np.abs(spiral[:, 0]).max() == 0
    radius = np.linalg.norm(spiral, axis=-1)
    assert (np.diff(radius, axis=1) > 0).all()
    assert np.median(radius) < 16  # denser near the centre


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch):
    maps = normal(1, 2, 1, 6, 6)
    trajectory = torch.from_numpy(radial_trajectory(4, 8, (6, 6)))
    with pytest.raises(InputError, match="leaves the encoded k-space"):
        NonCartesianSense(maps, trajectory * 2, (1, 6, 6))
    with pytest.raises(InputError, match="three axes"):
        NonCartesianSense(maps, trajectory[0], (1, 6, 6))
    with pytest.raises(InputError, match="one complex set"):
        NonCartesianSense(maps[0], trajectory, (1, 6, 6))
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(MissingDependency, match=r"medrecon\[mri\]"):
        _finufft()
