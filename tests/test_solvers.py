"""The one CG and the one ADMM against direct solves, optimality conditions and independent solvers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.operators import MatrixOperator, SliceProjector
from helpers.problems import blocks
from medrecon.errors import NonFinite
from medrecon.regularisers import Bounds, Huber, Regulariser, SquaredDifferences, TotalVariation
from medrecon.solvers import SplitState, admm, cg, inner, least_squares_gram


def hermitian(size: int, dtype: torch.dtype, condition: float = 50.0, seed: int = 0) -> Tensor:
    """Positive definite with eigenvalues from 1 to ``condition``."""
    generator = torch.Generator().manual_seed(seed)
    vectors, _ = torch.linalg.qr(torch.randn((size, size), dtype=dtype, generator=generator))
    return vectors @ torch.diag(torch.linspace(1, condition, size).to(dtype)) @ vectors.conj().T


def vector(size: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    return torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# --- conjugate gradients -----------------------------------------------------------------------------------

DTYPES = [(torch.float32, 2e-4), (torch.complex64, 2e-4), (torch.float64, 1e-9), (torch.complex128, 1e-9)]


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES, ids=str)
def test_cg_solves_what_numpy_solves(dtype: torch.dtype, tolerance: float):
    """The error is at most condition (50) times the residual, which is bounded by the stopping rule."""
    matrix, rhs = hermitian(30, dtype), vector(30, dtype)
    expected = np.linalg.solve(matrix.numpy(), rhs.numpy())
    result = cg(lambda v: matrix @ v, rhs, max_iterations=100, tolerance=tolerance / 100)
    assert result.converged
    np.testing.assert_allclose(result.x.numpy(), expected, atol=tolerance)


def test_cg_ends_after_as_many_steps_as_there_are_eigenvalues():
    matrix = torch.diag(torch.tensor([1.0, 1, 1, 4, 4, 9], dtype=torch.float64))
    result = cg(lambda v: matrix @ v, vector(6, torch.float64), max_iterations=20, tolerance=1e-12)
    assert len(result.residuals) - 1 == 3


@pytest.mark.parametrize("start", [False, True])
def test_reported_residuals_are_the_true_ones(start: bool):
    """The recursion is compared with ``||rhs - M x|| / ||rhs||`` computed afresh for every iteration count."""
    matrix, rhs = hermitian(20, torch.float64), vector(20, torch.float64)
    begin = vector(20, torch.float64, seed=5) if start else None
    for count in (0, 1, 4, 9):
        result = cg(lambda v: matrix @ v, rhs, begin, max_iterations=count)
        true = float(torch.linalg.vector_norm(rhs - matrix @ result.x) / torch.linalg.vector_norm(rhs))
        assert result.residuals[-1] == pytest.approx(true, rel=1e-6)
        assert len(result.residuals) == count + 1
        assert not result.converged


def test_cg_with_the_solution_as_start_does_nothing():
    matrix = hermitian(20, torch.float64)
    solution = vector(20, torch.float64)
    result = cg(lambda v: matrix @ v, matrix @ solution, solution, max_iterations=10, tolerance=1e-12)
    assert result.converged
    assert torch.equal(result.x, solution)


@pytest.mark.parametrize("start", [False, True])
def test_cg_with_nothing_on_the_right_gives_zero(start: bool):
    matrix, zero = hermitian(5, torch.float64), torch.zeros(5, dtype=torch.float64)
    begin = vector(5, torch.float64) if start else None
    result = cg(lambda v: matrix @ v, zero, begin, max_iterations=10)
    torch.testing.assert_close(result.x, zero, atol=1e-10, rtol=0)
    assert result.converged or start  # no residual is small against a right-hand side of zero


@pytest.mark.parametrize("apply_returns_its_input", [False, True])
def test_cg_leaves_its_inputs_alone(apply_returns_its_input: bool):
    matrix, rhs, start = hermitian(20, torch.float64), vector(20, torch.float64), vector(20, torch.float64, 2)
    copies = rhs.clone(), start.clone()
    result = cg((lambda v: v) if apply_returns_its_input else (lambda v: matrix @ v), rhs, start, max_iterations=9)
    assert torch.equal(rhs, copies[0])
    assert torch.equal(start, copies[1])
    assert result.x.data_ptr() not in (rhs.data_ptr(), start.data_ptr())
    if apply_returns_its_input:
        torch.testing.assert_close(result.x, rhs)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_cg_names_the_iteration_of_a_nan(poison: float):
    matrix, calls = hermitian(20, torch.float64), []

    def apply(v: Tensor) -> Tensor:
        calls.append(1)
        return matrix @ v if len(calls) < 4 else torch.full_like(v, poison)

    with pytest.raises(NonFinite, match="iteration 3"):
        cg(apply, vector(20, torch.float64), max_iterations=10)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_cg_refuses_a_nan_on_the_right(poison: float):
    rhs = vector(20, torch.float64)
    rhs[3] = poison
    with pytest.raises(NonFinite, match="iteration 0"):
        cg(lambda v: 2 * v, rhs, max_iterations=10)


@pytest.mark.parametrize("count", [1, 5, 50])
def test_cg_on_a_projection_stays_at_the_solution(count: int):
    """Masked Fourier data and missing traces: ``A'A`` is a projection, solved by one step. Steps along the rounding
    errors that are left, which lie in its null space, would have any length."""
    vectors, _ = torch.linalg.qr(torch.randn(400, 170, generator=torch.Generator().manual_seed(0)))
    rhs = vectors @ (vectors.T @ vector(400, torch.float32))
    result = cg(lambda v: vectors @ (vectors.T @ v), rhs, max_iterations=count)
    torch.testing.assert_close(result.x, rhs, atol=1e-5, rtol=0)


def test_cg_on_a_singular_system_gives_the_smallest_solution():
    """From a zero start every iterate lies in the range of ``A'``: the limit is the pseudo-inverse's answer."""
    matrix = torch.randn((8, 20), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = vector(8, torch.float64)
    result = cg(lambda v: matrix.T @ (matrix @ v), matrix.T @ y, max_iterations=60, tolerance=1e-11)
    np.testing.assert_allclose(result.x.numpy(), np.linalg.pinv(matrix.numpy()) @ y.numpy(), atol=1e-7)


def test_inner_products_are_accumulated_in_double_precision():
    """10^7 times 0.1: summed one by one in single precision this is off by 8 %."""
    x = torch.full((10_000_000,), 0.1)
    assert inner(x, torch.ones_like(x)) == pytest.approx(1e6, rel=1e-7)


def test_inner_is_the_real_part_of_the_hermitian_product():
    a, b = vector(7, torch.complex128), vector(7, torch.complex128, 2)
    assert inner(a, b) == pytest.approx(complex((a.conj() * b).sum()).real)


def test_least_squares_gram():
    op = MatrixOperator(torch.randn((6, 4), dtype=torch.float64), (4,), (6,))
    x = vector(4, torch.float64)
    torch.testing.assert_close(least_squares_gram(op, 0.3)(x), op.matrix.T @ (op.matrix @ x) + 0.3 * x)
    torch.testing.assert_close(least_squares_gram(op)(x), op.matrix.T @ (op.matrix @ x))


# --- ADMM --------------------------------------------------------------------------------------------------


def denoise(y: Tensor, terms: list[Regulariser], weights: list[float], iterations: int, **settings: object) -> Tensor:
    """``argmin 1/2 ||x - y||^2 + sum weights g``."""
    rho = settings.pop("rho", [2.0] * len(terms))
    return admm(
        lambda v: v.clone(), y, terms, weights, x=y, rho=rho, iterations=iterations, cg_iterations=20,
        cg_tolerance=1e-6, **settings,
    ).x  # fmt: skip


def test_admm_without_terms_is_a_linear_solve():
    matrix, rhs = hermitian(12, torch.float64), vector(12, torch.float64)
    result = admm(lambda v: matrix @ v, rhs, [], [], x=torch.zeros_like(rhs), rho=[], iterations=10, cg_tolerance=1e-10)
    torch.testing.assert_close(result.x, torch.linalg.solve(matrix, rhs))


@pytest.mark.parametrize("weight", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("length", [2, 3, 60])
def test_total_variation_of_a_line_is_solved_to_optimality(weight: float, length: int):
    """1D total variation along z has a checkable optimum: with ``w = cumsum(y - x)`` the conditions are
    ``|w| <= weight``, ``w`` at its end 0, and ``w = weight sign(Dx)`` where x jumps. They bound the distance to the
    solution: ``1/2 ||x - x*||^2 <= sum(weight |Dx| - w Dx)`` for a feasible w."""
    y = torch.zeros(length, 2, 2)
    y[length // 2 :] = 1.0
    y += 0.2 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    x = denoise(y, [TotalVariation(y.shape, axes=(0,))], [weight], 800).double()

    dual = -torch.cumsum(y.double() - x, dim=0)
    torch.testing.assert_close(dual[-1], torch.zeros_like(dual[-1]), atol=1e-5, rtol=0)
    jumps, dual = x.diff(dim=0), dual[:-1]
    assert dual.abs().max() <= weight + 1e-4
    gap = float((weight * jumps.abs() - dual * jumps).sum())
    assert abs(gap) < 1e-3 * length * weight


def dual_projected_gradient(y: np.ndarray, weight: float, factors: tuple[float, ...], iterations: int) -> np.ndarray:
    """Isotropic total variation denoising by accelerated projected gradients on the dual (Beck and Teboulle 2009),
    in double precision: an independent solver."""

    def gradient(x: np.ndarray) -> np.ndarray:
        out = np.zeros((3, *x.shape))
        for axis, factor in enumerate(factors):
            ahead = [slice(None)] * 3
            ahead[axis] = slice(0, -1)
            out[(axis, *ahead)] = factor * np.diff(x, axis=axis)
        return out

    def adjoint(p: np.ndarray) -> np.ndarray:
        out = np.zeros(p.shape[1:])
        for axis, factor in enumerate(factors):
            body = np.moveaxis(p[axis], axis, 0)[:-1] * factor
            moved = np.moveaxis(out, axis, 0)
            moved[1:] += body
            moved[:-1] -= body
        return out

    p = q = np.zeros((3, *y.shape))
    momentum = 1.0
    for _ in range(iterations):
        new = q + gradient(y - adjoint(q)) / (4 * sum(f**2 for f in factors))
        new /= np.maximum(1, np.sqrt((new**2).sum(0)) / weight)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        q = new + (momentum - 1) / following * (new - p)
        p, momentum = new, following
    return y - adjoint(p)


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize(("spacing", "axes"), [((1, 1, 1), (0, 1, 2)), ((2.5, 1, 1), (0, 1, 2)), ((1, 1, 1), (1, 2))])
def test_total_variation_denoising_agrees_with_an_independent_solver(spacing, axes, relaxation):
    """Both run until they stand still; in single precision ADMM stays within 1e-3 of values of order 1."""
    y = blocks((5, 9, 8)) + 0.15 * torch.randn((5, 9, 8), generator=torch.Generator().manual_seed(1))
    factors = tuple(1 / spacing[axis] if axis in axes else 0.0 for axis in range(3))
    expected = dual_projected_gradient(y.double().numpy(), 0.2, factors, 1500)
    found = denoise(y, [TotalVariation(y.shape, spacing, axes)], [0.2], 200, relaxation=relaxation)
    assert np.abs(expected - y.numpy()).max() > 0.1
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def primal_dual(matrix: np.ndarray, y: np.ndarray, shape: tuple[int, ...], weight: float, low: float) -> np.ndarray:
    """``1/2 ||A x - y||^2 + weight TV(x)``, ``x >= low``, by the primal-dual method of Chambolle and Pock 2011 with
    explicit matrices in double precision."""
    size = int(np.prod(shape))
    blocks_ = []
    for axis in range(3):
        index = np.arange(size).reshape(shape)
        here = np.take(index, range(shape[axis] - 1), axis).ravel()
        there = np.take(index, range(1, shape[axis]), axis).ravel()
        block = np.zeros((size, size))
        block[here, here], block[here, there] = -1, 1
        blocks_.append(block)
    D = np.concatenate(blocks_)
    tau = 0.99 / np.sqrt(np.linalg.norm(np.concatenate([matrix, D]), 2) ** 2)
    x = bar = np.zeros(size)
    p, q = np.zeros(3 * size), np.zeros(len(y))
    for _ in range(8_000):
        q = (q + tau * (matrix @ bar - y)) / (1 + tau)
        p = (p + tau * D @ bar).reshape(3, -1)
        p = (p / np.maximum(1, np.sqrt((p**2).sum(0)) / weight)).ravel()
        new = np.maximum(x - tau * (matrix.T @ q + D.T @ p), low)
        bar, x = 2 * new - x, new
    return x.reshape(shape)


@pytest.fixture(scope="module")
def deblurring() -> tuple[MatrixOperator, Tensor, np.ndarray]:
    """An underdetermined system with total variation and a lower bound that is active, and its solution."""
    shape, generator = (3, 4, 5), torch.Generator().manual_seed(0)
    op = MatrixOperator(torch.randn((40, 60), generator=generator) / 8, shape, (40,))
    y = op(blocks(shape)) + 0.05 * torch.randn(40, generator=generator)
    expected = primal_dual(op.matrix.double().numpy(), y.double().numpy(), shape, 0.05, 0.1)
    assert (expected <= 0.1 + 1e-9).mean() > 0.05
    return op, y, expected


@pytest.mark.parametrize("rho", [0.1, 1.0])
def test_reconstruction_with_total_variation_and_a_bound_agrees_with_an_independent_solver(deblurring, rho: float):
    op, y, expected = deblurring
    terms = [TotalVariation((3, 4, 5)), Bounds((3, 4, 5), 0.1)]
    result = admm(
        least_squares_gram(op), op.adjoint(y), terms, [0.05, 0.0], x=torch.zeros(3, 4, 5), rho=[rho, rho],
        iterations=800, cg_iterations=20, cg_tolerance=1e-7,
    )  # fmt: skip
    np.testing.assert_allclose(result.x.numpy(), expected, atol=2e-3)


def test_few_cg_steps_per_iteration_reach_the_same_solution(deblurring):
    """The solvers of the package run 4 CG steps per iteration, warm-started."""
    op, y, expected = deblurring
    terms = [TotalVariation((3, 4, 5)), Bounds((3, 4, 5), 0.1)]
    result = admm(
        least_squares_gram(op), op.adjoint(y), terms, [0.05, 0.0], x=torch.zeros(3, 4, 5), rho=[0.5, 0.5],
        iterations=800, cg_iterations=4,
    )  # fmt: skip
    np.testing.assert_allclose(result.x.numpy(), expected, atol=4e-3)


def test_quadratic_smoothing_has_a_closed_form():
    """``(I + weight D'D) x = y``."""
    y = torch.randn((4, 5, 3), generator=torch.Generator().manual_seed(0))
    term = SquaredDifferences((4, 5, 3), (2.0, 1.0, 1.0))
    unit = torch.eye(60).reshape(60, 4, 5, 3)
    gram = torch.stack([term.K_gram(column).reshape(-1) for column in unit], dim=1).double()
    expected = torch.linalg.solve(torch.eye(60, dtype=torch.float64) + 0.7 * gram, y.double().reshape(-1))
    found = denoise(y, [term], [0.7], 100)
    torch.testing.assert_close(found.double().reshape(-1), expected, atol=2e-4, rtol=0)


def test_huber_lies_between_quadratic_and_total_variation():
    """With a threshold above every gradient Huber is quadratic / threshold; with one near 0 it is total variation."""
    y = 0.1 * torch.randn((4, 5, 3), generator=torch.Generator().manual_seed(0))
    wide = denoise(y, [Huber(y.shape, threshold=10.0)], [0.5], 100)
    torch.testing.assert_close(wide, denoise(y, [SquaredDifferences(y.shape)], [0.05], 100), atol=1e-4, rtol=0)
    narrow = denoise(y, [Huber(y.shape, threshold=1e-6)], [0.03], 200)
    torch.testing.assert_close(narrow, denoise(y, [TotalVariation(y.shape)], [0.03], 200), atol=5e-4, rtol=0)


def tomography() -> tuple[Callable[[Tensor], Tensor], Tensor, list[Regulariser]]:
    op = SliceProjector((4, 9, 8))
    y = op(blocks((4, 9, 8)))
    return least_squares_gram((1 / op.norm()) * op), op.adjoint(y) / op.norm() ** 2, [
        TotalVariation((4, 9, 8)), Bounds((4, 9, 8), 0.0)
    ]  # fmt: skip


def test_admm_leaves_its_inputs_alone():
    gram, rhs, terms = tomography()
    settings = {"rho": [0.1, 0.1], "iterations": 3}
    x = torch.rand(rhs.shape)
    state = admm(gram, rhs, terms, [0.01, 0.0], x=x, **settings).state
    before = [t.clone() for t in (x, rhs, *state.splits, *state.duals)]
    admm(gram, rhs, terms, [0.01, 0.0], x=x, state=state, **settings)
    for value, copy in zip((x, rhs, *state.splits, *state.duals), before, strict=True):
        assert torch.equal(value, copy)


def test_admm_goes_on_where_it_stopped():
    """Two times 5 iterations with the state passed on are 10 iterations, bit for bit."""
    gram, rhs, terms = tomography()
    settings = {"rho": [0.1, 0.1], "cg_iterations": 3}
    x = torch.zeros_like(rhs)
    whole = admm(gram, rhs, terms, [0.01, 0.0], x=x, iterations=10, **settings)
    half = admm(gram, rhs, terms, [0.01, 0.0], x=x, iterations=5, **settings)
    rest = admm(gram, rhs, terms, [0.01, 0.0], x=half.x, state=half.state, iterations=5, **settings)
    assert torch.equal(rest.x, whole.x)
    assert half.changes + rest.changes == whole.changes


def test_admm_stops_at_its_tolerance():
    gram, rhs, terms = tomography()
    result = admm(
        gram, rhs, terms, [0.01, 0.0], x=torch.zeros_like(rhs), rho=[0.1, 0.1], iterations=500, tolerance=1e-3
    )
    assert 5 < len(result.changes) < 500
    assert result.changes[-1] <= 1e-3 < result.changes[-2]


def test_admm_passes_a_nan_on():
    gram, rhs, terms = tomography()
    rhs = rhs.clone()
    rhs[0, 0, 0] = float("nan")
    with pytest.raises(NonFinite, match="iteration 0"):
        admm(gram, rhs, terms, [0.01, 0.0], x=torch.zeros_like(rhs), rho=[0.1, 0.1], iterations=3)


def test_the_start_of_the_splits():
    x = torch.rand(3, 4, 5)
    term = TotalVariation((3, 4, 5))
    state = SplitState.zeros([term], x)
    assert torch.equal(state.splits[0], term.K(x))
    assert torch.equal(state.duals[0], torch.zeros(3, 3, 4, 5))


def test_slices_are_solved_like_a_volume_where_nothing_couples_them():
    """Slice-wise total variation: the middle of a stack equals the slice alone, up to the shared CG scalars."""
    y = blocks((3, 9, 8)) + 0.1 * torch.randn((3, 9, 8), generator=torch.Generator().manual_seed(1))
    together = denoise(y, [TotalVariation(y.shape, axes=(1, 2))], [0.1], 150)
    alone = denoise(y[1:2].clone(), [TotalVariation((1, 9, 8), axes=(1, 2))], [0.1], 150)
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=0)
