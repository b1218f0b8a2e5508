"""Cone beams by diffct (Apache-2.0): its CUDA kernels, and on the CPU its slow reference, which the tests check.

Its rays run through voxels of one value each (Siddon 1985), ours interpolate between neighbours (Joseph 1982): on
smooth objects the two agree to about a percent. Its adjoint is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry

_ALIKE = 1e-6  # of the pitch: by how much it may differ between views


class DiffctCone:
    """Any flat detector whose pixels have one size in all views."""

    def __init__(self, geometry: ConeGeometry, device: torch.device) -> None:
        import diffct

        pitches = []
        for pitch in (geometry.column_pitch, geometry.row_pitch):
            if np.ptp(pitch) > _ALIKE * pitch[0]:
                raise InputError(
                    "diffct takes one pixel size for all views", found=f"{pitch.min():.6g} to {pitch.max():.6g} mm",
                    hint="Use 'numba'.",
                )  # fmt: skip
            pitches.append(float(pitch[0]))
        trajectory = [geometry.source, geometry.centre, geometry.across, geometry.up]
        cubes = len(set(geometry.spacing)) == 1
        self.projector = diffct.Projector(
            tuple(torch.as_tensor(part.copy(), dtype=torch.float32, device=device) for part in trajectory),
            geometry.shape, (geometry.columns, geometry.rows), beam="cone", detector_spacing=tuple(pitches),
            voxel_spacing=tuple(geometry.spacing), backend="auto" if cubes and device.type == "cuda" else "torch",
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][row]``."""
        return self.projector.project(x.permute(2, 0, 1).contiguous())

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][row]`` to ``[y][x][z]``."""
        return self.projector.backproject(y.contiguous()).permute(1, 2, 0).contiguous()
