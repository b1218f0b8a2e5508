"""RED-diff: the posterior's mode by gradient descent, the prior asked at falling noise levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.annealed import Annealed
from medrecon.samplers.base import State, samplers

_DECAYS = (0.9, 0.99)  # of Adam's two moments, as published
_TINY = 1e-8


@samplers.register("red-diff", family="diffusion")
@dataclass(frozen=True)
class REDDiff(Annealed):
    """Variational: Adam on one volume, pulled by the data and by the prior (Mardani et al., ICLR 2024, RED-diff).

    At level s with noise n the gradient of algorithm 1 is, in terms of the denoiser::

        g = A'(A m - y) + weight e (m - D(m + s n, s))

    with e the error of a datum: the paper's SNR weights ``lambda s`` on the difference of noises (eq. 9) are the
    constant ``lambda`` on that of volumes. ``rate`` is Adam's step, in the prior's unit; it falls to zero along a
    cosine, so that the volume settles.
    """

    steps: int = 100
    weight: float = 0.25
    rate: float = 0.1
    correlation_mm: float = 6.0  # of the noise along z
    model_error: float = 0.01

    @property
    def stochastic(self) -> bool:
        """Noise goes into every gradient."""
        return True

    def init(self, system: System, noise: KeyedNoise) -> State:
        """The classical volume, or zero; moments at zero."""
        x = system.start if system.start is not None else torch.zeros_like(system.back_projection)
        return State(0, x, {"x": x, "mean": torch.zeros_like(x), "square": torch.zeros_like(x)})

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """One step of Adam."""
        sigma = self.levels()[state.step]
        x = state.tensors["x"]
        correlation = self.correlation_mm / system.geometry.spacing[0]
        noisy = x + sigma * noise.volume(state.step + 1, system.geometry.shape, correlation)
        pull = self.weight * system.data_error(self.model_error) * (x - system.denoise(noisy, sigma))
        gradient = system.op.normal(x) - system.back_projection + pull
        rate = self.rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * state.step / self.steps))))
        x, moments = adam(x, gradient, state.tensors, state.step + 1, rate)
        estimate = x if system.lower is None else x.clamp_min(system.lower)
        return state.advance(estimate, {"x": x} | moments, sigma=sigma, discrepancy=system.discrepancy(estimate))


def adam(
    x: Tensor, gradient: Tensor, moments: Mapping[str, Tensor], count: int, rate: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """One step of Adam (Kingma and Ba 2015, algorithm 1), the ``count``-th: new volume and moments."""
    first, second = _DECAYS
    mean = torch.lerp(gradient, moments["mean"], first)
    square = torch.lerp(gradient.square(), moments["square"], second)
    direction = (mean / (1 - first**count)) / ((square / (1 - second**count)).sqrt() + _TINY)
    return x - rate * direction, {"mean": mean, "square": square}
