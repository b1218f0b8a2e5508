"""Scans that do not fit their geometry: said from the residual, with the likely mistake; right ones raise no doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.projection_files import BODY, CONE
from medrecon.data import Geometry, Scan, write
from medrecon.mismatch import unexplained, warnings_of
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry

FAN = CTGeometry.fan((3, 32, 32), (1.0, 1.0, 1.0), 45, source_origin=60.0, source_detector=90.0)
SQUARE = ConeGeometry.circular(
    (20, 32, 32), (1.0,) * 3, 30, source_origin=60.0, source_detector=90.0, rows=40, columns=40, row_spacing=1.5,
    column_spacing=1.5,
)  # fmt: skip


def scan(geometry) -> Scan:
    grid = Geometry.from_spacing(geometry.shape, geometry.spacing)
    return Scan(BODY.project(geometry).numpy(), geometry.to_dict(), grid)


@pytest.mark.parametrize("geometry", [FAN, CONE, SQUARE], ids=["fan", "cone", "square"])
def test_right_scans_raise_no_doubt(geometry):
    assert unexplained(scan(geometry)) < 0.04
    assert warnings_of(scan(geometry), 0.5, noise_known=False) == []
    assert warnings_of(scan(geometry), 0.05, noise_known=False) == []


def test_a_rotation_the_other_way_is_named():
    wrong = replace(FAN, angles=tuple(-a for a in FAN.angles))
    made = replace(scan(FAN), geometry=wrong.to_dict())
    (said,) = warnings_of(made, 0.5, noise_known=False)
    assert "the other way (--correct reverse)" in said


def test_exchanged_rows_and_columns_are_named():
    made = replace(scan(SQUARE), data=np.ascontiguousarray(scan(SQUARE).data.swapaxes(1, 2)))
    (said,) = warnings_of(made, 0.5, noise_known=False)
    assert "rows and columns of the detector are exchanged" in said


def test_wrong_lengths_are_doubted():
    far = CTGeometry.fan(
        (3, 32, 32), (1.0, 1.0, 1.0), 45, source_origin=600.0, source_detector=900.0, columns=FAN.columns,
        column_spacing=FAN.column_spacing,
    )  # fmt: skip
    (said,) = warnings_of(replace(scan(FAN), geometry=far.to_dict()), 9.0, noise_known=True)
    assert "check units, angles, distances" in said and "--set model_error=0." in said


def test_recon_says_it(run: Run):
    wrong = replace(FAN, angles=tuple(-a for a in FAN.angles))
    write("w.h5", replace(scan(FAN), geometry=wrong.to_dict()))
    answer = run("recon", "w.h5", "-o", "r.nii.gz", "--method", "fbp", "--json")
    assert answer.code == 0
    assert "warning" in answer.err and "the other way" in answer.json()["warnings"][0]
    assert (
        "warnings"
        not in run("recon", "w.h5", "-o", "s.nii.gz", "--method", "fbp", "--correct", "reverse", "--json").out
    )
