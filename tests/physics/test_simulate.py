"""Simulated scans: the finer object keeps its means and range, and the data are not the operator's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from medrecon.errors import InputError, UsageError
from medrecon.physics.ct import CTOperator, slices_innermost
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.noise import GaussianNoise, PoissonNoise
from medrecon.physics.phantoms import random_ellipsoids
from medrecon.physics.simulate import refine, simulate_ct

GRID = ((3, 48, 40), (2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def body() -> torch.Tensor:
    return random_ellipsoids(1, radius=38.0).rasterise(*GRID, (1, 4, 4))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_refining_keeps_means_and_range(factor: int):
    x = torch.randn((2, 9, 7), generator=torch.Generator().manual_seed(0))
    fine = refine(x, factor)
    assert fine.shape == (2, 9 * factor, 7 * factor)
    assert torch.allclose(avg_pool2d(fine, factor), x, atol=1e-6)
    assert float(fine.max()) <= float(x.max())
    assert float(fine.min()) >= float(x.min())


def test_refining_follows_a_ramp():
    ramp = torch.arange(8.0).expand(1, 6, 8).contiguous()
    fine = refine(ramp, 2)[0, 4]
    assert torch.allclose(fine.diff()[2:-2], torch.tensor(0.5))


def test_refining_keeps_flat_parts_flat_and_bodies_positive(body: torch.Tensor):
    assert torch.equal(refine(torch.ones(1, 5, 5), 3), torch.ones(1, 15, 15))
    assert float(refine(body, 2).min()) >= 0


@pytest.mark.parametrize("make", [CTGeometry.parallel, CTGeometry.fan])
def test_close_to_the_operator_but_not_equal(make, body: torch.Tensor):
    geometry = make(*GRID, 24)
    found, own = simulate_ct(body, geometry, None), CTOperator(geometry)(body)
    assert 2e-4 < relative(found, own) < 0.03
    assert float(found.sum()) == pytest.approx(float(own.sum()), rel=2e-3)
    assert found.is_contiguous()


def test_one_part_and_one_ray_is_the_operator(body: torch.Tensor):
    geometry = CTGeometry.parallel(*GRID, 7)
    assert torch.equal(simulate_ct(body, geometry, None, oversample=1, rays=1), CTOperator(geometry)(body))


def test_finer_simulations_converge_to_the_exact_data():
    """Against the line integrals of the object itself: the finer simulation of a finer raster is nearer."""
    phantom = random_ellipsoids(2, radius=38.0)
    geometry = CTGeometry.parallel(*GRID, 24)
    truth = phantom.project(geometry.refined(1, 8)).unflatten(2, (geometry.columns, 8)).mean(3)
    body = phantom.rasterise(*GRID, (1, 8, 8))
    own = relative(CTOperator(geometry)(body), truth)
    assert relative(simulate_ct(body, geometry, None), truth) < 0.8 * own


def test_noise_is_keyed_by_the_seed_alone(body: torch.Tensor):
    geometry = CTGeometry.fan(*GRID, 9)
    model = PoissonNoise(1e4, 5.0)
    first = simulate_ct(body, geometry, model, 3)
    assert torch.equal(simulate_ct(slices_innermost(body), geometry, model, 3), first)
    assert not torch.equal(simulate_ct(body, geometry, model, 4), first)


def test_poisson_noise_has_its_variance(body: torch.Tensor):
    geometry = CTGeometry.parallel(*GRID, 60)
    clean = simulate_ct(body, geometry, None)
    model = PoissonNoise(1e4)
    noise = simulate_ct(body, geometry, model, 0) - clean
    assert float((noise.square() * model.weights(clean)).mean()) == pytest.approx(1.0, abs=0.05)
    gaussian = simulate_ct(body, geometry, GaussianNoise(0.1), 0) - clean
    assert float(gaussian.std()) == pytest.approx(0.1, rel=0.02)


def test_chunks_of_slices_change_nothing(body: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    geometry = CTGeometry.parallel(*GRID, 7)
    whole = simulate_ct(body, geometry, None)
    monkeypatch.setattr("medrecon.physics.simulate._SLICES", 2)
    assert torch.equal(simulate_ct(body, geometry, None), whole)


def test_bad_volumes_are_refused(body: torch.Tensor):
    geometry = CTGeometry.parallel(*GRID, 7)
    broken = body.clone()
    broken[1, 2, 3] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        simulate_ct(broken, geometry, None)
    with pytest.raises(InputError, match="wrong shape"):
        simulate_ct(body[0], geometry, None)
    with pytest.raises(UsageError, match="at least one"):
        simulate_ct(body, geometry, None, oversample=0)
