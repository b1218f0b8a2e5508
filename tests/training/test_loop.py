"""Training from a folder to a prior: what it learns, that it resumes exactly, what it writes and what it refuses."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bodies import body, corpus_folder, small
from helpers.problems import empty_scan
from medrecon.data import write
from medrecon.data.volume import Volume
from medrecon.errors import InputError, NonFinite, ResumeError, UsageError
from medrecon.network import EDMDenoiser
from medrecon.prior import load_prior, read_card
from medrecon.problem import Problem
from medrecon.training import TrainingSettings, train
from medrecon.training.batches import Batch
from medrecon.training.guides import guide_makers
from medrecon.training.loop import TrainingReport, denoising_loss, work_folder
from medrecon.training.pace import learning_rate
from medrecon.training.state import TrainingState, widened


@guide_makers.register("test-offset")
def offset(truth: Volume, rng: np.random.Generator, views: int | None = None) -> tuple[Problem, Volume]:
    """The truth plus smooth errors: a classical volume that costs nothing."""
    waves = 60 * np.sin(np.arange(truth.array.shape[1]) / 2)[:, None].astype(np.float32)
    return empty_scan(truth), truth.with_array(truth.array + waves)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("volumes")
    return corpus_folder(root / "train", 3), corpus_folder(root / "val", 2, first_seed=100)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_prior(str(path)).denoiser.state_dict())


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return all(torch.equal(a[name], b[name]) for name in a)


class Stopper:
    """A callback that stops at a step and remembers what it was told."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.reports = at, []  # type: ignore[var-annotated]

    def __call__(self, report: TrainingReport) -> bool:
        self.reports.append(report)
        return not (report.stage == "training" and self.at is not None and report.step >= self.at)


# --- learning --------------------------------------------------------------------------------------------------
def test_the_loss_falls_and_denoising_improves(folders: tuple[Path, Path], tmp_path: Path) -> None:
    watcher = Stopper()
    settings = small(steps=120, learning_rate=5e-3, ema=0.97, checkpoint_every=1000)
    card = train(settings, folders[0], tmp_path / "p.safetensors", folders[1], callback=watcher)
    losses = [r.stats["loss"] for r in watcher.reports if r.stage == "training"]
    assert np.mean(losses[-3:]) < 0.6 * losses[0]
    assert card is not None
    history = card.training["history"]
    assert history[-1]["psnr"]["0.5"] > history[0]["psnr"]["0.5"] + 1
    assert watcher.reports[0].stage == "reading" and watcher.reports[-1].stage == "validation"
    fractions = [r.fraction for r in watcher.reports if r.stage == "training"]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    quartiles = [np.quantile(body(seed).array[body(seed).array > -920], 0.75) for seed in range(3)]
    np.testing.assert_allclose(card.brightness, (min(quartiles), max(quartiles)), atol=25)


def test_the_loss_asks_the_same_at_every_noise_level() -> None:
    """The weighted error of a perfect Gaussian denoiser of white data is one at every noise level."""
    network = EDMDenoiser(small().architecture(), 0.4)
    generator = torch.Generator().manual_seed(0)
    for level in (0.01, 0.3, 5.0):
        clean = 0.4 * torch.randn((64, 1, 16, 16), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        loss = denoising_loss(network, Batch(clean, None, torch.full((64,), level), noise))
        assert float(loss.detach()) == pytest.approx(1, rel=0.05)


def test_the_guided_loss_counts_from_the_error_of_the_guide() -> None:
    network = EDMDenoiser(small(guided=True).architecture(), 0.4, 0.1)
    generator = torch.Generator().manual_seed(0)
    for level in (0.01, 0.3, 5.0):
        clean = torch.randn((64, 1, 16, 16), generator=generator)
        guide = clean + 0.1 * torch.randn((64, 3, 16, 16), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        loss = denoising_loss(network, Batch(clean, guide, torch.full((64,), level), noise))
        assert float(loss.detach()) == pytest.approx(1, rel=0.05)


def test_the_guided_loss_asks_the_same_of_good_and_bad_guides() -> None:
    """An untrained network returns its guide at a high level: its squared error counts in units of the guide's own."""
    network = EDMDenoiser(small(guided=True).architecture(), 0.4, 0.1)
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn((64, 1, 16, 16), generator=generator) for _ in range(2))
    for error in (0.04, 0.1, 0.3):
        guide = clean + error * torch.randn((64, 3, 16, 16), generator=generator)
        loss = denoising_loss(network, Batch(clean, guide, torch.full((64,), 10.0), noise))
        assert float(loss.detach()) == pytest.approx(1, rel=0.05)


def test_refined_guides_need_a_guided_prior(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="need a guided prior to start from"):
        train(small(guided=True, modality="test-offset", refined=2), *folders[:1], tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="not asked for"):
        small(guided=True, refined_by="ct")


def test_a_later_training_keeps_the_pairs_of_an_earlier_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Pairs are named by the prior that refined them, which need not be the one that is trained further."""
    recipe = small(guided=True, modality="test-offset", steps=1, pairs=2, pairs_in_background=False)
    first, second, third = (tmp_path / f"{name}.safetensors" for name in "abc")
    train(recipe, folders[0], first)
    train(replace(recipe, refined=1), folders[0], second, init=str(first))
    shutil.copytree(work_folder(second), work_folder(third))
    kept = {path.name: path.stat().st_mtime_ns for path in (work_folder(third) / "pairs").glob("*.npy")}
    train(replace(recipe, refined=1, refined_by=str(first)), folders[0], third, init=str(second))
    assert len(kept) == 2
    assert {path.name: path.stat().st_mtime_ns for path in (work_folder(third) / "pairs").glob("*.npy")} == kept
    train(replace(recipe, refined=1), folders[0], third, init=str(second), overwrite=True)
    assert all(path.stat().st_mtime_ns != kept[path.name] for path in (work_folder(third) / "pairs").glob("*.npy"))


def test_the_running_mean_follows_its_formula() -> None:
    settings = small(ema=0.9)
    state = TrainingState.new(settings, 0.4)
    expected = copy.deepcopy(state.network)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 30):
        clean, noise = (torch.randn((2, 1, 16, 16), generator=generator) for _ in range(2))
        state.update(denoising_loss(state.network, Batch(clean, None, torch.tensor([0.1, 1.0]), noise)), 1e-2, settings)
        decay = min(0.9, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(expected.parameters(), state.network.parameters(), strict=True):
                mean.mul_(decay).add_(value, alpha=1 - decay)
    for mean, ours in zip(expected.parameters(), state.mean.parameters(), strict=True):
        torch.testing.assert_close(mean, ours, rtol=1e-4, atol=1e-6)
    assert not any(value.requires_grad for value in state.mean.parameters())


def test_learning_rate_warms_up_stays_and_falls() -> None:
    settings = TrainingSettings(learning_rate=1.0, warm_up=10, decay=0.5)
    assert learning_rate(settings, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(settings, 20, 0.3) == 1.0 == learning_rate(settings, 20, 0.5)
    assert learning_rate(settings, 20, 0.75) == pytest.approx(0.51)
    assert learning_rate(settings, 20, 1.0) == pytest.approx(0.02)


# --- resuming --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("guided", [False, True])
def test_a_resumed_training_equals_the_uninterrupted_one(
    guided: bool, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = small(steps=40, guided=guided, modality="test-offset")
    straight = train(settings, folders[0], tmp_path / "straight.safetensors")
    assert straight is not None
    output = tmp_path / "resumed.safetensors"
    for stop in (10, 30):
        assert train(settings, folders[0], output, resume=True, callback=Stopper(stop)) is None
        assert not output.exists() and (work_folder(output) / "checkpoint.safetensors").exists()
    resumed = train(settings, folders[0], output, resume=True)
    assert resumed is not None and resumed.training["steps"] == 40
    assert same(tmp_path / "straight.safetensors", output)
    assert [entry["step"] for entry in resumed.training["history"]] == [
        entry["step"] for entry in straight.training["history"]
    ]
    assert resumed.training["history"][-1]["loss"] == straight.training["history"][-1]["loss"]
    assert not (work_folder(output) / "checkpoint.safetensors").exists()


def test_batches_drawn_ahead_change_nothing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for workers in (0, 2):
        train(small(workers=workers), folders[0], tmp_path / f"{workers}.safetensors")
    assert same(tmp_path / "0.safetensors", tmp_path / "2.safetensors")


def test_other_settings_or_a_damaged_checkpoint_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "p.safetensors"
    assert train(small(steps=40), folders[0], output, callback=Stopper(10)) is None
    with pytest.raises(UsageError, match="an unfinished training stands here"):
        train(small(steps=40), folders[0], output)
    with pytest.raises(ResumeError, match="belongs to another training"):
        train(small(steps=40, seed=1), folders[0], output, resume=True)
    checkpoint = work_folder(output) / "checkpoint.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(bytes(content))
    with pytest.raises(ResumeError, match="damaged"):
        train(small(steps=40), folders[0], output, resume=True)
    checkpoint.write_bytes(b"short")
    with pytest.raises(ResumeError, match="damaged"):
        train(small(steps=40), folders[0], output, resume=True)
    assert train(small(), folders[0], output, overwrite=True) is not None


def test_the_budget_may_change_on_resuming(folders: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "p.safetensors"
    assert train(small(steps=40), folders[0], output, callback=Stopper(10)) is None
    card = train(small(steps=20), folders[0], output, resume=True)
    assert card is not None and card.training["steps"] == 20


def test_minutes_are_a_budget(folders: tuple[Path, Path], tmp_path: Path) -> None:
    watcher = Stopper()
    settings = small(steps=None, minutes=0.02)
    card = train(settings, folders[0], tmp_path / "p.safetensors", callback=watcher)
    assert card is not None and card.training["steps"] >= 1 and card.training["seconds"] >= 1
    last = [r for r in watcher.reports if r.stage == "training"][-1]
    assert last.fraction >= 1 and last.remaining == 0


# --- what is written -------------------------------------------------------------------------------------------
def test_the_card_is_complete_and_the_prior_usable(folders: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "small-ct.safetensors"
    settings = small(guided=True, modality="test-offset", description="made up", licence="CC0")
    card = train(settings, folders[0], output, folders[1])
    assert card == read_card(str(output))
    assert card is not None
    assert (card.name, card.quantity, card.scale, card.offset) == ("small-ct", "HU", 1000, -1000)
    assert card.sigma_min == pytest.approx(5.48, abs=0.01) and card.sigma_max == pytest.approx(7436, abs=1)
    assert card.range[0] == -1000 and 300 < card.range[1] <= 3100
    assert card.spacing_mm == (4, 4) and card.orientation == "LPS"
    assert (card.description, card.licence) == ("made up", "CC0")
    levels, errors = zip(*card.error_curve, strict=True)
    assert levels[0] == 5 and levels[-1] == 5000 and all(error > 0 for error in errors)
    training = card.training
    assert [entry["name"] for entry in training["files"]] == [f"body0{n}.nii.gz" for n in range(3)]
    assert all(len(entry["sha256"]) == 64 and len(entry["md5"]) == 32 for entry in training["files"])
    assert len(training["validation_files"]) == 2 and training["volumes"] == 3 and training["slices"] == 36
    report = training["validation"]
    for name in ("network", "tv"):
        assert list(report["denoising_psnr"][name]) == ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    assert set(report["guided"]["psnr_by_views"]) == {"4", "8"}
    assert report["memorisation"]["training_slices"] == 36
    assert str(tmp_path) not in output.with_suffix(".json").read_text()

    prior = load_prior(str(output))
    assert prior.guides == 3
    noisy = torch.from_numpy(body(100).array[:2, None])
    assert prior.denoise(noisy, 50.0).shape == noisy.shape
    assert prior.rms_error(100.0) > 0


def test_without_validation_volumes_the_card_has_no_curve(folders: tuple[Path, Path], tmp_path: Path) -> None:
    card = train(small(), folders[0], tmp_path / "p.safetensors")
    assert card is not None and card.error_curve == () and card.training["validation_files"] == []


def test_volumes_are_set_aside_where_there_are_enough(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 4)
    card = train(small(), folder, tmp_path / "p.safetensors")
    assert card is not None and len(card.training["files"]) == 3 and len(card.training["validation_files"]) == 1
    assert len(card.error_curve) > 0


def test_other_quantities_train_with_the_same_code(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 4, quantity="a.u.")
    settings = small(sigma_data=None, modality="mri", planes=("axial", "coronal"), minimum_pixels=40)
    card = train(settings, folder, tmp_path / "p.safetensors")
    assert card is not None
    assert (card.quantity, card.scale, card.offset, card.modality) == ("a.u.", 1.0, 0.0, "mri")
    assert 0.1 < card.sigma_data < 1 and card.range == pytest.approx((0, 1.5), abs=0.5)
    assert "percentile" in card.training["intensity"]


# --- starting from a prior -------------------------------------------------------------------------------------
def test_guides_are_added_to_a_prior_without_effect(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    train(small(), folders[0], plain)
    start = load_prior(str(plain)).denoiser
    settings = small(guided=True)
    state = TrainingState.new(settings, start.sigma_data, start)
    x, level = torch.randn(2, 1, 16, 16), torch.tensor([0.3])
    with torch.no_grad():
        torch.testing.assert_close(state.network(x, level), start(x, level), rtol=1e-5, atol=1e-6)
    assert torch.equal(widened(start, settings.architecture())["network.stem.weight"][:, 4:], torch.zeros(8, 12, 3, 3))

    again = replace(small(guided=True, modality="test-offset"), widths=None, blocks=2)
    card = train(again, folders[0], tmp_path / "guided.safetensors", init=str(plain))
    assert card is not None and card.architecture["channels_in"] == 4 and card.architecture["widths"] == [8, 16]
    assert card.architecture["blocks"] == 1 and card.training["start"]["name"] == "plain"


def test_without_a_step_a_prior_is_validated(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train(small(), folders[0], first)
    settings = replace(small(steps=0, guided=True), widths=None)
    card = train(settings, folders[0], second, folders[1], init=str(first))
    assert same(first, second)
    assert card is not None and len(card.error_curve) > 0 and card.architecture["channels_in"] == 1
    before = card.training["start"]["training"]
    assert before["steps"] == 12 and before["files"] == [] and len(card.training["files"]) > 0  # named once
    with pytest.raises(UsageError, match="nothing to train"):
        train(small(steps=0), folders[0], tmp_path / "third.safetensors")


def test_a_prior_that_does_not_fit_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plain, guided = tmp_path / "plain.safetensors", tmp_path / "guided.safetensors"
    train(small(), folders[0], plain)
    train(small(guided=True, modality="test-offset"), folders[0], guided)
    output = tmp_path / "new.safetensors"
    with pytest.raises(UsageError, match="another architecture"):
        train(small(widths=(8, 24)), folders[0], output, init=str(plain))
    with pytest.raises(UsageError, match="sees more channels"):
        train(small(), folders[0], output, init=str(guided))
    other = corpus_folder(tmp_path / "other", 2, quantity="a.u.")
    with pytest.raises(InputError, match="another quantity or scale"):
        train(small(), other, output, init=str(plain))
    assert not output.exists()


# --- bad input -------------------------------------------------------------------------------------------------
def test_refusals_leave_nothing_behind(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no volume"):
        train(small(), tmp_path / "empty", tmp_path / "p.safetensors")
    (tmp_path / "air").mkdir()
    write(tmp_path / "air" / "a.nii.gz", body(0).with_array(np.full((12, 40, 36), -1000, np.float32)), sidecar=False)
    with pytest.raises(InputError, match="no slice shows enough"):
        train(small(), tmp_path / "air", tmp_path / "p.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["air", "empty"]
    with pytest.raises(InputError, match="in the training and in the validation folder"):
        train(small(), folders[0], tmp_path / "p.safetensors", folders[0])


def test_outputs_are_checked_first(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written as \.safetensors"):
        train(small(), folders[0], tmp_path / "p.pt")
    with pytest.raises(UsageError, match="folder for the output does not exist"):
        train(small(), folders[0], tmp_path / "no" / "p.safetensors")
    (tmp_path / "p.safetensors").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists"):
        train(small(), folders[0], tmp_path / "p.safetensors", resume=True)
    assert (tmp_path / "p.safetensors").read_bytes() == b"old"


def test_a_loss_that_is_no_number_stops_the_training(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "p.safetensors"

    def spoiled(network: EDMDenoiser, batch: Batch) -> torch.Tensor:
        loss = denoising_loss(network, batch)
        calls.append(1)
        return loss * float("nan") if len(calls) == 8 else loss

    calls: list[int] = []
    monkeypatch.setattr("medrecon.training.loop.denoising_loss", spoiled)
    with pytest.raises(NonFinite, match="step 8"):
        train(small(), folders[0], output)
    assert not output.exists() and (work_folder(output) / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5, "minutes": 1.0}, "in steps or in minutes"),
        ({"steps": -1}, "must be positive"),
        ({"widths": (13, 20)}, "cannot be divided"),
        ({"widths": ()}, "at least one resolution"),
        ({"guided": True, "guides": 2}, "must be odd"),
        ({"unguided": 1.5}, "are shares"),
        ({"blind": -0.1}, "are shares"),
        ({"blind_levels": (4.0, 1.0)}, "in order"),
        ({"sizes": ((30, 2, 1.0),)}, "multiples of 4"),
        ({"sigma_data": 0.0}, "are positive"),
    ],
)
def test_impossible_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(**changes)


def test_the_card_of_a_training_is_plain_json(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train(small(), folders[0], tmp_path / "p.safetensors")
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["training"]["settings"]["augmentation"]["zoom_range"] == [0.85, 2.6]
