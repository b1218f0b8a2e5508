"""Published methods one by one, against dense algebra, automatic differentiation and fixed points in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.operators import as_matrix
from helpers.priors import SMALL, FunctionPrior, card, random_denoiser, small_network_prior
from helpers.problems import blocks, gaussian_case, projection_problem
from helpers.runs import run, states
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.linop import Stack
from medrecon.prior import NetworkPrior
from medrecon.problem import System
from medrecon.samplers import State
from medrecon.samplers.guidance import pseudo_inverse_guidance, residual_gradient
from medrecon.samplers.red_diff import adam
from medrecon.samplers.settings import make_sampler

SHAPE = (3, 8, 7)
NOISE = KeyedNoise(4)
WHITE = 0.3
"""Variance of a white prior, for which everything is known."""


def system(prior=None, **changes: object) -> System:
    prior = prior or FunctionPrior(lambda x, sigma: x * WHITE / (WHITE + sigma**2))
    problem = replace(projection_problem(SHAPE, prior=prior, sigma=0.3), lower_bound=None)
    return replace(problem.system(), start=0.7 * blocks(SHAPE), **changes)


def random(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b.to(a.dtype).reshape(a.shape), atol=tolerance, rtol=1e-3)


# --- the derivative of the prior ---------------------------------------------------------------------------


@pytest.mark.parametrize("slice_batch", [1, 2, 8])
def test_the_product_with_the_derivative(slice_batch: int):
    """Through units, region and flips of the system: against differences, in few slices at a time."""
    made = system(small_network_prior(), slice_batch=slice_batch)
    x, v, direction = random(0), random(1), random(2)
    step = 1e-2
    ahead, behind = (made.denoise(x + sign * step * direction, 0.4) for sign in (1, -1))
    expected = float(((ahead - behind) / (2 * step) * v).sum())
    assert float((made.denoise_vjp(x, 0.4, v) * direction).sum()) == pytest.approx(expected, rel=2e-3, abs=1e-3)


def test_the_derivative_holds_a_few_slices_at_a_time():
    seen = []

    def prior(x: Tensor, sigma: float) -> Tensor:
        seen.append((len(x), x.requires_grad))
        return x.square()

    made, x = system(FunctionPrior(prior), slice_batch=2), random(0)
    close(made.denoise_vjp(x, 0.4, torch.ones(SHAPE)), 2 * x)
    assert seen == [(2, True), (1, True)]


def test_a_prior_without_derivative_is_refused():
    made = system(FunctionPrior(lambda x, sigma: x.detach()))
    with pytest.raises(UsageError, match="differentiates the prior"):
        run(make_sampler("dps", {"steps": 2}), made)


def test_an_ordinary_evaluation_keeps_no_graph():
    assert not small_network_prior().denoise(random(0)[:, None], 0.4).requires_grad


# --- guidance ----------------------------------------------------------------------------------------------


def test_pigdm_is_exact_for_a_white_prior():
    """``E[x0 | x, y]`` with the prior's variance S: precision ``A'A / e^2 + 1 / S + 1 / s^2``."""
    made, x, sigma = system(), random(3), 0.6
    error = made.noise_level
    radius = (WHITE * sigma**2 / (WHITE + sigma**2)) ** 0.5
    clean = made.denoise(x, sigma)
    found = clean + pseudo_inverse_guidance(made, x, clean, sigma, radius, error, 200)
    matrix = as_matrix(made.op).double()
    precision = matrix.T @ matrix / error**2 + (1 / WHITE + 1 / sigma**2) * torch.eye(x.numel(), dtype=torch.float64)
    right = matrix.T @ made.y.double().reshape(-1) / error**2 + x.double().reshape(-1) / sigma**2
    close(found, torch.linalg.solve(precision, right), 1e-3)


def test_dps_descends_the_residual_through_the_network():
    """The gradient of the norm of each slice's residual with respect to the noisy volume, by one graph of all."""
    made, x = system(small_network_prior()), random(3)
    noisy = x.clone().requires_grad_()
    assert made.region == (slice(0, 8), slice(0, 7))
    clean = made._denoise_stacks(noisy[:, None], torch.arange(len(x))[:, None], 0.4)[:, 0]
    residual = made.y - made.op(clean)
    norms = residual.square().mean(dim=(0, 2)).sqrt()  # (views, slices, columns)
    (gradient,) = torch.autograd.grad(norms.sum(), noisy)
    count = residual[:, 0].numel()
    close(residual_gradient(made, x, made.denoise(x, 0.4), 0.4), -gradient * count, 2e-3)


def test_dps_steps_along_it():
    """After the step of the prior alone, ``zeta`` times the gradient."""
    made = system()
    sampler = make_sampler("dps", {"steps": 3, "sigma_max": 0.8, "zeta": 0.05, "stepper": "ddim"})
    before, after = list(states(sampler, made, NOISE))[:2]
    x, following = before.tensors["x"], sampler.levels()[1]
    clean = made.denoise(x, 0.8)
    pulled = 0.05 * residual_gradient(made, x, clean, 0.8)
    close(after.tensors["x"], clean + following * (x - clean) / 0.8 + pulled)


def test_the_slices_of_the_data_are_found():
    assert system().slice_axis == 1  # (views, slices, columns)
    assert gaussian_case(4, 8).problem.system().slice_axis == 0
    made = system()
    coupled = Stack([made.op, made.op])
    coupled.couples_slices = True
    assert replace(made, op=coupled).slice_axis is None
    assert replace(made, geometry=replace(made.geometry, shape=(1, 8, 7))).slice_axis is None


# --- perturbed solves --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "radius"), [("perturb-and-solve", "matched"), ("daps", "level"), ("ddnm+", "next")])
def test_a_step_is_a_perturbed_solve(name: str, radius: str):
    made = system()
    settings = {"steps": 3, "sigma_max": 0.8, "ode_steps": 1, "cg_iterations": 200, "model_error": 0.0}
    sampler = make_sampler(name, settings | {"correlation_mm": 0.0})
    before, after = list(states(sampler, made, NOISE))[:2]
    following, error = sampler.levels()[1], made.noise_level
    r = {"matched": made.prior_error(0.8), "level": 0.8, "next": following}[radius]
    fresh, inner = NOISE.volume(1, SHAPE), NOISE.volume(2, SHAPE)
    of_data = NOISE.volume(3, (SHAPE[0], made.y.shape[0], made.y.shape[2])).movedim(0, 1)
    centre = made.denoise(before.tensors["x"], 0.8) + r * (inner - fresh if name == "ddnm+" else inner)
    matrix = as_matrix(made.op).double()
    damping = (error / r) ** 2
    left = matrix.T @ matrix + damping * torch.eye(matrix.shape[1], dtype=torch.float64)
    right = matrix.T @ (made.y + error * of_data).double().reshape(-1) + damping * centre.double().reshape(-1)
    drawn = torch.linalg.solve(left, right).reshape(SHAPE).float()
    close(after.tensors["x"], drawn + following * fresh, 1e-3)


def test_ddnm_plus_adds_up_to_the_level():
    """Noise of the data in the volume, noise of the draw and fresh noise: together ``s'^2`` in every direction."""
    made, level = system(), 0.4
    matrix = as_matrix(made.op).double()
    unit = torch.eye(matrix.shape[1], dtype=torch.float64)
    error, damping = made.noise_level, (made.noise_level / level) ** 2
    inverse = torch.linalg.inv(matrix.T @ matrix + damping * unit)
    of_data = error * inverse @ matrix.T  # once from the measurement, once more from the perturbation
    inner = damping * level * inverse
    fresh = level * (unit - damping * inverse)
    total = 2 * of_data @ of_data.T + inner @ inner.T + fresh @ fresh.T
    torch.testing.assert_close(total, level**2 * unit, atol=1e-9, rtol=0)


def test_daps_follows_the_flow_to_its_end():
    """``x sqrt(S / (S + s^2))``, at first order within 5 % in 40 steps."""
    made, x = system(), random(5)
    sampler = make_sampler("daps", {"ode_steps": 40, "sigma_min": 0.01})
    end = sampler._estimate(made, x, 0.8)
    close(end, x * (WHITE / (WHITE + 0.8**2)) ** 0.5, 0.05 * float(x.abs().max()))


# --- red and red-diff --------------------------------------------------------------------------------------


def test_red_ends_at_its_fixed_point():
    """White prior: ``(x - D) / s^2 = x / (S + s^2)``, so a ridge regression with the variance ``S + s^2``."""
    made, sigma = system(), 0.5
    settings = {"sigma_max": sigma, "sigma_min": sigma, "steps": 40, "model_error": 0.0, "cg_iterations": 100}
    found = run(make_sampler("red", settings), made).estimate
    matrix = as_matrix(made.op).double()
    left = matrix.T @ matrix + made.noise_level**2 / (WHITE + sigma**2) * torch.eye(matrix.shape[1]).double()
    close(found, torch.linalg.solve(left, matrix.T @ made.y.double().reshape(-1)), 2e-3)


def test_adam_is_that_of_torch():
    x = random(0)
    parameter = x.clone().requires_grad_()
    optimiser = torch.optim.Adam([parameter], lr=0.05, betas=(0.9, 0.99))
    moments = {"mean": torch.zeros(SHAPE), "square": torch.zeros(SHAPE)}
    for count in range(1, 6):
        gradient = random(count)
        parameter.grad = gradient.clone()
        optimiser.step()
        x, moments = adam(x, gradient, moments, count, 0.05)
        close(x, parameter.detach(), 1e-5)


def test_red_diff_approaches_the_posterior_mean():
    """Measured 0.036 of the posterior variance away after 100 steps, 0.15 dB."""
    case = gaussian_case(8, 32, correlation=1.5)
    settings = {"sigma_max": 2.0, "sigma_min": 0.005, "model_error": 0.0}
    x = run(make_sampler("red-diff", settings), case.problem.system()).estimate
    assert float((x - case.posterior_mean).square().mean()) < 0.06 * case.posterior_variance
    assert case.psnr(x) > case.psnr(case.posterior_mean) - 0.4


# --- steering and shared noise -----------------------------------------------------------------------------


def test_flowchef_moves_the_state_by_the_best_gradient_step():
    """Along the flow, plus ``a A'(y - A D)`` with the length that lowers the residual most."""
    made = system()
    sampler = make_sampler("flowchef", {"steps": 4})
    before, after = list(states(sampler, made, NOISE))[:2]
    x, following = before.tensors["x"], sampler.levels()[1]
    clean = made.denoise(x, 1.0)
    gradient = made.op.adjoint(made.y - made.op(clean))
    length = gradient.square().sum() / made.op(gradient).square().sum()
    close(after.tensors["x"], clean + following * (x - clean) + length * gradient, 1e-4)
    times = torch.tensor(sampler.levels()[:-1]) / (1 + torch.tensor(sampler.levels()[:-1]))
    close(times.diff(), times.diff().mean().expand(3), 1e-6)


def test_shared_noise_leaves_no_flicker():
    case = gaussian_case(8, 32, correlation=1.5)
    made = case.problem.system()
    found = {
        mm: case.roughness(run(make_sampler("iscs", {"sigma_max": 2.0, "correlation_mm": mm}), made).estimate)
        for mm in (0.0, 1.5)
    }
    assert found[0.0] > 1.4
    assert found[1.5] < 1.15


def test_error_bars_are_made_without_a_guide():
    """A guide is made of the data, which would count twice: the start changes the first noisy volume alone."""
    denoiser = random_denoiser(replace(SMALL, channels_in=4))
    made = system(NetworkPrior(denoiser, card()))
    x = random(2)
    for guided in (True, False):
        sampler = make_sampler("posterior", {"guided": guided})
        found = sampler._denoise(made, x, 0.4, State(0, x))
        assert torch.equal(found, made.denoise(x, 0.4)) == guided
        unguided = replace(made, start=None).denoise(x, 0.4)
        assert torch.equal(found, unguided) != guided
