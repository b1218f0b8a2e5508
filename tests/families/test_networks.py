"""Each published family: weights in the original layout, read, converted and compared with the formulas."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import published
from helpers.importing import FACTS, UNIT, assert_close, hounsfield, imported, saved, slices
from medrecon.errors import CorruptInput, InputError, UsageError
from medrecon.families import checkpoint_families


# --- NCSN++ ----------------------------------------------------------------------------------------------------
def ncsnpp_file(path: Path, *, prefix: str = "module.", levels: bool = True, **changes: object) -> tuple[Path, dict]:
    """As score_sde saves it; the averaged weights differ from the plain ones."""
    shapes = published.ncsnpp_shapes()
    plain, averaged = published.random_weights(shapes, 1), published.random_weights(shapes, 2)
    averaged["all_modules.0.W"] = plain["all_modules.0.W"] = 16 * plain["all_modules.0.W"]
    table: dict = OrderedDict()
    if levels:
        table[f"{prefix}sigmas"] = torch.linspace(np.log(50.0), np.log(0.02), 100).exp()
    table.update({prefix + key: value for key, value in plain.items()})
    shadow = [averaged[key] for key in shapes if key != "all_modules.0.W"]
    content = {
        "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4}]},
        "model": table,
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": shadow},
        "step": 7,
    }
    return saved(content | changes, path), averaged


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_ncsnpp(tmp_path: Path, prefix: str) -> None:
    path, weights = ncsnpp_file(tmp_path / "checkpoint_95.pth", prefix=prefix)
    prior = imported(path, UNIT)
    noisy, x = slices(UNIT)
    for sigma in (0.05, 0.8):
        score = published.ncsnpp(weights, x, torch.full((2,), sigma))
        found = prior.denoise(noisy, sigma * 3000)
        assert_close(found, hounsfield(x + sigma**2 * score, UNIT), noisy)
    assert (prior.card.sigma_min, prior.card.sigma_max) == pytest.approx((60, 150000), rel=1e-5)


def test_ncsnpp_without_averaging_and_without_levels(tmp_path: Path) -> None:
    """The range is 0 to 1 without being said; the levels are those of the published medical networks."""
    path, _ = ncsnpp_file(tmp_path / "checkpoint.pth", levels=False)
    prior = imported(path, replace(UNIT, network_range=None), ema=False)
    noisy, x = slices(UNIT)
    weights = {key.removeprefix("module."): value for key, value in torch.load(path)["model"].items()}
    expected = x + 0.25 * published.ncsnpp(weights, x, torch.full((2,), 0.5))
    assert_close(prior.denoise(noisy, 1500.0), hounsfield(expected, UNIT), noisy)
    assert (prior.card.sigma_min, prior.card.sigma_max) == pytest.approx((30, 378 * 3000))


def test_ncsnpp_at_another_size(tmp_path: Path) -> None:
    """Attention belongs to a level, not to a number of pixels."""
    path, weights = ncsnpp_file(tmp_path / "checkpoint.pth")
    prior = imported(path, UNIT)
    noisy, x = slices(UNIT, 24)
    expected = x + 0.25 * published.ncsnpp(weights, x, torch.full((2,), 0.5))
    assert_close(prior.denoise(noisy, 1500.0), hounsfield(expected, UNIT), noisy)


@pytest.mark.parametrize("fault", ["short", "swapped", "nothing"])
def test_averaged_weights_that_do_not_fit(tmp_path: Path, fault: str) -> None:
    path, _ = ncsnpp_file(tmp_path / "checkpoint.pth")
    content = torch.load(path)
    shadow = content["ema"]["shadow_params"]
    content["ema"]["shadow_params"] = {
        "short": shadow[:-1],
        "swapped": [*shadow[:-2], shadow[-1], shadow[-2]],
        "nothing": None,
    }[fault]
    saved(content, path)
    with pytest.raises(CorruptInput, match=r"checkpoint.pth.*averaged weight"):
        imported(path, UNIT)


def test_a_network_that_counts_steps_is_not_read_as_variance_exploding(tmp_path: Path) -> None:
    path, _ = ncsnpp_file(tmp_path / "checkpoint.pth")
    content = torch.load(path)
    del content["model"]["module.all_modules.0.W"], content["ema"]
    saved(content, path)
    with pytest.raises(InputError, match="only continuous variance-exploding"):
        imported(path, UNIT)


# --- ADM -------------------------------------------------------------------------------------------------------
def linear_levels() -> np.ndarray:
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    return np.sqrt((1 - kept) / kept)


def vp_denoised(noise: Tensor, x: Tensor, sigma: float) -> Tensor:
    return x - sigma * noise[:, : x.shape[1]]


@pytest.mark.parametrize(("film", "in_block"), [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("place", ["bare", "state_dict", "ema"])
def test_adm(tmp_path: Path, film: bool, in_block: bool, place: str) -> None:
    weights = published.random_weights(published.adm_shapes(film, in_block))
    content: dict = {"bare": weights, "state_dict": {"state_dict": weights, "epoch": 3}, "ema": {"ema": weights}}[place]
    prior = imported(saved(content, tmp_path / "ema_0.9999.pt"), FACTS)
    noisy, x = slices(FACTS)
    levels = linear_levels()
    for step in (20, 400):
        sigma = float(levels[step])
        answer = published.adm(weights, x / (1 + sigma**2) ** 0.5, torch.full((2,), float(step)))
        found = prior.denoise(noisy, sigma * 1500)
        assert_close(found, hounsfield(vp_denoised(answer, x, sigma), FACTS), noisy)
    assert prior.card.sigma_max == pytest.approx(1500 * levels[-1])


@pytest.mark.parametrize(("settings", "heads", "new_order"), [
    ({"heads": 4}, 4, False), ({"head_channels": 32, "new_attention_order": True}, 2, True),
])  # fmt: skip
def test_heads_of_adm(tmp_path: Path, settings: dict, heads: int, new_order: bool) -> None:
    """The file cannot tell them, so they are said; DDS-CT takes 0 to 1 where others take -1 to 1."""
    weights = published.random_weights(published.adm_shapes())
    prior = imported(saved(weights, tmp_path / "x.pt"), UNIT, **settings)
    noisy, x = slices(UNIT)
    sigma = float(linear_levels()[300])
    answer = published.adm(weights, x / (1 + sigma**2) ** 0.5, torch.full((2,), 300.0), heads, new_order)
    assert_close(prior.denoise(noisy, sigma * 3000), hounsfield(vp_denoised(answer, x, sigma), UNIT), noisy)


def test_cosine_noise_of_adm(tmp_path: Path) -> None:
    weights = published.random_weights(published.adm_shapes(out=1))
    prior = imported(saved(weights, tmp_path / "x.pt"), FACTS, betas="cosine")
    noisy, x = slices(FACTS)
    share = np.cos((np.arange(301) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    kept = share[-1] / share[0]  # after step 299
    sigma = float(((1 - kept) / kept) ** 0.5)
    answer = published.adm(weights, x * kept**0.5, torch.full((2,), 299.0))
    assert_close(prior.denoise(noisy, sigma * 1500), hounsfield(vp_denoised(answer, x, sigma), FACTS), noisy)


def test_adm_must_be_told_its_range(tmp_path: Path) -> None:
    path = saved(published.random_weights(published.adm_shapes()), tmp_path / "x.pt")
    with pytest.raises(UsageError, match="--network-range"):
        imported(path, replace(FACTS, network_range=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_emb.weight": torch.zeros(10, 128)}, "class label"),
        ({"input_blocks.0.0.weight": torch.zeros(32, 1, 3, 3, 3)}, "not a network for 2D"),
        ({"input_blocks.0.0.weight": torch.zeros(32, 3, 3, 3)}, "neither as many channels"),
    ],
)
def test_variants_of_adm_that_are_not_read(tmp_path: Path, change: dict, message: str) -> None:
    weights = published.random_weights(published.adm_shapes()) | change
    with pytest.raises(InputError, match=rf"x.pt: .*{message}"):
        imported(saved(weights, tmp_path / "x.pt"), FACTS)


def test_heads_that_do_not_divide(tmp_path: Path) -> None:
    path = saved(published.random_weights(published.adm_shapes()), tmp_path / "x.pt")
    with pytest.raises(UsageError, match="cannot be divided"):
        imported(path, FACTS, heads=5)


# --- EDM, InverseBench -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["dhariwal", "song"])
@pytest.mark.parametrize("layout", ["inversebench", "network"])
def test_edm(tmp_path: Path, kind: str, layout: str) -> None:
    weights = published.edm_weights(kind)
    held = {f"model.{key}": value for key, value in weights.items()}
    other = {key: value + 1 for key, value in held.items()}
    content = {"ema": held, "net": other} if layout == "inversebench" else weights
    prior = imported(saved(content, tmp_path / "ffhq.pt"), FACTS)
    noisy, x = slices(FACTS)
    for sigma in (0.05, 2.0):
        expected = published.edm(weights, x, torch.full((2,), sigma))
        assert_close(prior.denoise(noisy, sigma * 1500), hounsfield(expected, FACTS), noisy)
    assert (prior.card.sigma_min, prior.card.sigma_max) == pytest.approx((3.0, 120000.0))


def test_augmentation_of_edm_is_zero_at_use(tmp_path: Path) -> None:
    weights = published.edm_weights("song")
    plain = imported(saved(weights, tmp_path / "a.pt"), FACTS, sigma_data=0.3)
    told = imported(
        saved(weights | {"map_augment.weight": torch.ones(16, 9)}, tmp_path / "b.pt"), FACTS, sigma_data=0.3
    )
    noisy, x = slices(FACTS)
    assert torch.equal(plain.denoise(noisy, 300.0), told.denoise(noisy, 300.0))
    assert_close(
        told.denoise(noisy, 300.0), hounsfield(published.edm(weights, x, torch.full((2,), 0.2), 0.3), FACTS), noisy
    )


def test_edm_with_an_encoder_as_in_ncsnpp_is_not_read(tmp_path: Path) -> None:
    weights = published.edm_weights("song") | {"map_noise.freqs": torch.ones(8)}
    with pytest.raises(InputError, match="variant of EDM's networks"):
        imported(saved(weights, tmp_path / "x.pt"), FACTS)


# --- DRUNet ----------------------------------------------------------------------------------------------------
def test_drunet(tmp_path: Path) -> None:
    """Its range is 0 to 1 without being said."""
    weights = published.random_weights(published.drunet_shapes())
    prior = imported(saved(weights, tmp_path / "drunet_gray.pth"), replace(FACTS, network_range=None))
    noisy, x = slices(UNIT)
    expected = published.drunet(weights, x, torch.full((2,), 0.1))
    assert_close(prior.denoise(noisy, 300.0), hounsfield(expected, UNIT), noisy)
    assert prior.card.sigma_max == pytest.approx(3000 * 50 / 255)


def test_a_denoiser_that_is_not_told_the_noise(tmp_path: Path) -> None:
    weights = published.random_weights(published.drunet_shapes())
    weights["m_head.weight"] = weights["m_head.weight"][:, :1]
    with pytest.raises(InputError, match="not told the noise level"):
        imported(saved(weights, tmp_path / "x.pth"), FACTS)


# --- all -------------------------------------------------------------------------------------------------------
def examples() -> dict[str, dict[str, Tensor]]:
    return {
        "ncsnpp": published.random_weights(published.ncsnpp_shapes()),
        "adm": published.random_weights(published.adm_shapes()),
        "edm": published.edm_weights("dhariwal"),
        "drunet": published.random_weights(published.drunet_shapes()),
    }


@pytest.mark.parametrize("family", list(examples()))
def test_a_name_that_has_no_place_is_named(tmp_path: Path, family: str) -> None:
    weights = examples()[family] | {"extra.weight": torch.zeros(3)}
    with pytest.raises(InputError, match=r"extra.weight has no place"):
        imported(saved(weights, tmp_path / "x.pt"), FACTS)


@pytest.mark.parametrize("family", list(examples()))
def test_a_missing_tensor_is_named(tmp_path: Path, family: str) -> None:
    weights = examples()[family]
    gone = [key for key in weights if key.endswith("bias") or "drunet" in family][-1]
    del weights[gone]
    with pytest.raises(InputError, match=rf"{gone}"):
        imported(saved(weights, tmp_path / "x.pt"), FACTS)


@pytest.mark.parametrize("family", list(examples()))
@pytest.mark.parametrize("wanted", ["monai", "adm", "drunet"])
def test_a_checkpoint_of_another_family_says_which(tmp_path: Path, family: str, wanted: str) -> None:
    path = saved(examples()[family], tmp_path / "x.pt")
    if wanted == family:
        return
    with pytest.raises(InputError, match=rf"does not look like a checkpoint of {wanted}; found 100% .* of {family}"):
        imported(path, replace(FACTS, family=wanted))


def test_a_checkpoint_of_no_family_names_the_nearest(tmp_path: Path) -> None:
    """As of a network that nobody here knows: one name in four is ADM's."""
    names = ["init_conv.weight", "downs.0.0.weight", "final.weight", "out.0.weight"]
    path = saved({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"no known family; found init_conv.weight.*25% .* of (adm|monai)"):
        imported(path, FACTS)


def test_unknown_settings_and_families(tmp_path: Path) -> None:
    path = saved(examples()["adm"], tmp_path / "x.pt")
    with pytest.raises(UsageError, match=r"unknown setting of adm 'head_chanels'.*head_channels"):
        imported(path, FACTS, head_chanels=8)
    with pytest.raises(UsageError, match="unknown network family 'admm'"):
        imported(path, replace(FACTS, family="admm"))
    with pytest.raises(UsageError, match="heads has the wrong type"):
        imported(path, FACTS, heads="four")


@pytest.mark.parametrize("family", list(examples()))
def test_slices_do_not_depend_on_their_neighbours(tmp_path: Path, family: str) -> None:
    prior = imported(saved(examples()[family], tmp_path / "x.pt"), FACTS)
    noisy, _ = slices(FACTS)
    together = prior.denoise(noisy, 300.0)
    alone = torch.cat([prior.denoise(one[None], 300.0) for one in noisy])
    assert (together - alone).abs().max() < 1e-3 * together.std()


def test_every_family_says_what_it_is() -> None:
    for name, family in checkpoint_families().items():
        assert family.__doc__, name
        assert family.names, name
