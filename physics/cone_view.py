"""What a cone-beam geometry sees: its description, picture, field of view, and the fan in its central plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.ct_checks import as_positive, slice_radius
from medrecon.physics.ct_geometry import CTGeometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medrecon.physics.cone_geometry import ConeGeometry

_CIRCLE_TOLERANCE = 0.01  # of the distances: more is not a circle


def central_fan(geometry: ConeGeometry) -> CTGeometry:
    """See :meth:`ConeGeometry.central_fan`."""
    source, normal, across = geometry.source, geometry.normal, geometry.across
    origin = -(source * normal).sum(axis=1)
    shift = -(source * across).sum(axis=1)
    offset = ((geometry.centre - source) * across).sum(axis=1)
    if geometry.detector == "curved":
        # Turning a curved detector about the source is an offset along its arc: count from the ray to the axis.
        distance = geometry.source_detector
        offset = distance * np.arctan2(-shift, origin)
        origin, shift = np.hypot(origin, shift), np.zeros_like(shift)
    values = {
        "distance of the source from the axis": origin,
        "distance of the detector": geometry.source_detector,
        "offset of the detector": offset,
        "shift of the axis": shift,
        "height of the source": source[:, 2],
        "height of the detector": geometry.centre[:, 2],
    }
    scale = float(geometry.source_detector.mean())
    for name, value in values.items():
        if np.ptp(value) > _CIRCLE_TOLERANCE * scale:
            raise InputError(
                f"this is no circular scan: the {name} varies over the views",
                found=f"{value.min():.4g} to {value.max():.4g} mm",
                hint="Use an iterative method (sirt, cgls, tv), which takes any geometry.",
            )
    return CTGeometry(
        kind=f"fan-{geometry.detector}",
        angles=tuple(geometry.angles.tolist()),
        columns=geometry.columns,
        column_spacing=float(geometry.column_pitch.mean()),
        shape=geometry.shape,
        spacing=geometry.spacing,
        detector_offset=float(offset.mean()),
        rotation_shift=float(shift.mean()),
        source_origin=float(origin.mean()),
        source_detector=scale,
    )


def _reaches(geometry: ConeGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the z axis to the edges of the detector's middle row, ``(views)`` each; negative beyond it."""
    ends = np.array([-0.5, geometry.columns - 0.5]) - (geometry.columns - 1) / 2
    reach = []
    for view in range(geometry.n_views):
        direction = geometry._along_row(view, ends)[:, :2] - geometry.source[view, :2]
        direction /= np.linalg.norm(direction, axis=1)[:, None]
        x, y = geometry.source[view, :2]
        reach.append(direction[:, 1] * x - direction[:, 0] * y)
    sides = np.array(reach)
    flip = np.where(sides[:, 1] >= sides[:, 0], 1.0, -1.0)
    return -sides[:, 0] * flip, sides[:, 1] * flip


def field_of_view(geometry: ConeGeometry) -> tuple[float, float]:
    """Radius of the circle around the z axis that all views see, and the half height seen at that radius, mm.

    An offset detector in a full turn sees the circle that its long side reaches.
    """
    left, right = _reaches(geometry)
    near, far = float(np.minimum(left, right).min()), float(np.maximum(left, right).min())
    angles = np.sort(geometry.angles)
    gap = float(np.diff(angles, append=angles[0] + 2 * math.pi).max()) if geometry.n_views > 1 else 2 * math.pi
    full_turn = gap < 2.5 * 2 * math.pi / geometry.n_views or gap < 0.2
    radius = max(0.0, far if full_turn and near > 0 else near)
    ratio = (geometry.source_origin - min(radius, 0.95 * float(geometry.source_origin.min()))) / (
        geometry.source_detector
    )
    offset = ((geometry.centre - geometry.source) * geometry.up).sum(axis=1)
    half = 0.5 * geometry.rows * geometry.row_pitch
    travel = float(np.ptp(geometry.source[:, 2]))
    height = float(((half - np.abs(offset)) * ratio).min())
    return radius, max(0.0, height) if travel < 1e-6 else 0.5 * travel


def fitted_grid(
    geometry: ConeGeometry, voxel: float | Sequence[float] | None = None
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and voxel size ``(z, y, x)`` of a grid that fills the field of view.

    Without ``voxel``, a voxel is as large as a detector pixel is at the axis. Raises InputError where no circle around
    the axis is seen by all views.
    """
    radius, half_height = field_of_view(geometry)
    if voxel is None:
        row, column = (float(p.mean()) / geometry.magnification for p in (geometry.row_pitch, geometry.column_pitch))
        sizes = (row, column, column)
    elif isinstance(voxel, int | float):
        sizes = (as_positive("voxel size", voxel),) * 3
    else:
        z, y, x = (as_positive("voxel size", v) for v in voxel)
        sizes = (z, y, x)
    counts = [int(2 * reach / size) for reach, size in zip((half_height, radius, radius), sizes, strict=True)]
    if min(counts) < 1:
        raise InputError(
            "no circle around the axis of rotation is seen by all views",
            found=f"field of view of {2 * radius:.4g} x {2 * half_height:.4g} mm",
            hint="Give the grid yourself: with_grid(shape, spacing).",
        )
    return (counts[0], counts[1], counts[2]), sizes


def describe(geometry: ConeGeometry) -> str:
    """See :meth:`ConeGeometry.describe`."""
    z, y, x = geometry.shape
    angles = np.sort(geometry.angles)
    gap = np.diff(angles, append=angles[0] + 2 * math.pi).max() if geometry.n_views > 1 else 2 * math.pi
    radius, half_height = field_of_view(geometry)
    distance, depth = geometry.source_origin, geometry.source_detector
    travel = float(np.ptp(geometry.source[:, 2]))
    lines = [
        f"{geometry.kind} beam, {geometry.n_views} views over {math.degrees(2 * math.pi - gap):.1f} degrees "
        "(first to last)",
        f"detector: {geometry.rows} rows of {geometry.row_pitch.mean():g} mm, {geometry.columns} columns of "
        f"{geometry.column_pitch.mean():g} mm",
        f"volume: {z} x {y} x {x} voxels (z, y, x) of {' x '.join(f'{s:g}' for s in geometry.spacing)} mm",
        f"field of view: {2 * radius:.1f} mm across, {2 * half_height:.1f} mm high at its rim; the volume measures "
        f"{z * geometry.spacing[0]:.1f} x {y * geometry.spacing[1]:.1f} x {x * geometry.spacing[2]:.1f} mm (z, y, x)",
        f"source to axis {distance.mean():g} mm, to detector {depth.mean():g} mm; magnification "
        f"{geometry.magnification:.3f}; a pixel is {geometry.row_pitch.mean() / geometry.magnification:.3g} x "
        f"{geometry.column_pitch.mean() / geometry.magnification:.3g} mm at the axis",
    ]
    if travel > 1e-6:
        lines.append(f"the source travels {travel:g} mm along z")
    return "\n".join(lines + [f"note: {note}" for note in notes(geometry)])


def notes(geometry: ConeGeometry) -> list[str]:
    """What is unusual enough to tell the user; empty for an ordinary geometry."""
    out = []
    radius, half_height = field_of_view(geometry)
    if radius < 0.98 * 0.5 * min(n * s for n, s in zip(geometry.shape[1:], geometry.spacing[1:], strict=True)):
        out.append("not every view sees the whole slice: parts outside the field of view are truncated")
    if half_height < 0.98 * 0.5 * geometry.shape[0] * geometry.spacing[0]:
        out.append("slices at the top and bottom are not seen from everywhere")
    column = float(geometry.column_pitch.mean()) / geometry.magnification
    if column > 2.5 * min(geometry.spacing[1:]):
        out.append("detector columns are much wider than a voxel at the axis of rotation")
    if column < 0.3 * min(geometry.spacing[1:]):
        out.append("detector columns are much finer than a voxel: bin them, or rays will miss voxels' edges unevenly")
    if (geometry.source_detector - geometry.source_origin).min() < slice_radius(geometry.shape, geometry.spacing):
        out.append("corners of the volume reach behind the detector; rays are followed through the whole volume")
    if not geometry.axial:
        out.append("the detector is tilted: the general kernels are slower than those of an upright detector")
    return out


def plot(geometry: ConeGeometry) -> Figure:
    """See :meth:`ConeGeometry.plot`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    solid, top = figure.add_subplot(1, 2, 1, projection="3d"), figure.add_subplot(1, 2, 2)
    half = 0.5 * np.array(geometry.shape)[::-1] * np.array(geometry.spacing)[::-1]
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    for level in (-1, 1):
        solid.plot(signs[:, 0] * half[0], signs[:, 1] * half[1], np.full(5, level * half[2]), color="tab:green")
    for x, y in signs[:4]:
        solid.plot([x * half[0]] * 2, [y * half[1]] * 2, [-half[2], half[2]], color="tab:green")
    top.plot(signs[:, 0] * half[0], signs[:, 1] * half[1], color="tab:green", label="volume")
    solid.plot(*geometry.source.T, ".", color="tab:red", markersize=3)
    top.plot(*geometry.source[:, :2].T, ".", color="tab:red", markersize=3, label="source")
    edge = np.linspace(-0.5, 0.5, 9) * geometry.columns
    for index, view in enumerate(sorted({0, geometry.n_views // 3})):
        colour = ("tab:blue", "tab:purple")[index]
        row = geometry._along_row(view, edge)
        rise = 0.5 * geometry.rows * geometry.vectors[view, 9:12]
        outline = np.concatenate([row - rise, row[::-1] + rise, row[:1] - rise])
        solid.plot(*outline.T, color=colour)
        top.plot(*row[:, :2].T, color=colour, label=f"detector, view {view}")
        for end in (row[0], row[-1]):
            ray = np.stack([geometry.source[view], end])
            solid.plot(*ray.T, color=colour, linewidth=0.6)
            top.plot(*ray[:, :2].T, color=colour, linewidth=0.6)
    top.set(xlabel="x (left), mm", ylabel="y (back), mm", aspect="equal", title="from the feet")
    top.invert_yaxis()
    top.legend(fontsize="small")
    solid.set(xlabel="x, mm", ylabel="y, mm", zlabel="z, mm", aspect="equal")
    return figure
