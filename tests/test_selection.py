"""The held-out test behind ``auto``: which data are left out, and what their prediction error is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.operators import MatrixOperator
from helpers.problems import blocks, projection_problem
from medrecon.data.volume import Geometry
from medrecon.physics.noise import GaussianNoise
from medrecon.physics.seismic import TraceMask
from medrecon.problem import Problem
from medrecon.selection import Answer, HeldOut, Part, best_shares, classical_methods, held_out, select

SHAPE = (5, 12, 10)


def problem(views: int = 16, **changes: object) -> Problem:
    return replace(projection_problem(SHAPE, views=views, sigma=0.1), **changes)


def few_traces(live: int) -> Problem:
    mask = (torch.arange(20) < live).reshape(4, 5)
    op, y = TraceMask((4, 16, 5), mask), torch.rand(4, 16, 5)
    return Problem(op, op(y), Geometry.from_spacing((4, 16, 5), (1, 1, 1)), quantity="amplitude")


@pytest.mark.parametrize(("views", "left_out"), [(3, 1), (8, 1), (15, 1), (16, 2), (64, 8), (65, 8)])
def test_one_view_in_eight_is_left_out(views: int, left_out: int):
    """Whole views, evenly spread, and never the first, which an arc cannot do without."""
    used = held_out(problem(views)).used
    assert used.shape == (views, 1, 1)
    assert set(used.unique().tolist()) == {0.0, 1.0}
    missing = (used[:, 0, 0] == 0).nonzero()[:, 0]
    assert len(missing) == left_out
    assert missing[0] > 0
    if left_out > 1:
        assert int(missing.diff().max() - missing.diff().min()) <= 1


def test_the_operator_names_the_axis_of_its_groups():
    matrix = MatrixOperator(torch.ones(12, 8), (2, 2, 2), (3, 4))
    matrix.holdout_axis = 1
    made = Problem(matrix, torch.ones(3, 4), Geometry.from_spacing((2, 2, 2), (1, 1, 1)))
    assert held_out(made).used.shape == (1, 4)


def test_the_prediction_error_counts_noise_levels_of_left_out_data():
    """Data that the volume explains but for a constant of three noise levels on one view."""
    made = problem()
    held = held_out(made)
    clean = made.op(blocks(SHAPE))
    shifted = clean + 0.3 * held.mask
    assert held.error(replace(made, y=shifted), blocks(SHAPE)) == pytest.approx(3.0, rel=1e-4)
    elsewhere = clean + 0.3 * held.used
    assert held.error(replace(made, y=elsewhere), blocks(SHAPE)) == pytest.approx(0.0, abs=1e-4)


def test_parts_count_by_their_share_and_relative_to_their_signal():
    """A tenth of the score is a part predicted at nine tenths of its signal, which is faint; the rest is exact."""
    made, volume = problem(), blocks(SHAPE)
    quiet, loud = torch.zeros(16, 1, 1), torch.zeros(16, 1, 1)
    quiet[3], loud[7] = 1, 1
    made = replace(made, y=made.op(volume) * (1 - quiet / 1.9 * 0.9))
    held = HeldOut((Part("loud", 0.9, loud), Part("quiet", 0.1, quiet)))
    assert held.error(made, volume) / held.signal(made) == pytest.approx(0.1**0.5 * 0.9, rel=1e-4)


def test_the_truth_predicts_to_the_noise():
    """2 of 16 views with 5 x 18 data each: standard error 1 / sqrt(2 x 180) = 0.053."""
    made = problem()
    assert held_out(made).error(made, blocks(SHAPE)) == pytest.approx(1.0, abs=0.16)


def test_weights_reach_the_prediction_error():
    made = problem()
    held = held_out(made)
    quiet = replace(made, noise_model=GaussianNoise(0.05))
    ratio = held.error(quiet, blocks(SHAPE)) / held.error(made, blocks(SHAPE))
    assert ratio == pytest.approx(2.0, rel=1e-4)
    plain = held.error(replace(made, noise_model=None), blocks(SHAPE))
    assert plain == pytest.approx(0.1 * held.error(made, blocks(SHAPE)), rel=1e-4)


@pytest.mark.parametrize(("diffusion", "chosen"), [(0.0, "pnp"), (0.5, "tv")])
def test_the_better_prediction_wins(diffusion: float, chosen: str):
    """Both candidates see the same reduced problem; total variation is off by 0.2, the other by what is told."""
    made, asked = problem(), []

    def solve(reduced: Problem, method: str, start: torch.Tensor | None) -> torch.Tensor:
        asked.append((method, reduced.used))
        return blocks(SHAPE) + (0.2 if method == "tv" else diffusion)

    found = select(made, solve)
    assert found.method == chosen
    assert ("better" if chosen == "pnp" else "worse") in found.reason
    assert [method for method, _ in asked] == ["tv", "pnp"]
    assert all(torch.equal(used, held_out(made).used) for _, used in asked)
    assert found.errors["tv"] == pytest.approx(held_out(made).error(made, blocks(SHAPE) + 0.2))


@pytest.mark.parametrize(("best", "chosen"), [("pocs", "pnp"), ("linear", "linear")])
def test_a_diffusion_starts_from_the_best_classical_volume(best: str, chosen: str):
    """Classical volumes are off by 0.2 and 0.4; the prior takes away half of what it starts from, or adds as much."""
    made, truth = problem(), blocks(SHAPE)
    made.op.classical_methods = ("linear", "pocs")
    starts: list[torch.Tensor | None] = []

    def solve(reduced: Problem, method: str, start: torch.Tensor | None) -> torch.Tensor:
        if method == "pnp":
            starts.append(start)
            return truth + (0.1 if best == "pocs" else 0.4)
        return truth + (0.2 if method == best else 0.4)

    found = select(made, solve)
    assert found.classical == best and found.method == chosen
    assert len(starts) == 1 and torch.equal(starts[0], truth + 0.2)
    assert list(found.errors) == ["linear", "pocs", "pnp"]


def test_methods_that_err_in_different_ways_are_mixed():
    """Errors of 0.3 and 0.4 in other places each: shares as the inverse squares, the error of the mean 0.24."""
    made, truth = problem(), blocks(SHAPE)
    made.op.classical_methods = ("linear", "pocs", "drr")
    here, there = (torch.zeros(SHAPE) for _ in range(2))
    here[:, :6], there[:, 6:] = 0.3, 0.4
    errors = {"linear": here, "pocs": there, "drr": 3 * there}
    starts: list[torch.Tensor | None] = []

    def solve(reduced: Problem, method: str, start: torch.Tensor | None) -> torch.Tensor:
        starts.append(start)
        return truth + errors.get(method, here / 2)

    found = select(replace(made, prior=None), solve)
    assert found.method == found.classical == "mixture"
    products = held_out(made).products(made, [Answer(truth + here), Answer(truth + there)])
    inverse = np.linalg.solve(products, np.ones(2))
    expected = dict(zip(("linear", "pocs"), inverse / inverse.sum(), strict=True))
    assert found.mixture == pytest.approx(expected, abs=0.02)
    assert found.errors["mixture"] < min(found.errors["linear"], found.errors["pocs"])
    assert found.settings("mixture") == {"methods": ("linear", "pocs"), "shares": tuple(found.mixture.values())}
    assert found.settings("linear") == {}

    guided = select(made, solve)
    start = sum(share * (truth + errors[name]) for name, share in guided.mixture.items())
    assert starts[-1] is not None and torch.allclose(starts[-1], start)
    assert guided.method == "pnp" and guided.classical == "mixture"


@pytest.mark.parametrize(("error", "foreign", "chosen"), [
    (0.95, False, "pnp"), (0.95, True, "tv"), (0.85, True, "pnp"), (1.05, False, "tv"),
])  # fmt: skip
def test_a_prior_of_other_objects_must_predict_clearly_better(error: float, foreign: bool, chosen: str):
    made, truth = problem(64), blocks(SHAPE)
    errors = {"tv": 1.0, "pnp": error}
    found = select(made, lambda reduced, method, start: truth + errors[method], lambda reduced, volume: foreign)
    assert found.method == chosen
    assert ("brighter or darker" in found.reason) == foreign


@pytest.mark.parametrize(("holes", "hidden", "expected"), [
    (1, (slice(4, 8), slice(0, 8)), "linear"), (0, (slice(4, 8), slice(0, 8)), "mixture"),
    (64, (slice(0, 16, 2), slice(1, 16, 2)), "mixture"),
])  # fmt: skip
def test_what_one_hole_says_may_be_luck(holes: int, hidden: tuple[slice, slice], expected: str):
    """Two methods with the same error but in an eighth of places: a mean 6 % better is too little on one gap alone."""
    eye = MatrixOperator(torch.eye(256), (1, 16, 16), (16, 16))
    eye.classical_methods = ("linear", "pocs")
    errors = {"linear": torch.ones(1, 16, 16), "pocs": torch.ones(1, 16, 16)}
    errors["pocs"][:, :, 3::8] = -1
    mask = torch.zeros(16, 16)
    mask[hidden] = 1
    eye.held_out = lambda y: (eye, y, [("these", 1.0, mask, holes)])
    made = Problem(eye, torch.ones(16, 16), Geometry.from_spacing((1, 16, 16), (1, 1, 1)))
    assert select(made, lambda reduced, method, start: 1 + errors[method]).method == expected
    other = MatrixOperator(torch.eye(256), (1, 16, 16), (16, 16))
    eye.held_out = lambda y: (other, y, [("these", 1.0, mask, holes)])
    assert select(made, lambda reduced, method, start: 1 + errors[method]).method == "linear"
    guided = replace(made, prior=problem().prior)
    least = 1 - 0.05 / holes**0.5 if holes else 1.0  # of the prior half as much is asked
    for error, chosen in ((least + 0.004, "linear"), (least - 0.004, "pnp")):
        errors["pnp"] = error * torch.ones(1, 16, 16)
        assert select(guided, lambda reduced, method, start: 1 + errors[method]).method == chosen


@pytest.mark.parametrize(("rough", "chosen"), [(1.2, "pocs"), (2.0, "linear")])
def test_a_hole_is_tested_by_what_lies_beside_it(rough: float, chosen: str):
    """Hidden elsewhere one method errs by 1, the other by ``rough``; from the filled gap they err by 1 and by 0.9."""
    live = torch.ones(6, 30, dtype=torch.bool)
    live[:, 12:16] = False
    op, y = TraceMask((6, 20, 30), live), 1 + torch.rand(6, 20, 30)
    op_y = op(y)
    made = Problem(op, op_y, Geometry.from_spacing((6, 20, 30), (1, 1, 1)))
    asked: list[tuple[str, torch.Tensor | None, torch.Tensor]] = []

    def solve(reduced: Problem, method: str, start: torch.Tensor | None) -> torch.Tensor:
        asked.append((method, reduced.used, reduced.y))
        back = bool(reduced.op.live.all())  # type: ignore[attr-defined]
        error = {"linear": 1.0, "pocs": 0.9 if back else rough}.get(method, 9.0)
        return y + error

    found = select(made, solve)
    assert found.method == chosen
    assert [part["name"] for part in found.hidden] == ["gaps", "gaps, predicted back"]
    assert [part["share"] for part in found.hidden] == [0.25, 0.75] and found.hidden[1]["count"] == 2 * 6 * 4
    assert "predicted back (75%)" in found.reason
    (hidden, filled, back) = (ask for ask in asked if ask[0] == "pocs")
    assert filled[1] is None and hidden[1] is not None and back[1] is not None
    beside = torch.zeros(30, dtype=torch.bool)
    beside[8:12], beside[16:20] = True, True
    assert torch.equal(back[1][0, 0] == 0, beside)
    assert torch.equal(back[2][:, :, ~beside], torch.where(live[:, None], y, y + rough)[:, :, ~beside])


def test_best_shares_of_known_errors():
    """Independent errors: inverse squares. A worse method with the same errors, and one that hardly counts: nothing."""
    assert best_shares(np.diag([1.0, 4.0])) == pytest.approx([0.8, 0.2], abs=0.01)
    assert best_shares(np.array([[1.0, 1.2], [1.2, 4.0]])) == pytest.approx([1, 0])
    assert best_shares(np.diag([1.0, 1.0, 200.0])) == pytest.approx([0.5, 0.5, 0], abs=0.01)
    assert best_shares(np.array([[2.0]])) == pytest.approx([1])
    assert best_shares(np.zeros((2, 2))).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (problem(prior=None), "no prior"),
        (problem(views=2), "too few data"),
        (few_traces(live=1), "too few data"),
        (few_traces(live=2), "too few data"),
    ],
    ids=["prior", "data", "one live trace", "two live traces"],
)
def test_where_nothing_can_be_tested_the_classical_method_is_taken(made: Problem, reason: str):
    def solve(reduced: Problem, method: str, start: torch.Tensor | None) -> torch.Tensor:
        raise AssertionError("nothing is to be solved")

    found = select(made, solve)
    assert found.method == classical_methods(made)[0]
    assert reason in found.reason
    assert found.errors == {}
