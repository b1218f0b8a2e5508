"""Pairs of truth and classical volume."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bodies import corpus_folder, small
from helpers.priors import SMALL, card
from helpers.problems import empty_scan
from medrecon.data.volume import Volume
from medrecon.errors import CorruptInput, InputError, MedreconError, UsageError
from medrecon.network import EDMDenoiser
from medrecon.prior import read_card, save_prior
from medrecon.problem import Problem
from medrecon.training.batches import Batches
from medrecon.training.corpus import STEP, Corpus, load_corpus
from medrecon.training.guides import BackgroundMaker, PairFolder, PairSettings, guide_maker, guide_makers, make_pair


@guide_makers.register("test-blur")
def blurred(truth: Volume, rng: np.random.Generator, views: int | None = None) -> tuple[Problem, Volume]:
    """The truth smoothed along z, minus a constant: a classical volume that costs nothing."""
    array = truth.array
    padded = np.concatenate([array[:1], array, array[-1:]])
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3 - (views or rng.integers(5, 20))
    return empty_scan(truth), truth.with_array(smooth)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return load_corpus(corpus_folder(tmp_path / "data", 2), tmp_path / "cache", minimum_pixels=60)


def test_total_variation_of_few_views_is_near_the_truth_but_not_it(corpus: Corpus) -> None:
    truth, guide = make_pair(corpus, PairSettings(enlarged=0.0, views=(12,), frame=48), 0)
    error = float(np.sqrt(((truth - guide) ** 2).mean()))
    assert 0.005 < error < 0.25
    assert np.corrcoef(truth.ravel(), guide.ravel())[0, 1] > 0.9
    assert guide.min() >= -1e-3  # attenuation is not negative


def test_a_pair_depends_on_its_number_alone(corpus: Corpus) -> None:
    recipe = PairSettings("test-blur")
    np.testing.assert_array_equal(make_pair(corpus, recipe, 3), make_pair(corpus, recipe, 3))
    first, second = make_pair(corpus, recipe, 0), make_pair(corpus, recipe, 1)
    assert first.shape != second.shape or not np.array_equal(first, second)


def untrained(path: Path) -> dict[str, str]:
    """A guided prior for HU, as settings of pairs."""
    network = EDMDenoiser(replace(SMALL, channels_in=4), 0.4)
    save_prior(path, network, card(quantity="HU", scale=1000.0, offset=-1000.0, sigma_min=5.0, sigma_max=5000.0,
                                   range=(-1000.0, 3000.0), orientation="LPS",
                                   architecture=network.network.config.to_dict()))  # fmt: skip
    return {"prior": str(path), "prior_sha256": read_card(str(path)).sha256}


def test_a_prior_refines_the_classical_volume_as_the_method_does(corpus: Corpus, tmp_path: Path) -> None:
    """The untrained guided prior returns its guide (mixed with a little of the noisy slice, which is the guide too), so
    that a round is a data step from the classical volume: nearer to the data, and near to where it began."""
    recipe = PairSettings(enlarged=0.0, views=(12,), frame=48)
    plain = make_pair(corpus, recipe, 0)
    refining = replace(recipe, refined=2, **untrained(tmp_path / "prior.safetensors"))
    refined = make_pair(corpus, refining, 0)
    assert refined.shape == (4, *plain.shape[1:])
    np.testing.assert_array_equal(refined[:2], plain)
    moved = np.abs(refined[2:] - plain[1]).mean((1, 2, 3))
    assert 1e-5 < moved[0] < 0.05 and 1e-5 < moved[1] < 0.05
    with pytest.raises(InputError, match="has changed"):
        make_pair(corpus, replace(refining, prior_sha256="0" * 64), 0)


def test_the_place_of_the_prior_does_not_matter_but_its_weights_do(corpus: Corpus, tmp_path: Path) -> None:
    recipe = PairSettings("test-blur", count=1)
    PairFolder(tmp_path / "pairs", corpus, recipe).make()
    assert PairFolder(tmp_path / "pairs", corpus, replace(recipe, prior="elsewhere")).ready() == 1
    assert PairFolder(tmp_path / "pairs", corpus, replace(recipe, prior_sha256="1")).ready() == 0


def test_pairs_of_an_earlier_edition_of_the_maker_are_made_again(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = PairSettings("test-blur", count=1)
    PairFolder(tmp_path, corpus, recipe).make()
    assert PairFolder(tmp_path, corpus, recipe).ready() == 1
    monkeypatch.setitem(guide_maker("test-blur").meta, "edition", 2)
    assert PairFolder(tmp_path, corpus, recipe).ready() == 0


def test_every_run_of_slices_is_used_before_any_again(corpus: Corpus) -> None:
    recipe = PairSettings("test-blur", enlarged=0.0)
    shapes = [make_pair(corpus, recipe, number)[0] for number in range(4)]
    known = [corpus.chunk(chunk) for chunk in corpus.chunks]
    used = [next(i for i, k in enumerate(known) if k.shape == s.shape and np.allclose(k, s)) for s in shapes]
    assert sorted(used[:2]) == [0, 1] and sorted(used[2:]) == [0, 1]


def test_given_numbers_of_views_see_the_same_slices(corpus: Corpus) -> None:
    recipe = PairSettings("test-blur", enlarged=0.0, views=(4, 8))
    pairs = [make_pair(corpus, recipe, number) for number in range(4)]
    np.testing.assert_array_equal(pairs[0][0], pairs[1][0])
    np.testing.assert_array_equal(pairs[2][0], pairs[3][0])
    np.testing.assert_allclose(pairs[0][1] - pairs[1][1], 4e-3, atol=1e-5)
    assert pairs[0].shape != pairs[2].shape or not np.array_equal(pairs[0], pairs[2])


def test_large_slices_are_reduced_to_the_frame(corpus: Corpus) -> None:
    assert make_pair(corpus, PairSettings("test-blur", frame=20), 0).shape[-2:] <= (20, 20)
    enlarged = make_pair(corpus, PairSettings("test-blur", enlarged=1.0, frame=64), 0)
    assert 36 < max(enlarged.shape[-2:]) <= 64


def test_pairs_are_kept_and_made_again_for_another_corpus(corpus: Corpus, tmp_path: Path) -> None:
    recipe = PairSettings("test-blur", count=3)
    pairs = PairFolder(tmp_path / "pairs", corpus, recipe)
    assert pairs.ready() == 0
    pairs.make(go_on=lambda: pairs.ready() < 2)
    assert pairs.ready() == 2
    times = [pairs.path(n).stat().st_mtime_ns for n in range(2)]
    again = PairFolder(tmp_path / "pairs", corpus, recipe)
    again.make()
    assert again.ready() == 3 and [again.path(n).stat().st_mtime_ns for n in range(2)] == times
    np.testing.assert_allclose(again.pair(2) * STEP, make_pair(corpus, recipe, 2), atol=0.6 * STEP)
    more = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=4))
    assert more.ready() == 3
    part = corpus.subset(lambda source: source.name == "body00.nii.gz")
    assert PairFolder(tmp_path / "pairs", part, recipe).ready() == 0


def test_a_damaged_pair_is_named(corpus: Corpus, tmp_path: Path) -> None:
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=1))
    pairs.make()
    pairs.path(0).write_bytes(b"nothing")
    with pytest.raises(CorruptInput, match=r"000000\.npy"):
        pairs.pair(0)


def test_too_few_neighbours(corpus: Corpus, tmp_path: Path) -> None:
    sparse = Corpus(corpus.values, corpus.index[::2], corpus.sources, corpus.intensity, "sparse")
    with pytest.raises(InputError, match="enough neighbouring slices"):
        make_pair(sparse, PairSettings("test-blur"), 0)


def test_unknown_modality(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="unknown maker of guides for 'ctt'"):
        make_pair(corpus, PairSettings("ctt"), 0)


def test_guided_batches_hold_truth_and_its_neighbours(corpus: Corpus, tmp_path: Path) -> None:
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=2, enlarged=0.0))
    pairs.make()
    settings = small(guided=True, unguided=0.5, sizes=((48, 3, 1.0),))
    batches = Batches(corpus, pairs, settings)
    drawn = [batches.batch(step, 2) for step in range(60)]
    guided = [batch for batch in drawn if batch.guide is not None]
    assert 15 < len(guided) < 45
    for batch in guided[:10]:
        assert batch.guide is not None and tuple(batch.guide.shape) == (3, 3, 48, 48)
        inside = batch.clean[:, 0] > 0.08
        difference = (batch.guide[:, 1] - batch.clean[:, 0])[inside]
        assert float(difference.abs().median()) < 0.1
    levels = torch.cat([batch.sigma for batch in guided])
    hidden = float(((levels >= 1) & (levels <= 4)).double().mean())
    assert 0.4 < hidden < 0.8  # half of them, and those of the others that are as high
    assert all(batch.guide is None for batch in (batches.batch(step, 0) for step in range(20)))


def test_quiet_crops_show_the_guide_for_the_noisy_slice(corpus: Corpus, tmp_path: Path) -> None:
    """As `refine` calls the network, at levels that hide the slice; the other crops keep their white noise."""
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=2, enlarged=0.0))
    pairs.make()
    settings = small(guided=True, unguided=0.0, blind=0.8, quiet=0.5, sizes=((48, 3, 1.0),))
    quiet = []
    for step in range(60):
        batch = Batches(corpus, pairs, settings).batch(step, 2)
        assert batch.guide is not None
        noisy = batch.clean + batch.sigma[:, None, None, None] * batch.noise
        same = ((noisy - batch.guide[:, 1:2]).abs() < 1e-4).all(dim=3).all(dim=2)[:, 0]
        assert ((batch.sigma >= 1) & (batch.sigma <= 4))[same].all()
        assert float(batch.noise[~same].std()) == pytest.approx(1, abs=0.05) if (~same).any() else True
        quiet += same.tolist()
    assert np.mean(quiet) == pytest.approx(0.4, abs=0.11)  # 180 crops: three standard errors


def test_what_a_modality_grants_the_prior_bounds_how_far_it_refines(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prior that may hardly be wrong keeps its answer, which is the guide; one that may be wrong follows the data."""
    recipe = PairSettings(enlarged=0.0, views=(12,), frame=48, refined=1, **untrained(tmp_path / "prior.safetensors"))
    moved = []
    for granted in ((1e-6, 2e-6), (0.2, 0.3)):
        monkeypatch.setitem(guide_maker("ct").meta, "granted", granted)
        _, plain, refined = make_pair(corpus, recipe, 0)
        moved.append(np.abs(refined - plain).mean())
    assert moved[0] < 0.05 * moved[1]


def test_refined_guides_are_drawn_too(corpus: Corpus, tmp_path: Path) -> None:
    """Classical volume and two refined ones that are told apart by what was added to them."""
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=2, enlarged=0.0))
    pairs.make()
    for number in range(2):
        truth, guide = pairs.pair(number)
        marked = [truth, guide, guide + round(1 / STEP), guide + round(2 / STEP)]
        np.save(pairs.path(number), np.stack(marked).astype("<i2"))
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=2, enlarged=0.0))
    batches = Batches(corpus, pairs, small(guided=True, unguided=0.0, sizes=((48, 3, 1.0),)))
    drawn = [batches.batch(step, 2) for step in range(60)]
    marks = np.concatenate([(b.guide[:, 1].amax((1, 2)) - b.clean[:, 0].amax((1, 2))).round().numpy() for b in drawn])
    shares = [float((marks == mark).mean()) for mark in (0, 1, 2)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.11)  # 180 crops: three standard errors


def test_a_process_of_its_own_makes_the_same_pairs(corpus: Corpus, tmp_path: Path) -> None:
    part = corpus.subset(lambda source: source.name == "body01.nii.gz")
    recipe = PairSettings("ct", count=2, frame=32, views=(4,))
    pairs = PairFolder(tmp_path / "pairs", part, recipe)
    with BackgroundMaker(pairs) as maker:
        end = time.monotonic() + 120
        while pairs.ready() < 2 and time.monotonic() < end:
            maker.check()
            time.sleep(0.1)
    assert pairs.ready() == 2
    np.testing.assert_allclose(pairs.pair(1) * STEP, make_pair(part, recipe, 1), atol=2e-2)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_process_that_was_stopped_is_not_waited_for(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medrecon.training.guides._PATIENCE", 0.2)
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=2))
    began = time.monotonic()
    with BackgroundMaker(pairs) as maker:
        process = maker._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
    assert time.monotonic() - began < 20 and process.poll() is not None


def test_a_failing_process_is_reported(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("test-blur", count=2))
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no memory left' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))
    with BackgroundMaker(pairs) as maker:
        end = time.monotonic() + 60
        with pytest.raises(MedreconError, match="making the guides failed; found no memory left"):
            while time.monotonic() < end:
                maker.check()
                time.sleep(0.05)
