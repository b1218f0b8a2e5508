"""Slopes of seismic events: how much later an event is in one section than in the section before, place by place."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LARGEST = 4.0
"""Samples from one trace to the next: the steepest event that is looked for."""

_STEP = 0.5  # samples: between the shifts that are tried
_LONGEST_LAG, _MOST_LAGS = 8, 3
_PULL = 0.3  # towards small slopes, where two fit about equally well: the other is an alias
_QUIET = 1e-3  # of the mean energy: fainter differences mean nothing
_REFINEMENTS = 2
_WIDENINGS = 6
_LEAST_WEIGHT = 0.05  # of the mean weight: with less, a place has no slope of its own


def local_slopes(
    sections: np.ndarray,
    live: np.ndarray | None = None,
    *,
    largest: float = LARGEST,
    window: tuple[int, int, int] = (5, 11, 5),
) -> np.ndarray:
    """Slopes between neighbouring rows of sections ``(row, time, column)``, in samples, float32 of that shape.

    At each place: the shift that makes a row most like the one before in a window around it, among shifts of half a
    sample (an exhaustive search, which aliased events do not mislead as long as the window holds more than one of
    them), then refined by two Gauss-Newton steps of the same misfit (plane-wave destruction, Fomel 2002, with the
    interpolation of `medrecon.physics.steering`). Where nothing fits, or nothing is loud, the slopes around count.

    Parameters
    ----------
    live
        bool ``(rows, columns)``: compare live traces alone, also those two or more rows apart where there are no
        nearer ones.
    largest
        Steepest slope, samples.
    window
        Size of the window, ``(rows, time, columns)``.
    """
    x = np.ascontiguousarray(sections, dtype=np.float32)
    weights = np.ones((x.shape[0], 1, x.shape[2]), np.float32) if live is None else live[:, None].astype(np.float32)
    lags = _lags(weights) if live is not None else [1] if len(x) > 1 else []
    if not lags or not x.any():
        return np.zeros_like(x)
    size = [min(w, n) for w, n in zip(window, x.shape, strict=True)]
    slopes = _searched(x, weights, lags, largest, size)
    for _ in range(_REFINEMENTS):
        slopes = _refined(x, weights, lags, slopes, largest, size)
    return slopes


def _lags(weights: np.ndarray) -> list[int]:
    """The shortest distances of rows at which there are pairs of live traces."""
    found = [lag for lag in range(1, min(_LONGEST_LAG + 1, len(weights))) if (weights[lag:] * weights[:-lag]).any()]
    return found[:_MOST_LAGS]


def _searched(x: np.ndarray, weights: np.ndarray, lags: list[int], largest: float, size: list[int]) -> np.ndarray:
    """The best of the shifts that are tried, spread to where none is good."""
    energy = float(np.square(x, dtype=np.float64).mean())
    best, slopes, loudness = np.full(x.shape, np.inf, np.float32), np.zeros_like(x), np.zeros_like(x)
    count = int(np.ceil(largest / _STEP))
    for shift in _STEP * np.arange(-count, count + 1):
        misfit, total = np.zeros_like(x), np.zeros_like(x)
        for lag in lags:
            part, pairs = _between(lag, len(x)), weights[lag:] * weights[:-lag]
            before = _shifted(x[:-lag], lag * shift)
            misfit[part] += pairs * np.square(x[lag:] - before)
            total[part] += pairs * (np.square(x[lag:]) + np.square(before))
        misfit, total = (ndimage.uniform_filter(values, size, mode="nearest") for values in (misfit, total))
        cost = (misfit + _QUIET * energy) / (total + _QUIET * energy) + _PULL * abs(shift) / largest
        better = cost < best
        best[better], slopes[better], loudness[better] = cost[better], shift, total[better]
    fit = np.square(np.clip(1 - best, 0, 1)) * loudness / (loudness + energy)
    return _spread(slopes, fit, size)


def _refined(
    x: np.ndarray, weights: np.ndarray, lags: list[int], slopes: np.ndarray, largest: float, size: list[int]
) -> np.ndarray:
    """One Gauss-Newton step of the misfit in a window: ``p - <e, de/dp> / <de/dp, de/dp>``, ``e = x - W x``."""
    from medrecon.physics import steering_kernels

    curvature, gradient, alike = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for lag in lags:
        part = _between(lag, len(x))
        value, derivative = np.empty_like(x[lag:]), np.empty_like(x[lag:])
        steering_kernels.warp(x[:-lag], np.ascontiguousarray(slopes[part]), lag, value, derivative)
        pairs = weights[lag:] * weights[:-lag] * np.isfinite(value)
        value, change = np.nan_to_num(value), lag * np.nan_to_num(derivative)
        error = x[lag:] - value
        curvature[part] += pairs * np.square(change)
        gradient[part] += pairs * error * change
        alike[part] += pairs * np.maximum(np.square(x[lag:]) + np.square(value) - 2 * np.square(error), 0)
    curvature, gradient = (ndimage.uniform_filter(v, size, mode="nearest") for v in (curvature, gradient))
    floor = 0.01 * float(curvature.mean()) + 1e-30
    step = np.clip(-gradient / (curvature + floor), -_STEP, _STEP)
    moved = np.clip(slopes + step, -largest, largest)
    return _spread(moved, ndimage.uniform_filter(alike, size, mode="nearest"), size)


def _between(lag: int, rows: int) -> slice:
    """Rows to which a comparison of rows ``i`` and ``i + lag`` speaks: the slope in the middle of the two."""
    early = lag // 2
    return slice(lag - early, rows - early)


def _shifted(x: np.ndarray, shift: float) -> np.ndarray:
    """Sections at ``shift`` samples earlier, linear between samples; zero beyond the ends."""
    base = int(np.floor(-shift))
    share = -shift - base
    out = np.zeros_like(x)
    for offset, weight in ((base, 1 - share), (base + 1, share)):
        if weight == 0 or abs(offset) >= x.shape[1]:
            continue
        low, high = max(0, -offset), x.shape[1] - max(0, offset)
        out[:, low:high] += np.float32(weight) * x[:, low + offset : high + offset]
    return out


def _spread(values: np.ndarray, weights: np.ndarray, size: list[int]) -> np.ndarray:
    """Weighted means over windows, over larger ones where a window holds hardly any weight."""
    least = _LEAST_WEIGHT * float(weights.mean())
    total = float(weights.sum(dtype=np.float64))
    mean = float((weights * values).sum(dtype=np.float64)) / total if total > 0 else 0.0
    out, open_ = np.full_like(values, mean), np.ones(values.shape, bool)
    for _ in range(_WIDENINGS):
        size = [min(s, 2 * n - 1) for s, n in zip(size, values.shape, strict=True)]
        below = ndimage.uniform_filter(weights, size, mode="nearest")
        above = ndimage.uniform_filter(weights * values, size, mode="nearest")
        enough = open_ & (below > least)
        out[enough] = above[enough] / below[enough]
        open_ &= ~enough
        if not open_.any():
            break
        size = [2 * size[0] + 1, (3 * size[1] // 2) | 1, 2 * size[2] + 1]
    return out
