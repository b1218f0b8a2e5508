"""Synthetic surveys: what is drawn is where it should be, sounds as it should, and is the same for a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medrecon.data import read, seismic_model, write
from medrecon.data.seismic_earth import Channel, Fault, draw_earth, smooth_map
from medrecon.data.seismic_gathers import Gathers, draw_gathers, draw_shot
from medrecon.data.seismic_model import models
from medrecon.data.seismic_wavelets import Wavelet, filtered, random_wavelet
from medrecon.errors import MedreconError
from medrecon.physics.slopes import local_slopes

SHAPES = {"volume": (9, 20, 48), "line": (1, 40, 64), "gathers": (4, 24, 80), "shot": (6, 24, 80)}


@pytest.mark.parametrize("kind", models.names())
def test_a_seed_is_a_survey_and_files_keep_it(kind, tmp_path):
    first = seismic_model.seismic_model(kind, SHAPES[kind], seed=3)
    again, other = (seismic_model.seismic_model(kind, SHAPES[kind], seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(first.data, again.data)
    assert abs(np.corrcoef(first.data.ravel(), other.data.ravel())[0, 1]) < 0.5
    assert first.live.all() and first.data.dtype == np.float32
    back = read(write(tmp_path / "a.sgy", first))
    np.testing.assert_array_equal(back.data, first.data)
    assert (back.kind, back.rows, back.columns, back.interval) == (first.kind, first.rows, first.columns, 4000)
    assert "SYNTHETIC" in "".join(back.file.text)


def test_slabs_do_not_change_a_volume(monkeypatch):
    whole = seismic_model.seismic_model("volume", SHAPES["volume"], seed=8).data
    monkeypatch.setattr(seismic_model, "_SLAB", 2 * 20 * 48)
    np.testing.assert_allclose(seismic_model.seismic_model("volume", SHAPES["volume"], seed=8).data, whole, atol=1e-3)


def test_surveys_differ_in_dip_and_frequency():
    """Over seeds: from flat to steep, and a factor of two in frequency."""
    slopes, middles = [], []
    for seed in range(12):
        data = seismic_model.seismic_model("volume", (12, 24, 96), seed=seed).data
        slopes.append(np.square(np.diff(data, axis=1)).mean() / np.square(np.diff(data, axis=2)).mean())
        power = np.square(np.abs(np.fft.rfft(data, axis=2))).mean(axis=(0, 1))
        middles.append((power * np.arange(len(power))).sum() / power.sum())
    assert max(slopes) > 10 * min(slopes)
    assert max(middles) > 2 * min(middles)


def test_wavelets_have_their_band():
    frequencies = np.linspace(0, 125, 1001)
    ricker = np.abs(Wavelet((30.0,)).spectrum(frequencies))
    assert frequencies[ricker.argmax()] == pytest.approx(30, abs=0.2) and ricker.max() == pytest.approx(1, abs=1e-3)
    ormsby = np.abs(Wavelet((5, 10, 40, 60), 1.0).spectrum(frequencies))
    assert ormsby[(frequencies < 5) | (frequencies > 60)].max() == 0
    np.testing.assert_allclose(ormsby[(frequencies > 10) & (frequencies < 40)], 1)
    for seed in range(20):
        drawn = np.abs(random_wavelet(np.random.default_rng(seed), 125.0).spectrum(frequencies))
        assert np.square(drawn[frequencies > 118]).sum() < 0.02 * np.square(drawn).sum()


def test_a_spike_becomes_the_ricker_wavelet():
    """In the time domain it is ``(1 - 2 a) exp(-a)``, ``a = (pi f t)^2``; from fine samples onto coarse ones."""
    fine = np.zeros(256)
    fine[4 * 32 + 1] = 1.0
    (trace,) = filtered(fine, 4, (Wavelet((25.0,)),), 0.004)
    a = (np.pi * 25 * 0.004 * (np.arange(64) - 32.25)) ** 2
    expected = (1 - 2 * a) * np.exp(-a)
    np.testing.assert_allclose(trace / trace.max(), expected / expected.max(), atol=0.02)


def test_a_fault_moves_what_lies_behind_it_by_its_throw():
    fault = Fault((0.0, 10.0, 5.0), strike=0.0, lean=0.5, throw=7.0, reach=np.inf, bend=0.0)
    row, column, depth = np.meshgrid([0.0, 3.0], np.arange(20.0), np.arange(10.0), indexing="ij")
    moved = depth - fault.moved(row, column, depth)
    np.testing.assert_array_equal(moved, np.where(column - 10 + 0.5 * (depth - 5) > 0, 7.0, 0.0))


def test_a_channel_is_deepest_in_its_middle():
    channel = Channel((0.0, 8.0), 0.0, 20.0, half_width=4.0, depth=6.0, swing=0.0, wavelength=40.0, phase=0.0,
                      contrast=1.0)  # fmt: skip
    row, column, depth = np.meshgrid([0.0, 9.0], np.arange(17.0), np.arange(40.0), indexing="ij")
    filled = channel.fill(row, column, depth).sum(axis=2)
    np.testing.assert_array_equal(filled[:, 8], 6)
    assert (filled[:, [4, 12]] == 0).all() and (np.diff(filled[0, 4:9]) >= 0).all()


def test_maps_have_the_slope_that_is_asked_for():
    bumps = smooth_map(np.random.default_rng(1), 80, 80, 6.0, 0.5)
    slope = np.sqrt(np.square(np.diff(bumps, axis=0)).mean() + np.square(np.diff(bumps, axis=1)).mean())
    assert slope == pytest.approx(0.5, rel=0.3)


def test_folds_are_as_steep_as_is_asked_for():
    """Measured on the data: events of steep folds are late by more from trace to trace; all else is drawn as before."""

    def steepest(steepness: float | None) -> float:
        data = seismic_model.seismic_model("volume", (24, 48, 96), seed=3, steepness=steepness).data
        return float(np.quantile(np.abs(local_slopes(data.transpose(0, 2, 1))), 0.9))

    assert steepest(0.05) < 0.5 * steepest(1.0)


def test_young_strata_lie_on_an_eroded_surface():
    """Above the unconformity nothing changes where only the old strata do."""
    rng = np.random.default_rng
    earth = next(e for e in (draw_earth(rng(s), 6, 12, 40) for s in range(20)) if e.young is not None)
    other = replace(earth, old=replace(earth.old, logs=earth.old.logs + 50), late_faults=())
    earth = replace(earth, late_faults=())
    change = other.impedance(slice(0, 6)) - earth.impedance(slice(0, 6))
    below = np.arange(80) / 2 >= earth.surface[..., None]
    assert (change[~below] == 0).all() and below.any() and (~below).any()
    assert np.median(change[below]) == pytest.approx(50)


def test_reflections_lie_on_hyperbolas():
    """The peak of one event, against ``sqrt(t0^2 + h^2 / v^2)``; samples of 4 ms."""
    gathers = Gathers(
        2, 30, 200, 0.004, -700.0, 50.0, times=np.array([[0.2, 0.22]]), velocities=np.array([2000.0]),
        skews=np.zeros(1), amplitudes=np.ones(1), changes=np.zeros(1), straight=(), spreading=0.0, ground_roll=False,
    )  # fmt: skip
    seed = next(s for s in range(50) if random_wavelet(np.random.default_rng(s), 125.0).phase == 0)
    data = gathers.record(np.random.default_rng(seed))
    expected = np.hypot(np.array([0.2, 0.22])[:, None], gathers.offsets / 2000)
    assert np.abs(data.argmax(axis=2) - expected / 0.004).max() <= 1


def test_reflections_of_a_shot_lie_on_hyperboloids():
    """The peak of one event, against ``sqrt(t0^2 + (x^2 + y^2) / v^2)``, and every shot on such a surface."""
    across = np.array([-300.0, 100.0, 500.0])
    gathers = Gathers(
        3, 30, 200, 0.004, -700.0, 50.0, times=np.full((1, 3), 0.2), velocities=np.array([2000.0]),
        skews=np.zeros(1), amplitudes=np.ones(1), changes=np.zeros(1), straight=(), spreading=0.0, ground_roll=False,
        across=across,
    )  # fmt: skip
    seed = next(s for s in range(50) if random_wavelet(np.random.default_rng(s), 125.0).phase == 0)
    data = gathers.record(np.random.default_rng(seed))
    expected = np.sqrt(0.2**2 + (across[:, None] ** 2 + gathers.offsets**2) / 2000**2)
    assert np.abs(data.argmax(axis=2) - expected / 0.004).max() <= 1
    drawn = draw_shot(np.random.default_rng(5), (6, 20, 64), 0.004)
    assert np.ptp(drawn.times, axis=1).max() == 0 and np.ptp(drawn.across) >= 5 * drawn.step


def test_ground_roll_is_slow_low_and_comes_when_it_is_asked_for():
    plain = seismic_model.seismic_model("gathers", (2, 40, 256), seed=11)
    rolling = seismic_model.seismic_model("gathers", (2, 40, 256), seed=11, ground_roll=True)
    assert np.abs(plain.data - rolling.data).max() > 0
    field = draw_gathers(np.random.default_rng(0), (2, 40, 256), 0.004, ground_roll=True)
    roll = field._roll(np.random.default_rng(1), 1.0)[0]
    power = np.square(np.abs(np.fft.rfft(roll, axis=1))).sum(axis=0)
    assert (power * np.arange(len(power))).sum() / power.sum() < 0.2 * len(power)
    late = np.abs(field.offsets)[:, None] / 1200 > np.arange(256) * 0.004 + 0.1
    assert np.square(roll[late]).sum() < 0.02 * np.square(roll).sum()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "cube"}, "unknown kind of seismic model"),
        ({"shape": (4, 4, 4)}, "too small"),
        ({"kind": "line", "shape": (2, 20, 40)}, "one row"),
        ({"shape": (5000, 5000, 5000)}, "too large"),
        ({"interval": 0.0}, "microseconds"),
        ({"seed": -1}, "not negative"),
        ({"ground_roll": True}, "no ground roll"),
        ({"kind": "gathers", "steepness": 1.0}, "no steepness"),
        ({"steepness": 0.0}, "samples a trace"),
    ],
)
def test_models_that_cannot_be(arguments, words):
    with pytest.raises(MedreconError, match=words):
        seismic_model.seismic_model(**arguments)
