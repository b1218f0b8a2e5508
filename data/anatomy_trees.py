"""Branching trees that fill a volume: airways and vessels.

Reference: Tawhai, Pullan & Hunter, "Generation of an anatomically based three-dimensional model of the
conducting airways", Annals of Biomedical Engineering 28 (2000): each branch grows towards the centre of the points
that it must supply, which a plane then divides between its two daughters.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _grow(
    points: np.ndarray, root: np.ndarray, direction: np.ndarray, reach: float, bend: float, jitter: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = points.shape[0]
    limit = 2 * count + 2
    node = np.zeros((limit, 3))
    parent = np.zeros(limit, dtype=np.int64)
    supply = np.zeros(limit, dtype=np.int64)
    heading = np.zeros((limit, 3))
    order = np.arange(count)
    first, last = np.zeros(limit, dtype=np.int64), np.zeros(limit, dtype=np.int64)
    node[0], heading[0] = root, direction / np.sqrt((direction**2).sum())
    parent[0], supply[0], last[0] = -1, count, count
    used, at = 1, 0
    while at < used:
        a, b = first[at], last[at]
        if b - a > 1 or (at == 0 and b - a == 1):
            centre = np.zeros(3)
            for i in range(a, b):
                centre += points[order[i]]
            centre /= b - a
            normal = np.zeros(3)
            if b - a > 1:  # widest spread across the heading, by a few power iterations
                h = heading[at]
                v = np.cross(h, jitter[at % jitter.shape[0]])
                for _ in range(6):
                    w = np.zeros(3)
                    for i in range(a, b):
                        q = points[order[i]] - centre
                        w += q * (q @ v)
                    w -= h * (h @ w) * 0.8
                    size = np.sqrt((w**2).sum())
                    if size < 1e-9:
                        break
                    v = w / size
                normal = v
            low, high = a, b - 1
            while low <= high:
                if (points[order[low]] - centre) @ normal < 0:
                    low += 1
                else:
                    order[low], order[high] = order[high], order[low]
                    high -= 1
            if low in (a, b):
                low = (a + b) // 2
            for half in range(2):
                s, e = (a, low) if half == 0 else (low, b)
                if e <= s:
                    continue
                target = np.zeros(3)
                for i in range(s, e):
                    target += points[order[i]]
                target /= e - s
                step = target - node[at]
                size = np.sqrt((step**2).sum())
                if size < 0.5:
                    continue
                unit = step / size
                cosine = unit @ heading[at]
                if cosine < bend:  # turn no further than allowed from the parent's heading
                    side = unit - heading[at] * cosine
                    length = np.sqrt((side**2).sum())
                    if length > 1e-6:
                        unit = heading[at] * bend + side / length * np.sqrt(1 - bend * bend)
                share = reach if e - s > 1 else 0.9
                node[used] = node[at] + unit * size * share + jitter[used % jitter.shape[0]] * 0.06 * size
                heading[used] = unit
                parent[used], supply[used], first[used], last[used] = at, e - s, s, e
                used += 1
                if used >= limit:
                    return node, parent, supply
        at += 1
    return node[:used], parent[:used], supply[:used]


def grow(
    points: np.ndarray,
    root: np.ndarray,
    direction: np.ndarray,
    rng: np.random.Generator,
    reach: float = 0.45,
    bend: float = 0.35,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tree from ``root`` (x, y, z) that supplies every point ``(n, 3)``.

    Returns the nodes ``(m, 3)``, each node's parent (-1 for the root) and how many points hang on it. ``reach`` is
    the share of the way to the centre of its points that a branch goes, ``bend`` the least cosine between a branch
    and its parent.
    """
    jitter = rng.standard_normal((997, 3))
    return _grow(
        np.ascontiguousarray(points, dtype=np.float64),
        np.asarray(root, dtype=np.float64),
        np.asarray(direction, dtype=np.float64),
        reach,
        bend,
        jitter,
    )


def segments(
    tree: tuple[np.ndarray, np.ndarray, np.ndarray], tip: float, power: float = 0.37, thickest: float = np.inf
) -> np.ndarray:
    """Tapering tubes ``(ax, ay, az, bx, by, bz, ra, rb)`` of a tree whose end twigs have radius ``tip`` mm.

    The radius grows with the number of supplied points to ``power`` (Murray's law has 1/3).
    """
    node, parent, supply = tree
    radius = np.minimum(tip * supply.astype(float) ** power, thickest)
    child = np.arange(1, len(node))
    mother = parent[1:]
    start = np.minimum(radius[mother], 1.25 * radius[child])
    return np.concatenate([node[mother], node[child], start[:, None], radius[child][:, None]], 1)


def shifted(
    tree: tuple[np.ndarray, np.ndarray, np.ndarray], towards: np.ndarray, gap: float, tip: float, power: float = 0.37
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same tree beside itself: each node moved by its own width, as an artery runs beside its airway."""
    node, parent, supply = tree
    radius = tip * supply.astype(float) ** power
    return node + towards * (gap + 2.0 * radius)[:, None], parent, supply
