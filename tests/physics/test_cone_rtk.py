"""Projectors, Feldkamp's method and geometry files against RTK on the CPU: an independent code.

In a process of their own that imports itk before torch: the other way round it crashes (itk 5.4).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SETUP = """
import itk
from itk import RTK as rtk
import numpy as np, torch
from helpers.rtk_projector import RtkProjector
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.exchange import export
from medrecon.physics.exchange.rtk import to_xml
from medrecon.physics.fdk import fdk
from medrecon.physics.phantoms import random_ellipsoids
FAN = dict(source_origin=200.0, source_detector=320.0)
GRID = ((30, 36, 40), (2.0, 2.0, 2.0))
angles = np.arange(14) * 0.41 + 0.1
scans = [
    ConeGeometry.circular(*GRID, angles=angles, detector_offset=2.5, row_offset=-3.0, rotation_shift=1.2, **FAN),
    ConeGeometry.circular(*GRID, 14, tilt=(0.1, -0.2, 0.15), detector_offset=3.0, **FAN),
    ConeGeometry.helical(*GRID, 14, 20.0, detector="flat", **FAN),
]
def gap(a, b): return np.linalg.norm(a - b) / np.linalg.norm(b)
"""


def with_rtk(code: str) -> None:
    if importlib.util.find_spec("itk") is None:
        pytest.skip("could not import 'itk'")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_same_projections_and_back_projections():
    with_rtk("""
for geometry in scans:
    x = torch.zeros(geometry.shape)
    x[2:-2, 2:-2, 2:-2] = torch.rand([n - 4 for n in geometry.shape])
    op, other = ConeOperator(geometry), RtkProjector(geometry)
    y = op(x)
    assert gap(y.numpy(), other.result(other.forward_filter(x.numpy()))) < 1e-5
    inner = (slice(2, -2),) * 3
    assert gap(op.adjoint(y).numpy()[inner], other.result(other.adjoint_filter(y.numpy()))[inner]) < 1e-5
""")


def test_the_same_matrices_from_the_same_file(tmp_path: Path):
    with_rtk(f"""
for geometry in scans:
    values = export(geometry, "rtk")
    file = {str(tmp_path / "g.xml")!r}
    open(file, "w").write(to_xml(values))
    reader = rtk.ThreeDCircularProjectionGeometryXMLFileReader.New()
    reader.SetFilename(file)
    reader.GenerateOutputInformation()
    theirs = reader.GetOutputObject()
    for view in range(geometry.n_views):
        matrix = np.asarray(itk.array_from_matrix(theirs.GetMatrix(view)))
        ours = values["Matrix"][view]
        assert np.allclose(matrix / matrix[2, 3], ours / ours[2, 3], atol=1e-6)
""")


def test_the_same_feldkamp_reconstruction():
    """Within 1 % of the range inside the object, for a dense scan."""
    with_rtk("""
geometry = ConeGeometry.circular(*GRID, 180, **FAN)
y = random_ellipsoids(1, radius=26.0).project(geometry)
ours = fdk(geometry, y).numpy()
other = RtkProjector(geometry)
theirs = other.result(other.fdk_filter(y.numpy()))
centre = [(np.arange(n) - (n - 1) / 2) * 2 for n in geometry.shape]
z, r = np.abs(centre[0])[:, None, None], np.hypot(centre[1][:, None], centre[2])[None]
inside = (z < 20) & (r < 24)
assert np.abs(ours - theirs)[inside].mean() < 0.01 * np.ptp(theirs)
assert np.abs(ours - theirs)[inside].max() < 0.05 * np.ptp(theirs)
""")
