"""A source series with a canary in every text element: none of them reaches any output, unless it is asked for."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import file_examples as examples
from helpers.command_line import SPACING, Answer, Run, body

_VALUES = {
    "AE": "CANARY", "AS": "077Y", "CS": "CANARY", "DA": "19770707", "DT": "19770707070707", "LO": "Canary",
    "LT": "Canary", "PN": "Canary^Yellow", "SH": "Canary", "ST": "Canary", "TM": "070707.777", "UC": "Canary",
    "UI": "1.2.826.7777777",
    "UR": "http://canary", "UT": "Canary",
}  # fmt: skip
_MARKS = (b"canary", b"19770707", b"7777777", b"070707.777", b"077y")
_NEEDED = {"Modality", "PhotometricInterpretation", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Slices whose header holds every text element that DICOM knows, about 2800 of them, filled with a mark."""
    from pydicom.datadict import DicomDictionary

    elements = {
        keyword: _VALUES[vr]
        for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items()
        if vr in _VALUES and multiplicity.startswith("1") and not retired and keyword and keyword not in _NEEDED
        and 0x0008_0000 <= tag < 0x7FE0_0000
        and keyword not in ("SpecificCharacterSet", "TransferSyntaxUID", "TimezoneOffsetFromUTC")
    }  # fmt: skip
    stored = (body().array + 1024).astype(np.int16)
    folder = tmp_path / "series"
    examples.dicom_series(folder, stored, spacing=SPACING, series="1.2.826.7777777.5", **elements)
    source = sorted(folder.iterdir())[0]
    assert len(elements) > 1500 and len(leaks("source", source.read_bytes())) == len(_MARKS)
    return folder


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of everything that was written, unpacked, the attributes and texts of HDF5 in the clear."""
    import h5py

    for file in sorted(folder.rglob("*")):
        if not file.is_file() or "series" in file.relative_to(folder).parts:
            continue
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if h5py.is_hdf5(file):
            with h5py.File(file) as h5:
                texts: list[str] = [str(dict(h5.attrs))]
                h5.visititems(lambda name, item, texts=texts: texts.append(f"{name} {dict(item.attrs)}"))
            data += "\n".join(texts).encode()
        yield str(file.relative_to(folder)), data


def leaks(where: str, data: bytes) -> list[str]:
    text = data.lower() + where.lower().encode()
    return [f"{where}: {mark.decode()}" for mark in _MARKS if mark in text]


def test_no_identifier_reaches_any_output(run: Run, series: Path, tmp_path: Path) -> None:
    answers: list[Answer] = [
        run("info", series),
        run("convert", series, "v.nii.gz"),
        run("convert", series, "v.h5"),
        run("convert", series, "copy"),
        run("simulate", "ct", series, "-o", "scan.h5", "--views", 8, "--photons", "1e5"),
        run("recon", "scan.h5", "-o", "r.nii.gz", "--like", series, "--method", "sirt", "--steps", 3, "--report",
            "r.html", "--json"),
        run("recon", "scan.h5", "-o", "out", "--like", series, "--method", "sirt", "--steps", 3),
        run("compare", "r.nii.gz", series),
    ]  # fmt: skip
    assert [answer.code for answer in answers] == [0] * len(answers), answers
    sorted(series.iterdir())[2].unlink()  # errors about the series stay silent about its patient too
    broken = run("convert", series, "w.nii.gz")
    damaged = sorted(series.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:3000])
    answers += [broken, run("info", series), run("info", damaged, "--debug")]
    assert [answer.code for answer in answers[-3:]] == [3, 3, 3]
    said = [leaks("what a command said", (answer.out + answer.err).encode()) for answer in answers]
    written = [leaks(name, data) for name, data in contents(tmp_path)]
    assert len(written) > 20
    assert [leak for found in said + written for leak in found] == []


def test_no_identifier_reaches_ome_zarr(run: Run, series: Path, tmp_path: Path) -> None:
    """Whose metadata are plain text, whatever the codec of its chunks."""
    pytest.importorskip("zarr", reason="could not import 'zarr'")
    answers = [
        run("convert", series, "v.ome.zarr"),
        run("simulate", "ct", series, "-o", "scan.h5", "--views", 8, "--photons", "1e5"),
        run("recon", "scan.h5", "-o", "r.ome.zarr", "--like", series, "--method", "sirt", "--steps", 3),
        run("info", "r.ome.zarr"),
        run("convert", "r.ome.zarr", "again", "--like", series),
    ]
    assert [answer.code for answer in answers] == [0] * len(answers), answers
    written = dict(contents(tmp_path))
    assert {"v.ome.zarr/zarr.json", "r.ome.zarr/zarr.json"} <= set(written)
    assert [leak for name, data in written.items() for leak in leaks(name, data)] == []
    said = [leaks("what a command said", (answer.out + answer.err).encode()) for answer in answers]
    assert [leak for found in said for leak in found] == []


def test_identifiers_are_kept_in_dicom_alone(run: Run, series: Path, tmp_path: Path) -> None:
    import pydicom

    assert run("convert", series, "v.nii.gz").code == 0
    assert run("convert", "v.nii.gz", "copy", "--like", series, "--keep-identifiers").code == 0
    kept = pydicom.dcmread(sorted((tmp_path / "copy").iterdir())[0])
    assert kept.PatientName == "Canary^Yellow" and kept.StudyDate == "19770707"
    assert kept.SourceImageSequence and "PatientIdentityRemoved" not in kept
    assert "OperatorsName" not in kept and "InstitutionName" not in kept  # no part of patient and study
    assert leaks("copy.json", (tmp_path / "copy.json").read_bytes()) == []
    answer = run("convert", "v.nii.gz", "other", "--keep-identifiers")
    assert answer.code == 2 and "--like" in answer.err
