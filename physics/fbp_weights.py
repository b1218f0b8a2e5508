"""Weights of filtered back-projection: the share of each view in the angular integral, and of each repeated line."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.ct_geometry import CTGeometry


def angular_cover(angles: np.ndarray, period: float) -> tuple[np.ndarray, float, float]:
    """Share of each view of the angular integral over one period, start of the scan, and its arc.

    A view counts half the gap to each neighbour. The largest gap is the end of a limited or short scan, and not a
    coarse step, if it exceeds all other gaps of an evenly spaced scan, or three times their mean in an uneven one;
    it then counts as one mean step, and the arc is smaller than the period.
    """
    order = np.argsort(angles % period, kind="stable")
    folded = (angles % period)[order]
    gaps = np.diff(folded, append=folded[0] + period)
    start, arc = float(folded[0]), period
    if len(gaps) > 1:
        widest = int(np.argmax(gaps))
        others = np.delete(gaps, widest)
        mean = float(others.mean())
        even = float(np.ptp(others)) < 0.01 * mean
        if gaps[widest] > (1.01 if even else 3.0) * mean:
            start = float(folded[(widest + 1) % len(folded)])
            arc = period - gaps[widest] + mean
            gaps[widest] = mean
    shares = np.empty(len(angles))
    shares[order] = 0.5 * (gaps + np.roll(gaps, 1))
    return shares, start, arc


def view_weights(geometry: CTGeometry) -> np.ndarray:
    """Angular width of each view, radians; over half a turn for a parallel beam, else over a full one."""
    return angular_cover(np.asarray(geometry.angles), _period(geometry))[0]


def _period(geometry: CTGeometry) -> float:
    """Angle after which views repeat: half a turn for parallel beams, but for offset detectors in a full turn."""
    if geometry.kind != "parallel":
        return 2 * math.pi
    _, _, arc = angular_cover(np.asarray(geometry.angles), 2 * math.pi)
    full = arc > 2 * math.pi - 1e-6
    return 2 * math.pi if full and _is_offset(geometry) else math.pi


def redundancy_weights(geometry: CTGeometry) -> np.ndarray:
    """Share of each ray in the line that it measures, ``(views, columns)``; repeated lines share one.

    - Full turn: one half; with an offset detector a smooth step across the columns that see both sides.
    - Fan over at least half a turn plus the fan angle: Parker's weights.
    - Fan over less: tapered at the ends of the arc and normalised; lines measured once count fully.

    References
    ----------
    D. L. Parker, Med. Phys. 9, 254-257 (1982), with the arc in place of the smallest one (M. D. Silver, Med. Phys. 27,
    773-774 (2000)). G. Wang, Med. Phys. 29, 1634-1636 (2002): offset detectors. F. Noo et al., Phys. Med. Biol. 47,
    2525-2546 (2002), equations 33 and 34: less than a short scan.
    """
    shape = (geometry.n_views, geometry.columns)
    period = _period(geometry)
    _, start, arc = angular_cover(np.asarray(geometry.angles), period)
    if geometry.kind == "parallel" and period < 2 * math.pi:
        return np.ones(shape)
    if arc > period - 1e-6:
        return np.broadcast_to(_offset_weights(geometry), shape)
    beta = ((np.asarray(geometry.angles) - start + 1e-9) % period - 1e-9)[:, None]
    # Half a step of margin: a view stands for the angles around it.
    beta = beta + 0.5 * (arc - float(beta.max()))
    gamma = centred_angles(geometry)[None, :]
    half_fan = float(np.abs(gamma).max())
    if arc >= math.pi + 2 * half_fan - 1e-6:
        return _parker(beta, gamma, (arc - math.pi) / 2)
    return _tapered(beta, gamma, arc)


def _parker(beta: np.ndarray, gamma: np.ndarray, delta: float) -> np.ndarray:
    """Parker's weights for an arc of ``pi + 2 delta``; ray (b, g) repeats at (b - 2 g + pi, -g)."""
    rising = np.sin(0.25 * math.pi * beta / np.maximum(delta + gamma, 1e-9)) ** 2
    falling = np.sin(0.25 * math.pi * (math.pi + 2 * delta - beta) / np.maximum(delta - gamma, 1e-9)) ** 2
    weights = np.where(beta < 2 * (delta + gamma), rising, 1.0)
    return np.where(beta > math.pi + 2 * gamma, falling, weights)


def _tapered(beta: np.ndarray, gamma: np.ndarray, arc: float) -> np.ndarray:
    """``c / (c + c of the repeated ray)`` with ``c`` falling to zero within ten degrees of the ends of the arc."""
    width = math.radians(10)

    def taper(angle: np.ndarray) -> np.ndarray:
        inside = np.clip(np.minimum(angle, arc - angle) / width, 0, 1)
        return np.sin(0.5 * math.pi * inside) ** 2

    own = taper(beta) + 1e-9
    repeated = taper((beta - 2 * gamma + math.pi) % (2 * math.pi))
    return own / (own + repeated)


def centred_angles(geometry: CTGeometry) -> np.ndarray:
    """Fan angle of each column, counted from the ray through the axis of rotation."""
    ratio = geometry.column_positions / geometry.detector_radius
    angle = np.arctan(ratio) if geometry.kind == "fan-flat" else ratio
    return angle - math.atan2(geometry.rotation_shift, geometry.source_origin or 1.0)


def _sides(geometry: CTGeometry) -> tuple[np.ndarray, float, float]:
    """Signed distance of each column from the axis of rotation (an angle for fans); near and far reach."""
    if geometry.kind == "parallel":
        place = geometry.column_positions - geometry.rotation_shift
    else:
        place = centred_angles(geometry)
    low, high = -float(place[0]), float(place[-1])
    return place, min(low, high), max(low, high)


def _is_offset(geometry: CTGeometry) -> bool:
    """Whether one side of the detector reaches further by more than two columns."""
    place, near, far = _sides(geometry)
    return far - near > 2 * (float(place[-1]) - float(place[0])) / max(1, geometry.columns - 1)


def symmetric_detector(geometry: CTGeometry) -> tuple[CTGeometry, int, int]:
    """The geometry with an offset detector of a full turn made symmetric; columns added before and after.

    Filtering spreads the data beyond the short side of the detector, where pixels need them.
    """
    if _period(geometry) < 2 * math.pi or not _is_offset(geometry):
        return geometry, 0, 0
    place, near, far = _sides(geometry)
    extra = math.ceil((far - near) * (geometry.columns - 1) / (place[-1] - place[0]))
    before = extra if place[-1] > -place[0] else 0
    after = extra - before
    shift = 0.5 * (after - before) * geometry.column_spacing
    wide = replace(geometry, columns=geometry.columns + extra, detector_offset=geometry.detector_offset + shift)
    return wide, before, after


def _offset_weights(geometry: CTGeometry) -> np.ndarray:
    """Weight of each column in a full turn: one half, or a smooth step across the part that sees both sides."""
    if not _is_offset(geometry):
        return np.full(geometry.columns, 0.5)
    place, near, _ = _sides(geometry)
    if near < 0:
        raise InputError(
            "the detector does not reach the axis of rotation: filtered back-projection needs it to",
            found=f"detector offset {geometry.detector_offset} mm for {geometry.columns} columns",
            hint="Use an iterative method.",
        )
    step = (float(place[-1]) - float(place[0])) / max(1, geometry.columns - 1)
    towards_far = place if place[-1] > -place[0] else -place
    return np.sin(0.25 * math.pi * (1 + np.clip(towards_far / (near + 0.5 * step), -1, 1))) ** 2
