"""Slices by torch-radon, the maintained fork (github.com/carterbox/torch-radon, version 2), on CUDA.

Never run by this project: no machine of it has CUDA. The tests check the adapter against ASTRA, whose 2D conventions
torch-radon's own tests compare it with. Its back-projection is driven by pixels and its projection by rays, so the two
are not exactly adjoint; by how much was not measured.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.ct_geometry import CTGeometry


class TorchRadonSlices:
    """All slices as one batch. Works in pixels: in other units than those its kernels were wrong for some releases."""

    def __init__(self, geometry: CTGeometry, device: torch.device) -> None:
        import torch_radon

        pixel = geometry.spacing[2]
        if abs(geometry.spacing[1] - pixel) > 1e-9 * pixel:
            raise InputError("torch-radon is given square pixels", found=geometry.spacing[1:], hint="Use 'csr'.")
        positions = geometry.column_positions
        offset = max(abs(positions[0] + positions[-1]) / 2, abs(geometry.rotation_shift))
        if offset > 1e-6 * geometry.column_spacing:
            raise InputError(
                "torch-radon has detectors that are centred on the axis of rotation", found=f"{offset:.4g} mm off",
                hint="Use 'csr'.",
            )  # fmt: skip
        volume = torch_radon.volumes.Volume2D()
        volume.set_size(*geometry.shape[1:])
        angles = torch.as_tensor(np.asarray(geometry.angles), dtype=torch.float32, device=device)
        pitch = geometry.column_spacing / pixel
        self.pixel = pixel
        if geometry.kind == "parallel":
            self.projector = torch_radon.ParallelBeam(geometry.columns, angles, pitch, volume)
        else:
            near, far = geometry.source_radius / pixel, geometry.detector_radius / pixel
            self.projector = torch_radon.FanBeam(geometry.columns, angles, near, far - near, pitch, volume)

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][z]``; the first row of an image is at the largest y there."""
        images = x.permute(2, 0, 1).flip(1).contiguous()
        return (self.projector.forward(images) * self.pixel).permute(1, 2, 0).contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][z]`` to ``[y][x][z]``."""
        images = self.projector.backward(y.permute(2, 0, 1).contiguous()) * self.pixel
        return images.flip(1).permute(1, 2, 0).contiguous()
