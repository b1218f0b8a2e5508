"""Slopes of events and differences along them: planes of known slope, exact adjoints, kernels against tensor code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.errors import UsageError
from medrecon.physics.differences import Differences
from medrecon.physics.seismic import make_trace_mask
from medrecon.physics.slopes import local_slopes
from medrecon.physics.steering import SteeredDifferences, _gathered

SHAPE = (4, 9, 5)


def noise(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def planes(over_rows: float, over_columns: float, shape: tuple[int, int, int] = (14, 64, 12)) -> np.ndarray:
    """Events of one slope, half a period of about eight samples and more apart; the middle times are full of them."""
    row, time, column = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    out = np.zeros(shape)
    for start, size in ((-40, 1.0), (-21, -0.7), (2, 1.2), (17, -1.0), (31, 0.8), (46, 1.0), (60, -0.9), (81, 1.0)):
        away = ((time - start - over_rows * row - over_columns * column) / 2.2) ** 2
        out += size * (1 - 2 * away) * np.exp(-away)
    return out.astype(np.float32)


def steered(shape: tuple[int, int, int] = SHAPE, size: float = 1.5) -> SteeredDifferences:
    slopes = {axis: size * noise(shape, seed) for seed, axis in enumerate((0, 2))}
    return SteeredDifferences(shape, slopes, {0: 0.5, 2: 2.0})


@pytest.mark.parametrize("size", [0.0, 0.4, 1.5, 20.0])
@pytest.mark.parametrize("shape", [SHAPE, (1, 6, 3), (3, 1, 2), (2, 12, 1)], ids=str)
def test_the_adjoint_is_exact(shape: tuple[int, int, int], size: float):
    op = steered(shape, size)
    x, y = noise(shape, 3, torch.float64), noise((2, *shape), 4, torch.float64)
    assert float((op._forward(x) * y).sum()) == pytest.approx(float((x * op._adjoint(y)).sum()), rel=1e-12, abs=1e-12)
    x, y = x.float(), y.float()
    found = float((op(x).double() * y).sum()), float((x.double() * op.adjoint(y)).sum())
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-5)
    torch.testing.assert_close(op.normal(x), op.adjoint(op(x)))


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("adjoint", [False, True])
def test_kernels_do_what_tensor_operations_do(axis: int, adjoint: bool):
    op, x = steered((5, 30, 6), 2.5), noise((5, 30, 6), 7)
    fast = op._one(axis, x, adjoint=adjoint)
    torch.testing.assert_close(fast, _gathered(x, op.slopes[axis], axis, adjoint=adjoint), rtol=1e-5, atol=1e-5)


def test_without_slopes_it_is_the_plain_difference():
    """That to the trace before: `Differences` shifted by one."""
    op, x = SteeredDifferences(SHAPE, {0: torch.zeros(SHAPE), 2: torch.zeros(SHAPE)}), noise(SHAPE)
    plain = Differences(SHAPE)(x)
    torch.testing.assert_close(op(x)[0, 1:], plain[0, :-1])
    torch.testing.assert_close(op(x)[1, :, :, 1:], plain[2, :, :, :-1])
    assert not op(x)[0, 0].any() and not op(x)[1, :, :, 0].any()


def test_planes_vanish_along_their_slopes():
    """To the accuracy of cubic interpolation, where a plain difference is larger than the planes."""
    x = torch.from_numpy(planes(1.3, -0.6))
    op = SteeredDifferences(tuple(x.shape), {0: torch.full(x.shape, 1.3), 2: torch.full(x.shape, -0.6)})
    inside = op(x)[:, :, 4:-4]
    plain = Differences(tuple(x.shape))(x)[[0, 2], :, 4:-4]
    for along, across in zip(inside, plain, strict=True):
        assert along.square().mean() < 0.01 * across.square().mean()


@pytest.mark.parametrize(("rows", "columns"), [(0.0, 0.0), (0.3, -0.2), (1.7, 0.9), (-2.6, 2.2)])
def test_slopes_of_planes_are_found(rows: float, columns: float):
    x = planes(rows, columns)
    middle = (slice(2, -2), slice(12, -12), slice(2, -2))
    assert np.abs(local_slopes(x)[middle] - rows).max() < 0.1
    assert np.abs(local_slopes(x.swapaxes(0, 2)).swapaxes(0, 2)[middle] - columns).max() < 0.1


@pytest.mark.parametrize(("kind", "fraction"), [("random", 0.6), ("regular", 0.5), ("regular", 0.67), ("gap", 0.3)])
def test_slopes_are_found_from_live_traces_alone(kind: str, fraction: float):
    """Whatever stands at missing places; of columns three apart too, with shifts beyond half a period."""
    x = planes(1.2, 1.5, (14, 64, 20))
    live = make_trace_mask(kind, (14, 20), fraction, seed=1)
    holed = np.where(live[:, None], x, np.float32(0))
    middle = (slice(2, -2), slice(12, -12), slice(2, -2))
    over_columns = local_slopes(holed.swapaxes(0, 2), live.T).swapaxes(0, 2)
    assert np.abs(over_columns[middle] - 1.5).mean() < 0.05
    assert np.abs(local_slopes(holed, live)[middle] - 1.2).mean() < 0.05


def test_silence_has_the_slope_of_its_surroundings():
    """Nearly: the edges of the muted part are flat events themselves."""
    x = planes(1.0, 0.0)
    x[:, 30:44] = 0
    assert np.abs(local_slopes(x)[3:-3, 33:41] - 1.0).max() < 0.45
    assert not local_slopes(np.zeros_like(x)).any()
    assert not local_slopes(x[:1]).any()


def test_scale_and_sign_do_not_matter():
    x = planes(0.8, 0.3)
    for factor in (-1.0, 1e6, 1e-6):
        np.testing.assert_allclose(local_slopes(np.float32(factor) * x), local_slopes(x), atol=2e-3)


def test_wrong_slopes_are_refused():
    with pytest.raises(UsageError, match="do not fit"):
        SteeredDifferences(SHAPE, {0: torch.zeros(2, 2, 2)})
    for wrong in ({}, {1: torch.zeros(SHAPE)}):
        with pytest.raises(UsageError, match="rows"):
            SteeredDifferences(SHAPE, wrong)
