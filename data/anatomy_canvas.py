"""The drawing board of the anatomical phantom: solids, regions of signed distance, and painting with soft edges.

Everything is placed in mm in a frame whose x runs to the patient's left, y to the back and z to the head, so a
drawing does not depend on the grid that samples it. Edges are one voxel wide: the value of a voxel that a
surface crosses is the mean of both sides, as in a scanner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrecon.data import anatomy_kernels as kernels

Point = Sequence[float] | np.ndarray
FAR = 1.0e3
AIR = -1000.0

# where a row holds components along x, by kind
_MIRRORED = {
    kernels.ELLIPSOID: [7, 10, 13, 16], kernels.DRUM: [7, 10, 13, 16],
    kernels.TRIANGLE: [7, 10, 13], kernels.BLADE: [7, 10, 13], kernels.CAPSULE: [7, 10],
}  # fmt: skip


def vec(*values: float) -> np.ndarray:
    """A point or a shift, mm."""
    return np.array(values, dtype=np.float64)


def _row(kind: float, low: np.ndarray, high: np.ndarray, *parameters: npt.ArrayLike) -> np.ndarray:
    row = np.zeros(kernels.ROW)
    row[0] = kind
    row[1:7] = low[2], high[2], low[1], high[1], low[0], high[0]
    values = np.concatenate([np.atleast_1d(np.asarray(p, dtype=np.float64)).ravel() for p in parameters])
    row[7 : 7 + values.size] = values
    return row


def rotation(*, pitch: float = 0.0, roll: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """Rows are the local axes after turning by degrees about x (pitch), y (roll) and z (yaw)."""
    a, b, c = np.deg2rad([pitch, roll, yaw])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (rz @ ry @ rx).T


def _oriented(
    kind: float, centre: Point, half: Point, axes: np.ndarray | None, *extra: float, reach: float = 1.0
) -> np.ndarray:
    axes = np.eye(3) if axes is None else axes
    c, r = np.asarray(centre, dtype=float), np.asarray(half, dtype=float)
    extent = np.abs(axes.T) @ r if kind != kernels.ELLIPSOID else np.sqrt((axes.T**2) @ r**2)
    return _row(kind, c - extent * reach, c + extent * reach, c, axes, r, extra)


def ellipsoid(centre: Point, radii: Point, axes: np.ndarray | None = None) -> np.ndarray:
    """Ellipsoid of the given radii along its local axes (rows of ``axes``)."""
    return _oriented(kernels.ELLIPSOID, centre, radii, axes)


def drum(centre: Point, half: Point, axes: np.ndarray, waist: float = 0.08, hollow: float = 0.15) -> np.ndarray:
    """A vertebral body, see `anatomy_kernels`."""
    return _oriented(kernels.DRUM, centre, half, axes, waist, hollow)


def capsule(a: Point, b: Point, radius: float, end_radius: float | None = None) -> np.ndarray:
    """A tube with round ends from ``a`` to ``b``, its radius going from ``radius`` to ``end_radius``."""
    end = radius if end_radius is None else end_radius
    p, q = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    low, high = np.minimum(p - radius, q - end), np.maximum(p + radius, q + end)
    return _row(kernels.CAPSULE, low, high, p, q, radius, end)


def blade(a: Point, b: Point, normal: Point, thin: tuple[float, float], wide: tuple[float, float]) -> np.ndarray:
    """A tube of elliptic section: radii ``thin`` (at a, at b) along ``normal``, ``wide`` across it."""
    p, q, n = (np.asarray(v, dtype=float) for v in (a, b, normal))
    direction = (q - p) / max(float(np.linalg.norm(q - p)), 1e-6)
    n = n - direction * (n @ direction)
    n = n / max(float(np.linalg.norm(n)), 1e-6)
    ra, rb = max(thin[0], wide[0]), max(thin[1], wide[1])
    low, high = np.minimum(p - ra, q - rb), np.maximum(p + ra, q + rb)
    return _row(kernels.BLADE, low, high, p, q, n, thin, wide)


def plate(a: Point, b: Point, c: Point, thickness: float) -> np.ndarray:
    """A triangle of the given half-thickness."""
    points = np.array([a, b, c], dtype=float)
    return _row(kernels.TRIANGLE, points.min(0) - thickness, points.max(0) + thickness, points, thickness)


def chain(points: np.ndarray, radii: Sequence[float] | np.ndarray | float) -> list[np.ndarray]:
    """Capsules along a polyline ``(n, 3)``."""
    r = np.broadcast_to(np.asarray(radii, dtype=float), len(points))
    return [capsule(points[i], points[i + 1], r[i], r[i + 1]) for i in range(len(points) - 1)]


def smooth_path(points: Sequence[Point] | np.ndarray, step: float = 6.0) -> np.ndarray:
    """A polyline of about ``step`` mm through the control points (Catmull-Rom, extra columns carried along)."""
    p = np.asarray(points, dtype=float)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    pieces = []
    for i in range(len(p) - 1):
        p0, p1, p2, p3 = padded[i : i + 4]
        n = max(2, int(np.ceil(np.linalg.norm((p2 - p1)[:3]) / step)))
        t = np.linspace(0, 1, n, endpoint=False)[:, None]
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3)
        )
    return np.concatenate([*pieces, p[-1:]])


def tube(points: Sequence[Point] | np.ndarray, step: float = 6.0) -> list[np.ndarray]:
    """Capsules along a smooth path through control points ``(x, y, z, radius)``."""
    path = smooth_path(points, step)
    return chain(path[:, :3], np.maximum(path[:, 3], 0.2))


def points_of(row: np.ndarray) -> int:
    """How many points of space the parameters of a solid begin with."""
    return {kernels.TRIANGLE: 3, kernels.BLADE: 2, kernels.CAPSULE: 2}.get(float(row[0]), 1)


def mirror(rows: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The same solids on the other side of the plane x = 0."""
    out = []
    for row in rows:
        m = row.copy()
        m[5], m[6] = -row[6], -row[5]
        m[_MIRRORED[row[0]]] *= -1
        out.append(m)
    return out


@dataclass(frozen=True)
class Region:
    """Signed distance (z, y, x) in mm on a box of the canvas, negative inside."""

    box: tuple[slice, slice, slice]
    distance: np.ndarray

    @property
    def empty(self) -> bool:
        """Nothing of it lies on this canvas."""
        return self.distance.size == 0

    def _part(self, other: Region) -> np.ndarray:
        """The other region's distances on this box; far outside where it does not reach."""
        part = np.full(self.distance.shape, FAR, dtype=np.float32)
        mine, theirs = [], []
        for a, b in zip(self.box, other.box, strict=True):
            low, high = max(a.start, b.start), min(a.stop, b.stop)
            if high <= low:
                return part
            mine.append(slice(low - a.start, high - a.start))
            theirs.append(slice(low - b.start, high - b.start))
        part[tuple(mine)] = other.distance[tuple(theirs)]
        return part

    def grown(self, by: float) -> Region:
        """Its surface moved outwards by ``by`` mm."""
        return Region(self.box, self.distance - np.float32(by))

    def inside(self, other: Region, margin: float = 0.0, blend: float = 0.0) -> Region:
        """The part at least ``margin`` mm within another region."""
        return Region(self.box, _maximum(self.distance, self._part(other) + np.float32(margin), blend))

    def outside(self, other: Region, margin: float = 0.0, blend: float = 0.0) -> Region:
        """The part at least ``margin`` mm away from another region."""
        return Region(self.box, _maximum(self.distance, np.float32(margin) - self._part(other), blend))


def _maximum(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    out = np.maximum(a, b)
    if blend > 0:
        h = np.maximum(blend - np.abs(a - b), 0, dtype=np.float32) / np.float32(blend)
        out += np.float32(0.25 * blend) * h * h
    return out


class Canvas:
    """An image in HU on a rectilinear grid of mm coordinates, painted region by region.

    ``z``, ``y``, ``x`` are ascending sample positions. ``noise`` is the (32, 32, 32) lattice of smooth noise
    that every irregularity of this person is read from.
    """

    def __init__(
        self,
        z: np.ndarray,
        y: np.ndarray,
        x: np.ndarray,
        spacing: tuple[float, float, float],
        noise: np.ndarray,
        textured: bool = True,
    ) -> None:
        self.textured = textured
        self.z, self.y, self.x = (np.ascontiguousarray(a, dtype=np.float64) for a in (z, y, x))
        self.spacing = spacing
        self.edge = 1.15 * float(np.prod(spacing) ** (1 / 3))
        self.noise = noise
        self.image = np.full((self.z.size, self.y.size, self.x.size), AIR, dtype=np.float32)

    def _axes(self, where: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.z[where[0]], self.y[where[1]], self.x[where[2]]

    def _window(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, slice]:
        """The samples between two corners ``(z, y, x)``, mm."""
        z, y, x = (
            slice(int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b)))
            for axis, a, b in zip((self.z, self.y, self.x), low, high, strict=True)
        )
        return z, y, x

    def reaches(self, low: float, high: float) -> bool:
        """Whether anything between two heights can show on this canvas."""
        margin = 3 * max(self.spacing) + 25  # soft edges, blends and bumps
        return bool(self.z[0] <= high + margin and self.z[-1] >= low - margin)

    @property
    def whole(self) -> tuple[slice, slice, slice]:
        """The box of the whole canvas."""
        return slice(0, self.z.size), slice(0, self.y.size), slice(0, self.x.size)

    def region(
        self,
        rows: Sequence[np.ndarray],
        *,
        blend: float = 0.0,
        bump: float = 0.0,
        length: float = 25.0,
        reach: float = 0.0,
    ) -> Region:
        """The smooth union of solids, its surface disturbed by ``bump`` mm of noise.

        Distances are right up to ``reach`` mm outside (and two voxels, always).
        """
        table = np.asarray(rows, dtype=np.float64).reshape(-1, kernels.ROW)
        pad = reach + blend + 2 * abs(bump) + 2 * max(self.spacing)
        where = (slice(0, 0), slice(0, 0), slice(0, 0))
        if len(table):
            where = self._window(table[:, [1, 3, 5]].min(0) - pad, table[:, [2, 4, 6]].max(0) + pad)
        shape = [s.stop - s.start for s in where]
        distance = np.full(shape, FAR, dtype=np.float32)
        if distance.size:
            kernels.union_distance(distance, *self._axes(where), table, pad, blend)
            if bump:
                self._disturb(distance, where, bump, length)
        return Region(where, distance)

    def disturbed(self, region: Region, bump: float, length: float) -> Region:
        """The region with its surface disturbed by ``bump`` mm of noise."""
        distance = region.distance.copy()
        if distance.size:
            self._disturb(distance, region.box, bump, length)
        return Region(region.box, distance)

    def noise_field(self, where: tuple[slice, slice, slice], length: float) -> np.ndarray:
        """Smooth noise of wavelength ``length`` mm on a box, standard deviation near 0.6."""
        out = np.zeros([s.stop - s.start for s in where], dtype=np.float32)
        kernels.add_noise(out, *self._axes(where), self.noise, 1.0, length, FAR)
        return out

    def _disturb(self, distance: np.ndarray, where: tuple[slice, slice, slice], bump: float, length: float) -> None:
        reach = 4 * abs(bump) + 2 * max(self.spacing)
        kernels.add_noise(distance, *self._axes(where), self.noise, bump, length, reach)

    def field(self, values: np.ndarray) -> Region:
        """A region on the whole canvas from distances broadcast to its shape."""
        full = np.broadcast_to(np.asarray(values, dtype=np.float32), self.image.shape)
        return Region(self.whole, full)

    def paint(
        self,
        region: Region,
        value: float,
        *,
        inset: float = 0.0,
        grain: float = 0.0,
        length: float = 6.0,
        opacity: float = 1.0,
        thin: float | None = None,
        over: float = np.nan,
    ) -> None:
        """Fill the region, shrunk by ``inset`` mm, with a value in HU and a grain of wavelength ``length`` mm.

        ``over`` is the value that a larger region around this one was just painted with, such as cortex around
        marrow: voxels that both surfaces cross then get the right share of three tissues, not of two.
        ``thin`` is the half-thickness of a sheet that may be thinner than a voxel: it then covers its share.
        """
        if region.empty:
            return
        target = self.image[region.box]
        grain *= self.fading(length) if self.textured else 0.0
        if thin is not None:
            opacity *= min(1.0, 2 * thin * self.edge / (0.5 * self.edge + thin) ** 2)
        axes = self._axes(region.box)
        kernels.paint(target, region.distance, *axes, value, inset, self.edge, opacity, over, self.noise, grain, length)

    def roughen(
        self, region: Region, spectrum: Sequence[tuple[float, float]], strength: np.ndarray | None = None
    ) -> None:
        """Add noise to a region: pairs of wavelength (mm) and amplitude (HU); ``strength`` (z,) scales it."""
        if region.empty or not self.textured:
            return
        lengths = np.array([length for length, _ in spectrum])
        amplitudes = np.array([amplitude * self.fading(length) for length, amplitude in spectrum])
        scale = np.ones(self.z.size) if strength is None else np.asarray(strength, dtype=np.float64)
        kernels.roughen(
            self.image[region.box], region.distance, *self._axes(region.box), self.edge, self.noise, lengths,
            amplitudes, scale[region.box[0]],
        )  # fmt: skip

    def fading(self, length: float) -> float:
        """How much noise of wavelength ``length`` is left after the average over a voxel."""
        return float(np.exp(-0.5 * (1.1 * self.edge / length) ** 2 * 2))

    def tubes(self, segments: np.ndarray, value: float, within: Region | None = None) -> None:
        """Paint tapering tubes, rows ``(ax, ay, az, bx, by, bz, ra, rb)``."""
        if not len(segments):
            return
        pad = float(segments[:, 6:].max()) + self.edge
        low = np.minimum(segments[:, :3], segments[:, 3:6]).min(0) - pad
        high = np.maximum(segments[:, :3], segments[:, 3:6]).max(0) + pad
        where = self._window(low[::-1], high[::-1])
        target = self.image[where]
        if not target.size:
            return
        cover = np.zeros(target.shape, dtype=np.float32)
        kernels.tube_cover(cover, *self._axes(where), np.ascontiguousarray(segments), self.edge)
        if within is not None:
            part = Region(where, cover)._part(within)
            cover *= np.clip(0.5 - part / np.float32(self.edge), 0, 1)
        target += cover * (np.float32(value) - target)
