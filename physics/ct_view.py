"""What slice-by-slice rays see: the picture of a geometry, and a grid that fills its field of view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.ct_checks import as_positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medrecon.physics.ct_geometry import CTGeometry


def fitted_grid(
    geometry: CTGeometry, pixel: float | None = None
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and voxel size ``(z, y, x)`` of slices that fill the field of view.

    Without ``pixel``, a pixel is as large as a detector column is at the axis. Raises InputError where no circle around
    the axis is seen by all views.
    """
    size = geometry.column_spacing / geometry.magnification if pixel is None else as_positive("pixel size", pixel)
    count = int(2 * geometry.field_radius / size + 1e-9)
    if count < 1:
        raise InputError(
            "no circle around the axis of rotation is seen by all views",
            found=f"detector offset {geometry.detector_offset:g} mm, rotation shift {geometry.rotation_shift:g} mm",
            hint="Give the grid yourself.",
        )
    return (geometry.shape[0], count, count), (geometry.spacing[0], size, size)


def plot(geometry: CTGeometry) -> Figure:
    """See :meth:`CTGeometry.plot`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    half_y, half_x = (0.5 * n * s for n, s in zip(geometry.shape[1:], geometry.spacing[1:], strict=True))
    axes.plot(np.array([-1, 1, 1, -1, -1]) * half_x, np.array([-1, -1, 1, 1, -1]) * half_y, "tab:green", label="slice")
    circle = np.linspace(0, 2 * np.pi, 181)
    radius = geometry.field_radius
    axes.plot(radius * np.cos(circle), radius * np.sin(circle), ":", color="grey", label="field of view")
    origins, directions = geometry.rays()
    reach = 1.3 * geometry.radius
    if geometry.source_detector is not None:
        axes.plot(*origins[:, 0].T, ".", color="tab:red", markersize=3, label="source")
        reach = geometry.source_detector
    for colour, view in zip(("tab:blue", "tab:purple"), sorted({0, geometry.n_views // 3}), strict=False):
        ends = origins[view] + reach * directions[view]
        if geometry.kind == "fan-flat":
            along = directions[view] @ np.array([-np.sin(geometry.angles[view]), np.cos(geometry.angles[view])])
            ends = origins[view] + reach / along[:, None] * directions[view]
        axes.plot(*ends.T, color=colour, label=f"detector, view {view}")
        for column in (0, -1):
            start = origins[view, column] - (reach * directions[view, column] if geometry.kind == "parallel" else 0)
            axes.plot(*np.stack([start, ends[column]]).T, color=colour, linewidth=0.6)
    axes.set(xlabel="x (left), mm", ylabel="y (back), mm", aspect="equal", title="from the feet")
    axes.invert_yaxis()
    axes.legend(fontsize="small")
    return figure
