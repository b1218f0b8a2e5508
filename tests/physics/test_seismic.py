"""The trace mask, masks as surveys have them, interpolation weights and windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.errors import UsageError
from medrecon.physics.seismic import TraceMask, make_trace_mask, trace_masks
from medrecon.physics.trace_interpolation import interpolation_weights
from medrecon.physics.windows import Windows


def test_the_mask_is_a_projection_that_nan_cannot_pass():
    live = torch.from_numpy(make_trace_mask("random", (4, 5), 0.5, seed=1))
    op = TraceMask((4, 6, 5), live)
    x = torch.randn(4, 6, 5)
    assert torch.equal(op(op(x)), op(x)) and torch.equal(op.normal(x), op(x)) and op.norm() == 1.0
    assert op.data_count == 6 * int(live.sum())
    assert torch.equal(op(torch.where(live[:, None], x, torch.nan)), op(x))


@pytest.mark.parametrize("kind", trace_masks.names())
def test_masks_keep_their_share_and_their_seed(kind):
    live = make_trace_mask(kind, (12, 40), 0.25 if kind == "hole" else 0.5, seed=3)
    assert live.shape == (12, 40)
    assert (~live).mean() == pytest.approx(0.25 if kind == "hole" else 0.5, abs=0.03)
    np.testing.assert_array_equal(live, make_trace_mask(kind, (12, 40), 0.25 if kind == "hole" else 0.5, seed=3))
    with pytest.raises(UsageError):
        make_trace_mask(kind, (12, 40), 1.0)


def test_interpolation_is_exact_for_planes_and_nearest_outside():
    random = np.random.default_rng(0)
    live = random.random((12, 15)) < 0.4
    live[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    row, column = np.indices(live.shape)
    plane = 3.0 * row - 2.0 * column + 7
    weights = interpolation_weights(live)
    np.testing.assert_allclose(weights @ plane[live], plane[~live], atol=1e-9)
    np.testing.assert_allclose(np.asarray(weights.sum(axis=1)).ravel(), 1.0)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1)])
def test_interpolation_along_a_line(shape):
    live = np.array([0, 1, 0, 0, 1, 0, 1, 0, 0], bool).reshape(shape)
    found = interpolation_weights(live) @ np.array([10.0, 40.0, 20.0])
    np.testing.assert_allclose(found, [10, 20, 30, 30, 20, 20])


def test_interpolation_from_a_slanting_line_and_a_single_trace():
    np.testing.assert_array_equal(interpolation_weights(np.eye(3, dtype=bool)) @ np.ones(3), np.ones(6))
    single = np.zeros((2, 2), bool)
    single[0, 1] = True
    np.testing.assert_array_equal(interpolation_weights(single) @ [5.0], [5, 5, 5])


@pytest.mark.parametrize("shape", [(1, 70, 33), (17, 64, 20), (5, 7, 9)])
def test_windows_cover_everything_and_their_tapers_leave_no_seam(shape):
    windows = Windows(shape, (8, 32, 16))
    x = torch.randn(shape)
    total, taper = torch.zeros(shape), windows.taper()
    for place in windows:
        total[place] += taper * x[place]
    weight = windows.total_weight()
    assert float(weight.min()) > 0
    assert torch.allclose(total / weight, x, atol=1e-5)
    assert sum(len(windows.share(part, 8)) for part in range(8)) == len(windows)
