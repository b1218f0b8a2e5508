"""From what a published network predicts to the clean slice: one piece of maths for every kind of checkpoint.

Networks differ in what they are given and in what they answer. With ``x = clean + sigma * noise``, a network sees
``scale * x`` and a label of the noise level, both functions of ``sigma`` (:class:`NoiseMap`), and predicts one of
``predictions``. Every prediction gives the clean slice by ``D(x, sigma) = skip * x + gain * output``:

=============  ======================================  =================  =========================
predicts       the network's output                    skip               gain
=============  ======================================  =================  =========================
``score``      gradient of the log density at scale*x  1                  scale sigma^2
``eps``        the noise                               1                  -sigma
``x0``         the clean slice                         0                  1
``D``          the same                                0                  1
``v``          scale (noise - sigma clean)             scale^2            -scale sigma
``flow``       noise - clean                           scale              -scale sigma
``flow_back``  clean - noise                           scale              scale sigma
``edm``        F of Karras et al. 2022, table 1        d^2/(sigma^2+d^2)  sigma d/sqrt(sigma^2+d^2)
=============  ======================================  =================  =========================

``d`` is the spread of the data. ``v`` (Salimans and Ho 2022) goes with the scale of variance-preserving noise, ``flow``
and ``flow_back`` (as in MONAI) with ``scale = 1 / (1 + sigma)``, the straight path from clean slice to noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from math import inf, isfinite

import numpy as np
import torch
from torch import Tensor, nn

from medrecon.errors import InputError
from medrecon.network import Denoiser
from medrecon.registry import Registry, unknown_name

predictions: dict[str, Callable[[Tensor, Tensor, float], tuple[Tensor | float, Tensor | float]]] = {
    "score": lambda sigma, scale, d: (1.0, scale * sigma**2),
    "eps": lambda sigma, scale, d: (1.0, -sigma),
    "x0": lambda sigma, scale, d: (0.0, 1.0),
    "D": lambda sigma, scale, d: (0.0, 1.0),
    "v": lambda sigma, scale, d: (scale**2, -scale * sigma),
    "flow": lambda sigma, scale, d: (scale, -scale * sigma),
    "flow_back": lambda sigma, scale, d: (scale, scale * sigma),
    "edm": lambda sigma, scale, d: (d**2 / (sigma**2 + d**2), sigma * d / (sigma**2 + d**2).sqrt()),
}
"""``(skip, gain)`` from ``(sigma, scale, d)``: see the table of this module."""

_ORDINARY_SPREAD = 0.5  # of the data in a range of -1 to 1 (Karras et al. 2022)

noise_maps: Registry[type[NoiseMap]] = Registry("noise map")


class NoiseMap(ABC):
    """How a network is told the noise level: the scale of its input and its label, as functions of sigma.

    ``sigma_min`` and ``sigma_max`` are the trained levels, in the network's unit.
    """

    sigma_min: float
    sigma_max: float
    sigma_data: float = _ORDINARY_SPREAD

    @abstractmethod
    def scale(self, sigma: Tensor) -> Tensor:
        """What the noisy slice is multiplied by before the network sees it."""

    @abstractmethod
    def label(self, sigma: Tensor) -> Tensor:
        """The number that stands for the noise level, one for each sigma."""


@noise_maps.register("ve")
class VarianceExploding(NoiseMap):
    """The slice as it is and sigma itself."""

    def __init__(self, sigma_min: float, sigma_max: float) -> None:
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def scale(self, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def label(self, sigma: Tensor) -> Tensor:
        """Sigma."""
        return sigma


@noise_maps.register("edm")
class Preconditioned(NoiseMap):
    """Input of unit variance and a quarter of the logarithm (Karras et al. 2022, table 1)."""

    def __init__(self, sigma_data: float = _ORDINARY_SPREAD, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max

    def scale(self, sigma: Tensor) -> Tensor:
        """1 / sqrt(sigma^2 + sigma_data^2)."""
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def label(self, sigma: Tensor) -> Tensor:
        """ln(sigma) / 4."""
        return sigma.log() / 4


@noise_maps.register("flow")
class StraightPath(NoiseMap):
    """``(1 - s) clean + s noise`` with ``s = sigma / (1 + sigma)``; the label counts s in ``steps``."""

    def __init__(self, steps: int = 1000) -> None:
        self.steps = steps
        self.sigma_min, self.sigma_max = 1 / (steps - 1), float(steps - 1)

    def scale(self, sigma: Tensor) -> Tensor:
        """1 - s."""
        return 1 / (1 + sigma)

    def label(self, sigma: Tensor) -> Tensor:
        """The share of noise, times the number of steps."""
        return self.steps * sigma / (1 + sigma)


@noise_maps.register("vp")
class VariancePreserving(NoiseMap):
    """Discrete steps that keep the variance (Ho et al. 2020): ``sqrt(a_t) clean + sqrt(1 - a_t) noise``.

    The label is the step, between two steps interpolated in the logarithm of sigma, counted from 0.

    Parameters
    ----------
    betas : str or list of float
        Name in ``beta_schedules``, or the variances themselves.
    zero_terminal
        Shift and stretch sqrt(a) so that the last step is pure noise (Lin et al. 2024); that step is left out.
    """

    def __init__(
        self,
        betas: str | list[float] = "linear",
        steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        zero_terminal: bool = False,
    ) -> None:
        if isinstance(betas, str):
            if betas not in beta_schedules:
                raise unknown_name("noise schedule", betas, list(beta_schedules))
            variances = beta_schedules[betas](steps, beta_start, beta_end)
        else:
            variances = np.asarray(betas, dtype=float)
        if not (len(variances) > 1 and (variances > 0).all() and (variances < 1).all()):
            raise InputError("the noise schedule has variances that are not between 0 and 1", found=betas)
        amplitude = np.sqrt(np.cumprod(1 - variances))
        if zero_terminal:
            first, last = amplitude[0], amplitude[-1]
            amplitude = ((amplitude - last) * first / (first - last))[:-1]
        self._levels = np.sqrt(1 - amplitude**2) / amplitude
        self.sigma_min, self.sigma_max = float(self._levels[0]), float(self._levels[-1])

    @cached_property
    def _log_levels(self) -> np.ndarray:
        return np.log(self._levels)

    def scale(self, sigma: Tensor) -> Tensor:
        """1 / sqrt(1 + sigma^2)."""
        return (1 + sigma**2).rsqrt()

    def label(self, sigma: Tensor) -> Tensor:
        """The step that has this noise, a fraction included."""
        wanted = np.log(sigma.detach().cpu().double().numpy())
        step = np.interp(wanted, self._log_levels, np.arange(len(self._levels)))
        return torch.from_numpy(step).to(sigma)


def _cosine(steps: int, start: float, end: float) -> np.ndarray:
    """Nichol and Dhariwal 2021, equation 17; ``start`` and ``end`` play no part."""
    share = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - share[1:] / share[:-1], 0.999)


beta_schedules: dict[str, Callable[[int, float, float], np.ndarray]] = {
    "linear": lambda steps, start, end: np.linspace(start, end, steps),
    "scaled_linear": lambda steps, start, end: np.linspace(start**0.5, end**0.5, steps) ** 2,
    "cosine": _cosine,
    "sigmoid": lambda steps, start, end: start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, steps))),
}
"""Variances of the steps, by their number, the first and the last one."""


def noise_map_of(values: Mapping[str, object]) -> NoiseMap:
    """A noise map from plain values: its ``kind`` and what it takes. Raises InputError where they do not fit."""
    wrong = InputError("the noise levels of the network are described wrongly", found=values)
    if not isinstance(values, Mapping):
        raise wrong
    rest = {key: value for key, value in values.items() if key != "kind"}
    try:
        noise = noise_maps.get(str(values.get("kind")))(**rest)  # type: ignore[arg-type]
        fits = 0 < noise.sigma_min < noise.sigma_max < inf and 0 < noise.sigma_data < inf
    except (TypeError, ValueError, ArithmeticError) as error:
        raise wrong from error
    if not fits:
        raise wrong
    return noise


class ParameterisedDenoiser(Denoiser):
    """A published network as ``D(x, sigma)``.

    ``network(scaled, label)`` takes ``(slices, channels, h, w)`` and ``(1,)`` or ``(slices,)`` labels; channels beyond
    those of its input (a learned variance) are dropped. ``stretch`` and ``shift`` map the caller's values to those the
    network was trained on: ``network value = stretch * x + shift``, and noise is stretched with them::

        D(x, sigma) = (D_network(stretch x + shift, stretch sigma) - shift) / stretch
    """

    def __init__(
        self,
        network: nn.Module,
        predicts: str,
        noise: NoiseMap,
        *,
        stretch: float = 1.0,
        shift: float = 0.0,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        if predicts not in predictions:
            raise unknown_name("prediction", predicts, list(predictions))
        if not (0 < stretch < inf and isfinite(shift)):
            raise InputError("a network's range cannot be stretched like that", found=(stretch, shift))
        self.network, self.predicts, self.noise = network, predicts, noise
        self.stretch, self.shift, self._multiple = stretch, shift, multiple

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self._multiple

    def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
        """Expected clean slices; ``sigma`` is ``(slices,)`` or ``(1,)``. A guide is ignored."""
        level = sigma * self.stretch
        noisy = self.stretch * x + self.shift
        scale = self.noise.scale(level)[:, None, None, None]
        output = self.network(scale * noisy, self.noise.label(level))[:, : x.shape[1]]
        skip, gain = predictions[self.predicts](level[:, None, None, None], scale, self.noise.sigma_data)
        return (skip * noisy + gain * output - self.shift) / self.stretch


class CalledWithSigma(nn.Module):
    """Any ``model(x, sigma)`` as a network: the label is one sigma for each slice."""

    def __init__(self, model: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``(slices, channels, h, w)`` and ``(1,)`` or ``(slices,)`` to the shape of ``x``."""
        return self.model(x, sigma.expand(len(x)))
