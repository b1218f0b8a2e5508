"""Projectors of the ASTRA toolbox: 2D on the CPU, cone beams on CUDA. ASTRA is under the GPL; it is not bundled.

Its voxels must be square in 2D. Its adjoints are exact on the CPU; on CUDA, forward and back-projection are two
different interpolations that are adjoint to a few parts in a thousand.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.exchange import export


class AstraSlices:
    """One slice after the other, by Joseph's method for parallel beams and Siddon's for fans."""

    def __init__(self, geometry: CTGeometry) -> None:
        import astra

        if abs(geometry.spacing[1] - geometry.spacing[2]) > 1e-9 * geometry.spacing[1]:
            raise InputError(
                "ASTRA's 2D projectors take square pixels", found=geometry.spacing[1:], hint="Use 'numba'."
            )
        self.astra = astra
        values = export(geometry, "astra")
        self.shape = (geometry.n_views, geometry.columns)
        model = "linear" if geometry.kind == "parallel" else "line_fanflat"
        self.projector = astra.create_projector(model, values["projections"], values["volume"])

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][z]``."""
        return self._each(x, self.astra.create_sino)

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][z]`` to ``[y][x][z]``."""
        return self._each(y, self.astra.create_backprojection)

    def _each(self, stack: Tensor, step) -> Tensor:  # type: ignore[no-untyped-def]
        planes = []
        for plane in stack.permute(2, 0, 1).numpy():
            identifier, result = step(np.ascontiguousarray(plane), self.projector)
            self.astra.data2d.delete(identifier)
            planes.append(torch.from_numpy(np.asarray(result, dtype=np.float32)))
        return torch.stack(planes, dim=2)

    def __del__(self) -> None:
        if hasattr(self, "projector"):
            self.astra.projector.delete(self.projector)


class AstraCone:
    """Cone beams on a CUDA device without a copy to the host. Never run by this project: no machine of it has CUDA."""

    def __init__(self, geometry: ConeGeometry, device: torch.device) -> None:
        import astra
        import astra.experimental

        values = export(geometry, "astra")
        self.astra, self.device = astra, device
        self.volume_shape, self.data_shape = geometry.shape, geometry.data_shape
        self.projector = astra.create_projector("cuda3d", values["projections"], values["volume"])

    def forward(self, x: Tensor) -> Tensor:
        """``[y][x][z]`` to ``[view][column][row]``."""
        views, rows, columns = self.data_shape
        data = torch.zeros((rows, views, columns), device=self.device)
        self.astra.experimental.direct_FP3D(self.projector, x.permute(2, 0, 1).contiguous(), data)
        return data.permute(1, 2, 0).contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """``[view][column][row]`` to ``[y][x][z]``."""
        volume = torch.zeros(self.volume_shape, device=self.device)
        self.astra.experimental.direct_BP3D(self.projector, volume, y.permute(2, 0, 1).contiguous())
        return volume.permute(1, 2, 0).contiguous()
