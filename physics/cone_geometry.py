"""Cone-beam geometry in millimetres: any source and detector per view, and the scans that are usual.

Conventions (docs/conventions.md)
---------------------------------
Coordinates are ``(x, y, z)`` in mm with the origin at the centre of the volume; ``x`` grows with the column of a
slice, ``y`` with its row and ``z`` with the slice. Detector row ``r`` and column ``c`` of view ``k`` lie at
``centre + (c - (columns - 1) / 2) u + (r - (rows - 1) / 2) v``; on a curved detector ``u`` is followed along an arc
around the source. In a circular scan at angle ``t`` the source stands at ``source_origin * (sin t, -cos t, 0)``, as in
a fan, and rows run along ``+z``. Data are ``(views, rows, columns)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.errors import InputError, TooLarge
from medrecon.physics.cone_checks import check_arc, check_coverage, check_sources
from medrecon.physics.cone_layout import as_vectors, circular_vectors, covering_rows
from medrecon.physics.ct_checks import (
    as_count,
    as_grid,
    as_number,
    check_distances,
    covering_columns,
    narrowest_side,
    slice_radius,
    view_angles,
)
from medrecon.physics.ct_geometry import CLINICAL_SOURCE_DETECTOR, CLINICAL_SOURCE_ORIGIN, CTGeometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("cone-flat", "cone-curved")
MAX_LINES = 100_000_000
"""Most columns of all views: their table takes 100 bytes each."""


@dataclass(frozen=True, eq=False)
class ConeGeometry:
    """Where the rays of a cone-beam scan run, and the voxel grid that they cross. All lengths in mm.

    Parameters
    ----------
    vectors
        ``(views, 12)``: source, detector centre, ``u`` (step of a column) and ``v`` (step of a row) of each view.
    rows, columns
        Number of detector pixels.
    shape, spacing
        Voxels and voxel size of the volume along ``(z, y, x)``; its centre is the origin.
    detector
        ``"flat"``, or ``"curved"``: a cylinder along ``v`` around the source, ``u`` measured along the arc.
    """

    vectors: np.ndarray
    rows: int
    columns: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    detector: str = "flat"

    # --- constructors -------------------------------------------------------------------------------------
    @classmethod
    def circular(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        n_views: int | None = None,
        *,
        arc: float | None = None,
        short: bool = False,
        start: float = 0.0,
        angles: Sequence[float] | np.ndarray | None = None,
        source_origin: float = CLINICAL_SOURCE_ORIGIN,
        source_detector: float = CLINICAL_SOURCE_DETECTOR,
        rows: int | None = None,
        columns: int | None = None,
        row_spacing: float | None = None,
        column_spacing: float | None = None,
        detector_offset: float = 0.0,
        row_offset: float = 0.0,
        rotation_shift: float = 0.0,
        tilt: Sequence[float] = (0.0, 0.0, 0.0),
        detector: str = "flat",
        pitch: float = 0.0,
    ) -> ConeGeometry:
        """A source on a circle around the z axis; a full turn unless ``arc``, ``short`` or ``angles`` say otherwise.

        Parameters
        ----------
        arc, short, start, angles
            ``n_views`` equally spaced over ``[start, start + arc)`` radians, explicit angles, or with ``short`` the
            shortest complete scan: half a turn plus the fan angle.
        rows, columns, row_spacing, column_spacing
            Detector; by default pixels the size of a voxel at the axis, enough of them to see the whole volume.
        detector_offset, row_offset
            Shift of the detector's centre along ``u`` (half-fan) and along ``v``.
        rotation_shift
            Shift of the axis of rotation, and the volume with it, along ``+u`` of every view.
        tilt
            Turns of a flat detector about ``u``, about ``v`` and in its plane, radians.
        pitch
            Feed of the source along z per turn, centred on the volume; see :meth:`helical`.
        """
        shape, spacing = as_grid(shape, spacing)
        radius = slice_radius(shape, spacing)
        check_distances("cone", source_origin, source_detector, radius)
        magnification = source_detector / source_origin
        column_pitch = min(spacing[1:]) * magnification if column_spacing is None else column_spacing
        row_pitch = spacing[0] * magnification if row_spacing is None else row_spacing
        reach = min(0.999, (radius + abs(rotation_shift)) / source_origin)
        if columns is None:
            half = source_detector * (math.tan(math.asin(reach)) if detector == "flat" else math.asin(reach))
            side = narrowest_side(shape, spacing) * magnification
            columns = covering_columns(half + abs(detector_offset), column_pitch, side)
        if rows is None:
            height = 0.5 * shape[0] * spacing[0] if pitch == 0 else 0.5 * abs(pitch)
            seen = covering_rows(height, radius, source_origin, source_detector)
            rows = covering_columns(seen + abs(row_offset), row_pitch, shape[0] * spacing[0] * magnification)
        if short and (arc is not None or angles is not None):
            raise InputError("a short scan has its own arc", found="short with arc or angles")
        if short:
            edge = 0.5 * as_count("columns", columns) * column_pitch + abs(detector_offset)
            fan = edge / source_detector if detector == "curved" else math.atan(edge / source_detector)
            arc = math.pi + 2 * fan
        turns = np.asarray(view_angles(n_views, 2 * math.pi if arc is None else arc, start, angles))
        vectors = circular_vectors(
            turns,
            _heights(turns, pitch),
            detector=detector,
            source_origin=source_origin,
            source_detector=source_detector,
            column_spacing=column_pitch,
            row_spacing=row_pitch,
            detector_offset=detector_offset,
            row_offset=row_offset,
            rotation_shift=rotation_shift,
            tilt=tilt,
        )
        return cls(vectors, rows, columns, shape, spacing, detector)

    @classmethod
    def helical(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        views_per_turn: int,
        pitch: float,
        *,
        turns: float | None = None,
        start: float = 0.0,
        detector: str = "curved",
        **settings: Any,
    ) -> ConeGeometry:
        """A source on a helix around the z axis, centred on the volume.

        ``pitch`` is the feed along z per turn, mm; negative for the other sense. Without ``turns`` the source travels
        the height of the volume and a turn more. Other ``settings`` are those of :meth:`circular`.
        """
        shape, spacing = as_grid(shape, spacing)
        if not abs(as_number("pitch", pitch)) > 0:
            raise InputError("the pitch of a helix is not zero", found=pitch, expected="mm per turn")
        length = shape[0] * spacing[0] / abs(pitch) + 1 if turns is None else as_number("turns", turns)
        count = max(1, round(length * as_count("views per turn", views_per_turn)))
        angle = start + 2 * math.pi * np.arange(count) / views_per_turn
        feed = pitch * (angle - angle.mean()) / (2 * math.pi)
        flat = cls.circular(
            shape, spacing, angles=angle % (2 * math.pi), detector=detector,
            **({"rows": None, "pitch": pitch} | settings),
        )  # fmt: skip
        vectors = flat.vectors.copy()
        vectors[:, (2, 5)] += (feed - flat.vectors[:, 2])[:, None]
        return replace(flat, vectors=vectors)

    # --- checks -------------------------------------------------------------------------------------------
    def __post_init__(self) -> None:
        if self.detector not in ("flat", "curved"):
            raise InputError("unknown detector", found=repr(self.detector), expected="flat | curved")
        shape, spacing = as_grid(self.shape, self.spacing)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "vectors", as_vectors(self.vectors))
        object.__setattr__(self, "rows", as_count("number of detector rows", self.rows))
        object.__setattr__(self, "columns", as_count("number of detector columns", self.columns))
        if self.n_views * self.columns > MAX_LINES:
            raise TooLarge(
                "too many detector columns in all views", found=self.n_views * self.columns, expected=f"{MAX_LINES:,}"
            )
        if self.detector == "curved":
            check_arc(self)
        check_sources(self)
        check_coverage(self)

    # --- derived ------------------------------------------------------------------------------------------
    @property
    def kind(self) -> str:
        """``"cone-flat"`` or ``"cone-curved"``."""
        return f"cone-{self.detector}"

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self.vectors)

    @property
    def data_shape(self) -> tuple[int, int, int]:
        """Shape ``(views, rows, columns)`` of the measured data."""
        return self.n_views, self.rows, self.columns

    @property
    def source(self) -> np.ndarray:
        """Position of the source in each view, ``(views, 3)`` as (x, y, z)."""
        return self.vectors[:, :3]

    @property
    def centre(self) -> np.ndarray:
        """Position of the detector's centre in each view."""
        return self.vectors[:, 3:6]

    @cached_property
    def column_pitch(self) -> np.ndarray:
        """Distance of detector columns in each view."""
        return np.linalg.norm(self.vectors[:, 6:9], axis=1)

    @cached_property
    def row_pitch(self) -> np.ndarray:
        """Distance of detector rows in each view."""
        return np.linalg.norm(self.vectors[:, 9:12], axis=1)

    @cached_property
    def across(self) -> np.ndarray:
        """Unit vector from column to column in each view."""
        return self.vectors[:, 6:9] / self.column_pitch[:, None]

    @cached_property
    def up(self) -> np.ndarray:
        """Unit vector from row to row in each view."""
        return self.vectors[:, 9:12] / self.row_pitch[:, None]

    @cached_property
    def normal(self) -> np.ndarray:
        """Unit normal of the detector (at its centre if it is curved), away from the source."""
        normal = np.cross(self.up, self.across)
        normal /= np.linalg.norm(normal, axis=1)[:, None]
        side = np.sign((normal * (self.centre - self.source)).sum(axis=1))
        return normal * side[:, None]

    @cached_property
    def source_detector(self) -> np.ndarray:
        """Distance from source to detector in each view, along the detector's normal."""
        return ((self.centre - self.source) * self.normal).sum(axis=1)

    @cached_property
    def angles(self) -> np.ndarray:
        """Angle of each view about z, radians in [0, 2 pi), as in a circular scan."""
        x, y = (self.normal[:, 0], self.normal[:, 1]) if self.detector == "flat" else -self.source[:, :2].T
        return np.round(np.arctan2(-x, y), 12) % (2 * math.pi)

    @cached_property
    def source_origin(self) -> np.ndarray:
        """Distance of the source from the z axis in each view."""
        return np.hypot(self.source[:, 0], self.source[:, 1])

    @property
    def magnification(self) -> float:
        """Size on the detector of an object at the axis of rotation; mean over views."""
        return float((self.source_detector / self.source_origin).mean())

    @property
    def axial(self) -> bool:
        """Whether detector rows run along ``+z`` or all along ``-z``: the case with the faster kernels."""
        return bool((np.abs(self.up[:, 2] - np.sign(self.up[0, 2])) < 1e-12).all())

    def pixel_positions(self, view: int) -> np.ndarray:
        """Centres of the detector pixels of a view, ``(rows, columns, 3)`` as (x, y, z)."""
        column, row = np.arange(self.columns) - (self.columns - 1) / 2, np.arange(self.rows) - (self.rows - 1) / 2
        return self._along_row(view, column)[None] + row[:, None, None] * self.vectors[view, 9:12]

    def _along_row(self, view: int, column: np.ndarray) -> np.ndarray:
        """Positions on the middle row, ``column`` counted from the centre."""
        if self.detector == "flat":
            return self.centre[view] + column[:, None] * self.vectors[view, 6:9]
        radius = self.source_detector[view]
        turn = (column * self.column_pitch[view] / radius)[:, None]
        arc = (np.cos(turn) - 1) * self.normal[view] + np.sin(turn) * self.across[view]
        return self.centre[view] + radius * arc

    def middle_row(self) -> np.ndarray:
        """Centres of the pixels half-way up the detector, ``(views, columns, 3)``."""
        column = np.arange(self.columns) - (self.columns - 1) / 2
        return np.stack([self._along_row(view, column) for view in range(self.n_views)])

    def project_points(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where points ``(n, 3)`` fall on the detector: column, row, depth over the detector's; each ``(views, n)``.

        Depth is positive in front of the source and 1 at the detector.
        """
        away = points[None] - self.source[:, None]
        frame = np.stack([self.vectors[:, 6:9], self.vectors[:, 9:12], self.centre - self.source], axis=2)
        a, b, depth = np.moveaxis(np.linalg.solve(frame, away.transpose(0, 2, 1)), 1, 0)
        if self.detector == "flat":
            safe = np.where(depth == 0, 1e-300, depth)
            return a / safe + (self.columns - 1) / 2, b / safe + (self.rows - 1) / 2, depth
        radius, pitch = self.source_detector[:, None], self.column_pitch[:, None]
        turn = np.arctan2(a * pitch, depth * radius)
        reach = np.maximum(np.hypot(a * pitch, depth * radius) / radius, 1e-300)
        row = b / reach + self._rise * (depth / reach - 1.0)
        return turn * radius / pitch + (self.columns - 1) / 2, row + (self.rows - 1) / 2, reach * np.sign(depth)

    @cached_property
    def _rise(self) -> np.ndarray:
        """Height of the detector's centre above the source, in rows, ``(views, 1)``."""
        return (((self.centre - self.source) * self.up).sum(axis=1) / self.row_pitch)[:, None]

    # --- variants -----------------------------------------------------------------------------------------
    def with_grid(
        self, shape: Sequence[int], spacing: Sequence[float], centre: Sequence[float] = (0.0, 0.0, 0.0)
    ) -> ConeGeometry:
        """The same rays through another grid, whose centre lies at ``centre`` (x, y, z) mm of this one."""
        shift = np.tile(np.concatenate([np.asarray(centre, dtype=np.float64)] * 2 + [np.zeros(6)]), (1, 1))
        grid = as_grid(tuple(shape), tuple(spacing))
        return replace(self, vectors=self.vectors - shift, shape=grid[0], spacing=grid[1])

    def select(self, views: Sequence[int] | np.ndarray | slice) -> ConeGeometry:
        """Some of the views."""
        return replace(self, vectors=self.vectors[views])

    def refined(self, grid: int, detector: int) -> ConeGeometry:
        """Each voxel split into ``grid`` parts along every axis, each detector pixel into ``detector`` along both."""
        scale = np.concatenate([np.ones(6), np.full(6, 1 / detector)])
        return replace(
            self,
            vectors=self.vectors * scale,
            rows=self.rows * detector,
            columns=self.columns * detector,
            shape=tuple(n * grid for n in self.shape),  # type: ignore[arg-type]
            spacing=tuple(s / grid for s in self.spacing),  # type: ignore[arg-type]
        )

    def binned(self, rows: int, columns: int) -> ConeGeometry:
        """``rows`` x ``columns`` detector pixels merged into one; what is left over at the far ends is cut off."""
        kept = self.cropped(slice(0, self.rows // rows * rows), slice(0, self.columns // columns * columns))
        scale = np.concatenate([np.ones(6), np.full(3, columns), np.full(3, rows)])
        return replace(kept, vectors=kept.vectors * scale, rows=kept.rows // rows, columns=kept.columns // columns)

    def cropped(self, rows: slice, columns: slice) -> ConeGeometry:
        """A part of the detector; slices without a step."""
        spans = []
        for part, count in ((rows, self.rows), (columns, self.columns)):
            first, last, step = part.indices(count)
            if step != 1 or last <= first:
                raise InputError("a part of a detector is a run of pixels", found=part, expected=f"within {count}")
            spans.append((last - first, 0.5 * (first + last - count)))
        (n_rows, up), (n_columns, across) = spans
        vectors = self.vectors.copy()
        if self.detector == "flat":
            vectors[:, 3:6] += across * vectors[:, 6:9] + up * vectors[:, 9:12]
        else:
            turn = (across * self.column_pitch / self.source_detector)[:, None]
            moved = np.stack([self._along_row(view, np.array([across]))[0] for view in range(self.n_views)])
            vectors[:, 3:6] = moved + up * vectors[:, 9:12]
            turned = np.cos(turn) * self.across - np.sin(turn) * self.normal
            vectors[:, 6:9] = turned * self.column_pitch[:, None]
        return replace(self, vectors=vectors, rows=n_rows, columns=n_columns)

    def fit_volume(self, voxel: float | Sequence[float] | None = None) -> ConeGeometry:
        """The same rays with a grid that fills the field of view; see :func:`medrecon.physics.cone_view.fitted_grid`.

        ``voxel`` is one size or ``(z, y, x)`` in mm; by default a detector pixel as large as it is at the axis.
        """
        from medrecon.physics.cone_view import fitted_grid

        return self.with_grid(*fitted_grid(self, voxel))

    def central_fan(self) -> CTGeometry:
        """The fan beam in the plane of a circular scan: distances, angles and detector row.

        Raises
        ------
        InputError
            The source does not run on a circle around the z axis, or the detector does not keep its place.
        """
        from medrecon.physics.cone_view import central_fan

        return central_fan(self)

    # --- files and people ---------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConeGeometry) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.vectors.tobytes(), self.rows, self.columns, self.shape, self.spacing, self.detector

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and HDF5; ``from_dict`` reads them back, to the bit."""
        return {
            "kind": self.kind,
            "angles": self.angles.tolist(),
            "vectors": self.vectors.tolist(),
            "rows": self.rows,
            "columns": self.columns,
            "shape": list(self.shape),
            "spacing": list(self.spacing),
            "length_unit": "mm",
            "angle_unit": "rad",
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConeGeometry:
        """The geometry that ``to_dict`` described, or a circular scan given by its angles and distances.

        With ``vectors`` these say all and ``angles`` are for people. Without them, ``angles``, ``row_spacing``,
        ``column_spacing``, ``source_origin``, ``source_detector`` and the offsets of :meth:`circular` are read.
        Raises InputError for missing or unknown entries.
        """
        if not isinstance(values, Mapping):
            raise InputError("the description of a cone geometry must be a table", found=type(values).__name__)
        rest = dict(values)
        for name, unit in (("length_unit", "mm"), ("angle_unit", "rad")):
            if (found := rest.pop(name, unit)) != unit:
                raise InputError(f"{name} of a cone geometry", found=repr(found), expected=repr(unit))
        kind = rest.pop("kind", None)
        if kind not in (*KINDS, "cone"):
            raise InputError("unknown kind of cone geometry", found=repr(kind), expected=" | ".join(KINDS))
        required = {"rows", "columns", "shape", "spacing"}
        scan = {"angles", "row_spacing", "column_spacing", "source_origin", "source_detector"}
        optional = {"detector_offset", "row_offset", "rotation_shift"}
        if "vectors" in rest:
            scan, optional = {"vectors"}, {"angles"}
        missing, unknown = sorted((required | scan) - set(rest)), sorted(set(rest) - required - scan - optional)
        if missing or unknown:
            raise InputError(
                "the description of a cone geometry is not complete or has entries that nothing reads",
                found=f"missing {missing}, unknown {unknown}",
                expected=", ".join(sorted(required | scan | optional)),
            )
        detector = "curved" if kind == "cone-curved" else "flat"
        if "vectors" not in rest:
            return cls.circular(rest.pop("shape"), rest.pop("spacing"), detector=detector, **rest)
        angles = rest.pop("angles", None)
        geometry = cls(detector=detector, **rest)
        if angles is not None and len(angles) != geometry.n_views:
            raise InputError(
                "angles and vectors disagree about the number of views", found=f"{len(angles)} and {geometry.n_views}"
            )
        return geometry

    def describe(self) -> str:
        """A few lines for people: beam, views, detector, grid, field of view, and what looks unusual."""
        from medrecon.physics.cone_view import describe

        return describe(self)

    def plot(self) -> Figure:
        """Source positions, detector and volume in 3D and from above, as a matplotlib figure."""
        from medrecon.physics.cone_view import plot

        return plot(self)

    def __repr__(self) -> str:
        grid = "x".join(str(n) for n in self.shape)
        return f"ConeGeometry({self.kind}, {self.n_views} views of {self.rows}x{self.columns} pixels, {grid} voxels)"


def _heights(turns: np.ndarray, pitch: float) -> np.ndarray:
    """Height of the source of each view, centred on the volume."""
    return as_number("pitch", pitch) * (turns - turns.mean()) / (2 * math.pi)


def geometry_from_dict(values: Mapping[str, Any]) -> CTGeometry | ConeGeometry:
    """The CT geometry of any kind that a table describes. Raises InputError where it is none."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    return (ConeGeometry if str(kind).startswith("cone") else CTGeometry).from_dict(values)
