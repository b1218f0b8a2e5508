"""``train``: from a folder of volumes to a prior with its card."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from medrecon.data.atomic import check_target
from medrecon.errors import NonFinite, UsageError
from medrecon.network import EDMDenoiser
from medrecon.prior import NetworkPrior, PriorCard, bundled_priors, load_prior, read_card, save_prior
from medrecon.training.augment import Augmentation
from medrecon.training.batches import Batch, Batches, in_order
from medrecon.training.card import make_card
from medrecon.training.corpus import Corpus, check_disjoint, hold_out, load_corpus
from medrecon.training.guides import BackgroundMaker, PairFolder, PairSettings
from medrecon.training.pace import POOL_STEPS, Clock, Pool, learning_rate
from medrecon.training.settings import DEFAULT_WIDTHS, Intensity, TrainingSettings
from medrecon.training.state import TrainingState, check_start, load_checkpoint, save_checkpoint
from medrecon.training.validate import ValidationSet, full_report, quick_check, validation_pairs, validation_set

_DEFAULT_MINUTES = 60.0
_FIRST_PAIRS = 4  # that must be there before the first step
_CHECKS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # of the budget: validated there
_REPORT_STEPS = 10  # between two calls of the callback


@dataclass(frozen=True)
class TrainingReport:
    """What a callback is told.

    ``stage`` is ``"reading"``, ``"guides"``, ``"training"`` or ``"validation"``; ``fraction`` of that stage is done.
    ``stats`` holds, while training, the mean ``loss`` since the last report and the ``learning_rate``.
    """

    stage: str
    fraction: float
    step: int
    seconds: float
    remaining: float | None
    stats: dict[str, float] = field(default_factory=dict)


Callback = Callable[[TrainingReport], bool | None]
"""Returning False stops the training; its state is saved."""


class _Stopped(Exception):
    """The callback said stop."""


def work_folder(output: Path) -> Path:
    """Where a training keeps its corpus, its pairs and its checkpoint: ``NAME.training`` beside the prior."""
    return output.with_name(f"{output.stem}.training")


def train(
    settings: TrainingSettings,
    data: Path,
    output: Path,
    validation: Path | None = None,
    *,
    init: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callback: Callback | None = None,
) -> PriorCard | None:
    """Train a prior on a folder of volumes and write it with its card.

    Parameters
    ----------
    settings : TrainingSettings
        Budget, network, recipe.
    data : Path
        Folder of NIfTI files and of folders of DICOM slices.
    output : Path
        ``NAME.safetensors``; the card goes to ``NAME.json``. Corpus, pairs and checkpoint are kept in
        `work_folder` until they are deleted by hand; the checkpoint goes when the prior is written.
    validation : Path, optional
        Folder of volumes of other people. By default every tenth volume of ``data`` is set aside (none of fewer
        than four: then the card has no error curve).
    init : str, optional
        Name or file of a prior to start from. Guide channels that it does not have start without effect.
    resume : bool
        Go on from the checkpoint, where there is one. The result is that of an uninterrupted run, bit for bit, if
        the budget is in steps and the pairs are made beforehand.
    overwrite : bool
        Replace an existing prior, and discard the checkpoint of an unfinished training.
    callback : callable, optional
        Told of the progress; returns False to stop.

    Returns
    -------
    PriorCard or None
        The card as it was written; None if the callback stopped the training.

    Raises
    ------
    UsageError
        The output exists, an unfinished training stands there, settings do not fit ``init``.
    InputError
        No volumes, volumes of another quantity, nothing but air, a volume in both folders.
    ResumeError
        The checkpoint is damaged or belongs to another training.
    NonFinite
        The loss is no number any more; the message names the step.
    """
    settings = _with_budget(settings)
    if output.suffix != ".safetensors":
        raise UsageError("a prior is written as .safetensors", found=output.name)
    for path in (output, output.with_suffix(".json")):
        check_target(path, overwrite=overwrite)
    start = load_prior(init) if init is not None else None
    settings = replace(settings, widths=DEFAULT_WIDTHS) if start is None and not settings.widths else settings
    first = None if start is None else _trainable(start)
    if first is not None:
        settings = _fitted(settings, first)
    if settings.steps == 0 and start is None:
        raise UsageError("without a step there is nothing to train", hint="Give --init, or more steps.")
    run = _Run(settings, output, callback)
    if run.checkpoint.exists() and not resume:
        if not overwrite:
            raise UsageError(
                "an unfinished training stands here", where=run.work.name,
                hint="Go on with --resume, or start afresh with --overwrite.",
            )  # fmt: skip
        run.checkpoint.unlink()
    try:
        training, held = run.corpora(data, validation)
        if start is not None:
            facts = (training.intensity.quantity, training.intensity.scale or 1.0, training.intensity.offset)
            check_start(start.card.quantity, start.card.scale, start.card.offset, facts, start.card.name)
        sigma_data = first.sigma_data if first else settings.sigma_data or training.standard_deviation
        state = TrainingState.new(settings, sigma_data, first)
        key = _key(settings, training, start.card.sha256 if start else "", sigma_data)
        if resume and run.checkpoint.exists():
            load_checkpoint(run.checkpoint, key, state)
        checks = run.validation(held)
        pairs = run.pairs(training, _recipe(settings, init, start))
        run.train(state, training, pairs, checks, key)
        card = run.finish(state, training, held, checks, start.card if start else None)
    except _Stopped:
        return None
    finally:
        _remove_empty(run.work)
    return card


class _Run:
    """The parts of one training that share its settings, its folder and its callback."""

    def __init__(self, settings: TrainingSettings, output: Path, callback: Callback | None) -> None:
        self.settings, self.output, self.callback = settings, output, callback
        self.work = work_folder(output)
        self.checkpoint = self.work / "checkpoint.safetensors"
        self.began = time.monotonic()

    def tell(self, stage: str, fraction: float, step: int = 0, **known: object) -> bool:
        """Call the callback; True if the training may go on."""
        if self.callback is None:
            return True
        seconds = float(known.pop("seconds", time.monotonic() - self.began))  # type: ignore[arg-type]
        remaining = known.pop("remaining", None)
        report = TrainingReport(stage, fraction, step, seconds, remaining, known.get("stats", {}))  # type: ignore[arg-type]
        return self.callback(report) is not False

    def _counter(self, stage: str) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            if not self.tell(stage, done / total):
                raise _Stopped

        return progress

    def corpora(self, data: Path, validation: Path | None) -> tuple[Corpus, Corpus | None]:
        """Slices to train on and slices to validate on."""
        settings = self.settings

        def read(folder: Path, cache: str, intensity: Intensity | None) -> Corpus:
            return load_corpus(
                folder, self.work / cache, intensity=intensity, planes=settings.planes,
                minimum_pixels=settings.minimum_pixels, progress=self._counter("reading"),
            )  # fmt: skip

        corpus = read(data, "corpus", settings.intensity)
        if validation is None:
            return hold_out(corpus)
        held = read(validation, "validation", corpus.intensity)
        check_disjoint(corpus, held)
        return corpus, held

    def validation(self, held: Corpus | None) -> ValidationSet | None:
        """What checks are made on; None without validation volumes."""
        if held is None:
            return None
        pairs = validation_pairs(held, self.settings, self.work / "validation-pairs")
        if pairs is not None:
            pairs.make(self._counter("guides"))
        return validation_set(held, self.settings, pairs)

    def pairs(self, training: Corpus, recipe: PairSettings) -> PairFolder | None:
        """The folder of pairs; filled, unless that is done beside the training."""
        settings = self.settings
        if not settings.guided or settings.steps == 0:
            return None
        pairs = PairFolder(self.work / "pairs", training, recipe)
        now = _FIRST_PAIRS if settings.pairs_in_background else settings.pairs
        pairs.make(self._counter("guides"), lambda: pairs.ready() < now)
        return pairs

    # --- the loop ----------------------------------------------------------------------------------------------
    def train(
        self, state: TrainingState, corpus: Corpus, pairs: PairFolder | None, checks: ValidationSet | None, key: str
    ) -> None:
        """Optimiser steps until the budget is used up."""
        settings = self.settings
        pool = Pool(pairs, state)
        batches = Batches(corpus, pairs, settings)
        clock = Clock(state, settings)
        losses: list[float] = []
        with ExitStack() as stack:
            maker = stack.enter_context(BackgroundMaker(pairs)) if pairs and settings.pairs_in_background else None
            stream = in_order(lambda step: batches.batch(step, pool.at(step)), state.step, settings.workers)
            stack.callback(stream.close)  # type: ignore[attr-defined]
            while (before := clock.fraction()) < 1:
                batch = next(stream)
                loss = denoising_loss(state.network, batch.to(settings.device))
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise NonFinite(
                        "the loss is no finite number", where=f"step {state.step + 1}",
                        hint="Resume from the last checkpoint with a smaller learning rate, or look for wild values.",
                    )  # fmt: skip
                state.pairs = pool.at(state.step)
                rate = learning_rate(settings, state.step, before)
                state.update(loss, rate, settings)
                state.running.append(value)
                losses.append(value)
                clock.tick()
                after = clock.fraction()
                for mark in _CHECKS:
                    if before < mark <= after and after < 1:
                        self._note(state, checks)
                if state.step % settings.checkpoint_every == 0 and after < 1:
                    save_checkpoint(self.checkpoint, key, state)
                if maker is not None and state.step % POOL_STEPS == 0:
                    maker.check()
                if state.step % _REPORT_STEPS == 0 or after >= 1:
                    stats = {"loss": sum(losses) / len(losses), "learning_rate": rate, "pairs": float(state.pairs)}
                    losses.clear()
                    going_on = self.tell(
                        "training", after, state.step, seconds=state.seconds, remaining=clock.remaining(), stats=stats
                    )
                    if not going_on and after < 1:
                        save_checkpoint(self.checkpoint, key, state)
                        raise _Stopped
            if state.step:
                save_checkpoint(self.checkpoint, key, state)

    def _note(self, state: TrainingState, checks: ValidationSet | None) -> None:
        """An entry of the history."""
        entry: dict[str, object] = {
            "step": state.step,
            "seconds": round(state.seconds, 1),
            "cpu_seconds": round(state.cpu_seconds, 1),
            "loss": sum(state.running) / max(1, len(state.running)),
            "pairs": state.pairs,
        }
        state.running.clear()
        if checks is not None:
            entry |= quick_check(state.mean, checks)
        state.history.append(entry)

    # --- the end -----------------------------------------------------------------------------------------------
    def finish(
        self,
        state: TrainingState,
        training: Corpus,
        held: Corpus | None,
        checks: ValidationSet | None,
        before: PriorCard | None,
    ) -> PriorCard:
        """Validate, write the prior, remove the checkpoint."""
        self.tell("validation", 0.0, state.step)
        self._note(state, checks)
        report = full_report(state.mean, checks, training, self.settings) if checks is not None else {}
        card = make_card(self.settings, state, training, held, report, before, self.output.stem)
        save_prior(self.output, state.mean.cpu(), card, overwrite=True)
        self.checkpoint.unlink(missing_ok=True)
        self.tell("validation", 1.0, state.step)
        return read_card(str(self.output))


def denoising_loss(network: EDMDenoiser, batch: Batch) -> Tensor:
    """Denoising error, weighted so that every noise level asks the same of the network (Karras et al. 2022, table 1).

    With a guide, its error takes the place of the standard deviation of the data: its own error in each crop, so that
    good guides are to be improved as much as bad ones, in decibels.
    """
    sigma, spread = batch.sigma, torch.tensor(network.sigma_data, device=batch.sigma.device)
    if batch.guide is not None:
        wrong = (batch.guide[:, network.guides // 2, None] - batch.clean).square().mean(dim=(1, 2, 3)).sqrt()
        spread = wrong.clamp(*_GUIDE_ERRORS)
    noisy = (batch.clean + sigma[:, None, None, None] * batch.noise).contiguous(memory_format=torch.channels_last)
    weight = (sigma**2 + spread**2) / (sigma * spread) ** 2
    error = (network(noisy, sigma, batch.guide) - batch.clean).square().mean(dim=(1, 2, 3))
    return (error * weight).mean()


_GUIDE_ERRORS = (0.02, 0.4)  # network units: no crop weighs more or less than these


def _with_budget(settings: TrainingSettings) -> TrainingSettings:
    if settings.steps is None and settings.minutes is None:
        return replace(settings, minutes=_DEFAULT_MINUTES)
    return settings


def _recipe(settings: TrainingSettings, init: str | None, start: NetworkPrior | None) -> PairSettings:
    """How pairs are made. Raises UsageError where guides are to be refined and there is no prior that can."""
    recipe = PairSettings(
        settings.modality, settings.pairs, settings.seed, frame=settings.frame, slices=settings.pair_slices,
        mapped=settings.mapped,
    )  # fmt: skip
    if not settings.refined:
        return recipe
    name = settings.refined_by or init
    prior = load_prior(settings.refined_by) if settings.refined_by else start
    if name is None or prior is None or not prior.guides:
        raise UsageError("refined guides need a guided prior to start from", hint="Give one with --init.")
    place = name if name in bundled_priors() else str(Path(name).resolve())
    return replace(recipe, refined=settings.refined, prior=place, prior_sha256=prior.card.sha256)


def _trainable(start: NetworkPrior) -> EDMDenoiser:
    """The network to start from. Raises UsageError for an imported one."""
    if not isinstance(start.denoiser, EDMDenoiser):
        raise UsageError(
            "only the package's own networks are trained further", where=start.card.name,
            found=start.card.architecture.get("family"),
        )  # fmt: skip
    return start.denoiser


def _fitted(settings: TrainingSettings, start: EDMDenoiser) -> TrainingSettings:
    """The architecture of the prior to start from, where the settings do not name another.

    Without a step to train, the guides too are those of the prior.
    """
    config = start.network.config
    if settings.widths is None:
        settings = replace(settings, widths=config.widths, blocks=config.blocks, embedding=config.embedding)
    if settings.steps == 0:
        settings = replace(settings, guided=start.guides > 0)
    if settings.guided and start.guides:
        settings = replace(settings, guides=start.guides, mapped=config.mapped)
    return settings


_NEWER = ("frame", "mapped", "polarity", "overhang", "refined_by")


def _key(settings: TrainingSettings, corpus: Corpus, start: str, sigma_data: float) -> str:
    """Hash of everything but the budget that decides the result."""
    names = ("name", "description", "licence", "steps", "minutes", "checkpoint_every", "workers", "device")
    other = ("validation_slices", "validation_pairs", "sampled_slices", "pairs_in_background")
    chosen = {name: value for name, value in settings.to_dict().items() if name not in names + other}
    for group, plain in ((chosen, TrainingSettings()), (chosen["augmentation"], Augmentation())):
        for name in _NEWER:  # checkpoints from before these could be set stay valid
            if name in group and group[name] == getattr(plain, name):
                del group[name]
    text = json.dumps([chosen, corpus.key, start, sigma_data], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _remove_empty(work: Path) -> None:
    """Take away folders in which nothing was left, so that a refused training leaves nothing behind."""
    if work.is_dir():
        for folder in (*sorted(p for p in work.iterdir() if p.is_dir()), work):
            if not any(folder.iterdir()):
                shutil.rmtree(folder)
