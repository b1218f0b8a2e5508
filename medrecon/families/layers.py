"""Layers that several published networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def sinusoids(labels: Tensor, length: int, *, endpoint: bool = False) -> Tensor:
    """Cosines, then sines, of the labels at ``length / 2`` frequencies that fall from 1 to 1e-4.

    With ``endpoint`` the last frequency is 1e-4, without it the next one would be. Returns ``(labels, length)``.
    """
    half = length // 2
    exponents = torch.arange(half, dtype=torch.float32, device=labels.device) / (half - 1 if endpoint else half)
    angles = labels.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention over positions: three times ``(slices, heads, channels, positions)``."""
    q, k, v = (t.transpose(-1, -2) for t in (queries, keys, values))
    return functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)


def fir(taps: tuple[float, ...] | list[float], like: Tensor) -> Tensor:
    """A separable filter of sum one, ``(taps, taps)``, from its one-dimensional taps."""
    line = torch.tensor(taps, dtype=like.dtype, device=like.device)
    return torch.outer(line, line) / line.sum() ** 2


def halve(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel and keep every second pixel; zeros beyond the border."""
    padding = (kernel.shape[-1] - 1) // 2
    return functional.conv2d(x, _each(kernel, x.shape[1]), stride=2, padding=padding, groups=x.shape[1])


def double(x: Tensor, kernel: Tensor) -> Tensor:
    """The adjoint of :func:`halve` times four: zeros between the pixels, then the filter."""
    padding = (kernel.shape[-1] - 1) // 2
    return functional.conv_transpose2d(x, 4 * _each(kernel, x.shape[1]), stride=2, padding=padding, groups=x.shape[1])


def _each(kernel: Tensor, channels: int) -> Tensor:
    return kernel.expand(channels, 1, *kernel.shape)
