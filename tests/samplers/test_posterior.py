"""Error bars against exact posteriors: spread, coverage and mean of samples of Gaussian fields."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers.problems import GaussianCase, gaussian_case
from helpers.runs import run
from medrecon.samplers.settings import make_sampler

SETTINGS = {"sigma_max": 2.0, "sigma_min": 0.005, "model_error": 0.0, "correlation_mm": 0.0}
CASES = {
    "few data": {"share": 0.2, "sigma": 0.02},
    "as in the oracle": {"share": 0.42, "sigma": 0.05},
    "noisy": {"share": 0.42, "sigma": 0.2},
    "all data": {"share": 1.0, "sigma": 0.05},
    "all data, noisy": {"share": 1.0, "sigma": 0.2},
}


def draw(case: GaussianCase, name: str, count: int, **settings: object) -> Tensor:
    system, sampler = case.problem.system(), make_sampler(name, SETTINGS | settings)
    return torch.stack([run(sampler, system, sample=k).estimate for k in range(count)])


def variance(case: GaussianCase, samples: Tensor) -> float:
    """Of the samples, over that of the posterior."""
    return float(samples.var(0).mean()) / case.posterior_variance


def distance(case: GaussianCase, x: Tensor) -> float:
    return float((x - case.posterior_mean).square().mean()) / case.posterior_variance


@pytest.mark.parametrize("made", CASES.values(), ids=CASES.keys())
def test_the_spread_is_that_of_the_posterior(made: dict):
    """Variance 0.91 to 1.03 of the exact one (measured), and a mean of six as far off as six draws would be: 1 / 6,
    0.25 where the data are noisy and complete."""
    case = gaussian_case(8, 32, correlation=1.5, **made)
    samples = draw(case, "posterior", 6)
    assert 0.88 < variance(case, samples) < 1.1
    assert distance(case, samples.mean(0)) < (0.3 if made["share"] == 1 and made["sigma"] == 0.2 else 0.21)


@pytest.fixture(scope="module")
def case() -> GaussianCase:
    return gaussian_case(8, 32, correlation=1.5)


def test_nine_in_ten_lie_within_the_interval(case: GaussianCase):
    """Between the 5 and 95 % points of the samples' normal distribution, the exact posterior has 88 to 92 %.

    The width is that for a mean and a variance of K samples (Student's t). Coverage is computed from the exact
    marginal of each voxel, which is the same for all voxels up to its mean, so that one truth more or less says
    nothing.
    """
    count, t = 12, 1.796  # Student's 95 % point for 11 degrees of freedom
    samples = draw(case, "posterior", count)
    width = t * samples.std(0) * (1 + 1 / count) ** 0.5
    exact = torch.distributions.Normal(case.posterior_mean, posterior_deviation(case))
    covered = exact.cdf(samples.mean(0) + width) - exact.cdf(samples.mean(0) - width)
    assert 0.88 < float(covered.mean()) < 0.92


def posterior_deviation(case: GaussianCase) -> Tensor:
    """Standard deviation of each voxel: the diagonal of the covariance, from the transform of a unit impulse.

    Hartley functions have different squares at a voxel, so it is not quite constant; measured columns come in no pairs.
    """
    op = case.problem.op
    measured = torch.zeros(case.spectrum.shape)
    measured[:, op.columns] = 1.0
    remaining = case.spectrum - measured * case.spectrum**2 / (case.spectrum + case.sigma**2)
    size = case.spectrum.shape[0]
    deviation = torch.empty(size, size)
    for y in range(size):
        impulses = torch.zeros(size, size, size)
        impulses[torch.arange(size), y, torch.arange(size)] = 1.0
        deviation[y] = (op.transform(impulses).square() * remaining).sum(dim=(1, 2)).sqrt()
    assert float(deviation.square().mean()) == pytest.approx(case.posterior_variance, rel=1e-4)
    return deviation


def test_correlated_noise_keeps_the_spread(case: GaussianCase):
    """The flicker goes (2.3 times the truth's roughness, then 1.06), the variance of a voxel stays."""
    independent, correlated = draw(case, "posterior", 6), draw(case, "posterior", 6, correlation_mm=1.5)
    assert variance(case, correlated) == pytest.approx(variance(case, independent), rel=0.15)
    assert case.roughness(independent[0]) > 2.0
    assert case.roughness(correlated[0]) < 1.25


def test_the_second_order_makes_the_difference(case: GaussianCase):
    """The same noise in first-order steps (DDPM) narrows the samples at 20 steps."""
    assert variance(case, draw(case, "posterior", 4, steps=20)) > 0.95
    assert variance(case, draw(case, "posterior", 4, steps=20, stepper="ddim", eta=0.7)) < 0.85


def test_total_variation_narrows_it(case: GaussianCase):
    """So error bars are without a model prior along z."""
    narrow = draw(case, "posterior", 3, steps=12, tv=2.0, tv_axes=(0,), iterations=3, cg_iterations=8)
    assert variance(case, narrow) < 0.6


# --- others that make samples: known not to be calibrated --------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("perturb-and-solve", 0.6, 0.85), ("daps", 1.5, 2.2), ("ddnm+", 0.35, 0.6), ("pigdm", 0.85, 1.15)],
)
def test_the_spread_of_the_others(case: GaussianCase, name: str, low: float, high: float):
    """Measured 0.73, 1.9, 0.45 and 1.0; all means are right: as far off as the mean of six draws of that spread."""
    samples = draw(case, name, 6)
    assert low < variance(case, samples) < high
    assert distance(case, samples.mean(0)) < 1.5 * variance(case, samples) / 6
