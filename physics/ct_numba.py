"""Runs the numba CT kernels on torch tensors: chunks of slices, tasks, threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.ct_kernels import backproject, project
from medrecon.physics.ct_rays import RaySet, ray_table
from medrecon.physics.lanes import LANES, WIDTHS, Lanes
from medrecon.physics.threads import run_tasks

FORWARD_ROWS, ADJOINT_ROWS = 8, 8
"""Rows of a tile: 8 rows of 256 pixels and 64 slices take 0.5 MiB, the L2 cache of a common core. Measured."""


def slice_chunks(slices: int) -> list[tuple[Lanes, int, int]]:
    """Vector width, first slice and number of slices of each chunk: 64 slices, then the width that fits the rest."""
    chunks = []
    for z in range(0, slices, WIDTHS[-1]):
        count = min(WIDTHS[-1], slices - z)
        chunks.append((LANES[min(width for width in WIDTHS if width >= count)], z, count))
    return chunks


class NumbaProjector:
    """Joseph projector of one geometry, compiled on first use."""

    def __init__(self, geometry: CTGeometry) -> None:
        self.geometry = geometry
        self.table = ray_table(geometry)
        self.work = geometry.shape[0] * sum(2.0 * (rays.last - rays.first).sum() for rays in self.table)

    def _strides(self, rays: RaySet) -> tuple[int, int]:
        """Floats between two steps of a ray, and between two pixels of a step."""
        slices, _, n_x = self.geometry.shape
        return (slices, n_x * slices) if rays.transposed else (n_x * slices, slices)

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][z]``."""
        slices = self.geometry.shape[0]
        out = torch.zeros(self.geometry.n_views, self.geometry.columns, slices)
        image, data = x.numpy().reshape(-1), out.numpy().reshape(-1)
        chunks = slice_chunks(slices)
        # Every task copies the image into its tiles once, so no more tasks than the threads need.
        threads = torch.get_num_threads()
        blocks = 1 if threads == 1 else -(-2 * threads // len(chunks))
        tasks: list[Callable[[], None]] = []
        for rays in self.table:
            bounds = np.linspace(0, rays.size, blocks + 1).astype(int).tolist()
            for lanes, z, count in chunks:
                for begin, end in pairwise(bounds):
                    where = (begin, end, rays.steps, rays.width, *self._strides(rays), slices, z, count)
                    tasks.append(
                        partial(project, lanes, image, data, rays.arrays, *where, min(FORWARD_ROWS, rays.steps))
                    )
        run_tasks(tasks, self.work)
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][z]`` to ``[y][x][z]``."""
        slices, n_y, n_x = self.geometry.shape
        out = torch.zeros(n_y, n_x, slices)
        image, data = out.numpy().reshape(-1), y.numpy().reshape(-1)
        # Both sets of rays add to every pixel: one after the other.
        for rays in self.table:
            if rays.size == 0:
                continue
            tasks: list[Callable[[], None]] = []
            for lanes, z, count in slice_chunks(slices):
                for top in range(0, rays.steps, ADJOINT_ROWS):
                    where = (top, min(top + ADJOINT_ROWS, rays.steps), rays.width, *self._strides(rays))
                    tasks.append(partial(backproject, lanes, image, data, rays.arrays, *where, slices, z, count))
            run_tasks(tasks, self.work)
        return out
