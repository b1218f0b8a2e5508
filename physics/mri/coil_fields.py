"""Simulated receive coils: circular loops around the object, by the law of Biot and Savart.

By reciprocity a loop receives with the transverse field that unit current in it would make, ``Bx - i By``, which has
a phase. Fields are smooth inside the loops: they are computed on a few Chebyshev nodes and interpolated from there.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_SEGMENTS = 48
_NODES = 24
_DISTANCE = 1.7  # of the coils from the axis, in halves of the field of view


class CoilFields:
    """Complex sensitivities of some coils, at any point within the field of view.

    Parameters
    ----------
    field_of_view
        Size along ``(z, y, x)`` in mm that the coils surround. Up to eight coils lie on one ring around z, more on two.
    """

    def __init__(self, field_of_view: tuple[float, float, float], coils: int) -> None:
        halves = np.array(field_of_view) / 2
        self._nodes = [np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES) * half * 1.05 for half in halves]
        z, y, x = np.meshgrid(*self._nodes, indexing="ij")
        points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
        fields = np.stack([_received(loop, points) for loop in _loops(coils, halves)]).reshape(coils, *[_NODES] * 3)
        self._fields = fields / np.sqrt((np.abs(fields) ** 2).sum(axis=0))

    def __call__(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Maps ``(coils, z, y, x)`` at these coordinates in mm from the centre; of unit length over the coils."""
        along_z, along_y, along_x = (
            _interpolation(node, np.asarray(place, dtype=float))
            for node, place in zip(self._nodes, (z, y, x), strict=True)
        )
        maps = np.einsum("czyx,kz,jy,ix->ckji", self._fields, along_z, along_y, along_x, optimize=True)
        maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
        return maps.astype(np.complex64)


def object_phase(z: np.ndarray, y: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
    """A smooth phase of the object itself in radians, ``(z, y, x)``; ``scale`` is half the field of view in mm."""
    z, y, x = (np.asarray(place) / scale for place in (z, y, x))
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    waves = np.sin(2.1 * x + 0.7) * np.cos(1.6 * y - 0.4) + 0.3 * np.sin(2.7 * y + 1.3 * x)
    return (0.8 + 1.2 * x * y - 0.9 * y**2 + 0.5 * z + 0.6 * waves).astype(np.float32)


def _loops(coils: int, halves: np.ndarray) -> list[np.ndarray]:
    """Segment ends of each loop, ``(segments + 1, 3)`` in mm, axes x, y, z."""
    rings = 1 if coils <= 8 else 2
    loops = []
    for index in range(coils):
        ring, place = index % rings, index // rings
        on_ring = len(range(ring, coils, rings))
        angle = 2 * np.pi * (place + 0.5 * ring) / on_ring
        distance = _DISTANCE * max(halves[1], halves[2])
        outwards = np.array([np.cos(angle), np.sin(angle), 0.0])
        centre = distance * outwards + np.array([0, 0, (ring - (rings - 1) / 2) * halves[0]])
        across = np.array([-np.sin(angle), np.cos(angle), 0.0])
        radius = 1.1 * distance * np.sin(np.pi / max(on_ring, 4))
        turn = np.linspace(0, 2 * np.pi, _SEGMENTS + 1)[:, None]
        loops.append(centre + radius * (np.cos(turn) * across + np.sin(turn) * np.array([0, 0, 1.0])))
    return loops


def _received(loop: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``Bx - i By`` of unit current in the loop, up to a constant."""
    field = np.zeros((len(points), 3))
    for start, end in pairwise(loop):
        distance = points - (start + end) / 2
        field += np.cross(end - start, distance) / (np.linalg.norm(distance, axis=1) ** 3)[:, None]
    return field[:, 0] - 1j * field[:, 1]


def _interpolation(nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Barycentric interpolation from Chebyshev nodes of the first kind (Berrut and Trefethen 2004, eq. 5.3)."""
    order = np.arange(len(nodes))
    weights = (-1.0) ** order * np.sin(np.pi * (order + 0.5) / len(nodes))
    difference = points[:, None] - nodes[None]
    exact = np.abs(difference) < 1e-9
    terms = weights / np.where(exact, 1.0, difference)
    matrix = terms / terms.sum(axis=1, keepdims=True)
    hit = exact.any(axis=1)
    matrix[hit] = exact[hit]
    return matrix
