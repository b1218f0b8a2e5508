"""Cone-beam scans on any grid: the volume may have other voxels and lie elsewhere, as long as it is not turned."""

from __future__ import annotations

import numpy as np

from medrecon.data.scan import Scan
from medrecon.data.volume import Geometry
from medrecon.errors import InputError, UsageError
from medrecon.physics.cone_geometry import ConeGeometry

_ALIGNED = 1e-4  # largest difference of unit vectors that counts as the same direction


def cone_on_grid(scan: Scan, grid: Geometry) -> ConeGeometry:
    """The rays of a scan through ``grid``, which lies in the scanner as its affine says.

    Raises InputError where the grid is turned against the scan's own: that would need a resampling, which is not done
    silently.
    """
    measured, geometry = scan.volume_geometry, ConeGeometry.from_dict(scan.geometry)
    axes, wanted = _directions(measured), _directions(grid)
    if np.abs(axes - wanted).max() > _ALIGNED:
        raise InputError(
            "the wanted grid is turned against the scanner", found=grid.orientation, expected=measured.orientation,
            hint="Reconstruct on the grid of the scan (leave --like out) and resample the result.",
        )  # fmt: skip
    centre = axes.T @ (_centre(grid) - _centre(measured))
    if grid.shape == geometry.shape and np.abs(centre).max() < 1e-6 and np.allclose(grid.spacing, geometry.spacing):
        return geometry
    return geometry.with_grid(grid.shape, grid.spacing, centre)


def cone_grid(measured: Geometry, shape: tuple[int, int, int] | None, voxel: tuple[float, ...] | None) -> Geometry:
    """The grid ``measured`` with another shape ``(z, y, x)`` or voxel size, around the same centre.

    ``voxel`` is one size for all axes, or ``(z, y, x)``; alone, it keeps the field of view. Raises UsageError for
    sizes that are not positive.
    """
    if voxel is not None and len(voxel) not in (1, 3):
        raise UsageError("a voxel has one size or three", found=voxel)
    spacing = measured.spacing if voxel is None else tuple(voxel) * (3 // len(voxel))
    if not min(spacing) > 0:
        raise UsageError("voxels have positive sizes, in mm", found=voxel)
    if shape is None:
        z, y, x = (max(1, round(n * s / v)) for n, s, v in zip(measured.shape, measured.spacing, spacing, strict=True))
        shape = (z, y, x)
    if min(shape) < 1:
        raise UsageError("a volume has at least one voxel along each axis", found=shape)
    affine = np.eye(4)
    affine[:3, :3] = _directions(measured) * np.array(spacing)[::-1]
    affine[:3, 3] = _centre(measured) - affine[:3, :3] @ (np.array(shape)[::-1] - 1) / 2
    return Geometry(shape, affine)


def _directions(grid: Geometry) -> np.ndarray:
    """Unit vectors of x, y and z as columns."""
    return grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)


def _centre(grid: Geometry) -> np.ndarray:
    """The middle of the volume, mm."""
    return grid.affine[:3, :3] @ (np.array(grid.shape)[::-1] - 1) / 2 + grid.affine[:3, 3]
