"""`demo`: from nothing to files that a person can look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from medrecon.cli import demo as demo_module
from medrecon.cli import demo_mri, demo_seismic
from medrecon.data import read, read_volume

FILES = ("truth.nii.gz", "scan.h5", "fbp.nii.gz", "recon.nii.gz", "recon.json", "comparison.png", "report.html")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same demo on a grid that takes seconds."""
    monkeypatch.setattr(demo_module, "_SLICES", 8)
    monkeypatch.setattr(demo_module, "_SIZE", 48)
    monkeypatch.setattr(demo_mri, "_SLICES", 2)
    monkeypatch.setattr(demo_mri, "_CASES", ((4, "gaussian1d"), (8, "poisson2d")))
    monkeypatch.setattr(demo_mri, "_COILS", 4)
    cases = (("volume", (10, 16, 32), "random", 0.4), ("gathers", (3, 16, 32), "random", 0.4))
    monkeypatch.setattr(demo_seismic, "_CASES", cases)


@pytest.mark.usefixtures("small")
def test_demo_writes_volume_report_and_picture(run: Run) -> None:
    answer = run("demo", "ct", "-o", "shown", "--json")
    assert answer.code == 0, answer.err
    for name in FILES:
        assert (Path("shown") / name).stat().st_size > 0, name
    figures = answer.json()["ct"]["metrics"]
    best = answer.json()["ct"]["method"]
    assert figures[best]["psnr"] > figures["fbp"]["psnr"]
    assert (Path("shown") / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert read_volume("shown/recon.nii.gz").geometry.almost_equal(read_volume("shown/truth.nii.gz").geometry)
    record = json.loads((Path("shown") / "scan.json").read_text())
    assert record["output"]["noise"]["kind"] == "poisson"
    assert "2 times finer" in (Path("shown") / "report.html").read_text()
    again = run("demo", "ct", "-o", "shown")
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.usefixtures("small")
def test_demo_all_gives_each_its_folder_and_prints_figures(run: Run) -> None:
    answer = run("demo", "-o", "shown")
    assert answer.code == 0, answer.err
    assert (Path("shown") / "ct" / "report.html").exists()
    for name in ("truth.nii.gz", "kspace.h5", "recon.nii.gz", "comparison.png", "report.html", "recon-measurement.png",
                 "kspace-x8.h5", "recon-x8.nii.gz", "report-x8.html"):  # fmt: skip
        assert (Path("shown") / "mri" / name).stat().st_size > 0, name
    assert "Coil maps" in (Path("shown") / "mri" / "report.html").read_text()
    for name in ("truth.sgy", "holes.sgy", "recon.sgy", "comparison.png", "report.html", "holes-gathers.sgy",
                 "recon-gathers.sgy", "report-gathers.html"):  # fmt: skip
        assert (Path("shown") / "seismic" / name).stat().st_size > 0, name
    assert "gaussian1d x4 zero-filled" in answer.out and "poisson2d x8 tv" in answer.out
    assert "PSNR dB" in answer.out
    assert "report.html" in answer.out


@pytest.mark.usefixtures("small")
def test_demo_of_seismic_fills_the_holes_of_a_survey(run: Run) -> None:
    answer = run("demo", "seismic", "-o", "shown", "--json")
    assert answer.code == 0, answer.err
    summary = answer.json()["seismic"]
    for case, record in (("volume", "recon.json"), ("gathers", "recon-gathers.json")):
        chosen = json.loads((Path("shown") / record).read_text())["method"]
        found = {name.split()[1] for name in summary["metrics"] if name.startswith(case)}
        assert found == {"linear", "pocs", "drr", "dip", chosen}
    for figures in summary["metrics"].values():
        assert figures["snr_all"] > figures["snr_missing"] and 0 < figures["fk_error"] < 1
    whole, holes, filled = (read(Path("shown") / f"{name}.sgy") for name in ("truth", "holes", "recon"))
    assert holes.live.mean() == pytest.approx(0.6, abs=0.01) and filled.live.all()
    np.testing.assert_array_equal(filled.data[holes.live], whole.data[holes.live])
    assert "signal to noise of the missing traces" in (Path("shown") / "report.html").read_text()
    assert run("demo", "seismic", "-o", "shown").code == 2


@pytest.mark.slow
def test_demo_of_mri_in_full(run: Run) -> None:
    answer = run("demo", "mri", "-o", "shown", "--json")
    assert answer.code == 0, answer.err
    summary = answer.json()["mri"]
    figures = {name: f["psnr"] for name, f in summary["metrics"].items()}
    for case in ("gaussian1d x4", "poisson2d x8"):
        assert figures[f"{case} {summary['method']}"] > figures[f"{case} zero-filled"] + 5
    assert 0.6 < summary["discrepancy"] < 2.0


@pytest.mark.slow
def test_demo_of_seismic_in_full(run: Run) -> None:
    """The method that was chosen on hidden traces is within a decibel of the best on those that are missing."""
    answer = run("demo", "seismic", "-o", "shown", "--json")
    assert answer.code == 0, answer.err
    figures = answer.json()["seismic"]["metrics"]
    for case in ("volume", "gathers"):
        found = {name: f["snr_missing"] for name, f in figures.items() if name.startswith(case)}
        record = json.loads((Path("shown") / f"recon{'' if case == 'volume' else '-gathers'}.json").read_text())
        assert found[f"{case} {record['method']}"] > max(found.values()) - 1
        assert max(found.values()) > 5


@pytest.mark.slow
def test_demo_in_full(run: Run) -> None:
    answer = run("demo", "ct", "-o", "shown", "--json")
    assert answer.code == 0, answer.err
    summary = answer.json()["ct"]
    figures = summary["metrics"]
    assert figures[summary["method"]]["psnr"] > figures["fbp"]["psnr"] + 6
    assert 0.6 < summary["discrepancy"] < 2.0  # beyond that the report's verdict is "poor"
    assert (Path("shown") / "report.html").stat().st_size < 10e6
