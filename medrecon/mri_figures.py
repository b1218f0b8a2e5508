"""A picture of a measurement in k-space: coil maps, mask, and the residual where it was measured."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor

from medrecon.data.kspace import AXES, KSpace
from medrecon.data.volume import Volume
from medrecon.physics.mri.sense import CartesianSense, RealVolume
from medrecon.problem import Problem

_COLUMNS, _MOST_MAPS = 6, 12


def measurement_png(kspace: KSpace, problem: Problem, volume: Volume) -> bytes | None:
    """Coil maps of the middle slice, the mask, and the root-mean-square residual over the coils, as one PNG.

    None for measurements along a trajectory. The residual is in units of the noise, or of the root-mean-square datum
    where the noise is not known; along axes that are fully sampled it is shown where it lies in the image.
    """
    op = problem.op
    if not isinstance(op, RealVolume) or not isinstance(op.measured, CartesianSense):
        return None
    sense = op.measured
    maps = sense.map_magnitudes()[0]
    middle = maps.shape[1] // 2
    tiles = [(f"coil {i + 1}", maps[i, middle].numpy(), "viridis", 1.0) for i in range(min(len(maps), _MOST_MAPS))]
    mask, names = _mask(kspace)
    tiles.append((f"mask ({', '.join(names)})", mask, "gray", 1.0))
    residual, names, unit = _residual(problem, sense, volume)
    high = float(np.percentile(residual, 99.5)) or 1.0
    tiles.append((f"residual / {unit}, to {high:.2g} ({', '.join(names)})", residual, "magma", high))
    return _drawn(tiles)


def _mask(kspace: KSpace) -> tuple[np.ndarray, list[str]]:
    """The plane of k-space that is undersampled; of slices that differ the middle one."""
    pattern = np.broadcast_to(kspace.sampling, kspace.data.shape[1:])
    flat = 0
    if 0 in kspace.encoded:
        flat = next((a for a in (1, 0, 2) if (pattern == pattern.take([0], axis=a)).all()), 0)
    return pattern.take(pattern.shape[flat] // 2, axis=flat), ["k" + AXES[a] for a in range(3) if a != flat]


def _residual(problem: Problem, sense: CartesianSense, volume: Volume) -> tuple[np.ndarray, list[str], str]:
    turned = volume.as_orientation(problem.geometry.orientation)
    x = torch.from_numpy(np.ascontiguousarray(turned.array, dtype=np.float32))
    difference = torch.view_as_complex((problem.op(x) - problem.y).contiguous())
    known = problem.noise_model is not None
    scale = problem.noise_model.weights(problem.y).sqrt().flatten()[0] if problem.noise_model else 1 / problem.y.std()
    size = (difference.abs().square().mean(dim=1) / 2).sqrt() * scale  # (rows, samples): of one real number
    grid = sense.on_frequencies(size)
    axes = [*sense.free, *sense.transformed]
    while grid.ndim > 2:  # mean over further image axes first, slices before others
        grid = _mean_of_measured(grid)
        axes = axes[1:]
    names = [("k" if a in sense.transformed else "") + AXES[a] for a in axes]
    return grid.numpy(), names, "noise" if known else "data"


def _mean_of_measured(grid: Tensor) -> Tensor:
    """Root mean square over the first axis, of the entries that are not zero."""
    count = (grid > 0).sum(dim=0).clamp_min(1)
    return (grid.square().sum(dim=0) / count).sqrt()


def _drawn(tiles: list[tuple[str, np.ndarray, str, float]]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from medrecon.figures import save

    rows = ceil(len(tiles) / _COLUMNS)
    figure = Figure(figsize=(2.0 * _COLUMNS, 2.3 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for index, (title, image, colours, high) in enumerate(tiles):
        axes = figure.add_subplot(rows, _COLUMNS, index + 1)
        axes.imshow(image, cmap=colours, vmin=0, vmax=high, aspect="auto", interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return save(figure)
