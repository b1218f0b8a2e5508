"""The statement of trust, on volumes whose faults are planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.command_line import body
from helpers.operators import MatrixOperator
from helpers.priors import FunctionPrior
from helpers.problems import blocks, gaussian_case, projection_problem
from helpers.traces import traces
from medrecon.assess import (
    Thresholds,
    assess,
    chi_square,
    detail_share,
    group_residuals,
    is_foreign,
    measured_part,
    object_mask,
    prior_fit,
    verdict,
)
from medrecon.data.volume import Geometry
from medrecon.engine import reconstruct
from medrecon.errors import UsageError
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.noise import GaussianNoise
from medrecon.physics.simulate import simulate_ct
from medrecon.prior import Prior
from medrecon.problem import Problem
from medrecon.scans import problem_from_scan

GRID = Geometry.from_spacing((3, 32, 32), (3.0, 3.0, 3.0))
SIGMA = 0.01


def phantom_body() -> Tensor:
    """Slices of a body of water with a lung and a bone, in 1/mm."""
    return torch.from_numpy(body(GRID.shape, GRID.spacing).to_quantity("1/mm").array)


def measured(views: int = 12, truth: Tensor | None = None, prior: Prior | None = None) -> Problem:
    """A phantom_body measured with too few views, by another discretisation than the one that reconstructs."""
    geometry, noise = CTGeometry.parallel(GRID.shape, GRID.spacing, views), GaussianNoise(SIGMA)
    y = simulate_ct(phantom_body() if truth is None else truth, geometry, noise, seed=1)
    return Problem(CTOperator(geometry), y, GRID, "1/mm", noise_model=noise, lower_bound=0.0, prior=prior)


def hu_card(**changes: object) -> dict:
    values = {
        "quantity": "HU",
        "scale": 1000.0,
        "offset": -1000.0,
        "range": (-1000.0, 3000.0),
        "spacing_mm": (2.0, 2.0),
    }
    return values | {"sigma_min": 5.0, "sigma_max": 3000.0} | changes


# --- the data ----------------------------------------------------------------------------------------------------
def test_the_truth_is_within_the_noise():
    """Residuals of 12 views of 144 data each: one, with a standard error of 0.06; the chi-square test accepts them."""
    made = projection_problem((8, 12, 10), views=12, with_prior=False)
    system = made.system()
    x = system.from_quantity(blocks((8, 12, 10)))
    groups = group_residuals(system, x)
    assert len(groups) == 12 and float((groups - 1).abs().max()) < 0.25
    found = chi_square(system, groups)
    assert 0.001 < found["p_value"] <= 1 and abs(found["standard_errors"]) < 3
    assert float(groups.square().mean().sqrt()) == pytest.approx(system.discrepancy(x), rel=1e-4)


def test_a_bad_view_is_named():
    made = projection_problem((8, 12, 10), views=12, with_prior=False)
    y = made.y.clone()
    y[7] += 1.0
    system = replace(made, y=y).system()
    found = assess(system, system.from_quantity(blocks((8, 12, 10)))).figures
    assert found["residual"]["worst_group"] == 7 and found["residual"]["p_value"] < 1e-12
    assert found["verdict"]["level"] == "poor" and "uneven" in found["verdict"]["reasons"]


@pytest.mark.parametrize(("fault", "reason"), [("geometry", "residual"), ("units", "units"), ("none", None)])
def test_wrong_geometry_and_wrong_units_are_flagged(fault: str, reason: str | None):
    """An axis of rotation that is off by two pixels; lengths in cm, given as mm."""
    problem = measured(views=30)
    if fault == "geometry":
        problem = replace(problem, op=CTOperator(replace(problem.op.geometry, rotation_shift=6.0)))
    elif fault == "units":
        grid = Geometry.from_spacing(GRID.shape, (0.3, 0.3, 0.3))
        op = CTOperator(CTGeometry.parallel(grid.shape, grid.spacing, 30))
        problem = replace(problem, op=op, geometry=grid)
    found = reconstruct(problem, "tv").assessment["verdict"]
    assert (reason in found["reasons"]) == (reason is not None)
    assert (found["level"] == "poor") == (reason is not None), found["text"]


# --- what the data cannot speak to -------------------------------------------------------------------------------
def test_null_space_against_a_dense_inverse():
    """``x - A^+ A x`` for a matrix of rank 5 in 12 dimensions, to the accuracy of the iteration."""
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(5, 12)).astype(np.float32)
    op = MatrixOperator(torch.from_numpy(matrix), (1, 3, 4), (5,))
    problem = Problem(op, torch.ones(5), Geometry.from_spacing((1, 3, 4), (1, 1, 1)))
    x = torch.from_numpy(rng.normal(size=(1, 3, 4)).astype(np.float32))
    part, converged = measured_part(problem.system(), x)
    exact = (np.linalg.pinv(matrix) @ matrix @ x.numpy().ravel()).reshape(1, 3, 4)
    assert converged
    np.testing.assert_allclose(part.numpy(), exact, atol=5e-3)


def test_null_space_of_a_masked_transform():
    """Where the null space is known: the measured part has the measured coefficients and no others."""
    case = gaussian_case(4, 16, sigma=0.001)
    op, system = case.problem.op, case.problem.system()
    part, converged = measured_part(system, system.from_quantity(case.truth))
    spectrum, exact = op.transform(part * system.scale), op.transform(case.truth)
    missing = torch.ones(16, dtype=torch.bool)
    missing[op.columns] = False
    assert converged and float(spectrum[..., missing].abs().max()) < 1e-4
    np.testing.assert_allclose(spectrum[..., op.columns], exact[..., op.columns], atol=0.02)


def test_detail_share_is_a_share():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((2, 32, 32), generator=generator)
    assert float(detail_share(noise, torch.zeros_like(noise)).mean()) > 0.99
    assert float(detail_share(torch.zeros_like(noise), noise).abs().max()) == 0.0
    other = torch.randn((2, 32, 32), generator=generator)
    assert float(detail_share(noise, other).mean()) == pytest.approx(0.5, abs=0.05)
    flat = detail_share(torch.full_like(noise, 3.0), noise)  # a constant is no detail
    assert float(flat.max()) < 1e-6


def test_a_lesion_that_only_the_prior_made():
    """A disc of the null space, put into a volume that fits the data: the residual is blind, the map is not."""
    problem = measured(views=8)
    classical = reconstruct(problem, "tv", quantity="1/mm", judgement="none").volume
    system = problem.system()
    x = system.from_quantity(torch.from_numpy(classical.array))
    disc = torch.zeros(GRID.shape, dtype=torch.bool)
    disc[1, 20:23, 13:16] = True
    lesion = 0.3 * disc.float()
    hidden = lesion - measured_part(system, lesion)[0]
    found = assess(replace(system, prior=None), x + hidden)
    assert found.figures["discrepancy"] == pytest.approx(system.discrepancy(x), rel=0.05)

    prior = FunctionPrior(lambda noisy, sigma: noisy, **hu_card())
    judged = replace(problem, prior=prior).system()
    before = judged.from_quantity(system.to_quantity(x))
    scale = system.scale / judged.scale
    found = assess(judged, before + hidden * scale, classical=before)
    score = found.maps["prior-only"].abs()
    inside = object_mask(judged, before)
    ranks = score[inside & ~disc]
    caught = float((score[disc][:, None] > ranks[None]).float().mean())  # area under the curve
    assert caught > 0.95
    assert found.figures["prior_only"]["share_of_difference"] > 0.75


def test_no_difference_is_no_invention():
    problem = measured(views=8, prior=FunctionPrior(lambda noisy, sigma: noisy, **hu_card()))
    system = problem.system()
    x = system.from_quantity(phantom_body())
    found = assess(system, x, classical=x)
    assert found.figures["prior_only"]["rms"] == 0.0


# --- the prior -----------------------------------------------------------------------------------------------------
def test_a_prior_of_something_else_is_flagged():
    """One prior knows such phantom_bodys (it returns the clean one), one pulls everything to what it was trained on."""
    clean = phantom_body() / 0.0192 * 1000 - 1000  # HU
    curve = ((20.0, 5.0), (100.0, 20.0), (1000.0, 100.0))
    right = FunctionPrior(lambda noisy, sigma: clean[:, None], **hu_card(error_curve=curve))
    wrong = FunctionPrior(lambda noisy, sigma: 0 * noisy + 300.0, **hu_card(error_curve=curve))
    levels = {}
    for name, prior in (("right", right), ("wrong", wrong)):
        system = measured(views=30, prior=prior).system()
        x = system.from_quantity(phantom_body())
        figures = assess(system, x, classical=x).figures
        levels[name] = (figures["verdict"]["level"], figures["prior_fit"]["error_ratio"])
    assert levels["right"][0] != "poor" and levels["right"][1] < 1
    assert levels["wrong"][0] == "poor" and levels["wrong"][1] > Thresholds().prior_error


def test_values_outside_the_range_of_the_prior():
    prior = FunctionPrior(lambda noisy, sigma: noisy, **hu_card(range=(-1000.0, -500.0)))
    system = measured(prior=prior).system()
    assert prior_fit(system, system.from_quantity(phantom_body()))["outside_range"] > 0.25


@pytest.mark.parametrize(("factor", "flagged"), [(1.0, False), (1.08, False), (1.5, True), (0.67, True)])
def test_an_object_of_another_brightness_than_the_prior_knows(factor: float, flagged: bool):
    """As data in a wrong unit make it, which fit as well as before."""
    prior = FunctionPrior(lambda noisy, sigma: noisy, **hu_card(brightness=(-20.0, 60.0)))
    system = measured(views=30, prior=prior).system()
    x = system.from_quantity(phantom_body() * factor)
    figures = assess(system, x, classical=x).figures
    assert figures["prior_fit"]["brightness"] == pytest.approx(1000 * factor - 1000, abs=40)
    assert ("brightness" in figures["verdict"]["reasons"]) == flagged == is_foreign(system, x)
    assert figures["verdict"]["level"] == "poor" or not flagged


def test_a_prior_without_a_common_scale_has_no_brightness():
    system = measured(prior=FunctionPrior(lambda noisy, sigma: noisy, **hu_card())).system()
    found = prior_fit(system, system.from_quantity(phantom_body()))
    assert found["brightness"] is None and found["brightness_outside"] == 0.0
    assert not is_foreign(system, system.from_quantity(phantom_body()))


# --- the engine and the words --------------------------------------------------------------------------------------
def test_the_engine_reports_it():
    result = reconstruct(measured(), "tv")
    assert result.assessment["verdict"]["level"] in ("good", "fair", "poor")
    assert set(result.layers) == {"null-share"}
    share = result.layers["null-share"]
    assert share.quantity == "share" and share.array.min() >= 0 and share.array.max() <= 1
    assert reconstruct(measured(), "tv", judgement="none").layers == {}
    with pytest.raises(UsageError, match="unknown kind of judgement"):
        reconstruct(measured(), "tv", judgement="much")


def test_fewer_views_leave_more_to_guess():
    shares = []
    for views in (4, 12, 40):
        system = measured(views).system()
        shares.append(assess(system, system.from_quantity(phantom_body())).figures["null_space"]["share"])
    assert shares[0] > shares[1] > shares[2]


def test_full_judgement_runs_again():
    result = reconstruct(measured(), "sirt", judgement="full", iterations=5)
    assert set(result.assessment["held_out"]) == {"result", "classical", "signal"}
    assert 1 < result.assessment["stability"]["rms"] < 500  # HU
    assert result.assessment["null_space"]["detail"] == pytest.approx(50)


def test_the_verdict_says_its_numbers():
    figures = {"discrepancy": 1.02, "null_space": {"share": 0.25}, "held_out": {"result": 2.0, "classical": 1.5}}
    found = verdict(figures, Thresholds(), noise_known=True)
    assert found["level"] == "fair" and found["reasons"] == ["held-out"]
    assert "1.02 times the noise" in found["text"] and "25%" in found["text"] and "2.00 against 1.50" in found["text"]
    assert verdict({"discrepancy": 9.0}, Thresholds(), noise_known=True)["level"] == "poor"
    assert "not known" in verdict({"discrepancy": 0.1}, Thresholds(), noise_known=False)["text"]


@pytest.mark.parametrize(
    ("figures", "opening", "words"),
    [
        (
            {"p_value": 0.4, "worst_over_median": 1.3},
            "Consistent with the data and the noise: ",
            "1.30 times the noise.",
        ),
        ({"p_value": 0.0, "worst_over_median": 1.3}, "Consistent with the data, up to", "more than noise alone leaves"),
        (
            {"p_value": 0.4, "worst_over_median": 2.8},
            "Consistent with the data and",
            "worst group of data fits 2.8 times",
        ),
    ],
)
def test_the_verdict_does_not_hide_what_the_table_shows(figures: dict, opening: str, words: str):
    found = verdict({"discrepancy": 1.3, "residual": {"worst": 2.0, **figures}}, Thresholds(), noise_known=True)
    assert found["level"] == "good" and found["text"].startswith(opening) and words in found["text"]


# --- seismic traces ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("share", "faint", "errors", "level", "words"),
    [
        (0.0, 0.0, {}, "good", "no trace was missing"),
        (0.4, 0.0, {}, "fair", "no live trace was hidden"),
        (0.4, 0.0, {"result": 0.1, "classical": 0.3, "signal": 1.0}, "good", "to 20.0 dB, by a classical method"),
        (0.4, 0.0, {"result": 0.5, "classical": 0.6, "signal": 1.0}, "fair", "to 6.0 dB"),
        (0.4, 0.0, {"result": 0.9, "classical": 0.9, "signal": 1.0}, "poor", "not to be trusted"),
        (0.4, 0.0, {"result": 0.2, "classical": 0.1, "signal": 1.0}, "fair", "by a classical method to 20.0 dB"),
        (0.4, 0.3, {"result": 0.1, "classical": 0.1, "signal": 1.0}, "fair", "30% of the filled ones are fainter"),
    ],
)
def test_traces_are_judged_by_hidden_ones(share: float, faint: float, errors: dict, level: str, words: str):
    figures = {"missing": {"share": share, "faint": faint}, "held_out": errors}
    found = verdict(figures, Thresholds(), noise_known=False)
    assert found["level"] == level and words in str(found["text"])


def test_silence_in_filled_traces_is_seen():
    """A hole too wide for the windows of POCS, on a survey of plane events."""
    live = np.ones((16, 48), bool)
    live[:, 8:44] = False
    problem = problem_from_scan(traces(live, rows=16, columns=48, samples=32))
    found = reconstruct(problem, "pocs", window=[16, 32, 12]).assessment
    assert found["missing"]["share"] == pytest.approx(0.75) and found["missing"]["faint"] > 0.3
    assert "faint" in found["verdict"]["reasons"]
    assert reconstruct(problem, "linear").assessment["missing"]["faint"] == 0.0
