"""DICOM series: geometry against numbers worked out by hand, and series that must be refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import file_examples as examples
from medrecon.data import read, sniff
from medrecon.data.dicom import read_dicom
from medrecon.data.limits import Limits
from medrecon.errors import CorruptInput, InputError, TooLarge, UnsafeInput

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 2000, (6, 5, 4)).astype(np.int16)
TURNED = examples.rotation(12, 2) @ examples.rotation(-7, 0)


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "series"
    return folder, examples.dicom_series(folder, STORED)


def test_axial_series(series):
    folder, _ = series
    volume = read(folder)
    assert sniff(folder) == "dicom" and volume.quantity == "HU" and volume.geometry.orientation == "LPS"
    np.testing.assert_array_equal(volume.array, STORED.astype(np.float32) - 1024)
    np.testing.assert_allclose(volume.geometry.spacing, (2.5, 0.8, 0.9))
    # The first pixel lies at ImagePositionPatient, LPS; NIfTI's frame is RAS.
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], (20, 30, 100))


def test_order_of_files_says_nothing(tmp_path):
    """Names, instance numbers and the order of writing are shuffled; positions decide."""
    order = [3, 0, 5, 1, 4, 2]
    names = [f"{order[k]:02d}" for k in range(6)]
    folder = tmp_path / "s"
    examples.dicom_series(folder, STORED, names=names)
    np.testing.assert_array_equal(read(folder).array, STORED.astype(np.float32) - 1024)


def test_stacked_downwards(tmp_path):
    """A series stored from head to foot: z still grows along the normal, and every voxel keeps its place."""
    examples.dicom_series(tmp_path / "s", STORED, step=np.array([0, 0, -2.5]))
    volume = read(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, STORED[::-1].astype(np.float32) - 1024)
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], (20, 30, 100 - 5 * 2.5))


@pytest.mark.parametrize("turn", [TURNED, np.eye(3)[:, [1, 2, 0]], np.eye(3)[:, [0, 2, 1]] * [1, -1, 1]])
def test_oblique_sagittal_coronal(tmp_path, turn):
    """Position of voxel (column i, row j, slice k) by the formula of DICOM PS3.3 C.7.6.2.1.1."""
    examples.dicom_series(tmp_path / "s", STORED, orientation=turn)
    volume = read(tmp_path / "s")
    normal = np.cross(turn[:, 0], turn[:, 1])
    flipped = normal @ turn[:, 2] < 0
    for i, j, k in [(0, 0, 0), (3, 0, 0), (0, 4, 0), (2, 3, 5)]:
        lps = np.array([-20.0, -30, 100]) + turn @ np.array([0.9 * i, 0.8 * j, 2.5 * k])
        index = (i, j, 5 - k if flipped else k, 1)
        np.testing.assert_allclose((volume.geometry.affine @ index)[:3], lps * (-1, -1, 1), atol=1e-5)
        assert volume.array[index[2], j, i] == STORED[k, j, i] - 1024


def test_rescale_of_each_slice(tmp_path):
    slopes = [1, 1, 2, 0.5, 1, 3]
    examples.dicom_series(tmp_path / "s", STORED, slopes=slopes)
    expected = STORED * np.array(slopes)[:, None, None] - 1024
    np.testing.assert_array_equal(read(tmp_path / "s").array, expected.astype(np.float32))


def test_padding_becomes_air(tmp_path):
    stored = STORED.copy()
    stored[:, 0, 0] = -2000
    examples.dicom_series(tmp_path / "s", stored, PixelPaddingValue=-2000)
    assert (read(tmp_path / "s").array[:, 0, 0] == -1000).all()


def test_mr_has_arbitrary_units(tmp_path):
    examples.dicom_series(tmp_path / "s", STORED, modality="MR")
    volume = read(tmp_path / "s")
    assert volume.quantity == "a.u."
    np.testing.assert_array_equal(volume.array, STORED)


def test_one_file_stands_for_its_series(series):
    folder, files = series
    assert read(files[2]).geometry.shape == STORED.shape
    (folder / "README.txt").write_text("not an image")
    (folder / "DICOMDIR").write_bytes(files[0].read_bytes())
    (folder / "sub").mkdir()
    assert read(folder).geometry.shape == STORED.shape


def refused(folder, text: str, kind: type[InputError] = InputError) -> None:
    with pytest.raises(kind, match=text) as info:
        read_dicom(folder)
    message = str(info.value)
    assert "anary" not in message and "CANARY" not in message and str(folder.parent) not in message
    assert info.value.exit_code == 3


def test_missing_slice(series):
    folder, files = series
    files[2].unlink()
    refused(folder, r"slices are missing.*5\.000 mm between slice001.dcm and slice003.dcm.*2\.500 mm")


def test_duplicate_slice(series):
    folder, files = series
    (folder / "copy.dcm").write_bytes(files[3].read_bytes())
    refused(folder, "same place.*copy.dcm and slice003.dcm|same place.*slice003.dcm and copy.dcm")


def test_uneven_slices(tmp_path):
    files = examples.dicom_series(tmp_path / "s", STORED)
    examples.dicom_series(tmp_path / "t", STORED[:1], origin=(-20.0, -30.0, 100 + 6 * 2.5 + 0.3))
    (tmp_path / "t" / "slice000.dcm").rename(tmp_path / "s" / "x.dcm")
    assert len(files) == 6
    refused(tmp_path / "s", "not evenly spaced")


def test_two_series(series):
    folder, _ = series
    examples.dicom_series(folder, STORED[:2], series="1.2.3.5", names=["x1", "x2"], SeriesNumber=9)
    refused(folder, "2 series in one folder.*number 4 with 6 images, number 9 with 2 images")


def test_mixed_orientation_and_size(tmp_path):
    examples.dicom_series(tmp_path / "s", STORED)
    examples.dicom_series(tmp_path / "s", STORED[:1], orientation=TURNED, names=["other"])
    refused(tmp_path / "s", "differ in ImageOrientationPatient")
    (tmp_path / "s" / "other").unlink()
    examples.dicom_series(tmp_path / "s", STORED[:1, :4], names=["other"], origin=(-20.0, -30.0, 97.5))
    refused(tmp_path / "s", "differ in Rows or Columns")


def test_gantry_tilt(tmp_path):
    tilted = np.array([0, 2.5 * np.sin(np.radians(15)), 2.5 * np.cos(np.radians(15))])
    examples.dicom_series(tmp_path / "s", STORED, step=tilted)
    refused(tmp_path / "s", r"gantry was tilted.*15\.0 degrees")


def test_not_an_image_series(tmp_path):
    examples.dicom_series(tmp_path / "a", STORED, modality="US")
    refused(tmp_path / "a", "modality is not read.*US")
    examples.dicom_series(tmp_path / "b", STORED[:1], NumberOfFrames=6)
    refused(tmp_path / "b", "several slices in one DICOM file")
    files = examples.dicom_series(tmp_path / "c", STORED)
    import pydicom

    ds = pydicom.dcmread(files[0])
    del ds.ImagePositionPatient
    ds.save_as(files[0])
    refused(tmp_path / "c", "slice000.dcm: the image does not say where it lies.*ImagePositionPatient")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no DICOM images")


def test_deflated_is_refused(tmp_path):
    import pydicom

    files = examples.dicom_series(tmp_path / "s", STORED[:1])
    ds = pydicom.dcmread(files[0])
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.save_as(files[0])
    refused(tmp_path / "s", "deflated")


def test_rle_is_decoded(tmp_path):
    import pydicom

    for file in examples.dicom_series(tmp_path / "s", STORED):
        ds = pydicom.dcmread(file)
        ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        ds.save_as(file)
    np.testing.assert_array_equal(read(tmp_path / "s").array, STORED.astype(np.float32) - 1024)


def test_codec_that_is_not_there(tmp_path):
    import pydicom

    for file in examples.dicom_series(tmp_path / "s", STORED[:2]):
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        ds.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
        ds["PixelData"].VR = "OB"
        ds.save_as(file)
    refused(tmp_path / "s", "compressed and cannot be decoded")


def test_nothing_is_logged_or_warned(tmp_path, caplog, recwarn):
    """pydicom quotes bad values in its log and its warnings; a name could be one of them."""
    import pydicom

    for file in examples.dicom_series(tmp_path / "s", STORED[:2]):
        data = file.read_bytes()
        file.write_bytes(data.replace(b"CANARY-7", b"CANARY\x07\x01").replace(b"1.2.3.4\0", b"1..CANAR"))
    with caplog.at_level(0):
        read(tmp_path / "s")
    assert not caplog.records and not recwarn.list
    assert pydicom.config.logger.disabled is False


def test_limits(series):
    with pytest.raises(TooLarge):
        read_dicom(series[0], limits=Limits(max_bytes=6 * 5 * 4 * 4 - 1))


def test_truncation(tmp_path):
    """Every cut of a slice is refused."""
    folder = tmp_path / "s"
    file = examples.dicom_series(folder, STORED[:3])[1]
    data = file.read_bytes()
    cuts = {*range(0, len(data), 31), *(len(data) - n for n in (1, 2, 4, 40, 41))}
    for cut in sorted(cuts):
        file.write_bytes(data[:cut])
        with pytest.raises(InputError) as info:
            read(folder)
        assert "anary" not in str(info.value) and "CANARY" not in str(info.value), f"cut at {cut}"


def test_bit_flips(tmp_path):
    """Flips may change values (DICOM has no checksum) but raise nothing except InputError."""
    folder = tmp_path / "s"
    file = examples.dicom_series(folder, STORED[:2])[1]
    data = file.read_bytes()
    rng = np.random.default_rng(3)
    for place, bit in zip(rng.integers(0, len(data), 80), rng.integers(0, 8, 80), strict=True):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(bit)
        file.write_bytes(flipped)
        try:
            read(folder)
        except InputError as error:
            assert "anary" not in str(error) and "CANARY" not in str(error)


def test_files_of_others(tmp_path):
    """The files that come with pydicom, good and bad: a volume or an InputError, and nothing from their patients."""
    import pydicom

    read_well = []
    for file in sorted(Path(pydicom.data.__file__).parent.joinpath("test_files").glob("*.dcm")):
        folder = tmp_path / file.stem
        folder.mkdir()
        (folder / "file.dcm").write_bytes(file.read_bytes())
        try:
            volume = read_dicom(folder)
        except InputError as error:
            assert str(error).startswith(("file.dcm: ", f"{file.stem}: ")), str(error)
        else:
            assert np.isfinite(volume.array).all()
            read_well.append(file.stem)
    assert {"CT_small", "MR_small", "MR_small_RLE"} <= set(read_well)
    assert "MR_truncated" not in read_well


def test_a_file_that_only_claims_to_be_dicom(series):
    folder, _ = series
    (folder / "notes.dcm").write_text("hello")
    refused(folder, "notes.dcm: the DICOM file is damaged", CorruptInput)


def medium(folder: Path, entries: list[list[str]]) -> Path:
    """A DICOMDIR in ``folder`` that lists images by these paths."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = "1.2.9", pydicom.uid.ExplicitVRLittleEndian
    directory = FileDataset(folder / "DICOMDIR", {}, file_meta=meta, preamble=b"\0" * 128)
    records = []
    for parts in entries:
        record = pydicom.Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.add_new("ReferencedFileID", "CS", parts)
        records.append(record)
    directory.DirectoryRecordSequence = records
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_images_on_a_medium(tmp_path):
    disk = tmp_path / "disk"
    (disk / "DICOM").mkdir(parents=True)
    names = [f"IM{k}" for k in range(6)]
    examples.dicom_series(disk / "DICOM" / "S1", STORED, names=names)
    directory = medium(disk, [["DICOM", "S1", name] for name in names])
    for path in (directory, disk):
        assert sniff(path) == "dicom"
        np.testing.assert_array_equal(read(path).array, STORED.astype(np.float32) - 1024)
    (disk / "DICOM" / "S1" / "IM3").unlink()
    refused(disk, "lists an image that is not there.*entry 4")


@pytest.mark.parametrize("parts", [["..", "secret.dcm"], ["/", "etc", "x"], ["A/../../secret.dcm"], ["LINK", "s.dcm"]])
def test_a_medium_that_reaches_outside(tmp_path, parts):
    """Climbing, absolute, hidden separators, a link: nothing outside the medium is opened."""
    examples.dicom_series(tmp_path / "outside", STORED[:1], names=["s.dcm"])
    (tmp_path / "secret.dcm").write_bytes((tmp_path / "outside" / "s.dcm").read_bytes())
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "LINK").symlink_to(tmp_path / "outside")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        medium(disk, [parts])
    refused(disk, "DICOMDIR: .*outside", UnsafeInput)
