"""What the command line does with bad input: an exit code, what and where and what to do, and no file changed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from helpers.command_line import Run, body
from medrecon.data import write

FAST = ("--method", "sirt", "--steps", 2)


def files() -> dict[str, bytes]:
    """Everything in the working folder, hidden files included."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(run: Run, code: int, *texts: str, words: tuple[object, ...]) -> None:
    """The command ends with ``code``, says ``texts``, shows no traceback and leaves every file as it was."""
    before = files()
    answer = run(*words)
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err and "defect" not in answer.err
    for text in texts:
        assert text in answer.err, answer.err
    assert files() == before


@pytest.fixture
def old(scan: Path) -> Path:
    """Results of an earlier run with everything beside them, and the checkpoint of one that was interrupted."""
    for name in ("r.nii.gz", "r.json", "r-baseline.nii.gz", "r-baseline.json", ".r.nii.gz.checkpoint", "r.html"):
        Path(name).write_bytes(b"old " + name.encode())
    return Path("r.nii.gz")


Change = Callable[[h5py.File], None]


def _set_data(place: tuple[int, ...], value: float) -> Change:
    def change(file: h5py.File) -> None:
        file["data"][place] = value

    return change


def _replace(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(file: h5py.File) -> None:
        about, values = dict(file[name].attrs), make(file[name][:])
        del file[name]
        file[name] = values
        file[name].attrs.update(about)

    return change


def _attribute(group: str, name: str, value: object) -> Change:
    def change(file: h5py.File) -> None:
        file[group].attrs[name] = value

    return change


def _without(name: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


SPOILT: dict[str, tuple[Change, str]] = {
    "a NaN": (_set_data((3, 2, 1), np.nan), "measured data"),
    "an infinity": (_set_data((0, 0, 0), np.inf), "measured data"),
    "a view too few": (_replace("data", lambda data: data[1:]), "12 angles"),
    "a slice too many": (_replace("data", lambda data: data[:, [0, *range(6)]]), "6 slices"),
    "axes in another order": (_replace("data", lambda data: data.transpose(1, 0, 2)), "(views, slices, columns)"),
    "two dimensions": (_replace("data", lambda data: data[:, 0]), "three dimensions"),
    "text for data": (_replace("data", lambda data: np.array([b"a", b"b"])), "data"),
    "no data": (_without("data"), "data"),
    "degrees": (_replace("angles", np.rad2deg), "look like degrees"),
    "an angle that is NaN": (_replace("angles", lambda angles: np.where(angles > 1, np.nan, angles)), "angles"),
    "a detector beside the volume": (_attribute("geometry", "detector_offset", 5000.0), "misses the volume"),
    "an axis beside the volume": (_attribute("geometry", "rotation_shift", 5000.0), "misses the volume"),
    "metres": (_attribute("volume", "affine", np.diag([-0.002, -0.002, 0.003, 1.0])), "grid of /volume"),
    "columns of no width": (_attribute("geometry", "column_spacing", 0.0), "column spacing"),
    "an unknown beam": (_attribute("geometry", "kind", "spiral"), "parallel"),
    "a grid without an affine": (_attribute("volume", "affine", np.zeros((4, 4))), "affine"),
    "an unknown noise": (_attribute("noise", "kind", "pink"), "pink"),
    "no photons": (_attribute("noise", "photons", 0.0), "photons"),
    "photons that are NaN": (_attribute("noise", "photons", np.nan), "photons"),
    "water that absorbs nothing": (_attribute("volume", "water", 0.0), "water"),
    "another modality": (_attribute("/", "modality", "ultrasound"), "ultrasound"),
    "a file of the future": (_attribute("/", "format_version", 99), "newer version"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_scan_that_cannot_be(run: Run, scan: Path, old: Path, fault: str) -> None:
    change, text = SPOILT[fault]
    with h5py.File(scan, "r+") as file:
        del file.attrs["sha256"]
        change(file)
    Path("scan.json").unlink()  # and no hash: as if written by another program
    code = 2 if fault == "another modality" else 3
    refused(run, code, "scan.h5" if code == 3 else "", text, words=("recon", scan, "-o", old, "--overwrite", *FAST))


def test_a_scan_that_was_edited_and_still_has_its_hash(run: Run, scan: Path, old: Path) -> None:
    with h5py.File(scan, "r+") as file:
        file["data"][0, 0, 0] = 1.0
    refused(run, 3, "scan.h5", "SHA-256", words=("recon", scan, "-o", old, "--overwrite", *FAST))


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 1000, -1000, -1])
def test_a_truncated_scan(run: Run, scan: Path, old: Path, keep: int) -> None:
    Path("cut.h5").write_bytes(scan.read_bytes()[:keep])
    refused(run, 3, "cut.h5", words=("recon", "cut.h5", "-o", old, "--overwrite", *FAST))


NIFTI: dict[str, Callable[[bytes], bytes]] = {
    "cut in the header": lambda content: content[:200],
    "cut in the voxels": lambda content: content[:-300],
    "cut at the end": lambda content: content[:-1],
    "garbage": lambda content: bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
    "garbage after a good start": lambda content: content[:40] + b"\xff" * 400,
    "a page of the web": lambda content: b"<!DOCTYPE html><html>404</html>" * 40,
    "no voxel size": lambda content: content[:76] + b"\0" * 32 + content[108:252] + b"\0" * 4 + content[256:],
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("fault", NIFTI)
def test_a_volume_that_cannot_be_read(run: Run, tmp_path: Path, fault: str, suffix: str) -> None:
    """Cut as stored, so that a compressed file is cut in its compressed stream."""
    write(tmp_path / "good.nii", body())
    content = (tmp_path / "good.nii").read_bytes()
    spoil = NIFTI[fault]
    if suffix == ".nii.gz":
        cut = fault.startswith("cut")
        content = spoil(gzip.compress(content)) if cut else gzip.compress(spoil(content))
    else:
        content = spoil(content)
    Path(f"bad{suffix}").write_bytes(content)
    Path("old.h5").write_bytes(b"old")
    words = ("simulate", "ct", f"bad{suffix}", "-o", "old.h5", "--views", 4, "--overwrite")
    refused(run, 3, f"bad{suffix}", words=words)
    refused(run, 3, f"bad{suffix}", words=("info", f"bad{suffix}"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_volume_with_values_that_are_no_numbers(run: Run, truth: Path, value: float) -> None:
    volume = body()
    volume.array[1, 2, 3] = value
    nib.save(nib.Nifti1Image(volume.array.T, volume.geometry.affine), "bad.nii.gz")
    refused(run, 3, "bad.nii.gz", words=("simulate", "ct", "bad.nii.gz", "-o", "s.h5", "--views", 4))
    refused(run, 3, "bad.nii.gz", words=("compare", "bad.nii.gz", truth))


def test_volumes_of_different_shape_are_not_compared(run: Run, truth: Path) -> None:
    write(Path("other.nii.gz"), body((6, 24, 20)))
    refused(run, 3, "different grids", "6 x 24 x 20", words=("compare", "other.nii.gz", truth))


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("--method", "sirtt"), ("sirt",)),
        (("--method", "sirt", "--set", "iteration=3"), ("iterations",)),
        (("--method", "sirt", "--set", "iterations=-3"), ("iterations",)),
        (("--method", "sirt", "--set", "relaxation=nan"), ("relaxation",)),
        (("--method", "sirt", "--prior", "no-such-prior"), ("no-such-prior",)),
        (("--method", "dds", "--prior", "missing.safetensors"), ("missing.safetensors",)),
        (("--method", "sirt", "--seed", "-1"), ("seed",)),
        (("--method", "sirt", "--samples", "0"), ("samples",)),
        (("--method", "sirt", "--device", "cuda:7"), ("cuda:7",)),
        (("--method", "sirt", "--voxel", "0"), ("voxel",)),
        (("--method", "sirt", "--shape", "1,2"), ("shape",)),
        (("--method", "sirt", "--config", "missing.yaml"), ("missing.yaml",)),
        (("--method", "sirt", "--preview-slice", "99"), ("99",)),
        (("--method", "sirt", "--quantity", "furlong"), ("furlong",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_senseless_wishes(run: Run, scan: Path, old: Path, words: tuple[str, ...], texts: tuple[str, ...]) -> None:
    """2, or 3 where a file is at fault."""
    code = 3 if any("missing." in word for word in words) else 2
    refused(run, code, *texts, words=("recon", scan, "-o", old, "--overwrite", *words))


def test_an_unknown_filter(run: Run, scan: Path) -> None:
    refused(
        run, 2, "rampp", "ramp |", words=("recon", scan, "-o", "r.nii.gz", "--method", "fbp", "--set", "filter=rampp")
    )


@pytest.mark.parametrize("name", ["r.nii.gz", "r-baseline.nii.gz", "r.html"])
def test_nothing_that_stands_beside_is_overwritten_unasked(run: Run, scan: Path, name: str) -> None:
    Path(name).write_bytes(b"precious")
    refused(run, 2, name, "--overwrite", words=("recon", scan, "-o", "r.nii.gz", *FAST, "--report", "r.html"))


def test_a_folder_that_cannot_be_written_to(run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the work. The system is asked, because the administrator may write to every folder."""
    Path("locked").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, *a, **k: Path(path).name != "locked" and allowed(path, *a, **k))
    monkeypatch.setattr("medrecon.engine.reconstruct", lambda *a, **k: pytest.fail("too late"))
    refused(run, 2, "r.nii.gz", "permission denied", words=("recon", scan, "-o", "locked/r.nii.gz", *FAST))
    words = ("simulate", "ct", "truth.nii.gz", "-o", "locked/s.h5", "--views", 4)
    refused(run, 2, "s.h5", "permission denied", words=words)


def test_a_demo_needs_a_folder(run: Run) -> None:
    Path("file").write_bytes(b"precious")
    refused(run, 2, "file: the folder cannot be made", words=("demo", "ct", "-o", "file"))
    refused(run, 2, "below: the folder cannot be made", words=("demo", "ct", "-o", "file/below"))
