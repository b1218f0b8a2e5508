"""Priors: cards, files, units, padding, and the Gaussian oracle."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.priors import SMALL, card, random_denoiser, small_network_prior
from medrecon.data.atomic import sha256_of_file
from medrecon.errors import CorruptInput, InputError, UsageError
from medrecon.network import EDMDenoiser, UNetConfig
from medrecon.prior import (
    GaussianPrior,
    NetworkPrior,
    PriorCard,
    bundled_priors,
    check_compatible,
    load_prior,
    read_card,
    save_prior,
)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- cards -------------------------------------------------------------------------------------------------

CURVE = ((0.02, 0.01), (0.2, 0.04), (1.0, 0.09))


def values(**changes: object) -> dict:
    """A card as JSON gives it: lists, no tuples."""
    return json.loads(json.dumps(asdict(card(error_curve=CURVE)) | changes))


def test_card_round_trip():
    assert PriorCard.from_dict(values()) == card(error_curve=CURVE)


@pytest.mark.parametrize(
    "missing",
    [
        "name",
        "quantity",
        "scale",
        "offset",
        "sigma_min",
        "sigma_max",
        "range",
        "spacing_mm",
        "architecture",
        "sigma_data",
    ],
)
def test_a_card_must_be_complete(missing: str):
    incomplete = values()
    del incomplete[missing]
    with pytest.raises(InputError, match=f"lacks fields.*{missing}"):
        PriorCard.from_dict(incomplete)


def test_a_card_from_the_future_is_refused():
    with pytest.raises(InputError, match=r"unknown fields.*\['colour'\]"):
        PriorCard.from_dict(values(colour="red"))


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": "1"},
        {"offset": float("nan")},
        {"sigma_data": 0},
        {"guide_error": 0.0},
        {"sigma_min": 0.0},
        {"sigma_min": 4.0},
        {"sigma_max": float("inf")},
        {"range": [1.0]},
        {"range": [1.0, 0.0]},
        {"range": 3},
        {"spacing_mm": []},
        {"spacing_mm": [1.0, -1.0]},
        {"orientation": "LP"},
        {"orientation": "LRS"},
        {"error_curve": [[0.2, 0.1], [0.1, 0.05]]},
        {"error_curve": [[0.2]]},
        {"error_curve": [[0.2, 0.0]]},
    ],
    ids=str,
)
def test_impossible_cards_are_refused(changes: dict):
    with pytest.raises(InputError, match="the prior's card"):
        PriorCard.from_dict(values(**changes))


@pytest.mark.parametrize("not_a_card", [3, [1, 2], "text", None])
def test_a_card_is_an_object(not_a_card: object):
    with pytest.raises(InputError, match="not a JSON object"):
        PriorCard.from_dict(not_a_card)  # type: ignore[arg-type]


# --- the validated error -----------------------------------------------------------------------------------


def test_the_error_curve_is_interpolated_in_logarithms():
    prior = small_network_prior(error_curve=CURVE)
    for level, error in CURVE:
        assert prior.rms_error(level) == pytest.approx(error)
    assert prior.rms_error((0.02 * 0.2) ** 0.5) == pytest.approx((0.01 * 0.04) ** 0.5)


def test_beyond_the_curve():
    """Below it the error falls in proportion to the noise; above it stays."""
    prior = small_network_prior(error_curve=CURVE)
    assert prior.rms_error(0.002) == pytest.approx(0.001)
    assert prior.rms_error(50.0) == pytest.approx(0.09)


def test_without_a_curve_the_error_is_the_noise_up_to_the_range():
    prior = small_network_prior(range=(0.0, 1.5))
    assert prior.rms_error(0.3) == pytest.approx(0.3)
    assert prior.rms_error(7.0) == pytest.approx(1.5)


# --- the Gaussian oracle -----------------------------------------------------------------------------------


def spectrum(height: int = 4, width: int = 6) -> torch.Tensor:
    frequency = torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.fftfreq(width)[None] ** 2
    return 1 / (0.05 + frequency)


def test_the_gaussian_prior_is_the_posterior_mean():
    """Against ``m + C (C + sigma^2 I)^-1 (x - m)`` with the dense periodic covariance."""
    power, mean, sigma = spectrum().double(), 0.7, 0.9
    kernel = torch.fft.ifft2(power).real
    height, width = power.shape
    covariance = torch.stack(
        [torch.roll(kernel, (i, j), (0, 1)).reshape(-1) for i in range(height) for j in range(width)]
    )
    x = noise((3, 1, height, width)).double()
    system = covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64)
    expected = mean + (covariance @ torch.linalg.solve(system, (x - mean).reshape(3, -1).T)).T.reshape(x.shape)
    torch.testing.assert_close(GaussianPrior(power, mean).denoise(x, sigma), expected)


def test_the_gaussian_prior_reports_its_own_error():
    """20 x 256 voxels drawn from the prior; the error's relative standard error is below 2 %."""
    power, sigma = spectrum(16, 16), 0.9
    prior = GaussianPrior(power)
    clean = torch.fft.ifft2(torch.fft.fft2(noise((20, 1, 16, 16))) * power.sqrt()).real
    error = prior.denoise(clean + sigma * noise((20, 1, 16, 16), 1), sigma) - clean
    assert float(error.square().mean().sqrt()) == pytest.approx(prior.rms_error(sigma), rel=0.06)


@pytest.mark.parametrize("prior", [GaussianPrior(spectrum(16, 16)), small_network_prior()], ids=["gaussian", "network"])
def test_without_noise_the_slices_come_back(prior):
    x = noise((2, 1, 16, 16))
    torch.testing.assert_close(prior.denoise(x, 1e-4), x, atol=2e-3, rtol=0)


# --- network priors ----------------------------------------------------------------------------------------


def test_card_units_map_to_network_units():
    """With ``physical = offset + scale * network`` a prior in HU gives what the same network gives in its own units."""
    plain, hounsfield = small_network_prior(), small_network_prior(scale=1000.0, offset=-1000.0)
    x = noise((2, 1, 16, 16))
    expected = plain.denoise(x, 0.3) * 1000 - 1000
    torch.testing.assert_close(hounsfield.denoise(x * 1000 - 1000, 300.0), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(15, 13), (1, 1), (17, 32), (4, 5)])
def test_any_size_comes_back_in_its_shape(size: tuple[int, int]):
    assert small_network_prior().denoise(noise((2, 1, *size)), 0.3).shape == (2, 1, *size)


def test_padding_repeats_the_border_and_is_cut_off_again():
    prior = small_network_prior()
    assert prior.denoiser.network.config.multiple == 4
    x = noise((2, 1, 14, 15))
    padded = torch.nn.functional.pad(x, (0, 1, 0, 2), mode="replicate")
    assert torch.equal(prior.denoise(x, 0.3), prior.denoise(padded, 0.3)[..., :14, :15])


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_the_batch_size_changes_rounding_only(batch: int):
    x = noise((8, 1, 20, 22))
    expected = small_network_prior().denoise(x, 0.3)
    prior = NetworkPrior(random_denoiser(), card(), batch=batch)
    assert (prior.denoise(x, 0.3) - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_denoising_leaves_its_input_alone_and_repeats():
    prior, x = small_network_prior(), noise((2, 1, 16, 16))
    copy = x.clone()
    first = prior.denoise(x, 0.3)
    assert torch.equal(x, copy)
    assert torch.equal(prior.denoise(x, 0.3), first)
    assert first.is_contiguous()
    assert not first.requires_grad


def test_guide_slices_reach_the_network():
    config = replace(SMALL, channels_in=4)
    prior = NetworkPrior(random_denoiser(config), card(architecture=config.to_dict()))
    assert prior.guides == 3
    x, guide = noise((3, 1, 10, 13)), noise((3, 3, 10, 13), 1)
    found = prior.denoise(x, 0.3, guide)
    assert found.shape == x.shape
    for channel in range(3):
        changed = guide.clone()
        changed[:, channel] += 1
        assert (prior.denoise(x, 0.3, changed) - found).abs().max() > 1e-3


def test_a_guide_is_in_the_units_of_the_card():
    config = replace(SMALL, channels_in=4)
    plain, hounsfield = (
        NetworkPrior(random_denoiser(config), card(architecture=config.to_dict(), scale=s, offset=o))
        for s, o in ((1.0, 0.0), (1000.0, -1000.0))
    )
    x, guide = noise((2, 1, 16, 16)), noise((2, 3, 16, 16), 1)
    expected = plain.denoise(x, 0.3, guide) * 1000 - 1000
    found = hounsfield.denoise(x * 1000 - 1000, 300.0, guide * 1000 - 1000)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_a_prior_without_guide_channels_ignores_a_guide():
    prior, x = small_network_prior(), noise((2, 1, 16, 16))
    assert torch.equal(prior.denoise(x, 0.3, noise((2, 3, 16, 16), 1)), prior.denoise(x, 0.3))


# --- files -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_prior(path, random_denoiser(), card(error_curve=CURVE), half=False)
    return path


def test_round_trip(saved: Path):
    prior = load_prior(str(saved))
    assert replace(prior.card, sha256="") == card(error_curve=CURVE)
    assert prior.card.sha256 == sha256_of_file(saved)
    x = noise((2, 1, 16, 16))
    assert torch.equal(prior.denoise(x, 0.3), small_network_prior().denoise(x, 0.3))


def test_half_precision_changes_little(tmp_path: Path, saved: Path):
    path = tmp_path / "half.safetensors"
    save_prior(path, random_denoiser(), card())
    assert path.stat().st_size < 0.7 * saved.stat().st_size
    x = noise((2, 1, 16, 16))
    exact = small_network_prior().denoise(x, 0.3)
    assert (load_prior(str(path)).denoise(x, 0.3) - exact).abs().max() < 5e-3 * exact.abs().max()


def test_saving_does_not_overwrite_unasked(saved: Path):
    before = saved.read_bytes(), saved.with_suffix(".json").read_bytes()
    with pytest.raises(UsageError):
        save_prior(saved, random_denoiser(UNetConfig(widths=(8, 8))), card())
    assert (saved.read_bytes(), saved.with_suffix(".json").read_bytes()) == before
    save_prior(saved, random_denoiser(), card(name="other"), overwrite=True)
    assert load_prior(str(saved)).card.name == "other"


def test_a_prior_is_written_as_safetensors(tmp_path: Path):
    with pytest.raises(UsageError, match="safetensors"):
        save_prior(tmp_path / "small.pt", random_denoiser(), card())
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_found(saved: Path):
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CorruptInput, match=r"small.safetensors: the weights do not match their card"):
        load_prior(str(saved))


@pytest.mark.parametrize("keep", [0, 4, 200, 0.5])
def test_truncated_weights_are_found_without_the_hash_too(saved: Path, keep: float):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep if keep > 1 or keep == 0 else keep * len(content))])
    with pytest.raises(CorruptInput, match="do not match"):
        load_prior(str(saved))
    with pytest.raises(CorruptInput, match="not a readable safetensors file"):
        load_prior(str(saved), verify=False)


def rewrite_card(path: Path, **changes: object) -> None:
    target = path.with_suffix(".json")
    target.write_text(json.dumps(json.loads(target.read_text()) | changes))


def test_weights_of_another_architecture_are_refused(saved: Path):
    rewrite_card(saved, architecture=SMALL.to_dict() | {"widths": [8, 24]})
    with pytest.raises(CorruptInput, match="do not fit the card's architecture"):
        load_prior(str(saved))


def test_weights_of_another_family_say_which(saved: Path):
    """Names of ADM under a card of the package's own network."""
    names = ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight", "out.2.weight")
    save_file({name: torch.zeros(2) for name in names}, saved)
    rewrite_card(saved, sha256="")
    with pytest.raises(CorruptInput, match=r"do not fit.*100% of the names are those of adm; expected lean"):
        load_prior(str(saved))


@pytest.mark.parametrize(
    "architecture", [{}, {"widths": 3}, {"widths": [8], "colour": 1}, {"widths": [8, -8]}, {"widths": []}], ids=str
)
def test_an_architecture_that_cannot_be_built_is_refused(saved: Path, architecture: dict):
    rewrite_card(saved, architecture=architecture)
    with pytest.raises(InputError, match="architecture"):
        load_prior(str(saved))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{'a': 1}"])
def test_a_damaged_card_is_found(saved: Path, content: bytes):
    saved.with_suffix(".json").write_bytes(content)
    with pytest.raises(CorruptInput, match=r"small.json: the prior's card is not valid JSON"):
        load_prior(str(saved))


def test_a_missing_card_is_named(saved: Path):
    saved.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"small.json: the prior has no card beside it.*medrecon priors import"):
        read_card(str(saved))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere.safetensors: there is no such prior file"):
        load_prior(str(tmp_path / "nowhere.safetensors"))


def test_an_unknown_name_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown prior 'no-such-prior'"):
        load_prior("no-such-prior")


def test_a_folder_of_the_same_name_does_not_hide_a_bundled_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in bundled_priors():
        (tmp_path / name).mkdir()
        assert read_card(name).name == name


def test_bundled_priors_load_and_denoise():
    """Each shipped prior matches its card and removes noise from a flat slice: tissue, or no waves."""
    for name in bundled_priors():
        prior = load_prior(name)
        low, high = prior.card.range
        flat = torch.full((2, 1, 40, 40), 0.0 if prior.card.signed else low + 0.3 * (high - low))
        sigma = (prior.card.sigma_min * prior.card.sigma_max) ** 0.5
        found = prior.denoise(flat + sigma * noise(flat.shape), sigma)
        assert float((found - flat).square().mean().sqrt()) < 0.7 * sigma, name


# --- is it the right prior? --------------------------------------------------------------------------------


def test_a_prior_of_another_quantity_is_refused():
    with pytest.raises(InputError, match=r"another quantity.*found HU.*expected a.u.") as caught:
        check_compatible(card(quantity="HU"), "a.u.", [0.0, 1.0])
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("low", "high", "fits"), [(0.0, 1.5, True), (-1.0, 2.5, True), (-2.0, 1.0, False), (0, 50, False)]
)
def test_values_far_out_of_range_are_refused(low: float, high: float, fits: bool):
    """Up to the width of the range beyond its ends is accepted: noise and streaks reach there."""
    prior_card = card(range=(0.0, 1.5))
    if fits:
        check_compatible(prior_card, "a.u.", [low, high])
    else:
        with pytest.raises(InputError, match="far outside the range"):
            check_compatible(prior_card, "a.u.", [low, high])


@pytest.mark.parametrize("sigma_data", [0.2, 0.5])
def test_an_untrained_prior_is_its_preconditioning(sigma_data: float):
    prior = NetworkPrior(EDMDenoiser(SMALL, sigma_data), card(sigma_data=sigma_data))
    x = noise((1, 1, 8, 8))
    torch.testing.assert_close(prior.denoise(x, 0.3), x * sigma_data**2 / (sigma_data**2 + 0.09))
