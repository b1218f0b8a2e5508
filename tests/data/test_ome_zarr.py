"""OME-Zarr: exact round trips, the library zarr as an independent reader and writer, and damage."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import file_examples as examples
from medrecon.data import Geometry, Volume, read, sniff, write
from medrecon.errors import InputError, MedreconError


@pytest.fixture
def written(tmp_path):
    volume = examples.volume(examples.oblique())
    return volume, write(tmp_path / "v.ome.zarr", volume)


def test_metadata_of_the_standard(written):
    volume, folder = written
    group = json.loads((folder / "zarr.json").read_text())
    scales = group["attributes"]["ome"]["multiscales"][0]
    assert group["attributes"]["ome"]["version"] == "0.5" and group["zarr_format"] == 3
    assert [(axis["name"], axis["type"], axis["unit"]) for axis in scales["axes"]] == [
        (name, "space", "millimeter") for name in "zyx"
    ]
    steps = scales["datasets"][0]["coordinateTransformations"]
    np.testing.assert_allclose(steps[0]["scale"], (3.1, 0.7, 1.3))
    x, y, z = volume.geometry.affine[:3, 3]
    np.testing.assert_allclose(steps[1]["translation"], (z, -y, -x))


def test_the_library_reads_the_same_values(written):
    zarr = pytest.importorskip("zarr")
    volume, folder = written
    group = zarr.open_group(folder, mode="r")
    np.testing.assert_array_equal(group["0"][:], volume.array)
    assert group["0"].metadata.dimension_names == ("z", "y", "x")


@pytest.mark.parametrize("chunks", [(2, 4, 3), (5, 6, 7)])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_what_the_library_writes_is_read(tmp_path, chunks, dtype):
    """Another coding (zstd), chunks that do not divide the shape, and no note of ours."""
    zarr = pytest.importorskip("zarr")
    values = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(dtype)
    folder = tmp_path / "theirs.zarr"
    group = zarr.create_group(folder)
    array = group.create_array("s0", shape=values.shape, chunks=chunks, dtype=dtype)
    array[:] = values
    steps = [{"type": "scale", "scale": [2.0, 1.0, 0.5]}, {"type": "translation", "translation": [7.0, -3.0, 4.0]}]
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scales = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": steps}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [scales]}
    assert sniff(folder) == "ome-zarr"
    volume = read(folder)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.geometry.spacing == (2.0, 1.0, 0.5) and volume.geometry.orientation == "LPS"
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], (-4, 3, 7))


def test_conversions_keep_place_and_values(tmp_path):
    """Round through every format, oblique and flipped: exact but for DICOM's 16 bits."""
    flipped = np.diag([0.8, 0.9, -2.5, 1.0])
    flipped[:3, 3] = (1, 2, 3)
    for number, geometry in enumerate([examples.oblique(), Geometry((4, 5, 9), flipped)]):
        volume = examples.volume(geometry)
        current: Volume = volume
        for suffix in (".zarr", ".nii.gz", "", ".h5", ".ome.zarr", ".nii"):
            path = write(tmp_path / f"{number}{suffix}", current, sidecar=False)
            current = read(path)  # type: ignore[assignment]
            same = current.as_orientation(volume.geometry.orientation)
            assert same.geometry.almost_equal(volume.geometry, 1e-4)
            np.testing.assert_allclose(same.array, volume.array, rtol=0, atol=1 / 64)
            assert current.quantity == "HU"


def test_damage_is_found(written, tmp_path):
    """Cuts and flips anywhere: the same values, or an InputError; never others."""
    volume, folder = written
    rng = np.random.default_rng(1)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for trial in range(120):
        copy = tmp_path / "copy.zarr"
        shutil.copytree(folder, copy)
        file = copy / files[int(rng.integers(len(files)))].relative_to(folder)
        data = bytearray(file.read_bytes())
        place = int(rng.integers(len(data)))
        if trial % 3 == 0:
            data = data[:place]
        else:
            data[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        try:
            np.testing.assert_array_equal(read(copy).array, volume.array)
        except MedreconError as error:
            assert error.exit_code in (3, 4)
        shutil.rmtree(copy)


@pytest.mark.parametrize("path", ["../outside", "/etc", "0/../../outside"])
def test_a_level_outside_is_refused(written, path):
    _, folder = written
    outside = folder.parent / "outside"
    shutil.copytree(folder / "0", outside)
    group = json.loads((folder / "zarr.json").read_text())
    group["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = path
    (folder / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(InputError, match="outside its folder"):
        read(folder, verify=False)


def test_a_missing_slice_is_noticed_by_the_record(written):
    """Zarr takes a missing chunk for zeros; the SHA-256 beside it does not."""
    _, folder = written
    (folder / "0" / "c" / "2" / "0" / "0").unlink()
    with pytest.raises(InputError, match="SHA-256"):
        read(folder)
