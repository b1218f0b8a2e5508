"""How far a volume is from the truth: PSNR, SSIM per plane, RMSE, NMSE, z-roughness.

Every figure is on a fixed data range. A range taken from each image would make a flat reconstruction look as good as a
contrasty one and figures of two methods incomparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import correlate1d

from medrecon.data.volume import WATER, Geometry, Volume
from medrecon.errors import InputError

PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Axis of a ``(z, y, x)`` array, z to Superior and y to Posterior, along which the slices of each plane are stacked."""

HU_RANGE = 2000.0
"""Data range for Hounsfield units: -1000 (air) to 1000 (bone)."""

_WINDOW_SIGMA, _WINDOW_RADIUS = 1.5, 5
_AIR_MARGIN = 0.02  # of the data range above air
_SLAB = 1 << 22  # values of a slab of slices that SSIM works on at a time


def rmse(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root of the mean squared difference, in the unit of the volumes; over ``mask`` if given."""
    return math.sqrt(_mean_square(_selected(recon, mask) - _selected(truth, mask)))


def psnr(recon: np.ndarray, truth: np.ndarray, *, data_range: float, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio, dB: ``20 log10(data_range / rmse)``; infinite for equal arrays."""
    _check_range(data_range)
    error = rmse(recon, truth, mask)
    return 20 * math.log10(data_range / error) if error > 0 else math.inf


def nmse(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None, *, zero: float = 0.0) -> float:
    """``|recon - truth|^2 / |truth - zero|^2``; ``zero`` is the value of nothing (-1000 for Hounsfield units)."""
    reference = _mean_square(_selected(truth, mask) - zero)
    if reference == 0:
        raise InputError("NMSE of an empty truth is undefined", hint="Give a mask that holds something.")
    return _mean_square(_selected(recon, mask) - _selected(truth, mask)) / reference


def z_roughness(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Differences between neighbouring slices, relative to those of the truth: ``|D_z recon| / |D_z truth|``.

    1 is right; above 1 the slices flicker (a 2D prior that does not agree with itself along z), below 1 they are
    smeared.
    """
    both = None if mask is None else mask[1:] & mask[:-1]
    rough, reference = (_mean_square(_selected(np.diff(v.astype(np.float64), axis=0), both)) for v in (recon, truth))
    if reference == 0:
        raise InputError("the truth does not change along z, so z-roughness is undefined")
    return math.sqrt(rough / reference)


def ssim(
    recon: np.ndarray,
    truth: np.ndarray,
    *,
    data_range: float,
    axis: int = 0,
    mask: np.ndarray | None = None,
    slices: np.ndarray | None = None,
    zero: float = 0.0,
) -> float:
    """Mean over slices of the 2D structural similarity.

    Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariances; pixels nearer than 5
    to the border of a slice are left out. Equals ``skimage.metrics.structural_similarity(gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False)`` averaged over slices.

    Parameters
    ----------
    axis
        Along which the slices are stacked.
    mask
        Average over these pixels only.
    slices
        Booleans along ``axis``: which slices count. The plane figures of `compare_volumes` leave out slices that are
        all air in the truth, where every method scores close to 1.
    zero
        The value of nothing, subtracted from both: the luminance term of SSIM compares ratios, so it needs values that
        count from nothing (-1000 for Hounsfield units).

    Returns
    -------
    float
        NaN where a slice is smaller than the window or nothing is selected.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13(4):600-612, 2004, eq. 13.
    """
    _check_range(data_range)
    recon, truth = np.moveaxis(recon, axis, 0), np.moveaxis(truth, axis, 0)
    mask = None if mask is None else np.moveaxis(mask, axis, 0)
    chosen = np.ones(len(truth), dtype=bool) if slices is None else np.asarray(slices, dtype=bool)
    if min(truth.shape[1:]) <= 2 * _WINDOW_RADIUS or not chosen.any():
        return math.nan
    inner = (slice(None), slice(_WINDOW_RADIUS, -_WINDOW_RADIUS), slice(_WINDOW_RADIUS, -_WINDOW_RADIUS))
    per_slice: list[np.ndarray] = []
    for part in _slabs(np.flatnonzero(chosen), truth.shape):
        similarity = _ssim_map(
            recon[part].astype(np.float64) - zero, truth[part].astype(np.float64) - zero, data_range
        )[inner]
        if mask is None:
            per_slice.append(similarity.mean(axis=(1, 2)))
        else:
            weight = mask[part][inner]
            inside = weight.sum(axis=(1, 2))
            sums = (similarity * weight).sum(axis=(1, 2))
            per_slice.append(sums[inside > 0] / inside[inside > 0])
    values = np.concatenate(per_slice)
    return float(values.mean()) if values.size else math.nan


def slices_with_tissue(truth: np.ndarray, axis: int, *, threshold: float) -> np.ndarray:
    """Booleans along ``axis``: slices in which some voxel of the truth exceeds ``threshold``."""
    others = tuple(a for a in range(truth.ndim) if a != axis)
    return np.asarray(truth.max(axis=others) > threshold)


def default_data_range(truth: Volume, water: float = WATER) -> tuple[float, str]:
    """Data range and where it comes from: fixed for CT, else the largest magnitude of the whole truth volume."""
    if truth.quantity == "HU":
        return HU_RANGE, "fixed, -1000 to 1000 HU"
    if truth.quantity == "1/mm":
        return HU_RANGE / 1000 * water, "fixed, 0 to twice the attenuation of water"
    largest = float(np.abs(truth.array).max())
    return largest, "largest magnitude of the truth"


def compare_volumes(
    recon: Volume, truth: Volume, mask: np.ndarray | Volume | None = None, data_range: float | None = None
) -> dict[str, object]:
    """All figures for one reconstruction.

    A reconstruction or mask that differs from the truth only by permuted or flipped axes is turned onto the truth's
    grid first; every voxel keeps its value and place. The planes are those of the body, whatever the order of the
    axes in the files. 1/mm and HU are converted into the truth's quantity.

    Parameters
    ----------
    mask
        Non-zero where the figures are taken; a Volume is placed by its geometry.
    data_range
        In the unit of the truth; see `default_data_range`.

    Returns
    -------
    dict
        ``psnr``, ``rmse``, ``nmse``, ``z_roughness`` over the whole volume (or mask); for each plane
        ``psnr_axial``, ... (mean over slices of the slice's PSNR) and ``ssim_axial``, ..., and ``ssim``, the mean of
        the three. Plane figures leave out slices that are all air in the truth (no voxel more than 2 % of the range
        above air). Also ``data_range``,
        ``data_range_from``, ``quantity``, ``shape``, ``slices_compared``, ``masked``. A figure that is undefined
        (a plane smaller than the SSIM window, a truth that does not change along z) is NaN.

    Raises
    ------
    InputError
        Other grids, unrelated quantities, an empty mask, a truth without any tissue.
    """
    truth = truth.as_orientation("LPS")
    array = on_grid(recon, truth.geometry, "the reconstruction").to_quantity(truth.quantity).array
    selected = _as_mask(mask, truth.geometry)
    chosen_range, origin = default_data_range(truth) if data_range is None else (float(data_range), "given")
    _check_range(chosen_range)
    air = -1000.0 if truth.quantity == "HU" else 0.0
    reference, tissue = truth.array, air + _AIR_MARGIN * chosen_range
    if not reference.max() > tissue:
        raise InputError("the truth holds nothing but air", found=f"maximum {reference.max():g} {truth.quantity}")
    figures: dict[str, object] = {
        "psnr": psnr(array, reference, data_range=chosen_range, mask=selected),
        "rmse": rmse(array, reference, selected),
        "nmse": nmse(array, reference, selected, zero=air),
        "z_roughness": _or_nan(z_roughness, array, reference, selected),
    }
    counted, similarities = {}, []
    for plane, axis in PLANES.items():
        slices = slices_with_tissue(reference, axis, threshold=tissue)
        counted[plane] = int(slices.sum())
        figures[f"psnr_{plane}"] = _mean_slice_psnr(array, reference, axis, slices, chosen_range, selected)
        value = ssim(array, reference, data_range=chosen_range, axis=axis, mask=selected, slices=slices, zero=air)
        figures[f"ssim_{plane}"] = value
        similarities.append(value)
    figures["ssim"] = float(np.mean(similarities))
    return figures | {
        "data_range": chosen_range,
        "data_range_from": origin,
        "quantity": truth.quantity,
        "shape": list(truth.geometry.shape),
        "slices_compared": counted,
        "masked": selected is not None,
    }


def difference(volume: Volume, reference: Volume) -> Volume:
    """``volume - reference`` on the grid and in the quantity of ``reference``.

    Raises InputError where the grids differ by more than the order of their axes, and for unrelated quantities.
    """
    array = on_grid(volume, reference.geometry, "the volume", "the other one").to_quantity(reference.quantity).array
    return reference.with_array(array.astype(np.float32) - reference.array.astype(np.float32))


def on_grid(volume: Volume, grid: Geometry, what: str, other: str = "the truth") -> Volume:
    """The volume on this grid, by permutation and flips of its axes alone. Raises InputError if that is not enough."""
    turned = volume if volume.geometry.almost_equal(grid) else volume.as_orientation(grid.orientation)
    if not turned.geometry.almost_equal(grid):
        raise InputError(
            f"{what} and {other} are on different grids",
            found=_described(volume.geometry),
            expected=_described(grid),
            hint="Resample one onto the other first, or reconstruct with --like TRUTH.",
        )
    return turned


def _described(geometry: Geometry) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in geometry.spacing)
    origin = ", ".join(f"{o:.2f}" for o in geometry.affine[:3, 3])
    shape = " x ".join(map(str, geometry.shape))
    return f"{shape} (z, y, x) of {spacing} mm, axes {geometry.orientation}, first voxel at ({origin})"


def _as_mask(mask: np.ndarray | Volume | None, grid: Geometry) -> np.ndarray | None:
    if mask is None:
        return None
    array = on_grid(mask, grid, "the mask").array if isinstance(mask, Volume) else np.asarray(mask)
    if array.shape != grid.shape:
        raise InputError("the mask has another shape", found=array.shape, expected=grid.shape)
    selected = array != 0
    if not selected.any():
        raise InputError("the mask is empty")
    return selected


def _mean_slice_psnr(
    recon: np.ndarray, truth: np.ndarray, axis: int, slices: np.ndarray, data_range: float, mask: np.ndarray | None
) -> float:
    values = []
    for n in np.flatnonzero(slices):
        inside = None if mask is None else mask.take(n, axis)
        if inside is None or inside.any():
            values.append(psnr(recon.take(n, axis), truth.take(n, axis), data_range=data_range, mask=inside))
    return float(np.mean(values)) if values else math.nan


def _ssim_map(x: np.ndarray, y: np.ndarray, data_range: float) -> np.ndarray:
    """Structural similarity at every pixel of a stack of slices (eq. 13, with the window of section III-B)."""
    offsets = np.arange(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1)
    window = np.exp(-0.5 * (offsets / _WINDOW_SIGMA) ** 2)
    window /= window.sum()

    def local_mean(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, axis=1), window, axis=2)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))


def _slabs(indices: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    count = max(1, _SLAB // (shape[1] * shape[2]))
    for start in range(0, len(indices), count):
        yield indices[start : start + count]


def _selected(array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return (array if mask is None else array[mask]).astype(np.float64)


def _mean_square(values: np.ndarray) -> float:
    if values.size == 0:
        raise InputError("no voxels to compare", hint="The mask selects nothing.")
    return float(np.mean(values**2))


def _or_nan(function: Callable[..., float], *arguments: np.ndarray | None) -> float:
    try:
        return function(*arguments)
    except InputError:
        return math.nan


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise InputError("the data range must be positive", found=data_range)
