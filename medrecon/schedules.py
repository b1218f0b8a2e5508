"""Noise levels of a run: pure functions that return float64 levels, highest first."""

from __future__ import annotations

import numpy as np

from medrecon.registry import Registry

schedules: Registry = Registry("schedule")


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
