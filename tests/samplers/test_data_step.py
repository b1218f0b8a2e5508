"""What a data step may do where there is nothing, and mirror images of slices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.priors import FunctionPrior
from helpers.problems import blocks, projection_problem
from helpers.runs import run
from medrecon.errors import UsageError
from medrecon.problem import System
from medrecon.samplers.settings import make_sampler
from medrecon.solvers import least_squares_gram

SHAPE = (4, 20, 18)


def system(prior: FunctionPrior, sigma: float = 0.05) -> System:
    return replace(projection_problem(SHAPE, prior=prior, sigma=sigma).system(), start=blocks(SHAPE))


def fitted(made: System, **settings: object) -> torch.Tensor:
    plain = {"steps": 1, "tv": 0.0, "cg_iterations": 400, "iterations": 1, "sigma_max": 0.5, "sigma_min": 0.5}
    return run(make_sampler("pnp", plain | settings), made).estimate


def test_empty_space_begins_two_pixels_from_the_object():
    made = system(FunctionPrior(lambda x, sigma: x))
    x = torch.full(SHAPE, float(made.background))
    x[1, 8, 9] = made.background + 0.5
    empty = made.empty(x)
    occupied = torch.zeros(SHAPE, dtype=torch.bool)
    occupied[1, 6:11, 7:12] = True
    assert torch.equal(empty, ~occupied)


def test_a_voxelwise_trust_solves_its_normal_equations():
    """``(A'A + D) x = A'y + D x0`` with D larger in empty space."""
    made = replace(system(FunctionPrior(lambda x, sigma: 0.9 * x)), lower=None)
    clean = made.denoise(made.start, 0.5)
    found = fitted(made, trust=0.3, empty=0.01)
    error = made.data_error(0.01)
    damping = torch.where(made.empty(clean), (error / 0.01) ** 2, (error / 0.15) ** 2)
    residual = least_squares_gram(made.op, damping)(found) - (made.back_projection + damping * clean)
    assert residual.norm() < 1e-4 * made.back_projection.norm()
    assert made.empty(clean).any()


def test_empty_space_stays_emptier():
    made = system(FunctionPrior(lambda x, sigma: x))
    outside = made.empty(made.start)
    spill = [float(fitted(made, empty=empty)[outside].square().mean()) for empty in (0.0, 0.001)]
    assert spill[1] < 0.1 * spill[0]


def test_mirror_images_are_averaged():
    """A prior that knows left from right and up from down: the mean over mirror images does not."""
    ramp = torch.linspace(0, 1, SHAPE[1])[:, None] + torch.linspace(0, 2, SHAPE[2])[None]
    made = replace(system(FunctionPrior(lambda x, sigma: x * 0 + ramp)), start=None)
    x = blocks(SHAPE)
    two, four = made.denoise(x, 0.5, mirrors=2), made.denoise(x, 0.5, mirrors=4)
    torch.testing.assert_close(two, ((ramp + ramp.flip(1)) / 2).expand(SHAPE), atol=1e-6, rtol=0)
    torch.testing.assert_close(four, torch.full(SHAPE, 1.5), atol=1e-6, rtol=0)


def test_mirror_images_count_as_evaluations():
    assert make_sampler("pnp", {"steps": 5, "mirrors": 4}).evaluations() == 20
    with pytest.raises(UsageError, match="mirror"):
        make_sampler("pnp", {"mirrors": 3})
