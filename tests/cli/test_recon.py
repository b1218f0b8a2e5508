"""`simulate ct` and `recon`: what they write, refuse, and leave alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import SHAPE, SPACING, Run, body
from medrecon.data import Volume, read_scan, read_volume, write
from medrecon.data.provenance import sha256_of_file

FAST = ("--method", "sirt", "--steps", 8)


# --- simulate --------------------------------------------------------------------------------------------------
def test_simulated_scan_states_how_it_was_made(run: Run, truth: Path) -> None:
    answer = run("simulate", "ct", truth, "-o", "s.h5", "--geometry", "fan", "--views", 9, "--arc", 220, "--photons",
                 "2e4", "--seed", 3, "--json")  # fmt: skip
    assert answer.code == 0
    assert answer.json()["data_shape"][:2] == [9, SHAPE[0]]
    scan = read_scan("s.h5")
    assert scan.geometry["kind"] == "fan-flat"
    assert np.isclose(scan.geometry["angles"][-1], np.radians(220) * 8 / 9)
    assert scan.noise == {"kind": "poisson", "photons": 2e4, "electronic": 0.0}
    assert scan.provenance["simulation"]["inverse_crime"] is False
    record = json.loads(Path("s.json").read_text())
    assert record["seed"] == 3
    assert record["inputs"][0]["sha256"] == sha256_of_file(truth)


def test_same_seed_same_data(run: Run, truth: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("simulate", "ct", truth, "-o", f"{name}.h5", "--views", 5, "--noise", 0.01, "--seed", seed).code == 0
    a, b, c = (read_scan(f"{name}.h5").data for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_inverse_crime_is_said(run: Run, truth: Path) -> None:
    assert run("simulate", "ct", truth, "-o", "s.h5", "--views", 5, "--refine", 1).code == 0
    assert "inverse crime" in run("info", "s.h5").out


@pytest.mark.parametrize(
    "words",
    [
        ["--geometry", "spiral"],
        ["--photons", "1e5", "--noise", "0.1"],
        ["--arc", "400"],
        ["--photons", "-1"],
        ["--noise", "-1"],
    ],
)
def test_senseless_simulations_are_refused(run: Run, truth: Path, words: list[str]) -> None:
    answer = run("simulate", "ct", truth, "-o", "s.h5", "--views", 5, *words)
    assert answer.code in (2, 3)
    assert not Path("s.h5").exists()


# --- recon: the files ------------------------------------------------------------------------------------------
def test_recon_returns_the_grid_of_the_source(run: Run, scan: Path, truth: Path) -> None:
    answer = run("recon", scan, "-o", "r.nii.gz", *FAST, "--json")
    assert answer.code == 0, answer.err
    made, source = read_volume("r.nii.gz"), read_volume(truth)
    assert made.geometry.shape == source.geometry.shape
    assert np.allclose(made.geometry.affine, source.geometry.affine, atol=1e-5)
    assert made.quantity == "HU"
    summary = answer.json()
    assert summary["method"] == "sirt"
    assert summary["status"] == "done"
    assert summary["discrepancy"] > 0
    judged = run("compare", "r.nii.gz", truth, "--json").json()
    assert judged["psnr"] > 15


@pytest.mark.parametrize("letters", ["RAS", "LAI", "PSR"])
def test_other_orientations_come_back_as_they_went_in(run: Run, letters: str) -> None:
    source = body().as_orientation(letters)
    write("turned.nii.gz", source)
    assert run("simulate", "ct", "turned.nii.gz", "-o", "s.h5", "--views", 12).code == 0
    assert run("recon", "s.h5", "-o", "r.nii.gz", *FAST).code == 0
    made = read_volume("r.nii.gz")
    assert made.geometry.almost_equal(source.geometry)
    assert float(np.corrcoef(made.array.ravel(), source.array.ravel())[0, 1]) > 0.8


def test_record_beside_the_output(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "r.nii.gz", *FAST, "--seed", 4).code == 0
    record = json.loads(Path("r.json").read_text())
    assert record["output"]["sha256"] == sha256_of_file("r.nii.gz")
    assert record["inputs"] == [{"name": "scan.h5", "sha256": sha256_of_file(scan)}]
    assert record["settings"]["method"] == "sirt"
    assert record["settings"]["iterations"] == 8
    assert record["seed"] == 4
    assert record["versions"]["medrecon"]
    assert record["residual"]["discrepancy"] > 0
    assert record["timings"]["seconds"] > 0
    assert record["peak_memory_bytes"] > 0
    assert len(record["residual_per_view"]) == 12
    assert str(scan.parent) not in Path("r.json").read_text()


def test_quantity_mu(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "hu.nii.gz", *FAST).code == 0
    assert run("recon", scan, "-o", "mu.nii.gz", *FAST, "--quantity", "mu").code == 0
    hu, mu = read_volume("hu.nii.gz"), read_volume("mu.nii.gz")
    assert mu.quantity == "1/mm"
    assert np.allclose(mu.to_quantity("HU").array, hu.array, atol=0.1)


def test_same_seed_same_volume(run: Run, scan: Path, tiny_prior: Path) -> None:
    words = ("--method", "dds", "--prior", tiny_prior, "--steps", 3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("recon", scan, "-o", f"{name}.nii.gz", *words, "--seed", seed).code == 0
    a, b, c = (read_volume(f"{name}.nii.gz").array for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_samples_give_a_spread_and_diffusion_a_baseline(run: Run, scan: Path, tiny_prior: Path) -> None:
    words = ("--method", "dds", "--prior", tiny_prior, "--steps", 3, "--samples", 2, "--report", "r.html", "--json")
    answer = run("recon", scan, "-o", "r.nii.gz", *words)
    assert answer.code == 0, answer.err
    assert read_volume("r-spread.nii.gz").array.min() >= 0
    assert read_volume("r-baseline.nii.gz").geometry.shape == SHAPE
    record = json.loads(Path("r.json").read_text())
    assert record["weights"][0]["sha256"] == sha256_of_file(tiny_prior)
    assert json.loads(Path("r-baseline.json").read_text())["role"] == "baseline"
    page = Path("r.html").read_text()
    assert "tv (baseline)" in page
    assert "Standard deviation over 2 samples" in page


# --- recon: the grid -------------------------------------------------------------------------------------------
def test_what_belonged_to_a_replaced_result_goes_with_it(run: Run, scan: Path, tiny_prior: Path) -> None:
    words = ("recon", scan, "-o", "out.nii.gz", "--method", "pnp", "--prior", tiny_prior, "--steps", 2)
    assert run(*words, "--samples", 2).code == 0
    Path("out-notes.txt").write_text("mine")
    assert Path("out-spread.nii.gz").exists() and Path("out-spread.json").exists()
    assert run(*words, "--overwrite").code == 0
    left = {path.name for path in Path().iterdir() if path.name.startswith("out-")}
    assert not any("spread" in name for name in left)
    assert {"out-notes.txt", "out-baseline.nii.gz", "out-baseline.json"} <= left


def test_like_takes_the_grid_of_another_volume(run: Run, scan: Path) -> None:
    finer = body((SHAPE[0], 30, 30), (SPACING[0], 1.6, 1.6)).as_orientation("RAS")
    write("finer.nii.gz", finer)
    answer = run("recon", scan, "-o", "r.nii.gz", *FAST, "--like", "finer.nii.gz")
    assert answer.code == 0, answer.err
    made = read_volume("r.nii.gz")
    assert made.geometry.almost_equal(finer.geometry)
    assert float(np.corrcoef(made.array.ravel(), finer.array.ravel())[0, 1]) > 0.8


def test_like_elsewhere_is_refused(run: Run, scan: Path) -> None:
    write("short.nii.gz", body((SHAPE[0] - 1, 24, 24)))
    answer = run("recon", scan, "-o", "r.nii.gz", *FAST, "--like", "short.nii.gz")
    assert answer.code == 3
    assert "5 slices" in answer.err
    assert not Path("r.nii.gz").exists()


def test_voxel_and_shape(run: Run, scan: Path, truth: Path) -> None:
    assert run("recon", scan, "-o", "r.nii.gz", *FAST, "--voxel", "3").code == 0
    made, source = read_volume("r.nii.gz"), read_volume(truth)
    assert made.geometry.shape == (6, 16, 16)
    assert np.allclose(made.geometry.spacing, (3.0, 3.0, 3.0))
    centre = [v.geometry.affine @ [*((np.array(v.geometry.shape[::-1]) - 1) / 2), 1] for v in (made, source)]
    assert np.allclose(centre[0], centre[1], atol=1e-4)
    assert run("recon", scan, "-o", "s.nii.gz", *FAST, "--voxel", "2", "--shape", "6,20,28").code == 0
    assert read_volume("s.nii.gz").geometry.shape == (6, 20, 28)
    assert run("recon", scan, "-o", "t.nii.gz", *FAST, "--shape", "7,20,28").code == 2
    assert run("recon", scan, "-o", "t.nii.gz", *FAST, "--voxel", "2,2,2").code == 2
    assert run("recon", scan, "-o", "t.nii.gz", *FAST, "--voxel", "2", "--like", truth).code == 2
    assert not Path("t.nii.gz").exists()


def test_preview_is_one_slice_of_the_whole(run: Run, scan: Path, truth: Path) -> None:
    answer = run("recon", scan, "-o", "p.nii.gz", *FAST, "--preview-slice", 2)
    assert answer.code == 0, answer.err
    assert run("recon", scan, "-o", "r.nii.gz", *FAST).code == 0
    preview, whole = read_volume("p.nii.gz"), read_volume("r.nii.gz")
    assert preview.geometry.shape == (1, *SHAPE[1:])
    assert np.allclose(preview.array[0], whole.array[2], atol=1.0)
    assert np.allclose(preview.geometry.affine[:3, 3], (whole.geometry.affine @ [0, 0, 2, 1])[:3], atol=1e-4)
    assert run("recon", scan, "-o", "q.nii.gz", *FAST, "--preview-slice", 6).code == 2


# --- recon: what it costs, settings -----------------------------------------------------------------------------
def test_dry_run_writes_nothing(run: Run, scan: Path, tiny_prior: Path) -> None:
    before = set(Path().iterdir())
    words = ("--method", "dds", "--prior", tiny_prior, "--steps", 7, "--samples", 2, "--dry-run", "--json")
    answer = run("recon", scan, "-o", "r.nii.gz", *words)
    assert answer.code == 0, answer.err
    plan = answer.json()
    assert plan["evaluations_per_slice"] == 14
    assert plan["evaluations"] == 14 * SHAPE[0]
    assert plan["seconds"] > 0
    assert plan["memory_mib"] > 0
    assert set(Path().iterdir()) == before


def test_settings_reach_the_method_and_unknown_ones_are_named(run: Run, scan: Path) -> None:
    assert (
        run(
            "recon", scan, "-o", "r.nii.gz", "--method", "sirt", "--set", "iterations=3", "--set", "relaxation=0.5"
        ).code
        == 0
    )
    settings = json.loads(Path("r.json").read_text())["settings"]
    assert (settings["iterations"], settings["relaxation"]) == (3, 0.5)
    answer = run("recon", scan, "-o", "s.nii.gz", "--method", "sirt", "--set", "relaxtion=0.5")
    assert answer.code == 2
    assert "relaxation" in answer.err
    assert run("recon", scan, "-o", "s.nii.gz", "--method", "sirt", "--set", "iterations=many").code == 2
    assert run("recon", scan, "-o", "s.nii.gz", "--method", "sirt", "--steps", 3, "--set", "iterations=3").code == 2
    assert not Path("s.nii.gz").exists()


def test_config_file(run: Run, scan: Path) -> None:
    Path("run.yaml").write_text("method: sirt\nseed: 9\nsettings:\n  iterations: 4\n")
    assert run("recon", scan, "-o", "r.nii.gz", "--config", "run.yaml").code == 0
    record = json.loads(Path("r.json").read_text())
    assert record["settings"]["iterations"] == 4
    assert record["seed"] == 9
    Path("run.yaml").write_text("method: sirt\nsede: 9\n")
    answer = run("recon", scan, "-o", "s.nii.gz", "--config", "run.yaml")
    assert answer.code == 2
    assert "seed" in answer.err


def test_diffusion_without_a_prior_says_what_to_do(run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import medrecon.scans

    monkeypatch.setattr(medrecon.scans, "bundled_priors", list)
    answer = run("recon", scan, "-o", "r.nii.gz", "--method", "dds", "--steps", 2)
    assert answer.code == 2
    assert "--prior" in answer.err


# --- recon: bad input -------------------------------------------------------------------------------------------
def test_outputs_are_never_overwritten_unasked(run: Run, scan: Path) -> None:
    Path("r.nii.gz").write_bytes(b"precious")
    answer = run("recon", scan, "-o", "r.nii.gz", *FAST)
    assert answer.code == 2
    assert Path("r.nii.gz").read_bytes() == b"precious"
    assert run("recon", scan, "-o", "r.nii.gz", *FAST, "--overwrite").code == 0
    assert read_volume("r.nii.gz").geometry.shape == SHAPE


@pytest.mark.parametrize("output", ["r.unknown", "no/such/folder/r.nii.gz"])
def test_impossible_outputs_are_refused_before_the_work(run: Run, scan: Path, output: str) -> None:
    answer = run("recon", scan, "-o", output, *FAST)
    assert answer.code == 2
    assert Path(output).name in answer.err


def test_truncated_input_leaves_old_output_alone(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "r.nii.gz", *FAST).code == 0
    before = Path("r.nii.gz").read_bytes()
    Path("cut.h5").write_bytes(scan.read_bytes()[:-500])
    answer = run("recon", "cut.h5", "-o", "r.nii.gz", *FAST, "--overwrite")
    assert answer.code == 3
    assert "cut.h5" in answer.err
    assert Path("r.nii.gz").read_bytes() == before


def test_a_volume_is_no_measurement(run: Run, truth: Path) -> None:
    answer = run("recon", truth, "-o", "r.nii.gz", *FAST)
    assert answer.code == 3
    assert "simulate" in answer.err


def test_a_prior_of_another_range_is_refused(run: Run, scan: Path, tiny_prior: Path, tmp_path: Path) -> None:
    card = json.loads(tiny_prior.with_suffix(".json").read_text())
    (tmp_path / "far.safetensors").write_bytes(tiny_prior.read_bytes())
    (tmp_path / "far.json").write_text(json.dumps(card | {"range": [5000.0, 6000.0]}))
    answer = run(
        "recon", scan, "-o", "r.nii.gz", "--method", "dds", "--steps", 2, "--prior", tmp_path / "far.safetensors"
    )
    assert answer.code == 3
    assert "range" in answer.err
    (tmp_path / "far.json").write_text(json.dumps(card | {"quantity": "a.u."}))
    assert (
        run(
            "recon", scan, "-o", "r.nii.gz", "--method", "dds", "--steps", 2, "--prior", tmp_path / "far.safetensors"
        ).code
        == 3
    )
    assert not Path("r.nii.gz").exists()


# --- recon: interruption ----------------------------------------------------------------------------------------
_INTERRUPTED = """
import os, signal, sys
from medrecon.cli import main, running
show = running.Progress.__call__
def interrupt(self, report):
    if report.stage == "sirt" and report.step == 30:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return show(self, report)
running.Progress.__call__ = interrupt
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_interrupted_run_resumes_to_the_same_volume(run: Run, scan: Path, tmp_path: Path, name: str, code: int) -> None:
    words = ("recon", str(scan), "-o", "r.nii.gz", "--method", "sirt", "--steps", "60")
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, name, *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == code, ended.stderr
    assert (tmp_path / ".r.nii.gz.checkpoint").exists(), ended.stderr
    assert not Path("r.nii.gz").exists()
    assert "--resume" in ended.stderr
    assert run(*words, "--resume", "-q").code == 0
    assert not (tmp_path / ".r.nii.gz.checkpoint").exists()
    assert run(*words[:3], "whole.nii.gz", *words[4:], "-q").code == 0
    assert np.array_equal(read_volume("r.nii.gz").array, read_volume("whole.nii.gz").array)


def test_a_checkpoint_of_another_run_is_refused(run: Run, scan: Path) -> None:
    Path(".r.nii.gz.checkpoint").write_bytes(b"not a checkpoint")
    answer = run("recon", scan, "-o", "r.nii.gz", *FAST, "--resume")
    assert answer.code == 3
    assert not Path("r.nii.gz").exists()
    assert run("recon", scan, "-o", "r.nii.gz", *FAST).code == 0
    assert not Path(".r.nii.gz.checkpoint").exists()


def test_nothing_to_resume_is_said(run: Run, scan: Path) -> None:
    answer = run("recon", scan, "-o", "r.nii.gz", *FAST, "--resume")
    assert answer.code == 0
    assert "beginning" in answer.err


def test_noise_free_data_are_reported_relative_to_the_data(run: Run, truth: Path) -> None:
    assert run("simulate", "ct", truth, "-o", "s.h5", "--views", 12).code == 0
    answer = run("recon", "s.h5", "-o", "r.nii.gz", *FAST)
    assert answer.code == 0
    assert "of the data" in answer.out


def test_volume_type_is_kept(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "r.h5", *FAST).code == 0
    made = read_volume("r.h5")
    assert isinstance(made, Volume)
    assert made.geometry.shape == SHAPE
