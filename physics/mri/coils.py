"""Receive coils as a set: noise pre-whitening and compression to fewer virtual coils.

Arrays are ``(coils, ...)``; whatever is done to the data is done to a separate calibration with the same matrix.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.mri.fourier import centred_fft, centred_ifft, cropped, embedded

_EDGE_POSITIONS, _EDGE_SAMPLES = 12, 20  # outside of the grid; of noise per coil
_PERIPHERY, _PERIPHERY_SAMPLES = 0.9, 200  # radius, as a share of the samples within it; samples in all
_EDGE_SPREAD, _EDGE_ROLL_OFF = 1.3, 16.0  # of power


def mixed(matrix: Tensor, data: Tensor) -> Tensor:
    """``matrix`` (virtual coils, coils) applied to ``(coils, ...)``."""
    return (matrix.to(data.dtype) @ data.reshape(data.shape[0], -1)).reshape(-1, *data.shape[1:])


def whitening_matrix(covariance: Tensor) -> tuple[Tensor, float]:
    """Matrix that makes the noise of all coils independent and equal, and the level that it then has.

    ``covariance`` is ``E[n n^H] / 2``, complex ``(coils, coils)``. The matrix is the inverse of its Cholesky factor
    times the geometric mean of the coils' levels, so that data keep their units; equal independent coils stay as they
    are. The level is the standard deviation of the real, and of the imaginary, part of a sample.

    Raises InputError unless the covariance is Hermitian and positive definite.
    """
    c = covariance.to(torch.complex128)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or not torch.allclose(c, c.conj().T, rtol=1e-4, atol=0):
        raise InputError("a noise covariance is a Hermitian matrix of the coils", found=tuple(covariance.shape))
    factor, failed = torch.linalg.cholesky_ex(c)
    if int(failed) or not bool(torch.isfinite(torch.view_as_real(factor)).all()):
        raise InputError(
            "the noise covariance is not positive definite",
            hint="Is a coil without signal among them, or is the noise scan shorter than the number of coils?",
        )
    level = float(factor.diagonal().real.log().mean().exp())
    identity = torch.eye(len(c), dtype=c.dtype)
    return level * torch.linalg.solve_triangular(factor, identity, upper=False), level


def noise_covariance(noise: Tensor) -> Tensor:
    """``E[n n^H] / 2`` of a noise scan ``(coils, samples)``."""
    noise = noise.reshape(noise.shape[0], -1).to(torch.complex128)
    if noise.shape[1] < noise.shape[0]:
        raise InputError("a noise scan has fewer samples than coils", found=tuple(noise.shape))
    return noise @ noise.conj().T / (2 * noise.shape[1])


def edge_covariance(data: Tensor, weights: Tensor, axis: int, kept: int) -> Tensor | None:
    """Noise covariance from the edges of an oversampled readout, where the field of view holds no object.

    For scans without a noise measurement. The receiver's filter rolls off towards the edges (to a third of the level,
    on a Siemens scanner), so the positions next to the ``kept`` central ones tell what the noise is within the grid:
    the quiet ones of them, as an object may reach beyond the grid. Where all of them are far louder than the edges,
    they are taken for object, and positions further out are used.

    Parameters
    ----------
    data
        k-space ``(coils, z, y, x)``.
    weights
        How often each sample was measured, 0 where it was not, broadcastable to ``(z, y, x)``.
    axis
        The readout, 0, 1 or 2 of z, y, x.

    Returns
    -------
    Tensor | None
        ``E[n n^H] / 2`` of a sample measured once, ``(coils, coils)``; None where there is too little empty space to
        tell, or where no level stands out as that of noise.
    """
    samples = data.shape[1 + axis]
    counts = weights.expand(data.shape[1:]).movedim(axis, -1).reshape(-1, samples)
    measured = (counts > 0).all(dim=1)  # where an echo is cut, the object rings to the edges
    if samples - kept < _EDGE_POSITIONS or not bool(measured.any()):
        return None
    counts = counts[measured]
    lines = data.movedim(1 + axis, -1).reshape(data.shape[0], -1, samples)[:, measured]
    gain = counts.amax(dim=1).to(torch.float64).sqrt()  # a line measured n times has an n-th of the variance
    images = centred_ifft(lines, (2,)).to(torch.complex128) * gain[None, :, None]
    first = samples // 2 - kept // 2
    outside = torch.cat([images[..., :first].flip(2), images[..., first + kept :]], dim=2)
    distance = torch.cat([torch.arange(n) / n for n in (first, samples - first - kept)])
    power = outside.abs().square().mean(dim=(0, 1))
    thirds = [(distance >= i / 3) & (distance < (i + 1) / 3) for i in range(3)]
    levels = [power[third].quantile(0.25) for third in thirds]
    third, quiet = next(pair for pair in zip(thirds, levels, strict=True) if pair[1] <= _EDGE_ROLL_OFF * levels[-1])
    chosen = third & (power > quiet / _EDGE_SPREAD) & (power < quiet * _EDGE_SPREAD)
    noise = outside[..., chosen].reshape(data.shape[0], -1)
    enough = noise.shape[1] >= _EDGE_SAMPLES * data.shape[0]
    return noise_covariance(noise) if enough and float(quiet) > 0 else None


def periphery_level(data: Tensor, weights: Tensor, encoded: tuple[int, ...]) -> float:
    """Standard deviation of the parts of a sample measured once, from the outermost samples; 0 where there are few.

    For scans that tell their noise in no other way. Far out in k-space an object has little signal, so this is the
    noise, or somewhat more where resolution is low or there is none. The median is not moved by the few samples that an
    object still reaches: of exponentially distributed powers it is ``ln 2`` times the mean.

    Parameters
    ----------
    data
        k-space ``(coils, z, y, x)``.
    weights
        How often each sample was measured, 0 where it was not, broadcastable to ``(z, y, x)``.
    encoded
        The axes of z, y, x that hold spatial frequencies.
    """
    radius = torch.zeros(data.shape[1:])
    for axis in encoded:
        n = data.shape[1 + axis]
        shape = [1, 1, 1]
        shape[axis] = n
        radius = radius + ((torch.arange(n) - n // 2) / (n / 2)).square().reshape(shape)
    counts = weights.expand(data.shape[1:])
    measured = (counts > 0) & (data != 0).any(dim=0)
    if int(measured.sum()) < _PERIPHERY_SAMPLES:
        return 0.0
    rim = measured & (radius >= np.quantile(radius[measured].numpy(), _PERIPHERY))
    power = data[:, rim].abs().square() * counts[rim]
    return math.sqrt(float(power.median()) / (2 * math.log(2)))


def compression_matrix(data: Tensor, count: int) -> Tensor:
    """The ``count`` combinations of coils with the most energy in ``data``, ``(count, coils)``; Huang et al. 2008.

    Rows are orthonormal: white noise stays white.
    """
    if not 1 <= count <= data.shape[0]:
        raise InputError("number of virtual coils", found=count, expected=f"1 to {data.shape[0]}")
    flat = data.reshape(data.shape[0], -1).to(torch.complex128)
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    return vectors.flip(1)[:, :count].conj().T.contiguous()


def compressed_geometrically(data: Tensor, calibration: Tensor, count: int, axis: int) -> tuple[Tensor, Tensor]:
    """Geometric compression: another matrix at each position along the readout; Zhang et al. 2013.

    Parameters
    ----------
    data
        k-space ``(coils, z, y, x)``, fully sampled along ``axis`` (0, 1 or 2 of z, y, x).
    calibration
        Its fully sampled centre, ``(coils, z, y, x)``; embedded along the readout to the data's length.

    Returns
    -------
    tuple
        Virtual coils of data (k-space again) and of calibration (on the data's readout length). Matrices of
        neighbouring positions are aligned by a unitary rotation, so that virtual coils vary smoothly.
    """
    n = data.shape[1 + axis]
    images = centred_ifft(data, (1 + axis,)).movedim(1 + axis, 0)
    moved = calibration.movedim(1 + axis, -1)
    longer = embedded(moved, (n,)) if moved.shape[-1] < n else cropped(moved, (n,))
    reference = centred_ifft(longer, (longer.ndim - 1,)).movedim(-1, 0)
    bases = [compression_matrix(reference[position], count) for position in range(n)]
    order = [*range(n // 2, n), *range(n // 2 - 1, -1, -1)]
    for position in order[1:]:
        neighbour = bases[position - 1 if position > n // 2 else position + 1]
        # Closest basis of the same space: polar factor of the product (their equations 4 and 5)
        left, _, right = torch.linalg.svd(neighbour @ bases[position].conj().T)
        bases[position] = left @ right @ bases[position]

    def applied(positions: Tensor) -> Tensor:
        out = torch.stack([mixed(basis, part) for basis, part in zip(bases, positions, strict=True)])
        return centred_fft(out.movedim(0, 1 + axis).contiguous(), (1 + axis,))

    return applied(images), applied(reference)
