"""``reconstruct``: errors before work, the start, samples, units, and what is reported."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.priors import FunctionPrior, small_network_prior
from helpers.problems import blocks, projection_problem
from helpers.quick_runs import QUICK, SHAPE, never, problem, quick, smooth, start_volume, stop_at
from helpers.runs import run
from medrecon import reconstruct
from medrecon.data.volume import WATER, Geometry, Volume
from medrecon.errors import InputError, Stopped, UsageError
from medrecon.prior import GaussianPrior
from medrecon.samplers import samplers
from medrecon.samplers.settings import in_trained_range, make_sampler

# --- wrong names and settings, before any work --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"), [("ddss", "dds"), ("TV", ""), ("asdpocs", "asd-pocs"), ("diffpri", "diffpir")]
)
def test_an_unknown_method_suggests_the_nearest(name: str, near: str):
    with pytest.raises(UsageError, match=rf"unknown method '{name}'.*{near}"):
        reconstruct(problem(), name, callback=never)


def test_an_unknown_setting_suggests_the_nearest():
    with pytest.raises(UsageError, match=r"unknown setting of dds 'step'.*Did you mean steps"):
        reconstruct(problem(), "dds", step=3, callback=never)


def test_an_unknown_setting_of_auto_shows_before_the_held_out_test():
    with pytest.raises(UsageError, match="unknown setting of pnp 'stepz'"):
        reconstruct(problem(), "auto", stepz=3, callback=never)
    with pytest.raises(UsageError, match="unknown setting of tv 'wieght'"):
        reconstruct(problem(prior=None), "auto", wieght=3.0, callback=never)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "many"),
        ("steps", 2.5),
        ("steps", True),
        ("steps", None),
        ("eta", "high"),
        ("eta", False),
        ("effective_noise", 1),
        ("effective_noise", "yes"),
        ("schedule", 3),
        ("tv_axes", 1),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused(name: str, value: object):
    with pytest.raises(UsageError, match=f"setting {name} of dds has the wrong type"):
        reconstruct(problem(), "dds", callback=never, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -3),
        ("cg_iterations", 0),
        ("eta", -0.1),
        ("eta", float("nan")),
        ("sigma_max", float("inf")),
        ("tv", -1),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: float):
    with pytest.raises(UsageError, match=f"setting {name} of dds is out of range"):
        reconstruct(problem(), "dds", callback=never, **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_step": "proximl"}, "unknown data step 'proximl'. Did you mean proximal"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine'"),
        ({"error": "none"}, "unknown error 'none'"),
        ({"eta": 1.5}, "eta is a share"),
        ({"trust": 0.0}, "trust must be positive"),
        ({"sigma_min": 0.0}, "noise levels must fall"),
        ({"sigma_max": 0.1, "sigma_min": 0.2}, "noise levels must fall"),
    ],
    ids=str,
)
def test_settings_that_contradict_are_refused(settings: dict, message: str):
    with pytest.raises(UsageError, match=message):
        reconstruct(problem(), "pnp", callback=never, **settings)


@pytest.mark.parametrize("axes", [(), (0, 3), ("z",)])
def test_axes_that_a_volume_does_not_have_are_refused(axes: tuple):
    with pytest.raises(UsageError, match="axes are some of 0"):
        reconstruct(problem(), "tv", axes=axes, callback=never)


def test_settings_are_converted_to_their_type():
    sampler = make_sampler(
        "dds", {"steps": 5.0, "eta": 1, "tv_axes": [1, 2], "tv": "5e-3", "cg_iterations": np.int64(2)}
    )
    assert (sampler.steps, sampler.eta, sampler.tv_axes, sampler.tv, sampler.cg_iterations) == (5, 1.0, (1, 2), 5e-3, 2)
    assert type(sampler.steps) is int
    assert type(sampler.cg_iterations) is int


@pytest.mark.parametrize(
    ("options", "message"),
    [({"samples": 0}, "at least one sample"), ({"seed": -1}, "seed is out of range"), ({"seed": 2**64}, "seed")],
)
def test_impossible_options_are_refused(options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        reconstruct(problem(), "tv", callback=never, **options)


def test_a_diffusion_method_without_a_prior_says_so():
    with pytest.raises(UsageError, match="method dds needs a prior"):
        reconstruct(problem(prior=None), "dds", callback=never)


@pytest.mark.parametrize("method", ["pnp", "refine", "dds", "mbir"])
@pytest.mark.parametrize(("low", "high"), [(0.04, 0.3), (0.001, 400.0)])
def test_a_method_keeps_to_the_levels_of_the_prior(method: str, low: float, high: float):
    """Its own first and last level move into the trained range; those that were said do not."""
    prior = FunctionPrior(lambda x, sigma: x, sigma_min=10 * low, sigma_max=10 * high, scale=10.0)
    sampler = make_sampler(method, in_trained_range(method, {}, prior))
    plain = make_sampler(method, {})
    assert sampler.sigma_min == pytest.approx(min(max(plain.sigma_min, low), high))
    assert sampler.sigma_max == pytest.approx(min(max(plain.sigma_max, low), high) if plain.sigma_max else 0)
    said = {"sigma_min": 0.01}
    assert make_sampler(method, in_trained_range(method, said, prior)).sigma_min == 0.01
    assert in_trained_range(method, said, None) == said


def test_a_level_that_was_said_and_is_not_known_is_an_error():
    prior = FunctionPrior(lambda x, sigma: x, sigma_min=0.05)
    given = projection_problem(prior=prior)
    assert reconstruct(given, "pnp", steps=2, iterations=2).status == "done"
    with pytest.raises(UsageError, match="not trained on this noise level"):
        reconstruct(given, "pnp", steps=2, iterations=2, sigma_min=0.02)


def test_a_quantity_that_cannot_be_given_is_refused_first():
    with pytest.raises(InputError, match=r"no conversion between these quantities.*a.u. to HU"):
        reconstruct(problem(), "tv", quantity="HU", callback=never)


def test_a_prior_of_another_range_is_refused():
    with pytest.raises(InputError, match="far outside the range"):
        quick(made=problem(prior=FunctionPrior(smooth, range=(10.0, 11.0))))


# --- the volume to start from -------------------------------------------------------------------------------


def test_the_given_start_is_the_baseline():
    result = quick()
    assert result.baseline_method == "given"
    np.testing.assert_allclose(result.baseline.array, start_volume().array, atol=1e-6)
    assert all(entry["stage"] == "dds" for entry in result.stats)


def test_a_start_in_another_unit_is_converted():
    """In HU for an operator that acts on 1/mm; read-only and in double precision, as readers may give it."""
    card = {"quantity": "HU", "scale": 1000.0, "offset": -1000.0, "range": (-1e3, 1e3), "sigma_max": 3e3}
    scaled = projection_problem(prior=small_network_prior(**card))
    made = replace(scaled, quantity="1/mm", op=(1 / WATER) * scaled.op)
    hounsfield = (start_volume().array * 1000 - 1000).astype(np.float64)
    hounsfield.setflags(write=False)
    result = quick(made=made, start=Volume(hounsfield, made.geometry, "HU"))
    np.testing.assert_allclose(result.baseline.array, hounsfield, atol=0.01)
    assert result.volume.quantity == "HU"


def test_a_start_on_another_grid_is_refused():
    moved = Geometry.from_spacing(SHAPE, (2.0, 1.0, 1.1))
    with pytest.raises(InputError, match="another grid"):
        quick(start=replace(start_volume(), geometry=moved), callback=never)
    with pytest.raises(InputError, match="another grid"):
        quick(start=start_volume((4, 12, 10)), callback=never)


def test_a_start_that_is_not_finite_is_refused():
    array = start_volume().array.copy()
    array[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        quick(start=start_volume().with_array(array), callback=never)


def test_without_a_start_diffusion_begins_with_total_variation():
    result = reconstruct(problem(), "pnp", **QUICK)
    assert result.baseline_method == "tv"
    expected = reconstruct(problem(), "tv").volume.array
    np.testing.assert_array_equal(result.baseline.array, expected)
    assert {entry["stage"] for entry in result.stats} == {"baseline", "pnp"}


def test_total_variation_takes_a_start():
    """It decides the first step, and not the solution."""
    short, long = {"weight": 0.3, "iterations": 10}, {"weight": 0.3, "iterations": 1000}
    flat = start_volume().with_array(np.full(SHAPE, 0.5, np.float32))
    for settings, same in ((short, False), (long, True)):
        a, b = (reconstruct(problem(), "tv", start=s, **settings).volume.array for s in (None, flat))
        assert (np.abs(a - b).max() < 2e-3) == same


def test_classical_methods_are_judged_against_direct_inversion():
    result = reconstruct(problem(), "sirt", iterations=3)
    assert result.baseline_method == "fbp"
    assert reconstruct(problem(), "fbp").baseline is None


# --- samples ------------------------------------------------------------------------------------------------


def test_mean_and_spread_over_samples():
    """Against the samples run one by one, each with its own noise key."""
    result = quick(samples=4, seed=5)
    system = replace(problem().system(), start=blocks(SHAPE))
    each = np.stack([run(make_sampler("dds", QUICK), system, 5, sample).estimate.numpy() for sample in range(4)])
    assert each.std(0).max() > 0.01
    np.testing.assert_allclose(result.volume.array, each.mean(0), atol=1e-5)
    np.testing.assert_allclose(result.spread.array, each.std(0, ddof=1), atol=1e-5)
    assert result.status == "done"


def test_one_sample_has_no_spread():
    assert quick().spread is None


def test_samples_of_a_deterministic_method_agree_to_the_bit():
    result = quick("pnp", samples=3)
    assert (result.spread.array == 0).all()
    np.testing.assert_array_equal(result.volume.array, quick("pnp").volume.array)


def test_the_seed_decides():
    a, b, c = quick(seed=1), quick(seed=1), quick(seed=2)
    np.testing.assert_array_equal(a.volume.array, b.volume.array)
    assert not np.array_equal(a.volume.array, c.volume.array)


def test_spread_is_a_difference_of_values():
    """In HU the spread scales but is not shifted by the offset of air."""
    made = projection_problem(
        prior=FunctionPrior(smooth, quantity="HU", scale=1000.0, offset=-1000.0, range=(-1e3, 1e3), sigma_max=3e3)
    )
    made = replace(made, quantity="1/mm", op=(1 / WATER) * made.op)
    hounsfield = start_volume().with_array(start_volume().array * 1000 - 1000, "HU")
    result = quick(made=made, start=hounsfield, samples=2)
    in_mu = quick(made=made, start=hounsfield, samples=2, quantity="1/mm")
    assert (result.spread.array >= 0).all()
    np.testing.assert_allclose(result.spread.array, in_mu.spread.array * 1000 / WATER, rtol=1e-3, atol=1e-3)


# --- what is reported ---------------------------------------------------------------------------------------


def test_units_of_the_result():
    made = replace(projection_problem(with_prior=False), quantity="1/mm", op=(1 / WATER) * projection_problem().op)
    in_hu, in_mu = reconstruct(made, "cgls"), reconstruct(made, "cgls", quantity="1/mm")
    assert (in_hu.volume.quantity, in_mu.volume.quantity) == ("HU", "1/mm")
    np.testing.assert_allclose(in_hu.volume.array, in_mu.volume.to_quantity("HU").array, atol=0.05)
    assert in_hu.volume.geometry is made.geometry
    assert in_hu.volume.array.dtype == np.float32
    assert in_hu.volume.array.flags.c_contiguous


def test_the_result_says_what_was_done():
    result = quick(samples=2, seed=3)
    record = json.loads(json.dumps(result.provenance))
    assert record["method"] == "dds"
    assert record["settings"] == {name: getattr(make_sampler("dds", QUICK), name) for name in record["settings"]} | {
        "sequence": [],
        "tv_axes": [0],
        "directions": [0],
    }
    assert set(record["settings"]) == set(samplers.get("dds").__dataclass_fields__)
    assert (record["seed"], record["samples"], record["prior"]) == (3, 2, "test")
    assert record["evaluations_per_slice"] == 8
    assert record["seconds"] > 0
    assert record["peak_memory_mib"] > 10
    assert record["quantity"] == "a.u."


def test_the_discrepancy_of_both_volumes_is_reported():
    made = problem()
    result = quick(made=made)
    system = made.system()
    for name, volume in (("discrepancy", result.volume), ("baseline_discrepancy", result.baseline)):
        assert result.assessment[name] == pytest.approx(system.discrepancy(torch.from_numpy(volume.array)), rel=1e-5)


def test_the_data_stay_as_they_are():
    made = problem()
    copy = made.y.clone()
    quick(made=made)
    assert torch.equal(made.y, copy)


# --- auto ---------------------------------------------------------------------------------------------------


def test_auto_without_a_prior_is_total_variation_with_the_settings_given():
    result = reconstruct(problem(prior=None), "auto", weight=0.02)
    assert result.method == "tv"
    assert result.provenance["settings"]["weight"] == 0.02
    assert result.assessment["selection"]["reason"] == "no prior was given"


def knows(truth: torch.Tensor) -> FunctionPrior:
    """A prior that cannot be better: it answers the truth, half of the way."""
    return FunctionPrior(lambda x, sigma: 0.5 * (x + truth[:, None]), range=(0.0, 1.0))


@pytest.mark.parametrize(
    ("prior", "method"),
    [(knows(blocks(SHAPE)), "pnp"), (FunctionPrior(lambda x, sigma: torch.full_like(x, 0.9)), "tv")],
    ids=["perfect", "useless"],
)
def test_auto_takes_the_prior_where_it_predicts_better(prior: FunctionPrior, method: str):
    result = reconstruct(problem(prior=prior), "auto", **QUICK)
    selection = result.assessment["selection"]
    assert result.method == selection["method"] == method
    assert set(selection["errors"]) == {"tv", "pnp"}
    assert (selection["errors"]["pnp"] <= selection["errors"]["tv"]) == (method == "pnp")
    stages = {entry["stage"] for entry in result.stats}
    assert not any("held-out" in stage for stage in stages)


def test_stopping_in_the_held_out_test_leaves_no_result():
    with pytest.raises(Stopped, match="held-out test"):
        reconstruct(problem(), "auto", callback=stop_at(2), **QUICK)


def test_the_held_out_test_is_named_in_the_progress():
    stages = []
    reconstruct(problem(), "auto", callback=lambda report: stages.append(report.stage), **QUICK)
    assert any(stage.startswith("held-out test: ") for stage in stages)


def test_a_gaussian_prior_goes_through_the_front_door():
    """Periodic priors need whole slices: nothing is cropped while all of the volume is occupied."""
    spectrum = torch.full(SHAPE[1:], 0.04)
    prior = GaussianPrior(spectrum, mean=0.4)
    with_levels = replace(prior.card, sigma_min=1e-3, sigma_max=5.0)
    prior.card = with_levels
    result = quick("pnp", problem(prior=prior))
    assert np.isfinite(result.volume.array).all()
