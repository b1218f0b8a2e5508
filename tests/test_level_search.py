"""Searched noise levels: better than every schedule on the case of the search, and on others like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.priors import card
from helpers.problems import gaussian_case
from helpers.runs import run
from medrecon.engine import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.level_search import FoundSequence, flow_of, moved, runs_of_search, search_for_problem, search_levels
from medrecon.noise import KeyedNoise
from medrecon.prior import PriorCard
from medrecon.problem import Problem
from medrecon.samplers.settings import make_sampler, sampler_for
from medrecon.schedules import log_schedule, schedules

HIGH, LOW, STEPS = 2.0, 0.005, 10
SETTINGS = {"steps": STEPS, "sigma_max": HIGH, "sigma_min": LOW, "eta": 0.0, "model_error": 0.0}


@pytest.fixture(scope="module", params=["ddim", "dpm++2m"])
def search(request: pytest.FixtureRequest) -> tuple[str, FoundSequence]:
    """The stepper, and what was found with it on one Gaussian field."""
    flow = flow_of(make_sampler("diffpir", SETTINGS | {"stepper": request.param}))
    return request.param, search_levels(flow, gaussian_case(2, 16).problem.system())


def error(stepper: str, levels: list[float], seed: int) -> float:
    """Distance of another field's run to its known end, at the frequencies that were not measured.

    There the flow is that of the prior, ``x sqrt((S + s^2) / (S + s0^2))``, and the last step its estimate.
    """
    case = gaussian_case(3, 16, seed=seed)
    sampler = make_sampler("diffpir", SETTINGS | {"stepper": stepper, "steps": len(levels), "sequence": levels})
    found = run(sampler, case.problem.system(), seed).estimate
    x, s = HIGH * KeyedNoise(seed).volume(0, (3, 16, 16), sampler.correlation_mm), case.spectrum
    end = s / (s + LOW**2) * ((s + LOW**2) / (s + HIGH**2)).sqrt() * case.problem.op.transform(x)
    free = [column for column in range(16) if column not in case.problem.op.columns]
    return float((case.problem.op.transform(found) - end)[..., free].square().mean().sqrt())


def test_the_levels_fall_between_the_same_ends(search: tuple[str, FoundSequence]):
    _, found = search
    assert (len(found.levels), found.levels[0], found.levels[-1]) == (STEPS, pytest.approx(HIGH), pytest.approx(LOW))
    assert (np.diff(found.levels) < 0).all()


def test_no_schedule_is_better(search: tuple[str, FoundSequence]):
    """On the case of the search: 0.86 of the error of logarithmic levels for DDIM, 0.4 for DPM-Solver++ (measured)."""
    stepper, found = search
    assert set(found.errors) == set(schedules.names())
    assert found.error <= min(found.errors.values()) == found.errors[found.begun]
    assert found.error < (0.95 if stepper == "ddim" else 0.6) * found.errors["log"]


@pytest.mark.parametrize("seed", [5, 6])
def test_logarithmic_levels_are_no_better_elsewhere(search: tuple[str, FoundSequence], seed: int):
    """Another field, other measured frequencies, other noise, and the exact solution."""
    stepper, found = search
    plain = error(stepper, log_schedule(HIGH, LOW, STEPS).tolist(), seed)
    assert error(stepper, list(found.levels), seed) < (1.0 if stepper == "ddim" else 0.7) * plain


def test_the_exact_solution_is_approached():
    """So that the error above is that of the levels: with four times as many a tenth or less."""
    settings = [log_schedule(HIGH, LOW, count).tolist() for count in (STEPS, 4 * STEPS)]
    coarse, fine = (error("dpm++2m", levels, 5) for levels in settings)
    assert fine < 0.1 * coarse


def test_levels_move_along_their_own_sequence():
    levels = schedules.get("edm")(1.0, 0.01, 9)
    np.testing.assert_allclose(moved(levels, np.zeros(4)), levels, rtol=1e-12)
    short_first = moved(levels, np.array([-1.0, 0.0, 0.0, 0.0]))
    assert (short_first[1:-1] > levels[1:-1]).all()
    assert (short_first[[0, -1]] == levels[[0, -1]]).all()


def test_the_runs_are_counted():
    seen = []
    flow = flow_of(make_sampler("diffpir", SETTINGS | {"steps": 3}))
    search_levels(flow, gaussian_case(1, 8).problem.system(), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert len(seen) <= runs_of_search() == seen[0][1]


def test_a_flow_takes_no_fresh_noise():
    posterior = flow_of(make_sampler("posterior", {}))
    assert (posterior.eta, posterior.stepper) == (0.0, "dpm++2m")
    dds = flow_of(make_sampler("dds", {"stepper": "unipc"}))
    assert (dds.eta, dds.stepper) == (0.0, "unipc")
    for name in ("pnp", "red", "mbir", "red-diff", "perturb-and-solve"):
        with pytest.raises(UsageError, match="follows no flow"):
            flow_of(make_sampler(name, {}))
    with pytest.raises(UsageError, match="3 or more"):
        flow_of(make_sampler("dds", {"steps": 2}))


# --- from the card to a run ----------------------------------------------------------------------------------


def with_sequence(problem: Problem, method: str, levels: list[float]) -> Problem:
    prior = problem.prior
    entry = {"method": method, "steps": len(levels), "levels": levels}
    prior.card = replace(prior.card, sequences=(entry,))
    return problem


def test_a_stored_sequence_is_used():
    """By every method that takes noise levels."""
    for name in ("dds", "perturb-and-solve", "red-diff"):
        problem = with_sequence(gaussian_case(2, 8).problem, name, [1.0, 0.3, 0.02])
        result = reconstruct(problem, name, steps=3, schedule="searched", judgement="none")
        assert result.provenance["settings"]["sequence"] == (1.0, 0.3, 0.02)
        sigmas = [entry["sigma"] for entry in result.stats if entry["stage"] == name]
        assert sigmas == [1.0, 0.3, 0.02]


def test_a_problem_is_searched_from_its_classical_volume():
    problem = gaussian_case(1, 8).problem
    found = search_for_problem(problem, "diffpir", {"steps": 3, "sigma_max": 1.0, "sigma_min": 0.02})
    assert found.to_record()["levels"] == list(found.levels) and len(found.levels) == 3


def test_an_absent_sequence_names_the_command():
    problem = with_sequence(gaussian_case(2, 8).problem, "dds", [1.0, 0.3, 0.02])
    for method, steps in (("dds", 4), ("diffpir", 3)):
        command = f"priors search PRIOR DATA --method {method} --steps {steps}"
        with pytest.raises(UsageError, match=rf"found dds 3\. .*{command}"):
            sampler_for(problem, method, {"steps": steps, "schedule": "searched"})
    with pytest.raises(UsageError, match="that of a prior's card"):
        make_sampler("dds", {"schedule": "searched"}).levels()


@pytest.mark.parametrize(
    "sequence", [[1.0, 0.5], [0.1, 0.5, 1.0], [1.0, 0.5, 0.0], [1.0, 0.5, float("inf")], [1, "a", 0]], ids=str
)
def test_a_sequence_that_does_not_fit_is_refused(sequence: list):
    for name in ("dds", "daps", "red-diff"):
        with pytest.raises(UsageError, match="as many noise levels as there are steps"):
            make_sampler(name, {"steps": 3, "sequence": sequence})
    fine = make_sampler("dds", {"steps": 3, "sequence": [1, 0.5, 0.1]})
    assert fine.levels() == [1.0, 0.5, 0.1, 0.0]


@pytest.mark.parametrize(
    "entry",
    [
        {"method": "dds", "steps": 2, "levels": [1.0]},
        {"method": "dds", "steps": 2, "levels": [0.1, 1.0]},
        {"method": 3, "steps": 1, "levels": [1.0]},
        {"steps": 1, "levels": [1.0]},
        "dds",
    ],
    ids=str,
)
def test_a_card_with_an_impossible_sequence_is_refused(entry: object):
    with pytest.raises(InputError, match="the prior's card"):
        PriorCard.from_dict(vars(card()) | {"sequences": [entry]})
