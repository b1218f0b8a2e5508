"""DiffusionMBIR step by step: against an independent evaluation, exact posteriors and the published weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.operators import as_matrix
from helpers.priors import FunctionPrior
from helpers.problems import GaussianCase, blocks, gaussian_case, projection_problem
from helpers.runs import run, states
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.problem import System
from medrecon.samplers.mbir import DiffusionMBIR
from medrecon.samplers.published_mbir import CircularTV, chunk_mean, from_published, published_norm
from medrecon.samplers.settings import make_sampler

SHAPE = (5, 8, 7)
NOISE = KeyedNoise(4)
SHRINK = FunctionPrior(lambda x, sigma: x * 0.3 / (0.3 + sigma**2))


def system(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> System:
    problem = projection_problem(shape, prior=SHRINK, spacing=spacing)
    return replace(replace(problem, lower_bound=None).system(), start=0.7 * blocks(shape))


def expected_run(
    made: System, sampler: DiffusionMBIR, circular: bool, *, length: float = 1.0, adjoint: float = 1.0
) -> list[Tensor]:
    """The noisy states of a run in float64 with dense matrices, from the algorithm as it is published.

    The operator is ``length`` times ours and its back-projection carries a factor ``adjoint``.
    """
    matrix = length * as_matrix(made.op).double().numpy()
    back = adjoint * matrix.T
    y = length * made.y.double().numpy().ravel()
    slices, height, width = SHAPE
    pixels = height * width
    step = np.roll(np.eye(slices), 1, axis=1) - np.eye(slices)
    scale = 256 / width if circular else 1.0
    relative = 1.0 if circular else made.geometry.spacing[1] / made.geometry.spacing[0]
    if not circular:
        step[-1] = 0
        step *= relative
    difference = np.kron(step, np.eye(pixels))
    rho = sampler.rho * scale / relative**2  # meant for plain differences
    threshold = sampler.lam * scale / rho
    normal = back @ matrix + rho * difference.T @ difference

    def noise(key: int) -> np.ndarray:
        return NOISE.volume(key, SHAPE).double().numpy()

    def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
        return x * 0.3 / (0.3 + sigma**2)

    levels = [*np.geomspace(sampler.sigma_max, sampler.sigma_min, sampler.steps), 0.0]
    x = levels[0] * noise(0) + (0 if circular else made.start.double().numpy())
    z = u = np.zeros(x.size)
    found = [x]
    for i in range(sampler.steps):
        s, t = levels[i], levels[i + 1]
        score = (denoise(x, s) - x) / s**2
        x = x + (s**2 - t**2) * score
        if t > 0 or circular:
            x = x + math.sqrt(s**2 - t**2) * noise(2 * i + 1)
            level, fresh = (s if circular else t), noise(2 * i + 2)
            score = (denoise(x, level) - x) / level**2
            push = np.linalg.norm(score.reshape(slices, -1), axis=1)
            size = np.linalg.norm(fresh.reshape(slices, -1), axis=1)
            if circular:  # five slices are one chunk of the published code
                push, size = push.mean(), size.mean()
            length = np.broadcast_to(2 * (sampler.snr * size / push) ** 2, slices)[:, None, None]
            x = x + length * score + np.sqrt(2 * length) * fresh
        flat = x.ravel()
        residual = back @ y + rho * difference.T @ (z - u) - normal @ flat
        flat = flat + (residual @ residual) / (residual @ normal @ residual) * residual
        v = difference @ flat + u
        z = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
        u = v - z
        x = flat.reshape(SHAPE)
        found.append(x)
    return [torch.from_numpy(value).float() for value in found]


@pytest.mark.parametrize("exact", [False, True])
def test_a_run_is_the_published_algorithm(exact: bool):
    """Every noisy state of six steps, duals carried along, against the formulas with dense matrices."""
    sampler = DiffusionMBIR(steps=6, sigma_max=1.5, sigma_min=0.05, lam=1e-3, exact=exact)
    made = system()
    found = [state.tensors["x"] for state in states(sampler, made, NOISE)]
    for a, b in zip(found, expected_run(made, sampler, exact), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("distance", [0.2, 1.0, 3.0])
def test_the_distance_of_slices_does_not_decide_how_much_noise_stays(distance: float):
    """The splits hold the noise of the level before; slices near each other must not hold the volume to that."""
    small = FunctionPrior(lambda x, sigma: x * 1e-3 / (1e-3 + sigma**2))
    made = replace(system((8, 12, 10), (distance, 1.0, 1.0)), prior=small)
    last = run(DiffusionMBIR(steps=40, sigma_max=1.0), made, seed=4).tensors["x"]
    assert (last[1:] - last[:-1]).std() < 0.1


def test_the_last_sweep_meets_the_data():
    """``x + A'(y - A x) / (A'A 1)``, for projectors only; the noisy state before it is kept."""
    made = system()
    *_, last = states(DiffusionMBIR(steps=6, sigma_max=1.5), made, NOISE)
    x = last.tensors["x"]
    matrix = as_matrix(made.op)
    weights = matrix.T @ (matrix @ torch.ones(x.numel()))
    step = matrix.T @ (made.y.reshape(-1) - matrix @ x.reshape(-1)) / weights
    torch.testing.assert_close(last.estimate, x + step.reshape(SHAPE), atol=1e-5, rtol=1e-4)
    assert made.discrepancy(last.estimate) < made.discrepancy(x)


def test_published_weights_become_relative_ones():
    """The norm of ``pi / (2 views) A'A`` in pixel units, with our own projector: 1.52 per pixel, whatever the views.

    The published operator rotates and sums, ours follows rays, so within 3 %.
    """
    for width, views in ((48, 8), (96, 8), (96, 4), (96, 30)):
        columns = math.ceil(math.sqrt(2) * width)
        geometry = CTGeometry.parallel((1, width, width), (1.0, 1.0, 1.0), views, columns=columns, column_spacing=1.0)
        norm = math.pi / (2 * views) * CTOperator(geometry).norm() ** 2
        assert norm == pytest.approx(published_norm(width), rel=0.03)
    assert from_published(10.0, 0.04, 256) == pytest.approx((10 / 390, 0.04 / 390))
    defaults = DiffusionMBIR()
    assert (defaults.rho, defaults.lam) == from_published(10.0, 0.04, 256)
    assert defaults.lam / defaults.rho == pytest.approx(0.004)


def test_published_units_give_the_same_run():
    """Rays in other units, a back-projection scaled by ``pi / (2 views)`` and rho = 10: what relative weights give."""
    made, length, adjoint = system(), 37.0, math.pi / 12
    norm = adjoint * length**2
    published = DiffusionMBIR(steps=3, sigma_max=0.5, rho=10.0, lam=0.04)
    relative = replace(published, rho=10.0 / norm, lam=0.04 / norm)
    expected = expected_run(made, published, False, length=length, adjoint=adjoint)
    for state, x in zip(states(relative, made, NOISE), expected, strict=True):
        torch.testing.assert_close(state.tensors["x"], x, atol=2e-4, rtol=1e-3)


def test_the_published_mode_ties_first_and_last_slice_and_the_default_does_not():
    """Data of the last slice change: with circular differences the first one feels it as much as its neighbour."""
    problem = replace(projection_problem(SHAPE, prior=SHRINK), lower_bound=None)
    y = problem.y.clone()
    y[:, -1] *= 2.0
    for exact in (False, True):
        sampler = DiffusionMBIR(steps=6, sigma_max=0.5, rho=0.2, lam=0.01, cg_iterations=3, exact=exact)
        first, second = (run(sampler, replace(problem, y=data).system()).estimate for data in (problem.y, y))
        moved = (first - second).abs().amax(dim=(1, 2))
        assert (float(moved[0]) > 0.7 * float(moved[-2])) == exact


@pytest.mark.parametrize(
    ("slices", "sizes"), [(5, [5]), (11, [11]), (12, [6, 6]), (25, [9, 9, 7]), (448, [12] * 37 + [4])]
)
def test_the_published_partition_of_slices(slices: int, sizes: list[int]):
    """``torch.chunk(x, n // 12 + 1)``: at most that many chunks of equal size, the last one smaller."""
    norms = torch.arange(slices, dtype=torch.float32)
    pieces = torch.chunk(norms, slices // 12 + 1)
    assert [len(piece) for piece in pieces] == sizes
    torch.testing.assert_close(chunk_mean(norms), torch.cat([piece.mean().expand(len(piece)) for piece in pieces]))


def test_circular_total_variation():
    term = CircularTV((4, 3, 2))
    x, z = (torch.randn((4, 3, 2), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert float((term.K(x) * z).sum()) == pytest.approx(float((x * term.K.adjoint(z)).sum()), rel=1e-5)
    ahead = torch.stack([x[1], x[2], x[3], x[0]])
    assert term.value(x) == pytest.approx(float((ahead - x).abs().sum()), rel=1e-6)
    shrunk = term.prox(torch.tensor([-2.0, -0.5, 0.0, 0.7]), 0.6)
    torch.testing.assert_close(shrunk, torch.tensor([-1.4, 0.0, 0.0, 0.1]), atol=1e-6, rtol=0)


def test_the_chunks_of_the_network_do_not_matter_by_default():
    """Step lengths of the corrector belong to a slice: a volume in two halves moves like the whole in that step."""
    made = system()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    for exact in (False, True):
        sampler = DiffusionMBIR(exact=exact)
        fresh = NOISE.volume(1, SHAPE)
        louder = x.clone()
        louder[-1] *= 5
        a, b = (sampler._correct(made, value, 0.3, fresh)[0] for value in (x, louder))
        assert torch.equal(a, b) != exact


def test_the_prior_gives_the_highest_level():
    made = system()
    assert DiffusionMBIR(steps=4).levels(made)[0] == pytest.approx(3.0)  # its card
    assert DiffusionMBIR(steps=4, sigma_max=1.0).levels(made)[0] == pytest.approx(1.0)
    unlimited = replace(made, prior=gaussian_case(2, 8).problem.prior)
    assert DiffusionMBIR(steps=4).levels(unlimited)[0] == pytest.approx(378.0)
    with pytest.raises(UsageError, match="noise levels must fall"):
        make_sampler("mbir", {"sigma_max": 0.005})
    with pytest.raises(UsageError, match="rho must be positive"):
        make_sampler("mbir", {"rho": 0.0})


# --- against the exact posterior ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case() -> GaussianCase:
    return gaussian_case(8, 16, correlation=1.5)


def spread_and_roughness(case: GaussianCase, **settings: object) -> tuple[float, float, float]:
    """Distance of the mean of two samples, variance (both over the posterior's), and roughness over the truth's."""
    sampler = make_sampler("mbir", {"sigma_max": 2.0} | settings)
    made = case.problem.system()
    samples = torch.stack([run(sampler, made, sample=k).estimate for k in range(2)])
    distance = float((samples.mean(0) - case.posterior_mean).square().mean()) / case.posterior_variance
    variance = float(samples.var(0).mean()) / case.posterior_variance
    return distance, variance, sum(case.roughness(x) for x in samples) / 2


def test_it_samples_near_the_posterior(case: GaussianCase):
    """Without total variation: variance 0.97 of the posterior's, so the mean of two is off by 0.45 and not by 2."""
    distance, variance, roughness = spread_and_roughness(case, steps=100, lam=0.0)
    assert distance < 0.7 * variance
    assert 0.75 < variance < 1.25
    assert 1.8 < roughness < 2.8


def test_total_variation_along_z_takes_the_flicker_and_the_spread(case: GaussianCase):
    """Ten times the published weight: variance 0.6, roughness 1.6 (measured)."""
    _, variance, roughness = spread_and_roughness(case, steps=100, lam=1e-3)
    assert variance < 0.8
    assert roughness < 2.0


def test_few_steps_work_too(case: GaussianCase):
    """Ten steps leave more noise (variance 1.8), and their mean still is nearer than a single posterior sample."""
    distance, variance, _ = spread_and_roughness(case, steps=10)
    assert distance < 1.2
    assert variance < 2.5
