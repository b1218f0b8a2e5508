"""Choices of the published DiffusionMBIR code that differ from ours, for comparison with it.

Chung et al., CVPR 2023; code at HJ-harry/DiffusionMBIR, commit 592ea29. Differences are circular along z and know no
spacing, step lengths of the corrector are averaged over chunks of slices, and the back-projection carries a factor that
ties the weights to the width of the slice.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from medrecon.physics.linop import LinearOperator, Space
from medrecon.regularisers import Regulariser

PUBLISHED_WIDTH = 256  # pixels of the slices of the published experiments
_NORM_PER_PIXEL = 390 / PUBLISHED_WIDTH  # of its A'A; proportional to the width, independent of the views
_CHUNK = 12  # slices that go through the published network at a time


def published_norm(width: int) -> float:
    """Norm of the published scaled normal operator ``pi / (2 views) A'A``, A in pixels: 390 for 256 pixels.

    Every view contributes about ``width`` for the mean of a slice, so the factor takes the views out again.
    """
    return _NORM_PER_PIXEL * width


def from_published(rho: float, lam: float, width: int) -> tuple[float, float]:
    """Published ``rho`` and ``lamb`` for CT as weights relative to ``||A||^2``: ``(10, 0.04)`` for 256 pixels."""
    norm = published_norm(width)
    return rho / norm, lam / norm


class CircularDifference(LinearOperator):
    """``x[z + 1] - x[z]``, the last slice followed by the first; no spacing."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.domain = self.range = Space(tuple(shape))

    def _forward(self, x: Tensor) -> Tensor:
        return x.roll(-1, 0) - x

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.roll(1, 0) - y


class CircularTV(Regulariser):
    """Total variation along z of a volume whose ends meet."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.K = CircularDifference(shape)

    def value(self, x: Tensor) -> float:
        """Sum of the absolute differences."""
        return float(self.K(x).double().abs().sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Soft threshold."""
        return v.sign() * (v.abs() - step).clamp_min(0)


def chunk_mean(norms: Tensor) -> Tensor:
    """Each slice's value replaced by the mean over its chunk, in the published partition of the slices."""
    size = ceil(len(norms) / (len(norms) // _CHUNK + 1))
    return torch.cat([piece.mean().expand(len(piece)) for piece in norms.split(size)])
