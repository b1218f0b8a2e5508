"""Phase with detail, which the centre of k-space does not show."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from helpers.mri import head, maps_and_image, psnr
from medrecon.data.kspace import KSpace
from medrecon.engine import reconstruct
from medrecon.errors import UsageError
from medrecon.mri import mri_problem
from medrecon.mri_phase import imaginary_errors, with_phase_of
from medrecon.physics.mri.fourier import centred_fft
from medrecon.physics.mri.masks import make_mask
from medrecon.scans import problem_from_scan

VOLUME = head((2, 64, 56), (4.0, 3.0, 3.0))
NOISE = 4.0


@cache
def scan(*, detail: bool) -> KSpace:
    """Poisson discs in each slice, four coils; with ``detail``, discs and stripes in the phase of the object."""
    maps, image = maps_and_image(VOLUME, 4)
    y, x = np.mgrid[-1:1:64j, -1:1:56j]
    angle = 1.2 * (((x + 0.25) / 0.2) ** 2 + ((y - 0.2) / 0.15) ** 2 < 1) + 0.8 * np.sign(np.sin(12 * x)) * (y < 0)
    if detail:
        image = image * torch.from_numpy(np.exp(1j * angle).astype(np.complex64))
    clean = centred_fft(maps * image, (2, 3))
    parts = torch.randn((2, *clean.shape), generator=torch.Generator().manual_seed(3))
    mask = make_mask("poisson2d", (64, 56), 3.0, centre=16, seed=1)[None]
    data = (clean + NOISE * torch.complex(parts[0], parts[1])).numpy() * mask
    extent = tuple(n * s for n, s in zip(VOLUME.geometry.shape, VOLUME.geometry.spacing, strict=True))
    return KSpace(
        data=data, volume_geometry=VOLUME.geometry, field_of_view=extent, mask=mask, encoded=(1, 2), readout_axis=None,
        noise_covariance=(NOISE**2 * np.eye(4)).astype(np.complex64),
    )  # fmt: skip


def test_detail_in_the_phase_is_found_and_mends_the_magnitude() -> None:
    measured = scan(detail=True)
    before, after = mri_problem(measured), mri_problem(measured, phase="auto")
    assert before.notes == ()
    assert "held-out samples" in after.notes[0]
    found = [reconstruct(problem, "tv").volume.array for problem in (before, after)]
    assert psnr(found[1], VOLUME.array) > psnr(found[0], VOLUME.array) + 3
    errors = imaginary_errors(after)  # now the real part says all
    assert errors is not None
    assert errors[0] < 1.1 * errors[1]


def test_a_smooth_phase_is_left_to_the_centre() -> None:
    measured = scan(detail=False)
    plain, chosen, asked = (mri_problem(measured, phase=phase) for phase in ("centre", "auto", "wavelet"))
    volume = torch.from_numpy(VOLUME.array)
    assert chosen.notes == ()
    assert torch.equal(plain.op(volume), chosen.op(volume))
    assert "as asked" in asked.notes[0]
    assert not torch.equal(plain.op(volume), asked.op(volume))


def test_zero_has_no_phase() -> None:
    maps = torch.ones((1, 2, 1, 1, 3), dtype=torch.complex64)
    turned = with_phase_of(maps, torch.tensor([[[0, 2j, -3]]], dtype=torch.complex64))
    assert torch.equal(turned[0, 0, 0, 0], torch.tensor([1, 1j, -1], dtype=torch.complex64))


def test_too_few_samples_decide_nothing() -> None:
    measured = scan(detail=True)
    mask = np.zeros((1, 1, 56), bool)
    mask[..., 27:29] = True
    few = replace(measured, data=np.asarray(measured.data * mask), mask=mask)
    assert imaginary_errors(mri_problem(few)) is None


def test_two_sets_of_maps_keep_their_phase() -> None:
    plain, chosen = (mri_problem(scan(detail=True), phase=phase, sets=2) for phase in ("centre", "auto"))
    volume = torch.zeros(plain.op.complex_op.domain.shape, dtype=torch.complex64) + 1
    assert len(volume) == 2
    assert torch.equal(plain.op.complex_op(volume), chosen.op.complex_op(volume))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown phase"):
        mri_problem(scan(detail=False), phase="center")
    with pytest.raises(UsageError, match="one set of maps"):
        mri_problem(scan(detail=False), phase="wavelet", sets=2)
    with pytest.raises(UsageError, match="phase"):
        problem_from_scan(scan(detail=False), fase="auto")
