"""Linear interpolation between traces: weights of live traces for each missing one."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import Delaunay, QhullError, cKDTree


def interpolation_weights(live: np.ndarray) -> sparse.csr_matrix:
    """Weights ``(missing, live)`` for the traces of a bool grid ``(rows, columns)``, both in row-major order.

    Barycentric in the Delaunay triangles of the live traces; along the line where they lie on one; the nearest trace
    where that does not reach.
    """
    known = np.argwhere(live).astype(np.float64)
    wanted = np.argwhere(~live).astype(np.float64)
    if len(wanted) == 0:
        return sparse.csr_matrix((0, len(known)))
    flat = np.ptp(known, axis=0) == 0
    if flat.any():
        return _along_line(known, wanted, axis=int(np.argmin(flat)))
    try:
        triangles = Delaunay(known)
    except QhullError:  # on a slanting line
        return _nearest(known, wanted)
    found = triangles.find_simplex(wanted)
    transform = triangles.transform[found]
    first_two = np.einsum("nij,nj->ni", transform[:, :2], wanted - transform[:, 2])
    weights = np.concatenate([first_two, 1 - first_two.sum(axis=1, keepdims=True)], axis=1)
    corners = triangles.simplices[found]
    outside = (found < 0) | ~np.isfinite(weights).all(axis=1)
    nearest = cKDTree(known).query(wanted[outside])[1]
    corners[outside], weights[outside] = nearest[:, None], np.array([1.0, 0.0, 0.0])
    return _matrix(corners, weights, len(known))


def _along_line(known: np.ndarray, wanted: np.ndarray, axis: int) -> sparse.csr_matrix:
    """Between the neighbours on the one row (or column) that is live; the ends are repeated."""
    places = known[:, axis]
    right = np.clip(np.searchsorted(places, wanted[:, axis]), 1, max(len(places) - 1, 1))
    right = np.minimum(right, len(places) - 1)
    left = np.maximum(right - 1, 0)
    width = np.maximum(places[right] - places[left], 1.0)
    share = np.clip((wanted[:, axis] - places[left]) / width, 0, 1)
    return _matrix(np.stack([left, right], 1), np.stack([1 - share, share], 1), len(known))


def _nearest(known: np.ndarray, wanted: np.ndarray) -> sparse.csr_matrix:
    nearest = cKDTree(known).query(wanted)[1]
    return _matrix(nearest[:, None], np.ones((len(wanted), 1)), len(known))


def _matrix(columns: np.ndarray, weights: np.ndarray, count: int) -> sparse.csr_matrix:
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    return sparse.csr_matrix((weights.ravel(), (rows, columns.ravel())), shape=(len(columns), count))
