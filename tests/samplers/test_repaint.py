"""RePaint on missing traces, against the exact posterior of a Gaussian field of which some traces are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from helpers.priors import FunctionPrior
from helpers.runs import run
from medrecon.data.volume import Geometry
from medrecon.errors import UsageError
from medrecon.physics.seismic import TraceMask
from medrecon.prior import GaussianPrior
from medrecon.problem import Problem, System
from medrecon.samplers.settings import make_sampler

ROWS, SIZE, SAMPLES = 6, 12, 8
LEVELS = {"sigma_max": 2.0, "sigma_min": 0.01, "correlation_mm": 0.0, "steps": 40}


@dataclass(frozen=True)
class Case:
    """Sections that are periodic Gaussian fields, some traces missing between others, and what is then known."""

    system: System
    missing: Tensor  # bool (rows, time, columns)
    mean: Tensor
    variance: float  # mean over the missing samples


@pytest.fixture(scope="module")
def case() -> Case:
    """The posterior by dense algebra: ``C_mk C_kk^-1 y`` and ``C_mm - C_mk C_kk^-1 C_km`` in each section."""
    generator = torch.Generator().manual_seed(3)
    frequency = torch.fft.fftfreq(SIZE, d=1 / SIZE, dtype=torch.float64)
    spectrum = (1 + (frequency[:, None] ** 2 + frequency[None] ** 2) / 9) ** -2.0
    spectrum = 0.04 * spectrum / spectrum.mean()
    impulses = torch.eye(SIZE * SIZE, dtype=torch.float64).reshape(-1, SIZE, SIZE)
    covariance = torch.fft.ifft2(spectrum * torch.fft.fft2(impulses)).real.reshape(SIZE * SIZE, -1)
    white = torch.randn((ROWS, SIZE, SIZE), generator=generator, dtype=torch.float64)
    truth = torch.fft.ifft2(spectrum.sqrt() * torch.fft.fft2(white)).real
    live = torch.rand((ROWS, SIZE), generator=generator) < 0.7
    live[:, ::2] = True
    op = TraceMask((ROWS, SIZE, SIZE), live)
    mean, variances = truth.clone(), []
    for row in range(ROWS):
        known = live[row].expand(SIZE, SIZE).reshape(-1)
        gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, ~known]).T
        mean[row].reshape(-1)[~known] = gain @ truth[row].reshape(-1)[known]
        variances.append((covariance[~known][:, ~known] - gain @ covariance[known][:, ~known]).diagonal())
    problem = Problem(op, op(truth.float()), Geometry.from_spacing((ROWS, SIZE, SIZE), (1.0, 1.0, 1.0)),
                      prior=GaussianPrior(spectrum.float()))  # fmt: skip
    missing = ~live[:, None, :].expand(ROWS, SIZE, SIZE)
    return Case(problem.system(), missing, mean.float(), float(torch.cat(variances).mean()))


def drawn(case: Case, **settings: object) -> Tensor:
    sampler = make_sampler("repaint", LEVELS | settings)
    return torch.stack([run(sampler, case.system, sample=k).estimate for k in range(SAMPLES)])


def distance(case: Case, x: Tensor) -> float:
    """Mean squared distance to the posterior mean over the posterior variance, at missing samples."""
    return float((x - case.mean)[case.missing].square().mean()) / case.variance


def spread(case: Case, samples: Tensor) -> float:
    return float(samples.var(0)[case.missing].mean()) / case.variance


def test_samples_are_those_of_the_posterior(case: Case):
    samples = drawn(case)
    assert 0.8 < spread(case, samples) < 1.25
    assert distance(case, samples.mean(0)) < 1.5 / SAMPLES
    known = ~case.missing
    assert torch.allclose(samples[0][known], case.mean[known], atol=1e-5)


def test_without_resampling_filled_and_known_traces_do_not_agree(case: Case):
    """What the paper's resampling is for: the prior's step has not seen what is put beside it."""
    once, again = drawn(case, visits=1), drawn(case)
    assert distance(case, once.mean(0)) > 2 * distance(case, again.mean(0))


def test_levels_are_gone_through_again():
    sampler = make_sampler("repaint", {"steps": 6, "jump": 2, "visits": 3})
    assert sampler.path() == [(0, 1), (1, 0), (0, 1), (1, 0), (0, 1), (1, 2), (2, 3), (3, 2), (2, 3), (3, 2), (2, 3),
                              (3, 4), (4, 5), (5, 6)]  # fmt: skip
    assert sampler.total_steps == sampler.evaluations() == 14
    assert make_sampler("repaint", {"visits": 1}).evaluations() == 50
    assert make_sampler("repaint", {}).evaluations() == 185
    with pytest.raises(UsageError, match="jump"):
        make_sampler("repaint", {"jump": 0})


def test_sections_are_taken_in_turns_where_there_are_enough(case: Case):
    settings = TraceMask((8, 20, 9), torch.ones(8, 9, dtype=torch.bool)).method_settings["repaint"]
    assert settings == {"directions": (0, 2)}
    seen = []

    def prior(x: Tensor, sigma: float) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return x / (1 + sigma**2)

    run(make_sampler("repaint", {"directions": (0, 2), "steps": 4, "visits": 1}),
        replace(case.system, prior=FunctionPrior(prior), slice_batch=99))  # fmt: skip
    assert seen == [(SIZE, SIZE), (SIZE, ROWS)] * 2
