"""`recon --slab`: large volumes some slices at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import SPACING, Run
from medrecon.data import Volume, read_volume, write
from medrecon.data.volume import Geometry
from medrecon.errors import UsageError
from medrecon.slabs import MARGIN, slabs_of

SHAPE = (20, 24, 28)


@pytest.fixture
def scan(run: Run, tmp_path: Path) -> Path:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    array = np.where(x**2 + y**2 + 0.3 * z**2 < 0.6, 0.0, -1000.0) + 200.0 * (np.hypot(x - 0.2, y) < 0.2)
    write("truth.nii.gz", Volume(array.astype(np.float32), Geometry.from_spacing(SHAPE, SPACING), "HU"))
    assert run("simulate", "ct", "truth.nii.gz", "-o", "s.h5", "--views", 9, "--photons", "1e5").code == 0
    return tmp_path / "s.h5"


@pytest.mark.parametrize(("slices", "thickness"), [(20, 6), (20, 20), (20, 50), (7, 1), (1, 3)])
def test_slabs_cover_every_slice_once_with_their_margins(slices: int, thickness: int) -> None:
    slabs = slabs_of(slices, thickness)
    assert [n for slab in slabs for n in range(slab.first, slab.last)] == list(range(slices))
    for slab in slabs:
        assert slab.last - slab.first <= thickness
        assert slab.low == max(0, slab.first - MARGIN) and slab.high == min(slices, slab.last + MARGIN)
        assert np.arange(slab.low, slab.high)[slab.inner].tolist() == list(range(slab.first, slab.last))


def test_no_slab_without_slices() -> None:
    with pytest.raises(UsageError, match="at least one slice"):
        slabs_of(20, 0)


def test_where_nothing_couples_slices_slabs_change_nothing(run: Run, scan: Path) -> None:
    assert run("recon", scan, "-o", "whole.nii.gz", "--method", "fbp").code == 0
    assert run("recon", scan, "-o", "slabs.nii.gz", "--method", "fbp", "--slab", 6).code == 0
    whole, slabs = read_volume("whole.nii.gz"), read_volume("slabs.nii.gz")
    np.testing.assert_allclose(slabs.array, whole.array, atol=0.01)
    np.testing.assert_allclose(slabs.geometry.affine, whole.geometry.affine)


def test_total_variation_in_slabs_is_near_that_of_the_whole(run: Run, scan: Path) -> None:
    """Files, geometry, figures and verdict too; seams are no larger than other steps along z."""
    words = ("--method", "tv", "--set", "iterations=60")
    assert run("recon", scan, "-o", "whole.nii.gz", *words).code == 0
    answer = run("recon", scan, "-o", "slabs.nii.gz", *words, "--slab", 5, "--report", "slabs.html")
    assert answer.code == 0, answer.err
    whole, slabs = read_volume("whole.nii.gz").array, read_volume("slabs.nii.gz").array
    difference = np.sqrt(np.mean((whole - slabs) ** 2))
    assert 0 < difference < 0.15 * np.sqrt(np.mean((whole - read_volume("truth.nii.gz").array) ** 2))
    names = {path.name.removeprefix("whole").removeprefix("slabs") for path in Path().glob("*.nii.gz")}
    assert {"-baseline.nii.gz", "-null-share.nii.gz"} <= names
    assert read_volume("slabs-null-share.nii.gz").array.shape == SHAPE
    one, other = (json.loads(Path(f"{name}.json").read_text()) for name in ("whole", "slabs"))
    assert other["run"]["slabs"] == [[0, 5], [5, 10], [10, 15], [15, 20]]
    for figure in ("discrepancy", "baseline_discrepancy"):
        assert other["residual"][figure] == pytest.approx(one["residual"][figure], rel=0.1)
    assert other["residual"]["null_space"]["share"] == pytest.approx(one["residual"]["null_space"]["share"], abs=0.05)
    assert other["residual"]["residual"]["worst"] == pytest.approx(one["residual"]["residual"]["worst"], rel=0.15)
    assert other["residual"]["residual"]["data"] > one["residual"]["residual"]["data"]  # margins count twice
    assert other["residual"]["verdict"]["level"] == one["residual"]["verdict"]["level"]
    assert len(other["residual_per_view"]) == len(one["residual_per_view"]) == 9


def test_auto_chooses_once_for_all_slabs(run: Run, scan: Path, tiny_prior: Path) -> None:
    answer = run("recon", scan, "-o", "r.nii.gz", "--prior", tiny_prior, "--slab", 10, "--set", "steps=2", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["selection"]["method"] == answer.json()["method"]
    history = json.loads(Path("r.json").read_text())["history"]
    tested = {line["slab"] for line in history}
    assert tested == {0, 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--slab", 5, "--preview-slice", 2), "--preview-slice excludes --slab"),
        (("--slab", 5, "--voxel", 3), "grid of the scan"),
        (("--slab", 5, "--resume"), "cannot be resumed"),
        (("--slab", 0), "--slab"),
    ],
)
def test_what_does_not_go_with_slabs_is_said(run: Run, scan: Path, words: tuple, said: str) -> None:
    answer = run("recon", scan, "-o", "r.nii.gz", *words)
    assert answer.code == 2 and said in answer.err
    assert not Path("r.nii.gz").exists()


def test_cone_beams_have_no_slabs(run: Run, scan: Path) -> None:
    assert run("simulate", "ct", "truth.nii.gz", "-o", "c.h5", "--geometry", "cone", "--views", 5).code == 0
    answer = run("recon", "c.h5", "-o", "r.nii.gz", "--slab", 5)
    assert answer.code == 3 and "cross all slices" in answer.err


def test_the_plan_counts_slabs(run: Run, scan: Path) -> None:
    answer = run("recon", scan, "-o", "r.nii.gz", "--method", "tv", "--slab", 6, "--dry-run", "--json")
    assert answer.json()["slabs"] == 4 and answer.json()["shape"] == list(SHAPE)
    assert "of up to 13 slices" in run("recon", scan, "-o", "r.nii.gz", "--method", "tv", "--slab", 6, "--dry-run").out
