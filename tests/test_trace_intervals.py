"""Intervals of filled traces, learnt on hidden ones: they hold where errors are alike; live traces have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.traces import dipping, traces
from medrecon import reconstruct
from medrecon.calibration import in_words
from medrecon.data.traces import Traces
from medrecon.physics.seismic import TraceMask, make_trace_mask
from medrecon.problem import Problem
from medrecon.scans import problem_from_scan
from medrecon.selection import Answer, held_out
from medrecon.trace_intervals import half_width, learnt_interval, local_loudness, loudness_of

SHAPE = (24, 32, 40)


def survey(kind: str = "random", share: float = 0.4, noise: float = 200.0) -> tuple[Traces, np.ndarray]:
    """With noise that no method predicts, and its truth ``(row, time, column)``."""
    rows, samples, columns = SHAPE
    live = make_trace_mask(kind, (rows, columns), share, seed=0)
    given = traces(live, rows=rows, columns=columns, samples=samples)
    data = dipping(rows, columns, samples) + noise * np.random.default_rng(1).standard_normal((rows, columns, samples))
    return replace(given, data=np.where(live[..., None], data, 0).astype(np.float32)), data.transpose(0, 2, 1)


def made(live: np.ndarray, values: torch.Tensor) -> Problem:
    op = TraceMask(values.shape, torch.from_numpy(live))
    return replace(problem_from_scan(survey()[0]), op=op, y=op(values))


@pytest.mark.parametrize("kind", ["random", "lines"])
def test_nine_in_ten_missing_samples_lie_within(kind: str):
    given, truth = survey(kind)
    result = reconstruct(problem_from_scan(given), "auto")
    width, missing = result.layers["half-width"].array, np.broadcast_to(~given.live[:, None], SHAPE)
    inside = np.abs(result.volume.array - truth) <= width
    assert 0.86 < inside[missing].mean() < 0.94
    assert not width[~missing].any() and width[missing].all()
    told = result.assessment["intervals"]
    assert told["calibrated"] and told["level"] == 0.9 and told["traces"] >= 40
    assert told["mean_half_width"] == pytest.approx(width[missing].mean(), rel=1e-4)
    assert f"{told['traces']} hidden traces" in in_words(told, "amplitude")
    # Of the noise alone: 1.645 standard deviations of the difference of data and an estimate
    assert 1.645 * 200 < told["mean_half_width"] < 2 * 1.645 * 200


def test_it_holds_whatever_the_unit_of_the_data():
    given, _ = survey(share=0.5)
    other = replace(given, data=1e-3 * given.data)
    widths = [reconstruct(problem_from_scan(each), "auto").layers["half-width"].array for each in (given, other)]
    np.testing.assert_allclose(widths[1], 1e-3 * widths[0], rtol=2e-2, atol=1e-6 * widths[0].max())


@pytest.mark.parametrize("unit", [1e-22, 1e22], ids=["faint", "loud"])
def test_squares_of_any_amplitude_can_be_held(unit: float):
    volume = torch.from_numpy(dipping(6, 8, 16).astype(np.float32))
    torch.testing.assert_close(local_loudness(volume * unit), local_loudness(volume) * unit, rtol=1e-5, atol=0)


def test_a_method_asked_by_name_has_one_where_the_full_judgement_hides_traces():
    given, truth = survey()
    result = reconstruct(problem_from_scan(given), "linear")
    assert "half-width" not in result.layers and "intervals" not in result.assessment
    result = reconstruct(problem_from_scan(given), "linear", judgement="full")
    inside = np.abs(result.volume.array - truth) <= result.layers["half-width"].array
    assert 0.86 < inside[np.broadcast_to(~given.live[:, None], SHAPE)].mean() < 0.94


def test_known_errors_give_known_factors():
    """Errors in proportion to the local loudness, half of it: every factor is a half, and the floor hardly counts."""
    torch.manual_seed(0)
    volume = torch.randn(SHAPE) + 2
    live = np.ones((SHAPE[0], SHAPE[2]), bool)
    error = 0.5 * local_loudness(volume) * torch.sign(torch.randn(SHAPE))
    problem, part = made(live, volume + error), torch.zeros(SHAPE[0], 1, SHAPE[2])
    part[::2] = 1
    learnt = learnt_interval(problem, [(volume, {"single traces": part})])
    assert learnt["traces"] == SHAPE[0] // 2 * SHAPE[2]
    kind = learnt["kinds"]["single traces"]
    near = [factor * (1 + kind["floor"] * loudness_of(problem) / 2.2) for factor in kind["factors"].values()]
    assert near == pytest.approx([0.5] * 3, rel=0.15)
    assert not half_width(problem, volume, learnt).any()  # nothing is missing


def test_every_kind_of_hole_has_its_own_width():
    """A block that is predicted three times as badly; columns, which no test was made of, have the widest."""
    live = np.ones((SHAPE[0], SHAPE[2]), bool)
    live[4:12, 6:14], live[::5, 20], live[:, 30] = False, False, False
    kind = {"floor": 0.0}
    learnt = {"kinds": {
        "single traces": kind | {"factors": {"0.9": 1.0}}, "blocks": kind | {"factors": {"0.9": 3.0}},
    }}  # fmt: skip
    volume = torch.ones(SHAPE)
    width = half_width(made(live, volume), volume, learnt)[:, 0].numpy()
    expected = np.zeros(live.shape)
    expected[::5, 20], expected[4:12, 6:14], expected[:, 30] = 1, 3, 3
    np.testing.assert_allclose(width, expected, rtol=1e-5)


def test_what_stands_at_missing_places_plays_no_part():
    problem = problem_from_scan(survey()[0])
    missing = (~problem.op.live)[:, None].expand_as(problem.y)
    other = replace(problem, y=torch.where(missing, torch.full_like(problem.y, 1e6), problem.y))
    part = torch.zeros(SHAPE[0], 1, SHAPE[2])
    part[:2] = problem.op.live[:2, None]
    volume = 0.9 * problem.y + 10
    assert learnt_interval(other, [(volume, {"": part})]) == learnt_interval(problem, [(volume, {"": part})])


def test_what_is_predicted_back_from_a_filled_hole_counts_as_well():
    """The hidden block is predicted well and what lies beside the hole badly: the widths are those of both together."""
    live = np.ones((SHAPE[0], SHAPE[2]), bool)
    live[4:10, 6:12] = False
    torch.manual_seed(0)
    truth = torch.randn(SHAPE)
    problem = made(live, truth)
    held = held_out(problem)
    assert [part.name for part in held.beside] == ["blocks"]
    sign = torch.sign(torch.randn(SHAPE))
    well, badly = truth + 0.01 * sign, truth + sign

    def widest(answer: Answer) -> float:
        return float(half_width(problem, truth, held.interval(problem, answer)).max())

    alone, both = widest(Answer(well)), widest(Answer(well, truth, badly))
    assert alone < 0.1 and both > 0.8
    counts = [held.interval(problem, answer)["traces"] for answer in (Answer(well), Answer(well, truth, badly))]
    assert counts[1] - counts[0] == int(held.beside[0].mask.sum())
