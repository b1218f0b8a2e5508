"""Corrections of a CT scan before it is reconstructed: ``medrecon recon --correct NAME[=VALUE]``, in the order given.

A correction is a function of a scan and the text after its equals sign, under one decorator line. It changes data and
geometry together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import Geometry
from medrecon.errors import InputError, UsageError
from medrecon.physics.cone_geometry import ConeGeometry, geometry_from_dict
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.registry import Registry

corrections: Registry[Callable[[Scan, str], Scan]] = Registry("correction")


def corrected(scan: Scan | KSpace | Traces, steps: Sequence[str], views: str | None = None) -> Scan | KSpace | Traces:
    """The scan after all ``steps`` (``"bin=2"``), and then with some of its views (``"0::8"``) alone.

    Raises
    ------
    UsageError
        An unknown correction, or a value that it cannot use; anything but CT.
    InputError
        Data that it does not fit.
    """
    if not steps and views is None:
        return scan
    if not isinstance(scan, Scan) or scan.modality != "ct":
        raise UsageError("--correct and --views are for CT scans", found=scan.modality)
    for step in steps:
        name, _, value = step.partition("=")
        scan = corrections.get(name.strip())(scan, value.strip())
    return scan if views is None else some_views(scan, views)


def _changed(
    scan: Scan, data: np.ndarray | None, geometry: CTGeometry | ConeGeometry | None = None, **changes: object
) -> Scan:
    """A scan with new data or rays; its grid follows the geometry where that has another one."""
    if geometry is not None:
        changes |= {"geometry": geometry.to_dict()}
        grid = scan.volume_geometry
        if geometry.shape != grid.shape or not np.allclose(geometry.spacing, grid.spacing):
            changes |= {"volume_geometry": _regridded(grid, geometry.shape, geometry.spacing)}
    if data is not None:
        changes |= {"data": np.ascontiguousarray(data, dtype=np.float32)}
    return replace(scan, **changes)  # type: ignore[arg-type]


def _regridded(grid: Geometry, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    """Another grid around the same centre."""
    from medrecon.cone_grids import cone_grid

    return cone_grid(grid, shape, spacing)


def _numbers(text: str, name: str, counts: tuple[int, ...]) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)):
        raise UsageError(f"the correction {name} takes {' or '.join(map(str, counts))} numbers", found=repr(text))
    return values


def _span(text: str, count: int, what: str) -> slice:
    """``"10:50"`` as a slice within ``count``, of a step only where the text gives one."""
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        chosen = slice(*parts) if 2 <= len(parts) <= 3 else None
        picked = range(count)[chosen] if chosen is not None else range(0)
    except ValueError:
        chosen, picked = None, range(0)
    if chosen is None or len(picked) == 0:
        raise UsageError(
            f"{what} are a range start:stop:step", found=repr(text), expected=f"within 0:{count}, for example 0::8"
        )
    return chosen


def some_views(scan: Scan, text: str) -> Scan:
    """The views of a range alone."""
    kept = np.arange(len(scan.data))[_span(text, len(scan.data), "views")]
    geometry = geometry_from_dict(scan.geometry)
    rays = geometry.select(kept) if isinstance(geometry, ConeGeometry) else geometry.with_views(kept.tolist())
    return _changed(scan, scan.data[kept], rays)


@corrections.register("centre")
def centre(scan: Scan, value: str) -> Scan:
    """Move the axis of rotation: MM along the detector at the axis, or auto (without a value)."""
    geometry = geometry_from_dict(scan.geometry)
    flat = geometry.central_fan() if isinstance(geometry, ConeGeometry) else geometry
    if value in ("", "auto"):
        from medrecon.physics.centre import find_rotation_shift

        row = scan.data.shape[1] // 2
        if isinstance(geometry, ConeGeometry):
            level = float((((geometry.source - geometry.centre) * geometry.up).sum(axis=1) / geometry.row_pitch).mean())
            row = int(np.clip(round(level + (geometry.rows - 1) / 2), 0, geometry.rows - 1))
        shift = find_rotation_shift(flat, scan.data[:, row])
    else:
        shift = _numbers(value, "centre", (1,))[0]
    notes = [*scan.meta.get("notes", []), f"axis of rotation at {shift:.4g} mm"]
    meta = scan.meta | {"notes": notes}
    if isinstance(geometry, CTGeometry):
        return _changed(scan, None, replace(geometry, rotation_shift=shift), meta=meta)
    moved = geometry.vectors.copy()
    across = np.cross([0.0, 0.0, 1.0], geometry.normal) * -1.0
    across /= np.linalg.norm(across, axis=1)[:, None]
    across *= np.sign((across * geometry.across).sum(axis=1))[:, None]
    moved[:, :6] -= np.tile((shift - flat.rotation_shift) * across, 2)
    return _changed(scan, None, replace(geometry, vectors=moved), meta=meta)


@corrections.register("rings")
def rings(scan: Scan, value: str) -> Scan:
    """Remove ring artefacts: width in columns of the filter (9), or algotom for its methods."""
    from medrecon.physics.rings import remove_rings, remove_rings_algotom

    if value == "algotom":
        return _changed(scan, remove_rings_algotom(scan.data))
    return _changed(scan, remove_rings(scan.data, int(_numbers(value or "9", "rings", (1,))[0])))


@corrections.register("harden")
def harden(scan: Scan, value: str) -> Scan:
    """Undo beam hardening: coefficients of p, p^2, ... of the polynomial that replaces each line integral p."""
    coefficients = _numbers(value, "harden", (1, 2, 3, 4, 5))
    total = np.zeros_like(scan.data, dtype=np.float64)
    for coefficient in reversed(coefficients):
        total = (total + coefficient) * scan.data
    return _changed(scan, total)


@corrections.register("air")
def air(scan: Scan, value: str) -> Scan:
    """Bring air to zero in every view: the median of so many columns at either side (8) is subtracted."""
    width = int(_numbers(value or "8", "air", (1,))[0])
    if not 1 <= width <= scan.data.shape[2] // 2:
        raise UsageError("the columns of air are out of range", found=width, expected=f"1 to {scan.data.shape[2] // 2}")
    edges = np.concatenate([scan.data[:, :, :width], scan.data[:, :, -width:]], axis=2)
    return _changed(scan, scan.data - np.median(edges, axis=(1, 2), keepdims=True))


@corrections.register("water")
def water(scan: Scan, value: str) -> Scan:
    """Calibrate the Hounsfield scale: attenuation of water in 1/mm, or WATER,AIR as reconstructed."""
    values = _numbers(value, "water", (1, 2))
    mu = values[0] - (values[1] if len(values) == 2 else 0.0)
    if not 0 < mu < 1:
        raise UsageError("the attenuation of water is out of range", found=mu, expected="1/mm, about 0.02")
    return replace(scan, water=mu)


@corrections.register("photons")
def photons(scan: Scan, value: str) -> Scan:
    """State the noise: photons per detector pixel without an object, or PHOTONS,ELECTRONIC."""
    values = _numbers(value, "photons", (1, 2))
    noise = {"kind": "poisson", "photons": values[0], "electronic": values[1] if len(values) == 2 else 0.0}
    return replace(scan, noise=noise)


@corrections.register("pixel")
def pixel(scan: Scan, value: str) -> Scan:
    """State the size of a detector column in mm; all lengths are scaled with it."""
    geometry = geometry_from_dict(scan.geometry)
    wanted = _numbers(value, "pixel", (1,))[0]
    if not wanted > 0:
        raise UsageError("a pixel has a positive size, in mm", found=wanted)
    if isinstance(geometry, ConeGeometry):
        factor = wanted / float(geometry.column_pitch.mean())
        rays: CTGeometry | ConeGeometry = replace(
            geometry, vectors=geometry.vectors * factor, spacing=_scaled(geometry.spacing, factor)
        )
    else:
        factor = wanted / geometry.column_spacing
        lengths = ("column_spacing", "detector_offset", "rotation_shift", "source_origin", "source_detector")
        changes = {n: getattr(geometry, n) * factor for n in lengths if getattr(geometry, n) is not None}
        rays = replace(geometry, spacing=_scaled(geometry.spacing, factor), **changes)
    notes = [note for note in scan.meta.get("notes", []) if "how large a pixel is" not in note]
    return _changed(scan, None, rays, meta=scan.meta | {"notes": notes})


def _scaled(spacing: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    z, y, x = (s * factor for s in spacing)
    return z, y, x


@corrections.register("reverse")
def reverse(scan: Scan, value: str) -> Scan:
    """Turn the sense of rotation around: for scanners that count angles the other way."""
    geometry = geometry_from_dict(scan.geometry)
    if isinstance(geometry, CTGeometry):
        return _changed(scan, None, replace(geometry, angles=tuple(-a for a in geometry.angles)))
    # Seen in a mirror, with the columns counted from the other side.
    vectors = geometry.vectors * np.array([-1, 1, 1, -1, 1, 1, 1, -1, -1, -1, 1, 1])
    return _changed(scan, None, replace(geometry, vectors=vectors))


@corrections.register("crop")
def crop(scan: Scan, value: str) -> Scan:
    """Keep a part of the detector: columns A:B, or rows and columns A:B,C:D."""
    parts = value.split(",")
    if len(parts) not in (1, 2):
        raise UsageError("crop takes columns, or rows and columns", found=value, expected="A:B or A:B,C:D")
    _, n_rows, n_columns = scan.data.shape
    columns = _plain(_span(parts[-1], n_columns, "columns"), n_columns)
    rows = _plain(_span(parts[0], n_rows, "rows"), n_rows) if len(parts) == 2 else slice(0, n_rows)
    data, geometry = scan.data[:, rows, columns], geometry_from_dict(scan.geometry)
    if isinstance(geometry, ConeGeometry):
        return _changed(scan, data, geometry.cropped(rows, columns))
    shift = 0.5 * (columns.start + columns.stop - n_columns) * geometry.column_spacing
    fewer = replace(
        geometry, columns=columns.stop - columns.start, detector_offset=geometry.detector_offset + shift,
        shape=(rows.stop - rows.start, *geometry.shape[1:]),
    )  # fmt: skip
    from medrecon.scans import cut_grid

    grid = cut_grid(scan.volume_geometry, rows.start, rows.stop)
    return _changed(replace(scan, volume_geometry=grid), data, fewer)


def _plain(part: slice, count: int) -> slice:
    first, last, step = part.indices(count)
    if step != 1:
        raise UsageError("a part of the detector has no step", found=step)
    return slice(first, last)


@corrections.register("bin")
def bin_pixels(scan: Scan, value: str) -> Scan:
    """Merge detector pixels: N x N, or ROWS,COLUMNS; voxels grow with them."""
    factors = _numbers(value, "bin", (1, 2))
    by_row, by_column = (int(factors[0]), int(factors[-1]))
    views, n_rows, n_columns = scan.data.shape
    if not (1 <= by_row <= n_rows and 1 <= by_column <= n_columns):
        raise UsageError("pixels to merge are out of range", found=value, expected=f"up to {n_rows},{n_columns}")
    rows, columns = n_rows // by_row, n_columns // by_column
    kept = crop(scan, f"0:{rows * by_row},0:{columns * by_column}")
    # A merged pixel counts the photons of its parts: their transmissions are averaged.
    light = np.exp(-kept.data.astype(np.float64)).reshape(views, rows, by_row, columns, by_column).mean(axis=(2, 4))
    data, geometry = -np.log(np.maximum(light, 1e-12)), geometry_from_dict(kept.geometry)
    z, y, x = geometry.shape
    s_z, s_y, s_x = geometry.spacing
    shape = (max(1, z // by_row), max(1, y // by_column), max(1, x // by_column))
    spacing = (s_z * by_row, s_y * by_column, s_x * by_column)
    noise = dict(kept.noise)
    if noise.get("kind") == "poisson":
        noise["photons"] = float(str(noise["photons"])) * by_row * by_column
        noise["electronic"] = float(str(noise.get("electronic") or 0.0)) * math.sqrt(by_row * by_column)
    elif noise.get("kind") == "gaussian":
        noise["sigma"] = float(str(noise["sigma"])) / math.sqrt(by_row * by_column)
    if isinstance(geometry, ConeGeometry):
        rays: CTGeometry | ConeGeometry = geometry.binned(by_row, by_column).with_grid(shape, spacing)
    else:
        pitch = geometry.column_spacing * by_column
        rays = replace(geometry, columns=columns, column_spacing=pitch, shape=shape, spacing=spacing)
    return _changed(kept, data, rays, noise=noise)


@corrections.register("rebin")
def rebin(scan: Scan, value: str) -> Scan:
    """Rebin a helical cone beam to one fan beam for every slice: faster, good for small cone angles."""
    from medrecon.physics.rebinning import rebin_helical

    geometry = geometry_from_dict(scan.geometry)
    if not isinstance(geometry, ConeGeometry):
        raise InputError("only helical cone beams are rebinned", found=geometry.kind)
    fan, data = rebin_helical(geometry, torch.from_numpy(scan.data))
    return _changed(scan, data.numpy(), fan)
