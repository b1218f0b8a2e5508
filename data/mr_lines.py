"""From lines of k-space, as scanners store them, to `KSpace`: sorting, averaging, placing in the patient.

A line is one readout of all coils with its number along the phase-encoded directions. Readers of scanners' files give
arrays of lines and the encoding; nothing here loops over lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medrecon.data.kspace import KSpace
from medrecon.data.limits import Limits
from medrecon.data.reading import require_finite
from medrecon.data.volume import Geometry
from medrecon.errors import InputError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_UNEVEN = 0.02  # of the distance of slices: more is said
_ORTHOGONAL = 1e-2
_NOISE_SAMPLES = 4  # for each coil, at least


@dataclass(frozen=True)
class Encoding:
    """What was encoded and what shall be reconstructed, each along ``(read, first phase, second phase or slice)``."""

    matrix: tuple[int, int, int]
    field_of_view: tuple[float, float, float]
    wanted: tuple[float, float, float]
    """Field of view to reconstruct, mm."""
    centres: tuple[int | None, int | None] = (None, None)
    """Number of the line through the centre, along the first and the second phase-encoded direction."""

    def check(self, where: str) -> None:
        """Raise InputError for sizes that are not positive."""
        lengths = (*self.field_of_view, *self.wanted)
        if min(self.matrix) < 1 or not all(np.isfinite(v) and v > 0 for v in lengths):
            raise InputError(
                "matrix or field of view in the header is not positive", where=where,
                found=f"matrix {self.matrix}, encoded {self.field_of_view} mm, to reconstruct {self.wanted} mm",
            )  # fmt: skip

    def grid(self, slices: int | None = None) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Voxels and voxel sizes along (read, phase, slice): as measured, oversampling cropped."""
        voxels = [length / n for length, n in zip(self.field_of_view, self.matrix, strict=True)]
        counts = [max(1, min(n, round(w / v))) for n, w, v in zip(self.matrix, self.wanted, voxels, strict=True)]
        if slices is not None:
            counts[2] = slices
        return (counts[0], counts[1], counts[2]), (voxels[0], voxels[1], voxels[2])


@dataclass(frozen=True, eq=False)
class Lines:
    """Readouts of one image: ``data`` complex64 ``(lines, coils, samples)``, the rest one number a line.

    ``centre`` is the sample at the centre of k-space; ``position`` the centre of the slice or slab and ``directions``
    ``(lines, 3, 3)`` with the rows read, phase and slice, all in the patient's frame (LPS, mm).
    """

    data: np.ndarray
    first: np.ndarray
    second: np.ndarray
    slice_number: np.ndarray
    centre: np.ndarray
    position: np.ndarray
    directions: np.ndarray


@dataclass
class Remarks:
    """What a reader assumed or repaired, and what the file lacks."""

    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def kspace_of_lines(
    lines: Lines, encoding: Encoding, where: str, remarks: Remarks, limits: Limits, *, name: str
) -> KSpace:
    """Sort lines into k-space: slices along z, or the second phase-encoded direction; readout along y, phase along x.

    Lines that were measured several times are averaged and counted. Raises InputError for lines outside of the matrix.
    """
    encoding.check(where)
    read, phase, partitions = encoding.matrix
    numbers = np.unique(lines.slice_number)
    if partitions > 1 and len(numbers) > 1:
        raise InputError(
            "several slabs of a 3D scan in one file", where=where, found=f"{len(numbers)} slabs",
            expected="one slab, or 2D slices",
        )  # fmt: skip
    slices = partitions if partitions > 1 else len(numbers)
    directions = _directions(lines.directions[0], remarks)
    order, distance = _slice_order(lines, numbers, directions[2], encoding, remarks)
    if partitions > 1:
        z = _placed(lines.second, partitions, encoding.centres[1], "second phase encoding", where)
    else:
        z = order[np.searchsorted(numbers, lines.slice_number)]
    x = _placed(lines.first, phase, encoding.centres[0], "phase encoding", where)
    limits.check((lines.data.shape[1], slices, read, phase), 2 * 8, where=where)
    target = z * phase + x
    data, counts, echo = _sorted(lines, target, (slices, phase, read), where, remarks)
    mask = (counts > 0).reshape(slices, 1, phase)
    if partitions <= 1 and (mask == mask[:1]).all():
        mask = mask[:1]
    if not echo.all():
        mask = mask & echo[None, :, None]
    averages = None
    if counts.max() > 1:
        averages = counts.reshape(slices, 1, phase).astype(np.float32)
    counted, voxel = encoding.grid(None if partitions > 1 else slices)
    spacing = (voxel[0], voxel[1], voxel[2] if partitions > 1 else distance)
    lowest = lines.position[int(np.argmin(z))] if partitions <= 1 else lines.position[0]
    geometry = placed_grid(counted, spacing, directions, lowest, centre_slice=counted[2] // 2 if partitions > 1 else 0)
    return KSpace(
        data=data,
        volume_geometry=geometry,
        field_of_view=(spacing[2] * slices, encoding.field_of_view[0], encoding.field_of_view[1]),
        mask=mask,
        encoded=(0, 1, 2) if partitions > 1 else (1, 2),
        readout_axis=1,
        averages=averages,
        meta={"format": name, "warnings": remarks.warnings, "missing": remarks.missing},
    )


def placed_grid(
    counts: tuple[int, int, int],
    spacing: tuple[float, float, float],
    directions: np.ndarray,
    centre: np.ndarray,
    *,
    centre_slice: int,
) -> Geometry:
    """The grid with voxels along (read, phase, slice) as y, x and z, in RAS+.

    ``centre`` (LPS, mm) is where voxel ``n // 2`` of a slice lies, in slice ``centre_slice``: the centre of the
    encoded field of view is sample ``n // 2`` of the transform.
    """
    read, phase, slice_direction = (_LPS_TO_RAS @ d for d in np.asarray(directions, dtype=np.float64))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = phase * spacing[1], read * spacing[0]
    affine[:3, 2] = slice_direction * spacing[2]
    middle = np.array([counts[1] // 2, counts[0] // 2, centre_slice])
    affine[:3, 3] = _LPS_TO_RAS @ np.asarray(centre, dtype=np.float64) - affine[:3, :3] @ middle
    return Geometry((counts[2], counts[0], counts[1]), affine)


def _placed(number: np.ndarray, size: int, centre: int | None, what: str, where: str) -> np.ndarray:
    """Position of each line on the encoded grid, the line through the centre at ``size // 2``."""
    place = number.astype(np.int64) + (0 if centre is None else size // 2 - centre)
    if place.min() < 0 or place.max() >= size:
        raise InputError(
            f"lines outside of the matrix along the {what}", where=where,
            found=f"{int(place.min())} to {int(place.max())}", expected=f"0 to {size - 1}",
            hint="Matrix size or encoding limits in the header do not belong to the data.",
        )  # fmt: skip
    return place


def _sorted(
    lines: Lines, target: np.ndarray, sizes: tuple[int, int, int], where: str, remarks: Remarks
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the lines with one target, their number, and which samples of a readout were measured."""
    slices, phase, read = sizes
    count, coils, samples = lines.data.shape
    centre = np.unique(lines.centre)
    if len(centre) > 1:
        raise InputError("lines with different echo positions", where=where, found=centre.tolist()[:8])
    middle = int(centre[0])
    if middle == 0 and samples > 1:
        middle = samples // 2 if samples == read else middle
        remarks.warnings.append("the header does not say which sample is the centre of a line: the middle is taken")
    start = read // 2 - middle
    if start < 0 or start + samples > read:
        raise InputError(
            "lines do not fit the encoded matrix along the readout", where=where,
            found=f"{samples} samples, the centre is sample {middle}", expected=f"{read} samples around {read // 2}",
        )  # fmt: skip
    order = np.argsort(target, kind="stable")
    ordered = target[order]
    first = np.flatnonzero(np.r_[True, np.diff(ordered) > 0])
    counts = np.bincount(target, minlength=slices * phase)
    sums = lines.data if len(first) == count else np.add.reduceat(lines.data[order], first, axis=0)
    places = target if len(first) == count else ordered[first]
    out = np.zeros((coils, slices, read, phase), dtype=np.complex64)
    if len(first) < count:
        sums = sums / counts[places].astype(np.float32)[:, None, None]
    out[:, places // phase, start : start + samples, places % phase] = sums  # the index of the line comes first
    echo = np.zeros(read, dtype=bool)
    echo[start : start + samples] = True
    return out, counts, echo


def _directions(rows: np.ndarray, remarks: Remarks) -> np.ndarray:
    """Unit vectors of read, phase and slice; those of the axes of the patient where the file has none."""
    rows = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    if np.isfinite(rows).all() and (lengths > 0.5).all():
        unit = rows / lengths[:, None]
        if np.abs(unit @ unit.T - np.eye(3)).max() < _ORTHOGONAL:
            return unit
    what = "no direction cosines" if not lengths.any() else "direction cosines that are not orthogonal"
    remarks.warnings.append(
        f"the file has {what}: read, phase and slice are taken as left, posterior and superior, left and right may be "
        "swapped"
    )
    remarks.missing.append("orientation in the patient")
    return np.eye(3)


def _slice_order(
    lines: Lines, numbers: np.ndarray, normal: np.ndarray, encoding: Encoding, remarks: Remarks
) -> tuple[np.ndarray, float]:
    """Place of each slice number along the normal, and the distance of the slices in mm."""
    rank, thickness = np.arange(len(numbers)), encoding.wanted[2]
    if len(numbers) == 1:
        return rank, thickness
    firsts = np.searchsorted(lines.slice_number, numbers, sorter=np.argsort(lines.slice_number, kind="stable"))
    which = np.argsort(lines.slice_number, kind="stable")[firsts]
    heights = lines.position[which].astype(np.float64) @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    if steps.min() < 1e-3:
        remarks.warnings.append(
            f"slices without positions of their own: they are taken as neighbours of {thickness:g} mm in their order"
        )
        remarks.missing.append("positions of the slices")
        return rank, thickness
    distance = float(steps.mean())
    if np.abs(steps - distance).max() > _UNEVEN * distance:
        remarks.warnings.append(
            f"slices lie {steps.min():.4g} to {steps.max():.4g} mm apart: the volume has them {distance:.4g} mm apart"
        )
    rank[order] = np.arange(len(numbers))
    return rank, distance


def measured_block(kspace: KSpace) -> np.ndarray:
    """The fully sampled block around the centre of a separate calibration, ``(coils, z, y, x)``."""
    from medrecon.physics.mri.masks import calibration_widths

    pattern = kspace.sampling
    if 0 not in kspace.encoded:
        pattern = np.asarray(pattern.all(axis=0, keepdims=True))
    widths = calibration_widths(pattern)
    block = kspace.data
    for axis in kspace.encoded:
        n = block.shape[1 + axis]
        width = n if pattern.shape[axis] == 1 else widths[axis]
        start = n // 2 - width // 2
        block = block.take(np.arange(start, start + width), axis=1 + axis)
    return np.ascontiguousarray(block)


def noise_covariance_of(noise: np.ndarray, dwell_ratio: float, remarks: Remarks, where: str) -> np.ndarray | None:
    """``E[n n^H] / 2`` of a noise scan ``(coils, samples)``; None, with a remark, where it is too short.

    ``dwell_ratio`` is the dwell time of the noise scan over that of the image: variance goes with the bandwidth.
    """
    if noise.shape[1] < _NOISE_SAMPLES * noise.shape[0]:
        remarks.warnings.append("the noise scan is too short for the number of coils: it is not used")
        return None
    require_finite(noise, where=where, what="noise scan")
    values = noise.astype(np.complex128)
    return values @ values.conj().T * (dwell_ratio / (2 * values.shape[1]))
