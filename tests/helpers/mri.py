"""Small MR measurements with known answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medrecon.data.volume import Geometry, Volume
from medrecon.physics.mri.coil_fields import CoilFields, object_phase
from medrecon.physics.mri.fourier import centred_fft


def head(shape: tuple[int, int, int] = (2, 64, 56), spacing: tuple[float, float, float] = (4.0, 3.0, 3.0)) -> Volume:
    """Ellipses with edges and smooth texture, 0 to 1000, empty at the border."""
    z, y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None]
    inside = (x / 0.75) ** 2 + (y / 0.85) ** 2 < 1
    values = 500.0 * inside + 300 * (((x / 0.62) ** 2 + (y / 0.7) ** 2) < 1) * (
        1 + 0.25 * np.sin(9 * x + z) * np.cos(7 * y)
    )
    values -= 450.0 * (((x - 0.2) / 0.12) ** 2 + ((y + 0.1) / 0.3) ** 2 < 1)
    values += 180.0 * (((x + 0.25) / 0.2) ** 2 + ((y - 0.2) / 0.15) ** 2 < 1)
    values = np.broadcast_to(np.maximum(values, 0), shape).astype(np.float32)
    return Volume(np.ascontiguousarray(values), Geometry.from_spacing(shape, spacing))


def maps_and_image(volume: Volume, coils: int) -> tuple[Tensor, Tensor]:
    """True coil maps ``(coils, z, y, x)`` and the complex image, on the grid of the volume."""
    shape, spacing = volume.geometry.shape, volume.geometry.spacing
    extent = tuple(n * s for n, s in zip(shape, spacing, strict=True))
    z, y, x = ((np.arange(n) - n // 2) * s for n, s in zip(shape, spacing, strict=True))
    maps = CoilFields((extent[0], extent[1], extent[2]), coils)(z, y, x)
    image = volume.array * np.exp(1j * object_phase(z, y, x, max(extent) / 2))
    return torch.from_numpy(maps), torch.from_numpy(image.astype(np.complex64))


def full_kspace(volume: Volume, coils: int, *, noise: float = 0.0, axes: tuple[int, ...] = (2, 3)) -> Tensor:
    """Fully sampled k-space ``(coils, z, y, x)`` with noise of that level in both parts."""
    maps, image = maps_and_image(volume, coils)
    clean = centred_fft(maps * image, axes)
    parts = torch.randn((2, *clean.shape), generator=torch.Generator().manual_seed(3))
    return clean + noise * torch.complex(parts[0], parts[1])


def psnr(estimate: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> float:
    """Peak signal-to-noise ratio in dB, the peak that of the truth."""
    difference = np.asarray(estimate, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
    return float(10 * np.log10(np.asarray(truth).max() ** 2 / np.mean(difference**2)))
