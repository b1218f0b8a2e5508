"""kspace.h5: what is in the file, exact round trips, files written by hand, and what must be refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import file_examples as examples
from medrecon.data import KSpace, read, read_volume, write
from medrecon.data.volume import Geometry
from medrecon.errors import CorruptInput, InputError, UnsafeInput


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "kspace.h5", examples.kspace(), sidecar=False)


def edited(path: Path, edit: Callable[[h5py.File], None]) -> Path:
    """The file after an edit by a person, who drops its SHA-256."""
    with h5py.File(path, "r+") as file:
        del file.attrs["sha256"]
        edit(file)
    return path


def test_every_part_comes_back_bit_for_bit(path: Path) -> None:
    back = read(path)
    assert isinstance(back, KSpace)
    assert examples.same_kspace(back, examples.kspace())
    assert back.meta == {"format": "test", "warnings": ["one"], "verified": True}


def test_the_same_content_gives_the_same_bytes(path: Path) -> None:
    again = write(path.with_name("again.h5"), read(path), sidecar=False)
    assert again.read_bytes() == path.read_bytes()


def test_content_by_plain_h5py(path: Path) -> None:
    """The schema of docs/kspace-h5.md, read without this package."""
    kspace = examples.kspace()
    with h5py.File(path) as file:
        assert file.attrs["format"] == b"medrecon-kspace" and file.attrs["format_version"] == 1
        assert file["data"].dtype == "<c8" and file["data"].fletcher32
        np.testing.assert_array_equal(file["data"][()], kspace.data)
        np.testing.assert_array_equal(file["mask"][()], kspace.mask)
        np.testing.assert_allclose(file["acquisition"].attrs["field_of_view"], kspace.field_of_view)
        assert file["acquisition"].attrs["readout_axis"] == 1
        np.testing.assert_array_equal(file["volume"].attrs["affine"], kspace.volume_geometry.affine)


def test_a_file_written_by_hand_needs_little(tmp_path: Path) -> None:
    """The example of the documentation; a trajectory; big-endian numbers of double precision."""
    data = examples.kspace().data
    shape, spacing = data.shape[1:], (4.0, 1.0, 1.0)
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.attrs["format"] = "medrecon-kspace"
        file["data"] = data.astype(">c16")
        file.create_group("acquisition").attrs["field_of_view"] = np.multiply(shape, spacing)
        affine = Geometry.from_spacing(shape, spacing).affine
        file.create_group("volume").attrs.update(shape=shape, affine=affine)
    back = read(tmp_path / "k.h5")
    assert isinstance(back, KSpace)
    np.testing.assert_array_equal(back.data, data)
    assert back.data.dtype == np.dtype("<c8") and back.encoded == (1, 2) and back.meta["verified"] is False
    np.testing.assert_array_equal(back.sampling[0, 0], examples.kspace().mask[0, 0])


def test_spokes_round_trip(tmp_path: Path) -> None:
    whole = examples.kspace()
    spokes = replace(
        whole, mask=None, averages=None, readout_axis=None, matrix=(5, 6, 7), data=whole.data[:, :, :4, :],
        trajectory=np.random.default_rng(0).uniform(-3, 3, (4, 7, 2)).astype(np.float32),
    )  # fmt: skip
    assert examples.same_kspace(read(write(tmp_path / "k.h5", spokes)), spokes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leaves the encoded matrix"):
        write(tmp_path / "wide.h5", replace(spokes, trajectory=spokes.trajectory * 100))


BAD: list[tuple[Callable[[h5py.File], object], str]] = [
    (lambda f: f.__delitem__("data"), "dataset /data is missing"),
    (lambda f: f["volume"].attrs.pop("affine"), "attribute affine is missing"),
    (lambda f: f["acquisition"].attrs.pop("field_of_view"), "attribute field_of_view is missing"),
    (lambda f: f["acquisition"].attrs.__setitem__("field_of_view", [15.5, 4.2, 20.0]), "voxel size and field of view"),
    (lambda f: f["acquisition"].attrs.__setitem__("encoded", [1, 3]), "unknown encoded axes"),
    (lambda f: f["volume"].attrs.__setitem__("shape", [5, 9, 7]), "grid to reconstruct on does not fit"),
    (lambda f: f["volume"].attrs.__setitem__("shape", [4, 6, 7]), "grid to reconstruct on does not fit"),
    (lambda f: f["mask"].__setitem__(..., 0), "nothing was measured"),
    (lambda f: f["data"].__setitem__(..., 0), "zeros alone"),
    (lambda f: f["data"].__setitem__((0, 0, 0, 0), np.nan), r"NaN or infinity.*index \(0, 0, 0, 0\)"),
    (lambda f: f.attrs.__setitem__("format_version", 2), "newer version"),
    (lambda f: f.__setitem__("elsewhere", h5py.ExternalLink("other.h5", "/data")), "link to another place"),
]


@pytest.mark.parametrize(("edit", "words"), BAD)
def test_what_contradicts_itself_is_refused(path: Path, edit: Callable, words: str) -> None:
    with pytest.raises(InputError, match=rf"kspace\.h5: .*{words}") as found:
        read(edited(path, edit))
    assert found.value.exit_code == 3
    assert isinstance(found.value, UnsafeInput) == ("link" in words)


def test_an_edit_that_keeps_the_hash_is_noticed(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["volume"].attrs["quantity"] = "mT"
    with pytest.raises(CorruptInput, match="SHA-256"):
        read(path)


def test_what_cannot_be_read_is_not_written(tmp_path: Path) -> None:
    kspace = examples.kspace()
    for wrong in (
        replace(kspace, data=kspace.data.real),
        replace(kspace, mask=np.ones((1, 1, 6), bool)),
        replace(kspace, noise_covariance=np.eye(2)),
        replace(kspace, calibration=kspace.calibration[:2]),
        replace(kspace, maps=kspace.maps[:, :, 1:]),
        replace(kspace, readout_axis=0),
    ):
        with pytest.raises(InputError):
            write(tmp_path / "wrong.h5", wrong)
    assert not list(tmp_path.iterdir())


def test_k_space_is_no_volume(path: Path) -> None:
    with pytest.raises(InputError, match="holds measured data"):
        read_volume(path)
