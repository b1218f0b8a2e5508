"""Sharpness, noise power and regions, on images where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrecon.image_quality import edge, noise_power, signed_distance, tissue_regions

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
