"""Noise models of measured data: they draw noise, and they give each datum its weight 1/variance."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from medrecon.errors import InputError
from medrecon.registry import Registry

noise_models: Registry = Registry("noise model")


@noise_models.register("gaussian")
@dataclass(frozen=True)
class GaussianNoise:
    """White noise of one standard deviation, in the units of the data."""

    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError("the noise level must be positive", found=self.sigma)

    def sample(self, clean: Tensor, seed: int) -> Tensor:
        """Clean data plus one draw of noise."""
        generator = torch.Generator().manual_seed(seed)
        return clean + self.sigma * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)

    def weights(self, y: Tensor) -> Tensor:
        """1/variance of each datum."""
        return torch.full_like(y, self.sigma**-2)


@noise_models.register("poisson")
@dataclass(frozen=True)
class PoissonNoise:
    """Photon counting with electronic noise, on line integrals ``y = -log(counts / photons)``.

    ``counts ~ Poisson(photons * exp(-y)) + Normal(0, electronic^2)``; ``photons`` per detector pixel without an
    object, ``electronic`` in counts. The variance of ``y`` follows by the delta method:
    ``(counts + electronic^2) / counts^2`` (Thibault et al. 2006, eq. 5).
    """

    photons: float
    electronic: float = 0.0

    def __post_init__(self) -> None:
        if not self.photons > 0 or not self.electronic >= 0:
            raise InputError(
                "photons must be positive and electronic noise not negative", found=(self.photons, self.electronic)
            )

    def sample(self, clean: Tensor, seed: int) -> Tensor:
        """Line integrals measured with one draw of noise; counts below one are read as one."""
        generator = torch.Generator().manual_seed(seed)
        expected = self.photons * torch.exp(-clean.double())
        counts = torch.poisson(expected, generator=generator)
        counts += self.electronic * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        return -(counts.clamp_min(1.0) / self.photons).log().to(clean.dtype)

    def weights(self, y: Tensor) -> Tensor:
        """1/variance of each line integral, from the measured value itself."""
        counts = self.photons * torch.exp(-y.double())
        return (counts**2 / (counts + self.electronic**2)).to(y.dtype)


NoiseModel = GaussianNoise | PoissonNoise


def noise_from_dict(values: dict) -> NoiseModel | None:
    """The noise model that :func:`noise_to_dict` described; None for an empty dictionary.

    Raises InputError for another kind and for missing, unknown or malformed parameters.
    """
    if not values:
        return None
    settings = {key: value for key, value in values.items() if key != "kind"}
    if values.get("kind") not in noise_models.names():
        raise InputError("unknown noise model", found=values.get("kind"), expected=", ".join(noise_models.names()))
    try:
        return noise_models.get(str(values["kind"]))(**settings)
    except TypeError as error:
        raise InputError("malformed noise model", found=values) from error


def noise_to_dict(model: NoiseModel | None) -> dict:
    """Plain values that describe a noise model, for files."""
    if model is None:
        return {}
    kind = next(entry.name for entry in noise_models if isinstance(model, entry.value))
    return {"kind": kind, **asdict(model)}
