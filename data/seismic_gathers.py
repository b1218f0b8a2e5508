"""Gathers before stack: reflections on hyperbolas, multiples, direct and head waves, ground roll.

Neighbouring gathers lie over a dipping, gently changing earth, so that they resemble each other as those of a survey
do. Distances are in metres, times in seconds, velocities in metres a second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from medrecon.data.seismic_wavelets import filtered, random_wavelet

_OVERSAMPLING = 4
_SPREADS = (12.5, 25.0, 50.0)  # metres between neighbouring offsets


@dataclass(frozen=True, eq=False)
class Gathers:
    """What is recorded at ``count`` offsets ``first, first + step, ...`` of ``rows`` gathers.

    Each event arrives at ``sqrt(t0^2 + h^2 / v^2) + skew h``: zero-offset times ``(events, rows)``, velocities, skews
    (an apex that a dip has moved), amplitudes at zero offset and their change to the farthest.
    """

    rows: int
    count: int
    samples: int
    interval: float
    first: float
    step: float
    times: np.ndarray
    velocities: np.ndarray
    skews: np.ndarray
    amplitudes: np.ndarray
    changes: np.ndarray
    straight: tuple[tuple[float, float, float], ...]
    """Direct and head waves: time at zero offset, velocity, amplitude."""
    spreading: float
    ground_roll: bool
    across: np.ndarray | None = None
    """Distances of each row from the source across the offsets, for receivers on an area; None where there are none."""

    @property
    def offsets(self) -> np.ndarray:
        """Signed distances from source to receiver."""
        return self.first + self.step * np.arange(self.count)

    @property
    def distances(self) -> np.ndarray:
        """From source to receiver, ``(rows, offsets)``."""
        across = np.zeros(self.rows) if self.across is None else self.across
        return np.hypot(across[:, None], self.offsets)

    def record(self, rng: np.random.Generator) -> np.ndarray:
        """Amplitudes ``(rows, offsets, samples)``."""
        distances = self.distances
        far = float(distances.max())
        spikes = np.zeros((self.rows, self.count, _OVERSAMPLING * self.samples))
        for number, times in enumerate(self.times):
            arrival = np.hypot(times[:, None], distances / self.velocities[number]) + self.skews[number] * self.offsets
            size = self.amplitudes[number] * (1 + self.changes[number] * (distances / far) ** 2)
            fading = (np.maximum(arrival, self.interval) / (self.samples * self.interval)) ** -self.spreading
            self._add(spikes, arrival, size * fading)
        for start, velocity, size in self.straight:
            arrival = start + distances / velocity
            self._add(spikes, arrival, np.broadcast_to(size, arrival.shape))
        highest = 0.5 / self.interval
        (data,) = filtered(spikes, _OVERSAMPLING, (random_wavelet(rng, highest),), self.interval)
        return data + self._roll(rng, float(np.abs(data).max())) if self.ground_roll else data

    def _add(self, spikes: np.ndarray, arrival: np.ndarray, size: np.ndarray) -> None:
        """A spike between two fine samples is shared by both."""
        position = arrival / self.interval * _OVERSAMPLING
        below = np.floor(position).astype(np.int64)
        share = position - below
        rows, columns = np.meshgrid(*(np.arange(n) for n in arrival.shape), indexing="ij")
        for index, weight in ((below, 1 - share), (below + 1, share)):
            inside = (index >= 0) & (index < spikes.shape[2])
            np.add.at(spikes, (rows[inside], columns[inside], index[inside]), (size * weight)[inside])

    def _roll(self, rng: np.random.Generator, loudest: float) -> np.ndarray:
        """Surface waves: low frequencies that travel slowly, the lowest ones fastest."""
        peak = 0.5 / self.interval * rng.uniform(0.06, 0.12)
        slow, fast = rng.uniform(250, 500), rng.uniform(600, 1100)
        latest = float(np.abs(self.offsets).max()) / slow / self.interval
        length = 2 * self.samples + int(latest)  # what arrives later must not come round to the start
        frequencies = np.fft.rfftfreq(length, self.interval)
        velocity = slow + (fast - slow) * np.exp(-frequencies / peak)
        size = np.exp(-(((frequencies - peak) / (0.4 * peak)) ** 2))
        distance = np.abs(self.offsets)[:, None]
        phase = -2 * np.pi * frequencies * (distance / velocity + 2 * self.interval)
        spectrum = size * np.exp(1j * phase - distance / (2 * distance.max()))
        roll = np.fft.irfft(spectrum, n=length, axis=-1)[:, : self.samples]
        uneven = 1 + 0.3 * rng.standard_normal((self.rows, 1, 1))
        return uneven * rng.uniform(0.5, 2.0) * loudest / np.abs(roll).max() * roll


def draw_gathers(
    rng: np.random.Generator, shape: tuple[int, int, int], interval: float, *, ground_roll: bool
) -> Gathers:
    """Marine (one-sided) or land (two-sided) gathers with 6 to 100 reflections, a quarter of them slow multiples."""
    rows, count, samples = shape
    length = samples * interval
    step = float(rng.choice(_SPREADS))
    first = -step * (count // 2) if rng.random() < 0.4 else step * int(rng.integers(1, 12))
    events = round(float(np.exp(rng.uniform(np.log(6), np.log(100)))))
    zero = np.sort(rng.uniform(0.03, 1.05, events)) * length
    slope = rng.normal(size=events) * 0.15 * interval * rng.choice([0.3, 1.0, 3.0])
    place = np.arange(rows) - rows / 2
    bumps = ndimage.gaussian_filter1d(rng.standard_normal((events, rows + 40)), 10.0, axis=1)[:, 20 : 20 + rows]
    times = np.maximum(zero[:, None] + slope[:, None] * place + 4 * interval * bumps, interval)
    water, gradient = rng.uniform(1450, 1900), rng.uniform(300, 1200)
    velocities = water + gradient * zero * rng.uniform(0.9, 1.1, events)
    slow = rng.random(events) < 0.25
    velocities = np.where(slow, water + 0.3 * (velocities - water), velocities)
    straight = []
    if rng.random() < 0.7:
        straight.append((0.0, water, rng.uniform(0.5, 3.0)))
        refractor = water * rng.uniform(1.3, 2.2)
        straight.append((rng.uniform(0.02, 0.3) * length, refractor, rng.uniform(0.3, 1.5)))
    return Gathers(
        rows, count, samples, interval, first, step, times, velocities,
        skews=rng.normal(size=events) * 2e-5 * rng.choice([0.0, 1.0, 2.0]),
        amplitudes=rng.laplace(size=events),
        changes=rng.uniform(-0.8, 0.8, events),
        straight=tuple(straight),
        spreading=rng.uniform(0.0, 1.2),
        ground_roll=ground_roll,
    )  # fmt: skip


def draw_shot(rng: np.random.Generator, shape: tuple[int, int, int], interval: float) -> Gathers:
    """One shot on land, recorded on parallel lines of receivers (a row each): each reflection a hyperboloid.

    Lines are one to four times as far apart as the receivers on them, and the shot lies anywhere between them.
    """
    rows, count, _ = shape
    drawn = draw_gathers(rng, shape, interval, ground_roll=False)
    between = drawn.step * rng.choice([1.0, 1.0, 2.0, 4.0])
    return replace(
        drawn,
        first=-drawn.step * rng.uniform(0.0, count),
        times=np.repeat(drawn.times.mean(axis=1, keepdims=True), rows, axis=1),  # the shot is the same for all
        across=between * (np.arange(rows) - rng.uniform(0.0, rows)),
    )
