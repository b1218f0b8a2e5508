"""Scans made from a known volume."""

from __future__ import annotations

import math

import numpy as np
import torch

from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import WATER, Geometry, Volume
from medrecon.errors import InputError, UsageError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.noise import NoiseModel, noise_to_dict
from medrecon.physics.simulate import simulate_cone, simulate_ct


def ct_geometry(
    volume: Volume, kind: str, views: int, *, arc: float | None = None, detector: str = "flat"
) -> CTGeometry | ConeGeometry:
    """The usual geometry around a volume: detector pixels as large as a voxel that cover it.

    Parameters
    ----------
    kind
        ``"parallel"``, ``"fan"`` or ``"cone"``.
    views
        Equally spaced over ``arc``.
    arc
        Radians; by default half a turn for a parallel beam, a whole turn for a fan or a cone.
    detector
        ``"flat"`` or ``"curved"``; fan and cone only.
    """
    if views < 1:
        raise UsageError("at least one view is needed", found=views)
    grid = volume.as_orientation("LPS").geometry
    if kind == "parallel":
        return CTGeometry.parallel(grid.shape, grid.spacing, views, arc=math.pi if arc is None else arc)
    if kind == "fan":
        return CTGeometry.fan(grid.shape, grid.spacing, views, arc=arc, detector=detector)
    if kind == "cone":
        return ConeGeometry.circular(grid.shape, grid.spacing, views, arc=arc, detector=detector)
    raise UsageError("unknown beam", found=kind, expected="parallel, fan or cone")


def simulate_scan(
    volume: Volume,
    geometry: CTGeometry | ConeGeometry,
    noise_model: NoiseModel | None,
    *,
    seed: int = 0,
    refine: int = 2,
    water: float = WATER,
) -> Scan:
    """What a CT scanner would measure of ``volume``, from a finer model than the one that reconstructs.

    Parameters
    ----------
    volume
        In HU or 1/mm, any orientation; negative attenuation counts as none. The table turns about the axis from foot
        to head through the middle of the volume.
    geometry
        Rays, and the grid to reconstruct on: that of the volume in LPS order (see `ct_geometry`), or one that is
        coarser in the plane by a whole factor (see `coarsened`). A cone beam takes the volume's own grid.
    refine
        Parts of each pixel of the volume along each axis (of each voxel, for a cone beam); each detector pixel gets as
        many rays as the reconstructed pixel has parts. With 1 on an equal grid the data come from the operator that
        reconstructs them, and ``provenance`` says so.

    Returns
    -------
    Scan
        Line integrals ``(views, slices, columns)``, of a cone beam ``(views, rows, columns)``.

    Raises
    ------
    InputError
        The volume is of another quantity or grid, or holds NaN or infinity.
    """
    turned = volume.as_orientation("LPS")
    factor = _coarser_by(turned.geometry, geometry)
    attenuation = turned.to_quantity("1/mm", water).array
    if not np.isfinite(attenuation).all():
        raise InputError("the volume holds NaN or infinity", found=f"{int((~np.isfinite(attenuation)).sum())} voxels")
    body = torch.from_numpy(np.maximum(attenuation, 0.0, dtype=np.float32))
    if isinstance(geometry, ConeGeometry):
        data = simulate_cone(body, geometry, noise_model, seed, oversample=refine, rays=refine)
    else:
        data = simulate_ct(
            body, geometry.refined(factor, 1), noise_model, seed, oversample=refine, rays=factor * refine
        )
    how = {
        "refine": factor * refine,
        "inverse_crime": factor * refine == 1,
        "seed": seed,
        "source_orientation": volume.geometry.orientation,
    }
    return Scan(
        data=data.numpy(),
        geometry=geometry.to_dict(),
        volume_geometry=_coarse_grid(turned.geometry, factor),
        modality="ct",
        noise=noise_to_dict(noise_model),
        water=water,
        provenance={"simulation": how},
    )


def _coarser_by(fine: Geometry, geometry: CTGeometry | ConeGeometry) -> int:
    """How many pixels of the volume make one of the grid to reconstruct, along y and x; 1 for a cone beam."""
    factor = 1 if isinstance(geometry, ConeGeometry) else fine.shape[1] // geometry.shape[1]
    grid = _coarse_grid(fine, factor) if factor >= 1 else fine
    if grid.shape != geometry.shape or not np.allclose(grid.spacing, geometry.spacing, rtol=1e-4):
        raise InputError(
            "the grid to reconstruct is not that of the volume, nor coarser by a whole factor",
            found=f"{geometry.shape} of {geometry.spacing} mm",
            expected=f"{fine.shape} of {fine.spacing} mm, or pixels merged in the plane",
        )
    return factor


def _coarse_grid(fine: Geometry, factor: int) -> Geometry:
    affine = fine.affine.copy()
    affine[:3, 3] += affine[:3, :2].sum(axis=1) * (factor - 1) / 2
    affine[:3, :2] *= factor
    return Geometry((fine.shape[0], fine.shape[1] // factor, fine.shape[2] // factor), affine)


def coarsened(volume: Volume, factor: int) -> Volume:
    """The volume with ``factor`` x ``factor`` pixels of each slice averaged into one.

    Raises UsageError where the factor does not divide the slice.
    """
    z, y, x = volume.geometry.shape
    if factor < 1 or y % factor or x % factor:
        raise UsageError("the factor must divide the slice", found=factor, expected=f"a divisor of {y} and {x}")
    means = volume.array.reshape(z, y // factor, factor, x // factor, factor).mean(axis=(2, 4), dtype=np.float64)
    return Volume(means.astype(np.float32), _coarse_grid(volume.geometry, factor), volume.quantity, volume.meta)


def describe_simulation(scan: Scan | KSpace | Traces) -> str | None:
    """One sentence on how simulated data were made; None for data that are not known to be simulated."""
    how = scan.provenance.get("simulation")
    if not isinstance(how, dict):
        return None
    if how.get("inverse_crime"):
        return "The data come from the operator and grid that reconstruct them: an inverse crime, all figures flatter."
    return f"The data were simulated on a grid {how.get('refine')} times finer than the one reconstructed."
