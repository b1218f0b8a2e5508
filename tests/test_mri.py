"""Simulated k-space, and the problem that measured k-space poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.mri import full_kspace, head, psnr
from medrecon.data.kspace import KSpace
from medrecon.data.volume import Geometry
from medrecon.engine import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.mri import coil_maps, measurement_of, mri_problem
from medrecon.physics.mri.fourier import centred_fft, centred_ifft, embedded
from medrecon.physics.mri.nonuniform import radial_trajectory
from medrecon.scans import problem_from_scan
from medrecon.simulate_mri import simulate_kspace

VOLUME = head((2, 48, 40), (4.0, 4.0, 4.0))


def scan(**settings: object) -> KSpace:
    options = {
        "mask": "gaussian1d",
        "acceleration": 2.5,
        "coils": 4,
        "noise": 0.005,
        "centre": 14,
        "seed": 2,
    } | settings
    return simulate_kspace(VOLUME, **options)  # type: ignore[arg-type]


# --- simulation ----------------------------------------------------------------------------------------------------
def test_full_noise_free_data_are_the_volume_in_every_coil_together():
    """The root sum of squares is the magnitude, because the coils have unit length; blur of the finer grid aside."""
    made = scan(acceleration=1.0, noise=0.0, centre=None)
    images = centred_ifft(torch.from_numpy(made.data), (2, 3))
    assert psnr(torch.linalg.vector_norm(images, dim=0), VOLUME.array) > 32
    assert float(images.angle().std()) > 0.5  # the coils and the object have a phase


def test_noise_has_the_stated_level_and_follows_the_seed():
    quiet, loud, again, other = (scan(noise=n, seed=s) for n, s in ((0.0, 2), (0.02, 2), (0.02, 2), (0.02, 3)))
    measured = np.broadcast_to(quiet.mask, quiet.data.shape[1:])
    difference = (loud.data - quiet.data)[:, measured]
    sigma = 0.02 * VOLUME.array.max()
    assert difference.real.std() == pytest.approx(sigma, rel=0.03)
    assert difference.imag.std() == pytest.approx(sigma, rel=0.03)
    assert loud.noise_covariance[0, 0].real == pytest.approx(sigma**2, rel=1e-5)
    assert np.array_equal(loud.data, again.data)
    assert not np.array_equal(loud.data, other.data)
    assert not loud.data[:, ~measured].any()


def test_masks_of_two_directions_make_a_3d_scan():
    made = scan(mask="poisson2d", acceleration=3.0)
    assert made.encoded == (0, 1, 2)
    assert made.readout_axis == 0
    assert made.mask.shape == (1, 48, 40)
    assert made.meta["acceleration"] == pytest.approx(3.0, rel=0.01)
    assert psnr(reconstruct(problem_from_scan(made), "cg-sense").volume.array, VOLUME.array) > 22


def test_the_grid_that_measures_is_not_the_grid_that_reconstructs():
    same, finer = (scan(refine=n, noise=0.0, acceleration=1.0, centre=None).data for n in (1, 2))
    difference = np.linalg.norm(same - finer) / np.linalg.norm(same)
    assert 0.005 < difference < 0.1


def test_what_cannot_be_simulated_is_refused():
    with pytest.raises(InputError, match="NaN"):
        simulate_kspace(VOLUME.with_array(VOLUME.array * np.nan), "uniform1d", 2)
    with pytest.raises(InputError, match="no signal"):
        simulate_kspace(VOLUME.with_array(VOLUME.array * 0), "uniform1d", 2)
    with pytest.raises(UsageError, match="unknown mask"):
        scan(mask="gauss")
    with pytest.raises(UsageError, match="coils and refine"):
        scan(coils=0)


# --- problems ------------------------------------------------------------------------------------------------------
def test_the_truth_fits_the_data_nearly_to_their_noise():
    system = problem_from_scan(scan(noise=0.02)).system()
    truth = system.from_quantity(torch.from_numpy(VOLUME.array))
    assert 0.95 < system.discrepancy(truth) < 1.6
    assert system.discrepancy(truth * 0) > 5


def test_noise_alone_has_discrepancy_one():
    """Counted in real numbers of measured samples, whitened: whatever the covariance and the mask."""
    made = scan(noise=0.02)
    random = np.random.default_rng(0)
    factor = np.eye(4) + 0.4 * (random.standard_normal((4, 4)) + 1j * random.standard_normal((4, 4)))
    parts = random.standard_normal((2, 4, made.data[0].size))
    noise = (factor @ (parts[0] + 1j * parts[1])).reshape(made.data.shape).astype(np.complex64) * made.mask
    noisy = replace(made, data=noise, noise_covariance=factor @ factor.conj().T)
    system = mri_problem(noisy, map_method="low-resolution").system()
    assert system.discrepancy(torch.zeros(VOLUME.geometry.shape)) == pytest.approx(1.0, abs=0.03)


def test_repeated_samples_weigh_more():
    made = scan()
    averages = np.ones(made.mask.shape, dtype=np.float32)
    averages[..., 18:22] = 4
    found = measurement_of(replace(made, averages=averages))
    assert float(found.amplitude.max()) == 2.0
    assert float(found.amplitude[0, 0, 20]) == 2.0


def test_a_mask_that_is_not_stated_follows_from_the_samples():
    made = scan()
    found = measurement_of(replace(made, mask=None))
    assert np.array_equal((found.amplitude > 0).numpy(), np.broadcast_to(made.mask, made.data.shape[1:]))


def test_readout_oversampling_is_removed_without_loss():
    """Twice the field of view along the readout: the volume is the same."""
    made = scan(noise=0.0)
    images = centred_ifft(torch.from_numpy(made.data), (2,))
    longer = centred_fft(embedded(images.movedim(2, -1), (96,)).movedim(-1, 2).contiguous(), (2,)).numpy()
    double = replace(made, data=longer, field_of_view=(8.0, 384.0, 160.0))
    first, second = (reconstruct(problem_from_scan(s), "cg-sense").volume.array for s in (made, double))
    assert psnr(second, first) > 35


def test_partial_fourier_is_completed_by_the_phase_of_the_maps():
    """A real volume has a Hermitian k-space once its phase is in the maps: the missing quarter follows."""
    made = simulate_kspace(VOLUME, "uniform1d", 1, coils=4, noise=0.002, partial=0.65, seed=1)
    assert not made.data[..., :14].any()
    problem = problem_from_scan(made)
    assert psnr(reconstruct(problem, "tv", iterations=30).volume.array, VOLUME.array) > (
        psnr(reconstruct(problem, "zero-filled").volume.array, VOLUME.array) + 3
    )


def test_a_single_coil_has_a_map_of_modulus_one():
    made = scan(coils=1)
    maps = coil_maps(measurement_of(made))
    assert torch.allclose(maps.abs(), torch.ones_like(maps.abs()), atol=1e-4)
    assert psnr(reconstruct(problem_from_scan(made), "l1-wavelet").volume.array, VOLUME.array) > 18


def test_a_separate_calibration_serves_where_the_data_have_none():
    made = scan(centre=0, mask="uniform1d", acceleration=2)
    full = full_kspace(VOLUME, 4)[:, :, 12:36, 8:32].numpy()
    found = coil_maps(measurement_of(replace(made, calibration=full)))
    assert tuple(found.shape) == (1, 4, 2, 48, 40)
    assert float((torch.linalg.vector_norm(found, dim=1) > 0.9).double().mean()) > 0.4


def test_virtual_coils_lose_little():
    made = scan(coils=8)
    all_coils, four = (reconstruct(mri_problem(made, coils=n), "cg-sense").volume.array for n in (0, 5))
    assert mri_problem(made, coils=5).y.shape[1] == 5
    assert abs(psnr(all_coils, VOLUME.array) - psnr(four, VOLUME.array)) < 1.0


def test_radial_spokes_are_reconstructed():
    pytest.importorskip("finufft")
    from medrecon.physics.mri.nonuniform import NonCartesianSense

    made = scan()
    trajectory = radial_trajectory(40, 96, (48, 40))
    maps = coil_maps(measurement_of(scan(noise=0.0, acceleration=1.0, centre=None)))
    op = NonCartesianSense(maps, torch.from_numpy(trajectory), (2, 48, 40))
    truth = torch.from_numpy(VOLUME.array).to(torch.complex64)
    data = op(truth).transpose(0, 1).contiguous().numpy()
    spokes = replace(
        made, data=data, mask=np.ones((1, 40, 96), bool), trajectory=trajectory, matrix=(2, 48, 40), readout_axis=None,
        noise_covariance=None,
    )  # fmt: skip
    problem = problem_from_scan(spokes)
    assert psnr(reconstruct(problem, "cg-sense").volume.array, VOLUME.array) > 25
    gridded = reconstruct(problem, "zero-filled").volume.array
    assert psnr(gridded, VOLUME.array) > 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": np.zeros((4, 2, 48, 40), np.complex64)}, "zeros alone"),
        ({"data": np.full((4, 2, 48, 40), np.nan, np.complex64)}, "NaN"),
        ({"data": np.ones((4, 48, 40), np.complex64)}, "four axes"),
        ({"mask": np.ones((1, 1, 39), bool)}, "mask does not fit"),
        ({"noise_covariance": np.eye(3)}, "of other coils"),
    ],
)
def test_bad_measurements_are_refused(change: dict, words: str):
    with pytest.raises(InputError, match=words):
        measurement_of(replace(scan(), **change))


def test_another_grid_and_a_missing_centre_are_refused():
    made = scan()
    with pytest.raises(InputError, match="grid that it was measured on"):
        problem_from_scan(made, grid=Geometry.from_spacing((2, 24, 20), (4.0, 8.0, 8.0)))
    with pytest.raises(UsageError, match="coil maps"):
        mri_problem(made, map_method="walsh")
    empty = scan().mask.copy()
    empty[..., 20] = False
    with pytest.raises(InputError, match="centre of k-space was not measured"):
        mri_problem(replace(made, mask=empty))


@pytest.mark.parametrize(("mask", "acceleration"), [("gaussian1d", 2.5), ("poisson2d", 4.0)])
def test_few_conjugate_gradients_solve_total_variation_of_cartesian_samples(mask: str, acceleration: float):
    """Those that the operator asks for leave what many more leave."""
    problem = mri_problem(scan(mask=mask, acceleration=acceleration, noise=0.01))
    assert problem.op.method_settings["tv"]["cg_iterations"] < 8
    usual, exact = (
        reconstruct(problem, "tv", judgement="none", **settings).volume.array  # type: ignore[arg-type]
        for settings in ({}, {"iterations": 400, "cg_iterations": 20})
    )
    assert np.linalg.norm(usual - exact) < 5e-3 * np.linalg.norm(exact)
    assert abs(psnr(usual, VOLUME.array) - psnr(exact, VOLUME.array)) < 0.1
