"""`simulate seismic-model` and `simulate seismic`: a survey, the same with holes, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from medrecon.data import read
from medrecon.data.segy import open_segy


@pytest.fixture
def survey(run: Run, tmp_path: Path) -> Path:
    assert run("simulate", "seismic-model", "-o", "full.sgy", "--shape", "8,12,40", "--first", "50,-3").code == 0
    return tmp_path / "full.sgy"


def test_the_model_is_a_survey_with_its_numbers(run: Run, survey: Path):
    answer = run("info", survey, "--json").json()
    assert (answer["rows"], answer["columns"]) == ("inline 50 to 57", "crossline -3 to 8")
    assert json.loads(survey.with_suffix(".json").read_text())["settings"]["kind"] == "volume"
    line = run("simulate", "seismic-model", "-o", "g.sgy", "--kind", "gathers", "--shape", "3,20,64", "--interval", 2)
    assert "cdp 1 to 3, offset" in line.out and "by 2 ms" in line.out
    steep = ("simulate", "seismic-model", "-o", "s.sgy", "--shape", "8,12,40", "--steepness", 0.9, "--json")
    assert run(*steep).json()["steepness"] == 0.9
    assert run("simulate", "seismic-model", "-o", "x.sgy", "--kind", "shot", "--steepness", 0.9).code == 2
    assert run("simulate", "seismic-model", "-o", "x.sgy", "--kind", "globe").code == 2
    assert run("simulate", "seismic-model", "-o", "x.nii.gz").code == 2


@pytest.mark.parametrize("kind", ["random", "regular", "gap", "lines", "hole"])
def test_traces_go_missing_and_the_rest_is_untouched(run: Run, survey: Path, tmp_path: Path, kind: str):
    answer = run("simulate", "seismic", survey, "-o", "holes.sgy", "--missing", kind, "--fraction", 0.4, "--json")
    assert answer.code == 0, answer.err
    whole, holes = read(survey), read(tmp_path / "holes.sgy")
    assert holes.data.shape == whole.data.shape
    assert (~holes.live).sum() == answer.json()["removed"] > 0
    old, new = open_segy(survey), open_segy(tmp_path / "holes.sgy")
    mine, theirs = (np.ndarray((len(f), 400), np.uint8, buffer=f.traces) for f in (new, old))
    np.testing.assert_array_equal(mine, theirs[whole.grid.index[holes.live]])


def test_rows_silence_and_the_holes_of_another_file(run: Run, survey: Path, tmp_path: Path):
    holes = ("simulate", "seismic", survey, "--missing", "lines", "--rows", "--fraction", "0.5")
    assert run(*holes, "-o", "a.sgy").code == 0
    live = read(tmp_path / "a.sgy").live
    assert (live == live[:, :1]).all() and live[:, 0].sum() == 4
    assert "silenced" in run(*holes, "-o", "b.sgy", "--silent").out
    quiet = read(tmp_path / "b.sgy")
    np.testing.assert_array_equal(quiet.live, live)
    assert quiet.counts() == {"zero": 48}
    np.testing.assert_array_equal(open_segy(tmp_path / "b.sgy").headers, open_segy(survey).headers)
    assert run("simulate", "seismic", survey, "-o", "c.sgy", "--like", "b.sgy").code == 0
    assert (tmp_path / "c.sgy").read_bytes()[3600:] == (tmp_path / "a.sgy").read_bytes()[3600:]


def test_a_filled_survey_is_compared_with_the_whole(run: Run, survey: Path):
    assert run("simulate", "seismic", survey, "-o", "holes.sgy", "--missing", "random", "--fraction", "0.3").code == 0
    assert run("recon", "holes.sgy", "-o", "filled.sgy", "--method", "linear").code == 0
    assert 0 < run("compare", "filled.sgy", survey, "--json").json()["nmse"] < 0.7


def test_what_cannot_be_is_said(run: Run, survey: Path):
    base = ("simulate", "seismic", survey, "-o", "x.sgy")
    assert run(*base).code == 2
    assert run(*base, "--missing", "random", "--like", survey).code == 2
    assert run(*base, "--missing", "some").code == 2
    assert run(*base, "--missing", "random", "--fraction", "1.5").code == 2
    assert run("simulate", "seismic-model", "-o", "small.sgy", "--shape", "2,9,20").code == 0
    assert run(*base, "--like", "small.sgy").code == 3
    assert run("simulate", "seismic", survey, "-o", survey, "--missing", "random", "--overwrite").code == 2
