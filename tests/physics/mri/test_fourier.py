"""Centred transforms against their sum, for even and odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.physics.mri.fourier import (
    centred_fft,
    centred_ifft,
    cropped,
    embedded,
    frequency_modulation,
    image_modulation,
)


def by_definition(m: int, n: int) -> np.ndarray:
    """The matrix of the centred orthonormal transform, written out."""
    k, j = np.arange(n) - n // 2, np.arange(m) - m // 2
    return np.exp(-2j * np.pi * np.outer(k, j) / n) / np.sqrt(n)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 9, 16, 21])
def test_the_transform_is_the_sum_that_defines_it(n: int):
    found = centred_fft(torch.eye(n, dtype=torch.complex128), (0,)).numpy()
    assert np.allclose(found, by_definition(n, n), atol=1e-12)
    back = centred_ifft(torch.eye(n, dtype=torch.complex128), (0,)).numpy()
    assert np.allclose(back, by_definition(n, n).conj().T, atol=1e-12)


@pytest.mark.parametrize(("m", "n"), [(4, 8), (5, 8), (4, 7), (3, 7), (6, 6), (7, 7)])
def test_the_modulations_place_a_smaller_image_centrally(m: int, n: int):
    image = torch.eye(m, dtype=torch.complex128) * image_modulation(m, n)[:, None]
    found = torch.fft.fft(image, n=n, dim=0, norm="ortho") * frequency_modulation(m, n)[:, None]
    assert np.allclose(found.numpy(), by_definition(m, n), atol=1e-12)
    same = centred_fft(embedded(torch.eye(m, dtype=torch.complex128).T, (n,)), (1,)).T
    assert np.allclose(same.numpy(), by_definition(m, n), atol=1e-12)


def test_the_transform_agrees_with_shifted_copies_in_several_dimensions():
    x = torch.randn((3, 6, 5, 7), dtype=torch.complex64)
    axes = (1, 2, 3)
    shifted = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(x, axes), dim=axes, norm="ortho"), axes)
    assert torch.allclose(centred_fft(x, axes), shifted, atol=1e-5)
    assert torch.allclose(centred_ifft(centred_fft(x, axes), axes), x, atol=1e-5)
    assert torch.linalg.vector_norm(centred_fft(x, (2,))) == pytest.approx(float(torch.linalg.vector_norm(x)), rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(8, 4), (8, 5), (7, 4), (7, 3)])
def test_cropping_keeps_the_centre_in_the_centre(n: int, m: int):
    values = torch.arange(n) - n // 2
    assert int(cropped(values, (m,))[m // 2]) == 0
    assert torch.equal(cropped(embedded(torch.arange(1, m + 1), (n,)), (m,)), torch.arange(1, m + 1))
