"""Slice-by-slice CT projection as linear operators on torch tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medrecon.physics.backends import Projector, check_named, choose
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.linop import LinearOperator, Space, operators


class CTOperator(LinearOperator):
    """Line integrals of every slice of a volume, by Joseph's method, with the exact adjoint.

    Maps a volume ``(z, y, x)`` in 1/mm to ``(views, slices, columns)``, float32. Tensors are fastest when their
    slices are innermost in memory, as those that the operator returns are; any other layout costs one copy.

    Parameters
    ----------
    geometry
        Rays and voxel grid, mm.
    backend
        One of medrecon.physics.backends: ``"numba"``: compiled kernels on the CPU, threads as in
        ``torch.get_num_threads()``; the result does not depend on their number. ``"csr"``: a torch sparse matrix on the
        device of the tensor. ``"astra"``. ``"auto"``: numba for tensors on the CPU if it is installed, else csr.

    Raises
    ------
    UsageError
        Unknown backend, or one that does not serve this beam or the device of a tensor.
    MissingDependency
        A backend whose library is not installed.
    """

    couples_slices = False

    def __init__(self, geometry: CTGeometry, backend: str = "auto") -> None:
        if backend != "auto":
            check_named(geometry.kind, backend)
        self.geometry = geometry
        self.backend = backend
        self.domain = Space(geometry.shape)
        self.range = Space(geometry.data_shape)
        self._projectors: dict[torch.device, Projector] = {}
        self._subsets: dict[int, list[tuple[list[int], CTOperator]]] = {}

    def _projector(self, device: torch.device) -> Projector:
        if device not in self._projectors:
            chosen = choose(self.geometry, device, self.backend)
            self._projectors[device] = chosen.make(self.geometry, device)
        return self._projectors[device]

    def _forward(self, x: Tensor) -> Tensor:
        projector = self._projector(x.device)
        return projector.forward(x.detach().permute(1, 2, 0).contiguous()).permute(0, 2, 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        projector = self._projector(y.device)
        return projector.adjoint(y.detach().permute(0, 2, 1).contiguous()).permute(2, 0, 1)

    def direct_inverse(self, y: Tensor, *, filter: str = "hann", cutoff: float = 1.0) -> Tensor:
        """Filtered back-projection of ``y``: a volume in 1/mm, see :func:`medrecon.physics.fbp.fbp`."""
        from medrecon.physics.fbp import fbp

        self.range.check(y, "measured data")
        return fbp(self.geometry, y, filter, cutoff)

    def view_subsets(self, count: int) -> list[tuple[list[int], CTOperator]]:
        """At most ``count`` disjoint subsets that hold all views: their indices, and the operator that measures them.

        The views of a subset are spread over the whole arc. Subsets are ordered by the golden ratio, so that those
        that follow each other lie far apart.
        """
        n = min(count, self.geometry.n_views)
        if n not in self._subsets:
            groups = spread_views(self.geometry.angles, n)
            self._subsets[n] = [(g, CTOperator(self.geometry.with_views(g), self.backend)) for g in groups]
        return self._subsets[n]

    def __repr__(self) -> str:
        return f"CTOperator({self.geometry.kind}, {self.domain.shape} -> {self.range.shape}, {self.backend})"


def spread_views(angles: Sequence[float] | np.ndarray, count: int) -> list[list[int]]:
    """Indices of all views in ``count`` groups that each cover the arc; groups that follow each other lie far apart."""
    by_angle = sorted(range(len(angles)), key=lambda view: angles[view] % math.pi)
    order = sorted(range(count), key=lambda k: k * 0.6180339887498949 % 1)
    return [sorted(by_angle[start::count]) for start in order]


def slices_innermost(x: Tensor) -> Tensor:
    """The volume ``(z, y, x)`` with its slices innermost in memory: the layout that CT operators read directly."""
    return x.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _small(kind: str, backend: str) -> CTOperator:
    shape, spacing = (3, 8, 9), (2.0, 1.0, 1.2)
    if kind == "parallel":
        return CTOperator(
            CTGeometry.parallel(shape, spacing, 7, detector_offset=0.3, rotation_shift=0.2), backend=backend
        )
    geometry = CTGeometry.fan(
        shape,
        spacing,
        9,
        detector=kind,
        source_origin=30.0,
        source_detector=50.0,
        detector_offset=0.4,
        rotation_shift=0.1,
    )
    return CTOperator(geometry, backend=backend)


operators.register("ct-parallel", example=lambda: _small("parallel", "auto"))(CTOperator)
operators.register("ct-fan-flat", example=lambda: _small("flat", "auto"))(CTOperator)
operators.register("ct-fan-curved", example=lambda: _small("curved", "auto"))(CTOperator)
operators.register("ct-csr", example=lambda: _small("flat", "csr"))(CTOperator)
