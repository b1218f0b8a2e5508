"""Model statistics against their closed form, for Gaussian priors, and what a card may hold of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.operators import MaskedHartley
from helpers.priors import FunctionPrior, card, exact_statistics
from helpers.problems import gaussian_case
from medrecon.errors import InputError, NonFinite
from medrecon.model_statistics import ModelStatistics, measured_statistics
from medrecon.prior import GaussianPrior, PriorCard

LEVELS = np.geomspace(2.0, 0.01, 12).tolist()


def draws(spectrum: torch.Tensor, count: int, mean: float = 0.0) -> list[torch.Tensor]:
    white = torch.randn((count, *spectrum.shape), generator=torch.Generator().manual_seed(1))
    return list(mean + MaskedHartley.transform(spectrum.sqrt() * white))


def test_they_are_those_of_a_gaussian_prior():
    """Eight draws of 32 x 32: ``l`` within 0.01, ``s`` within 0.1 (measured 0.003 and 0.06); at either end the slope
    of ``l``, which is a part of ``s``, is extrapolated: 0.3."""
    spectrum = gaussian_case(2, 32).spectrum
    found = measured_statistics(GaussianPrior(spectrum), draws(spectrum, 8), LEVELS)
    exact = exact_statistics(spectrum, LEVELS)
    np.testing.assert_allclose(found.l, exact.l, atol=0.01)
    np.testing.assert_allclose(found.s[1:-1], exact.s[1:-1], atol=0.1)
    np.testing.assert_allclose(found.s, exact.s, atol=0.35)
    np.testing.assert_allclose(found.b, 0, atol=0.01)


def test_a_mean_goes_into_the_offset():
    """``N`` falls from ``(1 - l) m - m`` on: for one variance ``D = m + (1 - l)(x - m)``, so ``N = -l m`` alone.

    Nothing is left that grows, and ``b`` is the slope of ``-l m``, ``2 m l (1 - l)``.
    """
    variance, mean = 0.09, 0.7
    prior = FunctionPrior(lambda x, s: mean + (x - mean) * variance / (variance + s**2))
    slices = [mean + 0.3 * torch.randn(32, 32, generator=torch.Generator().manual_seed(2))]
    found = measured_statistics(prior, slices, LEVELS)
    share = np.array(LEVELS) ** 2 / (variance + np.array(LEVELS) ** 2)
    np.testing.assert_allclose(found.l, share, atol=1e-4)
    np.testing.assert_allclose(found.s, 0, atol=0.02)
    np.testing.assert_allclose(found.b[1:-1], (2 * mean * share * (1 - share))[1:-1], atol=0.03)


def test_units_and_sizes_do_not_matter():
    """The card's unit is taken off, and slices may differ in size."""
    plain = FunctionPrior(lambda x, s: x * 0.09 / (0.09 + s**2))
    physical = FunctionPrior(
        lambda x, s: ((x + 1000) / 500) * 0.09 / (0.09 + (s / 500) ** 2) * 500 - 1000, scale=500.0, offset=-1000.0
    )
    slices = [0.3 * torch.randn(size, 20, generator=torch.Generator().manual_seed(size)) for size in (12, 31)]
    first, second = (measured_statistics(prior, slices, LEVELS) for prior in (plain, physical))
    np.testing.assert_allclose(first.l, second.l, atol=1e-3)


def test_the_work_is_counted_and_a_nan_is_named():
    seen, done = [], []
    prior = FunctionPrior(lambda x, s: seen.append(s) or x / (1 + s))
    measured_statistics(
        prior, [torch.ones(4, 4)] * 3, LEVELS[:5], progress=lambda count, total: done.append((count, total))
    )
    assert len(seen) == 5 * 3 * 5 and done[-1] == (15, 15)
    broken = FunctionPrior(lambda x, s: x * (float("nan") if s < 0.5 and x.shape[-1] == 5 else 1))
    with pytest.raises(NonFinite, match=r"test, level 0\.\d+, slice 1: the prior returned NaN"):
        measured_statistics(broken, [torch.ones(4, 4), torch.ones(4, 5)], LEVELS)


def test_integrals_of_the_splines():
    """Against sums over a fine grid."""
    found = exact_statistics(torch.tensor([0.01, 1.0]), LEVELS)
    path, t = found.path(0.5), np.linspace(0, 1.5, 20001)
    along = np.array([found.linear(0.5 * float(np.exp(-x))) for x in t[::200]])
    np.testing.assert_allclose(path.linear(np.array(1.5)), np.trapezoid(along, t[::200]), rtol=1e-4)
    constant = ModelStatistics((2.0, 1.0, 0.1, 0.01), (0.5,) * 4, (-0.4,) * 4, (0.3,) * 4).path(1.0)
    np.testing.assert_allclose(constant.growth(t[::5000]), -0.4 * t[::5000], atol=1e-12)
    np.testing.assert_allclose(constant.offset(t[::5000]), 0.3 * np.expm1(0.4 * t[::5000]) / 0.4, atol=1e-12)


@pytest.mark.parametrize(
    "broken",
    [
        {"levels": [1.0, 0.5, 0.1]},
        {"levels": [0.1, 0.5, 1.0, 2.0]},
        {"levels": [1.0, 0.5, 0.1, 0.0]},
        {"s": [0.0, float("nan"), 0.0, 0.0]},
        {"b": [0.0]},
        {"l": "none"},
        {"l": None},
    ],
    ids=str,
)
def test_a_card_with_impossible_statistics_is_refused(broken: dict):
    fine = {"levels": [1.0, 0.5, 0.1, 0.01], "l": [1.0] * 4, "s": [0.0] * 4, "b": [0.0] * 4}
    values = vars(card())
    assert PriorCard.from_dict(values | {"statistics": fine}).statistics == fine
    with pytest.raises(InputError, match="the prior's card"):
        PriorCard.from_dict(values | {"statistics": fine | broken})
    with pytest.raises(InputError, match="the prior's card"):
        PriorCard.from_dict(values | {"statistics": {key: fine[key] for key in ("levels", "l", "s")}})
