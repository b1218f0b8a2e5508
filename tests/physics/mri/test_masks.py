"""Masks: how many samples, where, and the same ones again."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.errors import UsageError
from medrecon.physics.mri.masks import (
    calibration_widths,
    default_centre,
    dimensions_of,
    make_mask,
    masks,
    partial_fourier,
    real_acceleration,
)


def shape_of(name: str) -> tuple[int, ...]:
    return (233,) if dimensions_of(name) == 1 else (64, 61)


@pytest.mark.parametrize("name", masks.names())
def test_a_mask_holds_its_centre_and_depends_on_the_seed_alone(name: str):
    shape = shape_of(name)
    centre = 12
    first = make_mask(name, shape, 4, centre=centre, seed=3)
    np.random.seed(5)  # noqa: NPY002
    assert np.array_equal(first, make_mask(name, shape, 4, centre=centre, seed=3))
    assert any(not np.array_equal(first, make_mask(name, shape, 4, centre=centre, seed=s)) for s in range(4, 12))
    assert min(calibration_widths(first)) >= centre
    assert first.shape == shape


@pytest.mark.parametrize("name", ["uniform1d", "gaussian1d", "poisson2d"])
@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_the_number_of_samples_is_exact(name: str, acceleration: int):
    """Also without replacement: a published code drew some lines twice and so measured fewer."""
    shape = shape_of(name)
    mask = make_mask(name, shape, acceleration, centre=8, seed=1)
    assert int(mask.sum()) == round(mask.size / acceleration)
    assert real_acceleration(mask) == pytest.approx(acceleration, rel=0.02)


def test_the_random_mask_of_fastmri_has_the_right_number_on_average():
    counts = [make_mask("fastmri-random", (320,), 4, seed=seed).sum() for seed in range(200)]
    assert np.mean(counts) == pytest.approx(80, abs=2)
    assert np.std(counts) > 3


def test_equispaced_masks():
    mask = make_mask("fastmri-equispaced", (320,), 4, centre=26, seed=1)
    assert real_acceleration(mask) == pytest.approx(4, rel=0.06)
    gaps = np.diff(np.flatnonzero(mask[:140]))
    assert gaps.max() - gaps.min() <= 1
    plain = make_mask("equispaced1d", (320,), 4, centre=24, seed=1)
    assert real_acceleration(plain) == pytest.approx(320 / (80 + 18), rel=0.01)


def test_gaussian_lines_are_denser_in_the_middle():
    counts = sum(make_mask("gaussian1d", (256,), 8, centre=0, seed=s).astype(int) for s in range(50))
    assert counts[96:160].sum() > 5 * counts[:64].sum()


def test_poisson_samples_keep_their_distance():
    mask = make_mask("poisson2d", (96, 96), 8, centre=10, seed=2)
    rows, columns = np.nonzero(mask)
    radius = np.hypot(rows - 48, columns - 48)
    outer = (radius > 30) & (radius < 46)
    points = np.stack([rows, columns], 1)[outer]
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 99 * np.eye(len(points))
    # A handful may be added at random to make the number exact
    assert np.quantile(distance.min(axis=1), 0.05) >= 2.0
    assert radius.max() <= 49


def test_partial_fourier_and_what_is_refused():
    mask = make_mask("uniform1d", (100,), 2, seed=1)
    cut = partial_fourier(mask, 0.75)
    assert not cut[:25].any()
    assert np.array_equal(cut[25:], mask[25:])
    with pytest.raises(UsageError, match="more than half"):
        partial_fourier(mask, 0.5)
    with pytest.raises(UsageError, match="calibration centre alone"):
        make_mask("uniform1d", (64,), 8, centre=20)
    with pytest.raises(UsageError, match="another dimension"):
        make_mask("poisson2d", (64,), 4)
    with pytest.raises(UsageError, match="out of range"):
        make_mask("uniform1d", (64,), 0.5)
    assert make_mask("poisson2d", (16, 16), 1).all()
    assert default_centre((320,), 4) == 26
    assert default_centre((320,), 8) == 13


def test_the_width_of_the_centre_is_the_largest_block():
    mask = np.zeros((20, 21), dtype=bool)
    mask[6:14, 7:14] = True
    assert calibration_widths(mask) == (8, 7)
    assert calibration_widths(np.zeros(5, dtype=bool)) == (0,)
    assert calibration_widths(np.ones((1, 6), dtype=bool)) == (1, 6)
