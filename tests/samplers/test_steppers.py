"""Time steppers against closed forms: a Gaussian prior, whose probability flow and whose samples are known.

With variance S the denoiser is ``S / (S + s^2) x`` and the flow ``x(s) = x(s0) sqrt((S + s^2) / (S + s0^2))``.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, log2, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.problems import gaussian_case
from helpers.runs import run, states
from medrecon.checkpoint import RunKey, empty_progress, load_progress, save_progress
from medrecon.engine import make_sampler
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.samplers.steppers import Place, exponential_weights, interpolating_weights, steppers
from medrecon.schedules import schedules

VARIANCES = torch.tensor([0.01, 0.25, 4.0], dtype=torch.float64)
HIGH, LOW = 2.0, 0.1
ORDERS = {"ddim": 1, "dpm++2m": 2, "dpm++3m": 3, "sde-dpm++2m": 2, "unipc": 3, "heun": 2, "ipndm": 4, "pndm": 4, "dpm-v3": 3}
NAMES = steppers.names()


def denoise(x: Tensor, sigma: float) -> Tensor:
    return x * (VARIANCES / (VARIANCES + sigma**2)).reshape(-1, *[1] * (x.ndim - 1))


def solution(sigma: float) -> Tensor:
    return ((VARIANCES + sigma**2) / (VARIANCES + HIGH**2)).sqrt()


def integrate(name: str, levels: list[float], known: int = 0) -> Tensor:
    """The flow from the first level to the last. The first ``known`` steps end on the true solution, so that only the
    rule itself shows and not how it begins."""
    stepper, memory, x = steppers.get(name)(), {}, solution(levels[0])
    for i in range(len(levels) - 1):
        clean = denoise(x, levels[i])
        place = Place(levels[: i + 1], levels[i + 1], levels[i + 1])
        x = stepper.corrected(x, clean, place, memory)
        x, memory = stepper.advance(x, clean, place, memory, denoise)
        if i < known:
            x = solution(levels[i + 1])
            if "moved" in memory:
                memory["moved"] = x
    return x


def error(name: str, steps: int, schedule: str) -> float:
    levels = schedules.get(schedule)(HIGH, LOW, steps + 1).tolist()
    return float((integrate(name, levels, known=3) - solution(LOW)).abs().max())


def test_every_stepper_has_a_known_order():
    assert set(ORDERS) == set(NAMES)


@pytest.mark.parametrize("schedule", ["log", "edm", "vp"])
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_convergence(name: str, schedule: str):
    """Half the steps, ``2^order`` times the error."""
    observed = log2(error(name, 80, schedule) / error(name, 160, schedule))
    assert observed == pytest.approx(ORDERS[name], abs=0.35)


def test_more_order_helps_at_ten_steps():
    """From the start to the end, the beginning included.

    Measured on logarithmic levels: 0.026 for DDIM, 0.0014 for two estimates, 0.0008 with UniPC's corrector, 0.0026 for
    Heun at twice the evaluations; three estimates (0.008) and iPNDM (0.009) suffer from how they begin.
    """
    levels = schedules.get("log")(HIGH, LOW, 11).tolist()
    errors = {name: float((integrate(name, levels) - solution(LOW)).abs().max()) for name in NAMES}
    assert all(errors[name] < 0.5 * errors["ddim"] for name in NAMES if name != "ddim")
    assert errors["dpm++2m"] < 0.1 * errors["ddim"]
    assert errors["unipc"] < 0.7 * errors["dpm++2m"]


@pytest.mark.parametrize("name", NAMES)
def test_the_last_step_to_zero_is_the_estimate(name: str):
    stepper, x = steppers.get(name)(), torch.randn(3, generator=torch.Generator().manual_seed(0)).double()
    clean = denoise(x, 0.5)
    moved, _ = stepper.advance(x, clean, Place([0.5], 0.0, 0.0), {}, denoise)
    assert torch.equal(moved, clean)


@pytest.mark.parametrize("name", NAMES)
def test_no_step_moves_nothing(name: str):
    stepper, x = steppers.get(name)(), torch.ones(3, dtype=torch.float64)
    moved, memory = stepper.advance(x, denoise(x, 0.5), Place([0.5], 0.5, 0.5), {}, denoise)
    assert torch.equal(moved, x)
    again, _ = stepper.advance(x, denoise(x, 0.5), Place([0.5, 0.5], 0.4, 0.4), memory, denoise)
    assert torch.isfinite(again).all()


# --- coefficients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1e-3, 0.3, 0.999, 1.001, 4.0])
def test_the_weights_integrate_polynomials(step: float):
    """Against Gauss quadrature; below and above one, another formula is used."""
    nodes = [0.0, -0.4, -1.1, 0.7]
    points, shares = np.polynomial.legendre.leggauss(50)
    points, shares = 0.5 * step * (points + 1), 0.5 * step * shares
    for degree in range(4):
        values = np.array(nodes) ** degree
        kernel = np.exp(points - step)
        assert exponential_weights(nodes, step) @ values == pytest.approx(shares @ (kernel * points**degree), rel=1e-8)
        assert interpolating_weights(nodes, step) @ values == pytest.approx(shares @ points**degree, rel=1e-8)


def test_ipndm_is_the_published_formula_on_equidistant_levels():
    assert interpolating_weights([0.0, 0.1, 0.2, 0.3], -0.1) * 24 / -0.1 == pytest.approx([55, -59, 37, -9])


def test_two_estimates_are_the_published_ones_up_to_the_order():
    """DPM-Solver++(2M): ``(1 - exp(-h)) ((1 + 1 / 2r) D0 - D1 / 2r)``, r the last step over h; differs at h^3."""
    differences = []
    for h in (0.1, 0.05):
        weights = exponential_weights([0.0, -1.5 * h], h)
        published = (1 - exp(-h)) * np.array([1 + 1 / 3, -1 / 3])
        differences.append(float(np.abs(weights - published).max()))
    assert differences[0] < 0.1**2
    assert log2(differences[0] / differences[1]) == pytest.approx(2, abs=0.1)  # times D0 - D1, one order more


def test_ddim_is_the_published_step():
    """``down / s`` of the noise stays: ``D + down (x - D) / s``."""
    x, clean = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.1])
    moved, memory = steppers.get("ddim")().advance(x, clean, Place([0.8], 0.4, 0.3), {}, denoise)
    torch.testing.assert_close(moved, clean + 0.3 * (x - clean) / 0.8)
    assert memory == {}


# --- the stochastic equation -------------------------------------------------------------------------------


def spread(name: str, steps: int, eta: float) -> float:
    """Largest relative error of the variance at the end, without sampling: all is linear in the noise that went in,
    so one row of ``x`` for each variance holds the coefficients of all noises."""
    levels = schedules.get("log")(20.0, 0.01, steps + 1).tolist()
    stepper, memory = steppers.get(name)(), {}
    x = torch.zeros(len(VARIANCES), steps + 1, dtype=torch.float64)
    x[:, 0] = (VARIANCES + levels[0] ** 2).sqrt()
    for i, (level, following) in enumerate(pairwise(levels)):
        clean = denoise(x, level)
        share = stepper.fresh_share(eta, level, following)
        place = Place(levels[: i + 1], following, following * sqrt(1 - share**2))
        x = stepper.corrected(x, clean, place, memory)
        x, memory = stepper.advance(x, clean, place, memory, denoise)
        x[:, i + 1] += following * share
    return float((x.square().sum(1) / (VARIANCES + levels[-1] ** 2) - 1).abs().max())


def test_the_stochastic_equation_has_the_right_spread():
    """SDE-DPM-Solver++ at second order, against DDPM (the same noise in a DDIM step) at first."""
    second = [spread("sde-dpm++2m", steps, 0.0) for steps in (100, 200)]
    assert second[1] < 0.01
    assert log2(second[0] / second[1]) > 1.5
    levels = schedules.get("log")(20.0, 0.01, 101)
    ratio = float(levels[1] / levels[0])
    assert second[0] < 0.2 * spread("ddim", 100, sqrt(1 - ratio**2))


@pytest.mark.parametrize("name", [n for n in NAMES if not steppers.get(n).deterministic])
def test_a_fixed_share_of_fresh_noise_keeps_the_spread_roughly(name: str):
    """A share of 0.2 in a hundred steps: 5 % for DDIM and iPNDM, 0.4 % or less for the exponential ones (measured)."""
    assert spread(name, 100, 0.2) < (0.07 if name in ("ddim", "ipndm") else 0.01)


# --- in the loop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_ends_near_the_same_volume_whatever_the_stepper(name: str):
    """DiffPIR without fresh noise, 40 steps: one and the same flow of the fitted volumes; the starts are equal."""
    case = gaussian_case(2, 16)
    settings = {"steps": 40, "sigma_max": 2.0, "sigma_min": 0.02, "eta": 0.0, "model_error": 0.0}
    system = case.problem.system()
    reference = run(make_sampler("diffpir", settings | {"steps": 400}), system).estimate
    x = run(make_sampler("diffpir", settings | {"stepper": name}), system).estimate
    distance = float((x - reference).square().mean().sqrt() / reference.square().mean().sqrt())
    if name == "sde-dpm++2m":  # a sample of its own
        assert distance > 0.1
    else:
        assert distance < (0.1 if name == "ddim" else 0.03)


@pytest.mark.parametrize("name", ["unipc", "ipndm"])
def test_resuming_keeps_what_the_stepper_remembers(name: str, tmp_path: Path):
    case, noise, path = gaussian_case(3, 8), KeyedNoise(1), tmp_path / "run.ckpt"
    sampler = make_sampler("diffpir", {"steps": 6, "sigma_max": 2.0, "eta": 0.3, "stepper": name})
    *before, last = states(sampler, case.problem.system(), noise)
    for state in before:
        save_progress(path, RunKey("key"), empty_progress((3, 8, 8), state))
        resumed = load_progress(path, RunKey("key")).state
        while not sampler.done(resumed):
            resumed = sampler.step(case.problem.system(), resumed, noise)
        assert torch.equal(resumed.estimate, last.estimate)


def test_unknown_and_unfitting_steppers_are_refused():
    with pytest.raises(UsageError, match="Did you mean unipc"):
        make_sampler("dds", {"stepper": "unipcc"})
    with pytest.raises(UsageError, match="takes no fresh noise"):
        make_sampler("dds", {"stepper": "heun"})
    assert make_sampler("dds", {"stepper": "heun", "eta": 0.0, "steps": 10}).evaluations() == 19
