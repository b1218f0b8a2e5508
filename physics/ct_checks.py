"""Checks of the values that describe a CT geometry; each error says what was found and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medrecon.errors import InputError

MAX_LENGTH = 1e9
"""Longest length, mm; its inverse is the shortest. Beyond them arithmetic overflows."""


def as_number(name: str, value: object) -> float:
    """A real number; NaN passes."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number", found=repr(value))
    return float(value)


def as_positive(name: str, value: object) -> float:
    """A length above zero, mm."""
    number = as_number(name, value)
    if not 1 / MAX_LENGTH < number < MAX_LENGTH:
        raise InputError(f"{name} must be positive and finite", found=number, expected="millimetres above 0")
    return number


def as_count(name: str, value: object) -> int:
    """A whole number of at least one."""
    number = as_number(name, value)
    if not math.isfinite(number) or number != int(number) or number < 1:
        raise InputError(f"{name} must be a whole number of at least 1", found=value)
    return int(number)


def as_grid(shape: Sequence[int], spacing: Sequence[float]) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and voxel size ``(z, y, x)`` of a volume."""
    if any(not isinstance(v, list | tuple | np.ndarray) or len(v) != 3 for v in (shape, spacing)):
        raise InputError("shape and spacing have three entries", found=(shape, spacing), expected="(z, y, x) each")
    z, y, x = (as_count("each size of the volume", n) for n in shape)
    sz, sy, sx = (as_positive("voxel size", s) for s in spacing)
    return (z, y, x), (sz, sy, sx)


def slice_radius(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Radius of the circle around a slice, mm."""
    return 0.5 * math.hypot(shape[1] * spacing[1], shape[2] * spacing[2])


def narrowest_side(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Shorter side of a slice, mm."""
    return min(n * s for n, s in zip(shape[1:], spacing[1:], strict=True))


def covering_columns(half_width: float, pitch: float, narrowest: float) -> int:
    """Number of columns that reach ``half_width`` mm to either side.

    Odd where the slice is no wider than a column, ``narrowest`` mm: an even number has no column in the middle, and
    its two central rays would pass the slice on either side.
    """
    if not math.isfinite(half_width):
        raise InputError("detector_offset and rotation_shift must be finite", found=half_width, expected="millimetres")
    count = math.ceil(2 * half_width / as_positive("detector column spacing", pitch) - 1e-9) + 1
    return count | 1 if narrowest <= pitch * (1 + 1e-9) else count


def view_angles(
    n_views: int | None, arc: float, start: float, angles: Sequence[float] | np.ndarray | None
) -> tuple[float, ...]:
    """Angles in radians: given, or equally spaced over ``[start, start + arc)``."""
    if (n_views is None) == (angles is None):
        raise InputError("give either the number of views or their angles", found=f"{n_views} views, {angles=}")
    if angles is not None:
        return as_angles(angles)
    count = as_count("number of views", n_views)
    check_angle_unit(as_number("arc", arc))
    return tuple(start + arc * i / count for i in range(count))


def as_angles(angles: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Finite angles in radians."""
    try:
        array = np.asarray(angles)
    except ValueError:
        raise InputError("view angles form one list of numbers", found="lists of unequal length") from None
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiu":
        raise InputError("view angles form one list of numbers", found=f"shape {array.shape}, {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError("view angles must be finite", found=f"{int((~np.isfinite(array)).sum())} NaN or infinite")
    check_angle_unit(float(array.max() - array.min()))
    check_angle_unit(float(np.abs(array).max()))
    return tuple(array.tolist())


def check_angle_unit(span: float) -> None:
    """Refuse what can only be degrees."""
    if not math.isfinite(span) or abs(span) > 4 * math.pi + 1e-6:
        raise InputError(
            "view angles look like degrees",
            found=f"{span:g}",
            expected="radians, within two turns",
            hint="Convert with numpy.deg2rad, or fold several turns into one.",
        )


def check_distances(kind: str, origin: float | None, detector: float | None, radius: float) -> None:
    """The source stands outside the volume, the detector behind the axis of rotation."""
    if origin is None or detector is None:
        raise InputError(
            f"a {kind} geometry needs the distances of its source", found=(origin, detector),
            expected="source_origin and source_detector, mm",
        )  # fmt: skip
    as_positive("distance from source to axis of rotation", origin)
    as_positive("distance from source to detector", detector)
    if origin <= radius:
        raise InputError(
            "the source stands inside the circle around the volume",
            found=f"{origin:g} mm from the axis of rotation",
            expected=f"more than {radius:.4g} mm",
            hint="Lengths are in millimetres; reconstruct a smaller field of view if the gantry is that small.",
        )
    if detector < origin:
        raise InputError(
            "the detector stands between the source and the axis of rotation",
            found=f"source to detector {detector:g} mm, source to axis {origin:g} mm",
            expected="the larger of the two to be source_detector",
        )
