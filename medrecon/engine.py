"""``reconstruct``: one front door for every method, classical and diffusion."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from medrecon import __version__
from medrecon.assess import assess, is_foreign, rms
from medrecon.checkpoint import Progress, RunKey, empty_progress, load_progress, run_key, save_progress
from medrecon.data.volume import Volume, affine_between
from medrecon.errors import NonFinite, Stopped, UsageError
from medrecon.intervals import with_intervals
from medrecon.noise import KeyedNoise
from medrecon.prior import check_compatible
from medrecon.problem import Problem, System
from medrecon.samplers import Sampler, State
from medrecon.samplers.direct import DIRECT, direct_method
from medrecon.samplers.settings import make_sampler, sampler_for
from medrecon.selection import (
    Answer,
    Selection,
    classical_methods,
    diffusion_method,
    held_out,
    select,
    starting_method,
    too_few_to_hide,
)

JUDGEMENTS = ("none", "basic", "full")
"""How much is asked of a result: nothing but its residual, what costs a few per cent, or what costs further runs."""

_CHECKPOINT_SECONDS = 15.0


@dataclass(frozen=True, eq=False)
class StepReport:
    """What a callback is told after each step; ``volume()`` gives the current estimate."""

    stage: str  # "baseline" or the method's name
    sample: int
    step: int
    total_steps: int
    seconds: float
    remaining: float  # estimate, seconds
    stats: dict[str, float]
    volume: Callable[[], Volume]


Callback = Callable[[StepReport], bool | None]
"""Called after each step; returning False stops the run, which keeps the volume reached so far."""


@dataclass(frozen=True, eq=False)
class Result:
    """A reconstructed volume and what is known about it.

    ``status`` is ``"done"`` or ``"stopped"``. ``spread`` is the standard deviation over samples. ``baseline`` is the
    classical volume that the run started from or is judged against. ``assessment`` holds what `medrecon.assess` found,
    and the discrepancy of both; ``layers`` are its maps on the same grid.
    """

    volume: Volume
    status: str
    method: str
    stats: list[dict[str, float]]
    assessment: dict[str, object]
    provenance: dict[str, object]
    baseline: Volume | None = None
    baseline_method: str | None = None
    spread: Volume | None = None
    layers: dict[str, Volume] = field(default_factory=dict)


def reconstruct(
    problem: Problem,
    method: str = "auto",
    *,
    quantity: str | None = None,
    samples: int = 1,
    seed: int = 0,
    start: Volume | None = None,
    callback: Callback | None = None,
    checkpoint: Path | None = None,
    judgement: str = "basic",
    **settings: object,
) -> Result:
    """Reconstruct a volume.

    Parameters
    ----------
    problem : Problem
        Data, operator, noise model, prior.
    method : str
        A registered method: see ``medrecon methods``.
    quantity : str, optional
        Quantity of the returned volume; by default the prior's, or ``"HU"`` for attenuation.
    samples : int
        Independent runs of a stochastic method; the volume is their mean, ``spread`` their standard deviation.
    seed : int
        Same seed, same result, whatever the batch size.
    start : Volume, optional
        A volume on the problem's grid to start from: instead of the classical volume that a diffusion starts from by
        itself (total variation; along slopes for traces), of zero for total variation. Other methods ignore it.
    callback : callable, optional
        Told of every step; returns False to stop.
    checkpoint : Path, optional
        File to save progress in and to resume from; deleted by the caller when the result is safe.
    judgement : str
        How much is asked of the result: ``"none"``, ``"basic"``, or ``"full"``, which reconstructs twice more, with
        data held out and with other noise.
    **settings
        Fields of the method, for example ``steps=30``.

    Raises
    ------
    UsageError
        Unknown method or setting.
    InputError
        Data, geometry, prior and quantity do not fit together.
    NonFinite
        A NaN appeared; the message names the step, and the checkpoint holds the last good state.
    """
    began = time.perf_counter()
    if samples < 1:
        raise UsageError("at least one sample is needed", found=samples)
    if not 0 <= seed < 2**64:
        raise UsageError("the seed is out of range", found=seed, expected="0 to 2^64 - 1")
    if judgement not in JUDGEMENTS:
        raise UsageError("unknown kind of judgement", found=judgement, expected=", ".join(JUDGEMENTS))
    selection = None
    if method == "auto":
        wanted = classical_methods(problem)[0] if problem.prior is None else diffusion_method(problem.prior)
        make_sampler(wanted, settings)  # an unknown setting shows before the held-out test
        selection = _select(problem, seed, callback)
        method = selection.method
        settings = settings if method == wanted else selection.settings(method)
    direct = direct_method(problem.op)
    if method in DIRECT and direct in DIRECT:
        method = direct  # one method under the name that it has for this beam
    sampler = sampler_for(problem, method, settings)
    quantity = quantity or _default_quantity(problem)
    affine_between(problem.quantity, quantity, problem.water)  # raises for a quantity that cannot be given
    system = problem.system()
    run = _Run(system, quantity, callback, began)

    given = None if start is None else system.internal(start, "the volume to start from")
    baseline, baseline_method = None, None
    if sampler.needs_prior:
        if problem.prior is None:
            raise UsageError(f"method {method} needs a prior", hint="Give one with --prior; see medrecon priors list.")
        first = starting_method(problem) if selection is None else selection.classical
        baseline_method = first if given is None else "given"
        baseline = given
        if baseline is None:
            shares = {} if selection is None else selection.settings(first)
            baseline = run.loop(sampler_for(problem, first, shares), KeyedNoise(seed), "baseline").estimate
        theirs = problem.prior.card
        ends = torch.quantile(baseline.flatten()[:: max(1, baseline.numel() // 100_000)], torch.tensor([0.01, 0.99]))
        check_compatible(theirs, theirs.quantity, (ends * theirs.scale + theirs.offset).tolist())  # units of the prior
        given = baseline
    elif direct is not None and method != direct:
        baseline_method = direct
        baseline = run.loop(make_sampler(direct, {}), KeyedNoise(seed), "baseline").estimate

    system = replace(system, start=given)
    run = replace(run, system=system)
    description = {"method": method, "sampler": repr(sampler), "seed": seed, "samples": samples, "version": __version__}
    card = problem.prior.card if problem.prior is not None else None
    weights = card.sha256 if card is not None else ""
    tensors = [problem.y] if start is None or given is None else [problem.y, given]
    key = run_key(
        description | {"prior": repr(card and replace(card, calibration=()))},
        tensors,
        system.fingerprint() if checkpoint else (),
    )
    progress = run.samples(sampler, samples, seed, method, checkpoint, key)
    mean = progress.mean if progress.sample else progress.state.estimate
    spread = run.volume(progress.spread(), difference=True) if progress.sample > 1 else None
    assessment: dict[str, object] = {"discrepancy": system.discrepancy(mean)}
    if baseline is not None:
        assessment["baseline_discrepancy"] = system.discrepancy(baseline)
    if selection is not None:
        assessment["selection"] = selection.to_record()
    layers: dict[str, Volume] = {}
    learnt = {} if selection is None else selection.interval
    if judgement != "none" and not run.stopped:
        errors = {} if selection is None else selection.held_out_errors()
        stability = None
        if judgement == "full":
            again = _Again(problem, method, seed, callback, settings)
            if not errors:
                errors, learnt = again.held_out_errors(needs_prior=sampler.needs_prior)
            stability = again.change_under_noise(system, mean)
        found = assess(
            system,
            mean,
            classical=baseline if sampler.needs_prior else None,
            spread=progress.spread() if progress.sample > 1 else None,
            held_out=errors,
            stability=stability,
            unit=abs(system.scale * affine_between(problem.quantity, quantity, problem.water)[0]),
        )
        assessment = found.figures | assessment
        layers = {name: run.layer(name, values) for name, values in found.maps.items()}
    result = Result(
        volume=run.volume(mean),
        status="done" if progress.sample == samples else "stopped",
        method=method,
        stats=run.history,
        assessment=assessment,
        provenance=description
        | {
            "settings": {f.name: getattr(sampler, f.name) for f in fields(sampler)},
            "prior": problem.prior.card.name if problem.prior is not None and sampler.needs_prior else None,
            "prior_sha256": weights if sampler.needs_prior else None,
            "evaluations_per_slice": sampler.evaluations() * samples,
            "seconds": time.perf_counter() - began,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "quantity": quantity,
            "noise_level": system.noise_level,
        },
        baseline=run.volume(baseline) if baseline is not None else None,
        baseline_method=baseline_method,
        spread=spread,
        layers=layers,
    )
    return result if judgement == "none" else with_intervals(result, system, learnt)


@dataclass(frozen=True, eq=False)
class _Again:
    """The same method on changed data, for what a result is worth."""

    problem: Problem
    method: str
    seed: int
    callback: Callback | None
    settings: dict[str, object]

    def run(self, problem: Problem, method: str, what: str, settings: dict[str, object]) -> Tensor:
        """One sample, in the problem's quantity."""
        result = reconstruct(
            problem,
            method,
            quantity=problem.quantity,
            seed=self.seed,
            callback=self.callback and _renamed(self.callback, what),
            judgement="none",
            **settings,  # type: ignore[arg-type]
        )
        if result.status != "done":
            raise Stopped("stopped while the result was judged", hint="Choose --trust basic to leave that out.")
        return torch.from_numpy(result.volume.array)

    def held_out_errors(self, *, needs_prior: bool) -> tuple[dict[str, float], dict[str, object]]:
        """Prediction errors of held-out data, of the method and of a classical one, and what they teach of intervals.

        Both are empty with too few groups.
        """
        if too_few_to_hide(self.problem):
            return {}, {}
        held = held_out(self.problem)
        tested = held.tested(self.problem)
        reduced = replace(tested, used=held.used)
        candidates = [("result", self.method, self.settings)]
        classical = starting_method(self.problem)
        if needs_prior or self.method != classical:
            candidates.append(("classical", classical, {}))
        volumes = {name: self.run(reduced, method, "held-out test", settings) for name, method, settings in candidates}
        errors = {name: held.error(tested, volume) for name, volume in volumes.items()}
        return errors | {"signal": held.signal(tested)}, held.interval(tested, Answer(volumes["result"]))

    def change_under_noise(self, system: System, mean: Tensor) -> float | None:
        """Root-mean-square change of the volume, internal units, when its own data are measured with other noise."""
        noise = self.problem.noise_model
        if noise is None:
            return None
        clean = self.problem.op(system.to_quantity(mean).contiguous())
        other = self.run(replace(self.problem, y=noise.sample(clean, self.seed + 1)), self.method, "other noise",
                         self.settings)  # fmt: skip
        return rms(system.from_quantity(other) - mean)


def _select(problem: Problem, seed: int, callback: Callback | None) -> Selection:
    """All candidates on a share of the data."""

    def solve(reduced: Problem, method: str, start: Tensor | None) -> Tensor:
        result = reconstruct(
            reduced,
            method,
            quantity=reduced.quantity,
            seed=seed,
            start=None if start is None else Volume(start.numpy(), reduced.geometry, reduced.quantity),
            callback=callback and _renamed(callback, "held-out test"),
            judgement="none",
        )
        if result.status != "done":
            raise Stopped("stopped during the held-out test", hint="Choose a --method to leave the test out.")
        return torch.from_numpy(result.volume.array)

    def foreign(reduced: Problem, classical: Tensor) -> bool:
        if problem.prior is None or not problem.prior.card.brightness:
            return False
        system = reduced.system()
        return is_foreign(system, system.from_quantity(classical))

    return select(problem, solve, foreign)


def _renamed(callback: Callback, what: str) -> Callback:
    return lambda report: callback(replace(report, stage=f"{what}: {report.stage}"))


def _default_quantity(problem: Problem) -> str:
    if problem.prior is not None:
        return problem.prior.card.quantity
    return "HU" if problem.quantity == "1/mm" else problem.quantity


@dataclass(frozen=True, eq=False)
class _Run:
    """The loop around a sampler: progress, stopping, checkpoints."""

    system: System
    quantity: str
    callback: Callback | None
    began: float
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)

    def volume(self, x: Tensor, *, difference: bool = False) -> Volume:
        """Internal values as a volume in the user's quantity (``difference``: without the offset)."""
        raw = self.system.raw
        scale, offset = affine_between(raw.quantity, self.quantity, raw.water)
        values = x * (self.system.scale * scale) if difference else self.system.to_quantity(x) * scale + offset
        meta = {"map": "spread"} if difference else {}
        return Volume(values.contiguous().numpy(), self.system.geometry, self.quantity, meta)

    def layer(self, name: str, x: Tensor) -> Volume:
        """A map of the assessment: shares as they are, others in the user's quantity without its offset."""
        if name.endswith("share"):
            return Volume(x.contiguous().numpy(), self.system.geometry, "share", {"map": name})
        volume = self.volume(x, difference=True)
        return replace(volume, meta={"map": name})

    def samples(
        self, sampler: Sampler, samples: int, seed: int, method: str, checkpoint: Path | None, key: RunKey
    ) -> Progress:
        """All samples, one after the other, resumed from the checkpoint where there is one."""
        if checkpoint is not None and checkpoint.exists():
            progress = load_progress(checkpoint, key)
        else:
            state = sampler.init(self.system, KeyedNoise(seed))
            progress = empty_progress(self.system.geometry.shape, state)
        saved = [time.perf_counter()]

        while progress.sample < samples and not self.stopped:

            def keep(state: State, *, now: bool = False, progress: Progress = progress) -> None:
                if checkpoint is not None and (now or time.perf_counter() - saved[0] > _CHECKPOINT_SECONDS):
                    save_progress(checkpoint, key, replace(progress, state=state))
                    saved[0] = time.perf_counter()

            keyed = KeyedNoise(seed, progress.sample)
            state = self.loop(sampler, keyed, method, progress.state, samples - progress.sample, keep)
            progress = replace(progress, state=state)
            if checkpoint is not None and self.stopped:
                save_progress(checkpoint, key, progress)
            if not sampler.done(state):
                break
            progress = progress.finished(state.estimate)
            if progress.sample < samples:
                progress = replace(progress, state=sampler.init(self.system, KeyedNoise(seed, progress.sample)))
        return progress

    def loop(
        self,
        sampler: Sampler,
        noise: KeyedNoise,
        stage: str,
        state: State | None = None,
        runs_left: int = 1,
        keep: Callable[..., None] | None = None,
    ) -> State:
        """Run one sample to its end, or until the callback says stop."""
        state = sampler.init(self.system, noise) if state is None else state
        began, first = time.perf_counter(), state.step
        while not sampler.done(state):
            try:
                following = sampler.step(self.system.at(state.step), state, noise)
                if not bool(torch.isfinite(following.estimate).all()):
                    raise NonFinite("NaN or infinity appeared", where="the volume")
            except NonFinite as error:
                if keep is not None:
                    keep(state, now=True)
                raise NonFinite(error.what, where=f"{stage}, step {state.step + 1}, {error.where}") from error
            state = following
            if keep is not None:
                keep(state)
            spent = time.perf_counter() - began
            left = sampler.total_steps * runs_left - state.step
            self.history.append({"stage": stage, "sample": noise.sample, "step": state.step, **state.stats})  # type: ignore[dict-item]
            if self.callback is not None:
                report = StepReport(
                    stage=stage,
                    sample=noise.sample,
                    step=state.step,
                    total_steps=sampler.total_steps,
                    seconds=time.perf_counter() - self.began,
                    remaining=spent / (state.step - first) * left,
                    stats=dict(state.stats),
                    volume=lambda x=state.estimate: self.volume(x),  # type: ignore[misc]
                )
                asked = time.perf_counter()
                if self.callback(report) is False:
                    self.stopped.append(True)
                    break
                began += time.perf_counter() - asked  # a pause is no part of the pace
        return state
