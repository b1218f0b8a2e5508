"""Backends of the projectors: which one is taken, and that all of them measure the same."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import MissingDependency, UsageError
from medrecon.physics import backends
from medrecon.physics.backends import choose
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GRID = ((3, 20, 24), (2.0, 1.5, 1.5))
FAN = {"source_origin": 80.0, "source_detector": 120.0}
PARALLEL, FLAT = CTGeometry.parallel(*GRID, 15), CTGeometry.fan(*GRID, 15, **FAN)
CONE = ConeGeometry.circular(*GRID, 9, **FAN)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def test_device_and_beam_decide():
    assert choose(PARALLEL, CPU).name == "numba"
    assert choose(PARALLEL, CUDA).name == "csr"
    assert choose(CONE, CPU).name == "numba"
    with pytest.raises(UsageError, match="works on the CPU"):
        choose(FLAT, CUDA, "numba")
    with pytest.raises(UsageError, match="does not project this beam"):
        ConeOperator(CONE, "csr")
    with pytest.raises(UsageError, match="nothing projects a cone-curved beam on cuda"):
        choose(ConeGeometry.circular(*GRID, 9, detector="curved", **FAN), CUDA)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "has_numba", lambda: False)
    assert choose(PARALLEL, CPU).name == "csr"
    with pytest.raises(MissingDependency, match="numba"):
        ConeOperator(CONE)
    states = {row["backend"]: row["state"] for row in backends.table()}
    assert states["numba"] == "needs numba" and states["csr"] == "ready"


@pytest.mark.parametrize("geometry", [PARALLEL, FLAT], ids=["parallel", "fan"])
def test_astra_slices(geometry: CTGeometry):
    """The same model for parallel beams, another one for fans; an exact adjoint either way."""
    pytest.importorskip("astra", reason="could not import 'astra'")
    ours, theirs = CTOperator(geometry), CTOperator(geometry, "astra")
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(geometry.shape)
    x[:, 4:-4, 4:-4] = torch.rand((3, 12, 16), generator=generator)
    y = torch.randn(geometry.data_shape, generator=generator)
    assert relative(theirs(x), ours(x)) < (1e-4 if geometry.kind == "parallel" else 0.1)
    gap = (theirs(x).double() * y).sum() - (x.double() * theirs.adjoint(y)).sum()
    assert abs(float(gap)) < 1e-5 * float(theirs(x).norm() * y.norm())


@pytest.mark.cuda
def test_astra_cones_on_cuda():
    """Untested by this project until a machine with CUDA runs it."""
    pytest.importorskip("astra", reason="could not import 'astra'")
    if not torch.cuda.is_available():
        pytest.skip("CUDA is not available")
    x = torch.rand(CONE.shape)
    theirs = ConeOperator(CONE)(x.cuda()).cpu()
    assert relative(theirs, ConeOperator(CONE)(x)) < 0.02
