"""The Cartesian operator against its definition with full Fourier transforms, and its closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers.operators import as_matrix
from medrecon.errors import InputError
from medrecon.physics.mri import CartesianSense, RealVolume
from medrecon.physics.mri.fourier import centred_fft, embedded
from medrecon.physics.mri.sense import operators


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.complex64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def random_maps(sets: int, coils: int, grid: tuple[int, int, int]) -> Tensor:
    maps = noise(sets, coils, *grid, seed=5)
    return maps / maps.abs().square().sum(dim=1, keepdim=True).sqrt()


def full_kspace(maps: Tensor, x: Tensor, matrix: tuple[int, int, int], encoded: tuple[int, ...]) -> Tensor:
    """``F S x`` on the whole encoded grid, by the definition."""
    x = x[None] if maps.shape[0] == 1 else x
    images = (maps * x[:, None]).sum(dim=0)
    return centred_fft(embedded(images, matrix), tuple(1 + a for a in encoded))


CASES = {
    "lines": (1, (2, 5, 7), (2, 6, 8), (1, 1, 8), (1, 2)),
    "lines along y": (1, (2, 6, 5), (2, 8, 6), (1, 8, 1), (1, 2)),
    "lines per slice": (1, (3, 5, 7), (3, 5, 7), (3, 1, 7), (1, 2)),
    "plane": (1, (2, 5, 6), (2, 7, 6), (1, 7, 6), (1, 2)),
    "two sets": (2, (2, 4, 5), (2, 4, 5), (1, 1, 5), (1, 2)),
    "3D, readout y": (1, (3, 4, 5), (4, 6, 7), (4, 1, 7), (0, 1, 2)),
    "3D, readout z": (1, (3, 4, 5), (5, 4, 6), (1, 4, 6), (0, 1, 2)),
    "3D, no readout": (1, (3, 4, 5), (3, 4, 5), (3, 4, 5), (0, 1, 2)),
    "3D, one line direction": (1, (3, 4, 5), (3, 4, 5), (3, 1, 1), (0, 1, 2)),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_operator_gives_the_samples_of_the_full_transform(case: str):
    """Whatever is undone in the data first, and whatever is cropped: `samples_of` and the operator agree."""
    sets, grid, matrix, shape, encoded = CASES[case]
    maps = random_maps(sets, 3, grid)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.6
    op = CartesianSense(maps, mask, matrix, encoded)
    x = noise(*op.domain.shape)
    expected = op.samples_of(full_kspace(maps, x, matrix, encoded))
    assert torch.allclose(op(x), expected, atol=2e-6)
    assert torch.linalg.vector_norm(expected) > 0.1


def test_fully_sampled_data_are_inverted_by_the_adjoint():
    maps = random_maps(1, 4, (2, 6, 5))
    op = CartesianSense(maps, torch.ones((1, 1, 1), dtype=torch.bool), (2, 8, 5))
    x = noise(2, 6, 5)
    assert op.transformed == ()
    assert torch.allclose(op.adjoint(op.samples_of(full_kspace(maps, x, (2, 8, 5), (1, 2)))), x, atol=2e-6)


def test_white_noise_stays_white():
    """Noise of one level in k-space has the same level in the operator's range, whatever was transformed."""
    op = CartesianSense(random_maps(1, 2, (6, 30, 40)), torch.rand((1, 1, 60)) < 0.5, (6, 50, 60))
    samples = op.samples_of(noise(2, 6, 50, 60))
    assert float(samples.abs().square().mean()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 6, 8)])
def test_the_closed_form_for_one_coil_is_the_dense_solution(shape: tuple[int, int, int]):
    phase = torch.exp(1j * torch.linspace(0, 3, 48)).reshape(1, 1, 1, 6, 8).to(torch.complex128)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.5
    op = CartesianSense(phase, mask, (1, 6, 8))
    v, y = noise(1, 6, 8, dtype=torch.complex128), noise(*op.range.shape, seed=3, dtype=torch.complex128)
    matrix, step = as_matrix(op), 0.7
    identity = torch.eye(48, dtype=torch.complex128)
    dense = torch.linalg.solve(matrix.conj().T @ matrix + identity / step,
                               matrix.conj().T @ y.reshape(-1) + v.reshape(-1) / step)  # fmt: skip
    assert op.is_isometric
    assert torch.allclose(op.prox(v, y, step).reshape(-1), dense, atol=1e-10)


def test_several_coils_have_no_closed_form():
    op = CartesianSense(random_maps(1, 2, (1, 4, 6)), torch.ones((1, 1, 6)).bernoulli(0.5) > 0, (1, 4, 6))
    with pytest.raises(InputError, match="single coil"):
        op.prox(noise(1, 4, 6), noise(*op.range.shape), 1.0)


@pytest.mark.parametrize("name", ["mri-lines", "mri-lines-per-slice", "mri-weighted"])
def test_coil_images_hold_the_samples_and_nothing_else(name: str):
    """Also with weights: a weighted sample is divided by its weight before the transform."""
    op = operators.entry(name).meta["example"]()
    y = op(noise(*op.domain.shape))
    images = op.coil_images(y)
    assert tuple(images.shape) == (op.coils, *op.grid)
    spectra = centred_fft(embedded(images, op.matrix), tuple(1 + a for a in op.encoded))
    assert torch.allclose(op.samples_of(spectra), y, atol=1e-5)
    # Coil images of zero-filled data have no energy elsewhere
    assert float(spectra.abs().square().sum()) == pytest.approx(float(op._plain(y).abs().square().sum()), rel=1e-4)


def test_a_real_volume_sees_both_parts_of_the_data():
    op = RealVolume(operators.entry("mri-lines").meta["example"]())
    x = noise(*op.domain.shape, dtype=torch.float32)
    complex_data = op.complex_op(x.to(torch.complex64))
    assert torch.equal(op(x), torch.view_as_real(complex_data))
    assert torch.allclose(op.adjoint(op(x)), op.complex_op.adjoint(complex_data).real, atol=1e-6)
    assert op.data_count == 2 * complex_data.numel()


def test_what_does_not_fit_is_refused():
    maps = random_maps(1, 2, (2, 4, 6))
    lines = torch.ones((1, 1, 6), dtype=torch.bool)
    with pytest.raises(InputError, match="no sample"):
        CartesianSense(maps, lines & False, (2, 4, 6))
    with pytest.raises(InputError, match="does not fit the encoded samples"):
        CartesianSense(maps, lines[..., :5], (2, 4, 6))
    with pytest.raises(InputError, match="encoded field of view"):
        CartesianSense(maps, torch.ones((1, 1, 5)), (2, 4, 5))
    with pytest.raises(InputError, match="coil maps are complex"):
        CartesianSense(maps.abs(), lines, (2, 4, 6))
    with pytest.raises(InputError, match="encoded axes"):
        CartesianSense(maps, lines, (2, 4, 6), (0, 2))
    with pytest.raises(InputError, match="another shape"):
        CartesianSense(maps, lines, (2, 4, 6)).samples_of(noise(2, 2, 4, 5))
