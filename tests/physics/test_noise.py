"""Noise models: the drawn noise has the variance that the weights claim."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import InputError
from medrecon.physics.noise import GaussianNoise, PoissonNoise, noise_from_dict, noise_to_dict

MODELS = [GaussianNoise(0.03), PoissonNoise(1e4), PoissonNoise(3e3, electronic=12.0)]


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("level", [0.0, 1.0, 2.5])
def test_the_variance_is_one_over_the_weight(model: GaussianNoise | PoissonNoise, level: float):
    """40,000 draws: the variance has a relative standard error of 0.007; the bound leaves 4 and the error of the
    delta method, 1 / counts (0.4 % of the fewest photons here, 246)."""
    clean = torch.full((40_000,), level)
    noisy = model.sample(clean, seed=1)
    assert noisy.dtype == torch.float32
    variance = float((noisy - clean).double().var())
    assert variance * float(model.weights(clean[:1])) == pytest.approx(1.0, abs=0.04)
    assert float((noisy - clean).mean()) == pytest.approx(0.0, abs=5 * variance**0.5 / 200 + variance)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_seed_decides(model: GaussianNoise | PoissonNoise):
    clean = torch.rand(50)
    assert torch.equal(model.sample(clean, 4), model.sample(clean, 4))
    assert not torch.equal(model.sample(clean, 4), model.sample(clean, 5))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_clean_data_stay_as_they_are(model: GaussianNoise | PoissonNoise):
    clean = torch.rand(50)
    copy = clean.clone()
    model.sample(clean, 0)
    model.weights(clean)
    assert torch.equal(clean, copy)


def test_photon_starvation_stays_finite():
    """Behind metal no photon arrives: the datum is that of one count, with a weight near zero."""
    model = PoissonNoise(100.0, electronic=5.0)
    noisy = model.sample(torch.full((1000,), 30.0), seed=0)
    assert torch.isfinite(noisy).all()
    assert torch.isfinite(model.weights(noisy)).all()
    assert float(noisy.max()) == pytest.approx(4.605, abs=1e-3)  # -log(1 / 100)
    assert float(model.weights(torch.tensor([30.0]))) < 1e-10


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_round_trip_through_a_dictionary(model: GaussianNoise | PoissonNoise):
    assert noise_from_dict(noise_to_dict(model)) == model


def test_no_model_is_an_empty_dictionary():
    assert noise_to_dict(None) == {}
    assert noise_from_dict({}) is None


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "laplace", "sigma": 1.0},
        {"sigma": 1.0},
        {"kind": "gaussian"},
        {"kind": "gaussian", "sigma": 1.0, "photons": 3},
        {"kind": "gaussian", "sigma": "big"},
        {"kind": "gaussian", "sigma": -1.0},
        {"kind": "gaussian", "sigma": float("nan")},
        {"kind": "poisson", "photons": 0.0},
        {"kind": "poisson", "photons": 1e4, "electronic": float("nan")},
    ],
    ids=str,
)
def test_a_malformed_description_is_an_input_error(values: dict):
    with pytest.raises(InputError):
        noise_from_dict(values)
