"""What must hold of measured k-space before it is written or reconstructed: one check for every reader."""

from __future__ import annotations

import numpy as np

from medrecon.data.kspace import KSpace
from medrecon.data.reading import require_finite
from medrecon.errors import InputError


def check_kspace(kspace: KSpace, where: str) -> None:
    """Raise InputError where the parts of a measurement contradict each other, or hold no numbers or no signal."""
    data = kspace.data
    if data.ndim != 4 or min(data.shape) < 1:
        raise InputError("k-space has four axes", where=where, found=data.shape, expected="(coils, z, y, x)")
    if data.dtype.kind != "c":
        raise InputError(
            "k-space holds complex numbers", where=where, found=str(data.dtype), expected="complex64",
            hint="Magnitude images are volumes; `medrecon simulate mri` makes k-space of them.",
        )  # fmt: skip
    require_finite(data, where=where, what="k-space")
    if not data.any():
        raise InputError("the k-space holds zeros alone", where=where)
    _check_grid(kspace, where)
    trailing = data.shape[1:]
    for name, array in (("mask", kspace.mask), ("averages", kspace.averages)):
        if array is not None and (array.ndim != 3 or not _broadcasts(array.shape, trailing)):
            raise InputError(
                f"the {name} does not fit the k-space", where=where, found=array.shape, expected=f"{trailing}, or 1"
            )
    if kspace.mask is not None and not kspace.mask.any():
        raise InputError("the mask says that nothing was measured", where=where)
    if kspace.averages is not None:
        require_finite(kspace.averages, where=where, what="averages")
    _check_coils(kspace, where)


def _broadcasts(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    return all(m in (1, n) for m, n in zip(shape, full, strict=True))


def _check_grid(kspace: KSpace, where: str) -> None:
    """Encoded axes, matrix, field of view and the grid to reconstruct on belong together."""
    grid = kspace.volume_geometry
    if not kspace.encoded or not set(kspace.encoded) <= {0, 1, 2} or tuple(sorted(kspace.encoded)) != kspace.encoded:
        raise InputError("unknown encoded axes", where=where, found=kspace.encoded, expected="(1, 2) or (0, 1, 2)")
    if kspace.readout_axis is not None and kspace.readout_axis not in kspace.encoded:
        raise InputError("the readout axis is not encoded", where=where, found=kspace.readout_axis)
    matrix = kspace.matrix or kspace.data.shape[1:]
    if kspace.trajectory is None and tuple(matrix) != kspace.data.shape[1:]:
        raise InputError("matrix and k-space disagree", where=where, found=matrix, expected=kspace.data.shape[1:])
    if kspace.trajectory is not None:
        _check_trajectory(kspace, where)
    for axis, name in enumerate("zyx"):
        measured, wanted = int(matrix[axis]), grid.shape[axis]
        if wanted > measured or (axis not in kspace.encoded and wanted != measured):
            raise InputError(
                "the grid to reconstruct on does not fit the k-space", where=where,
                found=f"{wanted} voxels along {name}",
                expected=f"{'at most ' if axis in kspace.encoded else ''}{measured}",
            )  # fmt: skip
        extent = float(kspace.field_of_view[axis])
        if not (np.isfinite(extent) and extent > 0):
            raise InputError("the field of view is not positive", where=where, found=kspace.field_of_view)
        if abs(extent / measured - grid.spacing[axis]) > 1e-3 * grid.spacing[axis]:
            raise InputError(
                "voxel size and field of view disagree", where=where, found=f"{grid.spacing[axis]:.5g} mm along {name}",
                expected=f"{extent:.5g} mm / {measured} = {extent / measured:.5g} mm",
            )  # fmt: skip


def _check_trajectory(kspace: KSpace, where: str) -> None:
    trajectory = kspace.trajectory
    assert trajectory is not None
    expected = (*kspace.data.shape[2:], len(kspace.encoded))
    if trajectory.shape != expected:
        raise InputError(
            "the trajectory does not fit the k-space", where=where, found=trajectory.shape, expected=expected
        )
    if kspace.matrix is None:
        raise InputError("a trajectory needs the encoded matrix", where=where)
    require_finite(trajectory, where=where, what="trajectory")
    halves = np.array([kspace.matrix[a] for a in kspace.encoded]) / 2
    most = np.abs(trajectory).reshape(-1, len(halves)).max(axis=0)
    if (most > halves * 1.01 + 1).any():
        raise InputError(
            "the trajectory leaves the encoded matrix", where=where, found=np.round(most, 2).tolist(),
            expected=f"cycles per field of view, at most {halves.tolist()}",
        )  # fmt: skip


def _check_coils(kspace: KSpace, where: str) -> None:
    """Covariance, calibration and maps are of the coils that measured."""
    coils = kspace.coils
    covariance, calibration, maps = kspace.noise_covariance, kspace.calibration, kspace.maps
    if covariance is not None:
        if covariance.shape != (coils, coils):
            raise InputError(
                "the noise covariance is of other coils", where=where, found=covariance.shape, expected=(coils, coils)
            )
        require_finite(covariance, where=where, what="noise covariance")
    if calibration is not None:
        if calibration.ndim != 4 or calibration.shape[0] != coils:
            raise InputError(
                "the calibration is of other coils",
                where=where,
                found=calibration.shape,
                expected=f"({coils}, z, y, x)",
            )
        require_finite(calibration, where=where, what="calibration")
    if maps is not None:
        matrix = tuple(kspace.matrix or kspace.data.shape[1:])
        if maps.ndim != 5 or maps.shape[1] != coils or maps.shape[2:] != matrix:
            raise InputError(
                "the coil maps do not fit the data", where=where, found=maps.shape, expected=("sets", coils, *matrix)
            )
        require_finite(maps, where=where, what="coil maps")


def centre_remark(kspace: KSpace) -> str | None:
    """A sentence where the largest samples lie far from the centre of k-space: shifted or other data; else None."""
    energy = np.zeros(kspace.data.shape[1:])
    for coil in kspace.data:
        energy += coil.real.astype(np.float64) ** 2 + coil.imag.astype(np.float64) ** 2
    if 0 not in kspace.encoded:
        energy = energy.sum(axis=0, keepdims=True)
    peak = np.unravel_index(int(energy.argmax()), energy.shape)
    far = [a for a in kspace.encoded if abs(int(peak[a]) - energy.shape[a] // 2) > max(2, energy.shape[a] // 8)]
    if not far:
        return None
    names = ", ".join("zyx"[a] for a in far)
    return (
        f"the largest sample is at {tuple(int(p) for p in peak)}, not near the centre along {names}: k-space may be "
        "shifted (say `centred: false`), or its axes may be others"
    )
