"""Wavelets: orthonormal, with vanishing moments, and a shrinkage that is a proximal map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.physics.mri.wavelet import analyse, levels_of, padded_size, shrink, synthesise


def normal(*shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("axes", [(1, 2), (0, 1, 2), (2,)])
def test_the_transform_is_orthonormal(axes: tuple[int, ...]):
    x, y = normal(8, 16, 24), normal(8, 16, 24)
    a, b = analyse(x, axes, 2), analyse(y, axes, 2)
    assert torch.allclose(synthesise(a, axes, 2), x, atol=1e-12)
    assert torch.allclose(torch.vdot(a.reshape(-1), b.reshape(-1)), torch.vdot(x.reshape(-1), y.reshape(-1)))


def test_details_of_a_ramp_vanish_away_from_the_border():
    ramp = torch.arange(64, dtype=torch.float64)[None]
    details = analyse(ramp, (1,), 1)[0, 32:]
    assert float(details[:-2].abs().max()) < 1e-10
    assert float(details[-2:].abs().max()) > 1


def test_coefficients_are_those_of_another_code():
    pywt = pytest.importorskip("pywt")
    x = normal(32, 48, dtype=torch.float64)
    ours = analyse(x, (0, 1), 1)
    theirs = pywt.dwt2(np.roll(x.numpy(), 1, (0, 1)), "db2", mode="periodization")  # pairs begin at odd samples
    quadrants = [ours[:16, :24], ours[16:, :24], ours[:16, 24:], ours[16:, 24:]]
    for mine, reference in zip(quadrants, [theirs[0], *theirs[1]], strict=True):
        # The codes differ in where the period begins, and in the sign of the details
        assert np.allclose(np.sort(np.abs(mine.numpy()), axis=None), np.sort(np.abs(reference), axis=None), atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 32, 48), (2, 33, 45)])
@pytest.mark.parametrize("shift", [(0, 0), (3, 5)])
def test_without_a_threshold_nothing_changes(shape: tuple[int, ...], shift: tuple[int, int]):
    x = normal(*shape)
    assert torch.allclose(shrink(x, 0.0, (1, 2), 1, shift), x, atol=1e-12)


def test_shrinkage_is_the_proximal_map():
    """No other volume has a smaller ``t ||details||_1 + ||z - x||^2 / 2``."""
    x, threshold, shift = normal(1, 16, 16), 0.8, (2, 1)

    def value(z: torch.Tensor) -> float:
        coefficients = analyse(z.roll(shift, (1, 2)), (1, 2), 1)
        details = coefficients.abs().sum() - coefficients[:, :8, :8].abs().sum()
        return float(threshold * details + 0.5 * (z - x).abs().square().sum())

    best = shrink(x, threshold, (1, 2), 1, shift)
    assert value(best) < value(x) - 1
    for seed in range(20):
        step = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
        assert value(best + 1e-3 * step) > value(best)


def test_levels_and_sizes():
    assert levels_of((256, 192)) == 3
    assert levels_of((64, 57)) == 1
    assert levels_of((20, 20)) == 1
    assert padded_size(57, 2) == 60
    assert padded_size(64, 2) == 64
