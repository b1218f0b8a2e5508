"""Compiled kernels of the anatomical phantom: distances to simple solids, smooth noise, painting.

All lengths are mm. A solid is one row of `ROW` numbers: its kind, its bounding box ``(z0, z1, y0, y1, x0, x1)``
and its parameters, points stored as ``(x, y, z)``. Distances are negative inside. They are exact for balls,
capsules and triangles and first-order for the others, which is what an edge one voxel wide needs.
"""

from __future__ import annotations

import numba
import numpy as np

ROW = 26
ELLIPSOID, CAPSULE, BLADE, DRUM, TRIANGLE = 0.0, 1.0, 2.0, 3.0, 4.0
LATTICE = 32

_jit = numba.njit(cache=True, nogil=True)


@_jit
def smooth_minimum(a: float, b: float, blend: float) -> float:
    """Minimum of two distances, rounded where they differ by less than ``blend`` (polynomial, Quilez)."""
    if blend <= 0.0:
        return min(a, b)
    h = max(blend - abs(a - b), 0.0) / blend
    return min(a, b) - 0.25 * h * h * blend


@_jit
def lattice_noise(table: np.ndarray, x: float, y: float, z: float) -> float:
    """Smooth periodic noise of unit lattice spacing, mean 0, standard deviation near 0.6."""
    # turned out of the axes of the grid, so that the cells of the lattice do not show
    x, y, z = 0.36 * x - 0.48 * y + 0.8 * z, 0.8 * x + 0.6 * y, -0.48 * x + 0.64 * y + 0.6 * z
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    tx, ty, tz = x - fx, y - fy, z - fz
    i, j, k = int(fx) % LATTICE, int(fy) % LATTICE, int(fz) % LATTICE
    i1, j1, k1 = (i + 1) % LATTICE, (j + 1) % LATTICE, (k + 1) % LATTICE
    tx, ty, tz = tx * tx * (3 - 2 * tx), ty * ty * (3 - 2 * ty), tz * tz * (3 - 2 * tz)
    a = table[k, j, i] * (1 - tx) + table[k, j, i1] * tx
    b = table[k, j1, i] * (1 - tx) + table[k, j1, i1] * tx
    c = table[k1, j, i] * (1 - tx) + table[k1, j, i1] * tx
    d = table[k1, j1, i] * (1 - tx) + table[k1, j1, i1] * tx
    return (a * (1 - ty) + b * ty) * (1 - tz) + (c * (1 - ty) + d * ty) * tz


@_jit
def _ellipsoid(p: np.ndarray, x: float, y: float, z: float) -> float:
    dx, dy, dz = x - p[7], y - p[8], z - p[9]
    k0 = k1 = 0.0
    for i in range(3):
        r = p[19 + i]
        q = p[10 + 3 * i] * dx + p[11 + 3 * i] * dy + p[12 + 3 * i] * dz
        k0 += (q / r) ** 2
        k1 += (q / (r * r)) ** 2
    k0, k1 = np.sqrt(k0), np.sqrt(k1)
    if k1 < 1e-9:
        return -min(p[19], p[20], p[21])
    return k0 * (k0 - 1.0) / k1


@_jit
def _capsule(p: np.ndarray, x: float, y: float, z: float) -> float:
    ux, uy, uz = p[10] - p[7], p[11] - p[8], p[12] - p[9]
    dx, dy, dz = x - p[7], y - p[8], z - p[9]
    t = (dx * ux + dy * uy + dz * uz) / max(ux * ux + uy * uy + uz * uz, 1e-9)
    t = min(max(t, 0.0), 1.0)
    dx, dy, dz = dx - t * ux, dy - t * uy, dz - t * uz
    return np.sqrt(dx * dx + dy * dy + dz * dz) - (p[13] + t * (p[14] - p[13]))


@_jit
def _blade(p: np.ndarray, x: float, y: float, z: float) -> float:
    """A capsule of elliptic section: radius p[16..17] along the unit normal p[13..15], p[18..19] across it."""
    ux, uy, uz = p[10] - p[7], p[11] - p[8], p[12] - p[9]
    length = max(np.sqrt(ux * ux + uy * uy + uz * uz), 1e-6)
    dx, dy, dz = x - p[7], y - p[8], z - p[9]
    along = (dx * ux + dy * uy + dz * uz) / length
    t = min(max(along / length, 0.0), 1.0)
    dx, dy, dz = dx - t * ux, dy - t * uy, dz - t * uz
    rn, rm = p[16] + t * (p[17] - p[16]), p[18] + t * (p[19] - p[18])
    nx, ny, nz = p[13], p[14], p[15]
    mx, my, mz = (uy * nz - uz * ny) / length, (uz * nx - ux * nz) / length, (ux * ny - uy * nx) / length
    s = along - t * length
    a, b = dx * nx + dy * ny + dz * nz, dx * mx + dy * my + dz * mz
    rs = min(rn, rm)
    k0 = np.sqrt((a / rn) ** 2 + (b / rm) ** 2 + (s / rs) ** 2)
    k1 = np.sqrt((a / (rn * rn)) ** 2 + (b / (rm * rm)) ** 2 + (s / (rs * rs)) ** 2)
    if k1 < 1e-9:
        return -rs
    return k0 * (k0 - 1.0) / k1


@_jit
def _drum(p: np.ndarray, x: float, y: float, z: float) -> float:
    """A vertebral body: elliptic drum, half-axes p[19..20], half-height p[21], waist p[22], hollow back p[23]."""
    dx, dy, dz = x - p[7], y - p[8], z - p[9]
    qx = p[10] * dx + p[11] * dy + p[12] * dz
    qy = p[13] * dx + p[14] * dy + p[15] * dz
    qz = p[16] * dx + p[17] * dy + p[18] * dz
    rx, ry, h = p[19], p[20], p[21]
    scale = 1.0 - p[22] * max(1.0 - (qz / h) ** 2, 0.0)
    if qy > 0:
        qy += p[23] * ry * max(1.0 - (qx / rx) ** 2, 0.0) * min(qy / ry * 2, 1.0)
    k = (abs(qx / (rx * scale)) ** 2.5 + abs(qy / (ry * scale)) ** 2.5) ** 0.4
    side = (k - 1.0) * min(rx, ry) * scale
    end = abs(qz) - h * (1.0 - 0.1 * max(1.0 - k * k, 0.0))
    return -smooth_minimum(-side, -end, 3.0)


@_jit
def _triangle(p: np.ndarray, x: float, y: float, z: float) -> float:
    """A plate: distance to the triangle p[7..15] less its half-thickness p[16]."""
    bax, bay, baz = p[10] - p[7], p[11] - p[8], p[12] - p[9]
    cbx, cby, cbz = p[13] - p[10], p[14] - p[11], p[15] - p[12]
    acx, acy, acz = p[7] - p[13], p[8] - p[14], p[9] - p[15]
    nx, ny, nz = bay * acz - baz * acy, baz * acx - bax * acz, bax * acy - bay * acx
    pax, pay, paz = x - p[7], y - p[8], z - p[9]
    pbx, pby, pbz = x - p[10], y - p[11], z - p[12]
    pcx, pcy, pcz = x - p[13], y - p[14], z - p[15]
    s = 0.0
    s += np.sign((bay * nz - baz * ny) * pax + (baz * nx - bax * nz) * pay + (bax * ny - bay * nx) * paz)
    s += np.sign((cby * nz - cbz * ny) * pbx + (cbz * nx - cbx * nz) * pby + (cbx * ny - cby * nx) * pbz)
    s += np.sign((acy * nz - acz * ny) * pcx + (acz * nx - acx * nz) * pcy + (acx * ny - acy * nx) * pcz)
    if abs(s) > 2.5:
        d2 = (nx * pax + ny * pay + nz * paz) ** 2 / max(nx * nx + ny * ny + nz * nz, 1e-12)
    else:
        t = min(max((bax * pax + bay * pay + baz * paz) / max(bax * bax + bay * bay + baz * baz, 1e-12), 0), 1)
        d2 = (bax * t - pax) ** 2 + (bay * t - pay) ** 2 + (baz * t - paz) ** 2
        t = min(max((cbx * pbx + cby * pby + cbz * pbz) / max(cbx * cbx + cby * cby + cbz * cbz, 1e-12), 0), 1)
        d2 = min(d2, (cbx * t - pbx) ** 2 + (cby * t - pby) ** 2 + (cbz * t - pbz) ** 2)
        t = min(max((acx * pcx + acy * pcy + acz * pcz) / max(acx * acx + acy * acy + acz * acz, 1e-12), 0), 1)
        d2 = min(d2, (acx * t - pcx) ** 2 + (acy * t - pcy) ** 2 + (acz * t - pcz) ** 2)
    return np.sqrt(d2) - p[16]


@_jit
def solid_distance(p: np.ndarray, x: float, y: float, z: float) -> float:
    """Signed distance from a point to the solid of one row."""
    kind = p[0]
    if kind == ELLIPSOID:
        return _ellipsoid(p, x, y, z)
    if kind == CAPSULE:
        return _capsule(p, x, y, z)
    if kind == BLADE:
        return _blade(p, x, y, z)
    if kind == DRUM:
        return _drum(p, x, y, z)
    return _triangle(p, x, y, z)


@_jit
def span(axis: np.ndarray, low: float, high: float) -> tuple[int, int]:
    """First and one-past-last index of the samples of an ascending axis within ``[low, high]``."""
    return int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high, side="right"))


@_jit
def union_distance(
    out: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, rows: np.ndarray, pad: float, blend: float
) -> None:
    """Lower ``out`` (z, y, x) to the smooth union with every row, each within its bounding box plus ``pad``."""
    for n in range(rows.shape[0]):
        p = rows[n]
        k0, k1 = span(z, p[1] - pad, p[2] + pad)
        j0, j1 = span(y, p[3] - pad, p[4] + pad)
        i0, i1 = span(x, p[5] - pad, p[6] + pad)
        for k in range(k0, k1):
            for j in range(j0, j1):
                for i in range(i0, i1):
                    d = solid_distance(p, x[i], y[j], z[k])
                    out[k, j, i] = smooth_minimum(out[k, j, i], d, blend)


@_jit
def loft_distance(
    out: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    radius: np.ndarray,
    cosine: np.ndarray,
    centre: np.ndarray,
    first: float,
    step: float,
) -> None:
    """Distance to a lofted surface.

    ``radius[level, angle]`` (mm) is measured in the axial plane from ``centre[level] = (x, y)``, angle 0 towards
    the front and growing to the left; ``cosine`` is that of the angle between the radius and the surface normal.
    """
    levels, angles = radius.shape
    for k in range(z.size):
        u = min(max((z[k] - first) / step, 0.0), levels - 1.0001)
        a = int(u)
        fu = u - a
        beyond = max(first - z[k], z[k] - (first + step * (levels - 1)))
        cx = centre[a, 0] * (1 - fu) + centre[a + 1, 0] * fu
        cy = centre[a, 1] * (1 - fu) + centre[a + 1, 1] * fu
        for j in range(y.size):
            for i in range(x.size):
                dx, dy = x[i] - cx, y[j] - cy
                v = np.arctan2(dx, -dy) / (2 * np.pi) * angles
                if v < 0:
                    v += angles
                b = int(v)
                fv = v - b
                b = b % angles
                c = (b + 1) % angles
                w00, w01, w10, w11 = (1 - fu) * (1 - fv), (1 - fu) * fv, fu * (1 - fv), fu * fv
                r = radius[a, b] * w00 + radius[a, c] * w01 + radius[a + 1, b] * w10 + radius[a + 1, c] * w11
                g = cosine[a, b] * w00 + cosine[a, c] * w01 + cosine[a + 1, b] * w10 + cosine[a + 1, c] * w11
                out[k, j, i] = max((np.sqrt(dx * dx + dy * dy) - r) * g, beyond)


@_jit
def add_noise(
    out: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    table: np.ndarray,
    amplitude: float,
    length: float,
    reach: float,
) -> None:
    """Add noise of the given amplitude and wavelength (mm) to the distances smaller than ``reach``."""
    inverse = 1.0 / length
    for k in range(z.size):
        for j in range(y.size):
            for i in range(x.size):
                if abs(out[k, j, i]) < reach:
                    n = lattice_noise(table, x[i] * inverse, y[j] * inverse, z[k] * inverse)
                    out[k, j, i] += amplitude * n


@_jit
def folds(
    out: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    axes: np.ndarray,
    centre: np.ndarray,
    radii: np.ndarray,
    table: np.ndarray,
    length: float,
    half_width: float,
) -> None:
    """Distance to the sulci: sheets that stand on the surface of an ellipsoid and run towards its centre.

    The zero set of noise of wavelength ``length`` mm, read where the ray from the centre meets the ellipsoid, so
    that it does not change with depth; a second, finer set turns the sheets a little on their way down.
    """
    for k in range(z.size):
        for j in range(y.size):
            for i in range(x.size):
                dx, dy, dz = x[i] - centre[0], y[j] - centre[1], z[k] - centre[2]
                qx = (axes[0, 0] * dx + axes[0, 1] * dy + axes[0, 2] * dz) / radii[0]
                qy = (axes[1, 0] * dx + axes[1, 1] * dy + axes[1, 2] * dz) / radii[1]
                qz = (axes[2, 0] * dx + axes[2, 1] * dy + axes[2, 2] * dz) / radii[2]
                r = max(np.sqrt(qx * qx + qy * qy + qz * qz), 0.2)
                a, b, c = qx / r * 72 / length, qy / r * 84 / length, qz / r * 72 / length
                n = lattice_noise(table, a + 11.0, b, c)
                n += 0.35 * lattice_noise(table, 1.7 * a, 1.7 * b + 5.0, 1.7 * c + 0.9 * r)
                out[k, j, i] = abs(n) * 0.5 * length * r - half_width


@_jit
def roughen(
    image: np.ndarray,
    distance: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    edge: float,
    table: np.ndarray,
    lengths: np.ndarray,
    amplitudes: np.ndarray,
    strength: np.ndarray,
) -> None:
    """Add noise of several wavelengths to the image within a region; ``strength`` scales it plane by plane."""
    for k in range(z.size):
        for j in range(y.size):
            for i in range(x.size):
                alpha = min(0.5 - distance[k, j, i] / edge, 1.0)
                if alpha > 0.0:
                    total = 0.0
                    for n in range(lengths.size):
                        f = 1.0 / lengths[n]
                        total += amplitudes[n] * lattice_noise(table, x[i] * f + 3.7 * n, y[j] * f, z[k] * f)
                    image[k, j, i] += alpha * strength[k] * total


@_jit
def paint(
    image: np.ndarray,
    distance: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    value: float,
    inset: float,
    edge: float,
    opacity: float,
    over: float,
    table: np.ndarray,
    grain: float,
    length: float,
) -> None:
    """Blend ``value`` (plus grain of wavelength ``length``) into the image where ``distance + inset < 0``.

    With a finite ``over`` the share of the voxel within the region changes from that value to the new one.
    """
    nested = np.isfinite(over)
    inverse = 1.0 / length
    for k in range(z.size):
        for j in range(y.size):
            for i in range(x.size):
                alpha = 0.5 - (distance[k, j, i] + inset) / edge
                if alpha > 0.0:
                    alpha = min(alpha, 1.0) * opacity
                    v = value
                    if grain != 0.0:
                        a, b, c = x[i] * inverse, y[j] * inverse, z[k] * inverse
                        v += grain * lattice_noise(table, a, b, c)
                        v += 0.5 * grain * lattice_noise(table, 1.9 * a + 7.3, 1.9 * b, 1.9 * c)
                    image[k, j, i] += alpha * (v - (over if nested else image[k, j, i]))


@_jit
def tube_cover(cover: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, tubes: np.ndarray, edge: float) -> None:
    """Raise ``cover`` to the partial volume of tapering tubes, rows ``(ax, ay, az, bx, by, bz, ra, rb)``.

    A tube thinner than a voxel covers the fraction of it that its section takes, so that fine vessels fade as
    they do in a scanner.
    """
    for n in range(tubes.shape[0]):
        ax, ay, az, bx, by, bz, ra, rb = tubes[n]
        pad = max(ra, rb) + 0.5 * edge
        k0, k1 = span(z, min(az, bz) - pad, max(az, bz) + pad)
        j0, j1 = span(y, min(ay, by) - pad, max(ay, by) + pad)
        i0, i1 = span(x, min(ax, bx) - pad, max(ax, bx) + pad)
        ux, uy, uz = bx - ax, by - ay, bz - az
        norm = max(ux * ux + uy * uy + uz * uz, 1e-9)
        for k in range(k0, k1):
            for j in range(j0, j1):
                for i in range(i0, i1):
                    dx, dy, dz = x[i] - ax, y[j] - ay, z[k] - az
                    t = min(max((dx * ux + dy * uy + dz * uz) / norm, 0.0), 1.0)
                    r = ra + t * (rb - ra)
                    dx, dy, dz = dx - t * ux, dy - t * uy, dz - t * uz
                    rho = np.sqrt(dx * dx + dy * dy + dz * dz)
                    near = min(max((r - rho) / edge + 0.5, 0.0), 1.0)
                    far = min((r + rho) / edge + 0.5, 1.0)
                    alpha = (near + far - 1.0) * min(2.0 * r / edge, 1.0)
                    if alpha > cover[k, j, i]:
                        cover[k, j, i] = alpha
