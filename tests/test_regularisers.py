"""Regularisers: values by explicit loops, proximal maps by brute force, and contracts over the registry."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.regularisers import (
    Bounds,
    Huber,
    LowRank,
    Regulariser,
    SquaredDifferences,
    TotalVariation,
    regularisers,
)

SHAPE = (3, 4, 5)


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lengths(x: Tensor, factors: tuple[float, float, float]) -> list[float]:
    """Length of the forward gradient at each voxel, by loops."""
    result = []
    for index in itertools.product(*map(range, x.shape)):
        total = 0.0
        for axis, factor in enumerate(factors):
            ahead = [*index]
            ahead[axis] += 1
            if ahead[axis] < x.shape[axis]:
                total += (factor * float(x[tuple(ahead)] - x[index])) ** 2
        result.append(total**0.5)
    return result


def huber(length: float, threshold: float) -> float:
    return length**2 / (2 * threshold) if length <= threshold else length - threshold / 2


@pytest.mark.parametrize(
    ("spacing", "axes", "factors"),
    [
        ((1.0, 1.0, 1.0), (0, 1, 2), (1.0, 1.0, 1.0)),
        ((2.0, 0.5, 0.5), (0, 1, 2), (0.25, 1.0, 1.0)),
        ((3.0, 0.5, 1.0), (0, 1, 2), (1 / 6, 1.0, 0.5)),
        ((3.0, 1.0, 0.5), (0, 1, 2), (1 / 6, 0.5, 1.0)),
        ((2.0, 1.0, 1.0), (1, 2), (0.0, 1.0, 1.0)),
        ((2.0, 1.0, 1.0), (0,), (0.5, 0.0, 0.0)),
    ],
)
def test_values(spacing, axes, factors):
    """Differences are divided by the spacing relative to the smallest spacing in the plane."""
    x = noise()
    table = lengths(x, factors)
    assert TotalVariation(SHAPE, spacing, axes).value(x) == pytest.approx(sum(table), rel=1e-5)
    assert SquaredDifferences(SHAPE, spacing, axes).value(x) == pytest.approx(sum(n * n for n in table) / 2, rel=1e-5)
    for threshold in (0.01, 0.8):
        expected = sum(huber(n, threshold) for n in table)
        assert Huber(SHAPE, spacing, axes, threshold).value(x) == pytest.approx(expected, rel=1e-5)


def test_total_variation_counts_faces_of_a_slab():
    """Half of the slices at 2: 4 x 5 faces of height 2; nothing wraps around to the first slice."""
    x = torch.zeros(SHAPE)
    x[2:] = 2.0
    assert TotalVariation(SHAPE).value(x) == pytest.approx(40.0)
    assert TotalVariation(SHAPE, spacing=(4.0, 1.0, 1.0)).value(x) == pytest.approx(10.0)
    assert TotalVariation(SHAPE, axes=(1, 2)).value(x) == 0.0


def test_values_are_summed_in_double_precision():
    """4 million voxels of which every one has the same small gradient along z."""
    x = torch.arange(4).float()[:, None, None].expand(4, 1000, 1000) * 1e-3
    assert TotalVariation((4, 1000, 1000), axes=(0,)).value(x) == pytest.approx(3000.0, rel=1e-6)


POINTWISE: dict[str, tuple[Regulariser, Callable[[np.ndarray], float]]] = {
    "tv": (TotalVariation(SHAPE), lambda z: float(np.linalg.norm(z))),
    "huber": (Huber(SHAPE, threshold=0.3), lambda z: huber(float(np.linalg.norm(z)), 0.3)),
    "l2": (SquaredDifferences(SHAPE), lambda z: 0.5 * float(z @ z)),
}


@pytest.mark.parametrize("name", list(POINTWISE))
@pytest.mark.parametrize("step", [0.05, 0.7, 3.0])
def test_proximal_maps_minimise_what_they_claim(name: str, step: float):
    """``g(z) + ||z - v||^2 / (2 step)`` for the gradient vector of one voxel, by a derivative-free search."""
    term, g = POINTWISE[name]
    generator = np.random.default_rng(0)
    for v in [*generator.normal(size=(6, 3)), *0.1 * generator.normal(size=(3, 3)), np.zeros(3)]:

        def objective(z: np.ndarray, v: np.ndarray = v) -> float:
            return g(z) + float((z - v) @ (z - v)) / (2 * step)

        searched = minimize(objective, v, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
        found = term.prox(torch.from_numpy(v).reshape(3, 1, 1, 1), step).numpy().ravel()
        assert objective(found) <= min(objective(searched), objective(np.zeros(3))) + 1e-9
        np.testing.assert_allclose(found, searched, atol=1e-3)


@pytest.mark.parametrize(("low", "high"), [(0.0, None), (-0.5, 0.5), (None, 0.2)])
def test_bounds(low: float | None, high: float | None):
    term, v = Bounds(SHAPE, low, high), noise()
    inside = term.prox(v, 0.3)
    expected = np.clip(v.numpy(), low, high)
    assert np.array_equal(inside.numpy(), expected)
    assert term.value(inside) == 0.0
    assert term.value(v) == float("inf")
    assert torch.equal(term.K_gram(v), v)


def test_low_rank_is_the_nuclear_norm_without_the_mean():
    """Value and proximal map by a singular value decomposition; the mean slice costs nothing."""
    term, x = LowRank(SHAPE), noise()
    rows = (x - x.mean(dim=0)).reshape(3, -1)
    left, values, right = torch.linalg.svd(rows.double(), full_matrices=False)
    unit = 20**0.5
    assert term.value(x + noise(SHAPE[1:], 5)) == pytest.approx(unit * float(values.sum()), rel=1e-5)
    step = 1.05 * float(values[1]) / unit
    expected = (left * (values - unit * step).clamp_min(0)) @ right
    found = term.prox(rows.reshape(SHAPE), step).reshape(3, -1)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    assert torch.linalg.matrix_rank(found, atol=1e-4) == 1
    with pytest.raises(UsageError, match="along z"):
        LowRank(SHAPE, axes=(0, 1, 2))


def build(name: str) -> Regulariser:
    return regularisers.get(name)(SHAPE)


@pytest.mark.parametrize("name", regularisers.names())
class TestContract:
    """What ADMM relies on, for every registered regulariser."""

    def split(self, name: str, seed: int) -> Tensor:
        return noise(tuple(build(name).K.range.shape), seed)

    def test_prox_of_a_vanishing_step_changes_nothing(self, name: str):
        if name == "bounds":  # an indicator is a projection whatever the step
            assert torch.equal(build(name).prox(self.split(name, 0), 1e-9), self.split(name, 0).clamp_min(0))
            return
        torch.testing.assert_close(build(name).prox(self.split(name, 0), 1e-9), self.split(name, 0))

    def test_prox_never_increases_distances(self, name: str):
        term, a, b = build(name), self.split(name, 0), self.split(name, 1)
        assert torch.linalg.vector_norm(term.prox(a, 0.4) - term.prox(b, 0.4)) <= torch.linalg.vector_norm(a - b)

    def test_prox_leaves_its_input_alone(self, name: str):
        v = self.split(name, 0)
        copy = v.clone()
        build(name).prox(v, 0.4)
        assert torch.equal(v, copy)

    def test_flat_input_stays_finite(self, name: str):
        term = build(name)
        for step in (0.0, 0.4):
            assert torch.isfinite(term.prox(torch.zeros(term.K.range.shape), step)).all()
        assert term.value(torch.ones(SHAPE)) == 0.0

    def test_closed_forms_equal_the_definition(self, name: str):
        """``K_gram``, ``K_adjoint`` and ``update`` may be fused; they must stay what the base class computes."""
        term, x = build(name), noise()
        z, u = self.split(name, 1), self.split(name, 2)
        close = {"rtol": 0.0, "atol": 5e-6}
        torch.testing.assert_close(term.K_gram(x), Regulariser.K_gram(term, x), **close)
        torch.testing.assert_close(term.K_adjoint(z, u), Regulariser.K_adjoint(term, z, u), **close)
        for step, relaxation in ((0.3, 1.0), (0.3, 1.6), (0.0, 1.6)):
            expected = Regulariser.update(term, x, z.clone(), u.clone(), step, relaxation)
            for a, b in zip(term.update(x, z.clone(), u.clone(), step, relaxation), expected, strict=True):
                torch.testing.assert_close(a, b, **close)

    def test_update_leaves_the_volume_alone(self, name: str):
        term, x = build(name), noise()
        term.update(x, self.split(name, 1), self.split(name, 2), 0.3, 1.6)
        assert torch.equal(x, noise())
