"""Small priors with known behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medrecon.model_statistics import ModelStatistics
from medrecon.network import EDMDenoiser, UNetConfig
from medrecon.prior import NetworkPrior, Prior, PriorCard

SMALL = UNetConfig(widths=(8, 16), blocks=1, embedding=16)


def card(**changes: object) -> PriorCard:
    """A valid card of a small prior: network units are the volume's own."""
    values = PriorCard(
        name="test",
        quantity="a.u.",
        scale=1.0,
        offset=0.0,
        sigma_min=0.005,
        sigma_max=3.0,
        range=(0.0, 1.5),
        spacing_mm=(1.0, 1.0),
        architecture=SMALL.to_dict(),
        sigma_data=0.4,
    )
    return replace(values, **changes)  # type: ignore[arg-type]


def random_denoiser(config: UNetConfig = SMALL, sigma_data: float = 0.4) -> EDMDenoiser:
    """A network with small random weights everywhere, the layers that start at zero included."""
    generator = torch.Generator().manual_seed(7)
    denoiser = EDMDenoiser(config, sigma_data)
    with torch.no_grad():
        for value in denoiser.parameters():
            value.copy_(0.1 * torch.randn(value.shape, generator=generator) + (value.ndim == 1))
    return denoiser


def small_network_prior(**changes: object) -> NetworkPrior:
    """An untrained but non-trivial network as a prior."""
    return NetworkPrior(random_denoiser(), card(**changes))


class FunctionPrior(Prior):
    """A prior made of a function of the slices and the noise level."""

    def __init__(self, function: Callable[[Tensor, float], Tensor], **changes: object) -> None:
        self.function, self.card = function, card(**changes)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Whatever the function says."""
        return self.function(x, sigma)


def exact_statistics(variances: Tensor, levels: Sequence[float]) -> ModelStatistics:
    """Those of a Gaussian prior with these variances, by their definition.

    With ``g = s^2 / (S + s^2)`` a component follows ``dx/dt = -g x``, so ``N = (g - l) x`` and
    ``dN/dt = (g' - l' - g (g - l)) x``, where ``g' = -2 g (1 - g)`` and ``l`` is the mean of g.
    """
    s, v = np.array(levels)[:, None], variances.double().flatten().numpy()
    gain = s**2 / (v + s**2)
    slope = -2 * gain * (1 - gain)
    rest = gain - gain.mean(1, keepdims=True)
    change = slope - slope.mean(1, keepdims=True) - gain * rest
    growth = ((v + s**2) * rest * change).sum(1) / ((v + s**2) * rest**2).sum(1)
    return ModelStatistics(tuple(levels), tuple(gain.mean(1)), tuple(growth), (0.0,) * len(levels))
