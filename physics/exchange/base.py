"""The registry of conventions, and what they share: circular scans, and vectors that turn out to be one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.registry import Registry

CTLike = CTGeometry | ConeGeometry
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Convention:
    """How one library writes a geometry down: ``export(geometry)`` and ``read(values)``."""

    export: Callable[[CTLike], dict[str, Any]]
    read: Callable[[Values], CTLike]


conventions: Registry[Convention] = Registry("geometry convention")


def convention(name: str, read: Callable[[Values], CTLike], **meta: object) -> Callable:
    """Register the decorated exporter and its reader under ``name``."""

    def add(function: Callable[[CTLike], dict[str, Any]]) -> Callable[[CTLike], dict[str, Any]]:
        conventions.register(name, **meta)(Convention(function, read))
        return function

    return add


def export(geometry: CTLike, name: str) -> dict[str, Any]:
    """The geometry in the words of library ``name``.

    Raises UsageError for an unknown name, InputError for a geometry that the library has no words for.
    """
    return conventions.get(name).export(geometry)


def read(values: Values, name: str) -> CTLike:
    """The geometry that ``values`` of library ``name`` describe. Raises InputError where they do not."""
    try:
        return conventions.get(name).read(values)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise InputError(
            f"this does not describe a geometry of {name}", found=f"{type(error).__name__}: {error}",
            expected=f"what medrecon.physics.exchange.export(geometry, {name!r}) gives",
        ) from error  # fmt: skip


def one_row(fan: CTGeometry) -> ConeGeometry:
    """A flat fan as a cone beam of one row through the middle slice."""
    if fan.kind != "fan-flat":
        raise InputError("only flat detectors can be written as vectors", found=fan.kind)
    return ConeGeometry.circular(
        (1, *fan.shape[1:]), fan.spacing, angles=fan.angles, source_origin=fan.source_radius,
        source_detector=fan.detector_radius, rows=1, columns=fan.columns, row_spacing=fan.spacing[0],
        column_spacing=fan.column_spacing, detector_offset=fan.detector_offset, rotation_shift=fan.rotation_shift,
    )  # fmt: skip


def fan_of(vectors: np.ndarray, columns: int, shape: Sequence[int], spacing: Sequence[float]) -> CTGeometry:
    """The fan whose sources, detector centres and column steps ``(views, 6)`` lie in the plane, as (x, y)."""
    pitch = float(np.linalg.norm(vectors[0, 4:6]))
    zero, full = np.zeros(len(vectors)), np.full(len(vectors), pitch)
    x = vectors.T
    cone = np.stack([x[0], x[1], zero, x[2], x[3], zero, x[4], x[5], zero, zero, zero, full], axis=1)
    return ConeGeometry(cone, 1, columns, (1, *shape[1:]), tuple(spacing)).central_fan()  # type: ignore[arg-type]


def flat_circle(geometry: ConeGeometry) -> dict[str, float | np.ndarray]:
    """Angles, distances and offsets of a circular scan with an upright flat detector, rows along +z.

    Raises InputError for any other.
    """
    fan = geometry.central_fan()
    heights = ((geometry.centre - geometry.source) * geometry.up).sum(axis=1)
    upright = geometry.axial and geometry.up[0, 2] > 0
    if (
        geometry.detector != "flat"
        or not upright
        or np.ptp(heights) > 1e-6
        or np.abs(geometry.source[:, 2]).max() > 1e-6
    ):
        raise InputError(
            "this convention describes circular scans with an upright flat detector", found=repr(geometry),
            hint="Export vectors instead (astra, tomosipo, rtk).",
        )  # fmt: skip
    return {
        "angles": np.asarray(fan.angles),
        "source_origin": fan.source_radius,
        "source_detector": fan.detector_radius,
        "detector_offset": fan.detector_offset,
        "row_offset": float(heights.mean()),
        "rotation_shift": fan.rotation_shift,
        "row_spacing": float(geometry.row_pitch.mean()),
        "column_spacing": fan.column_spacing,
    }
