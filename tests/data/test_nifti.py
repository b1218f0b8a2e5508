"""NIfTI: exact round trips, what other readers see, and headers that must be refused."""

from __future__ import annotations

import gzip
import json
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import file_examples as examples
from medrecon.data import Geometry, Volume, read, write
from medrecon.data.limits import Limits
from medrecon.data.nifti import read_nifti
from medrecon.errors import CorruptInput, InputError, TooLarge, UsageError


def stored(path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.name.endswith(".gz") else data


def patched(tmp_path, offset: int, form: str, *values, name: str = "patched.nii", source=None):
    """A good file with some bytes of its header replaced."""
    good = tmp_path / "good.nii"
    if not good.exists():
        write(good, source or examples.volume(), sidecar=False)
    data = bytearray(good.read_bytes())
    struct.pack_into(form, data, offset, *values)
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("geometry", [None, examples.oblique()])
def test_round_trip_is_exact(tmp_path, name, geometry):
    volume = examples.volume(geometry)
    write(tmp_path / name, volume)
    back = read(tmp_path / name)
    assert back.array.dtype == np.float32
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.geometry.affine, volume.geometry.affine)
    assert back.quantity == "HU" and back.meta["quantity_from"] == "file"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_header_bytes(tmp_path, name):
    """The header field by field, without any NIfTI library."""
    volume = examples.volume(examples.oblique())
    write(tmp_path / name, volume)
    data = stored(tmp_path / name)
    assert struct.unpack_from("<i", data, 0) == (348,)
    assert struct.unpack_from("<8h", data, 40) == (3, 7, 6, 5, 1, 1, 1, 1)
    assert struct.unpack_from("<2h", data, 70) == (16, 32)  # float32, 32 bits
    pixdim = struct.unpack_from("<8f", data, 76)
    assert pixdim[0] in (-1.0, 1.0)
    np.testing.assert_allclose(pixdim[1:4], volume.geometry.spacing[::-1], rtol=1e-6)
    offset, slope, intercept = struct.unpack_from("<3f", data, 108)
    assert (slope, intercept) == (1.0, 0.0) and offset % 16 == 0
    assert data[123] == 2 | 8  # millimetres, seconds
    assert struct.unpack_from("<2h", data, 252) == (1, 1)  # qform and sform codes
    sform = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    np.testing.assert_array_equal(sform.astype(np.float32), volume.geometry.affine[:3].astype(np.float32))
    assert data[344:348] == b"n+1\0"
    assert data[348] == 1
    size, code = struct.unpack_from("<2i", data, 352)
    assert size % 16 == 0 and code == 6 and 352 + size == offset
    assert json.loads(data[360 : 352 + size].rstrip(b"\0"))["quantity"] == "HU"
    values = np.frombuffer(data[int(offset) :], "<f4")
    np.testing.assert_array_equal(values, volume.array.ravel())  # x fastest
    assert len(data) == int(offset) + 4 * volume.array.size


def test_nibabel_sees_the_same(tmp_path):
    volume = examples.volume(examples.oblique())
    image = nib.load(write(tmp_path / "a.nii.gz", volume))
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume.array.transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine, volume.geometry.affine, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), volume.geometry.affine, atol=1e-4)
    assert "".join(nib.aff2axcodes(image.affine)) == volume.geometry.orientation
    assert image.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<u2", "<f8", "<f4", "<i4"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_reads_what_nibabel_writes(tmp_path, dtype, kind):
    rng = np.random.default_rng(1)
    array = rng.integers(0, 200, (4, 5, 6)).astype(dtype)
    affine = examples.oblique().affine
    image = kind(array, affine)
    if dtype.startswith(">"):
        image = kind(array, affine, header=image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / "a.nii.gz")
    back = read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.array.transpose(2, 1, 0), array.astype(np.float32))
    np.testing.assert_allclose(back.geometry.affine, affine, atol=1e-5)


def test_scaled_integers(tmp_path):
    """int16 with slope and intercept, as CT is often stored; nibabel computes the same."""
    image = nib.Nifti1Image(np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6), np.diag([2.0, 2, 2, 1]))
    image.header.set_slope_inter(2.5, -1024)
    image.header["scl_slope"], image.header["scl_inter"] = 2.5, -1024
    path = tmp_path / "scaled.nii"
    nib.save(image, path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<2f", data, 112, 2.5, -1024)
    path.write_bytes(data)
    back = read(path)
    np.testing.assert_array_equal(back.array.transpose(2, 1, 0), nib.load(path).get_fdata(dtype=np.float32))
    assert back.array.min() == np.frombuffer(data[352:], "<i2").min() * 2.5 - 1024
    assert back.quantity == "HU" and back.meta["quantity_from"] == "values"


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_no_scaling(tmp_path, slope):
    volume = examples.volume()
    np.testing.assert_array_equal(read(patched(tmp_path, 112, "<2f", slope, 7.0)).array, volume.array)


def test_a_moved_volume_is_not_moved_back(tmp_path):
    """The exact affine in the extension must not win over a program that changed the sform."""
    volume = examples.volume()
    path = write(tmp_path / "a.nii", volume, sidecar=False)
    image = nib.load(path)
    moved = image.affine.copy()
    moved[:3, 3] += (10, 20, 30)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved, header=image.header), tmp_path / "moved.nii")
    back = read(tmp_path / "moved.nii")
    np.testing.assert_allclose(back.geometry.affine, moved, atol=1e-5)
    assert back.quantity == "HU"  # nibabel keeps extensions


def test_affine_choices(tmp_path):
    """sform before qform before voxel size, as nibabel; units are converted to mm."""
    array = np.zeros((4, 5, 6), np.float32)
    image = nib.Nifti1Image(array, None)
    image.header.set_zooms((0.5, 1.5, 2.0))
    only_qform, both = examples.oblique().affine.copy(), np.diag([3.0, 4, 5, 1])
    for sform, qform, expected in [
        (None, None, "voxel size"),
        (None, only_qform, "qform"),
        (both, only_qform, "sform"),
    ]:
        image.set_sform(sform, code=2 if sform is not None else 0)
        image.set_qform(qform, code=1 if qform is not None else 0)
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / "a.nii")
        back = read(tmp_path / "a.nii")
        np.testing.assert_allclose(back.geometry.affine, nib.load(tmp_path / "a.nii").affine, atol=1e-4)
        assert back.meta["affine_from"] == expected
        image.header.set_xyzt_units("meter")
        nib.save(image, tmp_path / "a.nii")
        np.testing.assert_allclose(
            read(tmp_path / "a.nii").geometry.spacing, np.array(back.geometry.spacing) * 1000, rtol=1e-5
        )


def test_cosines_stay_orthonormal(tmp_path):
    """ITK refuses volumes whose stored direction cosines are not orthonormal."""
    rng = np.random.default_rng(5)
    for n in range(20):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = turn * rng.uniform(0.2, 5, 3)
        affine[:3, 3] = rng.uniform(-500, 500, 3)
        volume = Volume(np.zeros((2, 3, 4), np.float32), Geometry((2, 3, 4), affine))
        data = write(tmp_path / f"{n}.nii", volume).read_bytes()
        sform = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)[:, :3]
        cosines = sform / np.linalg.norm(sform, axis=0)
        assert np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-6
        assert np.abs(nib.Nifti1Header(data[:348]).get_qform() - affine).max() < 1e-3


def test_sheared_affine_keeps_its_sform(tmp_path):
    affine = np.array([[1.0, 0.3, 0, 5], [0, 1, 0.2, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    volume = Volume(np.zeros((2, 3, 4), np.float32), Geometry((2, 3, 4), affine))
    data = write(tmp_path / "a.nii", volume).read_bytes()
    assert struct.unpack_from("<2h", data, 252) == (0, 1)
    np.testing.assert_array_equal(read(tmp_path / "a.nii").geometry.affine, affine)


def test_same_volume_same_bytes(tmp_path):
    a = write(tmp_path / "a.nii.gz", examples.volume(), sidecar=False).read_bytes()
    b = write(tmp_path / "other name.nii.gz", examples.volume(), sidecar=False).read_bytes()
    assert a == b


def test_two_and_more_dimensions(tmp_path):
    affine = np.diag([1.0, 2, 3, 1])
    nib.save(nib.Nifti1Image(np.ones((4, 5), np.float32), affine), tmp_path / "flat.nii")
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 1), np.float32), affine), tmp_path / "single.nii")
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 2), np.float32), affine), tmp_path / "series.nii")
    assert read(tmp_path / "flat.nii").geometry.shape == (1, 5, 4)
    assert read(tmp_path / "single.nii").geometry.shape == (6, 5, 4)
    with pytest.raises(InputError, match=r"series.nii: more than one volume.*4 x 5 x 6 x 2"):
        read(tmp_path / "series.nii")


def test_colour_complex_and_pairs_are_refused(tmp_path):
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "complex.nii")
    nib.save(nib.Nifti1Pair(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "pair.hdr")
    for name, text in [("rgb.nii", "RGB"), ("complex.nii", "complex64"), ("pair.hdr", "two files")]:
        with pytest.raises(InputError, match=text):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("offset", "form", "values", "text"),
    [
        (280, "<f", (float("nan"),), "affine is not finite"),
        (284, "<f", (float("inf"),), "affine is not finite"),
        (280, "<12f", (0.0,) * 12, "without a volume"),
        (280, "<12f", (1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0), "without a volume"),
        (112, "<f", (float("inf"),), "scaling is not finite"),
        (116, "<f", (float("nan"),), "scaling is not finite"),
        (40, "<h", (0,), "impossible dimensions"),
        (42, "<h", (-3,), "impossible dimensions"),
        (40, "<h", (9,), "impossible dimensions"),
        (70, "<h", (999,), "not supported"),
        (72, "<h", (8,), "contradicts itself"),
        (108, "<f", (float("nan"),), "impossible place"),
        (108, "<f", (12.0,), "impossible place"),
        (123, "<B", (7,), "unknown unit"),
        (344, "<4s", (b"none",), "no reader recognises"),
        (0, "<i", (347,), "no NIfTI file"),
        (42, "<3h", (30000, 30000, 30000), "would not fit|cut short"),
        (1000, "<f", (float("nan"),), r"NaN or infinity in the voxels.*1 of 210, the first at index \(\d, \d, \d\)"),
    ],
)
def test_bad_headers(tmp_path, offset, form, values, text):
    with pytest.raises(InputError, match=text) as info:
        read(patched(tmp_path, offset, form, *values))
    assert "patched.nii" in str(info.value) and str(tmp_path) not in str(info.value)


def test_zero_spacing_without_orientation(tmp_path):
    path = patched(tmp_path, 252, "<2h", 0, 0)
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 84, 0.0)
    path.write_bytes(data)
    with pytest.raises(InputError, match="no voxel size"):
        read(path)


def test_limits_before_allocation(tmp_path):
    path = write(tmp_path / "a.nii.gz", examples.volume())
    with pytest.raises(TooLarge, match="840 bytes") as info:
        read_nifti(path, limits=Limits(max_bytes=839))
    assert info.value.exit_code == 3


def test_bomb_is_read_no_further_than_announced(tmp_path):
    """A stream that unpacks to far more than its header says is refused without unpacking it all."""
    path = write(tmp_path / "a.nii.gz", examples.volume(), sidecar=False)
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as stream:
        stream.write(gzip.decompress(path.read_bytes()))
        for _ in range(96):
            stream.write(bytes(1 << 20))
    with pytest.raises(CorruptInput, match="more data than"):
        read(tmp_path / "bomb.nii.gz")


@pytest.mark.parametrize("cut", [1, 4, 8, 9])
def test_gzip_trailer_is_checked(tmp_path, cut):
    """nibabel stops before the checksum; this reader does not."""
    path = write(tmp_path / "a.nii.gz", examples.volume(), sidecar=False)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CorruptInput):
        read(path)


def test_writer_refuses_what_it_could_not_read(tmp_path):
    volume = examples.volume()
    with pytest.raises(InputError, match=r"a.nii: NaN or infinity"):
        write(tmp_path / "a.nii", volume.with_array(np.full_like(volume.array, np.nan)))
    with pytest.raises(UsageError, match="no writer"):
        write(tmp_path / "a.xyz", volume)
    assert list(tmp_path.iterdir()) == []


def test_quantity_argument(tmp_path):
    path = write(tmp_path / "a.nii", examples.volume())
    volume = read_nifti(path, quantity="a.u.")
    assert volume.quantity == "a.u." and volume.meta["quantity_from"] == "argument"


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.01, 50)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    compressed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_volume_comes_back(tmp_path_factory, shape, spacing, angles, origin, signs, compressed, seed):
    affine = np.eye(4)
    affine[:3, :3] = np.diag(np.multiply(spacing, signs))
    for axis, angle in enumerate(angles):
        affine[:3, :3] = examples.rotation(angle, axis) @ affine[:3, :3]
    affine[:3, 3] = origin
    volume = examples.volume(Geometry(shape, affine), "1/mm", seed)
    path = tmp_path_factory.mktemp("any") / ("a.nii.gz" if compressed else "a.nii")
    write(path, volume)
    back = read(path)
    assert back.quantity == "1/mm"
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.geometry.affine, volume.geometry.affine)
    stored = Geometry(shape, nib.load(path).affine)
    assert stored.almost_equal(volume.geometry, 1e-3)
