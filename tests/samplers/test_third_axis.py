"""What holds slices together: model priors along z in the loop, and slices of several directions."""

from __future__ import annotations

from dataclasses import replace
from math import log10

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.operators import MaskedHartley
from helpers.priors import FunctionPrior
from helpers.problems import blocks, projection_problem
from helpers.runs import states
from helpers.traces import dipping, traces
from medrecon.data.volume import Geometry
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.noise import GaussianNoise
from medrecon.physics.seismic import make_trace_mask
from medrecon.prior import GaussianPrior
from medrecon.problem import Problem, System
from medrecon.regularisers import regularisers
from medrecon.samplers import State
from medrecon.samplers.settings import make_sampler, sampler_for
from medrecon.scans import problem_from_scan
from medrecon.solvers import admm

SHAPE = (3, 8, 7)
NOISE = KeyedNoise(4)


def system() -> System:
    """Slices two pixels apart, a prior that multiplies by 0.9, a noisy start."""
    problem = projection_problem(SHAPE, prior=FunctionPrior(lambda x, sigma: 0.9 * x), sigma=0.5)
    start = 0.7 * blocks(SHAPE) + 0.1 * NOISE.volume(9, SHAPE)
    return replace(replace(problem, lower_bound=None).system(), start=start)


@pytest.mark.parametrize("preset", ["pnp", "dds"])
@pytest.mark.parametrize("penalty", ["tv", "huber", "l2", "low-rank"])
def test_every_penalty_lowers_its_own_value(preset: str, penalty: str):
    """Along z, in either data step, the more the larger its weight."""
    made, values = system(), []
    for tv in (0.0, 2.0, 20.0):
        settings = {"tv": tv, "tv_axes": (0,), "penalty": penalty, "noise_scale": 0.0, "cg_iterations": 10}
        *_, last = states(make_sampler(preset, {"steps": 3} | settings), made, NOISE)
        values.append(made.penalty(penalty, (0,)).value(last.estimate))
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.9 * values[0]


def test_penalties_know_the_distance_of_slices():
    """Slices twice as far apart: half the difference."""
    near, far = (replace(projection_problem(SHAPE, spacing=(mm, 1.0, 1.0))).system() for mm in (1.0, 2.0))
    x = NOISE.volume(0, SHAPE)
    for name, power in (("tv", 1), ("l2", 2)):
        ratio = near.penalty(name, (0,)).value(x) / far.penalty(name, (0,)).value(x)
        assert ratio == pytest.approx(2**power, rel=1e-5)


def fading(rows: int) -> Tensor:
    return torch.linspace(0.5, 1, rows)


def cubes() -> System:
    """Voxels of equal sides, and a prior that fades the first rows of its slices."""
    prior = FunctionPrior(lambda x, sigma: x * fading(x.shape[-2])[:, None])
    problem = projection_problem(SHAPE, prior=prior, spacing=(1.0, 1.0, 1.0))
    return replace(replace(problem, lower_bound=None).system(), start=blocks(SHAPE))


@pytest.mark.parametrize(("axis", "rows"), [(0, 1), (1, 0), (2, 1)])
def test_the_prior_sees_slices_of_another_direction(axis: int, rows: int):
    """The rows of its slices lie along y, z and y for slices across z, y and x."""
    made = cubes()
    sampler = make_sampler("pnp", {"steps": 2, "sigma_max": 1.0, "directions": (0, axis) if axis else (0,)})
    x = NOISE.volume(3, SHAPE)
    state = State(1, x, {"x": x})  # the second direction's turn
    found = sampler._denoise(made, x, 0.5, state)
    shape = [SHAPE[rows] if i == rows else 1 for i in range(3)]
    torch.testing.assert_close(found, x * fading(SHAPE[rows]).reshape(shape))


def test_directions_take_turns_and_need_cubes():
    made = cubes()
    settings = {"steps": 4, "directions": (0, 1, 2), "tv": 0.0}
    turns = list(states(make_sampler("diffpir", settings), made, NOISE))
    alone = list(states(make_sampler("diffpir", settings | {"directions": (0,), "correlation_mm": 0.0}), made, NOISE))
    assert torch.equal(turns[1].estimate, alone[1].estimate)
    assert not torch.equal(turns[2].estimate, alone[2].estimate)
    for batch in (1, 3):
        again = list(states(make_sampler("diffpir", settings), replace(made, slice_batch=batch), NOISE))
        assert torch.equal(again[-1].estimate, turns[-1].estimate)
    with pytest.raises(UsageError, match="voxels of equal sides"):
        list(states(make_sampler("diffpir", {"directions": (0, 1)}), system(), NOISE))
    with pytest.raises(UsageError, match="takes slices along z"):
        make_sampler("dps", {"directions": (0, 1)})


@pytest.mark.parametrize(("orientation", "shape", "longest", "turns"), [
    ("any", (32, 33, 34), 1.0, True), ("any", (32, 33, 34), 1.6, True), ("any", (32, 33, 34), 1.7, False),
    ("any", (31, 40, 40), 1.0, False), ("LPS", (32, 33, 34), 1.0, False),
])  # fmt: skip
def test_what_suits_a_prior_in_every_direction_holds_where_it_can_take_them(
    orientation: str, shape: tuple[int, int, int], longest: float, turns: bool
):
    """A prior of any orientation, slices that are wide enough and not stretched; what is said stays."""
    prior = FunctionPrior(lambda x, sigma: 0.9 * x)
    several = {"directions": [0, 1, 2], "steps": 3}
    prior.card = replace(
        prior.card, orientation=orientation, settings={"pnp": {"steps": 2, "trust": 0.2}, "pnp+directions": several}
    )
    made = projection_problem(shape, prior=prior, spacing=(longest, 1.0, 1.0))
    found = sampler_for(made, "pnp", {})
    assert (found.directions, found.steps, found.trust) == (((0, 1, 2), 3, 0.2) if turns else ((0,), 2, 0.2))
    assert sampler_for(made, "pnp", {"directions": (0,)}).directions == (0,)
    if turns:
        assert made.system().across(1).geometry.shape == (shape[1], shape[0], shape[2])
    elif longest > 1.6:
        with pytest.raises(UsageError, match="voxels of equal sides"):
            made.system().across(1)


def test_directions_remove_what_one_direction_leaves():
    """Noisy data of a field: a prior of slices along z alone leaves flicker; slices of three directions leave less.

    The field is alike in all directions, so one prior serves them all. Measured: 0.82 of the squared error.
    """
    made, truth = isotropic_field()
    settings = {"steps": 12, "sigma_max": 1.0, "sigma_min": 0.02, "trust": 1.0, "tv": 0.0, "model_error": 0.0}
    errors = []
    for directions in ((0,), (0, 1, 2)):
        *_, last = states(make_sampler("pnp", settings | {"directions": directions}), made, NOISE)
        errors.append(float((last.estimate - truth).square().mean()))
    assert errors[1] < 0.87 * errors[0]


def isotropic_field(size: int = 16) -> tuple[System, Tensor]:
    """A smooth random field in a cube, all of it measured with much noise, and the exact prior of its slices."""
    frequency = torch.fft.fftfreq(size, d=1 / size)
    squares = frequency[:, None, None] ** 2 + frequency[None, :, None] ** 2 + frequency[None, None] ** 2
    spectrum = (1 + squares / 4) ** -2.5
    white = torch.randn((size,) * 3, generator=torch.Generator().manual_seed(1))
    field = torch.fft.ifftn(torch.fft.fftn(white) * spectrum.sqrt()).real
    scale = 0.2 / float(spectrum.mean().sqrt())
    op = MaskedHartley((size,) * 3, torch.arange(size))
    noise = GaussianNoise(0.3)
    y = noise.sample(op(scale * field), seed=2)
    of_slices = scale**2 * spectrum.mean(dim=0)  # a slice is a sum over the frequencies along its normal
    geometry = Geometry.from_spacing((size,) * 3, (1.0, 1.0, 1.0))
    problem = Problem(op, y, geometry, prior=GaussianPrior(of_slices), noise_model=noise)
    return problem.system(), scale * field


# --- dips --------------------------------------------------------------------------------------------------------
def denoised(noisy: Tensor, name: str, weight: float) -> Tensor:
    """``argmin 1/2 |x - y|^2 + weight R(x)`` with R along the slices."""
    term = regularisers.get(name)(tuple(noisy.shape), axes=(0,)).steered(noisy)
    return admm(lambda v: v, noisy, [term], [weight], x=noisy, rho=[4 * weight], iterations=40, cg_iterations=8).x


def test_dip_takes_off_what_slices_do_not_share():
    """Dipping planes plus an error of each slice by itself: best weight of each penalty, gain in dB.

    Measured: total variation 0.2, squared differences 0.8, along the slopes 5.
    """
    truth = torch.from_numpy(dipping(14, 12, 64, slope=1.4).transpose(0, 2, 1).copy()) / 1000
    error = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    noisy = truth + 0.4 * float(truth.std()) * error

    def decibels(name: str) -> float:
        errors = [float((denoised(noisy, name, w) - truth).square().sum()) for w in (0.03, 0.1, 0.3, 1.0, 3.0)]
        return 10 * log10(float((noisy - truth).square().sum()) / min(errors))

    gains = {name: decibels(name) for name in ("tv", "l2", "dip")}
    assert gains["dip"] > 2 + max(gains["tv"], gains["l2"])


def test_dip_holds_the_loop_together_better():
    """In the loop itself: a prior that blurs slices, half of the traces missing; slopes renewed in every step."""
    live = make_trace_mask("random", (12, 20), 0.5, seed=1)
    truth = dipping(12, 20, 48, slope=1.2).transpose(0, 2, 1) / 1000
    given = traces(live, rows=12, columns=20, samples=48, slope=1.2)
    problem = replace(
        problem_from_scan(given, prior=FunctionPrior(lambda x, sigma: 0.95 * x)), unit=1000.0, quantity="a.u."
    )
    system = replace(problem.system(), start=torch.from_numpy(np.where(live[:, None], truth, 0).astype(np.float32)))
    errors = {}
    for penalty in ("tv", "l2", "dip"):
        found = []
        for weight in (3.0, 30.0, 300.0):
            settings = {"steps": 6, "penalty": penalty, "tv_axes": (0,), "tv": weight, "model_error": 0.1}
            *_, last = states(make_sampler("pnp", settings), system, NOISE)
            found.append(float(np.square((last.estimate.numpy() - truth).transpose(0, 2, 1)[~live]).sum()))
        errors[penalty] = min(found)
    assert errors["dip"] < 0.7 * min(errors["tv"], errors["l2"])


def test_dip_is_a_property_of_rows_and_columns():
    with pytest.raises(UsageError, match="rows and columns"):
        regularisers.get("dip")(SHAPE, axes=(0, 1, 2))
    assert regularisers.get("dip")(SHAPE, axes=(0, 2)).K.range.shape == (2, *SHAPE)
