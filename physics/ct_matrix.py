"""The Joseph projector as an explicit sparse matrix: fallback without numba, other devices, and oracle of tests."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import TooLarge
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.ct_rays import RaySet, ray_table

MAX_ENTRIES = 300_000_000
"""Largest matrix that is built: 8 bytes an entry, and as much again for its transpose."""


def joseph_entries(rays: RaySet, n_x: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row (ray), column (pixel ``y * n_x + x``) and weight of every matrix entry of one ray set."""
    counts = (rays.last - rays.first).astype(np.int64)
    which = np.repeat(np.arange(rays.size), counts)
    step = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts) + rays.first[which]
    place = rays.position[which] + rays.slope[which] * step
    pixel = np.floor(place).astype(np.int64)
    weight = place - pixel
    row = np.concatenate([rays.index[which]] * 2)
    step = np.concatenate([step] * 2)
    minor = np.concatenate([pixel, pixel + 1])
    value = np.concatenate([1.0 - weight, weight]) * np.concatenate([rays.length[which]] * 2)
    inside = (minor >= 0) & (minor < rays.width)
    row, step, minor, value = row[inside], step[inside], minor[inside], value[inside]
    column = minor * n_x + step if rays.transposed else step * n_x + minor
    return row, column, value


def joseph_matrix(geometry: CTGeometry, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The projector of one slice, ``(views * columns, y * x)``, and its transpose, as torch CSR tensors.

    Raises TooLarge when the matrix would have more than ``MAX_ENTRIES`` entries.
    """
    table = ray_table(geometry)
    size = 2 * sum(int((rays.last - rays.first).sum()) for rays in table)
    if size > MAX_ENTRIES:
        raise TooLarge(
            "the projection matrix is too large to store",
            found=f"{size:,} entries",
            expected=f"at most {MAX_ENTRIES:,}",
            hint="Install numba for the matrix-free projector.",
        )
    _, n_y, n_x = geometry.shape
    row, column, value = (
        np.concatenate(parts) for parts in zip(*(joseph_entries(rays, n_x) for rays in table), strict=True)
    )
    shape = (geometry.n_views * geometry.columns, n_y * n_x)
    return _csr(row, column, value, shape, dtype), _csr(column, row, value, shape[::-1], dtype)


def _csr(row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    order = np.lexsort((column, row))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts.astype(np.int32)),
            torch.from_numpy(column[order].astype(np.int32)),
            torch.from_numpy(value[order]).to(dtype),
            size=shape,
            dtype=dtype,
            check_invariants=True,
        )


class MatrixProjector:
    """The projector as a torch CSR matrix that multiplies all slices at once."""

    def __init__(self, geometry: CTGeometry, device: torch.device) -> None:
        self.geometry = geometry
        self.matrix, self.transpose = (part.to(device) for part in joseph_matrix(geometry))

    def forward(self, x: Tensor) -> Tensor:
        """Line integrals of every slice."""
        return (self.matrix @ x.flatten(0, 1)).unflatten(0, (self.geometry.n_views, self.geometry.columns))

    def adjoint(self, y: Tensor) -> Tensor:
        """Exact adjoint."""
        return (self.transpose @ y.flatten(0, 1)).unflatten(0, self.geometry.shape[1:])
