"""Noise levels of a run: pure functions that return float64 levels, highest first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

import numpy as np

from medrecon.errors import UsageError
from medrecon.registry import Registry

schedules: Registry = Registry("schedule")


def check_levels(sigma_max: float, sigma_min: float) -> None:
    """Raise UsageError unless noise levels fall, to something above zero."""
    if not sigma_max >= sigma_min > 0:
        raise UsageError("noise levels must fall", found=(sigma_max, sigma_min))


def falling(levels: Sequence[float]) -> bool:
    """Whether these are noise levels that fall, to something above zero."""
    return (
        all(isinstance(level, int | float) and isfinite(level) for level in levels)
        and all(a > b for a, b in pairwise(levels))
        and min(levels, default=1) > 0
    )


@schedules.register("log")
def log_schedule(sigma_max: float, sigma_min: float, steps: int) -> np.ndarray:
    """Levels in geometric progression."""
    return np.geomspace(sigma_max, sigma_min, steps)


@schedules.register("edm")
def edm_schedule(sigma_max: float, sigma_min: float, steps: int, rho: float = 7.0) -> np.ndarray:
    """Karras et al. 2022, eq. 5: linear in ``sigma^(1/rho)``."""
    ramp = np.linspace(0, 1, steps)
    return (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


@schedules.register("linear")
def linear_schedule(sigma_max: float, sigma_min: float, steps: int) -> np.ndarray:
    """Levels in arithmetic progression."""
    return np.linspace(sigma_max, sigma_min, steps)


@schedules.register("vp")
def vp_schedule(sigma_max: float, sigma_min: float, steps: int) -> np.ndarray:
    """Equidistant times of the variance-preserving process with linear beta (Ho et al. 2020).

    ``1 + sigma^2 = exp(b t + (B - b) t^2 / 2)`` with ``b = 0.1`` and ``B = 20`` at ``t = 1``: the uniform sequence of
    DDIM and of most networks that predict noise.
    """
    low, slope = 0.1, 19.9
    exponent = np.log1p(np.array([sigma_max, sigma_min]) ** 2)
    start, end = (np.sqrt(low**2 + 2 * slope * exponent) - low) / slope
    time = np.linspace(start, end, steps)
    return np.sqrt(np.expm1(low * time + 0.5 * slope * time**2))


@schedules.register("flow")
def flow_schedule(sigma_max: float, sigma_min: float, steps: int) -> np.ndarray:
    """Equidistant times of a rectified flow ``(1 - t) x + t n``, whose level is ``t / (1 - t)`` (Liu et al. 2023)."""
    time = np.linspace(sigma_max / (1 + sigma_max), sigma_min / (1 + sigma_min), steps)
    return time / (1 - time)
