"""Backends of the projectors: which one is taken, and that all of them measure the same."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from medrecon.errors import InputError, MissingDependency, UsageError
from medrecon.physics import backends
from medrecon.physics.backends import choose
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.torch_radon_backend import TorchRadonSlices

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


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (2.0, 1.5, 1.2)], ids=["cubes", "boxes"])
def test_diffct_cones_by_its_reference_on_the_cpu(spacing: tuple[float, float, float]):
    """Rays through voxels against rays between them: a percent apart on a smooth body. An exact adjoint."""
    pytest.importorskip("diffct", reason="could not import 'diffct'")
    geometry = ConeGeometry.circular((20, 24, 28), spacing, 5, start=0.3, **FAN)
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in geometry.shape), indexing="ij")
    body = (1 - 1.6 * ((x - 0.1) ** 2 + (y + 0.15) ** 2 + (z - 0.1) ** 2)).clamp_min(0) ** 2
    ours, theirs = ConeOperator(geometry), ConeOperator(geometry, "diffct")
    assert relative(theirs(body), ours(body)) < 0.03
    assert relative(theirs(body.flip(0)), ours(body)) > 0.1 < relative(theirs(body.flip(1)), ours(body))
    y = torch.randn(geometry.data_shape, generator=torch.Generator().manual_seed(0))
    gap = (theirs(body).double() * y).sum() - (body.double() * theirs.adjoint(y)).sum()
    assert abs(float(gap)) < 1e-5 * float(theirs(body).norm() * y.norm())


def test_diffct_takes_one_pixel_size_for_all_views():
    pytest.importorskip("diffct", reason="could not import 'diffct'")
    vectors = CONE.vectors.copy()
    vectors[0, 6:9] *= 1.1
    with pytest.raises(InputError, match="one pixel size for all views"):
        ConeOperator(replace(CONE, vectors=vectors), "diffct")(torch.ones(CONE.shape))


class StandInForTorchRadon:
    """torch-radon's two beams as documented, in ASTRA's 2D conventions, which its own tests compare it with."""

    class volumes:  # noqa: N801 - a module
        class Volume2D:
            def set_size(self, height: int, width: int) -> None:
                self.size = (height, width)

    class _Beam:
        def __init__(self, model: str, volume: Any, *projections: Any) -> None:
            import astra

            self.astra, grid = astra, astra.create_vol_geom(*volume.size)
            self.projector = astra.create_projector(model, astra.create_proj_geom(*projections), grid)

        def _each(self, images: torch.Tensor, step: Any) -> torch.Tensor:
            return torch.stack([torch.from_numpy(step(image.numpy(), self.projector)[1].copy()) for image in images])

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self._each(images, self.astra.create_sino)

        def backward(self, data: torch.Tensor) -> torch.Tensor:
            return self._each(data, self.astra.create_backprojection)

    class ParallelBeam(_Beam):
        def __init__(self, count: int, angles: torch.Tensor, spacing: float, volume: Any) -> None:
            super().__init__("linear", volume, "parallel", spacing, count, angles.double().numpy())

    class FanBeam(_Beam):
        def __init__(
            self, count: int, angles: torch.Tensor, near: float, far: float, spacing: float, volume: Any
        ) -> None:
            super().__init__("line_fanflat", volume, "fanflat", spacing, count, angles.double().numpy(), near, far)


@pytest.mark.parametrize("geometry", [PARALLEL, FLAT], ids=["parallel", "fan"])
def test_the_adapter_of_torch_radon_against_astra(geometry: CTGeometry, monkeypatch: pytest.MonkeyPatch):
    """Units, orientation, sense of rotation and layout of the adapter; torch-radon itself needs CUDA."""
    pytest.importorskip("astra", reason="could not import 'astra'")
    monkeypatch.setitem(sys.modules, "torch_radon", StandInForTorchRadon)
    adapter, ours = TorchRadonSlices(geometry, CPU), CTOperator(geometry)
    x = torch.zeros(geometry.shape)
    x[:, 4:-4, 4:-4] = torch.rand((3, 12, 16), generator=torch.Generator().manual_seed(0))
    image, tolerance = x.permute(1, 2, 0), 1e-4 if geometry.kind == "parallel" else 0.1
    data = adapter.forward(image)
    assert relative(data.permute(0, 2, 1), ours(x)) < tolerance
    y = torch.randn((geometry.n_views, geometry.columns, 3), generator=torch.Generator().manual_seed(1))
    gap = (data.double() * y).sum() - (image.double() * adapter.adjoint(y)).sum()
    assert abs(float(gap)) < 1e-5 * float(data.norm() * y.norm())


def test_torch_radon_wants_centred_detectors_and_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(MissingDependency, match="conda install -c conda-forge carterbox-torch-radon"):
        backends.check_named("parallel", "torch-radon")
    monkeypatch.setitem(sys.modules, "torch_radon", StandInForTorchRadon)
    for shifted in (replace(PARALLEL, detector_offset=1.0), replace(FLAT, rotation_shift=0.5)):
        with pytest.raises(InputError, match="centred on the axis"):
            TorchRadonSlices(shifted, CPU)


@pytest.mark.cuda
def test_astra_cones_on_cuda():
    """Untested by this project until a machine with CUDA runs it."""
    pytest.importorskip("astra", reason="could not import 'astra'")
    if not torch.cuda.is_available():
        pytest.skip("CUDA is not available")
    x = torch.rand(CONE.shape)
    theirs = ConeOperator(CONE)(x.cuda()).cpu()
    assert relative(theirs, ConeOperator(CONE)(x)) < 0.02
