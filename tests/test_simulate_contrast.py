"""Volumes painted from label maps."""

from __future__ import annotations

import numpy as np
import pytest

import realdata
from medrecon.data import Geometry, Volume, read_volume
from medrecon.errors import InputError
from medrecon.simulate_contrast import TISSUES, random_contrast


def labels() -> Volume:
    """White matter in grey matter in fluid in bone in skin: nested balls in a box of 48 voxels, off its middle."""
    z, y, x = np.meshgrid(*(np.arange(48.0) - c for c in (20, 26, 24)), indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    codes = np.select([radius < r for r in (8, 11, 13, 15, 17)], [2, 3, 24, 515, 511], default=0)
    return Volume(codes.astype(np.float32), Geometry.from_spacing(codes.shape, (1.0, 1.0, 1.0)), "a.u.")


def test_a_structure_belongs_to_one_tissue() -> None:
    codes = [code for members in TISSUES.values() for code in members]
    assert len(codes) == len(set(codes)) and 0 not in codes


def test_the_seed_decides_everything() -> None:
    first, again, other = random_contrast(labels(), 3), random_contrast(labels(), 3), random_contrast(labels(), 4)
    np.testing.assert_array_equal(first.array, again.array)
    assert other.array.shape != first.array.shape or not np.allclose(other.array, first.array)


def test_contrasts_differ_and_the_air_stays_dark() -> None:
    ratios = []
    for seed in range(12):
        volume = random_contrast(labels(), seed)
        array = volume.array
        assert array.dtype == np.float32 and np.isfinite(array).all() and array.min() >= 0
        spacing = volume.geometry.spacing
        assert 1 <= spacing[0] <= 1.35 and np.ptp(spacing) < 1e-6
        assert np.median(array[0]) < 0.03  # nothing but noise above the head
        centre = tuple((np.array(array.shape) - 1) // 2)
        inside = array[tuple(slice(c - 2, c + 3) for c in centre)].mean()
        shell = np.percentile(array, 97)
        ratios.append(inside / shell)
    assert np.std(ratios) > 0.1  # some have bright, some dark white matter


def test_orientation_of_the_labels_does_not_matter() -> None:
    turned = labels().as_orientation("PIR")
    np.testing.assert_array_equal(random_contrast(labels(), 1).array, random_contrast(turned, 1).array)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_volume_that_is_no_label_map_is_refused(value: float) -> None:
    array = np.full((8, 8, 8), value, dtype=np.float32)
    with pytest.raises(InputError, match="not a label map"):
        random_contrast(Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0)), "a.u."))


def test_a_real_label_map_becomes_a_head() -> None:
    path = realdata.need("mr", "labels", "synthseg_01.nii.gz")
    volume = random_contrast(read_volume(path, quantity="a.u."), 0)
    assert 0.1 < (volume.array > 0.08).mean() < 0.7
