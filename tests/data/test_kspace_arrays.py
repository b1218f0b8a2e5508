"""Bare arrays and BART's files: what is stated about them, what is assumed, what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

import file_examples as examples
from helpers import mr_files as files
from helpers.bart import need_bart, write_cfl
from medrecon.data import KSpace, read, sniff
from medrecon.data.limits import Limits
from medrecon.errors import CorruptInput, InputError, TooLarge, UnsafeInput


def the(content: object) -> KSpace:
    assert isinstance(content, KSpace)
    return content


def centred(*shape: int, axes: tuple[int, ...] = (-2, -1)) -> np.ndarray:
    """Random samples with their largest in the centre."""
    data = files.complex_noise(*shape)
    where: list[object] = [slice(None)] * len(shape)
    for axis in axes:
        where[axis] = shape[axis] // 2
    data[tuple(where)] = 50
    return data


# --- .npy ----------------------------------------------------------------------------------------------------------
def test_coils_of_one_slice_are_guessed_and_said(tmp_path: Path) -> None:
    data = centred(4, 20, 16)
    np.save(tmp_path / "k.npy", data)
    kspace = the(read(tmp_path / "k.npy"))
    np.testing.assert_array_equal(kspace.data[:, 0], data)
    assert kspace.meta["warnings"] == ["axes are not stated: (4, 20, 16) is taken as (coil, y, x)"]
    assert any("1 mm is taken" in text for text in kspace.meta["missing"])


def test_stated_axes_spacing_and_noise(tmp_path: Path) -> None:
    data = centred(20, 16, 3, 4, axes=(0, 1))  # y, x, coil, z; big-endian, Fortran order, double precision
    np.save(tmp_path / "k.npy", np.asfortranarray(data.astype(">c16")))
    (tmp_path / "k.yaml").write_text("axes: y, x, coil, z\nspacing: [5, 1.5, 2]\nreadout: y\nnoise: 0.5\n")
    kspace = the(read(tmp_path / "k.npy"))
    np.testing.assert_array_equal(kspace.data, data.transpose(2, 3, 0, 1))
    np.testing.assert_allclose(kspace.volume_geometry.spacing, (5, 1.5, 2))
    np.testing.assert_allclose(kspace.field_of_view, (20, 30, 32))
    np.testing.assert_allclose(kspace.noise_covariance, 0.25 * np.eye(3))
    assert kspace.readout_axis == 1 and kspace.meta["warnings"] == []


def test_a_stated_affine_and_cropped_oversampling(tmp_path: Path) -> None:
    data = centred(2, 5, 12, 7, axes=(1, 2, 3))
    np.save(tmp_path / "k.npy", data)
    grid = examples.oblique((5, 6, 7))
    (tmp_path / "k.yaml").write_text(
        f"axes: [coil, z, y, x]\ndimensions: 3\nshape: [5, 6, 7]\naffine: {grid.affine.tolist()}\n"
    )
    kspace = the(read(tmp_path / "k.npy"))
    assert kspace.encoded == (0, 1, 2)
    np.testing.assert_array_equal(kspace.volume_geometry.affine, grid.affine)
    np.testing.assert_allclose(kspace.field_of_view[1], 12 * grid.spacing[1])
    assert kspace.meta["missing"] == []


def test_k_space_that_is_not_centred(tmp_path: Path) -> None:
    data = centred(2, 20, 15)
    np.save(tmp_path / "k.npy", np.fft.ifftshift(data, axes=(1, 2)))
    assert "not near the centre along y, x" in the(read(tmp_path / "k.npy")).meta["warnings"][-1]
    (tmp_path / "k.yaml").write_text("axes: coil, y, x\ncentred: false\n")
    kspace = the(read(tmp_path / "k.npy"))
    np.testing.assert_array_equal(kspace.data[:, 0], data)
    assert kspace.meta["warnings"] == []


BAD: dict[str, tuple[np.ndarray, str | None, str]] = {
    "magnitudes": (np.ones((4, 20, 16)), None, "complex numbers; found float64"),
    "half precision": (np.ones((4, 20, 16), np.float16), None, "complex numbers; found float16"),
    "four axes": (centred(3, 4, 20, 16), None, "axes are not stated"),
    "three axes, not coils": (centred(20, 18, 16), None, "axes are not stated"),
    "unknown axis": (centred(4, 20, 16), "axes: coil, y, t", "cannot be understood"),
    "twice the same": (centred(4, 20, 16), "axes: x, y, x", "cannot be understood"),
    "too few": (centred(4, 20, 16), "axes: y, x", "not one name for each axis"),
    "unknown entry": (centred(4, 20, 16), "axis: y, x", "unknown entries.*found .'axis'"),
    "no YAML": (centred(4, 20, 16), "axes: [", "not YAML"),
    "spacing": (centred(4, 20, 16), "spacing: [1, 2]", "spacing is malformed"),
    "negative spacing": (centred(4, 20, 16), "spacing: [1, -2, 1]", "positive, in mm"),
    "readout": (centred(4, 20, 16), "readout: z", "unknown readout axis"),
    "shape": (centred(4, 20, 16), "shape: [1, 40, 16]", "grid to reconstruct on does not fit"),
    "infinity": (np.full((4, 20, 16), np.inf + 0j), None, "NaN or infinity"),
    "zeros": (centred(4, 20, 16) * 0, None, "zeros alone"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(tmp_path: Path, case: str) -> None:
    array, said, words = BAD[case]
    np.save(tmp_path / "bad.npy", array)
    if said is not None:
        (tmp_path / "bad.yaml").write_text(said)
    with pytest.raises(InputError, match=rf"bad\.(npy|yaml): .*{words}") as found:
        read(tmp_path / "bad.npy")
    assert found.value.exit_code == 3


def test_damaged_large_and_unsafe_arrays(tmp_path: Path) -> None:
    path = tmp_path / "k.npy"
    np.save(path, centred(4, 20, 16))
    with pytest.raises(TooLarge):
        read(path, limits=Limits(1000))
    content = path.read_bytes()
    for cut in (8, 60, 200, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(CorruptInput, match=r"k\.npy"):
            read(path)
    np.save(path, np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeInput, match="Python objects"):
        read(path)


def test_the_real_brain(tmp_path: Path) -> None:
    """Undersampled eight times without a stated mask: found in the data."""
    import realdata

    path = realdata.need("mri-raw", "cartesian_ksp.npy")
    kspace = the(read(path))
    assert kspace.data.shape == (8, 1, 230, 180)
    np.testing.assert_array_equal(kspace.data[:, 0], np.load(path))
    assert kspace.sampling.mean() == pytest.approx(0.124, abs=0.001)
    assert all("not near the centre" not in text for text in kspace.meta["warnings"])


# --- .npz and .h5 --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_archives_state_all_themselves(tmp_path: Path, kind: str) -> None:
    data, mask = centred(3, 20, 16), np.arange(16) % 2 == 0
    path = tmp_path / f"k.{kind}"
    if kind == "npz":
        np.savez_compressed(path, kspace=data, mask=mask, axes="coil, y, x", spacing=np.array([4.0, 1.0, 2.0]))
    else:
        with h5py.File(path, "w") as file:
            file["ksp"], file["mask"] = data, mask
            file["ksp"].attrs.update(axes="coil, y, x", spacing=[4.0, 1.0, 2.0])
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.data[:, 0], data)
    np.testing.assert_array_equal(kspace.sampling[0, 0], mask)
    np.testing.assert_allclose(kspace.volume_geometry.spacing, (4, 1, 2))
    with pytest.raises(InputError, match="mask does not fit"):
        if kind == "npz":
            np.savez(path, kspace=data, mask=np.ones(20, bool))
        else:
            with h5py.File(path, "r+") as file:
                del file["mask"]
                file["mask"] = np.ones(20, bool)
        read(path)


def test_a_dataset_named_beside_the_file_with_real_and_imaginary_parts(tmp_path: Path) -> None:
    data = centred(20, 16, 3, axes=(0, 1))
    with h5py.File(tmp_path / "k.h5", "w") as file:
        pairs = np.zeros(data.shape, dtype=[("real", "<f4"), ("imag", "<f4")])
        pairs["real"], pairs["imag"] = data.real, data.imag
        file["kspace_full"] = pairs
    (tmp_path / "k.yaml").write_text("data: kspace_full\naxes: y, x, coil\n")
    np.testing.assert_array_equal(the(read(tmp_path / "k.h5")).data[:, 0], data.transpose(2, 0, 1))
    (tmp_path / "k.yaml").write_text("data: other\n")
    with pytest.raises(InputError, match=r"not there; found kspace_full; expected other"):
        read(tmp_path / "k.h5")


def test_four_axes_without_a_header_or_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"] = centred(2, 3, 20, 16)
    assert sniff(tmp_path / "k.h5") == "hdf5-array"
    with pytest.raises(InputError, match="ismrmrd_header as in fastMRI"):
        read(tmp_path / "k.h5")


# --- BART ----------------------------------------------------------------------------------------------------------
def test_k_space_that_bart_made(tmp_path: Path) -> None:
    """BART's own phantom: its bytes, and its image by our transform where BART's transform puts it."""
    import torch

    from medrecon.physics.mri.fourier import centred_ifft

    program = need_bart()
    for command in (["phantom", "-x32", "-k", "-s3", "ksp"], ["fft", "-i", "-u", "3", "ksp", "img"]):
        subprocess.run([program, *command], cwd=tmp_path, check=True, capture_output=True)
    for suffix in ("cfl", "hdr"):
        kspace = the(read(tmp_path / f"ksp.{suffix}"))
        raw = np.fromfile(tmp_path / "ksp.cfl", "<c8").reshape((32, 32, 3), order="F")
        np.testing.assert_array_equal(kspace.data[:, 0], raw.transpose(2, 0, 1))
    theirs = np.fromfile(tmp_path / "img.cfl", "<c8").reshape((32, 32, 3), order="F").transpose(2, 0, 1)
    ours = centred_ifft(torch.from_numpy(kspace.data), (2, 3))[:, 0].numpy()
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)


def test_dimensions_of_bart(tmp_path: Path) -> None:
    volume = centred(6, 5, 4, 2, axes=(0, 1, 2))
    write_cfl(tmp_path / "volume", volume)
    kspace = the(read(tmp_path / "volume.cfl"))
    assert kspace.encoded == (0, 1, 2)
    np.testing.assert_array_equal(kspace.data, volume.transpose(3, 2, 0, 1))
    one = centred(1, 6, 5, 2, axes=(1, 2))  # a slice of a 3D scan
    write_cfl(tmp_path / "one", one)
    kspace = the(read(tmp_path / "one.cfl"))
    assert kspace.encoded == (1, 2)
    np.testing.assert_array_equal(kspace.data[:, 0], one[0].transpose(2, 0, 1))
    slices = centred(6, 5, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, axes=(0, 1))
    write_cfl(tmp_path / "slices", slices)
    (tmp_path / "slices.yaml").write_text("spacing: [3, 1, 1]\n")
    kspace = the(read(tmp_path / "slices.cfl"))
    np.testing.assert_array_equal(kspace.data, slices.reshape(6, 5, 2, 3).transpose(2, 3, 0, 1))
    np.testing.assert_allclose(kspace.volume_geometry.spacing, (3, 1, 1))
    echoes = centred(6, 5, 1, 2, 1, 3, axes=(0, 1))
    write_cfl(tmp_path / "echoes", echoes)
    kspace = the(read(tmp_path / "echoes.cfl"))
    np.testing.assert_array_equal(kspace.data[:, 0], echoes[:, :, 0, :, 0, 0].transpose(2, 0, 1))
    assert kspace.meta["warnings"] == ["dimension 5 holds 3 images: the first is read"]


def test_bad_pairs_of_bart(tmp_path: Path) -> None:
    write_cfl(tmp_path / "a", centred(6, 5, 1, 2, axes=(0, 1)))
    (tmp_path / "a.hdr").write_text("# Dimensions\n6 5 1 3 1 1\n")
    with pytest.raises(CorruptInput, match=r"a\.cfl: .*another size.*found 480 bytes; expected 720"):
        read(tmp_path / "a.cfl")
    (tmp_path / "a.hdr").write_text("# Dimensions\n6 5 0 3\n")
    with pytest.raises(CorruptInput, match="make no sense"):
        read(tmp_path / "a.cfl")
    (tmp_path / "a.hdr").write_text("# Dimensions\nsix\n")
    with pytest.raises(CorruptInput, match="damaged"):
        read(tmp_path / "a.cfl")
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(InputError, match=r"half of the pair is missing.*expected a\.hdr"):
        read(tmp_path / "a.cfl")
    write_cfl(tmp_path / "maps", centred(6, 5, 1, 2, 2, axes=(0, 1)))
    with pytest.raises(InputError, match="several sets of maps"):
        read(tmp_path / "maps.cfl")
