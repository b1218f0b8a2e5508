"""Time steppers against closed forms: a Gaussian prior, whose probability flow and whose samples are known.

With variance S the denoiser is ``S / (S + s^2) x`` and the flow ``x(s) = x(s0) sqrt((S + s^2) / (S + s0^2))``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import exp, log, log2, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.priors import FunctionPrior, card, exact_statistics
from helpers.problems import gaussian_case
from helpers.runs import run, states
from medrecon.checkpoint import RunKey, empty_progress, load_progress, save_progress
from medrecon.errors import UsageError
from medrecon.model_statistics import ModelStatistics
from medrecon.noise import KeyedNoise
from medrecon.samplers.settings import make_sampler
from medrecon.samplers.steppers import (
    DPMSolverV3,
    Place,
    Stepper,
    exponential_weights,
    interpolating_weights,
    steppers,
)
from medrecon.schedules import log_schedule, schedules

VARIANCES = torch.tensor([0.01, 0.25, 4.0], dtype=torch.float64)
HIGH, LOW = 2.0, 0.1
ORDERS = {
    "ddim": 1,
    "dpm++2m": 2,
    "dpm++3m": 3,
    "sde-dpm++2m": 2,
    "unipc": 3,
    "heun": 2,
    "ipndm": 4,
    "pndm": 4,
    "dpm-v3": 3,
}
NAMES = steppers.names()
STATISTICS = exact_statistics(VARIANCES, np.geomspace(3.0, 0.05, 24).tolist())


def made(name: str) -> Stepper:
    """As for a prior whose card knows the statistics."""
    return steppers.get(name).for_prior(card(statistics=STATISTICS.to_dict()))


def denoise(x: Tensor, sigma: float) -> Tensor:
    return x * (VARIANCES / (VARIANCES + sigma**2)).reshape(-1, *[1] * (x.ndim - 1))


def solution(sigma: float) -> Tensor:
    return ((VARIANCES + sigma**2) / (VARIANCES + HIGH**2)).sqrt()


def integrate(stepper: Stepper, levels: list[float], known: int = 0) -> Tensor:
    """The flow from the first level to the last. The first ``known`` steps end on the true solution, so that only the
    rule itself shows and not how it begins."""
    memory, x = {}, solution(levels[0])
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
    return float((integrate(made(name), levels, known=3) - solution(LOW)).abs().max())


def test_every_stepper_has_a_known_order():
    assert set(ORDERS) == set(NAMES)


@pytest.mark.parametrize("schedule", ["log", "edm", "vp"])
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_convergence(name: str, schedule: str):
    """Half the steps, ``2^order`` times the error.

    Measured on logarithmic levels: 0.9 for DDIM, 2.0 for DPM-Solver++ 2M and Heun, 3.1 for 3M, 3.0 for UniPC and
    DPM-Solver-v3, 3.9 for iPNDM and PNDM.
    """
    observed = log2(error(name, 80, schedule) / error(name, 160, schedule))
    assert observed == pytest.approx(ORDERS[name], abs=0.35)


def test_more_order_helps_at_ten_steps():
    """From the start to the end, the beginning included.

    Measured on logarithmic levels: 0.026 for DDIM, 0.0014 for two estimates, 0.0008 with UniPC's corrector, 0.0026 for
    Heun at twice the evaluations; three estimates (0.008) and iPNDM (0.009) suffer from how they begin, PNDM (0.0006)
    pays for it with nine evaluations more. With the statistics of the prior UniPC becomes DPM-Solver-v3: 0.00046.
    """
    levels = schedules.get("log")(HIGH, LOW, 11).tolist()
    errors = {name: float((integrate(made(name), levels) - solution(LOW)).abs().max()) for name in NAMES}
    assert all(errors[name] < 0.5 * errors["ddim"] for name in NAMES if name != "ddim")
    assert errors["dpm++2m"] < 0.1 * errors["ddim"]
    assert errors["unipc"] < 0.7 * errors["dpm++2m"]
    assert errors["pndm"] < 0.1 * errors["ipndm"]
    assert errors["dpm-v3"] < 0.65 * errors["unipc"]


@pytest.mark.parametrize("name", ["pndm", "unipc", "dpm-v3"])
def test_the_beginning_has_the_order_of_the_rest(name: str):
    """No help with the first steps: 3.9 for PNDM, 3.0 for the others (measured); iPNDM falls to 2."""
    errors = [
        float((integrate(made(name), log_schedule(HIGH, LOW, steps + 1).tolist()) - solution(LOW)).abs().max())
        for steps in (80, 160)
    ]
    assert log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_step_to_zero_is_the_estimate(name: str):
    stepper, x = made(name), torch.randn(3, generator=torch.Generator().manual_seed(0)).double()
    clean = denoise(x, 0.5)
    moved, _ = stepper.advance(x, clean, Place([0.5], 0.0, 0.0), {}, denoise)
    assert torch.equal(moved, clean)


@pytest.mark.parametrize("name", NAMES)
def test_no_step_moves_nothing(name: str):
    stepper, x = made(name), torch.ones(3, dtype=torch.float64)
    moved, memory = stepper.advance(x, denoise(x, 0.5), Place([0.5], 0.5, 0.5), {}, denoise)
    assert torch.equal(moved, x)
    again, _ = stepper.advance(x, denoise(x, 0.5), Place([0.5, 0.5], 0.4, 0.4), memory, denoise)
    assert torch.isfinite(again).all()


# --- coefficients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1e-3, 0.3, 1.0, 4.0, 12.0])
def test_the_weights_integrate_polynomials(step: float):
    """Against quadrature with twice as many points, up to a step over five decades."""
    nodes = [0.0, -0.4, -1.1, 0.7]
    points, shares = np.polynomial.legendre.leggauss(50)
    points, shares = 0.5 * step * (points + 1), 0.5 * step * shares
    for degree in range(4):
        values = np.array(nodes) ** degree
        kernel = np.exp(points - step)
        assert exponential_weights(nodes, step) @ values == pytest.approx(shares @ (kernel * points**degree), rel=1e-8)
        assert interpolating_weights(nodes, step, np.ones_like) @ values == pytest.approx(
            shares @ points**degree, rel=1e-8
        )


def test_ipndm_is_the_published_formula_on_equidistant_levels():
    assert interpolating_weights([0.0, 0.1, 0.2, 0.3], -0.1, np.ones_like) * 24 / -0.1 == pytest.approx(
        [55, -59, 37, -9]
    )


def test_two_estimates_are_the_published_ones_up_to_the_order():
    """DPM-Solver++(2M): ``(1 - exp(-h)) ((1 + 1 / 2r) D0 - D1 / 2r)``, r the last step over h; differs at h^3."""
    differences = []
    for h in (0.1, 0.05):
        weights = exponential_weights([0.0, -1.5 * h], h)
        published = (1 - exp(-h)) * np.array([1 + 1 / 3, -1 / 3])
        differences.append(float(np.abs(weights - published).max()))
    assert differences[0] < 0.1**2
    assert log2(differences[0] / differences[1]) == pytest.approx(2, abs=0.1)  # times D0 - D1, one order more


def test_pndm_begins_as_published():
    """Runge and Kutta's classical formula of the slope, by hand."""
    x, levels = solution(1.0), [1.0, 0.9]

    def slope(x: Tensor, level: float) -> Tensor:
        return (x - denoise(x, level)) / level

    first = slope(x, 1.0)
    second = slope(x - 0.05 * first, 0.95)
    third = slope(x - 0.05 * second, 0.95)
    fourth = slope(x - 0.1 * third, 0.9)
    found, memory = steppers.get("pndm")().advance(x, denoise(x, 1.0), Place(levels[:1], 0.9, 0.9), {}, denoise)
    torch.testing.assert_close(found, x - 0.1 * (first + 2 * second + 2 * third + fourth) / 6)
    torch.testing.assert_close(memory["past0"], first)


def test_without_a_model_v3_is_unipc():
    """``l = 1``, ``s = b = 0``: the same terms up to their sign."""
    levels = [2.0, 1.1, 0.7, 0.3, 0.28]
    found, expected = (integrate(stepper, levels) for stepper in (DPMSolverV3(), steppers.get("unipc")()))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_v3_is_exact_where_its_model_is():
    """``D = (1 - l) x - N`` with ``dN/dt = s N + b`` and constants: one step, however long, is the solution."""
    l, s, b, start, end = 0.4, -0.7, 0.3, 2.0, 0.1  # noqa: E741
    constant = ModelStatistics((3.0, 1.0, 0.3, 0.05), (l,) * 4, (s,) * 4, (b,) * 4)
    x, rest, h = torch.tensor([1.5, -0.2], dtype=torch.float64), torch.tensor([0.5, 0.8], dtype=torch.float64), log(20)
    # x' = -l x - N,  N = (N0 + b / s) exp(s t) - b / s
    growing = (rest + b / s) * (exp(s * h) - exp(-l * h)) / (s + l) - b / s * (1 - exp(-l * h)) / l
    expected = exp(-l * h) * x - growing
    found, _ = DPMSolverV3(constant).advance(x, (1 - l) * x - rest, Place([start], end, end), {}, denoise)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


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
    stepper, memory = made(name), {}
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


@pytest.mark.parametrize(("name", "eta"), [("unipc", 0.3), ("ipndm", 0.3), ("pndm", 0.0), ("dpm-v3", 0.0)])
def test_resuming_keeps_what_the_stepper_remembers(name: str, eta: float, tmp_path: Path):
    case, noise, path = gaussian_case(3, 8), KeyedNoise(1), tmp_path / "run.ckpt"
    sampler = make_sampler("diffpir", {"steps": 6, "sigma_max": 2.0, "eta": eta, "stepper": name})
    *before, last = states(sampler, case.problem.system(), noise)
    for state in before:
        save_progress(path, RunKey("key"), empty_progress((3, 8, 8), state))
        resumed = load_progress(path, RunKey("key")).state
        while not sampler.done(resumed):
            resumed = sampler.step(case.problem.system(), resumed, noise)
        assert torch.equal(resumed.estimate, last.estimate)


@pytest.mark.parametrize(
    ("name", "steps", "count"), [("heun", 6, 11), ("pndm", 6, 15), ("pndm", 3, 9), ("unipc", 6, 6)]
)
def test_the_evaluations_of_a_stepper_are_counted(name: str, steps: int, count: int):
    case, seen = gaussian_case(2, 8), []
    prior = FunctionPrior(lambda x, sigma: seen.append(sigma) or case.problem.prior.denoise(x, sigma))
    sampler = make_sampler("diffpir", {"steps": steps, "eta": 0.0, "stepper": name})
    run(sampler, replace(case.problem, prior=prior).system())
    assert len(seen) == sampler.evaluations() == count


def test_v3_asks_for_statistics_and_stays_within_them():
    with pytest.raises(UsageError, match=r"test: .*medrecon priors stats PRIOR VOLUMES"):
        make_sampler("diffpir", {"stepper": "dpm-v3", "eta": 0.0}).for_prior(card())
    x = solution(HIGH)
    with pytest.raises(UsageError, match=r"do not reach this noise level; found 4; expected 0.05 to 3"):
        made("dpm-v3").advance(x, denoise(x, 4.0), Place([4.0], 2.0, 2.0), {}, denoise)


def test_unknown_and_unfitting_steppers_are_refused():
    with pytest.raises(UsageError, match="Did you mean unipc"):
        make_sampler("dds", {"stepper": "unipcc"})
    with pytest.raises(UsageError, match="takes no fresh noise"):
        make_sampler("dds", {"stepper": "heun"})
    assert make_sampler("dds", {"stepper": "heun", "eta": 0.0, "steps": 10}).evaluations() == 19
