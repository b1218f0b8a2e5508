"""DICOM series that this package writes, judged by programs that know nothing of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import file_examples as examples
from medrecon.data import Geometry, Volume, read, write
from medrecon.data.dicom_write import stored_values
from medrecon.data.formats import About
from medrecon.errors import CorruptInput, InputError, UsageError

NEWER_THAN_THE_VALIDATOR = "(0008,001c)"  # SyntheticData: in the standard since 2022, in Debian's dciodvfy not yet


def _left_handed() -> Geometry:
    affine = np.diag([0.8, 0.9, 2.5, 1.0])  # x to the right, y to the front, z to the head, then mirrored along z
    affine[:3, 2] *= -1
    affine[:3, 3] = (-3.25, 7.5, 101.0)
    return Geometry((4, 5, 9), affine)


def _sagittal() -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = examples.rotation(4, 1) @ np.array([[0, 0, 3.0], [-0.7, 0, 0], [0, -0.7, 0]])
    affine[:3, 3] = (1e-3, -250.123456, 987.654321)
    return Geometry((4, 8, 6), affine)


GEOMETRIES = {
    "axial": Geometry.from_spacing((4, 6, 6), (2.5, 1.0, 1.0)),
    "oblique": examples.oblique(),
    "anisotropic": Geometry.from_spacing((3, 5, 11), (7.5, 0.3515625, 1.1)),
    "left-handed": _left_handed(),
    "sagittal": _sagittal(),
}


def example(name: str, quantity: str) -> Volume:
    """Whole Hounsfield units, or small positive values."""
    made = examples.volume(GEOMETRIES[name], quantity)
    values = np.rint(made.array) if quantity == "HU" else np.abs(made.array) * 1.234e-4
    return made.with_array(values.astype(np.float32))


def program(name: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"program {name} is not installed")
    return name


def complaints(folder: Path) -> list[str]:
    """What the validators find wrong with a series."""
    found, files = [], sorted(folder.iterdir())
    for file in files:
        done = subprocess.run([program("dciodvfy"), "-new", file], capture_output=True, text=True)
        found += [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    done = subprocess.run([program("dcentvfy"), *files], capture_output=True, text=True)
    found += [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    done = subprocess.run([program("dcmftest"), *files], capture_output=True, text=True)
    found += [line for line in done.stdout.splitlines() if not line.startswith("yes")]
    return [line for line in found if NEWER_THAN_THE_VALIDATOR not in line]


@pytest.mark.parametrize("quantity", ["HU", "a.u."])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_validators_find_nothing(tmp_path, name, quantity):
    folder = write(tmp_path / "series", example(name, quantity), about=About(description="by a test", uses_prior=True))
    assert complaints(folder) == []
    info = subprocess.run([program("gdcminfo"), sorted(folder.iterdir())[0]], capture_output=True, text=True)
    assert info.returncode == 0 and "ScalarType found   :INT16" in info.stdout


@pytest.mark.parametrize("quantity", ["HU", "a.u."])
def test_the_gate_catches_a_broken_copy(tmp_path, quantity):
    import pydicom

    folder = write(tmp_path / "series", example("oblique", quantity))
    file = sorted(folder.iterdir())[1]
    dataset = pydicom.dcmread(file)
    for element in ("FrameOfReferenceUID", "KVP" if quantity == "HU" else "ScanningSequence"):
        delattr(dataset, element)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.save_as(file)
    assert len(complaints(folder)) >= 2


@pytest.mark.parametrize("quantity", ["HU", "a.u."])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_round_trip(tmp_path, name, quantity):
    """Whole Hounsfield units are exact; every voxel keeps its place to 1e-4 mm and its value to half a step."""
    volume = example(name, quantity)
    back = read(write(tmp_path / "series", volume))
    assert back.quantity == quantity
    turned = volume.as_orientation(back.geometry.orientation)
    assert back.geometry.almost_equal(turned.geometry, 1e-4)
    half_step = 0.0 if quantity == "HU" else stored_values(volume)[0] * 0.5001
    np.testing.assert_allclose(back.array, turned.array, rtol=0, atol=half_step + 1e-9)


@pytest.mark.parametrize("quantity", ["HU", "a.u."])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_an_independent_reader_agrees(tmp_path, name, quantity):
    """SimpleITK: the same value at the same place for every voxel."""
    sitk = pytest.importorskip("SimpleITK")
    volume = example(name, quantity)
    folder = write(tmp_path / "series", volume)
    series = sitk.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(folder)))
    image = series.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    theirs = Volume(array, Geometry(array.shape, np.diag([-1.0, -1, 1, 1]) @ affine), quantity)
    turned = volume.as_orientation(theirs.geometry.orientation)
    assert theirs.geometry.almost_equal(turned.geometry, 1e-4)
    np.testing.assert_allclose(theirs.array, turned.array, rtol=0, atol=stored_values(volume)[0] * 0.5001)


def test_one_rescale_for_the_series_and_the_same_bytes_again(tmp_path):
    import pydicom

    volume = example("oblique", "HU").with_array(examples.volume(examples.oblique()).array)
    first, second = (write(tmp_path / name, volume) for name in ("a", "b"))
    pairs = list(zip(sorted(first.iterdir()), sorted(second.iterdir()), strict=True))
    assert all(x.read_bytes() == y.read_bytes() for x, y in pairs)
    headers = [pydicom.dcmread(x) for x, _ in pairs]
    assert len({(h.RescaleSlope, h.RescaleIntercept) for h in headers}) == 1
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert all(h.ImageType[:2] == ["DERIVED", "SECONDARY"] and h.PatientIdentityRemoved == "YES" for h in headers)


@pytest.mark.parametrize("largest", [0.0, 1e-3, 1.0, 3071.0, 40000.0, 1e6])
def test_stored_values_fit(largest):
    array = np.linspace(-largest, largest, 24, dtype=np.float32).reshape(2, 3, 4)
    for quantity in ("HU", "a.u."):
        volume = Volume(array, Geometry.from_spacing((2, 3, 4), (1, 1, 1)), quantity)
        slope, intercept, stored = stored_values(volume)
        np.testing.assert_allclose(slope * stored + intercept, array, rtol=0, atol=slope * 0.5001)
        assert slope <= max(largest / 16383, 1 / 64)


def test_identifiers_of_a_source(tmp_path):
    """Asked for, patient, study, frame of reference and image references are the source's; otherwise nothing is."""
    import pydicom

    stored = np.zeros((3, 5, 4), np.int16)
    source = tmp_path / "source"
    examples.dicom_series(
        source, stored, FrameOfReferenceUID="1.2.840.7", BodyPartExamined="CHEST", PatientPosition="FFS"
    )
    volume = read(source)
    kept = pydicom.dcmread(
        sorted(write(tmp_path / "k", volume, about=About(source, keep_identifiers=True)).iterdir())[1]
    )
    assert kept.PatientName == "Canary^Yellow" and kept.PatientID == "CANARY-7"
    assert kept.StudyInstanceUID == "1.2.3" and kept.FrameOfReferenceUID == "1.2.840.7"
    assert kept.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.2"
    assert kept.SeriesInstanceUID != "1.2.3.4" and "PatientIdentityRemoved" not in kept

    folders = [write(tmp_path / name, volume, about=About(source)) for name in ("x", "y")]
    removed = [pydicom.dcmread(sorted(folder.iterdir())[0]) for folder in folders]
    assert (
        "anary" not in str(removed[0])
        and "1.2.840.7" not in str(removed[0])
        and "SourceImageSequence" not in removed[0]
    )
    assert removed[0].FrameOfReferenceUID == removed[1].FrameOfReferenceUID  # one frame, whatever its name
    assert removed[0].BodyPartExamined == "CHEST" and removed[0].PatientPosition == "FFS"
    assert complaints(folders[0]) == []


def test_a_map_of_real_numbers(tmp_path):
    """A Parametric Map: exact float32 values, the place of every voxel, no complaints."""
    pytest.importorskip("highdicom")
    volume = examples.volume(examples.oblique())
    spread = Volume(np.abs(volume.array) * 0.0123, volume.geometry, "HU", {"map": "spread"})
    folder = write(tmp_path / "spread", spread)
    assert [file.name for file in folder.iterdir()] == ["map.dcm"]
    back = read(folder)
    np.testing.assert_array_equal(back.array, spread.array)
    assert back.geometry.almost_equal(spread.geometry, 1e-4) and back.quantity == "HU"
    assert complaints(folder) == []
    data = (folder / "map.dcm").read_bytes()
    assert write(tmp_path / "again", spread).joinpath("map.dcm").read_bytes() == data
    for cut in (*range(0, len(data), 997), len(data) - 2):
        (folder / "map.dcm").write_bytes(data[:cut])
        with pytest.raises(InputError):
            read(folder, verify=False)


def test_what_dicom_cannot_hold(tmp_path):
    volume = examples.volume()
    with pytest.raises(UsageError, match=r"Hounsfield units.*1/mm"):
        write(tmp_path / "a", volume.with_array(volume.array, "1/mm"))
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(InputError, match="sheared"):
        write(tmp_path / "a", Volume(volume.array, Geometry(volume.array.shape, sheared), "HU"))
    with pytest.raises(UsageError, match="no identifiers to keep"):
        write(tmp_path / "a", volume, about=About(keep_identifiers=True))
    assert list(tmp_path.iterdir()) == []


def test_folders_are_replaced_with_care(tmp_path):
    """Whole or not at all, as files are; and never a folder that holds anything else."""
    volume = examples.volume()
    folder = write(tmp_path / "out", volume)
    with pytest.raises(UsageError, match="the output exists"):
        write(folder, volume)
    write(folder, volume.with_array(volume.array[:3].repeat(2, 0)[:5]), overwrite=True)
    assert len(list(folder.iterdir())) == 5 and sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.json"]

    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        write(folder, volume, overwrite=True)
    with pytest.raises(CorruptInput, match="folder is not the one"):
        read(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    with pytest.raises(UsageError, match="something else"):
        write(tmp_path / "other", volume, overwrite=True)
    assert (tmp_path / "other" / "a.txt").exists()


def test_a_damaged_slice_is_noticed(tmp_path):
    folder = write(tmp_path / "out", examples.volume())
    file = sorted(folder.iterdir())[2]
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    with pytest.raises(CorruptInput, match="SHA-256"):
        read(folder)
