"""ASTRA's CPU projectors for one slice of a CTGeometry; used by comparisons only."""

from __future__ import annotations

import numpy as np

from medrecon.physics.ct_geometry import CTGeometry


class AstraProjector:
    """Forward and adjoint of one slice. ASTRA's y axis points up: images are turned over on the way in and out."""

    def __init__(self, geometry: CTGeometry, kind: str) -> None:
        import astra

        self.astra = astra
        _, n_y, n_x = geometry.shape
        half_y, half_x = (0.5 * n * s for n, s in zip(geometry.shape[1:], geometry.spacing[1:], strict=True))
        self.volume = astra.create_vol_geom(n_y, n_x, -half_x, half_x, -half_y, half_y)
        angle = np.asarray(geometry.angles)
        u = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        d = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
        shift = geometry.detector_offset - geometry.rotation_shift
        pixel = u * geometry.column_spacing
        if geometry.kind == "parallel":
            vectors = np.concatenate([d, shift * u, pixel], axis=1)
            self.projections = astra.create_proj_geom("parallel_vec", geometry.columns, vectors)
        else:
            source = -geometry.source_radius * d - geometry.rotation_shift * u
            detector = (geometry.detector_radius - geometry.source_radius) * d + shift * u
            vectors = np.concatenate([source, detector, pixel], axis=1)
            self.projections = astra.create_proj_geom("fanflat_vec", geometry.columns, vectors)
        self.projector = astra.create_projector(kind, self.projections, self.volume)

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Data ``(views, columns)`` of an image ``(y, x)``."""
        identifier, data = self.astra.create_sino(np.ascontiguousarray(image[::-1]), self.projector)
        self.astra.data2d.delete(identifier)
        return data

    def adjoint(self, data: np.ndarray) -> np.ndarray:
        """Image ``(y, x)`` of data ``(views, columns)``."""
        identifier, image = self.astra.create_backprojection(np.ascontiguousarray(data), self.projector)
        self.astra.data2d.delete(identifier)
        return image[::-1]
