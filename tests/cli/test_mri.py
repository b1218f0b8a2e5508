"""`simulate mri`, `info` and `recon` of k-space on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.mri import head, psnr
from medrecon.data import Geometry, Volume, read_volume, write
from medrecon.simulate_contrast import random_contrast


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    """A head in axes that are not those of the scanner."""
    return write(tmp_path / "head.nii.gz", head((4, 48, 40), (4.0, 4.0, 4.0)).as_orientation("PIR"))


@pytest.fixture
def kspace(run: Run, head_file: Path) -> Path:
    made = run("simulate", "mri", head_file, "-o", "kspace.h5", "--mask", "gaussian1d", "--acceleration", 2.5,
               "--coils", 4, "--centre", 14, "--noise", 0.005)  # fmt: skip
    assert made.code == 0, made.err
    return Path("kspace.h5")


def test_from_a_volume_to_its_reconstruction(run: Run, head_file: Path, kspace: Path) -> None:
    answer = run("recon", kspace, "-o", "out.nii.gz", "--method", "tv", "--report", "out.html", "--json")
    assert answer.code == 0, answer.err
    assert 0.7 < answer.json()["discrepancy"] < 1.6
    truth, found = read_volume(head_file), read_volume("out.nii.gz")
    assert found.geometry.almost_equal(truth.geometry)
    assert psnr(found.array, truth.array) > 24
    record = json.loads(Path("out.json").read_text())
    assert record["data"]["modality"] == "mri"
    assert "acceleration 2.5" in record["data"]["title"]
    assert "out.html" in {p.name for p in Path().iterdir()}


def test_info_says_what_was_measured(run: Run, kspace: Path) -> None:
    said = run("info", kspace, "--json").json()
    assert said["coils"] == 4
    assert said["matrix_zyx"] == [4, 48, 40]
    assert said["acceleration"] == 2.5
    assert said["calibration"].startswith("48 x 14 (y, x)")
    assert said["spacing_mm_zyx"] == [4.0, 4.0, 4.0]
    assert said["missing"] == []
    text = run("info", kspace).out
    assert "undersampled along x" in text
    assert "simulated" in text


def test_info_names_what_is_missing(run: Run, head_file: Path) -> None:
    made = run("simulate", "mri", head_file, "-o", "k.h5", "--mask", "uniform1d", "--acceleration", 2, "--coils", 2,
               "--centre", 4)  # fmt: skip
    assert made.code == 0, made.err
    missing = run("info", "k.h5", "--json").json()["missing"]
    assert any("noise scan" in text for text in missing)
    assert any("too few for ESPIRiT" in text for text in missing)


def test_a_preview_is_one_slice_where_slices_are_apart(run: Run, kspace: Path) -> None:
    answer = run("recon", kspace, "-o", "one.nii.gz", "--method", "cg-sense", "--preview-slice", 1)
    assert answer.code == 0, answer.err
    assert read_volume("one.nii.gz").array.size == 48 * 40


def test_another_grid_is_refused(run: Run, kspace: Path) -> None:
    answer = run("recon", kspace, "-o", "out.nii.gz", "--method", "tv", "--voxel", 2)
    assert answer.code == 3
    assert "grid that it was measured on" in answer.err
    assert not Path("out.nii.gz").exists()


def test_a_volume_without_signal_is_refused(run: Run) -> None:
    empty = head((4, 16, 16))
    write("empty.nii.gz", Volume(np.zeros_like(empty.array), empty.geometry))
    answer = run("simulate", "mri", "empty.nii.gz", "-o", "k.h5", "--mask", "uniform1d", "--acceleration", 2)
    assert answer.code == 3
    assert "no signal" in answer.err
    assert not Path("k.h5").exists()


def test_a_label_map_becomes_a_volume_and_an_old_file_stays(run: Run) -> None:
    codes = np.zeros((20, 22, 24), dtype=np.float32)
    codes[4:16, 4:16, 4:16] = 3
    codes[7:12, 7:12, 7:12] = 2
    labels = Volume(codes, Geometry.from_spacing(codes.shape, (1.0, 1.0, 1.0)), "a.u.")
    write(Path("labels.nii.gz"), labels)
    command = ("simulate", "mri-contrast", "labels.nii.gz", "-o", "painted.nii.gz", "--seed", 2)
    answer = run(*command)
    assert answer.code == 0 and "voxels" in answer.out
    expected = random_contrast(labels, 2).array
    np.testing.assert_allclose(read_volume("painted.nii.gz").array, expected, rtol=1e-6)
    old = Path("painted.nii.gz").read_bytes()
    assert run(*command).code == 2
    assert Path("painted.nii.gz").read_bytes() == old
    assert run(*command, "--overwrite").code == 0


def test_kspace_settings_reach_the_problem(run: Run, kspace: Path) -> None:
    for name, said in (("a", []), ("b", ["--kspace", "phase=wavelet", "--kspace", "coils=3"])):
        answer = run("recon", kspace, "-o", f"{name}.nii.gz", "--method", "tv", "--steps", 2, *said)
        assert answer.code == 0, answer.err
    record = json.loads(Path("b.json").read_text())
    assert "L1-wavelet" in record["data"]["notes"][0]
    assert "notes" not in json.loads(Path("a.json").read_text())["data"]
    assert not np.array_equal(read_volume("a.nii.gz").array, read_volume("b.nii.gz").array)
    assert run("rerun", "b.json").code == 0


@pytest.mark.parametrize(
    ("said", "words"),
    [("fase=auto", "phase"), ("phase=fast", "unknown phase"), ("coils=two", "a whole number"), ("coils", "key=value")],
)
def test_bad_kspace_settings_are_named(run: Run, kspace: Path, said: str, words: str) -> None:
    answer = run("recon", kspace, "-o", "out.nii.gz", "--method", "tv", "--kspace", said)
    assert answer.code == 2
    assert words in answer.err
    assert not Path("out.nii.gz").exists()
