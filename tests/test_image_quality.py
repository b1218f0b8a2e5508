"""Sharpness, noise power and regions, on images where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrecon.errors import InputError
from medrecon.image_quality import (
    edge,
    line_profile,
    noise_power,
    region_statistics,
    signed_distance,
    slice_steps,
    tissue_regions,
)

SPACING = (3.0, 1.0, 1.0)


def disc(radius: float = 30.0, size: int = 96) -> np.ndarray:
    """A disc with soft pixels at its border, in three equal slices, 0 and 1."""
    y, x = np.indices((4 * size, 4 * size)) / 4 - (size - 0.25) / 2
    fine = (np.hypot(y, x) < radius).astype(np.float64)
    plane = fine.reshape(size, 4, size, 4).mean(axis=(1, 3))
    return np.stack([plane] * 3)


@pytest.mark.parametrize("sigma", [1.5, 2.5])
def test_edge_of_a_blurred_disc(sigma: float):
    """A Gaussian blur: 10 % to 90 % in 2.563 sigma, half modulation at 0.1874 / sigma; within a tenth."""
    sharp = disc()
    distance = signed_distance(sharp > 0.5, SPACING)
    found = edge(gaussian_filter(sharp, (0, sigma, sigma)), distance, SPACING)
    assert found.rise == pytest.approx(2.563 * sigma, rel=0.1)
    assert found.half == pytest.approx(0.1874 / sigma, rel=0.12)
    assert found.transfer[0] == 1.0 and found.profile[0] < 0.05 and found.profile[-1] > 0.95


def test_edge_knows_millimetres():
    """The same image with pixels twice as large is half as sharp."""
    sharp = disc()
    blurred = gaussian_filter(sharp, (0, 2, 2))
    found = [edge(blurred, signed_distance(sharp > 0.5, s), s) for s in (SPACING, (3.0, 2.0, 2.0))]
    assert found[1].rise == pytest.approx(2 * found[0].rise, rel=1e-3)
    assert found[1].half == pytest.approx(found[0].half / 2, rel=1e-3)


def test_no_edge():
    assert edge(np.zeros((2, 16, 16)), signed_distance(np.zeros((2, 16, 16), bool), SPACING), SPACING) is None


def test_power_of_white_noise():
    """Flat at the variance times the area of a pixel; the quietest quarter of the patches lies a little lower."""
    noise = np.random.default_rng(0).normal(0, 3.0, (8, 96, 96))
    frequency, power = noise_power(noise + 40, np.ones(noise.shape, bool), (3.0, 0.5, 0.5))
    assert power.mean() == pytest.approx(9.0 * 0.25, rel=0.12)
    assert power[-3:].mean() == pytest.approx(power[:3].mean(), rel=0.25)
    assert frequency[0] > 0 and frequency[-1] <= 1.0


def test_power_of_coloured_noise_falls():
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 3.0, (8, 96, 96)), (0, 1.5, 1.5))
    _, power = noise_power(noise, np.ones(noise.shape, bool), SPACING)
    assert power[0] > 30 * power[-1]
    assert noise_power(noise, np.zeros(noise.shape, bool), SPACING) is None


def test_tissues_keep_away_from_borders():
    volume = np.full((4, 40, 40), -1000.0)
    volume[:, 5:35, 5:35] = 40.0
    volume[:, 12:24, 12:24] = -800.0
    found = tissue_regions(volume)
    assert set(found) == {"lung", "soft tissue"}
    assert found["lung"].sum() == 4 * 10 * 10 and not found["soft tissue"][:, 5].any()


# --- what a person points at -------------------------------------------------------------------------------------
def test_a_line_reads_a_ramp_exactly_in_millimetres():
    z, y, x = np.indices((4, 20, 30), dtype=float)
    ramp = 5 * z + 2 * y - x
    spacing = (3.0, 2.0, 0.5)
    distance, values = line_profile(ramp, np.array([[1, 2, 3], [1, 10, 3], [1, 10, 23]]), spacing)
    assert distance[-1] == pytest.approx(8 * 2.0 + 20 * 0.5)
    at = np.interp([0, 16, 26], distance, values)
    assert at == pytest.approx([5 + 4 - 3, 5 + 20 - 3, 5 + 20 - 23], abs=1e-5)
    assert np.diff(distance).max() <= 0.25 + 1e-9


def test_a_line_that_leaves_the_volume_reads_nothing_there():
    distance, values = line_profile(np.ones((2, 8, 8)), np.array([[0, 4, 4], [0, 4, 14]]), (1.0, 1.0, 1.0))
    assert np.isfinite(values[distance <= 3]).all() and np.isnan(values[distance > 3.01]).all()
    with pytest.raises(InputError, match="two different ends"):
        line_profile(np.ones((2, 8, 8)), np.array([[0, 4, 4], [0, 4, 4]]), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_statistics_of_a_rectangle_in_any_plane(axis: int):
    volume = np.moveaxis(np.random.default_rng(0).normal(40, 9, (6, 24, 20)), 0, axis)
    corners = np.array([[2, 2.5, 3.5], [2, 2.5, 9.5], [2, 12.5, 9.5], [2, 12.5, 3.5]])
    corners = np.insert(corners[:, 1:], axis, corners[:, 0], axis=1)
    found = region_statistics(volume, corners, (3.0, 2.0, 0.5))
    inside = volume.take(2, axis)[3:13, 4:10]
    assert found.pixels == 60
    assert found.area == pytest.approx(60 * 3.0 / (3.0, 2.0, 0.5)[axis])
    assert (found.mean, found.deviation) == pytest.approx((inside.mean(), inside.std()))
    assert (found.median, found.lowest, found.highest) == (np.median(inside), inside.min(), inside.max())


def test_statistics_of_an_ellipse_turned_by_an_angle():
    """The area of an ellipse is pi a b, and what lies in the corners of its box does not count."""
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    box = np.array([[-20, -10], [20, -10], [20, 10], [-20, 10]]) @ turn.T + 40
    outline = np.insert(box, 0, 1.0, axis=1)
    y, x = (np.indices((80, 80)) - 40.0).reshape(2, -1)
    along, across = turn.T @ np.stack([y, x])
    volume = np.where((along / 20) ** 2 + (across / 10) ** 2 <= 1, 7.0, 1000.0).reshape(80, 80)
    found = region_statistics(np.stack([volume] * 3), outline, (1.0, 1.0, 1.0), ellipse=True)
    assert found.area == pytest.approx(np.pi * 20 * 10, rel=0.02)
    assert found.highest == 7.0


def test_a_region_must_lie_in_the_volume_and_hold_a_pixel():
    outline = np.array([[1, 2.1, 2.1], [1, 2.1, 2.4], [1, 2.4, 2.4]])
    with pytest.raises(InputError, match="no pixel"):
        region_statistics(np.zeros((3, 8, 8)), outline, (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="outside"):
        region_statistics(np.zeros((3, 8, 8)), outline + np.array([4, 0, 0]), (1.0, 1.0, 1.0))


def test_steps_between_slices_count_inside_alone():
    volume = np.zeros((4, 6, 6))
    volume[2:, :3] = 10.0
    volume[1::2, 5] = 1e6
    inside = np.zeros(volume.shape, bool)
    inside[:, :4] = True
    assert slice_steps(volume, inside) == pytest.approx([0, 10 * 3 / 4, 0])
    assert slice_steps(volume, np.zeros_like(inside)) == pytest.approx([0, 0, 0])
