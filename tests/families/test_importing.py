"""Units, errors across processes, missing libraries, and what may not be done with an imported prior."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers import published
from helpers.importing import FACTS, UNIT, imported, saved
from helpers.priors import card
from medrecon.cli.importing import _SUSPICIOUS
from medrecon.errors import (
    CorruptInput,
    InputError,
    MedreconError,
    MissingDependency,
    TooLarge,
    UnsafeInput,
    UsageError,
)
from medrecon.families.importing import Facts, _error_of, _said, noise_left, unit_of
from medrecon.parameterisation import ParameterisedDenoiser, VariancePreserving
from medrecon.prior import check_compatible, load_prior
from medrecon.training.loop import _trainable


def drunet(tmp_path: Path, scale: float = 1.0) -> Path:
    weights = published.random_weights(published.drunet_shapes())
    return saved({key: scale * value for key, value in weights.items()}, tmp_path / "drunet.pth")


@pytest.mark.parametrize("interval", [(-1000.0, 1000.0), (-500.0, 3000.0)])
def test_settings_mean_the_same_for_every_prior_of_hounsfield_units(tmp_path: Path, interval: tuple) -> None:
    """The solver's unit is water, whatever the window of the training was."""
    prior = imported(drunet(tmp_path), replace(FACTS, range=interval))
    assert (prior.card.scale, prior.card.offset) == (1000.0, -1000.0)
    assert prior.card.sigma_max == pytest.approx((interval[1] - interval[0]) / 2 * 50 / 255)


def test_the_unit_of_anything_else_is_its_range() -> None:
    assert unit_of(Facts("a.u.", (2.0, 5.0), (1.0, 1.0))) == (3.0, 2.0)


class Disguised(nn.Module):
    """The bundled CT prior as a network on values of ``low`` to 1 for -1000 to 1000 HU, linear noise."""

    def __init__(self, predicts: str, low: float) -> None:
        super().__init__()
        self.denoiser, self.predicts, self.low = load_prior("ct").denoiser, predicts, low
        kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
        self.levels = np.log((1 - kept) / kept) / 2

    def forward(self, scaled: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        sigma = float(np.exp(np.interp(float(label), np.arange(1000), self.levels)))
        unit, x = 2 / (1 - self.low), scaled * (1 + sigma**2) ** 0.5
        clean = self.denoiser((x - self.low) * unit, torch.tensor([sigma * unit])) / unit + self.low
        return (x - clean) / sigma if self.predicts == "eps" else clean


@pytest.mark.parametrize(
    ("predicts", "low", "said", "said_low", "noticed"),
    [("eps", -1.0, "eps", -1.0, False), ("x0", 0.0, "x0", 0.0, False), ("eps", -1.0, "x0", -1.0, True),
     ("x0", -1.0, "eps", -1.0, True), ("eps", 0.0, "eps", -1.0, True)],
)  # fmt: skip
def test_the_check_of_an_import(predicts: str, low: float, said: str, said_low: float, noticed: bool) -> None:
    """What docs/priors.md says that it notices."""
    facts = replace(load_prior("ct").card, range=(-1000.0, 1000.0), architecture={"channels": 1})
    denoiser = ParameterisedDenoiser(
        Disguised(predicts, low), said, VariancePreserving(), stretch=(1 - said_low) / 2, shift=said_low, multiple=16
    )
    assert (noise_left(denoiser, facts) > _SUSPICIOUS) is noticed


def test_two_channels(tmp_path: Path) -> None:
    """A network of complex images, with a learned variance for both: usable from Python, not in `recon`."""
    weights = published.random_weights(published.adm_shapes(channels=2, out=4))
    prior = imported(saved(weights, tmp_path / "complex.pt"), Facts("a.u.", (0.0, 1.0), (1.0, 1.0), (-1.0, 1.0)))
    assert prior.denoise(torch.randn(3, 2, 10, 14), 0.2).shape == (3, 2, 10, 14)
    with pytest.raises(InputError, match="several channels"):
        check_compatible(prior.card, "a.u.", [0.0, 1.0])


@pytest.mark.parametrize("kind", [CorruptInput, InputError, TooLarge, UnsafeInput, UsageError])
def test_errors_come_through_from_the_other_process(kind: type[MedreconError]) -> None:
    error = kind("something is wrong", where="x.pt", found=(1, 2), expected="else", hint="Do this.")
    back = _error_of(_said(error))
    assert type(back) is kind and str(back) == str(error) and back.exit_code == error.exit_code


def test_a_missing_library_comes_through_too() -> None:
    error = MissingDependency("diffusers", "priors", "a prior")
    back = _error_of(_said(error))
    assert type(back) is MissingDependency and str(back) == str(error) and back.exit_code == 4


@pytest.mark.parametrize(("family", "library"), [("diffusers", "diffusers"), ("monai", "monai"), ("monai", "einops")])
def test_a_prior_of_a_library_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, library: str
) -> None:
    """The card alone asks for it; the message names what brings it."""
    architecture = {
        "family": family, "network": {}, "predicts": "eps", "noise": {"kind": "vp"}, "stretch": 1.0, "shift": 0.0,
    }  # fmt: skip
    from medrecon.families import family_of

    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependency, match=r"medrecon\[priors\]") as caught:
        family_of(card(architecture=architecture)).denoiser(card(architecture=architecture))
    assert caught.value.exit_code == 4


def test_an_imported_prior_is_not_trained_further(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only the package's own networks"):
        _trainable(imported(drunet(tmp_path), UNIT))


def test_a_card_of_an_unknown_family(tmp_path: Path) -> None:
    imported(drunet(tmp_path), UNIT)
    card_file = tmp_path / "drunet.pth.json"
    card_file.write_text(card_file.read_text().replace('"family": "drunet"', '"family": "drunes"'))
    with pytest.raises(UsageError, match=r"unknown network family 'drunes'. Did you mean drunet"):
        load_prior(str(tmp_path / "drunet.pth.safetensors"))


@pytest.mark.parametrize(
    "change",
    [{"noise": []}, {"noise": {"kind": "ve", "sigma_min": 3}}, {"stretch": 0}, {"stretch": "x"}, {"shift": None},
     {"predicts": 7}, {"network": {}}, {"network": None}, {"network": {"channels": 1, "widths": 3, "blocks": 1}}],
    ids=str,
)  # fmt: skip
def test_damaged_cards_of_imported_priors(tmp_path: Path, change: dict) -> None:
    imported(drunet(tmp_path), UNIT)
    card_file = tmp_path / "drunet.pth.json"
    content = json.loads(card_file.read_text())
    content["architecture"] |= change
    card_file.write_text(json.dumps(content))
    with pytest.raises(MedreconError):
        load_prior(str(tmp_path / "drunet.pth.safetensors"))
