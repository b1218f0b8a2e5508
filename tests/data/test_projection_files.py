"""Readers of projections: files of every published layout give back the phantom in them; bad ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import realdata
from helpers import projection_files as made
from medrecon.corrections import corrected
from medrecon.data import Scan, read, sniff
from medrecon.engine import reconstruct
from medrecon.errors import InputError
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry, geometry_from_dict
from medrecon.physics.ct import CTOperator
from medrecon.physics.rebinning import rebin_helical
from medrecon.scans import grid_of, problem_from_scan

FORMATS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "data-exchange": ("data-exchange", made.data_exchange),
    "nxtomo": ("nxtomo", made.nxtomo),
    "htc 5": ("htc2022", lambda folder: made.htc(folder, "5")),
    "htc 7.3": ("htc2022", lambda folder: made.htc(folder, "7.3")),
    "tiff stack": ("tiff-stack", made.tiff_stack),
    "walnut": ("cone-vectors", made.walnut),
    "nikon": ("nikon", made.nikon),
    "skyscan": ("skyscan", made.skyscan),
    "rtk": ("rtk", made.rtk),
    "dicom-ct-pd": ("dicom-ct-pd", made.dicom_ct_pd),
}


def on_grid(scan: Scan, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> torch.Tensor:
    """The direct reconstruction on a small grid, 1/mm."""
    geometry = geometry_from_dict(scan.geometry)
    data = torch.from_numpy(scan.data)
    if isinstance(geometry, ConeGeometry):
        small = geometry.with_grid(shape, spacing)
        if ConeOperator(small).direct_method is None:
            fan, rebinned = rebin_helical(small, data)
            return CTOperator(fan).direct_inverse(rebinned, filter="ramp")
        return ConeOperator(small).direct_inverse(data, filter="ramp")
    from dataclasses import replace

    small_plane = replace(geometry, shape=(scan.data.shape[1], *shape[1:]), spacing=(geometry.spacing[0], *spacing[1:]))
    return CTOperator(small_plane).direct_inverse(data, filter="ramp")


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_phantom_comes_back(tmp_path: Path, name: str):
    """In place, unmirrored and in 1/mm."""
    kind, write = FORMATS[name]
    path = write(tmp_path)
    assert sniff(path) == kind
    scan = read(path)
    assert isinstance(scan, Scan) and scan.modality == "ct"
    assert "Canary" not in str(scan.geometry | scan.provenance | scan.meta)
    slices = 20 if scan.is_cone else scan.data.shape[1]
    image = on_grid(scan, (20, 32, 32), (1.0, 1.0, 1.0)).numpy()
    truth = made.BODY.rasterise((slices, 32, 32), (1.0, 1.0, 1.0), (2, 3, 3)).numpy()
    middle = slice(slices // 4, slices - slices // 4) if slices > 2 else slice(None)
    a, b = image[middle], truth[middle]
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95
    mirrored = [b[:, ::-1], b[:, :, ::-1], b[:, ::-1, ::-1]]
    assert all(np.corrcoef(a.ravel(), other.ravel())[0, 1] < 0.93 for other in mirrored)
    assert a[b > 0.0399].mean() == pytest.approx(0.04, rel=0.1)


def test_what_the_files_say(tmp_path: Path):
    scan = read(made.data_exchange(tmp_path))
    assert scan.noise["photons"] == pytest.approx(made.WHITE, rel=0.25)
    assert scan.volume_geometry.spacing == pytest.approx((1.0, 1.0, 1.0))
    folder = tmp_path / "pd"
    folder.mkdir()
    pd = read(made.dicom_ct_pd(folder))
    assert pd.water == pytest.approx(0.0193)
    assert np.allclose(ConeGeometry.from_dict(pd.geometry).vectors, made.HELIX.vectors, atol=1e-3)


def change(path: Path, edit: Callable) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        edit(file)


def replaced(name: str, value: object) -> Callable:
    def edit(file) -> None:
        about = dict(file[name].attrs)
        del file[name]
        file[name] = value
        file[name].attrs.update(about)

    return edit


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda f: f.__delitem__("exchange/theta"), "no angles"),
        (lambda f: f.__delitem__("exchange/data_white"), "no flat fields"),
        (replaced("exchange/data_white", np.zeros((3, 4, 40), np.uint16)), "flat fields are empty"),
        (replaced("exchange/theta", np.arange(39.0)), "39 and 40"),
        (replaced("exchange/theta", np.linspace(0, np.pi, 40)), "look like radians"),
        (replaced("exchange/theta", np.zeros(40)), "the same angle"),
        (lambda f: f["exchange/theta"].attrs.__setitem__("units", "grad"), "unknown unit"),
        (replaced("exchange/data_white", np.ones((3, 4, 41), np.uint16)), "another detector"),
        (replaced("exchange/data", np.ones((40, 160), np.uint16)), "three dimensions"),
    ],
)
def test_bad_counts_are_refused(tmp_path: Path, edit: Callable, text: str):
    path = made.data_exchange(tmp_path)
    change(path, edit)
    with pytest.raises(InputError, match=text) as caught:
        read(path)
    assert caught.value.exit_code == 3 and "scan.hdf" in str(caught.value)


def test_broken_pixels_and_dead_rays_are_mended(tmp_path: Path):
    path = made.data_exchange(tmp_path)
    whole = read(path)

    def spoil(file) -> None:
        file["exchange/data_white"][:, 1, 20] = int(made.DARK)
        file["exchange/data"][7, 2, 5] = 0

    change(path, spoil)
    scan = read(path)
    assert any("1 broken detector pixel" in note for note in scan.meta["notes"])
    assert any("1 values at or below" in note for note in scan.meta["notes"])
    assert np.abs(scan.data[:, 1, 20] - whole.data[:, 1, 20]).max() < 0.1
    assert np.isfinite(scan.data).all() and scan.data[7, 2, 5] > 5


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("walnut", "dicom-ct-pd")])
def test_files_cut_short_are_refused(tmp_path: Path, name: str):
    path = FORMATS[name][1](tmp_path)
    victim = {"tiff stack": "proj_0007.tif", "nikon": "Sample_0007.tif", "skyscan": "bone_00000007.tif",
              "rtk": "projections.mha"}.get(name, path.name)  # fmt: skip
    file = tmp_path / victim
    for part in (0.3, 0.9):
        raw = file.read_bytes()
        file.write_bytes(raw[: int(part * len(raw))])
        with pytest.raises(InputError) as caught:
            read(path)
        assert victim in str(caught.value) or path.name in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "spoil", "text"),
    [
        (made.tiff_stack, lambda d: (d / "proj_0003.tif").unlink(), None),
        (made.tiff_stack, lambda d: _edit(d / "scan.yaml", "source_origin: 120", "source_origin: near"), "number"),
        (made.tiff_stack, lambda d: _edit(d / "scan.yaml", "proj_*", "../proj_*"), "beside their description"),
        (made.tiff_stack, lambda d: _edit(d / "scan.yaml", "kind: cone-flat", "kind: odd"), "unknown kind"),
        (made.tiff_stack, lambda d: _edit(d / "scan.yaml", "angles:", "angels:"), "not complete"),
        (made.tiff_stack, lambda d: _edit(d / "scan.yaml", "{start: 0, step: 6}", "[0, 6, 12]"), "3 and 60"),
        (made.walnut, lambda d: (d / "io000000.tif").unlink() or (d / "io000001.tif").unlink(), "no flat fields"),
        (made.walnut, lambda d: np.savetxt(d / "scan_geom_corrected.geom", made.CONE.vectors[:50]), "more pictures"),
        (made.nikon, lambda d: (d / "Sample_0004.tif").unlink(), "number of pictures"),
        (made.nikon, lambda d: _edit(d / "Sample.xtekct", "SrcToObject=120", "SrcToObject="), "not a number"),
        (made.nikon, lambda d: _edit(d / "Sample.xtekct", "DetectorPixelsX=40", "DetectorPixelsX=41"), "another detec"),
        (made.skyscan, lambda d: _edit(d / "bone_.log", "Correction=ON", "Correction=OFF"), "without flat-field"),
        (made.skyscan, lambda d: [(d / f"bone_{k:08d}.tif").unlink() for k in range(5)], "number of pictures"),
        (made.rtk, lambda d: (d / "projections.mha").rename(d / "x.raw"), "not clear"),
        (made.dicom_ct_pd, lambda d: (d / "00014.dcm").unlink(), "missing"),
    ],
)  # fmt: skip
def test_bad_folders_are_refused(tmp_path: Path, write: Callable, spoil: Callable, text: str | None):
    path = write(tmp_path)
    spoil(tmp_path)
    if text is None:  # angles follow the pictures where they are given by a step
        assert read(path).data.shape[0] == 59
        return
    with pytest.raises(InputError, match=text):
        read(path)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_measured_tooth():
    """The axis that the tomopy project states for this tooth: column 296 of 640."""
    scan = corrected(read(realdata.need("ct-raw", "tooth.h5")), ["centre", "crop=0:1,0:640"])
    shift = scan.geometry["rotation_shift"]
    assert 319.5 + shift == pytest.approx(296, abs=1.5)


@pytest.mark.parametrize("name", ["htc2022_ta_subsample73.mat", "htc2022_tb_subsample_60.mat"])
def test_measured_challenge_discs(name: str):
    """Both versions of the file: acrylic of about 0.03/mm in a disc 70 mm wide, views by columns."""
    scan = read(realdata.need("ct-raw", name))
    assert isinstance(scan, Scan) and scan.data.shape[1:] == (1, 560)
    assert 1.5 < scan.data.max() < 2.5


@pytest.mark.parametrize("way", ["as read", "the other way"])
def test_two_measured_arcs_show_one_disc(way: str):
    """What 90 degrees show of a disc predicts 60 degrees from the other side, if it turns as the file says."""
    steps = ["bin=1,4"] + ["reverse"] * (way != "as read")
    first, second = (
        corrected(read(realdata.need("ct-raw", f"htc2022_tb_subsample_{arc}.mat")), steps) for arc in (90, 60)
    )
    problem, other = (problem_from_scan(scan, grid=grid_of(scan, None, (1.6,))) for scan in (first, second))
    volume = reconstruct(problem, "sirt", judgement="none").volume.to_quantity("1/mm", problem.water)
    missed = other.op(torch.from_numpy(volume.array)) - other.y
    error = float(missed.norm() / other.y.norm())
    assert error < 0.04 if way == "as read" else error > 0.07
