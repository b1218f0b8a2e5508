"""CT acquisition geometry in millimetres: parallel beam, fan beam with a flat or a curved detector.

Conventions (docs/conventions.md)
---------------------------------
In-plane coordinates are ``(x, y)`` in mm with the origin at the axis of rotation, which is the centre of the
volume; ``x`` grows with the column index of an image and ``y`` with its row index (downwards on a screen; left
and posterior for a volume stored in LPS order). At view angle ``t``, in radians,

- the detector axis is ``u = (cos t, sin t)``,
- rays run along ``d = (-sin t, cos t)``; at ``t = 0`` they run down the columns of the image,
- a source stands at ``-source_origin * d``: at ``t = 0`` above the image (in front of a supine patient), and it
  moves clockwise on the screen as ``t`` grows.

Detector column ``c`` lies at ``u = (c - (columns - 1) / 2) * column_spacing + detector_offset``, measured on
the detector (along the arc if it is curved). ``rotation_shift`` moves the axis of rotation, and the volume with
it, along ``+u`` of every view, away from the line through the source and the detector's origin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.errors import InputError, TooLarge
from medrecon.physics.ct_checks import (
    MAX_LENGTH,
    as_angles,
    as_count,
    as_grid,
    as_number,
    as_positive,
    check_distances,
    covering_columns,
    narrowest_side,
    slice_radius,
    view_angles,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("parallel", "fan-flat", "fan-curved")
CLINICAL_SOURCE_ORIGIN = 595.0
CLINICAL_SOURCE_DETECTOR = 1085.6
"""Default distances of a fan, mm: those of a common clinical gantry."""
MAX_RAYS = 100_000_000
"""Most rays per slice: their table takes 36 bytes each."""


@dataclass(frozen=True)
class CTGeometry:
    """Where the rays of a slice-by-slice CT run, and the voxel grid that they cross. All lengths in mm.

    Parameters
    ----------
    kind
        ``"parallel"``, ``"fan-flat"`` or ``"fan-curved"``.
    angles
        View angles in radians, in the order of measurement; any set of views.
    columns, column_spacing
        Number of detector pixels in a row, and their pitch on the detector.
    shape, spacing
        Voxels and voxel size of the volume along ``(z, y, x)``; its centre lies on the axis of rotation.
    detector_offset
        Shift of the detector's centre along ``u``.
    rotation_shift
        Shift of the axis of rotation along ``u`` (centre-of-rotation error).
    source_origin, source_detector
        Distance of the source from the axis of rotation and from the detector; fan beams only.
    """

    kind: str
    angles: tuple[float, ...]
    columns: int
    column_spacing: float
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    detector_offset: float = 0.0
    rotation_shift: float = 0.0
    source_origin: float | None = None
    source_detector: float | None = None

    # --- constructors -------------------------------------------------------------------------------------
    @classmethod
    def parallel(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        n_views: int | None = None,
        *,
        arc: float = math.pi,
        start: float = 0.0,
        angles: Sequence[float] | np.ndarray | None = None,
        columns: int | None = None,
        column_spacing: float | None = None,
        detector_offset: float = 0.0,
        rotation_shift: float = 0.0,
    ) -> CTGeometry:
        """Parallel beam: ``n_views`` equally spaced over ``[start, start + arc)``, or explicit ``angles``.

        Columns are as wide as a pixel and cover the diagonal of a slice unless told otherwise.
        """
        shape, spacing = as_grid(shape, spacing)
        pitch = min(spacing[1:]) if column_spacing is None else column_spacing
        if columns is None:
            margin = abs(detector_offset) + abs(rotation_shift)
            columns = covering_columns(slice_radius(shape, spacing) + margin, pitch, narrowest_side(shape, spacing))
        return cls(
            kind="parallel",
            angles=view_angles(n_views, arc, start, angles),
            columns=columns,
            column_spacing=pitch,
            shape=shape,
            spacing=spacing,
            detector_offset=detector_offset,
            rotation_shift=rotation_shift,
        )

    @classmethod
    def fan(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        n_views: int | None = None,
        *,
        detector: str = "flat",
        arc: float | None = None,
        start: float = 0.0,
        angles: Sequence[float] | np.ndarray | None = None,
        source_origin: float = CLINICAL_SOURCE_ORIGIN,
        source_detector: float = CLINICAL_SOURCE_DETECTOR,
        columns: int | None = None,
        column_spacing: float | None = None,
        detector_offset: float = 0.0,
        rotation_shift: float = 0.0,
    ) -> CTGeometry:
        """Fan beam on a flat or curved ``detector``; a full turn unless ``arc`` or ``angles`` say otherwise.

        Columns are one pixel wide at the axis of rotation and cover the circle around a slice unless told
        otherwise. For the shortest complete scan take ``arc = math.pi + geometry.fan_angle``.
        """
        shape, spacing = as_grid(shape, spacing)
        kind = f"fan-{detector}"
        check_distances(kind, source_origin, source_detector, slice_radius(shape, spacing))
        pitch = column_spacing
        if pitch is None:
            pitch = min(spacing[1:]) * source_detector / source_origin
        if columns is None:
            reach = min(0.999, (slice_radius(shape, spacing) + abs(rotation_shift)) / source_origin)
            half_angle = math.asin(reach)
            half_width = source_detector * (math.tan(half_angle) if detector == "flat" else half_angle)
            side = narrowest_side(shape, spacing) * source_detector / source_origin
            columns = covering_columns(half_width + abs(detector_offset), pitch, side)
        return cls(
            kind=kind,
            angles=view_angles(n_views, 2 * math.pi if arc is None else arc, start, angles),
            columns=columns,
            column_spacing=pitch,
            shape=shape,
            spacing=spacing,
            detector_offset=detector_offset,
            rotation_shift=rotation_shift,
            source_origin=source_origin,
            source_detector=source_detector,
        )

    # --- checks -------------------------------------------------------------------------------------------
    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("unknown kind of CT geometry", found=repr(self.kind), expected=" | ".join(KINDS))
        shape, spacing = as_grid(self.shape, self.spacing)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "angles", as_angles(self.angles))
        object.__setattr__(self, "columns", as_count("number of detector columns", self.columns))
        as_positive("detector column spacing", self.column_spacing)
        for name in ("detector_offset", "rotation_shift"):
            if not abs(as_number(name, getattr(self, name))) < MAX_LENGTH:
                raise InputError(f"{name} must be finite", found=getattr(self, name), expected="millimetres")
        if self.kind == "parallel":
            if self.source_origin is not None or self.source_detector is not None:
                raise InputError(
                    "a parallel beam has no source distance",
                    found=(self.source_origin, self.source_detector),
                    hint="Use a fan geometry, or leave both out.",
                )
        else:
            check_distances(self.kind, self.source_origin, self.source_detector, self.radius)
        for name in ("column_spacing", "detector_offset", "rotation_shift", "source_origin", "source_detector"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        self._check_size()
        if self.kind == "fan-curved" and np.abs(self.column_positions).max() / self.detector_radius >= math.pi / 2:
            raise InputError(
                "the curved detector spans more than half a turn as seen from the source",
                found=f"{self.columns} columns of {self.column_spacing} mm at {self.source_detector} mm",
                hint="Column spacing is the arc length between columns, in mm.",
            )
        self._check_coverage()

    def _check_size(self) -> None:
        if self.n_views * self.columns > MAX_RAYS:
            raise TooLarge(
                "too many rays in a slice",
                found=f"{self.n_views} views of {self.columns} columns",
                expected=f"at most {MAX_RAYS:,} in all",
            )

    def _check_coverage(self) -> None:
        """Every view must see the volume: otherwise its data are zero whatever the object."""
        origins, directions = self.rays()
        half_y, half_x = (0.5 * n * s for n, s in zip(self.shape[1:], self.spacing[1:], strict=True))
        normal_x, normal_y = -directions[..., 1], directions[..., 0]
        distance = np.abs(normal_x * origins[..., 0] + normal_y * origins[..., 1])
        seen = (distance < np.abs(normal_x) * half_x + np.abs(normal_y) * half_y).any(axis=1)
        if not seen.all():
            blind = np.flatnonzero(~seen)
            raise InputError(
                f"the geometry misses the volume: no ray of {blind.size} of {seen.size} views crosses it",
                found=f"first blind view {blind[0]}, detector offset {self.detector_offset} mm, "
                f"rotation shift {self.rotation_shift} mm",
                expected=f"rays through {2 * half_x:g} x {2 * half_y:g} mm around the axis of rotation",
                hint="Lengths are in millimetres, not in pixels.",
            )

    # --- derived ------------------------------------------------------------------------------------------
    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self.angles)

    @property
    def data_shape(self) -> tuple[int, int, int]:
        """Shape ``(views, slices, columns)`` of the measured data."""
        return self.n_views, self.shape[0], self.columns

    @property
    def radius(self) -> float:
        """Radius of the circle around a slice, mm."""
        return slice_radius(self.shape, self.spacing)

    @property
    def detector_radius(self) -> float:
        """Distance from source to detector of a fan, mm."""
        assert self.source_detector is not None
        return self.source_detector

    @property
    def source_radius(self) -> float:
        """Distance from source to axis of rotation of a fan, mm."""
        assert self.source_origin is not None
        return self.source_origin

    @property
    def magnification(self) -> float:
        """Size on the detector of an object at the axis of rotation; 1 for a parallel beam."""
        if self.source_origin is None or self.source_detector is None:
            return 1.0
        return self.source_detector / self.source_origin

    @cached_property
    def column_positions(self) -> np.ndarray:
        """Position of each column along the detector, mm, detector offset included."""
        return (np.arange(self.columns) - (self.columns - 1) / 2) * self.column_spacing + self.detector_offset

    @cached_property
    def fan_angle(self) -> float:
        """Full opening angle of the fan, twice its larger side, radians; 0 for a parallel beam."""
        if self.kind == "parallel":
            return 0.0
        edge = float(np.abs(self.column_positions).max()) + 0.5 * self.column_spacing
        return 2 * (math.atan(edge / self.detector_radius) if self.kind == "fan-flat" else edge / self.detector_radius)

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """A point ``(x, y)`` in mm and the unit direction of every ray, each ``(views, columns, 2)``."""
        angles = np.asarray(self.angles)[:, None]
        u = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        d = np.stack([-np.sin(angles), np.cos(angles)], axis=-1)
        s = self.column_positions[None, :, None]
        if self.kind == "parallel":
            origins = (s - self.rotation_shift) * u
            return origins, np.broadcast_to(d, origins.shape)
        if self.kind == "fan-flat":
            directions = (self.detector_radius * d + s * u) / np.hypot(self.detector_radius, s)
        else:
            directions = np.cos(s / self.detector_radius) * d + np.sin(s / self.detector_radius) * u
        sources = -self.source_radius * d - self.rotation_shift * u
        return np.broadcast_to(sources, directions.shape), directions

    # --- variants -----------------------------------------------------------------------------------------
    def with_slices(self, slices: int) -> CTGeometry:
        """The same geometry for another number of slices."""
        return replace(self, shape=(slices, *self.shape[1:]))

    def with_views(self, views: Sequence[int]) -> CTGeometry:
        """The same geometry with the views of these indices alone, in this order."""
        return replace(self, angles=tuple(self.angles[view] for view in views))

    def refined(self, grid: int, detector: int) -> CTGeometry:
        """Each pixel of a slice split into ``grid`` x ``grid``, each detector column into ``detector`` parts."""
        z, y, x = self.shape
        return replace(
            self,
            columns=self.columns * detector,
            column_spacing=self.column_spacing / detector,
            shape=(z, y * grid, x * grid),
            spacing=(self.spacing[0], self.spacing[1] / grid, self.spacing[2] / grid),
        )

    def fit_volume(self, pixel: float | None = None) -> CTGeometry:
        """The same rays with slices that fill the field of view; see :func:`medrecon.physics.ct_view.fitted_grid`."""
        from medrecon.physics.ct_view import fitted_grid

        shape, spacing = fitted_grid(self, pixel)
        return replace(self, shape=shape, spacing=spacing)

    # --- files and people ---------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and HDF5; ``from_dict`` reads them back."""
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                values[item.name] = list(value) if isinstance(value, tuple) else value
        return {**values, "length_unit": "mm", "angle_unit": "rad"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CTGeometry:
        """The geometry that ``to_dict`` described. Raises InputError for missing or unknown entries."""
        if not isinstance(values, Mapping):
            raise InputError("the description of a CT geometry must be a table", found=type(values).__name__)
        rest = dict(values)
        for name, unit in (("length_unit", "mm"), ("angle_unit", "rad")):
            if (found := rest.pop(name, unit)) != unit:
                raise InputError(f"{name} of a CT geometry", found=repr(found), expected=repr(unit))
        known = {item.name for item in fields(cls)}
        required = ["kind", "angles", "columns", "column_spacing", "shape", "spacing"]
        missing = [name for name in required if name not in rest]
        unknown = sorted(set(rest) - known)
        if missing or unknown:
            raise InputError(
                "the description of a CT geometry is not complete or has entries that nothing reads",
                found=f"missing {missing}, unknown {unknown}",
                expected=", ".join(sorted(known)),
            )
        return cls(**rest)

    def describe(self) -> str:
        """A few lines for people: beam, views, detector, grid, field of view, and what looks unusual."""
        z, y, x = self.shape
        span = math.degrees(max(self.angles) - min(self.angles))
        lines = [
            f"{self.kind} beam, {self.n_views} views over {span:.1f} degrees (first to last)",
            f"detector: {self.columns} columns of {self.column_spacing:g} mm, offset {self.detector_offset:g} mm",
            f"volume: {z} x {y} x {x} voxels (z, y, x) of {' x '.join(f'{s:g}' for s in self.spacing)} mm",
            f"field of view: {2 * self.field_radius:.1f} mm across; the slice measures {y * self.spacing[1]:.1f} x "
            f"{x * self.spacing[2]:.1f} mm (y, x)",
        ]
        if self.kind != "parallel":
            lines.append(
                f"source to axis {self.source_origin:g} mm, to detector {self.source_detector:g} mm; magnification "
                f"{self.magnification:.3f}; a column is {self.column_spacing / self.magnification:.3g} mm at the axis"
            )
        if self.rotation_shift:
            lines.append(f"axis of rotation shifted by {self.rotation_shift:g} mm")
        return "\n".join(lines + [f"note: {note}" for note in self.notes()])

    def plot(self) -> Figure:
        """Source positions, two detectors and the slice from above, as a matplotlib figure."""
        from medrecon.physics.ct_view import plot

        return plot(self)

    @property
    def field_radius(self) -> float:
        """Radius of the largest circle around the axis of rotation that every view sees whole, mm; 0 if none."""
        left = -self._lateral(float(self.column_positions[0]) - 0.5 * self.column_spacing)
        right = self._lateral(float(self.column_positions[-1]) + 0.5 * self.column_spacing)
        return max(0.0, min(left, right))

    def _lateral(self, position: float) -> float:
        """Signed distance from the axis of rotation to the ray that ends at ``position`` on the detector."""
        if self.kind == "parallel":
            return position - self.rotation_shift
        ratio = position / self.detector_radius
        angle = math.atan(ratio) if self.kind == "fan-flat" else ratio
        return self.source_radius * math.sin(angle) - self.rotation_shift * math.cos(angle)

    def notes(self) -> list[str]:
        """What is unusual enough to tell the user; empty for an ordinary geometry."""
        out = []
        inscribed = 0.5 * min(n * s for n, s in zip(self.shape[1:], self.spacing[1:], strict=True))
        if self.field_radius < 0.98 * inscribed:
            out.append("not every view sees the whole slice: parts outside the field of view are truncated")
        pixel = min(self.spacing[1:])
        if self.column_spacing / self.magnification > 2.5 * pixel:
            out.append("detector columns are much wider than a pixel at the axis of rotation")
        if self.source_detector is not None and self.source_detector - (self.source_origin or 0) < self.radius:
            out.append("corners of the slice reach behind the detector; rays are followed through the whole slice")
        step = (max(self.angles) - min(self.angles)) / max(1, self.n_views - 1)
        needed = math.pi + self.fan_angle
        if self.n_views > 1 and max(self.angles) - min(self.angles) + 1.5 * step < needed * 0.98:
            out.append(f"limited angle: a complete scan covers {math.degrees(needed):.0f} degrees")
        return out
