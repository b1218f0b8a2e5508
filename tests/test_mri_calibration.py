"""A calibration of few lines, completed: the maps of it explain the truth, and nothing is completed without need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.mri import head
from medrecon.data.kspace import KSpace
from medrecon.mri import measurement_of, mri_problem
from medrecon.mri_calibration import completed
from medrecon.physics.mri.nonuniform import radial_trajectory
from medrecon.simulate_mri import simulate_kspace

VOLUME = head((3, 96, 80), (4.0, 2.0, 2.0))
WIDTH = 24


def scan(**settings: object) -> KSpace:
    options = {"mask": "gaussian1d", "acceleration": 4.0, "coils": 6, "noise": 0.005, "centre": 6, "seed": 1}
    return simulate_kspace(VOLUME, **(options | settings))  # type: ignore[arg-type]


def misfit(kspace: KSpace, *, complete: bool) -> float:
    """Of the truth, in units of the noise: 1 with the right maps."""
    system = mri_problem(kspace, complete=complete).system()
    return float(system.discrepancy(system.from_quantity(torch.from_numpy(VOLUME.array))))


def wider(kspace: KSpace) -> torch.Tensor:
    return completed(measurement_of(kspace), WIDTH, map_method="auto", nonnegative=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_maps_of_a_completed_calibration_explain_the_truth(seed: int):
    made = scan(seed=seed)
    narrow, whole = misfit(made, complete=False), misfit(made, complete=True)
    assert narrow > 1.5
    assert whole - 1 < 0.5 * (narrow - 1)


def test_measured_samples_stay_as_they_are():
    made = scan()
    found, calibration = measurement_of(made), wider(made)
    assert calibration.shape[2:] == (WIDTH, WIDTH)
    lines = torch.from_numpy(made.mask[0, 0, 40 - WIDTH // 2 : 40 + WIDTH // 2].copy())
    centre = found.data[:, :, 48 - WIDTH // 2 : 48 + WIDTH // 2, 40 - WIDTH // 2 : 40 + WIDTH // 2]
    assert 6 <= int(lines.sum()) < WIDTH
    assert torch.equal(calibration[..., lines], centre[..., lines])
    assert bool((calibration[..., ~lines] != 0).any())


def test_a_scan_of_two_directions_is_completed_in_both():
    made = scan(mask="poisson2d", acceleration=5.0)
    assert min(measurement_of(made).calibration.shape[2:]) < WIDTH
    assert wider(made).shape[2:] == (WIDTH, WIDTH)


@pytest.mark.parametrize(
    "made",
    [
        scan(centre=WIDTH, acceleration=2.0),
        scan(coils=1),
        scan(mask="uniform1d", centre=2),
        replace(
            scan(acceleration=1.0, centre=None),
            data=np.ones((6, 3, 20, 96), dtype=np.complex64),
            mask=None,
            matrix=(3, 96, 80),
            trajectory=radial_trajectory(20, 96, (96, 80)),
        ),
    ],
    ids=["wide enough", "one coil", "nothing to begin with", "trajectory"],
)
def test_other_calibrations_come_back(made: KSpace):
    found = measurement_of(made)
    assert completed(found, WIDTH, map_method="auto", nonnegative=True) is found.calibration


def test_a_completion_that_explains_the_data_worse_is_left_out():
    """Noise in every coil: no volume predicts anything, and what it predicts is no calibration."""
    made = scan()
    random = np.random.default_rng(0)
    data = (random.standard_normal(made.data.shape) + 1j * random.standard_normal(made.data.shape)).astype(np.complex64)
    found = measurement_of(replace(made, data=data * made.mask))
    assert completed(found, WIDTH, map_method="auto", nonnegative=True).shape == found.calibration.shape
