"""The diffusion loop against exact posteriors: Gaussian fields, whose best answer is known in closed form.

Slices are Gaussian fields with a known spectrum, measured at a share of their frequencies; the prior is the exact
denoiser of one slice. All is diagonal in the Hartley basis, so mean and variance of the posterior are known.
Distances and variances are ratios to the exact posterior variance per voxel, averaged over the volume. "Measured"
is with these seeds; where a bound is statistical it leaves about a third.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from helpers.problems import GaussianCase, gaussian_case
from helpers.runs import run
from medrecon.physics.noise import GaussianNoise
from medrecon.samplers import samplers
from medrecon.samplers.settings import make_sampler

SAMPLES = 6
WIDE = {"sigma_max": 2.0, "sigma_min": 0.005, "tv": 0.0, "steps": 20}
"""Levels from far above the spread of the field (0.2) to far below the noise (0.05); no model prior along z."""
PUBLISHED = ["dds", "diffpir", "ddnm"]


@pytest.fixture(scope="module")
def case() -> GaussianCase:
    return gaussian_case(16, 32, correlation=1.5)


def estimates(case: GaussianCase, name: str, count: int = SAMPLES, **settings: object) -> Tensor:
    system = case.problem.system()
    sampler = make_sampler(name, WIDE | settings)
    return torch.stack([run(sampler, system, seed=0, sample=k).estimate for k in range(count)])


@pytest.fixture(scope="module")
def drawn(case: GaussianCase) -> dict[tuple[str, float], Tensor]:
    """Samples of the stochastic presets, with independent and with correlated noise along z."""
    return {(name, c): estimates(case, name, correlation_mm=c) for name in PUBLISHED for c in (0.0, 1.5)}


def distance(case: GaussianCase, x: Tensor) -> float:
    """Mean squared distance to the posterior mean over the posterior variance."""
    return float((x - case.posterior_mean).square().mean()) / case.posterior_variance


# --- the case itself ---------------------------------------------------------------------------------------


def test_the_posterior_mean_is_the_best_estimate(case: GaussianCase):
    """Its error is the posterior variance: 16 slices with about ten strong modes each, so within 20 %."""
    error = float((case.posterior_mean - case.truth).square().mean())
    assert error == pytest.approx(case.posterior_variance, rel=0.2)
    for factor in (0.9, 1.1):
        assert float((factor * case.posterior_mean - case.truth).square().mean()) > error


def test_the_posterior_mean_solves_the_normal_equations(case: GaussianCase):
    """``A'(A x - y) / sigma^2 + C^-1 x = 0``, with the prior's covariance inverted in the Fourier domain."""
    problem, x = case.problem, case.posterior_mean
    data = problem.op.adjoint(problem.op(x) - problem.y) / case.sigma**2
    prior = torch.fft.ifft2(torch.fft.fft2(x) / case.spectrum).real
    assert float((data + prior).abs().max()) < 1e-4 * float(prior.abs().max())


# --- deterministic preset ----------------------------------------------------------------------------------


EXACT = {"trust": 1.0}
"""The prior's level taken at its word; the preset trusts it less, for networks that are not exact."""


@pytest.mark.parametrize("error", ["level", "matched"])
def test_plug_and_play_ends_at_the_posterior_mean(case: GaussianCase, error: str):
    """Measured 0.0002 (0.0001 where the radius follows the prior's error) of the posterior variance, which is
    below 0.01 dB; the bound is 0.1 %."""
    x = estimates(case, "pnp", 1, error=error, **EXACT)[0]
    assert distance(case, x) < 1e-3
    assert abs(case.psnr(x) - case.psnr(case.posterior_mean)) < 0.02


def test_plug_and_play_needs_neither_wide_levels_nor_many_steps(case: GaussianCase):
    """With the preset's own levels, with ten steps, and as the preset has it, six steps and less trust: 0.1 dB."""
    assert distance(case, estimates(case, "pnp", 1, sigma_max=0.5, sigma_min=0.02, **EXACT)[0]) < 1e-3
    assert distance(case, estimates(case, "pnp", 1, steps=10, **EXACT)[0]) < 1e-2
    preset = run(make_sampler("pnp", {"tv": 0.0}), case.problem.system()).estimate
    assert distance(case, preset) < 0.025


def test_the_weight_of_the_data_follows_their_noise(case: GaussianCase):
    """Told a noise four times too small the loop fits the noise; four times too large it ignores data."""
    system, settings = case.problem.system(), WIDE | EXACT | {"error": "matched"}
    right = run(make_sampler("pnp", settings), system).estimate
    for factor in (0.25, 4.0):
        told = replace(case.problem, noise_model=GaussianNoise(factor * case.sigma)).system()
        x = run(make_sampler("pnp", settings), told).estimate
        assert (system.discrepancy(x) < system.discrepancy(right)) == (factor < 1)
        assert distance(case, x) > 10 * distance(case, right)


# --- stochastic presets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("correlation", [0.0, 1.5])
def test_samples_spread_around_the_posterior_mean(case: GaussianCase, drawn, name: str, correlation: float):
    """Their mean of K is as far from the posterior mean as K independent draws around it would be: var / K.

    Measured: 1.1 to 1.25 times that; the excess is the noise of the data, which Krylov and range steps fit. A bias of
    a quarter of a posterior standard deviation would double it.
    """
    samples = drawn[name, correlation]
    variance = float(samples.var(0).mean()) / case.posterior_variance
    assert distance(case, samples.mean(0)) < 1.5 * variance / SAMPLES


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("correlation", [0.0, 1.5])
def test_averaging_gains_what_it_should(case: GaussianCase, drawn, name: str, correlation: float):
    """A single sample is 2 dB below the posterior mean, the mean of six half a decibel."""
    samples, best = drawn[name, correlation], case.psnr(case.posterior_mean)
    single = sum(case.psnr(x) for x in samples) / SAMPLES
    assert best - 2.8 < single < best - 1.5
    assert case.psnr(samples.mean(0)) > best - 0.8


@pytest.mark.parametrize(("name", "low", "high"), [("dds", 0.6, 0.85), ("ddnm", 0.5, 0.75), ("diffpir", 0.55, 0.85)])
def test_the_presets_spread_less_than_the_posterior(case: GaussianCase, drawn, name: str, low: float, high: float):
    """Known of these methods: 0.6 to 0.76 of the posterior variance at 20 evaluations. Not an error bar."""
    variance = float(drawn[name, 0.0].var(0).mean()) / case.posterior_variance
    assert low < variance < high


@pytest.mark.parametrize("name", PUBLISHED)
def test_correlated_noise_removes_the_flicker(case: GaussianCase, drawn, name: str):
    """Roughness along z over that of the truth: 2.0 to 2.1 with independent, 1.0 with correlated noise; the exact
    posterior mean, which a prior of single slices cannot make rough, has 0.76."""
    independent = sum(case.roughness(x) for x in drawn[name, 0.0]) / SAMPLES
    correlated = sum(case.roughness(x) for x in drawn[name, 1.5]) / SAMPLES
    assert 1.8 < independent < 2.4
    assert 0.85 < correlated < 1.2
    assert 0.65 < case.roughness(case.posterior_mean) < 0.85


@pytest.mark.parametrize("name", PUBLISHED)
def test_correlated_noise_costs_no_accuracy(case: GaussianCase, drawn, name: str):
    """Each slice sees noise of the same law either way: within 0.4 dB, the scatter of a mean of six."""
    a, b = (sum(case.psnr(x) for x in drawn[name, c]) / SAMPLES for c in (0.0, 1.5))
    assert abs(a - b) < 0.4


def test_more_fresh_noise_spreads_less(case: GaussianCase, drawn):
    """eta = 1 forgets the sample at every step and moves towards the mean (0.37 against 0.6 of the variance)."""
    forgetful = estimates(case, "dds", correlation_mm=0.0, eta=1.0)
    assert float(forgetful.var(0).mean()) < 0.75 * float(drawn["dds", 0.0].var(0).mean())


def test_a_proximal_step_leaves_the_noise_in_the_data(case: GaussianCase, drawn):
    """Krylov and range steps fit measured frequencies exactly (discrepancy 0), DiffPIR leaves 0.78 of the noise: the
    prior's part is 0.51 for the posterior mean, and its samples add their own."""
    system = case.problem.system()
    assert system.discrepancy(drawn["dds", 0.0][0]) < 0.02
    assert system.discrepancy(drawn["ddnm", 0.0][0]) < 0.02
    assert 0.6 < system.discrepancy(drawn["diffpir", 0.0][0]) < 0.95


def test_total_variation_along_z_smooths_at_the_price_of_the_spread(case: GaussianCase, drawn):
    """Measured in the reference experiment: roughness 1.1 instead of 2.1, variance 0.18 instead of 0.7."""
    smooth = estimates(case, "dds", 3, correlation_mm=0.0, tv=0.02)
    assert sum(case.roughness(x) for x in smooth) / 3 < 0.7 * case.roughness(drawn["dds", 0.0][0])
    assert float(smooth.var(0).mean()) < 0.6 * float(drawn["dds", 0.0].var(0).mean())


# --- every method ------------------------------------------------------------------------------------------

SPREAD = {
    "mbir": (0.85, 1.2), "posterior": (0.88, 1.15), "pigdm": (0.88, 1.15), "dps": (0.85, 1.15), "daps": (1.5, 2.1),
    "dds": (0.6, 0.85), "diffpir": (0.6, 0.85), "flowchef": (0.6, 0.85), "perturb-and-solve": (0.5, 0.75),
    "ddnm": (0.5, 0.75), "ddnm+": (0.35, 0.6), "iscs": (0.3, 0.5),
    "pnp": (0.0, 1e-6), "red": (0.0, 1e-6), "refine": (0.0, 1e-6), "red-diff": (0.0, 1e-2),
}  # fmt: skip
"""Variance of its samples over that of the posterior, least and most, of every diffusion method at 20 levels."""
LOW = {"sigma_max": 0.1, "sigma_min": 0.1}
OWN = {"mbir": {"steps": 40, "lam": 0.0, "rho": 1e-6}, "red": LOW, "refine": LOW | {"empty": 0.0}}
"""Settings of methods with one level, or with a model prior that cannot be left out otherwise."""


ELSEWHERE = {"repaint"}  # for data without noise, with an oracle of its own in test_repaint


@pytest.mark.parametrize("name", [e.name for e in samplers if e.value.needs_prior and e.name not in ELSEWHERE])
def test_every_method_meets_the_posterior(name: str):
    """A spread that is known, around the posterior mean: four samples are as far off as four draws would be, or 60 %
    more; without a spread it is the posterior mean itself, within 2 % of the variance (RED-diff after 20 steps: 15 %).
    """
    case = gaussian_case(8, 32, correlation=1.5)
    wanted = WIDE | {"model_error": 0.0, "trust": 1.0, "correlation_mm": 0.0} | OWN.get(name, {})
    known = {f.name for f in fields(samplers.get(name))}
    sampler, system = make_sampler(name, {k: v for k, v in wanted.items() if k in known}), case.problem.system()
    count = 4 if sampler.stochastic else 2
    samples = torch.stack([run(sampler, system, sample=k).estimate for k in range(count)])
    low, high = SPREAD[name]
    variance = float(samples.var(0).mean()) / case.posterior_variance
    assert low <= variance < high
    assert distance(case, samples.mean(0)) < 1.6 * variance / count + (0.15 if name == "red-diff" else 0.02)
