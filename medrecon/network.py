"""The lean U-Net: a small 2D denoising network that is fast on a CPU.

The cost of a diffusion prior on a CPU is set by floating-point operations per pixel, not by the number
of parameters. A pixel-unshuffle stem moves all work to half the resolution; there is no attention, so the
network is fully convolutional and one trained on crops runs on whole slices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a :class:`LeanUNet`; stored in the prior's card."""

    channels_in: int = 1  # noisy slices, plus one channel per guide slice (two where it comes with a map)
    channels_out: int = 1  # neighbouring slices that it denoises at once
    widths: tuple[int, ...] = (32, 64, 128, 192)  # one entry per resolution, finest first
    blocks: int = 2  # residual blocks per resolution, on the way down and on the way up
    stem: int = 2  # pixel-unshuffle factor
    embedding: int = 128  # length of the noise embedding
    mapped: bool = False  # each guide slice comes with a map of where it was measured

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this (:class:`LeanUNet` does not pad)."""
        return self.stem * 2 ** (len(self.widths) - 1)

    def to_dict(self) -> dict:
        """Plain values for a JSON card."""
        return asdict(self) | {"widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict) -> UNetConfig:
        """The inverse of :meth:`to_dict`."""
        return cls(**(values | {"widths": tuple(values["widths"])}))


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(8, width // 4), width)


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise number, then two linear layers."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.logspace(-2, 6, length // 2, base=2.0), persistent=False)
        self.first = nn.Linear(length, length)
        self.second = nn.Linear(length, length)

    def forward(self, noise: Tensor) -> Tensor:
        """``(slices,)`` noise numbers to ``(slices, length)``."""
        angle = noise[:, None] * self.frequencies
        features = torch.cat([angle.cos(), angle.sin()], dim=1)
        return functional.silu(self.second(functional.silu(self.first(features))))


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3, norm with scale and shift from the noise, SiLU, 3x3, plus the input."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.norm2 = _norm(width)
        self.conv2 = _zero(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``(slices, width, h, w)`` to the same shape."""
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(functional.silu(h))


class Stage(nn.ModuleList):
    """The residual blocks of one resolution, in order."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__(ResidualBlock(width, config.embedding) for _ in range(config.blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``(slices, width, h, w)`` to the same shape."""
        for block in self:
            x = block(x, embedding)
        return x


class LeanUNet(nn.Module):
    """U-Net with added (not concatenated) skips and strided 2x2 convolutions between resolutions.

    ``forward(x, noise)`` takes ``(slices, channels_in, height, width)`` and ``(slices,)`` or ``(1,)``
    noise numbers; one noise number is embedded once and broadcast, so that the result of a slice does not
    depend on how many slices stand beside it.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths, stem = config.widths, config.stem
        self.config = config
        self.embedding = NoiseEmbedding(config.embedding)
        self.stem = nn.Conv2d(config.channels_in * stem**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Stage(width, config) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(Stage(width, config) for width in widths[:-1])
        self.head_norm = _norm(widths[0])
        self.head = _zero(nn.Conv2d(widths[0], config.channels_out * stem**2, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """See the class."""
        embedding = self.embedding(noise)
        h = self.stem(functional.pixel_unshuffle(x, self.config.stem))
        skips = []
        for level, stage in enumerate(self.encoder):
            h = stage(h, embedding)
            if level < len(self.down):
                skips.append(h)
                h = self.down[level](h)
        for level in reversed(range(len(self.up))):
            h = self.decoder[level](self.up[level](h) + skips[level], embedding)
        h = self.head(functional.silu(self.head_norm(h)))
        return functional.pixel_shuffle(h, self.config.stem)


class Slicewise:
    """How slices are taken by what denoises them: one by one, in any part, alike in every step, unless it says so."""

    @property
    def groups(self) -> int:
        """Number of neighbouring slices that it takes, and returns, as channels."""
        return 1

    @property
    def whole(self) -> bool:
        """Whether it must see whole slices, and not a part that holds the object."""
        return False

    def at(self, turn: int) -> Self:
        """The same in another step: what divides slices divides them elsewhere, so that no seam stays."""
        return self


class Denoiser(Slicewise, nn.Module, ABC):
    """A network as ``D(x, sigma)`` in its own units: what a prior file holds."""

    @property
    def guides(self) -> int:
        """Number of guide slices."""
        return 0

    @property
    def mapped(self) -> bool:
        """Whether as many maps follow the guide slices: 1 where those were measured, 0 where they are a guess."""
        return False

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Height and width must be multiples of this."""

    @abstractmethod
    def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
        """Expected clean slices; ``sigma`` is ``(slices,)`` or ``(1,)``, ``guide`` ``(slices, channels, h, w)``."""


class EDMDenoiser(Denoiser):
    """Preconditioning of Karras et al. 2022 (EDM, table 1): ``D(x, sigma)`` in network units.

    Without a guide the network corrects ``c_skip * x``. With one, it corrects the best linear combination of the
    noisy slice (variance ``sigma^2``) and of the guide's own slice (variance ``guide_error^2``), so that it has to
    learn only what neither of them knows. An untrained network returns that combination. One network serves both
    cases: guide channels are zero where there is no guide.

    With several channels out, ``x`` holds as many neighbouring slices, and the guide the same ones in its middle.
    """

    def __init__(self, config: UNetConfig, sigma_data: float, guide_error: float = 0.1) -> None:
        super().__init__()
        self.network = LeanUNet(config)
        self.sigma_data, self.guide_error = sigma_data, guide_error

    @property
    def guides(self) -> int:
        """Number of guide slices."""
        return self._channels // (2 if self.mapped else 1)

    @property
    def mapped(self) -> bool:
        """Whether maps follow the guide slices."""
        return self.network.config.mapped

    @property
    def groups(self) -> int:
        """Number of neighbouring slices that it takes and returns."""
        return self.network.config.channels_out

    @property
    def _channels(self) -> int:
        return self.network.config.channels_in - self.network.config.channels_out

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.network.config.multiple

    def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
        """Expected clean slices; ``sigma`` is ``(slices,)`` or ``(1,)``, ``guide`` ``(slices, channels, h, w)``."""
        level = sigma[:, None, None, None]
        scaled = x / (level**2 + self.sigma_data**2).sqrt()
        known: Tensor | float = 0.0
        spread = self.sigma_data
        if guide is not None:
            scaled = torch.cat([scaled, guide / self.sigma_data], dim=1)
            first = (self.guides - self.groups) // 2
            known, spread = guide[:, first : first + self.groups], self.guide_error
        elif self.guides:
            scaled = torch.cat([scaled, scaled.new_zeros(()).expand(len(x), self._channels, *x.shape[2:])], dim=1)
        variance = level**2 + spread**2
        output = self.network(scaled, sigma.log() / 4)
        return (x * spread**2 + known * level**2) / variance + output * (level * spread / variance.sqrt())


def count_parameters(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(math.prod(p.shape) for p in module.parameters())
