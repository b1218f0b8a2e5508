"""Reconstruction problems with known answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helpers.operators import MaskedHartley, SliceProjector
from helpers.priors import exact_statistics, small_network_prior
from medrecon.data.volume import Geometry, Volume
from medrecon.physics.noise import GaussianNoise
from medrecon.prior import GaussianPrior, Prior
from medrecon.problem import Problem


def blocks(shape: tuple[int, int, int]) -> Tensor:
    """A piecewise constant volume in 0..1: a box in a box, empty at the border."""
    slices, height, width = shape
    x = torch.zeros(shape)
    x[:, height // 5 : -height // 5, width // 5 : -width // 5] = 0.8
    x[: slices // 2 + 1, height // 3 : height // 2, width // 3 : width // 2 + 2] = 0.3
    return x


def projection_problem(
    shape: tuple[int, int, int] = (5, 12, 10),
    *,
    views: int = 6,
    sigma: float = 0.05,
    prior: Prior | None = None,
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    with_prior: bool = True,
) -> Problem:
    """Noisy projections of :func:`blocks`, with a small network as prior."""
    op = SliceProjector(shape, views)
    noise = GaussianNoise(sigma)
    return Problem(
        op=op,
        y=noise.sample(op(blocks(shape)), seed=3),
        geometry=Geometry.from_spacing(shape, spacing),
        prior=prior or (small_network_prior() if with_prior else None),
        noise_model=noise,
        lower_bound=0.0,
    )


def empty_scan(volume: Volume) -> Problem:
    """A problem on the grid of a volume, for where nobody solves it."""
    op = SliceProjector(volume.geometry.shape, 1)
    return Problem(op, torch.zeros(op.range.shape), volume.geometry, volume.quantity)


@dataclass(frozen=True)
class GaussianCase:
    """A Gaussian random field, its measurements, and the exact posterior of each slice."""

    problem: Problem
    truth: Tensor
    spectrum: Tensor
    posterior_mean: Tensor
    posterior_variance: float  # mean over voxels
    sigma: float

    def psnr(self, x: Tensor) -> float:
        """Peak signal-to-noise ratio in dB; peak = 4 prior standard deviations, the same for every estimate."""
        error = float((x - self.truth).square().mean())
        return 10 * float(np.log10(16 * float(self.spectrum.mean()) / error))

    def roughness(self, x: Tensor) -> float:
        """Root mean square of the difference of neighbouring slices, over that of the truth."""
        return float(x.diff(dim=0).square().mean().sqrt() / self.truth.diff(dim=0).square().mean().sqrt())


def gaussian_case(
    slices: int = 16,
    size: int = 32,
    *,
    sigma: float = 0.05,
    share: float = 0.42,
    correlation: float = 3.0,
    seed: int = 0,
) -> GaussianCase:
    """The closed-form experiment of a Gaussian random field that is smooth along z, in reduced size.

    Slices have a periodic covariance with a power spectrum that falls like ``(1 + (k / 2)^2)^-1.5`` and mean variance
    0.04; along z they are correlated like the noise of the samplers. A ``share`` of the columns of the Hartley
    spectrum is measured with white noise ``sigma``. The prior knows one slice at a time, as every 2D prior does.
    """
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(size, d=1 / size)
    radius = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt()
    spectrum = (1 + (radius / 2) ** 2) ** -1.5
    spectrum = 0.04 * spectrum / spectrum.mean()

    distance = torch.arange(slices)[:, None] - torch.arange(slices)[None]
    factor = torch.linalg.cholesky(
        torch.exp(-(distance.double() ** 2) / (4 * correlation**2)) + 1e-6 * torch.eye(slices, dtype=torch.float64)
    )
    white = torch.randn((slices, size, size), generator=generator)
    smooth = torch.einsum("ij,jyx->iyx", factor.float(), white)
    truth = MaskedHartley.transform(spectrum.sqrt() * smooth)

    measured = torch.rand(size, generator=generator) < share
    measured[0] = True
    op = MaskedHartley((slices, size, size), measured.nonzero()[:, 0])
    noise = GaussianNoise(sigma)
    y = noise.sample(op(truth), seed=seed + 1)
    gain = measured * spectrum / (spectrum + sigma**2)
    prior = GaussianPrior(spectrum)
    known = exact_statistics(spectrum, np.geomspace(3.0, 0.004, 24).tolist())
    prior.card = replace(prior.card, statistics=known.to_dict())
    problem = Problem(
        op=op,
        y=y,
        geometry=Geometry.from_spacing((slices, size, size), (1.0, 1.0, 1.0)),
        prior=prior,
        noise_model=noise,
    )
    return GaussianCase(
        problem=problem,
        truth=truth,
        spectrum=spectrum,
        posterior_mean=op.transform(gain * op.embed(y)),
        posterior_variance=float((spectrum - gain * spectrum).mean()),
        sigma=sigma,
    )
