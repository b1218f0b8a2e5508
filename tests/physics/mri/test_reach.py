"""How far frequencies lie from samples, and what of a volume counts there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.mri import head
from helpers.problems import projection_problem
from medrecon.engine import reconstruct
from medrecon.physics.mri.reach import distances, shares
from medrecon.physics.mri.sense import CartesianSense, RealVolume
from medrecon.prior import GaussianPrior
from medrecon.problem import Problem
from medrecon.samplers.settings import sampler_for
from medrecon.scans import problem_from_scan
from medrecon.simulate_mri import simulate_kspace


def maps(grid: tuple[int, int, int], coils: int = 2) -> torch.Tensor:
    values = torch.randn((1, coils, *grid), dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    return values / values.abs().square().sum(dim=1, keepdim=True).sqrt()


@pytest.mark.parametrize("n", [8, 9])
def test_a_sample_speaks_for_the_other_side_of_the_centre_too(n: int):
    measured = np.zeros(n, bool)
    measured[n // 2 + 2] = True
    expected = [abs(abs(k - n // 2) - 2) for k in range(n)]
    np.testing.assert_array_equal(distances(measured), expected)


def test_distances_in_a_plane_are_those_of_the_nearest_sample():
    measured = np.zeros((9, 11), bool)
    measured[4, 5], measured[1, 3] = True, True
    places = np.array([(4, 5), (1, 3), (7, 7)])
    far = np.hypot(*(np.indices((9, 11)).reshape(2, -1, 1) - places.T[:, None])).min(axis=-1).reshape(9, 11)
    np.testing.assert_allclose(distances(measured), far)


def test_where_nothing_is_measured_nothing_counts():
    assert float(shares(np.zeros(6, bool), (6,), 3.0).abs().max()) == 0.0


def test_shares_are_one_at_samples_and_a_half_at_the_reach():
    measured = np.zeros(33, bool)
    measured[16] = True
    found = shares(measured, (33,), 5.0)
    assert found[0] == 1 and found[5] == found[-5] == 0.5 and found[16] < 0.01
    assert (found[:16].diff() < 0).all()


def test_a_smaller_image_takes_the_frequencies_that_it_has():
    """Half of the encoded field of view: every second frequency."""
    measured = np.zeros(32, bool)
    measured[12:21] = True
    whole, half = shares(measured, (32,), 3.0), shares(measured, (16,), 3.0)
    torch.testing.assert_close(half, whole[::2])


@pytest.mark.parametrize("mask", ["lines", "lines of each slice", "points of a 3D scan"])
def test_waves_of_measured_frequencies_stay_and_distant_ones_go(mask: str):
    n = 24
    pattern = {"lines": torch.zeros(1, 1, n), "lines of each slice": torch.zeros(3, 1, n),
               "points of a 3D scan": torch.zeros(1, n, n)}[mask]  # fmt: skip
    pattern[..., n // 2 - 3 : n // 2 + 4] = 1
    if mask == "lines of each slice":
        pattern[1, 0, n // 2 + 10] = 1
    if mask == "points of a 3D scan":
        pattern[:, : n // 2 - 3] = pattern[:, n // 2 + 4 :] = 0
    encoded = (0, 1, 2) if mask == "points of a 3D scan" else (1, 2)
    op = RealVolume(CartesianSense(maps((3, n, n)), pattern > 0, (3, n, n), encoded))

    def kept(frequency: int) -> list[float]:
        wave = torch.cos(2 * torch.pi * frequency * torch.arange(n) / n).expand(3, n, n).contiguous()
        left = op.within_reach(wave, 2.0)
        return (torch.linalg.vector_norm(left, dim=(1, 2)) / torch.linalg.vector_norm(wave, dim=(1, 2))).tolist()

    assert kept(2) == pytest.approx([1, 1, 1], abs=1e-5)
    assert kept(5) == pytest.approx([0.5, 0.5, 0.5], abs=1e-5)
    far = 1 / (1 + 3.5**4)
    assert kept(10) == pytest.approx([far, 1 if mask == "lines of each slice" else far, far], abs=1e-5)


def test_samples_that_are_held_out_do_not_count():
    n = 24
    pattern = torch.zeros(1, 1, n)
    pattern[..., [n // 2, n // 2 + 8]] = 1
    op = RealVolume(CartesianSense(maps((2, 5, n)), pattern > 0, (2, 5, n)))
    wave = torch.cos(2 * torch.pi * 8 * torch.arange(n) / n).expand(2, 5, n).contiguous()
    torch.testing.assert_close(op.within_reach(wave, 2.0), wave)
    used = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1)
    assert float(op.within_reach(wave, 2.0, used).abs().max()) == pytest.approx(1 / (1 + 4**4), rel=1e-3)


def test_a_fully_sampled_volume_stays_as_it_is():
    op = RealVolume(CartesianSense(maps((2, 5, 6)), torch.ones(1, 1, 1) > 0, (2, 5, 6)))
    x = torch.randn(2, 5, 6)
    assert op.within_reach(x, 2.0) is x


# --- in methods ------------------------------------------------------------------------------------------------------
def answer(problem: Problem, method: str, **settings: object) -> np.ndarray:
    return reconstruct(problem, method, judgement="none", **settings).volume.array


@pytest.fixture(scope="module")
def few_lines() -> Problem:
    """The 9 central lines of 40."""
    scan = simulate_kspace(head((2, 40, 40), (4.0, 4.0, 4.0)), "uniform1d", 1, coils=4, noise=0.002, seed=1)
    mask = np.zeros_like(scan.sampling)
    mask[..., 16:25] = scan.sampling[..., 16:25]
    return problem_from_scan(replace(scan, mask=mask, data=scan.data * mask))


def energies(volume: np.ndarray) -> tuple[float, float]:
    """Of measured frequencies, and of those 8 lines and more from them."""
    power = np.abs(np.fft.fftshift(np.fft.fft(volume, axis=2), axes=2)) ** 2
    far = np.abs(np.arange(40) - 20) >= 12
    return float(power[..., 16:25].sum()), float(power[..., far].sum())


def test_total_variation_keeps_what_was_measured_and_loses_what_lies_far(few_lines: Problem):
    plain, filtered = (energies(answer(few_lines, "tv", reach=reach)) for reach in (0.0, 2.0))
    assert filtered[0] == pytest.approx(plain[0], rel=0.01) and filtered[1] < 0.1 * plain[1]


def test_the_answer_of_a_prior_is_filtered_before_it_is_fitted(few_lines: Problem):
    """A prior that answers with what it is given, noise, is believed near the samples alone; the data keep the rest."""
    given = replace(few_lines, prior=GaussianPrior(torch.full((40, 40), 1e6)))
    settings = {"steps": 1, "tv": 0.0, "noise_scale": 1.0, "sigma_max": 1.0, "sigma_min": 1.0}
    plain, filtered = (energies(answer(given, "diffpir", reach=reach, **settings)) for reach in (0.0, 2.0))
    assert filtered[1] < 0.02 * plain[1] and filtered[0] > 0.5 * plain[0]


def test_it_is_the_default_of_refine_in_mri_alone(few_lines: Problem):
    projections = projection_problem(with_prior=False)
    assert sampler_for(few_lines, "refine", {}).reach == 12.0
    assert sampler_for(few_lines, "tv", {}).reach == 0.0
    assert sampler_for(projections, "refine", {}).reach == 0.0
    assert np.array_equal(answer(projections, "tv", reach=3.0), answer(projections, "tv"))
