"""Multi-coil Cartesian MRI (SENSE): coil maps, Fourier transforms along the undersampled axes alone, samples.

Along an axis that is fully sampled the Fourier transform is unitary and can be undone in the data once, before
anything is reconstructed (`CartesianSense.samples_of`). What is left are many small coupled problems: rows for a mask
of lines, planes for a 3D scan that is undersampled in two directions. White noise stays white.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.physics.linop import LinearOperator, Space, operators
from medrecon.physics.mri.fourier import (
    along,
    central,
    centred_ifft,
    frequency_modulation,
    image_modulation,
)
from medrecon.physics.mri.reach import shares

_REACH = 12.0  # samples; from 8 to 16 within 0.2 dB on validation heads
_CHUNK_BYTES = 4 << 20  # of coil images at a time: they stay in the cache between the passes


class CartesianSense(LinearOperator):
    """From a complex volume to the measured samples of every coil; Pruessmann et al. 2001.

    Domain ``(z, y, x)``, or ``(sets, z, y, x)`` with several sets of maps. Range ``(rows, coils, samples)``: a row is
    one position along the axes that are not transformed, flattened in the order z, y, x; a sample is one measured
    frequency along the transformed ones, flattened likewise. Where slices have different numbers of samples, the rest
    of a row is zero.

    Parameters
    ----------
    maps
        complex64 (or complex128) ``(sets, coils, z, y, x)`` on the grid to reconstruct.
    mask
        ``(z, y, x)`` over the encoded samples, 1 where all are alike; bool, or the amplitude with which each sample
        enters (0: not measured; root of the number of averages). All coils share it.
    matrix
        Encoded samples along ``(z, y, x)``; at least the size of the grid, which lies centrally in the encoded field
        of view.
    encoded
        Axes that hold spatial frequencies: ``(1, 2)`` for slices, ``(0, 1, 2)`` for 3D.

    Attributes
    ----------
    transformed
        Encoded axes along which the mask varies.
    free
        The other axes; their positions do not mix.
    """

    holdout_axis = 2
    coil_axis = 1

    def __init__(
        self, maps: Tensor, mask: Tensor, matrix: tuple[int, int, int], encoded: tuple[int, ...] = (1, 2)
    ) -> None:
        _check(maps, mask, matrix, encoded)
        sets, coils, *grid = maps.shape
        amplitude = _collapsed(mask.to(maps.real.dtype))
        if not bool((amplitude > 0).any()):
            raise InputError("the mask holds no sample", hint="Does it name the samples that were measured?")
        self.matrix, self.encoded = tuple(matrix), tuple(encoded)
        self.grid: tuple[int, int, int] = (grid[0], grid[1], grid[2])
        self.sets, self.coils = sets, coils
        self.transformed = tuple(a for a in encoded if amplitude.shape[a] > 1)
        self.free = tuple(a for a in range(3) if a not in self.transformed)
        self.couples_slices = 0 in self.transformed
        self._plane = tuple(grid[a] for a in self.transformed)  # image samples that are transformed together
        self._full = tuple(matrix[a] for a in self.transformed)  # frequencies
        self._axes = tuple(range(-len(self.transformed), 0))
        self.rows = prod(grid[a] for a in self.free)
        modulated = maps
        for axis in self.transformed:
            wave = along(image_modulation(grid[axis], matrix[axis]), axis - 3, 3)
            modulated = modulated * wave.to(maps.device, maps.dtype)
        order = (*(2 + a for a in self.free), 0, 1, *(2 + a for a in self.transformed))
        self._maps = modulated.permute(order).reshape(self.rows, sets, coils, *self._plane).contiguous()
        self._index, self._factor, self._valid = self._samples(amplitude, maps.dtype)
        self._density = self._squared(amplitude)
        samples = self._index.shape[-1]
        self.domain = Space(self.grid if sets == 1 else (sets, *self.grid), maps.dtype)
        self.range = Space((self.rows, coils, samples), maps.dtype)
        self.sample_count = coils * (self.rows * samples if self._valid is None else int(self._valid.sum()))

    # --- what is measured -------------------------------------------------------------------------------------
    def _row_planes(self, amplitude: Tensor) -> Tensor:
        """The mask as ``(rows or 1, frequencies)``."""
        shape = [amplitude.shape[a] if a in self.transformed else 1 for a in range(3)]
        if shape == list(amplitude.shape):
            return amplitude.reshape(1, -1)
        full = amplitude.expand([self.grid[a] if a in self.free else amplitude.shape[a] for a in range(3)])
        return full.permute(*self.free, *self.transformed).reshape(self.rows, -1)

    def _samples(self, amplitude: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flat frequency of each sample, its factor (modulation times amplitude), and which of them exist."""
        planes = self._row_planes(amplitude)
        wave = torch.ones((), dtype=torch.complex128)
        for axis, (m, n) in enumerate(zip(self._plane, self._full, strict=True)):
            wave = wave * along(frequency_modulation(m, n), axis, len(self._full))
        factor = planes * wave.reshape(1, -1).to(planes.device)
        measured = planes > 0
        counts = measured.sum(dim=1)
        most = int(counts.max())
        # Stable: measured samples first, in their order
        index = torch.argsort((~measured).to(torch.uint8), dim=1, stable=True)[:, :most].contiguous()
        valid = torch.arange(most, device=planes.device)[None] < counts[:, None]
        factor = factor.gather(1, index).to(dtype)
        if bool(valid.all()):
            return (index[0] if len(index) == 1 else index), factor, None
        return index, factor * valid, valid

    def _squared(self, amplitude: Tensor) -> Tensor:
        """Squared amplitudes with the sign of a conjugation: ``(rows or 1, 1, frequencies, 2)``."""
        planes = self._row_planes(amplitude).square()
        return torch.stack([planes, -planes], dim=-1)[:, None].contiguous()

    def samples_of(self, data: Tensor) -> Tensor:
        """Measured data on the whole encoded grid as the operator's range.

        ``data`` is ``(coils, *matrix)``, centred k-space. Transforms the fully sampled axes to the image, crops them to
        the grid (which removes oversampling) and picks the measured samples.
        """
        if tuple(data.shape) != (self.coils, *self.matrix):
            raise InputError("k-space of another shape", found=tuple(data.shape), expected=(self.coils, *self.matrix))
        for axis in (a for a in self.encoded if a in self.free):
            data = centred_ifft(data, (1 + axis,))
            part = central(self.matrix[axis], self.grid[axis])
            data = data.narrow(1 + axis, part.start, self.grid[axis])
        rows = data.permute(*(1 + a for a in self.free), 0, *(1 + a for a in self.transformed))
        flat = rows.reshape(self.rows, self.coils, -1)
        amplitude = self._factor.abs()[:, None].to(data.real.dtype)
        return (self._pick(flat, slice(0, self.rows)) * amplitude).to(self.range.dtype)

    def _plain(self, y: Tensor) -> Tensor:
        """Samples without the amplitudes that weigh them."""
        amplitude = self._factor.abs()[:, None]
        return torch.where(amplitude > 0, y / amplitude.clamp_min(1e-30), y)

    def zero_filled(self, y: Tensor) -> Tensor:
        """Coil images of the samples alone, zero where nothing was measured, combined with the maps: a volume."""
        return self.adjoint(self._plain(self._plain(y)))

    def coil_images(self, y: Tensor) -> Tensor:
        """Zero-filled image of every coil, ``(coils, z, y, x)``."""
        self.range.check(y, "measured data")
        y = self._plain(self._plain(y))
        out = torch.empty((self.rows, self.coils, *self._plane), dtype=y.dtype, device=y.device)
        waves = torch.ones((), dtype=torch.complex128)
        for axis, (m, n) in enumerate(zip(self._plane, self._full, strict=True)):
            waves = waves * along(image_modulation(m, n), axis, len(self._plane))
        waves = waves.to(y.device, y.dtype)
        for rows, coils in self._chunks():
            out[rows, coils] = (self._conjugate_images(y[rows, coils], rows) * waves).conj()
        sizes = [self.grid[a] for a in self.free]
        place = (*self.free, *self.transformed)
        image = out.reshape(*sizes, self.coils, *self._plane).movedim(len(sizes), 0)
        return image.permute(0, *(1 + place.index(a) for a in range(3)))

    # --- to look at ------------------------------------------------------------------------------------------
    def map_magnitudes(self) -> Tensor:
        """Moduli of the coil maps, ``(sets, coils, z, y, x)``."""
        sizes = [self.grid[a] for a in self.free]
        place = (*self.free, *self.transformed)
        ordered = self._maps.abs().reshape(*sizes, self.sets, self.coils, *self._plane)
        ordered = ordered.movedim((len(sizes), len(sizes) + 1), (0, 1))
        return ordered.permute(0, 1, *(2 + place.index(a) for a in range(3)))

    def on_frequencies(self, values: Tensor) -> Tensor:
        """Values of the samples ``(rows, samples)`` where they were measured: ``(*free axes, *transformed axes)``.

        Zero where nothing was measured.
        """
        index = self._index.expand(self.rows, -1)
        if self._valid is not None:
            values = values * self._valid
        out = torch.zeros((self.rows, prod(self._full)), dtype=values.dtype, device=values.device)
        out.scatter_add_(1, index, values)
        return out.reshape(*(self.grid[a] for a in self.free), *self._full)

    def within_reach(self, x: Tensor, reach: float, used: Tensor | None = None) -> Tensor:
        """A real volume whose frequencies count less the farther they lie from the measured ones.

        See :mod:`medrecon.physics.mri.reach`; ``used`` is 1 for the samples that count as measured, ``(rows or 1,
        samples)``.
        """
        if not self._axes:
            return x
        measured = self._density[:, 0, :, 0] > 0
        if used is not None:
            measured = measured & (self.on_frequencies(used.expand(self.rows, -1)).reshape(self.rows, -1) > 0)
        kinds, numbers = np.unique(measured.cpu().numpy(), axis=0, return_inverse=True)
        filters = torch.stack([shares(kind.reshape(self._full), self._plane, reach) for kind in kinds]).to(x)
        chosen = filters[torch.from_numpy(numbers.reshape(-1))][:, None]
        spectra = torch.fft.fftn(self._rows_of(x), dim=self._axes)
        return self._volume_of(torch.fft.ifftn(spectra * chosen, dim=self._axes).real).contiguous()

    # --- passes over the coil images -------------------------------------------------------------------------
    def _chunks(self) -> Iterator[tuple[slice, slice]]:
        """Rows, and coils where the coils of one row are already too many."""
        coil = prod(self._full) * self._maps.element_size()
        rows = max(1, _CHUNK_BYTES // (coil * self.coils))
        coils = self.coils if rows > 1 else max(1, min(self.coils, _CHUNK_BYTES // coil))
        for row in range(0, self.rows, rows):
            for first in range(0, self.coils, coils):
                yield slice(row, min(row + rows, self.rows)), slice(first, min(first + coils, self.coils))

    def _pick(self, flat: Tensor, rows: slice) -> Tensor:
        """The measured ones of ``(rows, coils, frequencies)``."""
        if self._index.ndim == 1:
            return flat.index_select(2, self._index)
        index = self._index if len(self._index) == 1 else self._index[rows]
        return flat.gather(2, index[:, None].expand(flat.shape[0], flat.shape[1], -1))

    def _of_rows(self, values: Tensor, rows: slice) -> Tensor:
        """Those of ``(rows or 1, ...)`` that belong to a chunk."""
        return values if len(values) == 1 else values[rows]

    def _spectra(self, x: Tensor, rows: slice, coils: slice) -> Tensor:
        """Transformed coil images of some rows: ``(rows, coils, frequencies)``, without the modulation."""
        maps = self._maps[rows, :, coils]
        images = maps[:, 0] * x[rows, 0, None] if self.sets == 1 else (maps * x[rows, :, None]).sum(dim=1)
        if self._axes:
            images = torch.fft.fftn(images, s=self._full, dim=self._axes, norm="ortho")
        return images.reshape(images.shape[0], images.shape[1], -1)

    def _combined(self, spectra: Tensor, rows: slice, coils: slice, out: Tensor) -> None:
        """Add the conjugate of the combined images of *conjugated* spectra to ``out[rows]``."""
        images = self._transformed_back(spectra)
        maps = self._maps[rows, :, coils]
        for index in range(self.sets):
            weighted = images * maps[:, index] if index + 1 < self.sets else images.mul_(maps[:, index])
            out[rows, index] += weighted.sum(dim=1)

    def _transformed_back(self, conjugated: Tensor) -> Tensor:
        """Conjugated images of conjugated spectra: the inverse transform is the forward one between conjugations."""
        images = conjugated.reshape(*conjugated.shape[:2], *self._full)
        if not self._axes:
            return images
        images = torch.fft.fftn(images, dim=self._axes, norm="ortho")
        return images[(..., *(slice(0, m) for m in self._plane))]

    def _conjugate_images(self, y: Tensor, rows: slice) -> Tensor:
        """Conjugated zero-filled images of samples, without the modulation of the maps."""
        values = y.conj() * self._of_rows(self._factor, rows)[:, None]
        flat = torch.zeros((y.shape[0], y.shape[1], prod(self._full)), dtype=y.dtype, device=y.device)
        if self._index.ndim == 1:
            flat.index_copy_(2, self._index, values)
        else:
            index = self._of_rows(self._index, rows)[:, None].expand(values.shape)
            flat.scatter_add_(2, index, values)  # padding adds zero to a sample that was not measured
        return self._transformed_back(flat)

    def _rows_of(self, x: Tensor) -> Tensor:
        """A volume as ``(rows, sets, *plane)``, contiguous."""
        x = x[None] if self.sets == 1 else x
        order = (*(1 + a for a in self.free), 0, *(1 + a for a in self.transformed))
        return x.permute(order).reshape(self.rows, self.sets, *self._plane)

    def _volume_of(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`_rows_of`."""
        sizes = [self.grid[a] for a in self.free]
        place = (*self.free, *self.transformed)
        volume = rows.reshape(*sizes, self.sets, *self._plane).movedim(len(sizes), 0)
        volume = volume.permute(0, *(1 + place.index(a) for a in range(3)))
        return volume[0] if self.sets == 1 else volume

    def _forward(self, x: Tensor) -> Tensor:
        source = self._rows_of(x)
        out = torch.empty(self.range.shape, dtype=x.dtype, device=x.device)
        for rows, coils in self._chunks():
            picked = self._pick(self._spectra(source, rows, coils), rows)
            torch.mul(picked, self._of_rows(self._factor, rows)[:, None], out=out[rows, coils])
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        out = torch.zeros((self.rows, self.sets, *self._plane), dtype=y.dtype, device=y.device)
        for rows, coils in self._chunks():
            images = self._conjugate_images(y[rows, coils], rows)
            for index in range(self.sets):
                out[rows, index] += (images * self._maps[rows, index, coils]).sum(dim=1)
        return self._volume_of(out.conj_physical_())

    def _normal(self, x: Tensor) -> Tensor:
        source = self._rows_of(x)
        out = torch.zeros_like(source)
        for rows, coils in self._chunks():
            spectra = self._spectra(source, rows, coils)
            # One real product masks and conjugates
            torch.view_as_real(spectra).mul_(self._of_rows(self._density, rows))
            self._combined(spectra, rows, coils, out)
        return self._volume_of(out.conj_physical_())

    # --- closed form ------------------------------------------------------------------------------------------
    @property
    def is_isometric(self) -> bool:
        """Whether ``A A'`` is the identity: one coil of modulus one on the whole field of view, plain samples."""
        if (self.sets, self.coils) != (1, 1) or self._plane != self._full or self._valid is not None:
            return False
        units = [self._maps.abs(), self._factor.abs()]
        return all(bool(torch.isclose(u, torch.ones_like(u), atol=1e-5).all()) for u in units)

    def prox(self, v: Tensor, y: Tensor, step: float) -> Tensor:
        """``argmin_x 1/2 ||A x - y||^2 + ||x - v||^2 / (2 step)`` in closed form.

        Raises InputError unless the operator is isometric; then ``A A' = 1`` and the Woodbury identity leaves one
        forward and one adjoint.
        """
        if not self.is_isometric:
            raise InputError("only a single coil on its whole field of view has a closed form", hint="Use cg.")
        return v + self.adjoint(y - self(v)) * (step / (1 + step))


class RealVolume(LinearOperator):
    """A complex operator restricted to real volumes, its data as pairs of real numbers.

    This is how the engine, which works in real numbers, sees MRI: the phase of the image belongs to the coil maps.
    Real and imaginary parts of a datum are two data with independent noise.

    ``complex_op`` is the operator for methods that work in complex numbers: ``full`` where it is given (it may have
    several sets of maps, of which the real volume can use the first alone), else ``op`` itself; ``measured`` is ``op``.
    """

    def __init__(self, op: LinearOperator, full: LinearOperator | None = None) -> None:
        full = op if full is None else full
        if not (op.domain.dtype.is_complex and op.range.dtype.is_complex) or len(op.domain.shape) != 3:
            raise InputError("a complex operator on one volume is needed", found=(op.domain, op.range))
        if full.range != op.range:
            raise InputError("the two operators measure differently", found=full.range, expected=op.range)
        self._op, self.complex_op = op, full
        self.measured = op
        real = torch.zeros((), dtype=op.domain.dtype).real.dtype
        self.domain = Space(op.domain.shape, real)
        self.range = Space((*op.range.shape, 2), real)
        self.couples_slices = op.couples_slices
        self.holdout_axis = int(getattr(op, "holdout_axis", 0))
        self.coil_axis = getattr(op, "coil_axis", None)
        self.data_count = 2 * int(getattr(op, "sample_count", prod(op.range.shape)))

    @property
    def method_settings(self) -> dict[str, dict[str, object]]:
        """Fewer conjugate gradients than projections need: these systems are better conditioned, Cartesian ones most.

        What `refine` says far from all samples counts less (docs/decisions/019).
        """
        fewer: dict[str, object] = {"cg_iterations": 4 if isinstance(self._op, CartesianSense) else 8}
        return {"tv": fewer, "tv-slice": fewer, "refine": {"cg_iterations": 4, "reach": _REACH}}

    def within_reach(self, x: Tensor, reach: float, used: Tensor | None = None) -> Tensor:
        """See :meth:`CartesianSense.within_reach`; ``used`` is broadcastable to the data. Other operators keep all."""
        if not isinstance(self._op, CartesianSense):
            return x
        if used is not None:
            used = used.expand(self.range.shape).amax(dim=(1, 3))
        return self._op.within_reach(x, reach, used)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(self._op._forward(x.to(self._op.domain.dtype)))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._op._adjoint(torch.view_as_complex(y.contiguous())).real.contiguous()

    def _normal(self, x: Tensor) -> Tensor:
        return self._op._normal(x.to(self._op.domain.dtype)).real.contiguous()


def _check(maps: Tensor, mask: Tensor, matrix: tuple[int, int, int], encoded: tuple[int, ...]) -> None:
    if maps.ndim != 5 or not maps.is_complex() or min(maps.shape) < 1:
        raise InputError("coil maps are complex (sets, coils, z, y, x)", found=(tuple(maps.shape), maps.dtype))
    if encoded not in ((1, 2), (0, 1, 2)):
        raise InputError("encoded axes", found=encoded, expected="(1, 2) for slices or (0, 1, 2) for 3D")
    if mask.ndim != 3 or any(n not in (1, full) for n, full in zip(mask.shape, matrix, strict=True)):
        raise InputError("the mask does not fit the encoded samples", found=tuple(mask.shape), expected=matrix)
    if mask.is_floating_point() and not bool((torch.isfinite(mask) & (mask >= 0)).all()):
        raise InputError("amplitudes of samples are finite and not negative")
    grid = tuple(maps.shape[2:])
    if any(m > n for m, n in zip(grid, matrix, strict=True)) or (0 not in encoded and grid[0] != matrix[0]):
        raise InputError(
            "the grid of the maps does not lie in the encoded field of view", found=grid, expected=f"at most {matrix}"
        )


def _collapsed(mask: Tensor) -> Tensor:
    """One sample along each axis on which all are alike."""
    for axis in range(3):
        first = mask.narrow(axis, 0, 1)
        if mask.shape[axis] > 1 and torch.equal(mask, first.expand_as(mask)):
            mask = first
    return mask


# --- examples for the contract tests: odd sizes, signed complex maps -------------------------------------------
def _example_maps(sets: int, coils: int, grid: tuple[int, int, int]) -> Tensor:
    maps = torch.randn((sets, coils, *grid), dtype=torch.complex64, generator=torch.Generator().manual_seed(5))
    return maps / maps.abs().square().sum(dim=1, keepdim=True).sqrt()


def _example_mask(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(6)) < 0.5


def _lines() -> CartesianSense:
    return CartesianSense(_example_maps(1, 3, (2, 5, 7)), _example_mask(1, 1, 7), (2, 5, 7))


def _lines_along_y_per_slice() -> CartesianSense:
    return CartesianSense(_example_maps(1, 2, (3, 8, 5)), _example_mask(3, 8, 1), (3, 8, 5))


def _volume() -> CartesianSense:
    """A 3D scan with the readout along y, undersampled along z and x; the image is smaller than the encoded field."""
    return CartesianSense(_example_maps(1, 2, (3, 4, 5)), _example_mask(4, 1, 7), (4, 6, 7), (0, 1, 2))


def _two_sets() -> CartesianSense:
    return CartesianSense(_example_maps(2, 3, (2, 5, 4)), _example_mask(1, 5, 6), (2, 5, 6))


def _weighted() -> CartesianSense:
    """Repeated samples weigh more; also a partial echo: no axis is fully sampled."""
    amplitude = _example_mask(1, 6, 5) * torch.linspace(1, 2, 30).reshape(1, 6, 5)
    return CartesianSense(_example_maps(1, 2, (2, 6, 5)), amplitude, (2, 6, 5))


operators.register("mri-lines", example=_lines)(CartesianSense)
operators.register("mri-lines-per-slice", example=_lines_along_y_per_slice)(CartesianSense)
operators.register("mri-3d", example=_volume)(CartesianSense)
operators.register("mri-two-sets", example=_two_sets)(CartesianSense)
operators.register("mri-weighted", example=_weighted)(CartesianSense)
operators.register("mri-real", example=lambda: RealVolume(_lines()))(RealVolume)
