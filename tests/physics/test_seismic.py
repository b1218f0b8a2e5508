"""The trace mask, masks as surveys have them, interpolation weights and windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.errors import UsageError
from medrecon.physics.seismic import TraceMask, make_trace_mask, trace_masks
from medrecon.physics.trace_band import slowed
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


@pytest.mark.parametrize("factor", [2, 3])
def test_slowed_traces_keep_slopes_over_wider_lines(factor: int):
    """A wavelet of about 0.1 cycles a sample, late by 1.5 samples a trace: the same between traces ``factor`` apart."""
    time, column = np.arange(384)[None, :, None], np.arange(13)[None, None]
    late = time - 150 - 1.5 * column
    sections = np.exp(-np.square(late / 5)) * np.cos(2 * np.pi * 0.1 * late) * (column % 3 != 1)
    found = slowed(sections, factor)
    assert found.shape == (1, 384 // factor, 13)
    assert np.square(found).mean() == pytest.approx(np.square(sections).mean())
    assert not found[..., 1::3].any()
    power = np.square(np.abs(np.fft.rfft(found, n=2048, axis=1))).sum(axis=(0, 2))
    assert np.argmax(power) / 2048 == pytest.approx(0.1, abs=0.02)  # in samples that are as much longer
    first, last = found[0, :, 0], found[0, :, 12]
    assert np.argmax(np.correlate(last, first, "full")) - (len(first) - 1) == pytest.approx(18 / factor, abs=1)


def test_nothing_has_no_frequencies():
    assert not slowed(np.zeros((2, 16, 3)), 2).any()


@pytest.mark.parametrize("step", [2, 3])
def test_decimated_lines_are_tested_on_a_coarser_scale(step: int):
    """The survey of the live lines, decimated as they are; of what is missing in them nothing is hidden."""
    live = np.zeros((4, 23), bool)
    live[:, 1::step] = True
    live[2, 1 + step] = False
    op = TraceMask((4, 32, 23), torch.from_numpy(live))
    y = op(torch.randn(4, 32, 23))
    assert op.is_decimated
    coarse, data, ((name, share, hidden, holes),) = op.held_out(y)
    lines = len(range(1, 23, step))
    assert holes == 0
    assert coarse.domain.shape == (4, -(-32 // step), lines) and share == 1.0 and f"1/{step} of the frequen" in name
    expected = np.ones((4, lines), bool)
    expected[:, ::step], expected[2, 1] = False, False
    np.testing.assert_array_equal(hidden[:, 0] > 0, expected)
    np.testing.assert_array_equal(data, slowed(y.numpy()[..., 1::step], step))
    rest = TraceMask(coarse.domain.shape, coarse.live & ~(hidden[:, 0] > 0))  # type: ignore[arg-type]
    assert rest.is_decimated


def test_lines_missing_both_ways_and_too_few_lines():
    live = np.zeros((9, 8), bool)
    live[::2, ::2] = True
    op = TraceMask((9, 6, 8), torch.from_numpy(live))
    coarse, _, ((_, _, hidden, _),) = op.held_out(op(torch.randn(9, 6, 8)))
    assert coarse.domain.shape == (5, 3, 4)
    shown = np.zeros((5, 4), bool)
    shown[::2, ::2] = True
    np.testing.assert_array_equal(hidden[:, 0] > 0, ~shown)
    few = np.zeros((6, 5), bool)
    few[:, ::4] = True  # two lines
    op = TraceMask((6, 5, 5), torch.from_numpy(few))
    y = op(torch.randn(6, 5, 5))
    same, data, _ = op.held_out(y)
    assert same is op and data is y
