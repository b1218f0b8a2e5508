"""Sample data: an object and its measurement, which is a file that the widget can reconstruct."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medrecon.data import KSpace, Scan, Traces
    from medrecon.viewer.layers import Layer

SHAPE, VIEWS, PHOTONS, FINER = (16, 96, 96), 16, 1e5, 2
"""CT: grid ``(z, y, x)`` and measurement."""

SLICES, ACCELERATION, COILS, NOISE = 12, 4, 8, 0.01
"""MRI: slices of the bundled brain and their measurement."""

SURVEY, MISSING = (24, 128, 64), 0.5
"""Seismic: rows, samples and columns, and the share of missing traces."""


@lru_cache(maxsize=1)
def _folder() -> TemporaryDirectory[str]:
    """Where the files of samples stand until the program ends."""
    return TemporaryDirectory(prefix="medrecon-sample-")


def _measured(measurement: Scan | KSpace | Traces, name: str) -> str:
    """A file of the measurement."""
    from medrecon.data import write

    return str(write(Path(_folder().name) / name, measurement, overwrite=True))


def chest() -> list[Layer]:
    """A synthetic chest in HU, and its measurement with few views."""
    from medrecon.data.anatomy import anatomy
    from medrecon.physics.noise import PoissonNoise
    from medrecon.simulate import coarsened, ct_geometry, simulate_scan
    from medrecon.viewer.layers import measurement_layer, volume_layer

    z, y, x = SHAPE
    fine = anatomy("thorax", (z, y * FINER, x * FINER), seed=0)
    truth = coarsened(fine, FINER)
    scan = simulate_scan(fine, ct_geometry(truth, "parallel", VIEWS), PoissonNoise(PHOTONS), seed=0, refine=1)
    file = _measured(scan, "chest.h5")
    return [
        volume_layer(truth, "chest, truth", role="truth"),
        measurement_layer(scan, "chest, measured", file=file, measured=file),
    ]


def brain() -> list[Layer]:
    """Slices of the bundled average of 152 brains, and k-space of which a quarter is measured."""
    from medrecon.cli.demo_mri import brain_slices
    from medrecon.simulate_mri import simulate_kspace
    from medrecon.viewer.layers import measurement_layer, volume_layer

    truth = brain_slices(SLICES)
    kspace = simulate_kspace(truth, "gaussian1d", ACCELERATION, coils=COILS, noise=NOISE, seed=0)
    file = _measured(kspace, "brain.h5")
    return [
        volume_layer(truth, "brain, truth", role="truth"),
        measurement_layer(kspace, "brain, k-space", file=file, measured=file),
    ]


def survey() -> list[Layer]:
    """A synthetic survey of bent layers and a fault, and the half of its traces that was recorded, as SEG-Y."""
    from medrecon.data.segy_writing import plain_axes
    from medrecon.data.traces import State, Traces
    from medrecon.physics.seismic import make_trace_mask
    from medrecon.viewer.layers import traces_layer

    rows, samples, columns = SURVEY
    data = np.ascontiguousarray(layered_sections(rows, samples, columns).transpose(0, 2, 1))
    state = np.full((rows, columns), State.live, np.uint8)
    full = Traces(data, state, *plain_axes(rows, columns))
    measured = full.keeping(make_trace_mask("random", (rows, columns), MISSING, seed=0))
    file = _measured(measured, "survey.sgy")
    return [
        traces_layer(full, "survey, truth", role="truth"),
        traces_layer(measured, "survey, measured", role="traces", file=file, measured=file),
    ]


def layered_sections(rows: int, samples: int, columns: int, seed: int = 0) -> np.ndarray:
    """Amplitudes ``(row, time, column)``, float32: reflections of bent layers, broken by a fault.

    The wavelet is Ricker's, its peak at an eighth of the sampling rate; amplitudes fade with time as in a real survey.
    """
    random = np.random.default_rng(seed)
    row, column = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    thrown = np.where(column > 0.25 + 0.3 * row, 0.05 * samples, 0.0)
    time = np.arange(samples)[None, :, None]
    sections = np.zeros((rows, samples, columns))
    for depth in np.cumsum(random.uniform(0.03, 0.09, 40)) * samples:
        tilt, bend, height = random.uniform(-0.06, 0.06), random.uniform(-0.08, 0.08), random.uniform(-1, 1)
        arrival = depth + samples * (tilt * column + bend * (column**2 + 0.5 * row**2 + 0.3 * row)) + thrown
        phase = (np.pi / 8 * (time - arrival[:, None, :])) ** 2
        sections += height * np.exp(-depth / samples) * (1 - 2 * phase) * np.exp(-phase)
    return (1000 * sections).astype(np.float32)
