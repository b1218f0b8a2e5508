"""From measured k-space to a `Problem`: whitening, compression, coil maps, operator, noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medrecon.data.kspace import KSpace
from medrecon.data.volume import Geometry
from medrecon.errors import InputError, UsageError
from medrecon.mri_calibration import completed
from medrecon.physics.mri.calibration import absorb_phase, espirit, low_resolution_maps
from medrecon.physics.mri.coils import compression_matrix, edge_covariance, mixed, periphery_level, whitening_matrix
from medrecon.physics.mri.fourier import central, centred_fft, centred_ifft, cropped, embedded
from medrecon.physics.mri.masks import calibration_widths
from medrecon.physics.mri.nonuniform import NonCartesianSense
from medrecon.physics.mri.sense import CartesianSense, RealVolume
from medrecon.physics.noise import GaussianNoise
from medrecon.prior import Prior
from medrecon.problem import Problem
from medrecon.scans import cut_grid, problem_builders, slice_cutters

MAP_METHODS = ("auto", "espirit", "low-resolution")
PHASES = ("centre", "wavelet", "auto")
_CALIBRATION = 24  # samples along each axis that maps are made from, at most
_LEAST_FOR_ESPIRIT = 10
_BRIGHT = 0.99  # share of the voxels that are darker than 1 in internal units


@dataclass(frozen=True, eq=False)
class Measurement:
    """k-space of independent coils with equal noise, ready for an operator.

    ``data`` is ``(coils, z, y, x)``, or ``(coils, slices, spokes, samples)`` with a trajectory; ``amplitude`` like the
    mask, 0 where nothing was measured and else the root of the averages; ``level`` the standard deviation of the real
    part of a sample measured once (without a noise scan, what the edges of an oversampled readout or the outermost
    samples tell), 0 where it is not known.
    """

    data: Tensor
    amplitude: Tensor
    calibration: Tensor
    level: float
    matrix: tuple[int, int, int]
    encoded: tuple[int, ...]
    grid: tuple[int, int, int]
    trajectory: Tensor | None = None


def measurement_of(kspace: KSpace, *, coils: int = 0) -> Measurement:
    """Whiten the noise, compress to ``coils`` virtual coils (0: keep all), and find the calibration.

    Raises InputError for data, mask, calibration and trajectory that do not fit together.
    """
    data = torch.from_numpy(np.ascontiguousarray(kspace.data, dtype=np.complex64))
    if data.ndim != 4:
        raise InputError("k-space has four axes", found=tuple(data.shape), expected="(coils, z, y, x)")
    if not bool(torch.isfinite(torch.view_as_real(data)).all()):
        raise InputError("the k-space holds NaN or infinity")
    if not bool((data != 0).any()):
        raise InputError("the k-space holds zeros alone")
    separate = None if kspace.calibration is None else torch.from_numpy(kspace.calibration.astype(np.complex64))
    level, mask = 0.0, _mask_of(kspace)
    amplitude = mask.to(torch.float32)
    if kspace.averages is not None:
        counts = torch.from_numpy(np.asarray(kspace.averages, dtype=np.float32))
        amplitude = amplitude * counts.clamp_min(0).sqrt()
    if kspace.noise_covariance is None:
        level = _estimated_level(kspace, data, amplitude**2)
    else:
        covariance = torch.from_numpy(np.asarray(kspace.noise_covariance))
        if tuple(covariance.shape) != (len(data), len(data)):
            raise InputError("the noise covariance is of other coils", found=tuple(covariance.shape))
        matrix, level = whitening_matrix(covariance)
        data, separate = mixed(matrix, data), None if separate is None else mixed(matrix, separate)
    if 0 < coils < len(data):
        matrix = compression_matrix(data if separate is None else separate, coils)
        data, separate = mixed(matrix, data), None if separate is None else mixed(matrix, separate)
    z, y, x = kspace.matrix or kspace.data.shape[1:]
    sizes = int(z), int(y), int(x)
    trajectory = None if kspace.trajectory is None else torch.from_numpy(kspace.trajectory)
    found = Measurement(
        data, amplitude, data[:, :, :0], level, sizes, tuple(kspace.encoded), kspace.volume_geometry.shape, trajectory
    )
    if separate is None:
        separate = _gridded_centre(found) if trajectory is not None else _centre_of(found)
    return replace(found, calibration=_limited(separate, found.encoded))


def coil_maps(found: Measurement, *, method: str = "auto", sets: int = 1) -> Tensor:
    """Maps ``(sets, coils, z, y, x)`` on the grid, with the phase of the object in them.

    ``"auto"`` is ESPIRiT where the centre is wide enough for it, low-resolution maps otherwise. A single coil has the
    map 1, times that phase.
    """
    if method not in MAP_METHODS:
        raise UsageError("unknown way to make coil maps", found=method, expected=", ".join(MAP_METHODS))
    calibration = found.calibration
    narrow = min(calibration.shape[1 + a] for a in found.encoded)
    if narrow < 1:
        raise InputError("the centre of k-space was not measured", hint="Give a calibration, or coil maps.")
    if method == "auto":
        method = "espirit" if narrow >= _LEAST_FOR_ESPIRIT else "low-resolution"
    where = (found.grid, found.matrix, found.encoded)
    if len(found.data) == 1:
        maps = torch.ones((1, 1, *found.grid), dtype=torch.complex64)
    elif method == "espirit":
        maps = espirit(calibration, *where, sets=sets)
    else:
        maps = low_resolution_maps(calibration, *where)
    return absorb_phase(maps, calibration, found.matrix, found.encoded)


@problem_builders.register("mri")
def mri_problem(
    kspace: KSpace,
    *,
    prior: Prior | None = None,
    grid: Geometry | None = None,
    maps: Tensor | None = None,
    map_method: str = "auto",
    sets: int = 1,
    coils: int = 0,
    phase: str = "centre",
    nonnegative: bool = True,
    complete: bool = True,
) -> Problem:
    """The problem that measured k-space poses: a real volume, its phase in the coil maps.

    Parameters
    ----------
    grid
        The grid of the measurement; no other is reconstructed on.
    maps
        Coil maps ``(sets, coils, z, y, x)`` on the grid, for data without whitening or compression; made from the
        calibration where they are not given.
    map_method, sets
        See `coil_maps`. The second set serves methods that reconstruct complex volumes.
    coils
        Virtual coils to compress to; 0 keeps all.
    phase
        Whose phase the real volume is given: that of the ``"centre"`` of k-space, which is smooth; that of an
        L1-``"wavelet"`` volume, for objects whose phase has detail; or (``"auto"``) the latter where its imaginary part
        helps to predict samples that were left out, which measured data show and simple simulations do not.
    nonnegative
        The volume is a magnitude. False where the phase changes sign within a few voxels.
    complete
        Complete a calibration of few lines by what a coarse volume predicts around them, before maps are made of it
        (:mod:`medrecon.mri_calibration`).

    Raises
    ------
    InputError
        Another grid; data that do not fit together.
    UsageError
        Unknown ``map_method`` or ``phase``; ``"wavelet"`` with two sets of maps, which ``"auto"`` leaves as they are.
    """
    if phase not in PHASES:
        raise UsageError("unknown phase of the volume", found=phase, expected=", ".join(PHASES))
    if grid is not None and not grid.almost_equal(kspace.volume_geometry):
        raise InputError(
            "k-space is reconstructed on the grid that it was measured on",
            found=f"{grid.shape} at {np.round(grid.spacing, 4).tolist()} mm",
            expected=f"{kspace.volume_geometry.shape} at {np.round(kspace.volume_geometry.spacing, 4).tolist()} mm",
            hint="Leave --like, --shape and --voxel out, and resample the result.",
        )
    found = measurement_of(kspace, coils=coils)
    if maps is None and kspace.maps is not None and not coils:
        maps = _given_maps(kspace, found)
    if maps is None:
        maps = coil_maps(found, method=map_method, sets=sets)
        wider = found.calibration
        if complete:
            wider = completed(found, _CALIBRATION, map_method=map_method, nonnegative=nonnegative)
        if wider is not found.calibration:
            # What a wide calibration takes for object reaches farther into the air, and noise with it
            support = (maps != 0).any(dim=1, keepdim=True)
            maps = coil_maps(replace(found, calibration=wider), method=map_method, sets=sets) * support
    note = ""
    if phase == "wavelet" and len(maps) > 1:
        raise UsageError("the phase of a volume goes with one set of maps", found=f"{len(maps)} sets")
    problem = posed(found, maps, kspace.volume_geometry, kspace.quantity, nonnegative=nonnegative)
    if phase != "centre" and len(maps) == 1:
        maps, note = _with_detail(problem, maps, phase)
        if note:
            problem = posed(found, maps, kspace.volume_geometry, kspace.quantity, nonnegative=nonnegative)
    return replace(problem, prior=prior, notes=(note,) if note else ())


def posed(
    found: Measurement, maps: Tensor, grid: Geometry | None = None, quantity: str = "a.u.", *, nonnegative: bool = True
) -> Problem:
    """The problem with these maps, without a prior; on voxels of 1 mm where no grid is given."""
    full = _operator(found, maps)
    first = full if len(maps) == 1 else _operator(found, maps[:1])
    y = full.samples_of(found.data)
    direct = first.zero_filled(y).abs()
    inside = direct[direct > 0]
    unit = float(torch.quantile(inside[:: max(1, inside.numel() // 1_000_000)], _BRIGHT)) if inside.numel() else 1.0
    return Problem(
        op=RealVolume(first, full),
        y=torch.view_as_real(y.contiguous()).contiguous(),
        geometry=Geometry.from_spacing(found.grid, (1.0, 1.0, 1.0)) if grid is None else grid,
        quantity=quantity,
        noise_model=GaussianNoise(found.level) if found.level > 0 else None,
        lower_bound=0.0 if nonnegative else None,
        unit=unit,
    )


def _with_detail(smooth: Problem, maps: Tensor, phase: str) -> tuple[Tensor, str]:
    """Maps with the phase of the L1-wavelet volume where that is asked for or, under ``auto``, shows; and why."""
    from medrecon.mri_phase import complex_volume, imaginary_errors, imaginary_part_predicts, with_phase_of

    why = "as asked"
    if phase == "auto":
        errors = imaginary_errors(smooth)
        if errors is None or not imaginary_part_predicts(errors):
            return maps, ""
        why = f"with it held-out samples are predicted with an error of {errors[1]:.3g}, without of {errors[0]:.3g}"
    return with_phase_of(maps, complex_volume(smooth)), f"phase with detail, of an L1-wavelet volume: {why}"


@slice_cutters.register("mri")
def cut_kspace(kspace: KSpace, first: int, last: int) -> KSpace:
    """Some slices of a scan: of a 3D one where k-space is fully sampled along z, which is then transformed.

    Raises InputError where slices are measured together.
    """
    mask = None if kspace.mask is None else np.asarray(kspace.mask)
    together = 0 in kspace.encoded and (kspace.trajectory is not None or mask is None or mask.shape[0] > 1)
    if together:
        raise InputError(
            "the slices of this scan are measured together", found="undersampling along z",
            expected="slices that are measured by themselves", hint="Leave --preview-slice out.",
        )  # fmt: skip
    grid, sizes = kspace.volume_geometry, kspace.matrix or tuple(kspace.data.shape[1:])
    data, calibration = kspace.data, kspace.calibration
    start = first
    if 0 in kspace.encoded:
        data = centred_ifft(torch.from_numpy(np.ascontiguousarray(data)), (1,)).numpy()
        start = first + central(sizes[0], grid.shape[0]).start
        if calibration is not None:
            longer = embedded(torch.from_numpy(calibration).movedim(1, -1), (sizes[0],)).movedim(-1, 1)
            calibration = centred_ifft(longer.contiguous(), (1,)).numpy()
    part = slice(start, start + last - first)

    def cut(values: np.ndarray | None, axis: int) -> np.ndarray | None:
        if values is None or values.shape[axis] == 1:
            return values
        return np.ascontiguousarray(values[(slice(None),) * axis + (part,)])

    return replace(
        kspace,
        data=data[:, part] if data.shape[1] > 1 else data,
        volume_geometry=cut_grid(grid, first, last),
        field_of_view=(grid.spacing[0] * (last - first), *kspace.field_of_view[1:]),
        mask=cut(mask, 0),
        averages=cut(kspace.averages, 0),
        calibration=cut(calibration, 1),
        maps=cut(kspace.maps, 2),
        encoded=(1, 2),
        readout_axis=None if kspace.readout_axis == 0 else kspace.readout_axis,
        matrix=None if kspace.matrix is None else (last - first, *kspace.matrix[1:]),
    )


# --- parts -----------------------------------------------------------------------------------------------------------
def _operator(found: Measurement, maps: Tensor) -> CartesianSense | NonCartesianSense:
    if found.trajectory is not None:
        return NonCartesianSense(maps, found.trajectory, found.matrix, found.amplitude)
    return CartesianSense(maps, found.amplitude, found.matrix, found.encoded)


def _given_maps(kspace: KSpace, found: Measurement) -> Tensor:
    """Maps that came with the data, whitened, cropped to the grid and of length one, with the phase of the object."""
    maps = torch.from_numpy(np.asarray(kspace.maps, dtype=np.complex64))
    if maps.ndim != 5 or maps.shape[1] != len(found.data):
        raise InputError("coil maps of other coils than the data", found=tuple(maps.shape))
    if kspace.noise_covariance is not None:
        matrix, _ = whitening_matrix(torch.from_numpy(np.asarray(kspace.noise_covariance)))
        maps = mixed(matrix, maps.transpose(0, 1)).transpose(0, 1)
    maps = cropped(maps, found.grid)
    length = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    maps = torch.where(length > 0, maps / length.clamp_min(1e-30), maps)
    return absorb_phase(maps, found.calibration, found.matrix, found.encoded)


def _estimated_level(kspace: KSpace, data: Tensor, counts: Tensor) -> float:
    """Noise of a sample, all coils together: of the empty edges of an oversampled readout, or of outermost samples.

    Coils are not whitened by it: an estimate changes no sample.
    """
    if kspace.trajectory is not None:
        return 0.0
    axis = kspace.readout_axis
    if axis is not None:
        covariance = edge_covariance(data, counts, axis, kspace.volume_geometry.shape[axis])
        if covariance is not None:
            return float(covariance.diagonal().real.mean().sqrt())
    return periphery_level(data, counts, kspace.encoded)


def _mask_of(kspace: KSpace) -> Tensor:
    """The mask that the data came with, or the samples that are not zero in every coil."""
    trailing = kspace.data.shape[1:]
    mask = kspace.sampling
    fits = mask.ndim == 3 and all(m in (1, n) for m, n in zip(mask.shape, trailing, strict=True))
    if not fits:
        raise InputError("the mask does not fit the k-space", found=mask.shape, expected=f"{trailing}, or 1")
    return torch.from_numpy(np.ascontiguousarray(mask))


def _centre_of(found: Measurement) -> Tensor:
    """The largest fully sampled block around the centre of k-space, from all slices."""
    measured = found.amplitude > 0
    if 0 not in found.encoded:
        measured = measured.all(dim=0, keepdim=True)
    pattern = measured.expand([n if a in found.encoded else 1 for a, n in enumerate(found.matrix)])
    small = pattern
    for axis in found.encoded:  # wider blocks than are used cost time
        small = cropped(small.movedim(axis, -1), (min(_CALIBRATION, small.shape[axis]),)).movedim(-1, axis)
    widths = calibration_widths(small.numpy())
    block = found.data
    for axis in found.encoded:
        block = cropped(block.movedim(1 + axis, -1), (widths[axis],)).movedim(-1, 1 + axis)
    return block


def _gridded_centre(found: Measurement) -> Tensor:
    """The centre of k-space on a Cartesian grid, from images gridded from the samples nearest to the centre."""
    assert found.trajectory is not None
    near = found.trajectory.abs().amax(dim=-1) <= _CALIBRATION / 2
    plain = torch.ones((1, len(found.data), *found.matrix), dtype=torch.complex64)
    op = NonCartesianSense(plain, found.trajectory, found.matrix, (found.amplitude > 0) * near[None])
    images = op.coil_images((found.data * near).transpose(0, 1).contiguous())
    spectra = centred_fft(images, tuple(1 + a for a in found.encoded))
    sizes = [min(_CALIBRATION, n) if a in found.encoded else n for a, n in enumerate(found.matrix)]
    return cropped(spectra, sizes)


def _limited(calibration: Tensor, encoded: tuple[int, ...]) -> Tensor:
    sizes = [min(_CALIBRATION, n) if a in encoded else n for a, n in enumerate(calibration.shape[1:])]
    return cropped(calibration, sizes).contiguous()
