"""Coil maps from a fully sampled centre of k-space: low-resolution images, ESPIRiT, and the phase of the object.

A calibration is ``(coils, z, y, x)``, centred k-space; along slices (not encoded) it has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.mri.fourier import along, centred_ifft, cropped, embedded

_CHUNK_BYTES = 64 << 20


def low_resolution_images(calibration: Tensor, matrix: Sequence[int], axes: Sequence[int]) -> Tensor:
    """Images of every coil from the centre alone, ``(coils, *matrix)``, with a Hann window against ringing.

    ``matrix`` are the encoded samples along ``(z, y, x)``, ``axes`` the encoded axes.
    """
    data = calibration
    for axis in axes:
        n = calibration.shape[1 + axis]
        if n < matrix[axis]:
            distance = torch.arange(n, dtype=torch.float64) - n // 2
            window = 0.5 + 0.5 * torch.cos(2 * torch.pi * distance / (n + 2))
            data = data * along(window, 1 + axis, 4).to(data.device, data.real.dtype)
    return centred_ifft(embedded(data, tuple(matrix)), tuple(1 + a for a in axes))


def low_resolution_maps(
    calibration: Tensor, grid: Sequence[int], matrix: Sequence[int], axes: Sequence[int], *, threshold: float = 0.05
) -> Tensor:
    """Maps ``(1, coils, *grid)``: low-resolution images over their root sum of squares (McKenzie et al. 2002).

    Zero where that root lies below ``threshold`` times its largest value.
    """
    images = cropped(low_resolution_images(calibration, matrix, axes), grid)
    size = torch.linalg.vector_norm(images, dim=0)
    inside = size > threshold * size.max()
    return (images / size.clamp_min(torch.finfo(size.dtype).tiny) * inside)[None]


def absorb_phase(maps: Tensor, calibration: Tensor, matrix: Sequence[int], axes: Sequence[int]) -> Tensor:
    """Maps times the phase of the low-resolution image combined with them: what is left of the image is real.

    With ``S' = S e^{i phi}`` the unknown becomes ``x e^{-i phi}``, real but for fine structure in the phase, whatever
    phase the maps had before. Each set of maps gets the phase of its own component.
    """
    images = cropped(low_resolution_images(calibration, matrix, axes), maps.shape[2:])
    out = torch.empty_like(maps)
    for index in range(len(maps)):
        combined = (maps[index].conj() * images).sum(dim=0)
        phase = torch.where(combined == 0, torch.ones_like(combined), combined / combined.abs().clamp_min(1e-30))
        torch.mul(maps[index], phase, out=out[index])
    return out


# --- ESPIRiT -------------------------------------------------------------------------------------------------------
def espirit(
    calibration: Tensor,
    grid: Sequence[int],
    matrix: Sequence[int],
    axes: Sequence[int],
    *,
    sets: int = 1,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.8,
) -> Tensor:
    """Maps ``(sets, coils, *grid)`` by ESPIRiT (Uecker et al. 2014), of length one or zero at every voxel.

    Parameters
    ----------
    calibration
        ``(coils, z, y, x)``; with ``axes = (1, 2)`` every slice is calibrated by itself.
    matrix
        Encoded samples ``(z, y, x)``; the grid lies centrally in their field of view.
    sets
        2 where the object is larger than the field of view, or maps are locally not unique.
    kernel
        Width of the patches of k-space, in samples.
    threshold
        Singular values of the calibration matrix below this share of the largest belong to the noise.
    crop
        Maps are zero where their eigenvalue, 1 for a voxel that the calibration explains, is smaller.

    Raises
    ------
    InputError
        A centre narrower than the patches.
    """
    coils = calibration.shape[0]
    if not 1 <= sets <= coils:
        raise InputError("sets of maps", found=sets, expected=f"1 to {coils}")
    narrow = min(calibration.shape[1 + a] for a in axes)
    if narrow < kernel + 1:
        raise InputError(
            "the fully sampled centre is too narrow for coil maps by ESPIRiT",
            found=f"{narrow} samples", expected=f"more than {kernel}", hint="Use low-resolution maps instead.",
        )  # fmt: skip
    sizes, full = [grid[a] for a in axes], [matrix[a] for a in axes]
    if tuple(axes) == (0, 1, 2):
        return _espirit(calibration, sizes, full, sets, min(kernel, 5), threshold, crop)
    slices = [
        _espirit(calibration[:, z], sizes, full, sets, kernel, threshold, crop) for z in range(calibration.shape[1])
    ]
    return torch.stack(slices, dim=2)


def _espirit(
    calibration: Tensor, sizes: list[int], full: list[int], sets: int, kernel: int, threshold: float, crop: float
) -> Tensor:
    """Of one slice or volume, all axes of it encoded."""
    if not bool((calibration != 0).any()):
        return torch.zeros((sets, calibration.shape[0], *sizes), dtype=calibration.dtype)
    vectors = _signal_space(calibration, kernel, threshold)
    coupling = _coupling(vectors, kernel)
    reference = _main_coil(calibration)
    maps = torch.empty((prod(sizes), sets, calibration.shape[0]), dtype=torch.complex64)
    values = torch.empty((prod(sizes), sets), dtype=torch.float32)
    first = 0
    for matrices in _image_space(coupling, sizes, full, kernel):
        last = first + len(matrices)
        maps[first:last], values[first:last] = leading_eigenvectors(matrices, sets)
        first = last
    # The phase of an eigenvector is free: that of the strongest combination of coils is made zero
    projected = maps @ reference.conj().to(maps.dtype)
    phase = torch.where(projected == 0, torch.ones_like(projected), projected / projected.abs().clamp_min(1e-30))
    maps = maps * (phase.conj() * (values > crop))[..., None]
    return maps.permute(1, 2, 0).reshape(sets, calibration.shape[0], *sizes).to(calibration.dtype)


def _signal_space(calibration: Tensor, kernel: int, threshold: float) -> Tensor:
    """Orthonormal patches ``(patches, coils, kernel, ...)`` that span those of the calibration."""
    dimensions = calibration.ndim - 1
    windows = calibration.to(torch.complex64)
    for axis in range(dimensions):
        windows = windows.unfold(1 + axis, kernel, 1)
    # (coils, positions..., kernel...) -> (positions, coils * kernel...)
    order = (*range(1, 1 + dimensions), 0, *range(1 + dimensions, 1 + 2 * dimensions))
    patches = windows.permute(order).reshape(-1, calibration.shape[0] * kernel**dimensions)
    values, vectors = torch.linalg.eigh(patches.T @ patches.conj())
    kept = values > threshold**2 * values[-1]
    return vectors[:, kept].T.reshape(-1, calibration.shape[0], *[kernel] * dimensions)


def _coupling(vectors: Tensor, kernel: int) -> Tensor:
    """How coils predict each other in k-space: ``(coils, coils, shifts...)`` for shifts ``-(kernel-1)..kernel-1``.

    ``K(d) = kernel^-n sum_r sum_e u_r(e) conj(u_r(e + d))``: the mean over all patches around a sample, by transforms.
    """
    axes = tuple(range(2, vectors.ndim))
    width = 2 * kernel - 1
    spectra = torch.fft.ifftn(vectors, s=[width] * len(axes), dim=axes, norm="forward")
    products = torch.einsum("ri...,rj...->ij...", spectra, spectra.conj()) / kernel ** len(axes)
    return torch.fft.fftshift(torch.fft.ifftn(products, dim=axes), dim=axes)


def _image_space(coupling: Tensor, sizes: list[int], full: list[int], kernel: int) -> Iterator[Tensor]:
    """Hermitian matrices ``(voxels, coils, coils)`` of consecutive rows of the image, a chunk at a time."""
    shifts = torch.arange(-(kernel - 1), kernel, dtype=torch.float64)
    waves = []
    for m, n in zip(sizes, full, strict=True):
        position = torch.arange(m, dtype=torch.float64) - m // 2
        angle = -2 * torch.pi * position[:, None] * shifts[None] / n
        waves.append(torch.polar(torch.ones_like(angle), angle).to(coupling.dtype))
    coils = coupling.shape[0]
    rows = max(1, _CHUNK_BYTES // (prod(sizes[1:]) * coils**2 * 8))
    values = coupling
    for axis, wave in enumerate(waves[1:], start=3):
        values = torch.tensordot(values, wave, dims=([axis], [1])).movedim(-1, axis)
    for first in range(0, sizes[0], rows):
        part = torch.tensordot(waves[0][first : first + rows], values, dims=([1], [2]))  # (row, coil, coil, ...)
        yield part.permute(0, *range(3, part.ndim), 1, 2).reshape(-1, coils, coils)


def _main_coil(calibration: Tensor) -> Tensor:
    """The combination of coils with the most energy."""
    flat = calibration.reshape(calibration.shape[0], -1).to(torch.complex128)
    return torch.linalg.eigh(flat @ flat.conj().T)[1][:, -1]


def leading_eigenvectors(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of Hermitian ``(voxels, n, n)``: eigenvectors ``(voxels, count, n)`` and values, the largest first.

    Power iteration from the neighbouring voxel, whose answer is nearly the same; the next ones after deflation.
    """
    from medrecon.physics.mri.eigen_kernels import power_iteration

    voxels, n = matrices.shape[:2]
    vectors = torch.empty((voxels, count, n), dtype=torch.complex64)
    values = torch.empty((voxels, count), dtype=torch.float32)
    power_iteration(matrices.to(torch.complex64).contiguous().numpy(), vectors.numpy(), values.numpy())
    return vectors, values
