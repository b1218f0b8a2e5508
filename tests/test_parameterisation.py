"""Every parameterisation against the closed form of Gaussian slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.priors import card
from medrecon.errors import InputError, UsageError
from medrecon.parameterisation import (
    NoiseMap,
    ParameterisedDenoiser,
    VariancePreserving,
    beta_schedules,
    noise_map_of,
    noise_maps,
    predictions,
)
from medrecon.prior import GaussianPrior, NetworkPrior, denoiser_prior

MEAN, HEIGHT, WIDTH = 0.2, 12, 16
SIGMA_DATA = 0.6


def spectrum() -> Tensor:
    frequency = torch.fft.fftfreq(HEIGHT)[:, None] ** 2 + torch.fft.fftfreq(WIDTH)[None] ** 2
    return (0.02 / (0.05 + frequency)).double()


def vp_levels(betas: np.ndarray) -> np.ndarray:
    """Sigma of each step, by the product formula."""
    kept = np.cumprod(1 - betas)
    return np.sqrt((1 - kept) / kept)


LINEAR = vp_levels(np.linspace(1e-4, 0.02, 1000))
NOISE: dict[str, dict] = {
    "ve": {"kind": "ve", "sigma_min": 0.01, "sigma_max": 378.0},
    "vp": {"kind": "vp", "betas": "linear"},
    "flow": {"kind": "flow"},
    "edm": {"kind": "edm", "sigma_data": SIGMA_DATA},
}
SIGMA_OF_LABEL: dict[str, Callable[[float], float]] = {
    "ve": lambda label: label,
    "vp": lambda label: float(np.exp(np.interp(label, np.arange(1000), np.log(LINEAR)))),
    "flow": lambda label: label / 1000 / (1 - label / 1000),
    "edm": lambda label: float(np.exp(4 * label)),
}
SCALE: dict[str, Callable[[float], float]] = {
    "ve": lambda sigma: 1.0,
    "vp": lambda sigma: (1 + sigma**2) ** -0.5,
    "flow": lambda sigma: 1 / (1 + sigma),
    "edm": lambda sigma: (sigma**2 + SIGMA_DATA**2) ** -0.5,
}
PAIRS = [
    ("score", "ve"), ("score", "vp"), ("eps", "ve"), ("eps", "vp"), ("x0", "ve"), ("x0", "vp"), ("D", "ve"),
    ("v", "vp"), ("flow", "flow"), ("flow_back", "flow"), ("edm", "edm"), ("eps", "edm"),
]  # fmt: skip


class GaussianNetwork(nn.Module):
    """What a perfectly trained network would answer, from the definition of each prediction.

    It sees the scaled slice and the label alone.
    """

    def __init__(self, predicts: str, kind: str) -> None:
        super().__init__()
        self.predicts, self.kind = predicts, kind
        self.prior = GaussianPrior(spectrum(), MEAN)

    def forward(self, scaled: Tensor, label: Tensor) -> Tensor:
        sigma = SIGMA_OF_LABEL[self.kind](float(label.double()))
        scale = SCALE[self.kind](sigma)
        noisy = scaled.double() / scale
        clean = self.prior.denoise(noisy, sigma)
        noise = (noisy - clean) / sigma
        if self.predicts == "score":  # of the Gaussian density of scale * x, not by way of the clean slice
            variance = scale**2 * (spectrum() + sigma**2)
            deviation = torch.fft.fft2(scaled.double() - scale * MEAN)
            answer = -torch.fft.ifft2(deviation / variance).real
        elif self.predicts == "edm":
            total = (sigma**2 + SIGMA_DATA**2) ** 0.5
            answer = (clean - SIGMA_DATA**2 / total**2 * noisy) * total / (sigma * SIGMA_DATA)
        else:
            answer = {
                "eps": noise,
                "x0": clean,
                "D": clean,
                "v": scale * noise - scale * sigma * clean,
                "flow": noise - clean,
                "flow_back": clean - noise,
            }[self.predicts]
        return answer.float()


def test_every_prediction_and_every_noise_map_is_tested() -> None:
    assert {predicts for predicts, _ in PAIRS} == set(predictions)
    assert {kind for _, kind in PAIRS} == set(noise_maps.names())


@pytest.mark.parametrize("sigma", [0.1, 1.0, 7.0])
@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (0.37, -0.6)])
@pytest.mark.parametrize(("predicts", "kind"), PAIRS)
def test_the_clean_slice_of_a_gaussian(predicts: str, kind: str, stretch: float, shift: float, sigma: float) -> None:
    """``sigma`` is the network's; outside, values are affine images of the network's, in HU at last."""
    denoiser = ParameterisedDenoiser(
        GaussianNetwork(predicts, kind), predicts, noise_map_of(NOISE[kind]), stretch=stretch, shift=shift
    )
    prior = NetworkPrior(denoiser, card(quantity="HU", scale=1000.0, offset=-1000.0))
    unit = 1000.0 / stretch  # HU for one of the network
    zero = -1000.0 - shift * unit
    oracle = GaussianPrior(spectrum() * unit**2, zero + MEAN * unit)
    clean = oracle.mean + unit * torch.randn(2, 1, HEIGHT, WIDTH)
    noisy = clean + unit * sigma * torch.randn(clean.shape)
    found, expected = prior.denoise(noisy, unit * sigma), oracle.denoise(noisy.double(), unit * sigma)
    assert (found - expected).abs().max() < 1e-4 * unit * max(sigma, 1.0)
    assert (noisy - expected).abs().max() > 0.05 * unit * sigma  # so that a wrong answer cannot pass


@pytest.mark.parametrize("name", list(beta_schedules))
def test_labels_are_the_steps_and_lie_between_them(name: str) -> None:
    """At a step's own sigma its number; halfway in the logarithm, the half."""
    betas = {
        "linear": np.linspace(1e-4, 0.02, 1000),
        "scaled_linear": np.linspace(1e-2, 0.02**0.5, 1000) ** 2,
        "sigmoid": 1e-4 + (0.02 - 1e-4) / (1 + np.exp(-np.linspace(-6, 6, 1000))),
        "cosine": [
            min(0.999, 1 - (np.cos(((t + 1) / 1000 + 0.008) / 1.008 * np.pi / 2)
                            / np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2)) ** 2)
            for t in range(1000)
        ],
    }[name]  # fmt: skip
    levels = vp_levels(np.asarray(betas))
    noise = VariancePreserving(name)
    steps = torch.tensor([0, 1, 137, 500, 998])
    found = noise.label(torch.from_numpy(levels)[steps])
    np.testing.assert_allclose(found, steps, atol=1e-5)
    between = float(noise.label(torch.tensor([(levels[137] * levels[138]) ** 0.5]).double()))
    assert between == pytest.approx(137.5, abs=1e-6)
    assert (noise.sigma_min, noise.sigma_max) == pytest.approx((levels[0], levels[-1]))


def test_betas_may_be_listed_and_the_last_step_pure_noise() -> None:
    """With a terminal of no signal (Lin et al. 2024, algorithm 1) the first level stays and the last is left out."""
    betas = np.linspace(1e-4, 0.02, 50)
    plain, shifted = VariancePreserving(betas.tolist()), VariancePreserving(betas.tolist(), zero_terminal=True)
    assert plain.sigma_max == pytest.approx(vp_levels(betas)[-1])
    assert shifted.sigma_min == pytest.approx(plain.sigma_min)
    assert shifted.sigma_max > plain.sigma_max
    assert float(shifted.label(torch.tensor([shifted.sigma_max]).double())) == pytest.approx(48)


def test_a_learned_variance_is_dropped() -> None:
    class TwoFold(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return torch.cat([0.5 * x, torch.full_like(x, 1e6)], dim=1)

    x = torch.randn(2, 2, 4, 4)
    found = ParameterisedDenoiser(TwoFold(), "x0", noise_map_of(NOISE["ve"]))(x, torch.tensor([0.3]))
    torch.testing.assert_close(found, 0.5 * x)


def test_one_level_for_all_slices_or_one_for_each() -> None:
    class Told(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return x * label[:, None, None, None]

    denoiser = ParameterisedDenoiser(Told(), "v", noise_map_of(NOISE["vp"]))
    x = torch.randn(2, 1, 4, 4)
    together = denoiser(x, torch.tensor([0.3, 2.0]))
    torch.testing.assert_close(together[:1], denoiser(x[:1], torch.tensor([0.3])))
    torch.testing.assert_close(together[1:], denoiser(x[1:], torch.tensor([2.0])))


@pytest.mark.parametrize("predicts", ["epsilon", ""])
def test_an_unknown_prediction(predicts: str) -> None:
    with pytest.raises(UsageError, match="unknown prediction"):
        ParameterisedDenoiser(nn.Identity(), predicts, noise_map_of(NOISE["ve"]))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"kind": "vx"}, UsageError),
        ({}, UsageError),
        ({"kind": "ve"}, InputError),
        ({"kind": "vp", "betas": "cosines"}, UsageError),
        ({"kind": "vp", "betas": [0.1]}, InputError),
        ({"kind": "vp", "betas": [0.1, -0.1]}, InputError),
        ({"kind": "vp", "colour": 1}, InputError),
        ({"kind": "ve", "sigma_min": 2.0, "sigma_max": 1.0}, InputError),
        ({"kind": "ve", "sigma_min": "a", "sigma_max": 1.0}, InputError),
        ({"kind": "edm", "sigma_data": 0.0}, InputError),
        ({"kind": "flow", "steps": 1}, InputError),
        (["vp"], InputError),
    ],
    ids=str,
)
def test_noise_described_wrongly(values: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        noise_map_of(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("stretch", [0.0, -1.0, float("nan"), float("inf")])
def test_a_range_that_cannot_be(stretch: float) -> None:
    with pytest.raises(InputError, match="cannot be stretched"):
        ParameterisedDenoiser(nn.Identity(), "x0", noise_map_of(NOISE["ve"]), stretch=stretch)


@pytest.mark.parametrize("module", [False, True])
def test_any_denoiser_that_takes_sigma(module: bool) -> None:
    """As those of deepinv: values of 0 to 1 and one sigma a slice, a module or a function."""
    seen: list[Tensor] = []

    def half(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma)
        assert x.shape[-2:] == (16, 24)
        return 0.5 * x

    class Half(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return half(x, sigma)

    facts = card(quantity="HU", scale=1000.0, offset=-1000.0, range=(-1000.0, 3000.0), sigma_min=4.0, sigma_max=800.0)
    prior = denoiser_prior(Half() if module else half, facts, multiple=8)
    noisy = -1000 + 4000 * torch.rand(3, 1, 12, 17)
    found = prior.denoise(noisy, 400.0)
    torch.testing.assert_close(found, 0.5 * (noisy + 1000) - 1000, atol=1e-2, rtol=0)
    assert seen[0].tolist() == pytest.approx([0.1] * 3)


def test_a_noise_map_says_its_levels() -> None:
    for values in NOISE.values():
        noise: NoiseMap = noise_map_of(values)
        assert 0 < noise.sigma_min < noise.sigma_max < float("inf")
        ends = torch.tensor([noise.sigma_min, noise.sigma_max])
        assert bool(torch.isfinite(noise.label(ends)).all() & torch.isfinite(noise.scale(ends)).all())


def test_the_card_may_be_replaced() -> None:
    """A prior made of an object keeps the facts of its card."""
    facts = replace(card(), range=(0.0, 2.0))
    prior = denoiser_prior(lambda x, sigma: x, facts, network_range=(-1.0, 1.0))
    x = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(prior.denoise(x, 0.1), x)
    assert prior.card.range == (0.0, 2.0)
