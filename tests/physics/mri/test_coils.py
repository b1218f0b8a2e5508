"""Whitening and compression of coils."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import InputError
from medrecon.physics.mri.coils import (
    compressed_geometrically,
    compression_matrix,
    edge_covariance,
    mixed,
    noise_covariance,
    periphery_level,
    whitening_matrix,
)
from medrecon.physics.mri.fourier import centred_fft, centred_ifft, cropped


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_whitened_noise_is_independent_and_of_the_stated_level():
    mixing = normal(5, 5, seed=2)
    noise = mixed(mixing, normal(5, 50_000)) * 3
    matrix, level = whitening_matrix(noise_covariance(noise))
    covariance = noise_covariance(mixed(matrix, noise))
    assert torch.allclose(covariance, level**2 * torch.eye(5, dtype=torch.complex128), atol=1e-8 * level**2)


def test_equal_independent_coils_stay_as_they_are():
    matrix, level = whitening_matrix(0.25 * torch.eye(4))
    assert torch.allclose(matrix, torch.eye(4, dtype=torch.complex128))
    assert level == pytest.approx(0.5)


def test_the_covariance_is_that_of_one_part_of_a_sample():
    parts = torch.randn((2, 3, 20_000), generator=torch.Generator().manual_seed(1))
    assert noise_covariance(torch.complex(*parts)).real.diagonal() == pytest.approx([1, 1, 1], rel=0.03)


@pytest.mark.parametrize("covariance", [torch.ones((2, 2)), torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.ones((2, 3))])
def test_what_is_no_covariance_is_refused(covariance: torch.Tensor):
    with pytest.raises(InputError, match="covariance"):
        whitening_matrix(covariance)
    with pytest.raises(InputError, match="fewer samples than coils"):
        noise_covariance(normal(3, 2))


def oversampled(mixing: torch.Tensor, *, reach: int = 40, roll_off: float = 0.4) -> torch.Tensor:
    """k-space of two slices, 64 lines of 120 samples: an object ``reach`` long, noise that is rolled off."""
    position = torch.arange(120) - 60.0
    slope = ((position.abs() / 60 - 0.5).clamp_min(0) * 2) ** 2  # flat where the grid will be
    images = mixed(mixing, normal(len(mixing), 2, 120, 64)) * 2**0.5 * (1 - (1 - roll_off) * slope)[:, None]
    images += 300 * (position.abs() < reach / 2)[:, None] * normal(len(mixing), 2, 1, 64, seed=5)
    return centred_fft(images, (2,))


def test_noise_is_told_from_the_edges_of_an_oversampled_readout():
    mixing = torch.eye(3, dtype=torch.complex128) + 0.3 * normal(3, 3, seed=4)
    expected = mixing @ mixing.conj().T
    for reach in (40, 66):  # within the grid, and beyond it
        found = edge_covariance(oversampled(mixing, reach=reach), torch.ones(1, 1, 1), 1, 60)
        assert torch.linalg.norm(found - expected) < 0.15 * torch.linalg.norm(expected)


def test_noise_at_the_edges_is_that_of_one_measurement():
    data = oversampled(torch.eye(2, dtype=torch.complex128), roll_off=1)
    averaged = data / 2  # each line measured four times
    found = edge_covariance(averaged, torch.full((1, 1, 1), 4.0), 1, 60)
    assert found.diagonal().real == pytest.approx([1, 1], rel=0.1)
    lines = (torch.arange(64) % 4 == 0).to(torch.float32)
    found = edge_covariance(data * lines, lines, 1, 60)
    assert found.diagonal().real == pytest.approx([1, 1], rel=0.15)


def test_edges_without_room_or_without_noise_tell_nothing():
    data = oversampled(torch.eye(2, dtype=torch.complex128))
    once = torch.ones(1, 1, 1)
    assert edge_covariance(data, once, 1, 116) is None
    assert edge_covariance(data[..., :1], once, 1, 60) is None  # one line is too little
    assert edge_covariance(torch.zeros_like(data), once, 1, 60) is None
    assert edge_covariance(data, torch.zeros(1, 1, 1), 1, 60) is None
    cut = (torch.arange(120) >= 30).to(torch.float32)[:, None]  # a partial echo, which rings
    assert edge_covariance(data * cut, cut[None], 1, 60) is None


def test_noise_is_told_from_the_outermost_samples():
    spectrum = normal(4, 1, 96, 80) * 2**0.5
    z = torch.exp(-((torch.arange(96) - 48.0)[:, None] ** 2 + (torch.arange(80) - 40.0) ** 2) / 200)
    spectrum += 1e4 * z
    spectrum[:, :, 3, 3] += 1e5  # a spike
    lines = (torch.arange(80) % 3 == 1).to(torch.float32)
    assert periphery_level(spectrum, torch.ones(1, 1, 1), (1, 2)) == pytest.approx(1, rel=0.05)
    assert periphery_level(spectrum * lines / 2, lines * 4, (1, 2)) == pytest.approx(1, rel=0.1)
    assert periphery_level(spectrum[..., :2], torch.ones(1, 1, 1), (1, 2)) == 0.0  # too few


def test_compression_loses_nothing_of_data_that_have_fewer_dimensions():
    data = mixed(normal(6, 3, seed=2), normal(3, 4, 5))
    matrix = compression_matrix(data, 3)
    assert torch.allclose(matrix @ matrix.conj().T, torch.eye(3, dtype=torch.complex128), atol=1e-12)
    assert torch.allclose(mixed(matrix.conj().T, mixed(matrix, data)), data, atol=1e-10)
    energies = [float(mixed(compression_matrix(data, n), data).abs().square().sum()) for n in (1, 2, 3, 4)]
    assert energies[0] < energies[1] < energies[2]
    assert energies[3] == pytest.approx(energies[2])
    with pytest.raises(InputError, match="virtual coils"):
        compression_matrix(data, 7)


def test_geometric_compression_keeps_what_varies_along_the_readout():
    """At each position the coils span two dimensions, over all positions many: two virtual coils lose nothing."""
    images = torch.stack([mixed(normal(6, 2, seed=10 + x), normal(2, 1, 9, seed=50 + x)) for x in range(8)], dim=-1)
    data = centred_fft(images, (2, 3))
    virtual, calibration = compressed_geometrically(data, data, 2, axis=2)
    assert tuple(virtual.shape) == (2, 1, 9, 8)
    energy = float(data.abs().square().sum())
    assert float(virtual.abs().square().sum()) == pytest.approx(energy, rel=1e-9)
    assert float(mixed(compression_matrix(data, 2), data).abs().square().sum()) < 0.8 * energy
    assert torch.allclose(calibration, virtual)


def test_virtual_coils_vary_smoothly_along_the_readout():
    """The basis of each position is free up to a rotation; unaligned ones jump."""
    x = torch.linspace(-1, 1, 16)
    coils = torch.stack([torch.exp(-((x - c) ** 2) + 1j * c * x) for c in torch.linspace(-1, 1, 6)]).to(
        torch.complex128
    )
    images = (coils[:, None] * (1 + 0.5 * torch.cos(3 * torch.linspace(-1, 1, 12, dtype=torch.float64)))[:, None])[
        :, None
    ]
    data = centred_fft(images, (2, 3))
    virtual, _ = compressed_geometrically(data, cropped(data, (8, 16)), 1, axis=2)
    along = centred_ifft(virtual, (2, 3))[0, 0]
    turns = (along[:, 1:] * along[:, :-1].conj()).angle().abs()
    assert float(turns.max()) < 0.5
