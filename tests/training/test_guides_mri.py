"""MR volumes as training data: scale, planes, guides, and the units in which a prior is used."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bodies import small
from helpers.mri import head
from medrecon.data import Volume, write
from medrecon.engine import reconstruct
from medrecon.prior import load_prior
from medrecon.scans import problem_from_scan
from medrecon.simulate_mri import simulate_kspace
from medrecon.training import train
from medrecon.training.corpus import STEP, Corpus, load_corpus
from medrecon.training.guides import BackgroundMaker, PairFolder, PairSettings, guide_maker, make_pair


def heads(folder: Path, numbers: tuple[int, ...] = (0, 1)) -> Path:
    """Heads of different scale and contrast, every second one in another order of axes."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        volume = head((8, 36, 32), (4.0, 4.0, 4.0))
        array = (volume.array / 1000) ** (1 + 0.4 * number) * 10 ** (2 * number)
        turned = Volume(array.astype(np.float32), volume.geometry).as_orientation("PIR" if number % 2 else "LPS")
        write(folder / f"head{number}.nii.gz", turned)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("mr")
    return load_corpus(heads(folder / "data"), folder / "cache", minimum_pixels=60)


def test_every_volume_has_the_scale_of_its_own_percentile(corpus: Corpus) -> None:
    assert corpus.intensity.quantity == "a.u." and corpus.intensity.scale is None
    scales = [source.scale for source in corpus.sources]
    assert max(scales) > 30 * min(scales)
    tops = [max(corpus.slice(i).max() for i in range(len(corpus)) if corpus.index[i, 0] == n) for n in (0, 1)]
    assert all(0.9 < top < 1.5 for top in tops)


def test_the_scale_is_that_which_reconstruction_gives_the_prior() -> None:
    """`Problem.unit`, taken from the zero-filled volume, against the percentile that training divides by."""
    volume = head((6, 64, 56), (4.0, 3.0, 3.0))
    percentile = np.percentile(volume.array, 99.5)
    for mask, rate in (("gaussian1d", 3), ("poisson2d", 4)):
        scan = simulate_kspace(volume, mask, rate, coils=6, noise=0.01, centre=14, seed=1)
        assert problem_from_scan(scan).unit == pytest.approx(percentile, rel=0.15)


def test_a_process_of_its_own_makes_guides_of_this_modality_too(corpus: Corpus, tmp_path: Path) -> None:
    """Makers of other modalities than CT are registered on demand: in the process that makes the pairs as well."""
    recipe = PairSettings("mri", count=1, enlarged=0.0, views=(2,), frame=32)
    pairs = PairFolder(tmp_path / "pairs", corpus, recipe)
    with BackgroundMaker(pairs) as maker:
        end = time.monotonic() + 120
        while pairs.ready() < 1 and time.monotonic() < end:
            maker.check()
            time.sleep(0.1)
    assert pairs.ready() == 1
    np.testing.assert_allclose(pairs.pair(0) * STEP, make_pair(corpus, recipe, 0), atol=2e-2)


def test_a_guide_is_near_the_truth_in_its_scale_but_not_it(corpus: Corpus) -> None:
    recipe = PairSettings("mri", enlarged=0.0, views=(2,), frame=48)
    for number in range(2):
        truth, guide = make_pair(corpus, recipe, number)
        error = float(np.sqrt(((truth - guide) ** 2).mean()))
        assert 0.005 < error < 0.2
        assert np.corrcoef(truth.ravel(), guide.ravel())[0, 1] > 0.9
        assert np.vdot(truth, guide) / np.vdot(truth, truth) == pytest.approx(1.0, abs=0.1)


def test_slices_of_a_pair_have_sides_that_transform_fast_with_empty_space_around(corpus: Corpus) -> None:
    truth, guide = make_pair(corpus, PairSettings("mri", enlarged=0.0, views=(2,), frame=40), 0)
    assert truth.shape == guide.shape and all(side % 16 == 0 for side in truth.shape[1:])
    assert not truth[:, 0].any() and not truth[:, -1].any()  # 40 rows at most, so 48 have empty ones at both ends


def test_a_pair_depends_on_its_number_alone_and_on_how_much_is_measured(corpus: Corpus) -> None:
    recipe = PairSettings("mri", enlarged=0.0, views=(2, 6), frame=48)
    first, again, other = (make_pair(corpus, recipe, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], other[0])  # the same slices, seen at another acceleration
    assert np.square(other[0] - other[1]).mean() > np.square(first[0] - first[1]).mean()
    assert guide_maker("mri").meta["levels"] == (2, 4, 6, 8)


def test_training_on_all_planes_with_guides_gives_a_prior_that_reconstructs(tmp_path: Path) -> None:
    """One command: the settings that a real training has, but for its size."""
    settings = small(
        modality="mri", guided=True, planes=("axial", "coronal", "sagittal"), steps=4, sigma_data=None, frame=48,
        pairs=1, validation_pairs=1,
    )  # fmt: skip
    assert settings.augmentation.table == 0
    card = train(settings, heads(tmp_path / "data"), tmp_path / "mr.safetensors", heads(tmp_path / "val", (2,)))
    assert card is None or card.modality == "mri"
    prior = load_prior(str(tmp_path / "mr.safetensors"))
    assert (prior.card.quantity, prior.card.scale, prior.card.modality) == ("a.u.", 1.0, "mri")
    scan = simulate_kspace(
        head((8, 48, 40), (4.0, 4.0, 4.0)), "gaussian1d", 2.5, coils=4, noise=0.01, centre=14, seed=1
    )
    problem = problem_from_scan(scan, prior=prior)
    assert problem.system().scale == pytest.approx(problem.unit)
    found = reconstruct(problem, "pnp", steps=2).volume
    assert torch.isfinite(torch.from_numpy(found.array)).all()
    assert found.array.max() > 0.5 * problem.unit
