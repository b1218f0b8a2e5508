"""Backends of the CT projectors: what each can do, whether it is here, and which one is taken.

A backend is one entry under `backend`: the beams and devices that it serves, and a function that makes its projector.
Which one ``"auto"`` takes follows from the order of registration: the first that is installed and fits geometry and
device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medrecon.errors import MissingDependency, UsageError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.threads import has_numba
from medrecon.registry import Registry

SLICES = ("parallel", "fan-flat", "fan-curved")
CONES = ("cone-flat", "cone-curved")


class Projector(Protocol):
    """What a backend makes for a geometry: a linear map and its adjoint, slices and detector rows innermost."""

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][slice or row]``."""

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][slice or row]`` to ``[y][x][z]``."""


@dataclass(frozen=True)
class Backend:
    """One way to project.

    ``library`` is the import name that it needs, ``extra`` what brings it, or ``install`` a command. ``devices`` are
    torch's names; ``"any"`` is every one. ``tested`` is false where no machine of the project could run it.
    """

    name: str
    library: str
    extra: str
    beams: tuple[str, ...]
    devices: tuple[str, ...]
    tested: bool
    make: Callable[[CTGeometry | ConeGeometry, torch.device], Projector]
    install: str = ""

    @property
    def installed(self) -> bool:
        """Whether its library can be found."""
        if self.library == "numba":
            return has_numba()
        return importlib.util.find_spec(self.library) is not None

    def serves(self, kind: str, device: torch.device) -> bool:
        """Whether it can project this beam on this device."""
        return kind in self.beams and ("any" in self.devices or device.type in self.devices)

    def missing(self, purpose: str) -> MissingDependency:
        """The error to raise where its library is not installed."""
        return MissingDependency(
            self.library, self.extra, purpose, hint=f"Install it with: {self.install}" if self.install else None
        )


backends: Registry[Backend] = Registry("CT backend")


def backend(
    name: str,
    *,
    library: str,
    beams: tuple[str, ...],
    devices: tuple[str, ...],
    extra: str = "",
    install: str = "",
    tested: bool = True,
) -> Callable:
    """Register the decorated maker of projectors."""

    def add(make: Callable[..., Projector]) -> Callable[..., Projector]:
        backends.register(name)(Backend(name, library, extra, beams, devices, tested, make, install))
        return make

    return add


def choose(geometry: CTGeometry | ConeGeometry, device: torch.device, name: str = "auto") -> Backend:
    """The backend called ``name``, or the first that fits.

    Raises
    ------
    UsageError
        An unknown name, or a backend that does not serve this beam on this device.
    MissingDependency
        Its library is not installed.
    """
    if name == "auto":
        fitting = [entry.value for entry in backends if entry.value.serves(geometry.kind, device)]
        for candidate in fitting:
            if candidate.installed:
                return candidate
        if fitting:
            raise fitting[0].missing(f"projecting a {geometry.kind} beam on {device.type}")
        raise UsageError(f"nothing projects a {geometry.kind} beam on {device.type}", hint="Work on the CPU.")
    chosen = backends.get(name)
    if not chosen.serves(geometry.kind, device):
        raise UsageError(
            f"the CT backend {name!r} works on the {' or '.join(chosen.devices).upper()}",
            found=f"a {geometry.kind} beam and a tensor on {device}", hint="Use the backend 'auto'.",
        )  # fmt: skip
    if not chosen.installed:
        raise chosen.missing(f"the CT backend {name!r}")
    return chosen


def check_named(kind: str, name: str) -> None:
    """Raise UsageError for an unknown backend or one of other beams, MissingDependency for one that is not here."""
    named = backends.get(name)
    if kind not in named.beams:
        raise UsageError(
            f"the CT backend {name!r} does not project this beam", found=kind, expected=", ".join(named.beams)
        )
    if not named.installed:
        raise named.missing(f"the CT backend {name!r}")


def _tested(entry: Backend) -> str:
    if not entry.tested:
        return "never run by this project"
    return "on the CPU" if "any" in entry.devices else "yes"


def table() -> list[dict[str, object]]:
    """What every backend is, and whether it is here: for `medrecon doctor`."""
    cuda = torch.cuda.is_available()
    rows: list[dict[str, object]] = []
    for entry in backends:
        item = entry.value
        usable = item.installed and (cuda or item.devices != ("cuda",))
        state = "ready" if usable else ("no CUDA device" if item.installed else f"needs {item.library}")
        rows.append(
            {
                "backend": item.name,
                "beams": ", ".join(item.beams),
                "devices": ", ".join(item.devices),
                "state": state,
                "tested": _tested(item),
            }
        )
    for library in ("leapctype", "tomosipo"):
        found = importlib.util.find_spec(library) is not None
        rows.append(
            {
                "backend": library, "beams": "", "devices": "cuda", "tested": "no adapter",
                "state": "installed; geometries can be exported" if found else "not installed",
            }
        )  # fmt: skip
    return rows


@backend("numba", library="numba", extra="ct", beams=SLICES + CONES, devices=("cpu",))
def numba_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """Compiled kernels; vector ones for upright detectors."""
    if isinstance(geometry, ConeGeometry):
        from medrecon.physics.cone import cone_projector

        return cone_projector(geometry)
    from medrecon.physics.ct_numba import NumbaProjector

    return NumbaProjector(geometry)


@backend("general", library="numba", extra="ct", beams=CONES, devices=("cpu",))
def general_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """Compiled kernels for any detector, also where faster ones would do."""
    from medrecon.physics.cone import GeneralProjector

    assert isinstance(geometry, ConeGeometry)
    return GeneralProjector(geometry)


@backend("csr", library="torch", extra="ct", beams=SLICES, devices=("any",))
def matrix_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """A torch sparse matrix that multiplies all slices at once."""
    from medrecon.physics.ct_matrix import MatrixProjector

    assert isinstance(geometry, CTGeometry)
    return MatrixProjector(geometry, device)


@backend("astra", library="astra", extra="ct", beams=("parallel", "fan-flat"), devices=("cpu",))
def astra_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """ASTRA's projectors, slice by slice on one core."""
    from medrecon.physics.astra_backend import AstraSlices

    assert isinstance(geometry, CTGeometry)
    return AstraSlices(geometry)


@backend("astra-cuda", library="astra", extra="ct", beams=("cone-flat",), devices=("cuda",), tested=False)
def astra_cuda_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """ASTRA's 3D kernels on torch tensors in the memory of the device."""
    from medrecon.physics.astra_backend import AstraCone

    assert isinstance(geometry, ConeGeometry)
    return AstraCone(geometry, device)


@backend("diffct", library="diffct", extra="diffct", beams=("cone-flat",), devices=("any",))
def diffct_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """CUDA kernels of diffct; on the CPU its reference, which is slow."""
    from medrecon.physics.diffct_backend import DiffctCone

    assert isinstance(geometry, ConeGeometry)
    return DiffctCone(geometry, device)


@backend(
    "torch-radon", library="torch_radon", install="conda install -c conda-forge carterbox-torch-radon",
    beams=("parallel", "fan-flat"), devices=("cuda",), tested=False,
)  # fmt: skip
def torch_radon_projector(geometry: CTGeometry | ConeGeometry, device: torch.device) -> Projector:
    """Batches of slices by torch-radon's kernels."""
    from medrecon.physics.torch_radon_backend import TorchRadonSlices

    assert isinstance(geometry, CTGeometry)
    return TorchRadonSlices(geometry, device)
