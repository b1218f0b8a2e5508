"""Methods for traces: floors on missing traces alone, what every method promises, the choice by held-out traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import realdata
from helpers.priors import SMALL, card, random_denoiser, small_network_prior
from helpers.problems import projection_problem
from helpers.runs import run, states
from helpers.traces import dipping, traces
from medrecon.checkpoint import RunKey, empty_progress, load_progress, save_progress
from medrecon.data import Traces, read
from medrecon.data.seismic_model import seismic_model
from medrecon.engine import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.seismic import TraceMask, make_trace_mask
from medrecon.prior import NetworkPrior
from medrecon.problem import Problem
from medrecon.samplers import samplers
from medrecon.samplers.settings import make_sampler
from medrecon.scans import cut_slices, problem_from_scan
from medrecon.selection import held_out

NAMES = [entry.name for entry in samplers if entry.meta.get("modality") == "seismic"]
ROWS, COLUMNS, SAMPLES = 20, 24, 48


def survey(kind: str = "random", fraction: float = 0.5, **shape: int) -> Traces:
    sizes = {"rows": ROWS, "columns": COLUMNS, "samples": SAMPLES} | shape
    return traces(make_trace_mask(kind, (sizes["rows"], sizes["columns"]), fraction, seed=1), **sizes)


def snr(found: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Signal over error in dB on chosen traces; ``found`` is ``(row, time, column)``."""
    error = found.transpose(0, 2, 1)[where] - truth[where]
    return float(10 * np.log10(np.square(truth[where]).sum() / np.square(error).sum()))


def filled(given: Traces, method: str, **settings: object) -> np.ndarray:
    return reconstruct(problem_from_scan(given), method, **settings).volume.array


def test_the_methods_are_there():
    assert NAMES == ["dip", "linear", "mixture", "pocs", "pocs-fan", "drr"]


@pytest.mark.parametrize(
    ("name", "floor"), [("linear", 15.0), ("pocs", 9.0), ("pocs-fan", 10.0), ("drr", 22.0), ("dip", 20.0)]
)
def test_random_holes_are_filled(name: str, floor: float):
    given, truth = survey(), dipping(ROWS, COLUMNS, SAMPLES)
    found = filled(given, name)
    assert snr(found, truth, ~given.live) > floor
    np.testing.assert_allclose(found.transpose(0, 2, 1)[given.live], truth[given.live], atol=1e-3)


def test_rank_reduction_is_exact_for_few_plane_waves():
    """Three plane waves have rank three, damped or not: the textbook's case, in one window."""
    row, time, column = np.meshgrid(np.arange(16), np.arange(64), np.arange(16), indexing="ij")
    waves = [(5, 0.05, 0.11), (9, -0.08, 0.03), (13, 0.02, -0.14)]
    truth = sum(np.cos(2 * np.pi * (f * time / 64 + p * row + q * column)) for f, p, q in waves).astype(np.float32)
    live = make_trace_mask("random", (16, 16), 0.5, seed=2)
    given = replace(traces(live, rows=16, columns=16, samples=64), data=truth.transpose(0, 2, 1) * live[..., None])
    assert snr(filled(given, "drr", rank=1, iterations=60), truth.transpose(0, 2, 1), ~live) > 40


def test_regular_decimation_is_where_fourier_methods_gain_nothing():
    """Aliases are as strong as the signal, unless dips tell them apart; this is said in the methods' words."""
    given, truth = survey("regular"), dipping(ROWS, COLUMNS, SAMPLES)
    gains = {name: snr(filled(given, name), truth, ~given.live) for name in NAMES}
    assert gains["linear"] > 10 and gains["dip"] > 18 and gains["pocs-fan"] > 7
    assert max(gains["pocs"], gains["drr"]) < 1


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("slope", [1.0, 1.6, 2.4])
def test_an_aliased_event_is_told_from_its_aliases(step: int, slope: float):
    """One event that moves by up to a period from live line to live line: linear interpolation shows it doubled."""
    column, row = slope * np.arange(30)[None, :, None], 0.5 * np.arange(12)[:, None, None]
    away = ((np.arange(64)[None, None] + 20 - column - row) / 2.2) ** 2
    truth = (1000 * (1 - 2 * away) * np.exp(-away)).astype(np.float32)
    live = np.zeros((12, 30), bool)
    live[:, ::step] = True
    given = replace(traces(live, rows=12, columns=30, samples=64), data=np.where(live[..., None], truth, np.float32(0)))
    gains = {name: snr(filled(given, name), truth, ~live) for name in ("linear", "pocs", "pocs-fan", "dip")}
    assert abs(gains["pocs"]) < 0.5 and gains["linear"] < 5
    assert gains["pocs-fan"] > 8 and gains["dip"] > 15


def test_the_fan_is_an_option_of_pocs():
    given = survey("regular")
    preset = filled(given, "pocs-fan")
    np.testing.assert_array_equal(filled(given, "pocs", fan=4.0, window=[24, 48, 24]), preset)
    assert not np.allclose(filled(given, "pocs", window=[24, 48, 24]), preset)


@pytest.mark.parametrize("slope", [0.0, 0.8, 2.0])
def test_steep_events_are_filled_along_their_slopes(slope: float):
    """A gap that linear interpolation cannot cross: planes of one slope over columns, another over rows."""
    live = np.ones((12, 28), bool)
    live[:, 10:17] = False
    shift = 0.6 * np.arange(12)[:, None, None] + slope * np.arange(28)[None, :, None]
    away = [(np.arange(64)[None, None] - start - shift) / 2.2 for start in range(-70, 64, 13)]
    truth = sum((1 - 2 * a**2) * np.exp(-(a**2)) for a in away)
    given = traces(live, rows=12, columns=28, samples=64)
    given = replace(given, data=np.where(live[..., None], truth, 0).astype(np.float32))
    assert snr(filled(given, "dip"), truth, ~live) > 15


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [1e30, float("nan")])
def test_what_stands_at_missing_places_plays_no_part(name: str, wrong: float):
    given = survey()
    spoilt = replace(given, data=np.where(given.live[..., None], given.data, np.float32(wrong)))
    np.testing.assert_array_equal(filled(spoilt, name), filled(given, name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1e6, -1e-5])
def test_scale_and_sign_do_not_matter(name: str, factor: float):
    given = survey()
    scaled = replace(given, data=given.data * np.float32(factor))
    expected = filled(given, name) * factor
    assert np.abs(filled(scaled, name) - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 40, 33), (40, 1, 20), (3, 2, 1), (2, 5, 70)], ids=str)
def test_lines_and_odd_grids(name: str, shape: tuple[int, int, int]):
    rows, columns, samples = shape
    given = survey(rows=rows, columns=columns, samples=samples) if samples > 1 else None
    if given is None:
        live = np.array([[True, False], [False, True], [True, True]])
        given = replace(traces(live, rows=3, columns=2, samples=4), data=np.ones((3, 2, 4), np.float32))
    assert np.isfinite(filled(given, name)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_pure_and_can_be_resumed(name: str, tmp_path: Path):
    problem = problem_from_scan(survey())
    sampler, noise = make_sampler(name, {}), KeyedNoise(0)
    *before, last = states(sampler, problem.system(), noise)
    assert torch.equal(run(sampler, problem.system(), seed=5).estimate, last.estimate)
    for state in before[-1:]:
        save_progress(tmp_path / "run.ckpt", RunKey("key"), empty_progress(problem.geometry.shape, state))
        resumed = load_progress(tmp_path / "run.ckpt", RunKey("key")).state
        while not sampler.done(resumed):
            resumed = sampler.step(problem.system(), resumed, noise)
        assert torch.equal(resumed.estimate, last.estimate)


@pytest.mark.parametrize("name", NAMES)
def test_data_of_another_kind_are_refused(name: str):
    with pytest.raises(UsageError, match="seismic traces"):
        reconstruct(projection_problem(), name)


def test_windows_leave_no_seams():
    """The error at the borders of windows is that of their insides."""
    given, truth = survey(columns=60, samples=32, rows=6), dipping(6, 60, 32)
    error = np.abs(filled(given, "drr", window=[6, 32, 20]).transpose(0, 2, 1) - truth).mean(axis=(0, 2))
    seams = [10, 20, 30, 40, 50]
    assert error[seams].mean() < 1.5 * np.median(error[error > 0]) + 1e-3


def test_total_variation_works_too():
    given = survey()
    assert snr(filled(given, "tv"), dipping(ROWS, COLUMNS, SAMPLES), ~given.live) > 3


def test_the_best_on_hidden_traces_is_chosen():
    result = reconstruct(problem_from_scan(survey()), "auto")
    selection = result.assessment["selection"]
    (hidden,) = selection["hidden"]
    assert result.method == "mixture"
    assert set(selection["errors"]) == {"linear", "pocs", "drr", "dip", "mixture"}
    assert selection["errors"]["mixture"] == min(selection["errors"].values())
    assert max(selection["mixture"], key=selection["mixture"].get) == "drr"  # the best by itself
    assert selection["signal"] > selection["errors"]["drr"]
    assert result.baseline_method == "linear" and result.baseline is not None
    assert f"hidden as the holes look, {hidden['count']} in single traces: linear" in selection["reason"]
    assert hidden["errors"] == pytest.approx(selection["errors"], rel=1e-6)
    assert hidden["share"] == 1 and "dB" in selection["reason"]


def test_a_block_among_scattered_holes_is_tested_and_weighs_by_its_share():
    """Rank reduction is good on single traces and leaves the block empty, which a test on single traces cannot see."""
    whole = seismic_model("volume", (28, 32, SAMPLES), seed=3)
    live = make_trace_mask("random", (28, 32), 0.5, seed=1) & make_trace_mask("hole", (28, 32), 0.08, seed=2)
    given, truth = whole.keeping(live), whole.data
    result = reconstruct(problem_from_scan(given), "auto")
    selection = result.assessment["selection"]
    blocks, back, single = selection["hidden"]
    assert (blocks["name"], back["name"], single["name"]) == ("blocks", "blocks, predicted back", "single traces")
    assert back["share"] == pytest.approx(3 * blocks["share"])
    assert single["share"] == pytest.approx(1 - 4 * blocks["share"]) and 0.05 < 4 * blocks["share"] < 0.3
    assert single["errors"]["drr"] < 0.15 * single["signal"] and blocks["errors"]["drr"] > 0.5 * blocks["signal"]
    for name, error in selection["errors"].items():
        weighed = sum(p["share"] * (p["errors"][name] / p["signal"]) ** 2 for p in (blocks, back, single))
        assert (error / selection["signal"]) ** 2 == pytest.approx(weighed, rel=1e-4)
    assert f"{blocks['count']} in blocks ({blocks['share']:.0%}) and" in selection["reason"]
    gains = {name: snr(filled(given, name), truth, ~live) for name in ("linear", "pocs", "drr", "dip")}
    assert snr(result.volume.array, truth, ~live) > max(gains.values()) - 0.3 > gains["drr"] + 3


def test_regular_decimation_asks_methods_that_tell_aliases():
    """Rank reduction gives zeros for missing lines. The same survey is tested on a scale twice as coarse."""
    given = survey("regular")
    random = np.random.default_rng(0)
    shift = 1.3 * np.arange(COLUMNS)[None, :, None] + 0.4 * np.arange(ROWS)[:, None, None]
    layers = [(np.arange(SAMPLES)[None, None] - start - shift) / 2.5 for start in random.uniform(-35, SAMPLES, 16)]
    truth = sum(random.standard_normal() * (1 - 2 * a**2) * np.exp(-(a**2)) for a in layers)
    given = replace(given, data=np.where(given.live[..., None], 1000 * truth, 0).astype(np.float32))
    result = reconstruct(problem_from_scan(given), "auto")
    selection = result.assessment["selection"]
    assert set(selection["errors"]) == {"linear", "pocs-fan", "dip"}
    assert [part["name"] for part in selection["hidden"]] == [
        "lines between every second of the live ones, at 1/2 of the frequencies"
    ]
    assert result.method == "dip"
    assert snr(result.volume.array, 1000 * truth, ~given.live) > 15


def test_the_unit_is_a_bright_live_sample():
    given = survey()
    sizes = np.abs(given.data[given.live])
    assert problem_from_scan(given).unit == pytest.approx(float(np.quantile(sizes, 0.995)))


def test_some_rows_alone():
    cut = cut_slices(survey(), 3, 7)
    assert isinstance(cut, Traces)
    assert cut.data.shape[0] == 4 and cut.rows.first == 4
    assert isinstance(problem_from_scan(cut), Problem)
    with pytest.raises(InputError, match="no trace is live"):
        problem_from_scan(replace(survey(), state=np.ones((ROWS, COLUMNS), np.uint8)))


def test_f3_with_missing_traces_is_filled_and_scored():
    """Against the complete cube: 175 traces in a corner, most of them beyond any live one."""
    given = read(realdata.need("seismic", "test", "f3_with_missing_traces.sgy"))
    truth = read(realdata.need("seismic", "test", "f3.sgy"))
    assert isinstance(given, Traces) and isinstance(truth, Traces)
    result = reconstruct(problem_from_scan(given), "auto")
    done = given.with_volume(result.volume)
    np.testing.assert_array_equal(done.data[given.live], truth.data[given.live])
    gain = snr(result.volume.array, truth.data, ~given.live)
    assert np.isfinite(done.data).all() and gain > 0


# --- with a prior ------------------------------------------------------------------------------------------------
def mapped_prior(**changes: object) -> NetworkPrior:
    """A random network that sees three slices of the guide and their maps."""
    config = replace(SMALL, channels_in=7, mapped=True)
    values = {"quantity": "amplitude", "modality": "seismic", "range": (-4.0, 4.0), "architecture": config.to_dict()}
    return NetworkPrior(random_denoiser(config), card(**(values | changes)))


class Recorder(NetworkPrior):
    """Remembers what it was shown, and answers with the middle slice of its guide."""

    def __init__(self) -> None:
        super().__init__(mapped_prior().denoiser, mapped_prior().card)
        self.shown: list[torch.Tensor] = []

    def denoise(self, x: torch.Tensor, sigma: float, guide: torch.Tensor | None = None) -> torch.Tensor:
        assert guide is not None
        self.shown.append(guide.clone())
        return guide[:, 1, None]


@pytest.mark.parametrize("method", ["refine", "pnp"])
def test_a_prior_fills_missing_traces_and_leaves_live_ones(method: str):
    given = survey()
    result = reconstruct(problem_from_scan(given, prior=mapped_prior()), method)
    assert result.baseline_method == "dip" and "prior-only" in result.layers
    found = result.volume.array.transpose(0, 2, 1)
    live = given.live
    assert np.abs(found - given.data)[live].max() < 0.02 * np.abs(given.data).max()
    np.testing.assert_array_equal(given.with_volume(result.volume).data[live], given.data[live])
    assert np.abs(found - result.baseline.array.transpose(0, 2, 1))[~live].max() > 1


def test_sections_are_taken_in_turns_with_their_maps():
    """Rows first, then columns; time stays along the first axis of a section, and live traces are marked."""
    given, prior = survey(), Recorder()
    reconstruct(problem_from_scan(given, prior=prior), "refine", judgement="none", steps=2, mirrors=1)
    first, last = prior.shown[0], prior.shown[-1]
    assert first.shape == (8, 6, SAMPLES, COLUMNS) and last.shape[1:] == (6, SAMPLES, ROWS)
    live = torch.from_numpy(given.live).float()
    assert torch.equal(first[:, 4], live[:8, None].expand(8, SAMPLES, COLUMNS))
    assert torch.equal(first[0, 3], first[0, 4]) and torch.equal(first[1, 3], first[0, 4])  # neighbours; ends repeat
    assert torch.equal(last[-1, 4], live[:, -1].expand(SAMPLES, ROWS))
    unit = problem_from_scan(given).unit
    shown = first[2, 1].numpy()[:, given.live[2]]
    np.testing.assert_allclose(shown * unit, given.data[2][given.live[2]].T, rtol=1e-4, atol=1e-2)


def test_the_guide_is_renewed_as_often_as_said():
    """More steps than that go on from the last guide: a prior is not led away by its own results."""
    given, prior = survey(), Recorder()
    problem = problem_from_scan(given, prior=prior)
    guides = []
    for steps in (1, 2, 5):
        prior.shown.clear()
        reconstruct(problem, "refine", judgement="none", steps=steps, mirrors=1, directions=[0], renewals=1)
        each = len(prior.shown) // steps
        guides = [torch.cat(prior.shown[k * each : (k + 1) * each])[:, 1] for k in range(steps)]
    assert not torch.equal(guides[0], guides[1])
    assert all(torch.equal(guides[1], later) for later in guides[2:])


def test_hidden_traces_are_not_on_the_map():
    given, prior = survey(), Recorder()
    problem = problem_from_scan(given, prior=prior)
    used = held_out(problem).used
    reconstruct(replace(problem, used=used), "refine", judgement="none", steps=1, mirrors=1)
    shown = torch.cat([part[:, 4, 0] for part in prior.shown])
    assert torch.equal(shown, torch.from_numpy(given.live).float() * used[:, 0])


def test_a_line_has_one_direction():
    given = traces(make_trace_mask("random", (1, 40), 0.5), rows=1, columns=40, samples=48)
    prior = Recorder()
    reconstruct(problem_from_scan(given, prior=prior), "refine", judgement="none")
    assert all(part.shape == (1, 6, 48, 40) for part in prior.shown)


@pytest.mark.parametrize(("rows", "columns", "turns"), [(0, 1, (0,)), (1, 0, (2,)), (1, 1, (0, 2)), (0, 0, (0, 2))])
def test_sections_that_are_missing_as_a_whole_are_not_asked_for(rows: int, columns: int, turns: tuple[int, ...]):
    live = torch.ones(12, 10, dtype=torch.bool)
    live[3 : 3 + rows], live[:, 5 : 5 + columns], live[7, 8] = False, False, False
    assert TraceMask((12, 16, 10), live).method_settings["refine"]["directions"] == turns


def test_said_settings_come_before_those_that_suit_traces():
    given, prior = survey(), Recorder()
    problem = problem_from_scan(given, prior=prior)
    result = reconstruct(problem, "refine", judgement="none", directions=[0], penalty="tv", steps=1)
    settings = result.provenance["settings"]
    assert settings["directions"] == (0,) and settings["penalty"] == "tv" and settings["tv_axes"] == (0,)
    usual = reconstruct(problem, "refine", judgement="none", steps=1).provenance["settings"]
    assert (usual["directions"], usual["penalty"]) == ((0, 2), "l2")
    assert reconstruct(projection_problem(prior=small_network_prior()), "refine", judgement="none",
                       steps=1).provenance["settings"]["directions"] == (0,)  # fmt: skip


@pytest.mark.parametrize("factor", [1e6, 1e-5])
def test_a_prior_does_not_see_the_scale(factor: float):
    given, prior = survey(), mapped_prior()
    scaled = replace(given, data=given.data * np.float32(factor))
    expected, found = (
        reconstruct(problem_from_scan(part, prior=prior), "refine", judgement="none").volume.array
        for part in (given, scaled)
    )
    assert np.abs(found - factor * expected).max() < 2e-3 * factor * np.abs(expected).max()


def test_faint_parts_of_a_section_reach_the_prior():
    """Amplitudes swing around zero: what is quiet is no empty space to be cut away."""
    given, prior = survey(), Recorder()
    quiet = given.data.copy()
    quiet[:, :, : SAMPLES // 2] *= 1e-4
    reconstruct(problem_from_scan(replace(given, data=quiet), prior=prior), "refine", judgement="none")
    assert prior.shown[0].shape[2] == SAMPLES


@pytest.mark.parametrize("wrong", [1e30, float("nan")])
def test_missing_places_play_no_part_with_a_prior(wrong: float):
    given, prior = survey(), mapped_prior()
    spoilt = replace(given, data=np.where(given.live[..., None], given.data, np.float32(wrong)))
    first, second = (
        reconstruct(problem_from_scan(part, prior=prior), "refine", judgement="none").volume.array
        for part in (given, spoilt)
    )
    np.testing.assert_array_equal(first, second)


def test_auto_weighs_the_prior_on_hidden_traces():
    problem = problem_from_scan(survey(), prior=mapped_prior())
    result = reconstruct(problem, "auto")
    chosen = result.assessment["selection"]
    assert set(chosen["errors"]) == {*problem.op.classical_methods, "mixture", "refine"}
    assert result.method == "mixture"  # a random network predicts nothing
    assert chosen["errors"]["mixture"] < min(chosen["errors"][name] for name in problem.op.classical_methods)


def test_auto_gives_the_mixture_that_it_tested():
    """The same as by hand, on all live traces; these are as they were measured."""
    given = survey()
    problem = problem_from_scan(given)
    result = reconstruct(problem, "auto")
    shares = result.assessment["selection"]["mixture"]
    assert len(shares) > 1 and sum(shares.values()) == pytest.approx(1, abs=2e-3)
    parts = [share * reconstruct(problem, name, judgement="none").volume.array for name, share in shares.items()]
    live = given.live[:, None] & np.ones(result.volume.array.shape, bool)
    np.testing.assert_allclose(result.volume.array[~live], np.sum(parts, axis=0)[~live], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(result.volume.array[live], given.to_volume().array[live], rtol=2e-7)
    again = reconstruct(problem, "mixture", judgement="none", **result.provenance["settings"])
    np.testing.assert_array_equal(again.volume.array, result.volume.array)


@pytest.mark.parametrize(
    ("methods", "shares", "message"),
    [
        (("linear",), (0.5, 0.5), "one share for each"),
        ((), (), "one share for each"),
        (("linear", "dip"), (0.5, 0.6), "sum to one"),
        (("linear", "dip"), (1.5, -0.5), "between 0 and 1"),
        (("linear", "pnp"), (0.5, 0.5), "classical"),
        (("linear", "mixture"), (0.5, 0.5), "classical"),
        (("linear", "drrr"), (0.5, 0.5), "drr"),
    ],
)
def test_what_is_no_mixture(methods: tuple[str, ...], shares: tuple[float, ...], message: str):
    with pytest.raises(UsageError, match=message):
        make_sampler("mixture", {"methods": methods, "shares": shares})
