"""Non-Cartesian MRI: coil maps and non-uniform Fourier transforms (finufft), on any trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError, MissingDependency
from medrecon.physics.linop import LinearOperator, Space, operators
from medrecon.physics.mri.fourier import along

# Relative, of one transform in single precision, and how much finer than the volume its grid is. With one twice as fine
# a radial slice of 256 x 256 takes five times as long, and is no more accurate than 1.1e-5 in single precision.
_ACCURACY, _FINER = 5e-5, 1.25
_KERNEL_ACCURACY = 1e-9
_DENSITY_ITERATIONS = 12


class NonCartesianSense(LinearOperator):
    """From a complex volume to the samples of every coil along a trajectory.

    Domain ``(z, y, x)``; range ``(slices, coils, spokes, samples)`` for a 2D trajectory, which all slices share, or
    ``(1, coils, spokes, samples)`` for a 3D one. Transforms are centred and have the factor ``prod(matrix)^-1/2`` of a
    fully sampled orthonormal one. A'A is a convolution, applied by Fourier transforms on the doubled grid (Fessler et
    al. 2005).

    Parameters
    ----------
    maps
        complex64 ``(1, coils, z, y, x)``.
    trajectory
        ``(spokes, samples, 2 or 3)``: cycles per encoded field of view along ``(y, x)`` or ``(z, y, x)``.
    matrix
        Encoded matrix ``(z, y, x)``: field of view over voxel size.
    amplitude
        ``(slices or 1, spokes, samples)``, 0 where a sample is missing; by default 1.

    Raises
    ------
    MissingDependency
        finufft is not installed.
    InputError
        Shapes that do not fit, or frequencies beyond the resolution.
    """

    holdout_axis = 2
    coil_axis = 1

    def __init__(
        self, maps: Tensor, trajectory: Tensor, matrix: tuple[int, int, int], amplitude: Tensor | None = None
    ) -> None:
        dimensions = trajectory.shape[-1] if trajectory.ndim == 3 else 0
        if maps.ndim != 5 or not maps.is_complex() or maps.shape[0] != 1:
            raise InputError("coil maps are one complex set (1, coils, z, y, x)", found=tuple(maps.shape))
        if dimensions not in (2, 3):
            raise InputError(
                "a trajectory has three axes", found=tuple(trajectory.shape), expected="(spokes, samples, 2 or 3)"
            )
        self.matrix = tuple(matrix[3 - dimensions :])
        limits = torch.tensor(self.matrix, dtype=torch.float64) / 2
        if bool((trajectory.double().abs() > limits * 1.001).any()) or not bool(torch.isfinite(trajectory).all()):
            raise InputError(
                "the trajectory leaves the encoded k-space", found=float(trajectory.abs().max()),
                expected=f"within {limits.tolist()} cycles per field of view", hint="Is it in radians or 1/mm?",
            )  # fmt: skip
        _, self.coils, *grid = maps.shape
        self.rows = grid[0] if dimensions == 2 else 1
        self.couples_slices = dimensions == 3
        self._plane = tuple(grid[3 - dimensions :])
        self._maps = maps[0].transpose(0, 1).contiguous() if dimensions == 2 else maps[0][None]
        self._phases = [
            np.ascontiguousarray(2 * np.pi * trajectory[..., a].double().numpy().ravel() / self.matrix[a])
            for a in range(dimensions)
        ]
        spokes, samples = trajectory.shape[:2]
        if amplitude is None:
            amplitude = torch.ones((1, 1, 1))
        if amplitude.ndim != 3 or amplitude.shape[0] not in (1, self.rows):
            raise InputError(
                "amplitudes of samples", found=tuple(amplitude.shape), expected="(slices, spokes, samples)"
            )
        amplitude = amplitude.to(maps.real.dtype).expand(-1, spokes, samples)
        self._amplitude = amplitude[:, None]
        self.domain = Space((grid[0], grid[1], grid[2]), maps.dtype)
        self.range = Space((self.rows, self.coils, spokes, samples), maps.dtype)
        count = int((amplitude > 0).sum()) * (self.rows if len(amplitude) == 1 else 1)
        self.sample_count = self.coils * count
        self._factor = prod(self.matrix) ** -0.5
        self._plans: dict[tuple[int, int, str], Any] = {}
        self._kernel: Tensor | None = None

    # --- transforms -------------------------------------------------------------------------------------------
    def _plan(self, kind: int, count: int, modes: Sequence[int], dtype: torch.dtype, accuracy: float) -> Any:
        plan_class = _finufft().Plan
        single = dtype == torch.complex64
        # One thread: the order of additions, and so the last bit, must not depend on the machine. Samples follow each
        # other along spokes and arms: in a plane, which fits the cache, sorting them costs more than it saves.
        plan = plan_class(
            kind, tuple(modes), count, accuracy, -1 if kind == 2 else 1, nthreads=1, spread_sort=len(modes) > 2,
            dtype="complex64" if single else "complex128", **({"upsampfac": _FINER} if single else {}),
        )  # fmt: skip
        real = np.float32 if dtype == torch.complex64 else np.float64
        plan.setpts(*(phase.astype(real) for phase in self._phases))
        return plan

    def _execute(self, kind: int, values: Tensor) -> Tensor:
        """Transform ``(coils, ...)`` to the trajectory (kind 2) or back (kind 1)."""
        key = (kind, len(values), str(values.dtype))
        if key not in self._plans:
            accuracy = _ACCURACY if values.dtype == torch.complex64 else 1e-12
            self._plans[key] = self._plan(kind, len(values), self._plane, values.dtype, accuracy)
        flat = values.reshape(len(values), *(self._plane if kind == 2 else (-1,))).contiguous().numpy()
        out = self._plans[key].execute(flat[0] if len(values) == 1 else flat)
        shape = self.range.shape[2:] if kind == 2 else self._plane
        return torch.from_numpy(np.ascontiguousarray(out)).reshape(len(values), *shape)

    def samples_of(self, data: Tensor) -> Tensor:
        """Measured data ``(coils, slices, spokes, samples)`` as the operator's range."""
        expected = (self.coils, self.rows, *self.range.shape[2:])
        if tuple(data.shape) != expected:
            raise InputError("data of another shape than the trajectory", found=tuple(data.shape), expected=expected)
        return data.transpose(0, 1) * self._amplitude

    def _row_amplitude(self, row: int) -> Tensor:
        return self._amplitude[row if len(self._amplitude) > 1 else 0]

    def _forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(self.rows, *self._plane)
        out = torch.empty(self.range.shape, dtype=x.dtype)
        for row in range(self.rows):
            spectra = self._execute(2, self._maps[row] * rows[row])
            torch.mul(spectra, self._row_amplitude(row) * self._factor, out=out[row])
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        out = torch.empty((self.rows, *self._plane), dtype=y.dtype)
        for row in range(self.rows):
            images = self._execute(1, y[row] * (self._row_amplitude(row) * self._factor))
            out[row] = images.mul_(self._maps[row].conj()).sum(dim=0)
        return out.reshape(self.domain.shape)

    def _normal(self, x: Tensor) -> Tensor:
        if len(self._amplitude) > 1:
            return self._adjoint(self._forward(x))
        if self._kernel is None:
            self._kernel = self._spectrum().to(self._maps.real.dtype)
        rows, axes = x.reshape(self.rows, *self._plane), tuple(range(-len(self._plane), 0))
        out = torch.empty_like(rows)
        doubled = tuple(2 * m for m in self._plane)
        inner = tuple(slice(0, m) for m in self._plane)
        for row in range(self.rows):
            images = torch.fft.fftn(self._maps[row] * rows[row], s=doubled, dim=axes)
            torch.view_as_real(images).mul_(self._kernel[..., None])
            images = torch.fft.ifftn(images, dim=axes)[(..., *inner)]
            out[row] = (images * self._maps[row].conj()).sum(dim=0)
        return out.reshape(self.domain.shape)

    def _spectrum(self) -> Tensor:
        """Fourier transform of the point-spread function on the doubled grid: real, because A'A is Hermitian."""
        doubled = [2 * m for m in self._plane]
        weights = self._amplitude[0, 0].double().square().reshape(-1).to(torch.complex128)
        plan = self._plan(1, 1, doubled, torch.complex128, _KERNEL_ACCURACY)
        response = torch.from_numpy(plan.execute(weights.numpy())) / prod(self.matrix)
        for axis in range(len(doubled)):
            response.select(axis, 0).zero_()  # the one distance without a counterpart; no two voxels are so far apart
        return torch.fft.fftn(torch.fft.ifftshift(response)).real

    # --- direct inversion ---------------------------------------------------------------------------------------
    def density_weights(self) -> Tensor:
        """Density compensation of each sample ``(spokes, samples)``; by Pipe and Menon 1999.

        1 for fully sampled Cartesian data. The adjoint of weighted data is the image where sampling is dense enough.
        """
        weights = (self._amplitude[0, 0] > 0).to(torch.complex64)
        window = torch.ones(())
        for axis, m in enumerate(self._plane):  # a triangle: its transform, the kernel of the smoothing, is positive
            triangle = 1 - (torch.arange(m) - m // 2).abs() / (m / 2 + 1)
            window = window * along(triangle, axis, len(self._plane))
        for _ in range(_DENSITY_ITERATIONS):
            smoothed = self._execute(2, window * self._execute(1, weights[None]))[0].abs()
            weights = weights / smoothed.clamp_min(1e-20)
        return weights.real * prod(self.matrix)

    def zero_filled(self, y: Tensor) -> Tensor:
        """Gridded images combined with the maps: a volume."""
        self.range.check(y, "measured data")
        return self.adjoint(y * self.density_weights().to(y.dtype))

    def coil_images(self, y: Tensor) -> Tensor:
        """Gridded image of every coil, ``(coils, z, y, x)``, with density compensation."""
        self.range.check(y, "measured data")
        weights = self.density_weights() * self._factor
        images = torch.stack([self._execute(1, y[row] * weights) for row in range(self.rows)], dim=1)
        return images.reshape(self.coils, *self.domain.shape)


def _finufft() -> Any:
    try:
        import finufft
    except ImportError as error:
        raise MissingDependency("finufft", "mri", "a non-Cartesian trajectory") from error
    return finufft


# --- trajectories ------------------------------------------------------------------------------------------------
GOLDEN_ANGLE = np.pi * (5**0.5 - 1) / 2


def radial_trajectory(spokes: int, samples: int, matrix: tuple[int, int], *, golden: bool = True) -> np.ndarray:
    """Straight lines through the centre, ``(spokes, samples, 2)`` in cycles per field of view along ``(y, x)``.

    Sample ``samples // 2`` of each is the centre. Angles grow by the golden angle, or evenly over half a turn.
    """
    angles = np.arange(spokes) * (GOLDEN_ANGLE if golden else np.pi / spokes)
    radii = (np.arange(samples) - samples // 2) / samples
    directions = np.stack([np.sin(angles) * matrix[0], np.cos(angles) * matrix[1]], axis=-1)
    return (radii[None, :, None] * directions[:, None]).astype(np.float32)


def spiral_trajectory(
    arms: int, samples: int, matrix: tuple[int, int], *, turns: float = 8.0, density: float = 1.0
) -> np.ndarray:
    """Archimedean spirals from the centre outwards, ``(arms, samples, 2)``; ``density`` above 1 favours the centre.

    Radius ``t^density / 2`` of the matrix at angle ``2 pi turns t``, ``t`` from 0 to 1; arms evenly turned.
    """
    t = np.linspace(0, 1, samples, endpoint=False)
    angle = 2 * np.pi * (turns * t[None] + np.arange(arms)[:, None] / arms)
    radius = np.broadcast_to(0.5 * t**density, angle.shape)
    return np.stack([radius * np.sin(angle) * matrix[0], radius * np.cos(angle) * matrix[1]], -1).astype(np.float32)


# --- example for the contract tests --------------------------------------------------------------------------------
def _radial() -> NonCartesianSense:
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn((1, 2, 2, 7, 6), dtype=torch.complex64, generator=generator)
    trajectory = torch.from_numpy(radial_trajectory(5, 9, (7, 6)))
    return NonCartesianSense(maps, trajectory, (2, 7, 6))


if find_spec("finufft") is not None:
    operators.register("mri-radial", example=_radial)(NonCartesianSense)
