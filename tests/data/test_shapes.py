"""Random objects for training: the same on every grid, inside the frame, and of many kinds."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.data.shapes import random_shapes
from medrecon.errors import InputError

SMALL = (24, 64, 64)


def test_the_same_seed_is_the_same_object_and_another_seed_another() -> None:
    first = random_shapes(SMALL, seed=3)
    np.testing.assert_array_equal(first.array, random_shapes(SMALL, seed=3).array)
    assert np.abs(first.array - random_shapes(SMALL, seed=4).array).mean() > 20
    assert first.quantity == "HU" and first.geometry.spacing == pytest.approx((3.0, 5.625, 5.625))


def test_a_finer_grid_shows_the_same_object() -> None:
    for seed in range(4):
        coarse = random_shapes((12, 48, 48), (6.0, 7.5, 7.5), seed)
        fine = random_shapes((24, 96, 96), (3.0, 3.75, 3.75), seed)
        averaged = fine.array.reshape(12, 2, 48, 2, 48, 2).mean((1, 3, 5))
        difference = np.abs(averaged - coarse.array)
        assert difference.mean() < 0.05 * np.abs(coarse.array + 1000).mean() + 2


def test_objects_lie_within_the_frame_and_differ_in_what_they_hold() -> None:
    dense, light, filled = 0, 0, []
    for seed in range(12):
        image = random_shapes(SMALL, seed=seed).array
        assert np.isfinite(image).all() and image.min() == -1000 and image.max() <= 2500
        assert (image[:, [0, -1]] == -1000).mean() > 0.9 and (image[..., [0, -1]] == -1000).mean() > 0.9
        inside = image > -1000
        filled.append(inside.mean())
        dense += bool((image > 300).mean() > 0.002)
        light += bool(((image > -995) & (image < -500)).mean() > 0.01)
    assert dense >= 5 and light >= 4
    assert min(filled) < 0.15 and max(filled) > 0.3


@pytest.mark.parametrize("wrong", [{"shape": (0, 8, 8)}, {"spacing": (1.0, np.nan, 1.0)}, {"seed": -1}])
def test_bad_requests_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        random_shapes(**({"shape": (4, 8, 8)} | wrong))
