"""`recon` of surveys that do not fit into memory: from SEG-Y to SEG-Y, some rows at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from medrecon.cli import console, options, running
from medrecon.cli.stored import Beside, stored_report
from medrecon.errors import MedreconError, ResumeError, UsageError

if TYPE_CHECKING:
    from medrecon.cli.job import Job
    from medrecon.data.trace_grid import ReadOptions
    from medrecon.data.traces import Traces
    from medrecon.filling import Filled, Method
    from medrecon.prior import NetworkPrior
    from medrecon.streaming import Source

_Found = TypeVar("_Found")

_TILE = 256  # samples and traces that a prior takes at once of sections larger than `medrecon.streaming.SECTION`


def is_for(job: Job) -> bool:
    """Whether the job is one of traces into traces, and larger than the memory that it may take."""
    from medrecon.data import Traces, sniff
    from medrecon.data.formats import content_for
    from medrecon.data.segy_reading import SEGY_KINDS

    kind = sniff(job.data)
    if kind not in SEGY_KINDS or job.preview is not None or content_for(job.output) is not Traces:
        return False
    from medrecon.streaming import exceeds_memory

    return exceeds_memory(job.data, _options(job))


def _options(job: Job) -> ReadOptions | None:
    from medrecon.data import sniff

    return options.trace_options(job.config.traces, sniff(job.data)) if job.config.traces else None


def execute(job: Job, *, resume: bool = False) -> dict[str, object]:
    """Fill the traces, write them, the baseline and the intervals; returns the summary.

    Work files stand beside the output until it is written: a run that was stopped goes on from them.
    """
    from medrecon.data import write
    from medrecon.streaming import Source, allowed_bytes, judged_by, predicted

    config, began, said = job.config, time.perf_counter(), _options(job)
    settings, name, seed = job.method_settings(), config.method or "auto", config.seed or 0
    prior = job.prior("seismic")
    _refuse(job, name, settings, prior)
    console.remark(f"{job.data.name}: larger than the memory that may be taken; filled some rows at a time")
    source, beside = Source.open(job.data, said), Beside(job.output)
    # As much as when the run was begun, so that its bands are the same
    begun, key = WorkFolder(beside.work).known("allowed") if resume else None, _key(job, prior)
    allowed = allowed_bytes(said) if begun is None else int(str(begun))
    prior = _fitting(prior, source, allowed, asked=config.prior is not None or name != "auto")
    with WorkFolder.of(beside, key, resume=resume) as work:
        work.found("allowed", lambda: allowed)
        tests = dict[str, object]()
        if name == "auto" or config.trust == "full":
            tests = work.found("tests", lambda: predicted(source, allowed, name, settings, seed, prior))
        method, classical = _chosen(name, settings, tests, prior)
        earlier = beside.of_earlier_run()
        with running.stoppable() as stop:
            run = _Run(job, source, work, stop, allowed)
            filled, others = run.surveys(replace(method, seed=seed), classical, tests)
            judged = {} if config.trust == "none" else judged_by(source.live, filled.loudness, tests)
            files = {other: beside.named(other) for other in others}
            record = _record(job, filled.traces, method, judged, files, time.perf_counter() - began)
            if "baseline" in others:
                record["baseline_method"] = classical.name
            write(job.output, filled.traces, overwrite=job.overwrite, provenance=record)
            for other, traces in others.items():
                about = _companion(record, other, classical.name if other == "baseline" else method.name)
                write(files[other], traces, overwrite=job.overwrite, provenance=about)
    beside.remove(earlier, [path.name for path in files.values()])
    summary = {
        "output": str(job.output), "method": method.name, "status": "done", "samples": 1, "seed": seed,
        "quantity": "amplitude", "discrepancy": 0.0, "noise_known": False, "seconds": time.perf_counter() - began,
        **{figure: value for figure, value in _mapping(record["residual"]).items() if figure != "noise"},
        **{other: str(path) for other, path in files.items()},
    }  # fmt: skip
    if "baseline" in others:
        summary |= {"baseline_method": classical.name, "baseline_discrepancy": 0.0}
    if config.report is not None:
        from medrecon.report import write_report

        data = stored_report(job.output, job.truth)
        summary["report"] = str(write_report(config.report, data, overwrite=job.overwrite))
    return summary


def _refuse(job: Job, method: str, settings: dict[str, object], prior: NetworkPrior | None) -> None:
    from medrecon.samplers.settings import make_sampler

    if method != "auto":
        make_sampler(method, settings)  # what is unknown shows before work files of an earlier run are removed
    for name, asked in {
        "--samples": (job.config.samples or 1) > 1,
        "--device": job.config.device not in (None, "auto", "cpu"),
        "--set": method == "auto" and bool(settings) and prior is None,
    }.items():
        if asked:
            raise UsageError(
                f"{name} needs the volume in memory, and this survey is larger", where=job.data.name,
                hint="Leave it out, or allow more memory: --traces memory=MIB.",
            )  # fmt: skip


def _fitting(prior: NetworkPrior | None, source: Source, allowed: int, *, asked: bool) -> NetworkPrior | None:
    """The prior as large sections need it; None where it does not fit into memory and nobody ``asked`` for it."""
    from medrecon.streaming import SECTION, rows_at_once

    if prior is None:
        return None
    try:
        rows_at_once(source, allowed, with_prior=True)
    except UsageError:
        if asked:
            raise
        console.remark("the prior is left out: it needs more memory for sections of this size")
        return None
    _, samples, columns = source.shape
    return prior if "tile" in prior.card.architecture or samples * columns <= SECTION else prior.tiled(_TILE)


def _chosen(
    name: str, settings: dict[str, object], tests: dict[str, object], prior: NetworkPrior | None
) -> tuple[Method, Method]:
    """The method, and the classical one that it starts from or is shown beside: as of runs in memory."""
    from medrecon.filling import Method
    from medrecon.physics.seismic import TraceMask
    from medrecon.samplers import samplers
    from medrecon.selection import Selection

    record = tests.get("selection")
    selection = None if record is None else Selection(**_mapping(record))  # type: ignore[arg-type]
    name = name if selection is None else selection.method
    if not samplers.get(name).needs_prior:
        settings = settings if selection is None else selection.settings(name)
        return Method(name, settings), Method(TraceMask.direct_method)
    first = TraceMask.starting_method if selection is None else selection.classical
    return Method(name, settings, prior), Method(first, {} if selection is None else selection.settings(first))


@dataclass(frozen=True)
class WorkFolder:
    """Files of an unfinished run, and what it found out before it made them."""

    path: Path

    @classmethod
    @contextmanager
    def of(cls, beside: Beside, key: str, *, resume: bool) -> Iterator[WorkFolder]:
        """A new one beside an output; with ``resume`` the one that is there. It goes when the run is done.

        ``key`` says what the run is. Raises ResumeError where the folder belongs to another one.
        """
        if not resume:
            beside.remove_unfinished()
        elif not beside.work.exists():
            console.remark(running.NOTHING_TO_RESUME)
        beside.work.mkdir(exist_ok=True)
        work = cls(beside.work)
        if work.found("key", lambda: key) != key:
            raise ResumeError(
                "the work files belong to another run", where=beside.work.name,
                hint="Leave --resume out to start afresh, or run with the settings that they were made with.",
            )  # fmt: skip
        try:
            yield work
        except MedreconError:
            if not any(work.path.glob("*.rows")):  # nothing that took long
                beside.remove_unfinished()
            raise
        beside.remove_unfinished()

    def found(self, name: str, find: Callable[[], _Found]) -> _Found:
        """What ``find()`` returns, plain values, now or when the run was begun.

        Raises ResumeError where that is damaged.
        """
        from medrecon.data.atomic import write_bytes

        if (value := self.known(name)) is None:
            value = find()
            write_bytes(self._file(name), json.dumps(value).encode())
        return value  # type: ignore[return-value]

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def known(self, name: str) -> object:
        """What was found before; None where nothing was. Raises ResumeError where it is damaged."""
        path = self._file(name)
        try:
            return json.loads(path.read_text())  # type: ignore[no-any-return]
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ResumeError(
                "the work files are damaged", where=f"{self.path.name}/{path.name}", hint="Leave --resume out."
            ) from error


def _key(job: Job, prior: NetworkPrior | None) -> str:
    """Of all that decides what a run makes; of the survey name, size and time, since it may be very large."""
    from medrecon import __version__
    from medrecon.checkpoint import run_key

    file, said = job.data.stat(), vars(job.config) | {"report": None, "device": None}
    about = {"version": __version__, "request": said, "prior": prior and prior.card.sha256,
             "file": [job.data.name, file.st_size, file.st_mtime_ns]}  # fmt: skip
    return run_key(about, []).digest


@dataclass(frozen=True)
class _Run:
    """The parts of one run that share its survey, its folder of work files, and who may stop it."""

    job: Job
    source: Source
    work: WorkFolder
    stop: list[int]
    allowed: int

    def surveys(self, method: Method, classical: Method, tests: dict[str, object]) -> tuple[Filled, dict[str, Traces]]:
        """The result, and what stands beside it by name; all of it is made before anything is written."""
        start = None if method.prior is None else self.filled(classical, "baseline")
        filled = self.filled(replace(method, start=start), "result")
        others: dict[str, Traces] = {}
        if self.job.config.trust != "none" and (width := self.half_width(filled, tests)) is not None:
            others["half-width"] = width
        if method.name != classical.name:
            others["baseline"] = (start or self.filled(classical, "baseline")).traces
        return filled, others

    def filled(self, method: Method, what: str) -> Filled:
        """The survey filled by one method, with progress on stderr. A signal ends the command."""
        from medrecon.filling import fill

        with self._bar(method.name) as show:
            found = fill(self.source, method, self.work.path / what, show, self.allowed)
        return self._kept(found)

    def half_width(self, filled: Filled, tests: dict[str, object]) -> Traces | None:
        """Intervals from what hidden traces taught; their mean goes into ``tests``. None where nothing was taught."""
        from medrecon.filling import fill_widths

        learnt = _mapping(tests.get("intervals"))
        if "kinds" not in learnt:
            return None
        with self._bar("intervals") as show:
            found = fill_widths(filled, learnt, self.work.path / "half-width", show)
        width, mean = self._kept(found)
        tests["intervals"] = learnt | {"mean_half_width": mean}
        return width

    @contextmanager
    def _bar(self, stage: str) -> Iterator[Callable[[int, int], bool]]:
        bars = running.Bars()

        def show(done: int, rows: int) -> bool:
            bars.show(stage, done, rows)
            return not self.stop

        try:
            yield show
        finally:
            bars.close()

    def _kept(self, found: _Found | None) -> _Found:
        if found is None:
            console.say(f"medrecon: interrupted. {self.job.output.name} was not written. {running.RESUME}")
            raise typer.Exit(128 + self.stop[0])
        return found


def _record(
    job: Job, filled: Traces, method: Method, judged: dict[str, object], files: dict[str, Path], seconds: float
) -> dict[str, object]:
    """As of a run in memory."""
    from medrecon.data.provenance import describe_run
    from medrecon.data.survey import survey_of
    from medrecon.scans import measured_in_words

    card = None if method.prior is None else method.prior.card
    run = {"method": method.name, "samples": 1, "seconds": seconds, "in_windows": True,
           "prior": card and card.name, "prior_sha256": card and card.sha256}  # fmt: skip
    return describe_run(
        inputs=[job.data],
        weights=running.prior_file(method.prior, job.config.prior),
        settings={"method": method.name, **method.settings},
        seed=job.config.seed,
        residual=judged | {"noise": {}},
        timings={"seconds": seconds},
        extra={
            "status": "done",
            "method": method.name,
            "baseline_method": None,
            "beside": {name: path.name for name, path in files.items()},
            "request": vars(job.config) | {"preview": None},
            "run": run,
            "data": {
                "title": f"{job.data.name}: {measured_in_words(filled)}",
                "modality": "seismic",
                "survey": survey_of(filled).to_record(),
            },
        },
    )


def _companion(record: dict[str, object], name: str, method: str) -> dict[str, object]:
    kept = ("versions", "seed", "inputs", "weights", "data")
    return {key: record[key] for key in kept if key in record} | {"role": name, "method": method}


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
