"""Corrections of CT scans: each undoes what was done to exact data, and moves the geometry along with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.projection_files import BODY, CONE, HELIX, STACK
from medrecon.corrections import corrected, corrections
from medrecon.data import Geometry, Scan, read_volume, write
from medrecon.errors import InputError, UsageError
from medrecon.physics.cone_geometry import ConeGeometry, geometry_from_dict
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.rings import remove_rings

FAN = CTGeometry.fan((3, 32, 32), (1.0, 1.0, 1.0), 60, source_origin=120.0, source_detector=180.0, columns=44)


def scan(geometry) -> Scan:
    grid = Geometry.from_spacing(geometry.shape, geometry.spacing)
    noise = {"kind": "poisson", "photons": 1e4, "electronic": 2.0}
    return Scan(BODY.project(geometry).numpy(), geometry.to_dict(), grid, noise=noise)


def exact(made: Scan) -> np.ndarray:
    """What the geometry of a scan measures of the phantom."""
    return BODY.project(geometry_from_dict(made.geometry)).numpy()


def close(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("geometry", [STACK, FAN, CONE], ids=["parallel", "fan", "cone"])
def test_the_axis_is_found(geometry):
    """Data of a shifted axis, described without the shift."""
    if isinstance(geometry, ConeGeometry):
        shifted = ConeGeometry.circular(
            (20, 32, 32), (1.0,) * 3, 60, source_origin=120.0, source_detector=180.0, rows=26, columns=40,
            row_spacing=1.5, column_spacing=1.5, rotation_shift=1.3,
        )  # fmt: skip
    else:
        shifted = replace(geometry, rotation_shift=1.3)
    wrong = replace(scan(geometry), data=BODY.project(shifted).numpy())
    found = corrected(wrong, ["centre=auto"])
    assert close(exact(found), wrong.data) < 0.02
    told = corrected(wrong, ["centre=1.3"])
    assert close(exact(told), wrong.data) < 1e-5
    assert any("axis of rotation at 1.3 mm" in note for note in told.meta["notes"])


def test_an_axis_cannot_be_found_from_a_small_arc():
    with pytest.raises(InputError, match="so small an arc"):
        corrected(scan(CTGeometry.parallel((1, 32, 32), (1.0,) * 3, 20, arc=1.5)), ["centre"])


@pytest.mark.parametrize("geometry", [STACK, FAN, CONE], ids=["parallel", "fan", "cone"])
@pytest.mark.parametrize("step", ["crop=5:30", "crop=1:3,4:37", "reverse", "pixel=0.5"])
def test_geometry_follows_the_data(geometry, step: str):
    made = corrected(scan(geometry), [step])
    if step == "reverse":
        assert geometry_from_dict(corrected(made, [step]).geometry) == geometry_from_dict(scan(geometry).geometry)
    elif step == "pixel=0.5":
        factor = 0.5 / (geometry.column_pitch[0] if isinstance(geometry, ConeGeometry) else geometry.column_spacing)
        smaller = BODY.scaled(factor).project(geometry_from_dict(made.geometry)).numpy()
        assert close(smaller, factor * made.data) < 1e-5
        assert made.volume_geometry.spacing == pytest.approx(tuple(factor * s for s in geometry.spacing))
    elif isinstance(geometry, CTGeometry) and "," in step:  # its rows are slices: the middle two of four, or of three
        inner = slice(1, 3)
        assert close(made.data, scan(geometry).data[:, inner, 4:37]) < 1e-6
        assert made.volume_geometry.affine[2, 3] == scan(geometry).volume_geometry.affine[2, 3] + 1.0
    else:
        assert np.abs(exact(made) - made.data).max() < 1e-5


@pytest.mark.parametrize("geometry", [STACK, FAN, CONE], ids=["parallel", "fan", "cone"])
def test_binning(geometry):
    made = corrected(scan(geometry), ["bin=2,3"])
    assert made.data.shape == (
        scan(geometry).data.shape[0],
        scan(geometry).data.shape[1] // 2,
        scan(geometry).data.shape[2] // 3,
    )
    assert made.noise["photons"] == pytest.approx(6e4)
    assert geometry_from_dict(made.geometry).shape == made.volume_geometry.shape
    assert made.volume_geometry.spacing == pytest.approx((2.0, 3.0, 3.0))
    if geometry is CONE:
        assert close(exact(made), made.data) < 0.08


def test_views():
    made = corrected(scan(CONE), [], "2::8")
    assert len(made.data) == 8 and close(exact(made), made.data) < 1e-6
    assert len(corrected(scan(STACK), [], "0:10").data) == 10
    for text in ("5", "a:b", "100:200", "3:3"):
        with pytest.raises(UsageError, match="views are a range"):
            corrected(scan(STACK), [], text)


def test_rings_go_and_the_object_stays():
    whole = scan(replace(STACK, columns=160, column_spacing=0.25)).data
    gains = np.zeros(160, np.float32)
    gains[[36, 84, 121]] = (0.05, -0.08, 0.04)
    mended = remove_rings(whole + gains, 7)
    assert np.abs((mended - whole).mean(axis=0)[:, [36, 84, 121]]).max() < 0.015
    assert close(mended, whole) < 0.01 < close(whole + gains, whole)
    with pytest.raises(InputError, match="out of range"):
        remove_rings(whole, 160)


def test_hardening_air_and_water():
    whole = scan(STACK)
    bent = replace(whole, data=whole.data - 0.1 * whole.data**2)
    # p = q + 0.1 q^2 + 0.02 q^3 + ... undoes q = p - 0.1 p^2 to third order.
    assert close(corrected(bent, ["harden=1,0.1,0.02,0.005"]).data, whole.data) < 2e-3
    drift = np.linspace(0.1, 0.3, 40, dtype=np.float32)[:, None, None]
    assert close(corrected(replace(whole, data=whole.data + drift), ["air=4"]).data, whole.data) < 1e-5
    assert corrected(whole, ["water=0.021"]).water == pytest.approx(0.021)
    assert corrected(whole, ["water=0.021,0.001"]).water == pytest.approx(0.02)
    assert corrected(whole, ["photons=5000,3"]).noise == {"kind": "poisson", "photons": 5000.0, "electronic": 3.0}


def test_rebinning_gives_a_fan():
    made = corrected(scan(HELIX), ["rebin"])
    assert geometry_from_dict(made.geometry).kind == "fan-curved" and made.data.shape == (60, 20, 48)
    with pytest.raises(InputError, match=r"helix|helical"):
        corrected(scan(STACK), ["rebin"])


@pytest.mark.parametrize(
    "step",
    ["centr=1", "bin=0", "bin=a", "crop=3", "crop=0:9:2", "water=5", "harden=", "air=900", "pixel=-1", "rings=x"],
)
def test_senseless_corrections_are_refused(step: str):
    with pytest.raises((UsageError, InputError)) as caught:
        corrected(scan(STACK), [step])
    assert caught.value.exit_code in (2, 3)


def test_every_correction_says_what_it_does():
    for entry in corrections:
        assert entry.summary.endswith(".")


def test_corrections_on_the_command_line(run: Run):
    write("s.h5", scan(STACK))
    words = ("--method", "fbp", "--correct", "bin=2", "--correct", "air", "--views", "0::2", "--json")
    answer = run("recon", "s.h5", "-o", "r.nii.gz", *words)
    assert answer.code == 0, answer.err
    assert read_volume("r.nii.gz").geometry.shape == (2, 16, 16)
    assert '"corrections"' in Path("r.json").read_text()
    assert "rebin" in run("corrections").out
    answer = run("recon", "s.h5", "-o", "x.nii.gz", "--correct", "bim=2")
    assert answer.code == 2 and "Did you mean bin" in answer.err
