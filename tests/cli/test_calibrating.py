"""`priors calibrate`, and what `recon` says of the intervals around its result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run, body
from medrecon.data import read_volume, write

QUICK = ("--method", "pnp", "--set", "steps=2")


@pytest.fixture
def prior(tiny_prior: Path, tmp_path: Path) -> Path:
    """A copy whose card may be changed."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(tiny_prior.with_suffix(suffix), tmp_path / f"own{suffix}")
    return tmp_path / "own.safetensors"


@pytest.fixture
def pairs(run: Run, scan: Path, truth: Path) -> list[str]:
    """Scans of two volumes."""
    other = body()
    write("other.nii.gz", other.with_array(other.array * 0.98))
    assert run("simulate", "ct", "other.nii.gz", "-o", "other.h5", "--views", 12, "--photons", "1e5").code == 0
    return [f"{scan}={truth}", "other.h5=other.nii.gz"]


def test_a_prior_is_calibrated_and_used(run: Run, prior: Path, pairs: list[str], scan: Path, truth: Path) -> None:
    before = run("recon", scan, "-o", "before.nii.gz", *QUICK, "--prior", prior)
    assert before.code == 0, before.err
    assert "not calibrated: the prior has no calibration of pnp" in before.out
    assert not Path("before-half-width.nii.gz").exists()

    made = run("priors", "calibrate", prior, *pairs, *QUICK, "--json")
    assert made.code == 0, made.err
    told = made.json()
    assert (told["method"], told["samples"], told["volumes"], told["scale"]) == ("pnp", 1, 2, "change")
    assert json.loads(prior.with_suffix(".json").read_text())["calibration"][0]["floor"] == told["floor"]
    assert run("priors", "verify", prior).code == 0
    assert "pnp with 1, 2 volumes" in run("priors", "show", prior).out

    again = run("priors", "calibrate", prior, *pairs, *QUICK)
    assert again.code == 2 and "--overwrite" in again.err
    replaced = run("priors", "calibrate", prior, *pairs, *QUICK, "--overwrite")
    assert replaced.code == 0 and "least covered" in replaced.out
    assert len(json.loads(prior.with_suffix(".json").read_text())["calibration"]) == 1

    after = run("recon", scan, "-o", "r.nii.gz", *QUICK, "--prior", prior, "--report", "r.html")
    assert after.code == 0, after.err
    assert "90% within +-" in after.out and "2 validation volumes" in after.out
    width = read_volume("r-half-width.nii.gz")
    assert width.quantity == "HU" and float(width.array.min()) > 0
    record = json.loads(Path("r.json").read_text())
    assert record["residual"]["intervals"]["calibrated"] is True
    assert record["beside"]["half-width"] == "r-half-width.nii.gz"
    page = Path("r.html").read_text()
    assert "How far the truth may be off" in page and "90% within" in page
    error = np.abs(read_volume("r.nii.gz").array - read_volume(truth).array)
    inside = read_volume(truth).array > -900
    assert np.mean(error[inside] <= width.array[inside]) > 0.8
    assert run("report", "r.nii.gz", "-o", "t.html", "--truth", truth).code == 0
    assert "of the body's voxels are" in Path("t.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{scan}"], 2, "a scan goes with its truth"),
        (["nothing.h5={truth}", *QUICK], 3, "nothing.h5"),
        (["{scan}={truth}", *QUICK], 3, "several volumes"),
        (["{scan}={truth}", "--method", "sirt", "--set", "iterations=2"], 2, "no prior to calibrate"),
        (["{scan}={truth}", "--method", "dds", "--samples", "2", "--set", "steps=2"], 2, "narrows the spread"),
        (["{scan}={truth}", "--method", "pnq"], 2, "unknown method 'pnq'"),
        (["{scan}={scan}", *QUICK], 3, "scan.h5"),
    ],
    ids=str,
)
def test_bad_input_leaves_the_card_alone(
    run: Run, prior: Path, scan: Path, truth: Path, words: list[str], code: int, message: str
) -> None:
    before = prior.with_suffix(".json").read_bytes()
    answer = run("priors", "calibrate", prior, *(w.format(scan=scan, truth=truth) for w in words))
    assert answer.code == code, answer.err
    assert message in answer.err
    assert prior.with_suffix(".json").read_bytes() == before


def test_a_prior_on_tiles(run: Run, prior: Path, scan: Path) -> None:
    words = ("recon", scan, *QUICK, "--prior", prior, "--trust", "none")
    for name, more in (("whole", ()), ("tiled", ("--tile", 64)), ("more", ("--tile", 40))):
        answer = run(*words, "-o", f"{name}.nii.gz", *more)
        assert answer.code == (2 if name == "more" else 0), answer.err
    assert "the tiles do not fit the network" in answer.err and "multiples of 4" in answer.err
    assert json.loads(Path("tiled.json").read_text())["request"]["tile"] == 64
    whole, tiled = (read_volume(f"{name}.nii.gz").array for name in ("whole", "tiled"))
    assert np.abs(whole - tiled).max() < 1.0  # a slice of 24 pixels is one tile


def test_a_card_with_a_damaged_calibration_is_refused(run: Run, prior: Path, scan: Path) -> None:
    card = json.loads(prior.with_suffix(".json").read_text())
    prior.with_suffix(".json").write_text(json.dumps(card | {"calibration": [{"method": "pnp"}]}))
    answer = run("recon", scan, "-o", "r.nii.gz", *QUICK, "--prior", prior)
    assert answer.code == 3 and "a calibration has the fields" in answer.err
