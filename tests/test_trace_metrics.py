"""Figures of filled traces against definitions written out, and what they are blind to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.traces import dipping
from medrecon.errors import InputError
from medrecon.trace_metrics import compare_traces, faint_share, fk_amplitude, loudness, snr

TRUTH = dipping().transpose(0, 2, 1)
MISSING = np.random.default_rng(0).random((8, 10)) < 0.5


def test_zeros_gain_nothing_on_missing_traces():
    """3 dB over all traces where half the energy is missing; 0 dB on the missing ones."""
    holes = np.where(MISSING[:, None], 0, TRUTH)
    lost = np.square(TRUTH.transpose(0, 2, 1)[MISSING]).sum() / np.square(TRUTH).sum()
    found = compare_traces(holes, TRUTH, MISSING)
    assert found["snr_missing"] == pytest.approx(0.0, abs=1e-6)
    assert found["snr_all"] == pytest.approx(-10 * math.log10(lost), rel=1e-5)
    assert found["correlation"] == 0.0 and found["loudness"] == 0.0
    assert found["fk_error"] > 0.2


def test_figures_of_a_perfect_and_of_a_faint_result():
    assert compare_traces(TRUTH, TRUTH, MISSING) == pytest.approx(
        {"snr_all": math.inf, "snr_missing": math.inf, "correlation": 1.0, "loudness": 1.0, "fk_error": 0.0}, abs=1e-6
    )
    half = compare_traces(0.5 * TRUTH, TRUTH, MISSING)
    assert half["loudness"] == pytest.approx(0.5, rel=1e-5) and half["correlation"] == pytest.approx(1.0)
    assert half["snr_missing"] == pytest.approx(20 * math.log10(2), rel=1e-4)
    assert snr(-TRUTH, TRUTH) == pytest.approx(-20 * math.log10(2), rel=1e-4)


def test_traces_that_the_truth_does_not_know_are_left_out():
    truth = TRUTH.copy()
    truth[0, :, 0] = 0
    missing = MISSING.copy()
    missing[0, 0] = True
    found = np.where(missing[:, None], 0.5 * TRUTH, TRUTH)
    reference = missing.copy()
    reference[0, 0] = False
    assert compare_traces(found, truth, missing)["snr_missing"] == pytest.approx(snr(found, TRUTH, reference))
    with pytest.raises(InputError, match="empty"):
        snr(TRUTH, np.zeros_like(TRUTH))


def test_without_holes_there_are_no_figures_of_holes():
    assert set(compare_traces(TRUTH, TRUTH, np.zeros((8, 10), bool))) == {"snr_all", "fk_error"}


def test_a_plane_wave_is_a_point_in_the_spectrum():
    """Frequency 8 of 64 samples, 5 cycles over 40 traces; the taper leaves it where it is."""
    time, trace = np.meshgrid(np.arange(64), np.arange(40), indexing="ij")
    wave = np.cos(2 * np.pi * (8 * time / 64 - 5 * trace / 40)).astype(np.float32)
    spectrum = fk_amplitude(np.stack([wave, 0.5 * wave]))
    assert spectrum.shape == (33, 40)
    frequency, number = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    assert (frequency, abs(number - 20)) == (8, 5)


def test_silence_is_seen_without_a_truth():
    live = ~MISSING
    assert faint_share(loudness(np.where(live[:, None], TRUTH, 0.9 * TRUTH)), live) < 0.1
    assert faint_share(loudness(np.where(live[:, None], TRUTH, 0.05 * TRUTH)), live) > 0.9
    assert faint_share(loudness(TRUTH), np.ones_like(live)) == 0.0
