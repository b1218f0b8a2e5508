"""Small priors with known behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

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
