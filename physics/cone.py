"""The cone-beam projector as a linear operator on torch tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecon.errors import InputError
from medrecon.physics.backends import Projector, check_named, choose
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct import spread_views
from medrecon.physics.linop import LinearOperator, Space, operators
from medrecon.physics.threads import run_tasks

FORWARD_BYTES, ADJOINT_BYTES = 320_000, 200_000
"""Size of a tile, within the L2 cache of a common core together with what passes through it."""


class ConeOperator(LinearOperator):
    """Line integrals of a volume along the rays of a cone beam, by Joseph's method, with the exact adjoint.

    Maps a volume ``(z, y, x)`` in 1/mm to ``(views, rows, columns)``, float32. Tensors are fastest when
    slices and rows are innermost in memory, as in those that the operator returns; any other layout costs one copy.

    Parameters
    ----------
    geometry
        Rays and voxel grid, mm.
    backend
        One of medrecon.physics.backends. ``"auto"`` and ``"numba"`` on the CPU: vector kernels for upright detectors,
        general ones for all others. ``"general"``: always those. Threads as in ``torch.get_num_threads()``; the result
        does not depend on their number.

    Raises
    ------
    UsageError
        Unknown backend, or one that does not serve this beam or the device of a tensor.
    MissingDependency
        A backend whose library is not installed.
    """

    def __init__(self, geometry: ConeGeometry, backend: str = "auto") -> None:
        check_named(geometry.kind, "numba" if backend == "auto" else backend)
        self.geometry = geometry
        self.backend = backend
        self.domain = Space(geometry.shape)
        self.range = Space(geometry.data_shape)
        self._projectors: dict[torch.device, Projector] = {}
        self._subsets: dict[int, list[tuple[list[int], ConeOperator]]] = {}

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
        """Feldkamp's reconstruction of ``y``: a volume in 1/mm, see :func:`medrecon.physics.fdk.fdk`."""
        from medrecon.physics.fdk import fdk

        return fdk(self.geometry, y, filter, cutoff)

    @cached_property
    def direct_method(self) -> str | None:
        """``"fdk"`` where the source runs on a circle; None for other scans, which have no direct inverse."""
        try:
            self.geometry.central_fan()
        except InputError:
            return None
        return "fdk"

    def view_subsets(self, count: int) -> list[tuple[list[int], ConeOperator]]:
        """At most ``count`` disjoint subsets of views, as those of a slice-by-slice operator."""
        n = min(count, self.geometry.n_views)
        if n not in self._subsets:
            groups = spread_views(self.geometry.angles, n)
            self._subsets[n] = [(g, ConeOperator(self.geometry.select(g), self.backend)) for g in groups]
        return self._subsets[n]

    def __repr__(self) -> str:
        return f"ConeOperator({self.geometry.kind}, {self.domain.shape} -> {self.range.shape}, {self.backend})"


def cone_projector(geometry: ConeGeometry) -> Projector:
    """The vector kernels where they can be used, else the general ones."""
    from medrecon.physics.cone_rays import cone_rays

    table = cone_rays(geometry)
    return GeneralProjector(geometry) if table is None else UprightProjector(geometry, table)


class UprightProjector:
    """Vector kernels: detector rows along z."""

    def __init__(self, geometry: ConeGeometry, table: tuple) -> None:
        self.geometry, self.table = geometry, table
        self.down = bool(geometry.up[0, 2] < 0)
        self.work = 4.0 * geometry.rows * sum(float((s.flat.last - s.flat.first).sum()) for s in table)

    def _strides(self, transposed: bool) -> tuple[int, int]:
        """Floats between two steps of a ray, and between two pixels of a step."""
        slices, _, n_x = self.geometry.shape
        return (slices, n_x * slices) if transposed else (n_x * slices, slices)

    def _tile_rows(self, size: int, width: int) -> int:
        """Rows of a tile of about ``size`` bytes."""
        from medrecon.physics.cone_kernels import AFTER, BEFORE, CHUNK, PAD

        line = min(self.geometry.shape[0], CHUNK) + BEFORE + AFTER
        return max(1, size // (4 * line * (width + 2 * PAD)))

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][row]``."""
        from medrecon.physics.cone_kernels import project

        g = self.geometry
        out = torch.zeros(g.n_views, g.columns, g.rows)
        image, data = x.numpy().reshape(-1), out.numpy().reshape(-1)
        threads = torch.get_num_threads()
        tasks: list[Callable[[], None]] = []
        for rays in self.table:
            f = rays.flat
            # Every task copies the volume into its tiles once, so no more tasks than the threads need.
            bounds = np.linspace(0, f.size, (1 if threads == 1 else 2 * threads) + 1).astype(int).tolist()
            where = (f.steps, f.width, *self._strides(f.transposed), g.shape[0], g.rows)
            tile_rows = min(f.steps, self._tile_rows(FORWARD_BYTES, f.width))
            tasks += [
                partial(project, image, data, rays.arrays, begin, end, *where, tile_rows)
                for begin, end in pairwise(bounds)
                if begin < end
            ]
        run_tasks(tasks, self.work)
        return out.flip(2) if self.down else out

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][row]`` to ``[y][x][z]``."""
        from medrecon.physics.cone_kernels import CHUNK, backproject

        g = self.geometry
        slices, n_y, n_x = g.shape
        out = torch.zeros(n_y, n_x, slices)
        image, data = out.numpy().reshape(-1), (y.flip(2) if self.down else y).numpy().reshape(-1)
        # Both sets of rays add to every voxel: one after the other.
        for rays in self.table:
            f = rays.flat
            if f.size == 0:
                continue
            tile_rows = self._tile_rows(ADJOINT_BYTES, f.width)
            tasks: list[Callable[[], None]] = []
            for top in range(0, f.steps, tile_rows):
                where = (top, min(top + tile_rows, f.steps), f.width, *self._strides(f.transposed), slices, g.rows)
                tasks += [
                    partial(backproject, image, data, rays.arrays, *where, z, min(CHUNK, slices - z))
                    for z in range(0, slices, CHUNK)
                ]
            run_tasks(tasks, self.work)
        return out


class GeneralProjector:
    """Ray by ray: any detector."""

    def __init__(self, geometry: ConeGeometry) -> None:
        self.geometry = geometry
        spacing, shape = np.array(geometry.spacing), np.array(geometry.shape)
        middle = geometry.middle_row()[..., ::-1] / spacing + (shape - 1) / 2
        source = geometry.source[:, ::-1] / spacing + (shape - 1) / 2
        up = geometry.vectors[:, :8:-1] / spacing
        self.rays = np.ascontiguousarray(source), np.ascontiguousarray(middle), np.ascontiguousarray(up)
        self.grid = shape.astype(np.int64), spacing
        self.work = 8.0 * float(np.prod(geometry.data_shape)) * max(geometry.shape)

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][row]``."""
        from medrecon.physics.cone_general import PAD, project

        g = self.geometry
        out = torch.zeros(g.n_views, g.columns, g.rows)
        volume = pad(x, (PAD,) * 6).numpy()
        blocks = min(g.n_views, 4 * torch.get_num_threads())
        bounds = np.linspace(0, g.n_views, blocks + 1).astype(int).tolist()
        run_tasks(
            [partial(project, volume, out.numpy(), *self.rays, g.rows, *span, *self.grid) for span in pairwise(bounds)],
            self.work,
        )
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][row]`` to ``[y][x][z]``."""
        from medrecon.physics.cone_general import backproject

        slices, n_y, n_x = self.geometry.shape
        out = torch.zeros(n_y, n_x, slices)
        volume = out.permute(2, 0, 1).numpy()
        threads = torch.get_num_threads()
        for axis, steps in enumerate(self.geometry.shape):
            blocks = min(steps, 1 if threads == 1 else 2 * threads)
            bounds = np.linspace(0, steps, blocks + 1).astype(int).tolist()
            run_tasks(
                [partial(backproject, volume, y.numpy(), *self.rays, axis, *span, *self.grid)
                 for span in pairwise(bounds)],
                self.work,
            )  # fmt: skip
        return out


def _small(detector: str, backend: str = "auto", **settings: object) -> ConeOperator:
    values: dict = {
        "source_origin": 30.0, "source_detector": 50.0, "rows": 9, "columns": 13, "row_spacing": 2.2,
        "column_spacing": 1.9, "row_offset": 0.7,
    }  # fmt: skip
    geometry = ConeGeometry.circular(
        (7, 8, 9), (1.5, 1.0, 1.2), 9, detector=detector, detector_offset=0.4, **(values | settings)
    )
    return ConeOperator(geometry, backend)


operators.register("cone-flat", example=lambda: _small("flat", rotation_shift=0.2))(ConeOperator)
operators.register("cone-curved", example=lambda: _small("curved"))(ConeOperator)
operators.register("cone-fine-rows", example=lambda: _small("flat", rows=25, row_spacing=0.8))(ConeOperator)
operators.register("cone-tilted", example=lambda: _small("flat", tilt=(0.05, -0.04, 0.1)))(ConeOperator)
operators.register("cone-general", example=lambda: _small("curved", backend="general"))(ConeOperator)
