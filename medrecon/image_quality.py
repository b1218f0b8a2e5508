"""What a medical physicist measures on a volume: regions, lines, sharpness at an edge, the spectrum of the noise.

Everything takes arrays ``(z, y, x)`` and works slice by slice, because slices are what is read.

References: ICRU 87 (2012), sections 4 and 5: noise power spectrum, modulation transfer; Richard et al. 2012 (task-based
transfer function from edges of the object itself, Med Phys 39(7)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, map_coordinates

from medrecon.errors import InputError

TISSUES = {"lung": (-950.0, -600.0), "fat": (-150.0, -50.0), "soft tissue": (0.0, 100.0), "bone": (250.0, 2500.0)}
"""Ranges of Hounsfield units that stand for a tissue."""

_FEWEST = 60  # voxels of a region worth a line
_REACH = 8.0  # pixels on either side of an edge
_BINS = 4  # bins a pixel


def tissue_regions(reference: np.ndarray) -> dict[str, np.ndarray]:
    """Inner voxels of each tissue of a CT in HU, a pixel away from any border; those with enough voxels."""
    plus = np.zeros((3, 3, 3), bool)
    plus[1, 1], plus[1, :, 1] = True, True  # in the plane alone: slices are thick
    found = {}
    for name, (low, high) in TISSUES.items():
        inner = binary_erosion((reference >= low) & (reference <= high), plus)
        if int(inner.sum()) >= _FEWEST:
            found[name] = inner
    return found


@dataclass(frozen=True, eq=False)
class Edge:
    """Mean profile across an edge, and the transfer function that follows from it.

    Attributes
    ----------
    distance, profile
        mm from the edge, positive inside, and mean values there.
    frequency, transfer
        Cycles per mm, and modulation, 1 at zero.
    """

    distance: np.ndarray
    profile: np.ndarray
    frequency: np.ndarray
    transfer: np.ndarray

    @property
    def rise(self) -> float:
        """Distance, mm, from a tenth to nine tenths of the step."""
        ends = self.profile[0], self.profile[-1]
        share = (self.profile - ends[0]) / (ends[1] - ends[0])
        low, high = (float(np.interp(s, np.maximum.accumulate(share), self.distance)) for s in (0.1, 0.9))
        return high - low

    @property
    def half(self) -> float:
        """First frequency, cycles per mm, at which the modulation falls to a half; infinite if it never does."""
        below = np.flatnonzero(self.transfer < 0.5)
        if not below.size:
            return float("inf")
        k = int(below[0])
        return float(np.interp(0.5, self.transfer[[k, k - 1]], self.frequency[[k, k - 1]]))


def signed_distance(inside: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance, mm, of every voxel from the border of a mask in its slice, positive inside; nan in empty slices."""
    planes = [
        distance_transform_edt(m, sampling=spacing[1:]) - distance_transform_edt(~m, sampling=spacing[1:])
        if m.any() and not m.all()
        else np.full(m.shape, np.nan)
        for m in inside
    ]
    half = 0.5 * min(spacing[1:])
    distance = np.stack(planes)
    return distance - np.sign(distance) * half  # voxels beside the border lie half a pixel from it


def edge(array: np.ndarray, distance: np.ndarray, spacing: Sequence[float]) -> Edge | None:
    """The edge response of ``array`` around the border that ``distance`` measures from; None with too few voxels.

    Values are averaged in bins of a quarter of a pixel, made a line spread by differences, tapered at its ends, and
    transformed. The border is known to about half a pixel, so curves are to be compared, not taken as absolute.
    """
    from scipy.signal.windows import tukey

    pixel = min(spacing[1:])
    reach, width = _REACH * pixel, pixel / _BINS
    edges = np.arange(-reach, reach + width / 2, width)
    near = np.abs(distance) < reach
    counts, _ = np.histogram(distance[near], edges)
    sums, _ = np.histogram(distance[near], edges, weights=array[near].astype(np.float64))
    if int(counts.sum()) < 50 * _BINS or int((counts > 0).sum()) < 12:
        return None
    centres = (edges[1:] + edges[:-1]) / 2
    profile = np.interp(centres, centres[counts > 0], sums[counts > 0] / counts[counts > 0])
    spread = np.diff(profile) * tukey(len(profile) - 1, 0.4)
    spectrum = np.abs(np.fft.rfft(spread, 8 * len(spread)))
    if not spectrum[0] > 0:
        return None
    frequency = np.fft.rfftfreq(8 * len(spread), width)
    shown = frequency <= 0.5 / pixel
    return Edge(centres, profile, frequency[shown], spectrum[shown] / spectrum[0])


def noise_power(
    array: np.ndarray, inside: np.ndarray, spacing: Sequence[float], *, size: int = 24, most: int = 64
) -> tuple[np.ndarray, np.ndarray] | None:
    """Radial noise power spectrum from square patches of the slices that lie ``inside``: None where none does.

    Of all patches the quarter that varies least is taken, at most ``most``; a plane is subtracted from each.

    Returns
    -------
    tuple
        Cycles per mm, and power in the square of the values' unit times mm^2. The integral over the plane of
        frequencies is the variance.
    """
    patches = []
    for plane, mask in zip(array.astype(np.float64), inside, strict=True):
        for top in range(0, plane.shape[0] - size + 1, size // 2):
            for left in range(0, plane.shape[1] - size + 1, size // 2):
                part = np.s_[top : top + size, left : left + size]
                if mask[part].all():
                    patches.append(_without_plane(plane[part]))
    if not patches:
        return None
    patches.sort(key=lambda patch: float(patch.var()))
    chosen = np.stack(patches[: min(most, max(1, len(patches) // 4))])
    rows, columns = spacing[1], spacing[2]
    power = (np.abs(np.fft.fft2(chosen)) ** 2).mean(axis=0) * rows * columns / size**2
    radius = np.hypot(np.fft.fftfreq(size, rows)[:, None], np.fft.fftfreq(size, columns)[None])
    edges = np.linspace(0, 0.5 / max(rows, columns), size // 2 + 1)
    which = np.digitize(radius.ravel(), edges) - 1
    found = [
        (float(radius.ravel()[which == k].mean()), float(power.ravel()[which == k].mean()))
        for k in range(size // 2)
        if (which == k).any() and edges[k] > 0  # the plane that was taken out lies in the first
    ]
    frequency, values = np.array(found).T
    return frequency, values


def _without_plane(patch: np.ndarray) -> np.ndarray:
    """A patch minus the plane that fits it best."""
    y, x = np.indices(patch.shape)
    basis = np.stack([np.ones(patch.size), y.ravel(), x.ravel()], axis=1)
    coefficients, *_ = np.linalg.lstsq(basis, patch.ravel(), rcond=None)
    return patch - (basis @ coefficients).reshape(patch.shape)


# --- what a person points at -----------------------------------------------------------------------------------
def line_profile(array: np.ndarray, path: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Values along a path of straight pieces, two a voxel, by linear interpolation.

    Parameters
    ----------
    path
        Corners ``(n, 3)`` as voxel indices ``(z, y, x)``; fractions lie between voxels.
    spacing
        Voxel size along ``(z, y, x)``, mm.

    Returns
    -------
    tuple
        Distance from the first corner, mm, and values; nan outside the array.

    Raises
    ------
    InputError
        The path has no length.
    """
    corners = np.asarray(path, dtype=float)
    pieces = np.linalg.norm(np.diff(corners, axis=0) * np.asarray(spacing, dtype=float), axis=1)
    reached = np.concatenate([[0.0], np.cumsum(pieces)])
    if not reached[-1] > 0:
        raise InputError("a line needs two different ends", found=corners.tolist())
    count = int(np.ceil(2 * reached[-1] / min(spacing))) + 1
    distance = np.linspace(0.0, reached[-1], count)
    points = [np.interp(distance, reached, corners[:, axis]) for axis in range(3)]
    values = map_coordinates(array.astype(np.float32, copy=False), points, order=1, cval=np.nan)
    return distance, values


@dataclass(frozen=True)
class RegionStatistics:
    """Of the pixels whose centres lie in a region of a plane: ``area`` in mm^2, the rest in the unit of the values."""

    pixels: int
    area: float
    mean: float
    deviation: float
    median: float
    lowest: float
    highest: float


def region_statistics(
    array: np.ndarray, outline: np.ndarray, spacing: Sequence[float], *, ellipse: bool = False
) -> RegionStatistics:
    """Statistics inside an outline drawn in one plane of a volume.

    Parameters
    ----------
    outline
        Corners ``(n, 3)`` as voxel indices. They lie in the plane of the axis along which they vary least.
    spacing
        Voxel size along ``(z, y, x)``, mm.
    ellipse
        The four corners are those of the box around an ellipse.

    Raises
    ------
    InputError
        The plane lies outside of the array, or no centre of a pixel lies inside.
    """
    corners = np.asarray(outline, dtype=float)
    axis = int(np.argmin(np.ptp(corners, axis=0)))
    index, across = round(float(corners[:, axis].mean())), [a for a in range(3) if a != axis]
    if not 0 <= index < array.shape[axis]:
        raise InputError("the region lies outside of the volume", found=index, expected=f"0 to {array.shape[axis] - 1}")
    plane = array.take(index, axis)
    inside = (_in_ellipse if ellipse else _in_polygon)(plane.shape, corners[:, across])
    values = plane[inside].astype(np.float64)
    if not values.size:
        raise InputError("the region holds no pixel of the volume", hint="Draw a larger one.")
    area = values.size * spacing[across[0]] * spacing[across[1]]
    return RegionStatistics(
        values.size, area, float(values.mean()), float(values.std()), float(np.median(values)), float(values.min()),
        float(values.max()),
    )  # fmt: skip


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Row and column of every pixel, ``(rows, columns, 2)``."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)


def _in_polygon(shape: tuple[int, ...], corners: np.ndarray) -> np.ndarray:
    from matplotlib.path import Path

    centres = _places(shape).reshape(-1, 2)
    return Path(corners).contains_points(centres).reshape(shape)


def _in_ellipse(shape: tuple[int, ...], box: np.ndarray) -> np.ndarray:
    """Inside the ellipse that touches the sides of a box with corners in their order around it."""
    offset = _places(shape) - box.mean(axis=0)
    halves = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    return sum(((offset @ half) / max(float(half @ half), 1e-12)) ** 2 for half in halves) <= 1  # type: ignore[return-value]


def slice_steps(array: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean absolute step from each slice to the next, over the voxels that lie inside in both; 0 where there are none.

    A prior that sees one slice at a time can flicker along z: the steps are then larger than those of the truth.
    """
    both = inside[1:] & inside[:-1]
    count = np.maximum(both.sum(axis=(1, 2)), 1)
    return (np.abs(np.diff(array.astype(np.float32, copy=False), axis=0)) * both).sum(axis=(1, 2)) / count
