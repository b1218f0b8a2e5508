"""Coil maps from the centre of k-space against the true ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.mri import full_kspace, head, maps_and_image
from medrecon.errors import InputError
from medrecon.physics.mri.calibration import absorb_phase, espirit, leading_eigenvectors, low_resolution_maps
from medrecon.physics.mri.fourier import cropped

SHAPE = (2, 64, 57)
WHERE = (SHAPE, SHAPE, (1, 2))


@pytest.fixture(scope="module")
def scan() -> dict[str, torch.Tensor]:
    volume = head(SHAPE)
    maps, image = maps_and_image(volume, 6)
    kspace = full_kspace(volume, 6, noise=2.0)
    return {"maps": maps, "image": image, "calibration": cropped(kspace, (24, 24)), "inside": image.abs() > 100}


def agreement(found: torch.Tensor, true: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Modulus of the inner product of unit vectors: 1 where they agree up to phase."""
    return (found.conj() * true).sum(dim=0).abs()[inside]


def test_espirit_finds_the_maps_up_to_phase(scan: dict[str, torch.Tensor]):
    found = espirit(scan["calibration"], *WHERE)
    cosine = agreement(found[0], scan["maps"], scan["inside"])
    assert float(cosine.mean()) > 0.9995
    assert float(cosine.min()) > 0.99
    length = torch.linalg.vector_norm(found[0], dim=0)
    assert torch.allclose(length, length.round(), atol=1e-4)  # one or zero
    assert float(length[:, :3, :3].max()) == 0.0  # the corner is empty


def test_one_set_is_enough_for_an_object_within_the_field_of_view(scan: dict[str, torch.Tensor]):
    """The second eigenvalue stays below the threshold: the second set is zero nearly everywhere."""
    found = espirit(scan["calibration"], *WHERE, sets=2)
    second = torch.linalg.vector_norm(found[1], dim=0)
    assert float((second[scan["inside"]] > 0).double().mean()) < 0.05


def test_an_object_larger_than_the_field_of_view_needs_two_sets(scan: dict[str, torch.Tensor]):
    """Every second column of k-space: the image folds, and two maps explain what one cannot."""
    folded = full_kspace(head((1, 64, 64)), 6, noise=1.0)[..., ::2]
    shape = (1, 64, 32)
    found = espirit(cropped(folded, (24, 24)), shape, shape, (1, 2), sets=2)
    second = torch.linalg.vector_norm(found[1], dim=0) > 0.5
    assert float(second.double().mean()) > 0.2
    both = found[:, :, second]
    overlap = (both[0].conj() * both[1]).sum(dim=0).abs()
    assert float(overlap.max()) < 1e-2


def test_low_resolution_maps(scan: dict[str, torch.Tensor]):
    found = low_resolution_maps(scan["calibration"], *WHERE)
    assert float(agreement(found[0], scan["maps"], scan["inside"]).mean()) > 0.998


def test_maps_on_a_smaller_grid_are_the_central_part(scan: dict[str, torch.Tensor]):
    part = espirit(scan["calibration"], (2, 40, 31), SHAPE, (1, 2))
    whole = cropped(espirit(scan["calibration"], *WHERE), (2, 40, 31))
    both = (part[0].abs().sum(dim=0) > 0) & (whole[0].abs().sum(dim=0) > 0)
    assert float((part - whole).abs().amax(dim=(0, 1))[both].max()) < 0.05
    assert float(agreement(part[0], whole[0], both).min()) > 0.999


def test_a_volume_is_calibrated_in_three_dimensions():
    volume = head((20, 24, 22))
    maps, image = maps_and_image(volume, 4)
    calibration = cropped(full_kspace(volume, 4, noise=1.0, axes=(1, 2, 3)), (12, 12, 12))
    found = espirit(calibration, (20, 24, 22), (20, 24, 22), (0, 1, 2), kernel=4)
    assert float(agreement(found[0], maps, image.abs() > 300).mean()) > 0.998


@pytest.mark.parametrize("turn", [0.0, 2.0])
def test_with_its_phase_absorbed_the_image_is_real(scan: dict[str, torch.Tensor], turn: float):
    """Whatever phase the maps had: the combined image of full data has hardly an imaginary part."""
    rough = espirit(scan["calibration"], *WHERE) * np.exp(1j * turn)
    maps = absorb_phase(rough, scan["calibration"], SHAPE, (1, 2))
    combined = (maps[0].conj() * (scan["maps"] * scan["image"])).sum(dim=0)
    imaginary = float(combined.imag.square().sum() / combined.abs().square().sum())
    assert imaginary < 0.005
    assert float(combined.real[scan["inside"]].min()) > 0
    before = (rough[0].conj() * (scan["maps"] * scan["image"])).sum(dim=0)
    assert float(before.imag.square().sum() / before.abs().square().sum()) > 0.1


def test_a_centre_narrower_than_the_patches_is_refused(scan: dict[str, torch.Tensor]):
    with pytest.raises(InputError, match="too narrow"):
        espirit(cropped(scan["calibration"], (24, 6)), *WHERE)


@pytest.mark.parametrize("count", [1, 2])
def test_leading_eigenvectors_are_those_of_a_dense_solver(count: int):
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn((40, 5, 5), dtype=torch.complex64, generator=generator)
    matrices = factor @ factor.mH
    values, vectors = torch.linalg.eigh(matrices)
    found, sizes = leading_eigenvectors(matrices.clone(), count)
    for index in range(count):
        dense = vectors[..., -1 - index]
        assert torch.allclose(sizes[:, index], values[:, -1 - index], rtol=2e-3)
        assert float((found[:, index].conj() * dense).sum(dim=-1).abs().min()) > 0.99
