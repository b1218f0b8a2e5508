"""Single steps of the diffusion loop against their formulas, and the presets' differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.operators import as_matrix
from helpers.priors import FunctionPrior
from helpers.problems import blocks, projection_problem
from helpers.runs import states
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers import samplers
from medrecon.samplers.settings import make_sampler

SHAPE = (3, 8, 7)
NOISE = KeyedNoise(4)


def system(shrink: float = 0.9, **changes: object) -> System:
    """A prior that multiplies by ``shrink``; no lower bound; a start with the wrong contrast.

    The data are noisy, so that every frequency of the proximal step is decided within CG's tolerance.
    """
    problem = projection_problem(SHAPE, prior=FunctionPrior(lambda x, sigma: shrink * x), sigma=0.5)
    return replace(replace(problem, lower_bound=None).system(), start=0.7 * blocks(SHAPE), **changes)


def first_states(made: System, count: int, preset: str = "pnp", **settings: object) -> list:
    sampler = make_sampler(preset, {"tv": 0.0, "cg_iterations": 200} | settings)
    found = states(sampler, made, NOISE)
    return [next(found) for _ in range(count + 1)]


def proximal(made: System, clean: Tensor, radius: float) -> Tensor:
    """``argmin 1/2 ||A x - y||^2 / noise^2 + ||x - clean||^2 / (2 radius^2)`` by a dense solve."""
    matrix = as_matrix(made.op).double()
    damping = (made.noise_level / radius) ** 2
    left = matrix.T @ matrix + damping * torch.eye(matrix.shape[1], dtype=torch.float64)
    right = matrix.T @ made.y.double().reshape(-1) + damping * clean.double().reshape(-1)
    return torch.linalg.solve(left, right).reshape(SHAPE).float()


def close(a: Tensor, b: Tensor, tolerance: float = 2e-4) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def test_levels_fall_to_zero():
    levels = make_sampler("pnp", {"steps": 5, "sigma_max": 0.8, "sigma_min": 0.1}).levels()
    assert len(levels) == 6
    assert levels[-1] == 0.0
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.8)
    assert levels[-2] == pytest.approx(0.1)


def test_the_run_begins_at_the_start_and_the_noise_of_the_first_level():
    made = system()
    (plain,) = first_states(made, 0)
    assert torch.equal(plain.tensors["x"], made.start)
    (noisy,) = first_states(made, 0, "diffpir", sigma_max=0.8, correlation_mm=3.0)
    assert torch.equal(noisy.estimate, made.start)
    close(noisy.tensors["x"], made.start + 0.8 * NOISE.volume(0, SHAPE, 1.5), 1e-6)  # 3 mm are 1.5 slices of 2 mm


def test_without_a_start_the_run_begins_at_zero():
    (state,) = first_states(replace(system(), start=None), 0)
    assert torch.equal(state.tensors["x"], torch.zeros(SHAPE))


@pytest.mark.parametrize("trust", [0.5, 1.0, 3.0])
def test_a_step_is_the_prior_and_then_the_data(trust: float):
    """CG in the loop stops at 1e-4 of the right-hand side."""
    made = system()
    before, after = first_states(made, 1, trust=trust, sigma_max=0.1)
    close(after.estimate, proximal(made, 0.9 * before.tensors["x"], trust * 0.1), 2e-3)
    assert torch.equal(after.tensors["x"], after.estimate)  # no noise is put back


def test_the_radius_can_follow_the_priors_error():
    """``matched`` reads the error at the level from the card: 0.05 at sigma 0.1."""
    made = system()
    curve = ((0.02, 0.02), (0.1, 0.05))
    made = replace(made, prior=FunctionPrior(lambda x, sigma: 0.9 * x, error_curve=curve))
    before, after = first_states(made, 1, error="matched", trust=1.0, sigma_max=0.1)
    close(after.estimate, proximal(made, 0.9 * before.tensors["x"], 0.05), 2e-3)


def test_a_model_error_adds_to_the_noise():
    """5 % of the root-mean-square datum, in quadrature."""
    made = system()
    before, after = first_states(made, 1, model_error=0.05, trust=1.0, sigma_max=0.1)
    added = 0.05 * float(torch.linalg.vector_norm(made.y)) / made.y.numel() ** 0.5
    louder = replace(made, noise_level=(made.noise_level**2 + added**2) ** 0.5)
    close(after.estimate, proximal(louder, 0.9 * before.tensors["x"], 0.1), 2e-3)


@pytest.mark.parametrize("effective", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_the_noise_that_is_put_back(eta: float, effective: bool):
    """``s_next (eta n + sqrt(1 - eta^2) e)``, e from the denoised volume or, in DiffPIR, from the fitted one."""
    made = system()
    settings = {"eta": eta, "effective_noise": effective, "sigma_max": 0.1, "steps": 3, "correlation_mm": 0.0}
    before, after = first_states(made, 1, "diffpir", **settings)
    following = make_sampler("diffpir", settings).levels()[1]
    x = before.tensors["x"]
    seen = (x - (after.estimate if effective else 0.9 * x)) / 0.1
    mixture = eta * NOISE.volume(1, SHAPE) + (1 - eta**2) ** 0.5 * seen
    close(after.tensors["x"], after.estimate + following * mixture, 1e-5)


def test_the_last_step_adds_no_noise():
    *_, last = first_states(system(), 3, "dds", steps=3)
    assert torch.equal(last.tensors["x"], last.estimate)


def test_a_krylov_step_is_a_few_conjugate_gradients():
    """One iteration is one steepest-descent step of ``||A x - y||^2`` with its optimal length."""
    made = system()
    before, after = first_states(made, 1, "dds", cg_iterations=1, noise_scale=0.0)
    clean = 0.9 * before.tensors["x"]
    gradient = made.op.adjoint(made.y - made.op(clean))
    length = gradient.square().sum() / made.op(gradient).square().sum()
    close(after.estimate, clean + length * gradient, 1e-5)


def test_a_range_step_changes_only_what_the_data_see():
    """``x0 + A^+ (y - A x0)``: the change lies in the range of ``A'`` and, without noise, the data are met."""
    made = system()
    truth = blocks(SHAPE)
    made = replace(made, y=made.op(truth))
    before, after = first_states(made, 1, "ddnm", noise_scale=0.0, cg_iterations=30)
    change = (after.estimate - 0.9 * before.tensors["x"]).reshape(-1).double()
    matrix = as_matrix(made.op).double()
    _, values, rows = torch.linalg.svd(matrix, full_matrices=True)
    null = rows[int((values > 1e-6 * values[0]).sum()) :]
    assert len(null) > 0
    assert float((null @ change).norm()) < 1e-4 * float(change.norm())  # rounding
    residual = float(torch.linalg.vector_norm(made.data_residual(after.estimate)))
    assert residual < 0.02 * float(torch.linalg.vector_norm(made.data_residual(0.9 * before.tensors["x"])))


@pytest.mark.parametrize("preset", ["pnp", "dds"])
def test_the_model_prior_flattens(preset: str):
    """Total variation inside the step lowers that of the result, the more the larger its weight."""
    made = system()
    made = replace(made, start=made.start + 0.1 * NOISE.volume(9, SHAPE))
    variations = []
    for tv in (0.0, 0.1, 2.0):
        *_, last = first_states(made, 3, preset, tv=tv, noise_scale=0.0, cg_iterations=10)
        variations.append(made.total_variation(last_axes(preset)).value(last.estimate))
    assert variations == sorted(variations, reverse=True)
    assert variations[2] < 0.9 * variations[0]


def last_axes(preset: str) -> tuple[int, ...]:
    return make_sampler(preset, {}).tv_axes


def test_presets_are_what_their_papers_say():
    dds, diffpir, ddnm, pnp = (make_sampler(name, {}) for name in ("dds", "diffpir", "ddnm", "pnp"))
    assert (dds.eta, dds.data_step, dds.cg_iterations, dds.tv_axes) == (0.16, "krylov", 5, (0,))
    assert diffpir.effective_noise
    assert ddnm.data_step == "range"
    assert pnp.noise_scale == 0.0
    assert all(s.noise_scale == 1.0 for s in (dds, diffpir, ddnm))


@pytest.mark.parametrize(
    ("steps", "eta"), [(10, 0.15), (19, 0.15), (20, 0.16), (49, 0.5), (74, 0.65), (99, 0.8), (500, 0.8)]
)
def test_dds_takes_the_published_share_of_fresh_noise(steps: int, eta: float):
    """Chung et al. 2024: 0.15, 0.5 and 0.8 for 19, 49 and 99 evaluations."""
    assert make_sampler("dds", {"steps": steps}).eta == eta
    assert make_sampler("dds", {"steps": steps, "eta": 0.85}).eta == 0.85
    assert make_sampler("dds", {}) == make_sampler("dds", {"steps": 20}) == samplers.get("dds")()


def test_levels_beyond_the_priors_are_refused():
    with pytest.raises(UsageError, match="not trained on this noise level"):
        first_states(system(), 1, sigma_max=4.0)
