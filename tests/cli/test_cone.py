"""Cone beams through the command line: simulate, info, recon on any grid, and what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.command_line import SHAPE, Run
from medrecon.data import Geometry, Scan, Volume, read_scan, read_volume, write
from medrecon.physics.cone_geometry import ConeGeometry

FAST = ("--method", "sirt", "--steps", 8)


@pytest.fixture
def cone(run: Run, truth: Path) -> Path:
    assert run("simulate", "ct", truth, "-o", "c.h5", "--geometry", "cone", "--views", 12, "--photons", "1e5").code == 0
    return Path("c.h5")


def test_a_cone_scan_is_described(run: Run, cone: Path):
    answer = run("info", cone)
    assert answer.code == 0, answer.err
    assert "cone-flat beam, 12 views" in answer.out
    assert "magnification" in answer.out
    scan = read_scan(cone)
    assert scan.is_cone and scan.meta["verified"]
    assert scan.data.shape == ConeGeometry.from_dict(scan.geometry).data_shape
    with h5py.File(cone) as file:
        assert file["vectors"].shape == (12, 12)
        assert file["data"].attrs["axes"] == b"view,row,column"


@pytest.mark.parametrize("method", ["fdk", "tv"])
def test_classical_methods_return_the_grid(run: Run, cone: Path, truth: Path, method: str):
    answer = run("recon", cone, "-o", "r.nii.gz", "--method", method, "--json")
    assert answer.code == 0, answer.err
    made, source = read_volume("r.nii.gz"), read_volume(truth)
    assert made.geometry.almost_equal(source.geometry, 1e-4)
    assert run("compare", "r.nii.gz", truth, "--json").json()["psnr"] > 15
    assert answer.json()["baseline_method"] == (None if method == "fdk" else "fdk")


def test_fbp_of_a_cone_is_fdk(run: Run, cone: Path):
    assert run("recon", cone, "-o", "r.nii.gz", "--method", "fbp", "--json").json()["method"] == "fdk"


@pytest.mark.parametrize("method", ["dds", pytest.param("auto", marks=pytest.mark.slow)])
def test_diffusion_methods_take_cone_beams(run: Run, cone: Path, tiny_prior: Path, method: str):
    words = ("--method", method, "--prior", tiny_prior, "--steps", 2, "--report", "r.html", "--json")
    answer = run("recon", cone, "-o", "r.nii.gz", *words)
    assert answer.code == 0, answer.err
    assert answer.json()["discrepancy"] > 0
    assert "cone-beam views" in Path("r.html").read_text()


def test_other_grids(run: Run, cone: Path, truth: Path):
    """Coarser voxels, more slices, another volume's grid off the axis: the object stays where it is."""
    assert run("recon", cone, "-o", "coarse.nii.gz", *FAST, "--voxel", 4).code == 0
    coarse, source = read_volume("coarse.nii.gz"), read_volume(truth)
    assert coarse.geometry.spacing == pytest.approx((4.0, 4.0, 4.0))
    centre = [g.affine @ [*((np.array(g.shape)[::-1] - 1) / 2), 1] for g in (coarse.geometry, source.geometry)]
    assert np.allclose(*centre)
    affine = source.geometry.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [4, 2, 1]
    part = Geometry((4, 18, 16), affine)
    write("part.nii.gz", Volume(source.array[1:5, 2:20, 4:20].copy(), part, "HU"))
    assert run("recon", cone, "-o", "p.nii.gz", "--method", "fdk", "--like", "part.nii.gz").code == 0
    made = read_volume("p.nii.gz")
    assert made.geometry.almost_equal(part, 1e-4)
    assert float(np.corrcoef(made.array.ravel(), source.array[1:5, 2:20, 4:20].ravel())[0, 1]) > 0.7


def test_previews_and_turned_grids_are_refused(run: Run, cone: Path):
    answer = run("recon", cone, "-o", "r.nii.gz", *FAST, "--preview-slice", 2)
    assert answer.code == 3 and "cannot be reconstructed by itself" in answer.err
    turned = Geometry(SHAPE, np.diag([2.0, 2.0, 3.0, 1.0]) @ _tilt(0.2))
    write("turned.nii.gz", Volume(np.zeros(SHAPE, np.float32), turned, "HU"))
    answer = run("recon", cone, "-o", "r.nii.gz", *FAST, "--like", "turned.nii.gz")
    assert answer.code == 3 and "turned against the scanner" in answer.err
    assert not Path("r.nii.gz").exists()


def _tilt(angle: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def test_a_circular_scan_by_hand(run: Run):
    """As docs/scan-h5.md says: angles and distances are enough, vectors need not be there."""
    grid = Geometry.from_spacing((6, 10, 10), (2.0, 2.0, 2.0))
    geometry = ConeGeometry.circular(
        grid.shape, grid.spacing, 5, source_origin=100.0, source_detector=150.0, rows=9, columns=14, row_spacing=3.0,
        column_spacing=3.0, detector_offset=1.0,
    )  # fmt: skip
    data = np.random.default_rng(0).uniform(0, 1, geometry.data_shape).astype(np.float32)
    with h5py.File("hand.h5", "w") as file:
        file["data"], file["angles"] = data, 72.0 * np.arange(5)
        file["angles"].attrs["units"] = "deg"
        file.create_group("geometry").attrs.update(
            kind="cone-flat", rows=9, columns=14, row_spacing=3.0, column_spacing=3.0, source_origin=100.0,
            source_detector=150.0, detector_offset=1.0, shape=grid.shape, spacing=grid.spacing,
        )  # fmt: skip
        file.create_group("volume").attrs.update(shape=grid.shape, affine=grid.affine)
    scan = read_scan("hand.h5")
    assert np.allclose(ConeGeometry.from_dict(scan.geometry).vectors, geometry.vectors)
    write("again.h5", scan)
    assert np.allclose(ConeGeometry.from_dict(read_scan("again.h5").geometry).vectors, geometry.vectors)
    assert run("recon", "hand.h5", "-o", "r.nii.gz", *FAST).code == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.__delitem__("vectors"), "not complete"),
        (lambda f: f["vectors"].__setitem__((0, 0), np.nan), "must be finite"),
        (lambda f: f["geometry"].attrs.__setitem__("rows", 3), "do not fit the geometry"),
        (
            lambda f: f["vectors"].__setitem__(..., f["vectors"][:] + 1e4 * np.isin(np.arange(12), (2, 5))),
            "misses the volume",
        ),
    ],
)
def test_broken_cone_scans_are_refused(run: Run, cone: Path, change, text: str):
    with h5py.File(cone, "r+") as file:
        del file.attrs["sha256"]
        change(file)
    Path("c.json").unlink()
    answer = run("recon", cone, "-o", "r.nii.gz", *FAST)
    assert answer.code == 3 and text in answer.err, answer.err
    assert not Path("r.nii.gz").exists()


def test_a_changed_vector_is_found(run: Run, cone: Path):
    with h5py.File(cone, "r+") as file:
        file["vectors"][3, 4] += 1.0
    Path("c.json").unlink()
    answer = run("info", cone)
    assert answer.code == 3 and "SHA-256" in answer.err


def test_scan_of_a_helix_has_no_direct_baseline(run: Run, tmp_path: Path):
    grid = Geometry.from_spacing((8, 12, 12), (2.0, 2.0, 2.0))
    geometry = ConeGeometry.helical(grid.shape, grid.spacing, 16, 10.0, source_origin=100.0, source_detector=160.0)
    data = np.zeros(geometry.data_shape, np.float32) + 0.1
    write("h.h5", Scan(data, geometry.to_dict(), grid))
    answer = run("recon", "h.h5", "-o", "r.nii.gz", *FAST, "--json")
    assert answer.code == 0 and answer.json()["baseline_method"] is None
    answer = run("recon", "h.h5", "-o", "x.nii.gz", "--method", "fdk")
    assert answer.code == 3 and "no circular scan" in answer.err
