"""Denoisers to compare a prior with, and the prior's own on many slices; all in network units."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medrecon.network import EDMDenoiser
from medrecon.regularisers import TotalVariation
from medrecon.schedules import schedules
from medrecon.solvers import admm

Denoise = Callable[[Tensor, float], Tensor]
"""Clean slices ``(n, 1, h, w)`` from noisy ones and their noise level."""

_BATCH = 8
_TV_ITERATIONS = 40


@torch.inference_mode()
def network_denoise(network: EDMDenoiser, noisy: Tensor, sigma: float, guide: Tensor | None = None) -> Tensor:
    """The network on slices ``(n, 1, h, w)`` whose sides fit it, with guides ``(n, guides, h, w)`` or without."""
    device = next(network.parameters()).device
    level = torch.tensor([sigma], device=device)
    pieces = []
    for first in range(0, len(noisy), _BATCH):
        x = noisy[first : first + _BATCH].to(device, memory_format=torch.channels_last)
        beside = None if guide is None else guide[first : first + _BATCH].to(device)
        pieces.append(network(x, level, beside).cpu())
    return torch.cat(pieces)


def tv_denoise(noisy: Tensor, weight: float) -> Tensor:
    """``argmin 1/2 |x - noisy|^2 + weight TV(x)``, every slice of ``(n, 1, h, w)`` for itself (Rudin et al. 1992)."""
    stack = noisy[:, 0].contiguous()
    term = TotalVariation(tuple(stack.shape), axes=(1, 2))  # type: ignore[arg-type]
    solved = admm(
        lambda x: x.clone(),
        stack,
        [term],
        [weight],
        x=stack,
        rho=[2.0],
        iterations=_TV_ITERATIONS,
        cg_iterations=3,
    )
    return solved.x[:, None]


def tuned_tv(clean: Tensor, sigma: float, noise: Tensor, near: float | None = None) -> float:
    """The weight with the smallest error on slices kept for this: a grid, extended until its best lies inside.

    ``near`` is where to look first, by default ``sigma``; the grid is relative to ``sigma``.
    """
    errors: dict[int, float] = {}

    def error(power: int) -> float:
        if power not in errors:
            weight = sigma * 1.3**power
            errors[power] = float((tv_denoise(clean + sigma * noise, weight) - clean).square().mean())
        return errors[power]

    best = 0 if near is None else round(math.log(near / sigma) / math.log(1.3))
    while True:
        candidates = (best - 1, best, best + 1)
        step = min(candidates, key=error)
        if step == best or abs(step) > 20:
            return sigma * 1.3**step
        best = step


def has_bm3d() -> bool:
    """Whether BM3D is installed (the group ``oracle`` of the development tools)."""
    return importlib.util.find_spec("bm3d") is not None


def bm3d_denoise(noisy: Tensor, sigma: float) -> Tensor:
    """Block matching and 3D filtering (Dabov et al. 2007), slice by slice."""
    import bm3d  # type: ignore[import-not-found]

    stack = [np.asarray(bm3d.bm3d(image.numpy().astype(np.float64), sigma)) for image in noisy[:, 0]]
    return torch.from_numpy(np.stack(stack).astype(np.float32))[:, None]


def sample_slices(
    network: EDMDenoiser, count: int, size: int, sigmas: tuple[float, float], *, steps: int = 24, seed: int = 0
) -> Tensor:
    """Slices drawn from the prior without any data: ``(count, 1, size, size)``.

    Euler steps along the probability flow from the largest to the smallest noise level (Karras et al. 2022, alg. 1
    without the second-order correction).
    """
    low, high = sigmas
    levels = [*schedules.get("edm")(high, low, steps).tolist(), 0.0]
    generator = torch.Generator().manual_seed(seed)
    x = high * torch.randn((count, 1, size, size), generator=generator)
    for level, following in pairwise(levels):
        clean = network_denoise(network, x, level)
        x = clean + (x - clean) * (following / level)
    return x
