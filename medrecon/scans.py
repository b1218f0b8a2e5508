"""From measured data in a file to a `Problem`: operator, noise model, output grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np
import torch

from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError, UsageError
from medrecon.physics.linop import LinearOperator
from medrecon.physics.mri.masks import real_acceleration
from medrecon.physics.noise import noise_from_dict
from medrecon.prior import NetworkPrior, Prior, bundled_priors, load_prior, read_card
from medrecon.problem import Problem
from medrecon.registry import Registry, unknown_name

problem_builders: Registry[Callable[..., Problem]] = Registry("modality")
slice_cutters: Registry[Callable[..., Any]] = Registry("modality")
_MODALITIES = ("medrecon.mri", "medrecon.seismic")  # modules that register one, beside this one


def problem_from_scan(
    scan: Scan | KSpace | Traces, *, prior: Prior | None = None, grid: Geometry | None = None, **settings: object
) -> Problem:
    """The problem that a scan poses.

    Parameters
    ----------
    grid
        Where to reconstruct; by default the grid that the scan names.
    settings
        Those of the modality: `medrecon.mri.mri_problem` has some.

    Raises
    ------
    UsageError
        A modality that nothing handles; settings that it does not have.
    InputError
        Data, geometry and grid do not fit together.
    """
    _load_modalities()
    build = problem_builders.get(scan.modality)
    stated = signature(build).parameters.values()
    known = [p.name for p in stated if p.kind is p.KEYWORD_ONLY and p.name not in ("prior", "grid")]
    for name in settings:
        if name not in known:
            raise unknown_name(f"setting of {scan.modality} data:", name, known)
    return build(scan, prior=prior, grid=grid or scan.volume_geometry, **settings)


def _load_modalities() -> None:
    for module in _MODALITIES:
        import_module(module)


def prior_for(modality: str, name: str | None = None, *, device: str = "cpu") -> NetworkPrior | None:
    """The prior called ``name`` (or in that file); without a name the bundled one for the modality, None if none is."""
    if name is None:
        fitting = [bundled for bundled in bundled_priors() if read_card(bundled).modality == modality]
        if not fitting:
            return None
        name = fitting[0]
    return load_prior(name, device=device)


@problem_builders.register("ct")
def ct_problem(scan: Scan, *, prior: Prior | None, grid: Geometry) -> Problem:
    """CT, slice by slice or cone beam: attenuation in 1/mm, not negative."""
    return Problem(
        op=_ct_operator(scan, grid),
        y=torch.from_numpy(scan.data),
        geometry=grid,
        quantity="1/mm",
        prior=prior,
        noise_model=noise_from_dict(scan.noise),
        lower_bound=0.0,
        water=scan.water,
    )


def _ct_operator(scan: Scan, grid: Geometry) -> LinearOperator:
    if scan.is_cone:
        from medrecon.cone_grids import cone_on_grid
        from medrecon.physics.cone import ConeOperator

        return ConeOperator(cone_on_grid(scan, grid))
    from medrecon.physics.ct import CTOperator
    from medrecon.physics.ct_geometry import CTGeometry

    geometry = replace(CTGeometry.from_dict(scan.geometry), shape=grid.shape, spacing=grid.spacing)
    _check_same_axis(scan.volume_geometry, grid)
    return CTOperator(geometry)


def _check_same_axis(measured: Geometry, wanted: Geometry, tolerance: float = 0.01) -> None:
    """The slices are where they were measured, and the middle of each lies on the axis of rotation.

    Raises InputError otherwise: another grid than that needs a resampling, which is not done silently.
    """
    if wanted.shape[0] != measured.shape[0]:
        raise InputError(
            "every measured slice gives one slice of the volume", found=f"{wanted.shape[0]} slices",
            expected=f"{measured.shape[0]} slices", hint="Take the same number of slices, or leave the grid out.",
        )  # fmt: skip
    ends = np.array([[(n - 1) / 2 for n in g.shape[:0:-1]] for g in (measured, wanted)])
    for slice_index in (0, measured.shape[0] - 1):
        places = [
            g.affine @ (end[0], end[1], slice_index, 1.0) for g, end in zip((measured, wanted), ends, strict=True)
        ]
        if np.abs(places[0] - places[1]).max() > tolerance:
            raise InputError(
                "the wanted grid lies elsewhere than the measured slices",
                found=f"slice {slice_index} centred at {np.round(places[1][:3], 2).tolist()} mm",
                expected=f"{np.round(places[0][:3], 2).tolist()} mm",
                hint="Reconstruct on the grid of the scan (leave --like and --voxel out) and resample the result.",
            )
    if wanted.orientation != measured.orientation:
        raise InputError(
            "the wanted grid is turned against the scanner", found=wanted.orientation, expected=measured.orientation
        )


def grid_like(scan: Scan | KSpace | Traces, like: Geometry) -> Geometry:
    """The grid of another volume, its axes in the order of the scanner's."""
    empty = Volume(np.broadcast_to(np.float32(0), like.shape), like)
    return empty.as_orientation(scan.volume_geometry.orientation).geometry


def grid_of(
    scan: Scan | KSpace | Traces, shape: tuple[int, int, int] | None, voxel: tuple[float, ...] | None
) -> Geometry:
    """The scan's grid with another shape ``(z, y, x)`` or voxel size, around the same centre.

    ``voxel`` is one size for the plane of the slices, or sizes along ``(z, y, x)``; the distance of the slices is
    given by the measurement. With ``voxel`` alone the field of view is kept. A cone beam measures no slices: one size
    is that of all axes, and any number of slices will do.

    Raises
    ------
    UsageError
        Not positive, or another number or distance of slices.
    """
    measured = scan.volume_geometry
    if shape is None and voxel is None:
        return measured
    if isinstance(scan, Scan) and scan.is_cone:
        from medrecon.cone_grids import cone_grid

        return cone_grid(measured, shape, voxel)
    distance, height, width = measured.spacing
    if voxel is not None and len(voxel) not in (1, 3):
        raise UsageError("a voxel has one size or three", found=voxel)
    row, column = (height, width) if voxel is None else (voxel[-2:] if len(voxel) == 3 else (voxel[0], voxel[0]))
    if not min(row, column) > 0:
        raise UsageError("voxels have positive sizes, in mm", found=voxel)
    if voxel is not None and len(voxel) == 3 and abs(voxel[0] - distance) > 1e-3 * distance:
        raise UsageError("the distance of the slices is that of the measurement", found=voxel[0], expected=distance)
    if shape is None:
        shape = (measured.shape[0], round(measured.shape[1] * height / row), round(measured.shape[2] * width / column))
    if min(shape) < 1 or shape[0] != measured.shape[0]:
        raise UsageError(
            "the number of slices is that of the measurement", found=shape, expected=f"{measured.shape[0]},Y,X"
        )
    affine = measured.affine.copy()
    affine[:3, 0] *= column / width
    affine[:3, 1] *= row / height
    middle_before = measured.affine @ np.array([(measured.shape[2] - 1) / 2, (measured.shape[1] - 1) / 2, 0, 1])
    affine[:3, 3] = 0
    middle_after = affine @ np.array([(shape[2] - 1) / 2, (shape[1] - 1) / 2, 0, 1])
    affine[:3, 3] = (middle_before - middle_after)[:3]
    return Geometry(shape, affine)


def cut_slices(scan: Scan | KSpace | Traces, first: int, last: int) -> Scan | KSpace | Traces:
    """The measurement of slices ``first`` to ``last - 1`` alone. Raises InputError where slices cannot be separated."""
    _load_modalities()
    return slice_cutters.get(scan.modality)(scan, first, last)


@slice_cutters.register("ct")
def cut_ct(scan: Scan, first: int, last: int) -> Scan:
    """Slice-stack CT: every slice is measured by itself; of a cone beam none is."""
    if scan.is_cone:
        raise InputError(
            "a slice of a cone-beam scan cannot be reconstructed by itself: its rays cross all slices",
            hint="Take coarse voxels instead: --voxel MM.",
        )
    grid = cut_grid(scan.volume_geometry, first, last)
    return replace(
        scan,
        data=np.ascontiguousarray(scan.data[:, first:last]),
        geometry=scan.geometry | {"shape": list(grid.shape)},
        volume_geometry=grid,
    )


def cut_grid(grid: Geometry, first: int, last: int) -> Geometry:
    """Slices ``first`` to ``last - 1`` of a grid."""
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    return Geometry((last - first, *grid.shape[1:]), affine)


def measured_in_words(scan: Scan | KSpace | Traces) -> str:
    """What was measured: ``16 views of 48 slices, 362 columns``; ``8 coils, 2 x 48 x 40 samples (z, y, x)``."""
    if isinstance(scan, Scan):
        views, slices, columns = scan.data.shape
        if scan.is_cone:
            return f"{views} cone-beam views of {slices} rows, {columns} columns"
        return f"{views} views of {slices} slices, {columns} columns"
    if isinstance(scan, Traces):
        rows, columns, samples = scan.data.shape
        return f"{int(scan.live.sum())} live traces of {rows} x {columns}, {samples} samples"
    coils, *sizes = scan.data.shape
    axes = "slices, spokes, samples" if scan.trajectory is not None else "z, y, x"
    faster = "" if scan.trajectory is not None else f", acceleration {real_acceleration(scan.sampling):.2f}"
    return f"{coils} coil{'s' * (coils > 1)}, {' x '.join(map(str, sizes))} samples ({axes}){faster}"


def noise_of(scan: Scan | KSpace | Traces) -> dict:
    """The noise of a measurement as plain values; empty where it is not known."""
    if isinstance(scan, Scan):
        return scan.noise
    if isinstance(scan, Traces) or scan.noise_covariance is None:
        return {}
    variances = np.real(np.diagonal(scan.noise_covariance))
    return {"kind": "gaussian", "sigma": float(np.sqrt(variances.mean()))}


def source_orientation(scan: Scan | KSpace | Traces) -> str:
    """Order of the axes of the volume that was measured where that is known, else of the scan's grid."""
    how = scan.provenance.get("simulation")
    letters = how.get("source_orientation") if isinstance(how, dict) else None
    return letters if isinstance(letters, str) else scan.volume_geometry.orientation
