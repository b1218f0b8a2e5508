"""Seismic volumes as training data: sections of both directions, holes, maps, and a prior that fills traces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bodies import small
from helpers.traces import traces
from medrecon.cli import main
from medrecon.data import Traces, write
from medrecon.data.seismic_model import seismic_model
from medrecon.engine import reconstruct
from medrecon.errors import InputError
from medrecon.physics.seismic import make_trace_mask
from medrecon.prior import load_prior
from medrecon.scans import problem_from_scan
from medrecon.training import train
from medrecon.training.batches import Batches
from medrecon.training.corpus import STEP, Corpus, load_corpus
from medrecon.training.guides import PairFolder, PairSettings, guide_maker, make_pair, usable_runs
from medrecon.training.guides_seismic import _best_shares, random_holes

PLANES = ("inline", "crossline")


def surveys(folder: Path, first: int = 0) -> Path:
    """Two volumes of different loudness, one of them as NIfTI, and a 2D line."""
    folder.mkdir(parents=True)
    quiet = seismic_model("volume", (10, 36, 40), seed=first)
    write(folder / "a.sgy", replace(quiet, data=1e-3 * quiet.data))
    write(folder / "b.nii.gz", seismic_model("volume", (12, 32, 40), seed=first + 1).to_volume())
    write(folder / "c.sgy", seismic_model("line", (1, 70, 90), seed=first + 2))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("seismic")
    return load_corpus(surveys(folder / "data"), folder / "cache", planes=PLANES, minimum_pixels=60)


def test_sections_of_both_directions_have_time_along_their_rows(corpus: Corpus) -> None:
    """Of a line there are no crosslines."""
    used = {(source.name, source.plane): source.slices for source in corpus.sources}
    assert used == {
        ("a.sgy", "inline"): 10, ("a.sgy", "crossline"): 36, ("b.nii.gz", "inline"): 12, ("b.nii.gz", "crossline"): 32,
        ("c.sgy", "inline"): 1, ("c.sgy", "crossline"): 0,
    }  # fmt: skip
    truth = seismic_model("volume", (10, 36, 40), seed=0).data / 1000
    bright = np.quantile(np.abs(truth), 0.995)
    for number in range(len(corpus)):
        source, position = corpus.index[number, :2]
        if source == 0:
            np.testing.assert_allclose(corpus.whole(number), np.clip(truth[position].T / bright, -4, 4), atol=2 * STEP)
        if source == 1:
            expected = np.clip(truth[:, position].T / bright, -4, 4)
            np.testing.assert_allclose(corpus.whole(number), expected, atol=2 * STEP)


def test_sections_with_missing_traces_are_left_out(tmp_path: Path) -> None:
    live = np.ones((10, 12), bool)
    live[3, 5] = False
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.sgy", traces(live, rows=10, columns=12, samples=40))
    corpus = load_corpus(tmp_path / "data", tmp_path / "cache", planes=PLANES, minimum_pixels=60)
    places = {tuple(corpus.index[number, :2]) for number in range(len(corpus))}
    assert (0, 3) not in places and (1, 5) not in places
    assert len(places) == 9 + 11


def test_faint_samples_are_no_empty_space(corpus: Corpus) -> None:
    """Whole sections are kept, whatever is loud in them."""
    assert corpus.intensity.signed
    for number in range(len(corpus)):
        assert corpus.stored(number).shape == corpus.sources[corpus.index[number, 0]].shape[1:]


def test_holes_of_every_kind() -> None:
    shares, kinds = [], set()
    for seed in range(80):
        for shape in ((32, 64), (1, 40), (40, 9)):
            live = random_holes(np.random.default_rng([seed, shape[1]]), shape)
            assert live.shape == shape and live.any() and not live.all()
            shares.append(1 - live.mean())
            whole_columns = (live == live[:1]).all()
            kinds.add(
                "columns" if whole_columns and shape[0] > 1 else "rows" if (live == live[:, :1]).all() else "else"
            )
    assert kinds == {"columns", "rows", "else"}
    assert min(shares) < 0.15 and max(shares) > 0.7


def test_a_pair_is_truth_guide_and_map(corpus: Corpus) -> None:
    recipe = PairSettings("seismic", frame=32, mapped=True)
    shapes = set()
    for number in range(12):
        truth, guide, known = make_pair(corpus, recipe, number)
        shapes.add(truth.shape)
        assert max(truth.shape[1:]) <= 32
        assert set(np.unique(known)) == {0.0, 1.0} and (known == known[:, :1]).all()
        np.testing.assert_allclose(guide[known > 0], truth[known > 0], atol=1e-4)
        error = np.square(guide - truth)[known == 0].mean()
        assert 0 < error < 4 * np.square(truth)[known == 0].mean() + 1e-3
    assert {shape[0] for shape in shapes} >= {1, 10, 12}  # the line, and volumes
    np.testing.assert_array_equal(make_pair(corpus, recipe, 3), make_pair(corpus, recipe, 3))
    assert len(make_pair(corpus, replace(recipe, mapped=False), 3)) == 2


def test_shares_are_those_that_suit_the_missing_traces() -> None:
    """One volume twice as wrong as another in other places, a third wrong in the same; live traces do not count."""
    rng = np.random.default_rng(0)
    missing = rng.random((6, 20)) < 0.5
    errors = rng.standard_normal((3, 6, 64, 20))
    errors[1] *= 2
    errors[2] = 1.5 * errors[0]
    errors[:2] *= np.where(missing, 1, [[[9.0]], [[0.0]]])[:, :, None]
    assert _best_shares(errors, missing, rng) == pytest.approx([0.8, 0.2, 0], abs=0.03)


def test_large_sections_are_drawn_from_as_often_as_windows_fit(corpus: Corpus) -> None:
    """The line holds 3 x 2 windows of 32 pixels; each run of a volume one (36 x 40 or 32 x 40 pixels)."""
    runs = usable_runs(corpus, "seismic")
    assert len(runs) == 1 + 2 + 1 + 1 + 1  # crosslines of the first volume: 32 and 4; of the other: 32
    recipe = PairSettings("seismic", frame=32)
    lines = sum(make_pair(corpus, recipe, number).shape[1] == 1 for number in range(5 + 6))
    assert lines == 6


def test_levels_of_the_validation_are_percentages(corpus: Corpus) -> None:
    levels = guide_maker("seismic").meta["levels"]
    recipe = PairSettings("seismic", frame=32, mapped=True, views=tuple(levels))  # type: ignore[arg-type]
    found = [1 - make_pair(corpus, recipe, number)[2].mean() for number in range(4)]
    np.testing.assert_allclose(found, np.array(levels) / 100, atol=0.02)


def test_crops_show_what_is_missing(tmp_path: Path) -> None:
    """In lines of 256 traces with a hole or a gap somewhere most crops of 24 would show none."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "a.sgy", seismic_model("line", (1, 256, 64), seed=1))
    corpus = load_corpus(folder, tmp_path / "cache", planes=PLANES, minimum_pixels=60)
    recipe = PairSettings("seismic", count=12, frame=256, mapped=True)
    pairs = PairFolder(tmp_path / "pairs", corpus, recipe)
    pairs.make()
    settings = small(modality="seismic", guided=True, unguided=0.0, sizes=((24, 4, 1.0),))
    guides = [Batches(corpus, pairs, settings).batch(step, 12).guide for step in range(30)]
    shares = torch.cat([(guide[:, 4] == 0).float().mean(dim=(1, 2)) for guide in guides if guide is not None])
    assert float((shares < 0.05).float().mean()) < 0.1


def test_batches_hold_maps_and_either_polarity(corpus: Corpus, tmp_path: Path) -> None:
    """Crops lie inside of sections that are large enough; live traces of the guide are the truth."""
    pairs = PairFolder(tmp_path / "pairs", corpus, PairSettings("seismic", count=4, frame=32, mapped=True))
    pairs.make()
    settings = small(modality="seismic", guided=True, unguided=0.3, sizes=((24, 3, 1.0),))
    assert settings.planes == PLANES and settings.mapped and settings.architecture().channels_in == 7
    drawn = [Batches(corpus, pairs, settings).batch(step, 4) for step in range(24)]
    guided = [batch for batch in drawn if batch.guide is not None]
    assert 8 < len(guided) < 24
    signs = set()
    for batch in guided:
        assert batch.guide is not None and tuple(batch.guide.shape) == (3, 6, 24, 24)
        middle, known = batch.guide[:, 1], batch.guide[:, 4]
        assert set(known.unique().tolist()) <= {0.0, 1.0}
        assert float((middle - batch.clean[:, 0])[known > 0].abs().max()) < 3 * STEP
    for batch in drawn:
        loud = batch.clean.flatten()[batch.clean.abs().argmax()]
        signs.add(bool(loud > 0))
    assert signs == {True, False}


def test_one_command_gives_a_prior_that_fills_traces(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = {
        "modality": "seismic", "blocks": 1, "embedding": 16, "sizes": "[[24,4,1.0]]", "minimum_pixels": 60, "pairs": 2,
        "pairs_in_background": "false", "validation_pairs": 2, "validation_slices": 4, "sampled_slices": 2,
        "frame": 32, "sigma_data": "null",
    }  # fmt: skip
    settings = [word for key, value in words.items() for word in ("--set", f"{key}={value}")]
    data, held, output = surveys(tmp_path / "data"), surveys(tmp_path / "val", 10), tmp_path / "p.safetensors"
    with pytest.raises(SystemExit) as end:
        main(["train", str(data), "-o", str(output), "--validation", str(held), "--steps", "4", "--widths", "8,16",
              "--json", *settings])  # fmt: skip
    assert end.value.code == 0
    assert json.loads(capfd.readouterr().out)["training"]["settings"]["mapped"] is True
    prior = load_prior(str(output))
    card = prior.card
    assert (card.modality, card.quantity, card.scale, card.signed) == ("seismic", "amplitude", 1.0, True)
    assert prior.mapped and prior.guides == 3
    assert set(card.training["validation"]["guided"]["psnr_by_views"]) == {"30", "50"}
    live = make_trace_mask("random", (10, 36), 0.5, seed=1)
    survey = seismic_model("volume", (10, 36, 40), seed=20)
    given = survey.keeping(live)
    result = reconstruct(problem_from_scan(given, prior=prior), "refine")
    done = given.with_volume(result.volume)
    np.testing.assert_array_equal(done.data[live], survey.data[live])
    assert np.isfinite(done.data).all() and result.baseline_method == "dip"


def test_a_second_stage_refines_with_maps(tmp_path: Path) -> None:
    settings = small(modality="seismic", guided=True, steps=2, sigma_data=None, frame=32, pairs=1, validation_pairs=0)
    data = surveys(tmp_path / "data")
    train(settings, data, tmp_path / "a.safetensors")
    card = train(replace(settings, refined=1), data, tmp_path / "b.safetensors", init=str(tmp_path / "a.safetensors"))
    assert card is not None and card.architecture["mapped"]
    assert np.load(tmp_path / "b.training" / "pairs" / "000000.npy").shape[0] == 4


def test_a_corpus_of_holes_alone_is_refused(tmp_path: Path) -> None:
    live = make_trace_mask("regular", (6, 12), 0.5)
    live[0, 1] = True
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.sgy", traces(live, rows=6, columns=12, samples=40))
    with pytest.raises(InputError, match="no slice shows enough"):
        load_corpus(tmp_path / "data", tmp_path / "cache", planes=("inline",), minimum_pixels=60)


def test_the_scale_is_that_which_reconstruction_gives_the_prior(corpus: Corpus) -> None:
    """`Problem.unit` of live traces against the percentile that training divides by."""
    survey = seismic_model("volume", (12, 32, 40), seed=1)
    given = survey.keeping(make_trace_mask("random", (12, 32), 0.5, seed=3))
    assert isinstance(given, Traces)
    assert problem_from_scan(given).unit == pytest.approx(corpus.sources[2].scale, rel=0.1)
    assert torch.is_tensor(problem_from_scan(given).system().known)
