"""Simulated CT scans that are not made by the projector that reconstructs them."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from medrecon.errors import InputError, UsageError
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct import CTOperator, slices_innermost
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.linop import Space

_SLICES = 64
_DATA_AT_ONCE = 1 << 26
"""Most values of a refined detector in memory."""


class Noise(Protocol):
    """What a noise model offers (medrecon.physics.noise)."""

    def sample(self, clean: Tensor, seed: int) -> Tensor:
        """Clean data with one draw of noise."""


def simulate_ct(
    volume: Tensor, geometry: CTGeometry, noise: Noise | None, seed: int = 0, *, oversample: int = 2, rays: int = 2
) -> Tensor:
    """Noisy line integrals of a volume, from a finer model of object and detector than ``CTOperator`` uses.

    Data computed by the operator that later reconstructs them hide its errors (the inverse crime). Here every
    pixel is split into ``oversample`` x ``oversample`` parts (``refine``) and every detector column into ``rays``
    rays, whose line integrals are averaged.

    The truth to compare a reconstruction with remains ``volume``: the finer object has the same mean in every pixel,
    and within a pixel it follows the slope of the neighbours, as an object does that was not made of pixels. Copying
    each pixel's value instead would be mean-preserving too, but such an object lies in the space that is
    reconstructed; plain linear or cubic interpolation would change the pixels' means, so that a perfect method would
    be charged with the blur of the simulation.

    Rays of a column are averaged as line integrals, not as intensities: the non-linear partial volume effect at sharp
    edges is left out, so that the model holds for any unit and noise. Slices stay thin.

    Parameters
    ----------
    volume
        ``(z, y, x)`` attenuation in 1/mm, float32.
    geometry
        Rays and the grid of ``volume``.
    noise
        A noise model, or None for clean data.
    seed
        Of the noise. The same seed gives the same data whatever the memory layout of ``volume``.
    oversample, rays
        Parts per pixel and axis, and rays per detector column; 1 and 1 would be the operator itself.

    Returns
    -------
    Tensor
        ``(views, slices, columns)``, float32, contiguous.

    Raises
    ------
    InputError
        Volume of another shape or dtype than the geometry's, or not finite.
    UsageError
        Fewer than one part or ray.
    """
    Space(geometry.shape).check(volume, "volume")
    if oversample < 1 or rays < 1:
        raise UsageError("a simulation needs at least one part per pixel and column", found=(oversample, rays))
    if not torch.isfinite(volume).all():
        raise InputError("the volume has voxels that are not finite", found=int((~torch.isfinite(volume)).sum()))
    clean = torch.empty(geometry.data_shape)
    for start in range(0, geometry.shape[0], _SLICES):
        part = volume[start : start + _SLICES]
        fine = CTOperator(geometry.with_slices(len(part)).refined(oversample, rays))
        data = fine(refine(part, oversample))
        clean[:, start : start + _SLICES] = data.unflatten(2, (geometry.columns, rays)).mean(3)
    return clean if noise is None else noise.sample(clean, seed)


def simulate_cone(
    volume: Tensor, geometry: ConeGeometry, noise: Noise | None, seed: int = 0, *, oversample: int = 2, rays: int = 2
) -> Tensor:
    """As `simulate_ct`, for a cone beam: voxels are split along all three axes, detector pixels along both.

    Returns
    -------
    Tensor
        ``(views, rows, columns)``, float32, contiguous.
    """
    Space(geometry.shape).check(volume, "volume")
    if oversample < 1 or rays < 1:
        raise UsageError("a simulation needs at least one part per voxel and detector pixel", found=(oversample, rays))
    if not torch.isfinite(volume).all():
        raise InputError("the volume has voxels that are not finite", found=int((~torch.isfinite(volume)).sum()))
    fine = slices_innermost(refine(volume, oversample, (0, 1, 2)))
    clean = torch.empty(geometry.data_shape)
    views = max(1, _DATA_AT_ONCE // (geometry.rows * geometry.columns * rays**2))
    for part in torch.arange(geometry.n_views).split(views):
        data = ConeOperator(geometry.select(part.numpy()).refined(oversample, rays))(fine)
        clean[part] = data.unflatten(2, (geometry.columns, rays)).unflatten(1, (geometry.rows, rays)).mean((2, 4))
    return clean if noise is None else noise.sample(clean, seed)


def refine(volume: Tensor, factor: int, axes: tuple[int, ...] = (1, 2)) -> Tensor:
    """Split each voxel into ``factor`` parts along ``axes``, keeping its mean and following its slope.

    Piecewise linear with limited slopes: monotonised central differences along each axis, then scaled so that no
    part leaves the range of the voxel and its neighbours in these axes. Parts lie symmetrically about the voxel's
    centre, so their mean is the voxel's value.

    References
    ----------
    B. van Leer, J. Comput. Phys. 23, 276-299 (1977), equation 66 (monotonised slopes). T. J. Barth, D. C. Jespersen,
    AIAA paper 89-0366 (1989) (scaling against the neighbours' range).
    """
    if factor == 1:
        return volume
    slopes = [_limited_slope(volume, axis) for axis in axes]
    low, high = _neighbour_range(volume, axes)
    # The largest excursion of a part from the mean is at a corner of the voxel.
    reach = 0.5 * (1 - 1 / factor) * torch.stack(slopes).abs().sum(0)
    room = torch.minimum(high - volume, volume - low)
    scale = torch.where(reach > room, room / reach.clamp_min(torch.finfo(volume.dtype).tiny), 1.0)
    offsets = (torch.arange(factor, dtype=volume.dtype, device=volume.device) + 0.5) / factor - 0.5
    parts = [factor if axis in axes else 1 for axis in range(3)]
    split = [n for size in volume.shape for n in (size, 1)]
    out = volume.reshape(split)
    for axis, slope in zip(axes, slopes, strict=True):
        along = [1] * 6
        along[2 * axis + 1] = factor
        out = out + (slope * scale).reshape(split) * offsets.view(along)
    return out.reshape([n * m for n, m in zip(volume.shape, parts, strict=True)])


def _limited_slope(volume: Tensor, axis: int) -> Tensor:
    """Difference per pixel along ``axis``: central, at most twice either one-sided one, zero at extrema and edges."""
    steps = volume.diff(dim=axis)
    edge = torch.zeros_like(volume.narrow(axis, 0, 1))
    before, after = torch.cat([edge, steps], axis), torch.cat([steps, edge], axis)
    size = torch.minimum(0.5 * (before + after).abs(), 2 * torch.minimum(before.abs(), after.abs()))
    return torch.where(before * after > 0, size * after.sign(), 0.0)


def _neighbour_range(volume: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each voxel and its neighbours along ``axes``, diagonals included."""
    size = [3 if axis in axes else 1 for axis in range(3)]
    pool = partial(torch.nn.functional.max_pool3d, kernel_size=size, stride=1, padding=[n // 2 for n in size])
    return -pool(-volume[None, None])[0, 0], pool(volume[None, None])[0, 0]
