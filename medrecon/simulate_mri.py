"""Simulated MR measurements of a known volume: coils with phase, a finer grid than reconstructs, noise, a mask."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from medrecon.data.kspace import KSpace
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError, UsageError
from medrecon.physics.mri.coil_fields import CoilFields, object_phase
from medrecon.physics.mri.fourier import centred_fft, cropped
from medrecon.physics.mri.masks import (
    calibration_widths,
    dimensions_of,
    make_mask,
    partial_fourier,
    real_acceleration,
)


def simulate_kspace(
    volume: Volume,
    mask: str,
    acceleration: float,
    *,
    coils: int = 8,
    noise: float = 0.0,
    seed: int = 0,
    centre: int | None = None,
    partial: float = 1.0,
    refine: int = 2,
) -> KSpace:
    """What an MR scanner would measure of ``volume``.

    The object is the volume times a smooth phase, interpolated by cubic splines to a grid ``refine`` times finer in the
    plane, where the coils receive it; k-space is cut to the resolution of the volume. So neither grid nor maps are
    those that reconstruct. Masks of lines undersample along x, with the readout along y, slice by slice; masks of two
    directions undersample y and x of a 3D scan with the readout along z.

    Parameters
    ----------
    volume
        Magnitudes, not negative, in any orientation.
    mask, acceleration, centre
        See `medrecon.physics.mri.masks.make_mask`.
    noise
        Standard deviation of the real, and of the imaginary, part of a sample, relative to the largest value of the
        volume. Transforms are orthonormal: a fully sampled coil image has the same level.
    partial
        Share of the samples along x that partial Fourier keeps.

    Raises
    ------
    InputError
        The volume holds NaN, infinity or no signal.
    UsageError
        A mask that cannot be made, or settings out of range.
    """
    if coils < 1 or refine < 1 or not noise >= 0:
        raise UsageError("coils and refine are at least 1, noise not negative", found=(coils, refine, noise))
    turned = volume.as_orientation("LPS")
    truth = np.asarray(turned.array, dtype=np.float32)
    if not np.isfinite(truth).all():
        raise InputError("the volume holds NaN or infinity", found=f"{int((~np.isfinite(truth)).sum())} voxels")
    if not truth.max() > 0:
        raise InputError("the volume holds no signal", found=f"largest value {truth.max()}")
    lines = dimensions_of(mask) == 1
    pattern = make_mask(mask, truth.shape[2:] if lines else truth.shape[1:], acceleration, centre=centre, seed=seed)
    if partial < 1:
        pattern = partial_fourier(pattern, partial, axis=pattern.ndim - 1)
    clean = _received(truth, turned.geometry, coils, refine, along_z=not lines)
    sigma = noise * float(truth.max())
    if sigma > 0:
        random = np.random.default_rng([seed, 1])
        for coil in clean:
            parts = random.standard_normal((2, *coil.shape), dtype=np.float32)
            coil += sigma * (parts[0] + 1j * parts[1])
    full = pattern.reshape((1, 1, -1) if lines else (1, *pattern.shape))
    clean *= full
    geometry = turned.geometry
    how = {
        "refine": refine,
        "inverse_crime": False,
        "seed": seed,
        "mask": mask,
        "coils": coils,
        "noise": noise,
        "source_orientation": volume.geometry.orientation,
    }
    return KSpace(
        data=clean,
        volume_geometry=geometry,
        field_of_view=_extent(geometry),
        mask=full,
        encoded=(1, 2) if lines else (0, 1, 2),
        readout_axis=1 if lines else 0,
        noise_covariance=(sigma**2 * np.eye(coils)).astype(np.complex64) if sigma > 0 else None,
        quantity=volume.quantity,
        provenance={"simulation": how},
        meta={
            "format": "simulated",
            "acceleration": real_acceleration(full),
            "calibration": list(calibration_widths(pattern)),
        },
    )


def _extent(geometry: Geometry) -> tuple[float, float, float]:
    z, y, x = (n * s for n, s in zip(geometry.shape, geometry.spacing, strict=True))
    return z, y, x


def _received(truth: np.ndarray, geometry: Geometry, coils: int, refine: int, *, along_z: bool) -> np.ndarray:
    """k-space of every coil, fully sampled and free of noise; also transformed along z where that is the readout."""
    extent = _extent(geometry)
    fields = CoilFields(extent, coils)
    shape, spacing = truth.shape, geometry.spacing
    heights = (np.arange(shape[0]) - shape[0] // 2) * spacing[0]
    places = [
        (np.arange(n * refine) - n * refine // 2) * (step / refine)
        for n, step in zip(shape[1:], spacing[1:], strict=True)
    ]
    out = np.empty((coils, *shape), dtype=np.complex64)
    for z, height in enumerate(heights):
        here = (np.array([height]), places[0], places[1])
        phase = object_phase(*here, max(extent[1:]) / 2)[0]
        fine = _finer(truth[z], refine) * np.exp(1j * phase)
        images = torch.from_numpy((fields(*here)[:, 0] * fine).astype(np.complex64))
        # Orthonormal on the finer grid: refine^2 times the samples make it refine times larger
        out[:, z] = cropped(centred_fft(images, (1, 2)), shape[1:]).numpy() / refine
    return centred_fft(torch.from_numpy(out), (1,)).numpy() if along_z else out


def _finer(image: np.ndarray, refine: int) -> np.ndarray:
    """Cubic splines through the pixels, centre on centre; overshoot below zero is cut off."""
    sizes = [n * refine for n in image.shape]
    offset = [n // 2 - (m // 2) / refine for n, m in zip(image.shape, sizes, strict=True)]
    fine = ndimage.affine_transform(
        image, [1 / refine, 1 / refine], offset, output_shape=tuple(sizes), order=3, mode="nearest"
    )
    return np.maximum(fine, 0.0)
