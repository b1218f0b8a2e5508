"""Checks of where source and detector of a cone beam stand; each raises InputError, which says what to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_layout import box_corners

if TYPE_CHECKING:
    from medrecon.physics.cone_geometry import ConeGeometry


def check_arc(geometry: ConeGeometry) -> None:
    """The arc of a curved detector is centred on the source, and spans less than half a turn."""
    sideways = np.abs((geometry.across * geometry.normal).sum(axis=1))
    lean = np.abs((geometry.across * geometry.up).sum(axis=1))
    off = np.abs(((geometry.centre - geometry.source) * geometry.across).sum(axis=1)) / geometry.source_detector
    if max(sideways.max(), lean.max(), off.max()) > 1e-6:
        raise InputError(
            "the arc of a curved detector is centred on the source",
            found=f"u leans by {max(sideways.max(), lean.max(), off.max()):.2g}",
            expected="u at right angles to v and to the line from the source to the detector's centre",
        )
    if (0.5 * geometry.columns * geometry.column_pitch / geometry.source_detector).max() >= math.pi / 2:
        raise InputError("the curved detector spans more than half a turn as seen from the source")


def check_sources(geometry: ConeGeometry) -> None:
    """No source stands inside the volume."""
    half = 0.5 * np.array(geometry.shape)[::-1] * np.array(geometry.spacing)[::-1]
    inside = (np.abs(geometry.source) <= half).all(axis=1)
    if inside.any():
        view = int(np.flatnonzero(inside)[0])
        raise InputError(
            "the source stands inside the volume",
            found=f"view {view}: {np.round(geometry.source[view], 3).tolist()} mm",
            expected=f"outside of +-{np.round(half, 3).tolist()} mm (x, y, z)",
            hint="Lengths are in millimetres; reconstruct a smaller field of view if the gantry is that small.",
        )


def check_coverage(geometry: ConeGeometry) -> None:
    """Every view must see the volume: otherwise its data are zero whatever the object. A helix may pass by."""
    column, row, depth = geometry.project_points(box_corners(geometry.shape, geometry.spacing))
    open_ended = (depth <= 0).any(axis=1)  # the volume reaches behind the source: its shadow has no bounds
    seen = np.ones(geometry.n_views, dtype=bool)
    for place, count in ((column, geometry.columns), (row, geometry.rows)):
        seen &= (place.max(axis=1) > 0.0 - 1e-9) & (place.min(axis=1) < count - 1 + 1e-9)
    seen = (seen | open_ended) & (depth > 0).any(axis=1)
    if not seen.any() or (not seen.all() and np.ptp(geometry.source[:, 2]) < 1e-6):
        blind = np.flatnonzero(~seen)
        raise InputError(
            f"the geometry misses the volume: no ray of {blind.size} of {seen.size} views crosses it",
            found=f"view {blind[0]}: source {np.round(geometry.source[blind[0]], 3).tolist()}, detector centre "
            f"{np.round(geometry.centre[blind[0]], 3).tolist()} mm",
            expected="rays through the box of the volume around the origin",
            hint="Lengths are in millimetres, not in pixels.",
        )
