"""Finite differences: against explicit loops, and the fused loops against the general path in every layout."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from medrecon.physics.differences import Differences
from medrecon.physics.threads import SMALL

SHAPES = [(4, 6, 5), (1, 7, 3), (5, 1, 4), (3, 4, 1), (1, 1, 6), (1, 1, 1), (2, 3, 17)]
FACTORS = [(1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (0.4, 0.0, 0.0), (0.0, 1.0, 0.7)]
ORDERS = list(itertools.permutations(range(3)))


def noise(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stored(x: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The same values with the last three axes stored in ``order``, slowest first."""
    leading = x.ndim - 3
    axes = (*range(leading), *(leading + axis for axis in order))
    inverse = tuple(axes.index(axis) for axis in range(x.ndim))
    return x.permute(axes).contiguous().permute(inverse)


def by_loops(x: np.ndarray, factors: tuple[float, float, float]) -> np.ndarray:
    out = np.zeros((3, *x.shape))
    for index in np.ndindex(x.shape):
        for axis in range(3):
            ahead = list(index)
            ahead[axis] += 1
            if ahead[axis] < x.shape[axis]:
                out[(axis, *index)] = factors[axis] * (x[tuple(ahead)] - x[index])
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_forward_differences_are_what_they_say(shape, factors):
    x = noise(shape, 0)
    np.testing.assert_allclose(Differences(shape, factors)(x).numpy(), by_loops(x.double().numpy(), factors), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_the_adjoint_is_exact(shape, factors):
    op = Differences(shape, factors)
    x, y = noise(shape, 1).double(), noise((3, *shape), 2).double()
    assert float((op._forward(x) * y).sum()) == pytest.approx(float((x * op._adjoint(y)).sum()), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_differences_keep_the_layout(order):
    """Solvers stay in the layout of the operator: no hidden copies between steps."""
    op, x = Differences((3, 4, 5)), stored(noise((3, 4, 5), 0), order)
    for result in (op(x)[0], op.adjoint(op(x)), op.gram_of(x)):
        assert result.stride() == x.stride()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factors", FACTORS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_fused_loops_equal_the_general_path(shape, factors, order):
    """Single precision against the general path in double; values of order 1, a dozen additions each."""
    op = Differences(shape, factors)
    x, z, u = noise(shape, 0), noise((3, *shape), 1), noise((3, *shape), 2)
    wide = [t.double() for t in (x, z, u)]
    x, z, u = (stored(t, order) for t in (x, z, u))
    close = {"rtol": 0.0, "atol": 5e-6}

    torch.testing.assert_close(op.gram_of(x).double(), op._adjoint(op._forward(wide[0])), **close)
    torch.testing.assert_close(op.adjoint_of_difference(z, u).double(), op._adjoint(wide[1] - wide[2]), **close)
    for threshold, relaxation in ((0.7, 1.0), (0.3, 1.6), (0.0, 1.0), (100.0, 1.6)):
        expected = op.shrink_update(*wide, threshold, relaxation)
        found = op.shrink_update(x, z.clone(), u.clone(), threshold, relaxation)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a.double(), b, **close)


@pytest.mark.parametrize("orders", [((0, 1, 2), (1, 2, 0), (2, 0, 1)), ((1, 2, 0), (0, 1, 2), (1, 2, 0))], ids=str)
def test_fused_loops_take_operands_of_different_layouts(orders):
    shape = (3, 4, 5)
    op = Differences(shape)
    plain = noise(shape, 0), noise((3, *shape), 1), noise((3, *shape), 2)
    mixed = [stored(t, order) for t, order in zip(plain, orders, strict=True)]
    expected = op.shrink_update(*(t.double() for t in plain), 0.4, 1.6)
    torch.testing.assert_close(
        op.adjoint_of_difference(mixed[1], mixed[2]).double(),
        op._adjoint((plain[1] - plain[2]).double()),
        rtol=0,
        atol=5e-6,
    )
    for a, b in zip(op.shrink_update(*mixed, 0.4, 1.6), expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=5e-6)


def test_shrinking_a_flat_volume_gives_zeros_not_nan():
    op = Differences((3, 4, 5))
    zero = torch.zeros(3, 3, 4, 5)
    for threshold in (0.0, 0.5):
        split, dual = op.shrink_update(torch.ones(3, 4, 5), zero.clone(), zero.clone(), threshold, 1.6)
        assert torch.equal(split, zero)
        assert torch.equal(dual, zero)


@pytest.mark.parametrize("name", ["gram_of", "shrink_update", "adjoint_of_difference"])
def test_a_nan_is_not_swallowed(name: str):
    """The loops are compiled with fast arithmetic; a NaN must still come out, or no one would notice it."""
    op = Differences((3, 4, 5))
    x, z, u = noise((3, 4, 5), 0), noise((3, 3, 4, 5), 1), noise((3, 3, 4, 5), 2)
    x[1, 2, 3] = z[0, 1, 2, 3] = float("nan")
    results = {
        "gram_of": lambda: (op.gram_of(x),),
        "shrink_update": lambda: op.shrink_update(x, z, u, 0.1, 1.6),
        "adjoint_of_difference": lambda: (op.adjoint_of_difference(z, u),),
    }[name]()
    assert any(bool(torch.isnan(r).any()) for r in results)


def test_the_threads_do_not_change_a_bit():
    shape = (60, 55, 61)  # enough work for threads to be started
    op = Differences(shape, (0.5, 1.0, 1.0))
    assert 6 * math.prod(shape) > SMALL
    x, z, u = noise(shape, 0), noise((3, *shape), 1), noise((3, *shape), 2)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(
                [op.gram_of(x), op.adjoint_of_difference(z, u), *op.shrink_update(x, z.clone(), u.clone(), 0.3, 1.6)]
            )
    finally:
        torch.set_num_threads(before)
    for one, *others in zip(*results, strict=True):
        assert all(torch.equal(one, other) for other in others)
