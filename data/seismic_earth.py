"""A layered earth from a seed: strata that were folded, faulted, eroded, buried and cut by channels.

Everything is drawn backwards, as in the making of training volumes by Wu et al. (2020): each place of today is followed
to the depth at which it was laid down, and the layer is looked up there. Lengths along rows and columns are in traces,
depths in samples of two-way time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

OVERSAMPLING = 2
"""Values of impedance for each sample of a trace."""

_FINE = 8  # values of a log for each sample
_MARGIN = 3.0  # depths of a model above and below it that its strata know
_STEEPEST = 0.8  # of the depth by which a fold may stretch strata


@dataclass(frozen=True)
class Fault:
    """A plane through ``place`` that moved what lies behind it down by ``throw`` samples.

    ``lean`` is how many traces it moves sideways with each sample of depth, ``reach`` the length along which the throw
    dies out (infinite: nowhere), ``bend`` the curvature of its trace on a map.
    """

    place: tuple[float, float, float]
    strike: float
    lean: float
    throw: float
    reach: float
    bend: float

    def moved(self, rows: np.ndarray, columns: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Depth before the fault slipped."""
        r, c = rows - self.place[0], columns - self.place[1]
        across = r * np.sin(self.strike) + c * np.cos(self.strike)
        along = r * np.cos(self.strike) - c * np.sin(self.strike)
        behind = across + self.bend * along**2 + self.lean * (depth - self.place[2]) > 0
        throw = self.throw * np.exp(-((along / self.reach) ** 2))
        return depth - np.where(behind, throw, 0.0)


@dataclass(frozen=True)
class Channel:
    """A winding channel cut at ``level`` into flat strata, and filled with one kind of rock."""

    place: tuple[float, float]
    heading: float
    level: float
    half_width: float
    depth: float
    swing: float
    wavelength: float
    phase: float
    contrast: float

    def fill(self, rows: np.ndarray, columns: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Where the channel is, in original depths: bool."""
        r, c = rows - self.place[0], columns - self.place[1]
        along = r * np.cos(self.heading) + c * np.sin(self.heading)
        across = c * np.cos(self.heading) - r * np.sin(self.heading)
        turn = 2 * np.pi / self.wavelength
        away = across - self.swing * np.sin(turn * along + self.phase)
        slope = self.swing * turn * np.cos(turn * along + self.phase)
        distance = away / np.sqrt(1 + slope**2) / self.half_width
        bottom = self.level + self.depth * (1 - distance**2)
        return (level >= self.level) & (level < bottom)


@dataclass(frozen=True, eq=False)
class Strata:
    """Layers laid down together, with what happened to them: ``shape`` moves them, then ``faults`` slipped.

    ``logs`` are the logarithm of impedance against original depth at two ends of the area, ``mixture`` (on the map)
    goes from the one to the other.
    """

    logs: np.ndarray
    mixture: np.ndarray
    shape: np.ndarray
    growth: float
    faults: tuple[Fault, ...]
    channels: tuple[Channel, ...]
    disturbed: tuple[float, float, np.ndarray] | None  # middle, thickness and the displacement itself

    def impedance(self, part: slice, depth: np.ndarray, samples: int) -> np.ndarray:
        """Logarithm of impedance of the rows in ``part`` at ``depth`` ``(rows, columns, n)``."""
        rows, columns = (axis[..., None] for axis in np.indices(self.shape.shape)[:, part].astype(float))
        for fault in self.faults:
            depth = fault.moved(rows, columns, depth)
        depth = depth - self.shape[part, :, None] * (1 + self.growth * (depth / samples - 0.5))
        if self.disturbed is not None:
            middle, thickness, displacement = self.disturbed
            depth = depth + displacement[part] * np.exp(-(((depth - middle) / thickness) ** 2))
        position = np.clip((depth / samples + _MARGIN) / (1 + 2 * _MARGIN) * (self.logs.shape[1] - 1), 0, None)
        below = np.minimum(position.astype(np.int64), self.logs.shape[1] - 2)
        share = np.minimum(position - below, 1.0)
        first, second = (log[below] * (1 - share) + log[below + 1] * share for log in self.logs)
        mixture = self.mixture[part, :, None]
        values = first * (1 - mixture) + second * mixture
        for channel in self.channels:
            values = np.where(channel.fill(rows, columns, depth), channel.contrast + 0.3 * values, values)
        return values


@dataclass(frozen=True, eq=False)
class Earth:
    """Old strata under an unconformity, young ones on it; all of it faulted again."""

    old: Strata
    young: Strata | None
    surface: np.ndarray
    """Depth of the unconformity on the map."""
    late_faults: tuple[Fault, ...]
    samples: int

    def impedance(self, part: slice) -> np.ndarray:
        """Logarithm of impedance ``(rows, columns, OVERSAMPLING * samples)`` of the rows in ``part``."""
        rows, columns = (axis[..., None] for axis in np.indices(self.surface.shape)[:, part].astype(float))
        count = OVERSAMPLING * self.samples
        depth = np.broadcast_to(np.arange(count) / OVERSAMPLING, (*self.surface[part].shape, count))
        for fault in self.late_faults:
            depth = fault.moved(rows, columns, depth)
        values = self.old.impedance(part, depth, self.samples)
        if self.young is None:
            return values
        return np.where(depth < self.surface[part, :, None], self.young.impedance(part, depth, self.samples), values)


def draw_earth(
    rng: np.random.Generator, rows: int, columns: int, samples: int, steepness: float | None = None
) -> Earth:
    """An earth of random style: from flat layers to steep folds and many faults.

    ``steepness`` is the root-mean-square slope of its folds in samples a trace, drawn where it is not said.
    """
    drawn = _log_uniform(rng, (0.03, 1.2))
    steepness = drawn if steepness is None else steepness
    count = int(rng.choice([0, 0, 1, 2, 3, 5]))
    young, surface = None, np.zeros((rows, columns))
    if rng.random() < 0.5:
        relief = smooth_map(rng, rows, columns, _wide(rng, rows, columns), steepness * rng.uniform(0.1, 0.7))
        surface = samples * rng.uniform(0.15, 0.7) + relief
        following = rng.choice([0.0, 1.0, rng.uniform(0, 1)])
        young = _strata(rng, surface.shape, samples, 0.15 * steepness, int(rng.integers(0, 2)), following * relief)
    old = _strata(rng, (rows, columns), samples, steepness, count, np.zeros((rows, columns)))
    late = tuple(_fault(rng, rows, columns, samples, 0.4) for _ in range(int(rng.choice([0, 0, 1, 2]))))
    return Earth(old, young, surface, late, samples)


def _strata(
    rng: np.random.Generator, area: tuple[int, int], samples: int, steepness: float, faults: int, base: np.ndarray
) -> Strata:
    rows, columns = area
    tilt = rng.normal(size=2) * steepness * rng.uniform(0, 0.8)
    r, c = np.indices(area)
    shape = base + tilt[0] * (r - rows / 2) + tilt[1] * (c - columns / 2)
    shape = shape + smooth_map(rng, rows, columns, _wide(rng, rows, columns), steepness)
    growth = rng.uniform(-_STEEPEST, _STEEPEST) * min(1.0, samples / (2 * np.abs(shape).max() + 1))
    thickness = _log_uniform(rng, (3.0, 20.0))
    first, other = (random_log(rng, samples, thickness) for _ in range(2))
    alike = rng.uniform(0.5, 1.0)
    second = alike * first + (1 - alike**2) ** 0.5 * other
    mixture = 0.5 + 0.5 * np.tanh(smooth_map(rng, rows, columns, _wide(rng, rows, columns), None))
    channels = tuple(_channel(rng, rows, columns, samples) for _ in range(int(rng.choice([0, 0, 1, 2]))))
    disturbed = None
    if rng.random() < 0.25:
        noise = ndimage.gaussian_filter(rng.standard_normal((rows, columns, OVERSAMPLING * samples)), (3.0, 3.0, 4.0))
        size = rng.uniform(1.0, 5.0) / noise.std()
        disturbed = rng.uniform(0.1, 0.9) * samples, rng.uniform(0.05, 0.15) * samples, size * noise
    return Strata(
        np.stack([first, second]), mixture, shape, growth,
        tuple(_fault(rng, rows, columns, samples, 1.0) for _ in range(faults)), channels, disturbed,
    )  # fmt: skip


def random_log(rng: np.random.Generator, samples: int, thickness: float) -> np.ndarray:
    """Logarithm of impedance against depth, from `_MARGIN` depths above the model to as many below it.

    Layers of random thickness (mean in samples) whose contrasts, more or less even, come in loud and quiet groups.
    """
    whole = int((1 + 2 * _MARGIN) * samples)
    sizes = rng.gamma(1.3, thickness / 1.3, size=int(4 * whole / thickness) + 8) + 0.7
    ends = np.cumsum(sizes)
    loud = np.exp(rng.uniform(0.2, 1.0) * ndimage.gaussian_filter1d(rng.standard_normal(len(ends)), 4.0) * 2.5)
    contrasts = rng.choice([-1, 1], len(ends)) * rng.exponential(size=len(ends)) ** rng.uniform(0.4, 1.2) * loud
    values, last = np.empty(len(ends)), 0.0
    for number, contrast in enumerate(contrasts):  # returns to its mean, as rock does
        last = 0.75 * last + contrast
        values[number] = last
    depth = np.arange(_FINE * whole + 1) / _FINE
    log = values[np.minimum(np.searchsorted(ends, depth, side="right"), len(values) - 1)]
    fine = ndimage.gaussian_filter1d(rng.standard_normal(len(log)), _FINE * 0.4)
    log = log + rng.uniform(0, 0.3) * contrasts.std() * fine / fine.std()
    return ndimage.uniform_filter1d(log, _FINE // 2)  # an interface between two values stays between them


def _fault(rng: np.random.Generator, rows: int, columns: int, samples: int, size: float) -> Fault:
    place = rng.uniform(0, rows), rng.uniform(0.1, 0.9) * columns, rng.uniform(0.2, 0.8) * samples
    strike = rng.normal() * 0.6 if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    throw = size * rng.choice([-1, 1]) * _log_uniform(rng, (2.0, min(40.0, 0.25 * samples) + 2.0))
    reach = np.inf if rng.random() < 0.5 else rng.uniform(0.4, 1.5) * max(rows, columns)
    return Fault(place, strike, rng.uniform(-0.5, 0.5), throw, reach, rng.normal() * 0.15 / max(rows, columns))


def _channel(rng: np.random.Generator, rows: int, columns: int, samples: int) -> Channel:
    return Channel(
        place=(rng.uniform(0, rows), rng.uniform(0, columns)),
        heading=rng.uniform(0, np.pi),
        level=rng.uniform(0, samples),
        half_width=rng.uniform(3, 10),
        depth=rng.uniform(3, 14),
        swing=rng.uniform(0, 12),
        wavelength=rng.uniform(30, 90),
        phase=rng.uniform(0, 2 * np.pi),
        contrast=rng.normal() * 3,
    )


def smooth_map(rng: np.random.Generator, rows: int, columns: int, length: float, steepness: float | None) -> np.ndarray:
    """Gaussian bumps of a correlation length in traces, zero mean.

    Their root-mean-square slope is ``steepness`` a trace; without it their standard deviation is 1.
    """
    margin = int(2 * length)
    noise = rng.standard_normal((rows + 2 * margin, columns + 2 * margin))
    bumps = ndimage.gaussian_filter(noise, length, mode="wrap")
    if steepness is None:
        bumps /= bumps.std()
    else:
        slopes = [np.square(np.diff(bumps, axis=axis)).mean() for axis in (0, 1)]
        bumps *= steepness / (sum(slopes) ** 0.5 + 1e-30)
    inside = bumps[margin : margin + rows, margin : margin + columns]
    return inside - inside.mean()


def _wide(rng: np.random.Generator, rows: int, columns: int) -> float:
    """A length over which maps change."""
    return _log_uniform(rng, (6.0, 0.4 * max(rows, columns, 24)))


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(ends))))
