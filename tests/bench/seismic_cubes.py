"""Synthetic cubes for the comparison of methods, by other rules than those of the package's own generator.

No prior and no setting has seen them: planes and arcs of reflectors with a Ricker wavelet, written down by formulas.
"""

from __future__ import annotations

import numpy as np

SHAPE = (32, 64, 128)  # rows, columns, samples
_INTERVAL = 0.004  # seconds


def ricker(delay: np.ndarray, frequency: float) -> np.ndarray:
    """Ricker wavelet at a delay in samples; the peak frequency in Hz."""
    phase = np.square(np.pi * frequency * _INTERVAL * delay)
    return (1 - 2 * phase) * np.exp(-phase)


def layered(seed: int, steepest: float, faults: int) -> np.ndarray:
    """Folded layers, float32 ``SHAPE``: dips up to ``steepest`` samples a trace, vertical faults of 4 to 14."""
    rng = np.random.default_rng([seed, 11])
    rows, columns, samples = SHAPE
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    shift = 0.3 * steepest * row * rng.uniform(-1, 1) + 0.5 * steepest * column * rng.choice([-1, 1])
    for _ in range(2):  # folds whose flanks add up to the steepest dip
        long, turn = rng.uniform(25, 50), rng.uniform(0, 2 * np.pi)
        along = np.cos(turn) * row + np.sin(turn) * column
        shift = shift + 0.25 * steepest * long / (2 * np.pi) * np.sin(2 * np.pi * along / long + rng.uniform(0, 6))
    for _ in range(faults):
        turn = rng.uniform(-0.4, 0.4)
        side = (column - rng.uniform(0.2, 0.8) * columns) * np.cos(turn) + row * np.sin(turn) > 0
        shift = shift + side * rng.uniform(4, 14) * rng.choice([-1, 1])
    reach = float(np.abs(shift).max()) + 10
    depths = np.arange(-reach, samples + reach, rng.uniform(5, 7))
    depths = depths + rng.uniform(-2, 2, len(depths))
    strengths, frequency = rng.standard_normal(len(depths)), rng.uniform(25, 40)
    time = np.arange(samples)[None, None, :]
    cube = sum(
        s * ricker(time - depth - shift[..., None], frequency) for s, depth in zip(strengths, depths, strict=True)
    )
    return _noisy(np.asarray(cube), rng)


def hyperboloids(seed: int, events: int = 9) -> np.ndarray:
    """Gathers before stack: arcs around the middle of the cube that cross, their flanks aliased."""
    rng = np.random.default_rng([seed, 12])
    rows, columns, samples = SHAPE
    row, column = np.meshgrid(np.arange(rows) - rows / 2, np.arange(columns) - columns / 2, indexing="ij")
    distance = np.hypot(row, column)[..., None]
    time, cube = np.arange(samples)[None, None, :], np.zeros(SHAPE)
    for _ in range(events):
        top, slowness = rng.uniform(0.05, 0.9) * samples, rng.uniform(0.8, 3.0)
        arrival = np.sqrt(top**2 + np.square(slowness * distance))
        cube = cube + rng.uniform(0.4, 1) * rng.choice([-1, 1]) * ricker(time - arrival, rng.uniform(25, 40))
    return _noisy(cube, rng)


def _noisy(cube: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With white noise 30 dB below the signal, root mean square 1000."""
    cube = cube / np.sqrt(np.square(cube).mean())
    return (1000 * (cube + 10 ** (-30 / 20) * rng.standard_normal(cube.shape))).astype(np.float32)


CUBES = {
    "gentle": lambda seed: layered(seed, 0.4, 0),
    "steep": lambda seed: layered(seed, 2.0, 3),
    "prestack": hyperboloids,
}
