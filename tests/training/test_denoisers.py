"""The denoisers that a prior is compared with, and the search for memorised slices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bodies import body, corpus_folder
from helpers.priors import SMALL, random_denoiser
from medrecon.network import EDMDenoiser
from medrecon.training.corpus import Corpus, load_corpus
from medrecon.training.denoisers import (
    bm3d_denoise,
    network_denoise,
    sample_slices,
    tuned_tv,
    tv_denoise,
)
from medrecon.training.memorisation import memorisation, nearest, signature, signatures


def boxes(count: int = 3) -> torch.Tensor:
    x = torch.zeros(count, 1, 32, 40)
    for number in range(count):
        x[number, 0, 6:22, 8 + 2 * number : 30] = 1.0
        x[number, 0, 10:14, 14:20] = 0.4
    return x


def test_total_variation_agrees_with_another_implementation() -> None:
    chambolle = pytest.importorskip("skimage.restoration").denoise_tv_chambolle
    noisy = boxes() + 0.2 * torch.randn(3, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    ours = tv_denoise(noisy, 0.15)
    for number in range(3):
        other = chambolle(noisy[number, 0].numpy(), weight=0.15, eps=1e-8, max_num_iter=3000)
        assert np.abs(ours[number, 0].numpy() - other).max() < 0.01


def test_the_tuned_weight_is_the_best_of_a_fine_grid() -> None:
    clean = boxes()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.05, 0.3):
        chosen = tuned_tv(clean, sigma, noise)
        errors = [
            float((tv_denoise(clean + sigma * noise, chosen * factor) - clean).square().mean())
            for factor in (0.5, 1 / 1.3, 1.0, 1.3, 2.0)
        ]
        assert min(errors) == errors[2]


def test_network_in_parts_equals_the_whole() -> None:
    network = random_denoiser()
    x = torch.randn(11, 1, 16, 16)
    together = network_denoise(network, x, 0.3)
    one_by_one = torch.cat([network_denoise(network, image[None], 0.3) for image in x])
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-5)


def test_samples_of_an_untrained_network_have_the_spread_of_its_data() -> None:
    """Untrained, the denoiser is the exact one of white noise of standard deviation sigma_data."""
    network = EDMDenoiser(SMALL, 0.4)
    samples = sample_slices(network, 4, 32, (0.002, 20.0), steps=200, seed=1)
    assert float(samples.std()) == pytest.approx(0.4, rel=0.03)
    assert torch.equal(samples, sample_slices(network, 4, 32, (0.002, 20.0), steps=200, seed=1))


def test_bm3d_where_it_is_installed() -> None:
    pytest.importorskip("bm3d")
    clean = boxes(1)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    error = (bm3d_denoise(noisy, 0.1) - clean).square().mean()
    assert float(error) < 0.25 * float((noisy - clean).square().mean())


# --- memorisation ----------------------------------------------------------------------------------------------
@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return load_corpus(corpus_folder(tmp_path / "data", 4), tmp_path / "cache", minimum_pixels=60)


def new_slices() -> Iterator[np.ndarray]:
    for seed in range(100, 104):
        yield from (body(seed).array[::3] + 1000) / 1000


def test_place_and_mirror_do_not_hide_a_slice() -> None:
    image = (body(0).array[4] + 1000) / 1000
    moved = np.pad(image, ((9, 2), (0, 5)))
    first, second = signature(image), signature(moved)
    assert first is not None and second is not None
    np.testing.assert_allclose(first, second, atol=1e-6)
    mirrored = signatures([image[:, ::-1]])
    assert nearest(mirrored, first[None])[0] < 0.05
    assert signature(np.zeros((8, 8))) is None


def test_planted_copies_are_found_and_new_slices_are_not(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    copy = corpus.whole(17)
    planted = [
        copy + 0.01 * rng.standard_normal(copy.shape).astype(np.float32) * (copy > 0.1),
        np.roll(corpus.whole(30), (2, -3), (0, 1))[:, ::-1],
    ]
    fresh = [(body(seed).array[5] + 1000) / 1000 for seed in (201, 202, 203)]
    report = memorisation({"planted": planted, "fresh": fresh}, corpus, new_slices())
    assert report["planted"]["copies"] == 2  # type: ignore[index]
    assert report["fresh"]["copies"] == 0  # type: ignore[index]
    assert report["fresh"]["median"] > 0.5  # type: ignore[index]
    assert report["training_slices"] == 48 and report["validation_slices"] == 16


def test_nothing_to_compare(corpus: Corpus) -> None:
    assert memorisation({"sampled": [np.zeros((16, 16))]}, corpus, []) == {}
    empty = memorisation({"sampled": [np.zeros((16, 16))]}, corpus, new_slices())
    assert "sampled" not in empty
