"""Real volumes of five axis orders: our reader against nibabel's."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

import realdata
from medrecon.data import Volume, read, write

CT = [("ct", "test"), ("ct", "train-extra")]
MR = [("mr", "train"), ("mr", "test")]


@pytest.mark.parametrize("parts", CT + MR, ids="/".join)
def test_same_as_nibabel(parts):
    for path in realdata.volumes(*parts)[::3]:
        volume = read(path)
        assert isinstance(volume, Volume)
        image = nib.load(path)
        expected = image.get_fdata(dtype=np.float64).astype(np.float32)
        np.testing.assert_array_equal(volume.array.transpose(2, 1, 0), expected.reshape(volume.array.shape[::-1]))
        np.testing.assert_allclose(volume.geometry.affine, image.affine, atol=1e-6)
        assert volume.geometry.orientation == "".join(nib.aff2axcodes(image.affine))
        assert volume.quantity == ("HU" if parts[0] == "ct" else "a.u.")


def test_labels_are_lia():
    assert read(realdata.volumes("mr", "labels")[0]).geometry.orientation == "LIA"


def test_round_trip(tmp_path):
    source = read(realdata.volumes("ct", "test")[0])
    for name in ("a.nii.gz", "a.h5"):
        back = read(write(tmp_path / name, source))
        np.testing.assert_array_equal(back.array, source.array)
        np.testing.assert_array_equal(back.geometry.affine, source.geometry.affine)
