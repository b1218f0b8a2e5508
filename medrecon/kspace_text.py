"""Measured k-space in a user's words: what a file holds, and what is missing in it."""

from __future__ import annotations

import numpy as np

from medrecon.data.kspace import AXES, KSpace
from medrecon.physics.mri.masks import calibration_widths, real_acceleration
from medrecon.scans import noise_of
from medrecon.simulate import describe_simulation

_FEW_LINES = 10  # of calibration: fewer are too few for ESPIRiT


def kspace_summary(kspace: KSpace) -> dict[str, object]:
    """Coils, matrix, acceleration, calibration, spacing and what is missing, as plain values for `medrecon info`."""
    grid, matrix = kspace.volume_geometry, list(kspace.matrix or kspace.data.shape[1:])
    values: dict[str, object] = {
        "holds": "measured k-space",
        "modality": kspace.modality,
        "coils": kspace.coils,
        "measured_as": _kind(kspace),
        "matrix_zyx": matrix,
        "field_of_view_mm_zyx": [round(float(length), 4) for length in kspace.field_of_view],
        "readout_along": "unknown" if kspace.readout_axis is None else AXES[kspace.readout_axis],
        "oversampling_zyx": [round(n / m, 4) for n, m in zip(matrix, grid.shape, strict=True)],
    }
    if kspace.trajectory is None:
        values["acceleration"] = round(real_acceleration(kspace.sampling), 4)
        values["mask"] = "in the file" if kspace.mask is not None else "taken from the samples that are not zero"
    else:
        values["spokes"] = int(kspace.data.shape[2])
    values |= {
        "calibration": _calibration(kspace),
        "averages": _averages(kspace),
        "noise": _noise(kspace),
        "coil_maps": "none, made from the calibration" if kspace.maps is None else f"{len(kspace.maps)} set(s)",
        "shape_zyx": list(grid.shape),
        "spacing_mm_zyx": [round(s, 6) for s in grid.spacing],
        "axes_xyz": grid.orientation,
        "origin_mm_ras": [round(float(v), 4) for v in grid.affine[:3, 3]],
        "quantity": kspace.quantity,
    }
    if "verified" in kspace.meta:
        values["checksum_verified"] = bool(kspace.meta["verified"])
    for name in ("contrast", "simulated"):
        note = describe_simulation(kspace) if name == "simulated" else kspace.meta.get(name)
        if note:
            values[name] = str(note)
    values["missing"] = missing_parts(kspace)
    values["warnings"] = [str(text) for text in kspace.meta.get("warnings", ())]
    return values


def calibration_block(kspace: KSpace) -> list[int]:
    """Width of the fully sampled centre along z, y and x; of a separate calibration its own size."""
    if kspace.calibration is not None:
        return [int(n) for n in kspace.calibration.shape[1:]]
    pattern = kspace.sampling
    if 0 not in kspace.encoded:
        pattern = np.asarray(pattern.all(axis=0, keepdims=True))
    full = [n if a in kspace.encoded else 1 for a, n in enumerate(kspace.data.shape[1:])]
    widths = calibration_widths(pattern)  # of an axis along which all samples are alike: 1, or 0 without a centre
    return [full[a] if pattern.shape[a] == 1 and min(widths) > 0 else int(w) for a, w in enumerate(widths)]


def missing_parts(kspace: KSpace) -> list[str]:
    """What the measurement lacks, each with its consequence; empty where nothing does."""
    found = []
    if kspace.noise_covariance is None:
        axis = kspace.readout_axis
        if axis is not None and kspace.data.shape[1 + axis] > kspace.volume_geometry.shape[axis]:
            found.append("noise scan: its level is taken from the empty edges of the oversampled readout")
        else:
            found.append("noise scan: the outermost samples of k-space are taken for noise")
    if kspace.trajectory is None and kspace.maps is None:
        widths = [calibration_block(kspace)[a] for a in kspace.encoded]
        if min(widths) < 1:
            found.append("centre of k-space: no coil maps can be made")
        elif min(widths) < _FEW_LINES:
            found.append(f"calibration lines: {min(widths)} are too few for ESPIRiT, low-resolution maps are used")
    found += [str(part) for part in kspace.meta.get("missing", ())]
    return found


def _kind(kspace: KSpace) -> str:
    z, *_ = kspace.matrix or kspace.data.shape[1:]
    what = "3D scan" if 0 in kspace.encoded else f"{z} slice{'s' * (z != 1)}"
    if kspace.trajectory is not None:
        return f"{what}, along a trajectory"
    mask = kspace.sampling
    free = [AXES[a] for a in kspace.encoded if mask.shape[a] == 1 or _all_alike(mask, a)]
    under = [AXES[a] for a in kspace.encoded if AXES[a] not in free]
    return f"{what}, undersampled along {' and '.join(under)}" if under else f"{what}, fully sampled"


def _all_alike(mask: np.ndarray, axis: int) -> bool:
    return bool((mask == mask.take([0], axis=axis)).all())


def _calibration(kspace: KSpace) -> str:
    if kspace.trajectory is not None and kspace.calibration is None:
        return "gridded from the centre of the trajectory"
    widths = " x ".join(str(calibration_block(kspace)[a]) for a in kspace.encoded)
    names = ", ".join(AXES[a] for a in kspace.encoded)
    return f"{widths} ({names}), {'measured separately' if kspace.calibration is not None else 'part of the data'}"


def _averages(kspace: KSpace) -> str:
    if kspace.averages is None:
        return "1"
    counts = np.asarray(kspace.averages)[np.asarray(kspace.averages) > 0]
    low, high = float(counts.min()), float(counts.max())
    return f"{high:g}" if low == high else f"{low:g} to {high:g}"


def _noise(kspace: KSpace) -> str:
    noise = noise_of(kspace)
    if not noise:
        return "not known"
    return f"standard deviation {noise['sigma']:.4g} of a sample's real part, mean over the coils"
