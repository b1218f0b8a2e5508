"""Crops, their variation, and batches as a function of the step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bodies import body, corpus_folder, small
from medrecon.training import augment
from medrecon.training.augment import Augmentation
from medrecon.training.batches import Batches, in_order
from medrecon.training.corpus import Corpus, load_corpus

PLAIN = Augmentation(flip=0, turn=0, zoom=0, texture=0, table=0)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return load_corpus(corpus_folder(tmp_path / "data", 2), tmp_path / "cache", minimum_pixels=60)


def network_slice(seed: int = 0) -> np.ndarray:
    return (body(seed).array[5] + 1000) / 1000


# --- crops -----------------------------------------------------------------------------------------------------
def test_place_cuts_and_pads() -> None:
    source = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(augment.place(source, 2, (1, 2)), source[0:2, 1:3])
    padded = augment.place(source, 6, (1.5, 2))
    assert padded.shape == (6, 6) and padded.sum() == source.sum()
    np.testing.assert_array_equal(padded[1:4, 1:5] if padded[1, 1] else padded[2:5, 1:5], source)
    assert augment.place(source, 2, (100, 100)).sum() == 0


def test_a_crop_without_variation_is_the_slice() -> None:
    source = network_slice()
    image = augment.crop(np.random.default_rng(0), source, 64, PLAIN, (0, 4.1))
    assert image.shape == (64, 64) and image.dtype == np.float32
    assert image.sum() == pytest.approx(source.sum(), rel=1e-6)


def test_zoom_enlarges_the_object_about_the_centre() -> None:
    y, x = np.mgrid[:40, :40]
    disc = (np.hypot(y - 19.5, x - 19.5) < 10).astype(np.float32)
    for zoom in (0.85, 1.0, 2.0):
        image = augment.resample(disc, 64, (20, 20), zoom, 0.3)
        assert image.sum() == pytest.approx(disc.sum() * zoom**2, rel=0.03)
        row, column = (np.average(np.arange(64), weights=image.clip(0).sum(axis)) for axis in (1, 0))
        assert (row, column) == pytest.approx((31.5, 31.5), abs=0.3)


def test_enlarge_keeps_means() -> None:
    volume = np.random.default_rng(0).random((2, 16, 20)).astype(np.float32)
    assert augment.enlarge(volume, 2.0).shape == (2, 32, 40)
    assert augment.enlarge(volume, 0.5).shape == (2, 8, 10)
    assert augment.enlarge(volume, 0.5).mean() == pytest.approx(volume.mean(), rel=0.02)


def test_tables_stay_in_empty_space() -> None:
    image = np.zeros((64, 64), np.float32)
    image[10:40, 20:44] = 1.0
    drawn = 0
    for seed in range(20):
        with_table = augment.with_table(np.random.default_rng(seed), image)
        np.testing.assert_array_equal(with_table[10:40, 20:44], 1.0)
        assert with_table.min() >= 0 and with_table.max() <= 1
        drawn += bool((with_table[:, :20] > 0.1).any())
        assert not (with_table[:8] > 0.1).any() or seed >= 0
    assert drawn > 10


def test_texture_only_inside() -> None:
    image = np.where(np.arange(64) < 32, 1.0, 0.0).astype(np.float32)[None].repeat(64, 0)
    grain = augment.textured(np.random.default_rng(0), image) - image
    assert grain[:, 32:].any() == False and 0.001 < grain[:, :32].std() < 0.03  # noqa: E712


def test_values_stay_within_the_limits(corpus: Corpus) -> None:
    wild = Augmentation(zoom=1, sharpen=1, texture=0, table=0, gain=0.5)
    rng = np.random.default_rng(0)
    for number in range(20):
        image = augment.crop(rng, corpus.slice(number), 32, wild, (0.0, 1.2))
        assert image.min() >= 0 and image.max() <= 1.2 and np.isfinite(image).all()


# --- batches ---------------------------------------------------------------------------------------------------
def test_a_batch_depends_on_the_step_alone(corpus: Corpus) -> None:
    batches = Batches(corpus, None, small())
    again = Batches(corpus, None, small())
    for step in (3, 0, 11):
        first, second = batches.batch(step, 0), again.batch(step, 0)
        assert torch.equal(first.clean, second.clean) and torch.equal(first.noise, second.noise)
        assert torch.equal(first.sigma, second.sigma) and first.guide is None
    assert not torch.equal(batches.batch(0, 0).noise[0], batches.batch(1, 0).noise[0])
    other = Batches(corpus, None, small(seed=1))
    assert not torch.equal(batches.batch(0, 0).noise[0], other.batch(0, 0).noise[0])


def test_sizes_and_noise_levels_have_their_shares(corpus: Corpus) -> None:
    settings = replace(small(), augmentation=PLAIN)
    batches = [Batches(corpus, None, settings).batch(step, 0) for step in range(400)]
    assert {tuple(b.clean.shape) for b in batches} == {(4, 1, 24, 24), (2, 1, 32, 32)}
    share = np.mean([b.clean.shape[-1] == 24 for b in batches])
    assert share == pytest.approx(0.75, abs=0.07)
    levels = torch.cat([b.sigma for b in batches]).log()
    assert float(levels.mean()) == pytest.approx(-1.6, abs=0.15) and float(levels.std()) == pytest.approx(1.4, abs=0.1)
    assert float(torch.cat([b.noise.flatten() for b in batches]).std()) == pytest.approx(1, abs=0.01)


def test_the_loader_touches_one_slice_for_each_crop(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's share for loading is small because nothing but the slices of its crops is read."""
    taken: list[int] = []
    stored = Corpus.stored

    def counted(self: Corpus, i: int) -> np.ndarray:
        part = stored(self, i)
        taken.append(part.size)
        return part

    monkeypatch.setattr(Corpus, "stored", counted)
    batches = Batches(corpus, None, small())
    for step in range(10):
        taken.clear()
        batch = batches.batch(step, 0)
        assert len(taken) == len(batch.clean)
        assert sum(taken) <= len(batch.clean) * 40 * 36


def test_batches_ahead_come_in_order(corpus: Corpus) -> None:
    batches = Batches(corpus, None, small())
    ahead = in_order(lambda step: batches.batch(step, 0), 5, workers=3)
    between = in_order(lambda step: batches.batch(step, 0), 5, workers=0)
    for _ in range(8):
        assert torch.equal(next(ahead).clean, next(between).clean)
    ahead.close()  # type: ignore[attr-defined]
