"""Volumes in HDF5."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import file_examples as examples
from medrecon.data import Volume, read, write
from medrecon.errors import CorruptInput, InputError, UnsafeInput


def test_round_trip_and_content(tmp_path):
    volume = examples.volume(examples.oblique(), "1/mm")
    path = write(tmp_path / "a.h5", volume)
    with h5py.File(path) as file:
        dataset = file["reconstruction"]
        np.testing.assert_array_equal(dataset[()], volume.array)
        np.testing.assert_array_equal(dataset.attrs["affine"], volume.geometry.affine)
        assert dataset.attrs["quantity"] == b"1/mm" and dataset.attrs["axes"] == b"z,y,x" and dataset.fletcher32
    back = read(path)
    assert isinstance(back, Volume) and back.quantity == "1/mm" and back.meta["verified"] is True
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.geometry.affine, volume.geometry.affine)


def test_changes_and_omissions(tmp_path):
    path = write(tmp_path / "a.h5", examples.volume(), sidecar=False)
    with h5py.File(path, "r+") as file:
        file["reconstruction"][0, 0, 0] += 1
    with pytest.raises(CorruptInput, match="SHA-256"):
        read(path)
    with h5py.File(path, "r+") as file:
        del file["reconstruction"].attrs["sha256"]
    assert read(path).meta["verified"] is False
    with h5py.File(path, "r+") as file:
        file["reconstruction"][0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        read(path)
    with h5py.File(path, "r+") as file:
        del file["reconstruction"].attrs["affine"]
    with pytest.raises(InputError, match="affine missing"):
        read(path)


def test_links_are_refused(tmp_path):
    write(tmp_path / "a.h5", examples.volume())
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["reconstruction"] = h5py.ExternalLink("a.h5", "/reconstruction")
    with pytest.raises(UnsafeInput):
        read(tmp_path / "b.h5")
