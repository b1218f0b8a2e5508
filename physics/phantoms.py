"""Ellipsoid phantoms with exact line integrals: the truth that projectors and reconstructions are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry

_POINTS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class EllipsoidPhantom:
    """A sum of ellipsoids of constant attenuation.

    All lengths in mm, coordinates ``(z, y, x)`` from the centre of the volume.

    Parameters
    ----------
    centres, semi_axes
        ``(n, 3)`` each. A semi-axis may be infinite along z: an elliptic cylinder.
    rotations
        ``(n,)`` radians about z, from x towards y.
    values
        ``(n,)`` attenuation that each ellipsoid adds, 1/mm.
    """

    centres: np.ndarray
    semi_axes: np.ndarray
    rotations: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        count = len(np.atleast_1d(self.values))
        for name, shape in (("centres", (count, 3)), ("semi_axes", (count, 3)), ("rotations", (count,))):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise InputError(f"wrong shape of a phantom's {name}", found=array.shape, expected=shape)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float64).reshape(count))
        if not (self.semi_axes > 0).all():
            raise InputError("semi-axes must be positive", found=self.semi_axes.min(), expected="mm")

    def scaled(self, factor: float) -> EllipsoidPhantom:
        """The phantom with all lengths multiplied by ``factor``."""
        return EllipsoidPhantom(self.centres * factor, self.semi_axes * factor, self.rotations, self.values)

    def _unit_frame(self, item: int) -> np.ndarray:
        """Matrix that maps ``(z, y, x)`` offsets to the frame in which ellipsoid ``item`` is the unit sphere."""
        cosine, sine = np.cos(self.rotations[item]), np.sin(self.rotations[item])
        rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        return rotation / self.semi_axes[item][:, None]

    def line_integrals(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Exact integrals along whole lines; ``origins`` and unit ``directions`` are ``(..., 3)`` as (z, y, x)."""
        total = np.zeros(np.broadcast_shapes(origins.shape, directions.shape)[:-1])
        for item, value in enumerate(self.values):
            frame = self._unit_frame(item)
            o, d = (origins - self.centres[item]) @ frame.T, directions @ frame.T
            # |o + s d|^2 = 1 has two roots in s; their distance is the chord.
            a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0
            total += value * 2.0 * np.sqrt(np.maximum(b * b - a * c, 0.0)) / a
        return total

    def project(self, geometry: CTGeometry | ConeGeometry) -> Tensor:
        """Exact data of point rays, float32.

        ``(views, slices, columns)`` through the centres of the slices; of a cone beam ``(views, rows, columns)``.
        """
        if isinstance(geometry, ConeGeometry):
            return self._project_cone(geometry)
        origins, directions = geometry.rays()
        slices = geometry.shape[0]
        heights = (np.arange(slices) - (slices - 1) / 2) * geometry.spacing[0]
        flat = np.zeros((*directions.shape[:-1], 1))
        d = np.concatenate([flat, directions[..., ::-1]], axis=-1)
        out = np.empty(geometry.data_shape, np.float32)
        for z, height in enumerate(heights):
            o = np.concatenate([flat + height, origins[..., ::-1]], axis=-1)
            out[:, z] = self.line_integrals(o, d)
        return torch.from_numpy(out)

    def _project_cone(self, geometry: ConeGeometry) -> Tensor:
        out = np.empty(geometry.data_shape, np.float32)
        for view, source in enumerate(geometry.source):
            away = geometry.pixel_positions(view) - source
            away /= np.linalg.norm(away, axis=-1, keepdims=True)
            out[view] = self.line_integrals(source[::-1], away[..., ::-1])
        return torch.from_numpy(out)

    def rasterise(
        self, shape: tuple[int, int, int], spacing: tuple[float, float, float], subsamples: tuple[int, int, int]
    ) -> Tensor:
        """Mean of ``subsamples`` (z, y, x) points per voxel on a grid centred at the origin, 1/mm, float32."""
        axes = [((np.arange(n * m) + 0.5) / m - n / 2) * s for n, m, s in zip(shape, subsamples, spacing, strict=True)]
        out = np.empty(shape, np.float32)
        rows = max(1, _POINTS_AT_ONCE // (len(axes[1]) * len(axes[2]) * subsamples[0]))
        for top in range(0, shape[0], rows):
            z = axes[0][top * subsamples[0] : (top + rows) * subsamples[0]]
            fine = self._sample(z, axes[1], axes[2])
            blocks = fine.reshape(-1, subsamples[0], shape[1], subsamples[1], shape[2], subsamples[2])
            out[top : top + rows] = blocks.mean(axis=(1, 3, 5))
        return torch.from_numpy(out)

    def _sample(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        total = np.zeros((len(z), len(y), len(x)))
        for item, value in enumerate(self.values):
            frame = self._unit_frame(item)
            dz, dy, dx = (axis - centre for axis, centre in zip((z, y, x), self.centres[item], strict=True))
            along_y = frame[1, 1] * dy[:, None] + frame[1, 2] * dx
            along_x = frame[2, 1] * dy[:, None] + frame[2, 2] * dx
            inside = along_y**2 + along_x**2 <= 1.0 - (frame[0, 0] * dz[:, None, None]) ** 2
            total[inside] += value
        return total


# Columns: value, semi-axes (x, y, z), centre (x, y, z) of the unit cube, rotation in degrees. The ellipses of
# L. A. Shepp and B. F. Logan, IEEE Trans. Nucl. Sci. 21, 21-43 (1974), extended to 3D as in Kak and Slaney (1988),
# table 3.2, with contrasts that the eye can see (P. A. Toft, PhD thesis, DTU 1996, section B.1). y points up here.
_SHEPP_LOGAN = np.array(
    [
        (1.0, 0.69, 0.92, 0.81, 0.0, 0.0, 0.0, 0.0),
        (-0.8, 0.6624, 0.874, 0.78, 0.0, -0.0184, 0.0, 0.0),
        (-0.2, 0.11, 0.31, 0.22, 0.22, 0.0, 0.0, -18.0),
        (-0.2, 0.16, 0.41, 0.28, -0.22, 0.0, 0.0, 18.0),
        (0.1, 0.21, 0.25, 0.41, 0.0, 0.35, -0.15, 0.0),
        (0.1, 0.046, 0.046, 0.05, 0.0, 0.1, 0.25, 0.0),
        (0.1, 0.046, 0.046, 0.05, 0.0, -0.1, 0.25, 0.0),
        (0.1, 0.046, 0.023, 0.05, -0.08, -0.605, 0.0, 0.0),
        (0.1, 0.023, 0.023, 0.02, 0.0, -0.606, 0.0, 0.0),
        (0.1, 0.023, 0.046, 0.02, 0.06, -0.605, 0.0, 0.0),
    ]
)


def shepp_logan(radius: float = 100.0, attenuation: float = 0.04) -> EllipsoidPhantom:
    """A head of ellipsoids after Shepp and Logan.

    ``radius`` is the half-width of the cube that holds it, mm; ``attenuation`` that of its skull, 1/mm, five times
    that of its brain.
    """
    value, ax, ay, az, cx, cy, cz, degrees = _SHEPP_LOGAN.T
    return EllipsoidPhantom(
        centres=np.stack([cz, -cy, cx], axis=1) * radius,
        semi_axes=np.stack([az, ay, ax], axis=1) * radius,
        rotations=-np.deg2rad(degrees),
        values=value * attenuation,
    )


def random_ellipsoids(seed: int, count: int = 12, radius: float = 100.0, attenuation: float = 0.02) -> EllipsoidPhantom:
    """A body ellipsoid of about water with ``count`` random ellipsoids in it, none of them below zero in sum.

    Everything lies within ``radius`` mm of the axis of rotation; ``attenuation`` is that of the body, 1/mm.
    """
    random = np.random.default_rng(seed)
    body = radius * np.array([0.95, *random.uniform(0.75, 0.95, 2)])
    distance = 0.6 * random.uniform(0, 1, count) ** 0.5
    angle = random.uniform(0, 2 * np.pi, count)
    height = random.uniform(-0.5, 0.5, count)
    centres = np.stack([height, distance * np.sin(angle), distance * np.cos(angle)], axis=1) * body
    # At most `count` ellipsoids overlap: negative ones share the body's attenuation.
    values = random.uniform(-0.9 / count, 0.5, count)
    return EllipsoidPhantom(
        centres=np.concatenate([np.zeros((1, 3)), centres]),
        semi_axes=np.concatenate([body[None], random.uniform(0.05, 0.3, (count, 3)) * radius * 0.75]),
        rotations=np.concatenate([random.uniform(0, np.pi, 1), random.uniform(0, np.pi, count)]),
        values=attenuation * np.concatenate([[1.0], values]),
    )
