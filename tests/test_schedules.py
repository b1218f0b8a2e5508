"""Noise levels fall from one end to the other, in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.schedules import edm_schedule, flow_schedule, log_schedule, schedules, vp_schedule

NAMES = schedules.names()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_levels_fall_strictly_between_the_ends(name: str, steps: int):
    levels = schedules.get(name)(1.5, 0.02, steps)
    assert levels.dtype == np.float64
    assert len(levels) == steps
    np.testing.assert_allclose([levels[0], levels[-1]], [1.5, 0.02], rtol=1e-12)
    assert (np.diff(levels) < 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_the_highest_level(name: str):
    assert schedules.get(name)(0.7, 0.02, 1).tolist() == pytest.approx([0.7])


def test_logarithmic_levels_have_a_constant_ratio():
    levels = log_schedule(1.0, 0.01, 5)
    np.testing.assert_allclose(levels[1:] / levels[:-1], 10**-0.5)


def test_edm_levels_match_the_formula():
    """Karras et al. 2022, eq. 5, written out for the middle of three levels and rho = 7."""
    middle = ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    np.testing.assert_allclose(edm_schedule(80.0, 0.002, 3)[1], middle)


def test_vp_levels_are_those_of_the_discrete_process():
    """1000 betas from 1e-4 to 0.02: the level after every 100th, within the error of the continuous limit."""
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    discrete = np.sqrt(1 / kept - 1)[99::100]
    levels = vp_schedule(discrete[-1], discrete[0], 10)[::-1]
    np.testing.assert_allclose(levels, discrete, rtol=0.005)


def test_flow_levels_are_equidistant_in_time():
    levels = flow_schedule(9.0, 0.25, 8)
    np.testing.assert_allclose(levels / (1 + levels), np.linspace(0.9, 0.2, 8))
