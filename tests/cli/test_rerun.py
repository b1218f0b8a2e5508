"""`medrecon rerun`: the same bytes again, and plain words where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.command_line import Run

FAST = ("--method", "sirt", "--steps", "5")


@pytest.mark.parametrize("output", ["r.nii.gz", "r.h5", "r"])
def test_the_same_bytes(run: Run, scan: Path, output: str) -> None:
    assert run("recon", scan, "-o", output, *FAST).code == 0
    answer = run("rerun", "r.json", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["identical"] and answer.json()["versions_that_differ"] == {}
    assert Path(output.replace("r", "r-rerun", 1)).exists()


def test_a_stochastic_method_with_a_prior(run: Run, scan: Path, tiny_prior: Path) -> None:
    """Samples, seed, steps, settings and the prior's file all come back from the record."""
    words = ("--method", "dds", "--steps", "2", "--samples", "2", "--seed", "5", "--set", "cg_iterations=2")
    assert run("recon", scan, "-o", "r.nii", "--prior", tiny_prior, *words).code == 0
    answer = run("rerun", "r.json", "--prior", tiny_prior)
    assert answer.code == 0 and "identical, bit for bit" in answer.out
    assert Path("r-spread.nii").read_bytes() == Path("r-rerun-spread.nii").read_bytes()
    answer = run("rerun", "r.json", "-o", "other.nii")
    assert answer.code == 3 and "prior" in answer.err


def test_what_differs_is_said(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "r.nii", *FAST).code == 0
    record = json.loads(Path("r.json").read_text())
    record["request"]["steps"] = 6
    record["versions"]["torch"] = "1.0"
    Path("r.json").write_text(json.dumps(record))
    answer = run("rerun", "r.json")
    assert answer.code == 1
    assert "the values differ by up to" in answer.out and "torch: 1.0 then" in answer.out
    answer = run("rerun", "r.json", "--json", "--overwrite")
    assert answer.code == 1 and not answer.json()["identical"]


def test_other_data_are_refused(run: Run, scan: Path, truth: Path) -> None:
    assert run("recon", scan, "-o", "r.nii", *FAST).code == 0
    assert run("simulate", "ct", truth, "-o", "other.h5", "--views", 12, "--photons", "1e5", "--seed", 1).code == 0
    answer = run("rerun", "r.json", "--input", "other.h5")
    assert answer.code == 3 and "other.h5: these are not the data of the record" in answer.err
    scan.unlink()
    answer = run("rerun", "r.json")
    assert answer.code == 3 and "--input" in answer.err


@pytest.mark.parametrize("content", ["", "{", "{}", '{"medrecon_record": 1, "output": {}}', "[1]"])
def test_what_is_no_record(run: Run, content: str) -> None:
    Path("a.json").write_text(content)
    assert run("rerun", "a.json").code == 3
    assert run("rerun", "absent.json").code == 3
