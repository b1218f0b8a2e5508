"""Data steps that differentiate the prior: what the noisy volume should have been, seen through the network."""

from __future__ import annotations

import torch
from torch import Tensor

from medrecon.problem import System
from medrecon.solvers import cg, least_squares_gram


def pseudo_inverse_guidance(
    system: System, x: Tensor, clean: Tensor, sigma: float, radius: float, error: float, cg_iterations: int
) -> Tensor:
    """``s^2 J' A' (r^2 A A' + e^2)^-1 (y - A D)``: Song et al. 2023 (PiGDM), eqs. 7 and 8.

    ``r^2 A' (r^2 A A' + e^2)^-1 = (A'A + (e / r)^2)^-1 A'`` turns the solve over the data into one over the volume.
    """
    gram = least_squares_gram(system.op, (error / radius) ** 2)
    residual = system.op.adjoint(-system.data_residual(clean))
    pull = cg(gram, residual, max_iterations=cg_iterations, tolerance=1e-6).x
    return (sigma / radius) ** 2 * system.denoise_vjp(x, sigma, pull)


def residual_gradient(system: System, x: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """``J' A' (y - A D)`` over the root-mean-square residual: Chung et al. 2023 (DPS), algorithm 1, line 7.

    The residual is that of a slice, as published, unless the data mix slices.
    """
    residual, axis = -system.data_residual(clean), system.slice_axis
    count = system.data_count / residual.numel()  # share of the data that is used
    square = residual.square()
    mean = square.mean() if axis is None else square.movedim(axis, 0).flatten(1).mean(1)[:, None, None]
    size = (mean / count).sqrt()
    gradient = system.denoise_vjp(x, sigma, system.op.adjoint(residual))
    return torch.where(size > 0, gradient / size.clamp_min(torch.finfo(size.dtype).tiny), 0)
