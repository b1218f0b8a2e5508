"""`info`, `compare`, `convert`, `report`: about files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.command_line import SHAPE, Run, body
from medrecon.data import read_scan, read_volume, write


# --- info --------------------------------------------------------------------------------------------------------
def test_info_of_a_volume(run: Run, truth: Path) -> None:
    values = run("info", truth, "--json").json()
    assert values["format"] == "nifti"
    assert values["shape_zyx"] == list(SHAPE)
    assert values["spacing_mm_zyx"] == [3.0, 2.0, 2.0]
    assert values["axes_xyz"] == "LPS"
    assert (values["quantity"], values["minimum"], values["maximum"]) == ("HU", -1000.0, 500.0)
    assert values["not_finite"] == 0
    assert "LPS" in run("info", truth).out


def test_info_of_a_scan(run: Run, scan: Path) -> None:
    values = run("info", scan, "--json").json()
    assert values["data_shape"][0] == 12
    assert values["noise"].startswith("Poisson, 100000 photons")
    assert "parallel beam, 12 views" in values["description"]
    assert "parallel beam, 12 views" in run("info", scan).out


# --- compare -----------------------------------------------------------------------------------------------------
def test_compare_on_a_fixed_range(run: Run, truth: Path) -> None:
    volume = read_volume(truth)
    write("off.nii.gz", volume.with_array(volume.array + 20.0))
    values = run("compare", "off.nii.gz", truth, "--json").json()
    assert np.isclose(values["rmse"], 20.0, rtol=1e-4)
    assert np.isclose(values["psnr"], 40.0, atol=1e-3)  # 20 log10(2000 / 20)
    assert {"ssim_axial", "ssim_coronal", "ssim_sagittal", "nmse"} <= set(values)
    assert np.isclose(
        run("compare", "off.nii.gz", truth, "--data-range", 200, "--json").json()["psnr"], 20.0, atol=1e-3
    )


def test_compare_within_a_mask(run: Run, truth: Path) -> None:
    volume = read_volume(truth)
    changed = volume.array.copy()
    changed[0] += 100.0
    write("off.nii.gz", volume.with_array(changed))
    mask = np.zeros(SHAPE, dtype=np.float32)
    mask[1:] = 1
    write("mask.nii.gz", volume.with_array(mask, "a.u."))
    assert run("compare", "off.nii.gz", truth, "--json").json()["rmse"] > 1
    assert run("compare", "off.nii.gz", truth, "--mask", "mask.nii.gz", "--json").json()["rmse"] == 0


def test_compare_turns_axes_but_does_not_resample(run: Run, truth: Path) -> None:
    write("turned.nii.gz", body().as_orientation("RAI"))
    assert run("compare", "turned.nii.gz", truth, "--json").json()["rmse"] == 0
    write("coarse.nii.gz", body((6, 12, 12), (3.0, 4.0, 4.0)))
    answer = run("compare", "coarse.nii.gz", truth)
    assert answer.code == 3
    assert "grid" in answer.err


# --- convert -----------------------------------------------------------------------------------------------------
def test_convert_keeps_grid_and_values(run: Run, truth: Path) -> None:
    assert run("convert", truth, "v.h5").code == 0
    assert run("convert", "v.h5", "back.nii").code == 0
    before, after = read_volume(truth), read_volume("back.nii")
    assert np.array_equal(before.array, after.array)
    assert np.array_equal(before.geometry.affine, after.geometry.affine)
    assert after.quantity == "HU"
    assert run("convert", "v.h5", "back.nii").code == 2
    assert run("convert", "v.h5", "back.nii", "--overwrite").code == 0


def test_convert_quantity_and_scans(run: Run, truth: Path, scan: Path) -> None:
    assert run("convert", truth, "mu.nii.gz", "--quantity", "mu").code == 0
    assert np.isclose(read_volume("mu.nii.gz").array.max(), 0.0192 * 1.5)
    assert run("convert", scan, "copy.h5").code == 0
    assert np.array_equal(read_scan("copy.h5").data, read_scan(scan).data)
    assert run("convert", scan, "copy.nii.gz").code == 2
    assert run("convert", scan, "other.h5", "--quantity", "mu").code == 3


# --- report ------------------------------------------------------------------------------------------------------
def test_report_from_the_files_of_a_result(run: Run, scan: Path, truth: Path) -> None:
    assert run("recon", scan, "-o", "r.nii.gz", "--method", "tv", "--steps", 20).code == 0
    answer = run("report", "r.nii.gz", "--truth", truth, "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["verdict"] in ("good", "fair", "poor")
    page = Path("r.html").read_text()
    assert "scan.h5: 12 views of 6 slices" in page
    assert "Against the truth" in page
    assert "2 times finer" in page
    assert run("report", "r.nii.gz").code == 2
    assert run("report", "r.nii.gz", "--overwrite").code == 0
    assert "Against the truth" not in Path("r.html").read_text()
    assert run("report", "r.nii.gz", "-o", "r.pdf").code == 2


def test_report_ignores_a_baseline_of_an_earlier_run(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "r.nii.gz", "--method", "sirt", "--steps", 3).code == 0
    assert Path("r-baseline.nii.gz").exists()
    assert run("recon", scan, "-o", "r.nii.gz", "--method", "fbp", "--overwrite", "--report", "r.html").code == 0
    assert "(baseline)" not in Path("r.html").read_text()


def test_report_needs_a_record(run: Run, truth: Path) -> None:
    truth.with_name("truth.json").unlink()
    answer = run("report", truth)
    assert answer.code == 3
    assert ".json" in answer.err


def test_a_changed_volume_has_no_report(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "r.nii", "--method", "sirt", "--steps", 3).code == 0
    damaged = bytearray(Path("r.nii").read_bytes())
    damaged[-10] ^= 1
    Path("r.nii").write_bytes(damaged)
    answer = run("report", "r.nii")
    assert answer.code == 3
    assert "r.json" in answer.err
