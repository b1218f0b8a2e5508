"""Whether projections can be those of one object: moments of parallel beams against the angles that are stated.

The k-th moment of a view, the integral of ``s^k p(s)`` over the detector, is a polynomial of degree k in the cosine and
sine of its angle, whatever the object (Helgason 1965; Ludwig 1966). A wrong angle, a wrong axis of rotation or an
object that moved break that, where a reconstruction from few views would hide them in the volume. Nothing is
reconstructed here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medrecon.physics.ct import CTOperator
from medrecon.problem import Problem

_ORDERS = (1, 2)
_FEWEST_VIEWS = 6  # of which a polynomial of degree 2 explains three
_MOST_SLICES = 64  # evenly spread: a wrong geometry is wrong in all of them
_SIGNIFICANT = 4.0  # standard errors that a misfit has to exceed its noise by
_DEVIATIONS = 6.0  # of the noise: a column that shows more than that shows a part of the object
_EDGE = 0.02  # of the largest value: more at the ends of the detector means that it cut the object off


def moment_mismatch(problem: Problem) -> float | None:
    """How far the moments of the views are from those of any object, in detector columns.

    The larger one of the root-mean-square misfits of the centre of mass and of the width of the views, over views and
    slices that show an object, beyond what noise explains. None where nothing can be said: other beams than parallel
    ones, few views, views left out, an object that is larger than the detector, nothing above the noise.
    """
    op = problem.op
    if not isinstance(op, CTOperator) or op.geometry.kind != "parallel" or op.geometry.n_views < _FEWEST_VIEWS:
        return None
    geometry, step = op.geometry, -(-problem.y.shape[1] // _MOST_SLICES)
    data, spread = (t[:, ::step].double().cpu().numpy() for t in (problem.y, _spread(problem)))
    if problem.used is not None or _cut_off(data):  # data are (views, slices, columns)
        return None
    positions = np.asarray(geometry.column_positions) - geometry.rotation_shift
    mass = data.sum(axis=2)
    if not mass.max() > 0:
        return None
    shown = mass.mean(axis=0) > 0.1 * mass.max()
    data, mass = data[:, shown], mass[:, shown].mean(axis=0)
    # Far columns show nothing but their noise, which high moments count most
    seen = data.max(axis=(0, 1)) > _DEVIATIONS * np.median(spread)
    if not seen.any():
        return None
    reach = np.abs(positions)[seen].max()
    near = np.abs(positions) <= reach + 2 * geometry.column_spacing
    data, spread, positions = data[..., near], spread[:, shown][..., near], positions[near]
    second = (data * positions**2).sum(axis=(0, 2))
    if not (shown.any() and (mass > 0).all() and (second > 0).all()):
        return None
    width = np.sqrt(second / (len(data) * mass))
    angle = np.asarray(geometry.angles)
    found = []
    for order in _ORDERS:
        basis = np.stack([np.cos(angle) ** k * np.sin(angle) ** (order - k) for k in range(order + 1)], axis=1)
        scale = mass if order == 1 else 2 * width * mass  # in both cases a length
        moments = (data * positions**order).sum(axis=2) / scale
        rest = moments - basis @ np.linalg.lstsq(basis, moments, rcond=None)[0]
        noise = float((((spread * positions**order) ** 2).sum(axis=2) / scale**2).mean())
        free = len(angle) - order - 1
        misfit = float(np.mean(rest**2)) * len(angle) / free
        beyond = misfit > noise * (1 + _SIGNIFICANT * np.sqrt(2 / (free * len(mass))))
        found.append(np.sqrt(misfit - noise) if beyond else 0.0)
    return float(max(found)) / geometry.column_spacing


def _spread(problem: Problem) -> Tensor:
    """Standard deviation of every datum, zero where the noise is not known."""
    if problem.noise_model is None:
        return torch.zeros_like(problem.y)
    return problem.noise_model.weights(problem.y).clamp_min(1e-30).rsqrt()


def _cut_off(data: np.ndarray) -> bool:
    ends = np.abs(data[..., [0, 1, -2, -1]].mean(axis=(0, 1))).max()  # without their noise
    return bool(ends > _EDGE * np.abs(data).max())
