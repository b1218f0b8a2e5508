"""`recon` of surveys that do not fit into memory: from SEG-Y to SEG-Y, window by window."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medrecon.cli import console, options, running
from medrecon.cli.stored import Beside, stored_report
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from medrecon.cli.job import Job
    from medrecon.data.trace_grid import ReadOptions
    from medrecon.data.traces import Traces
    from medrecon.streaming import Filled, Source

    About = Callable[[Filled], dict[str, object]]

_BASELINE = "linear"  # as of runs in memory


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


def execute(job: Job) -> dict[str, object]:
    """Fill the traces, write them and the baseline; returns the summary. Raises UsageError for what needs a volume."""
    from medrecon.streaming import Source, allowed_bytes, judged_by, predicted

    config, began, said = job.config, time.perf_counter(), _options(job)
    settings, method = job.method_settings(), config.method or "auto"
    _refuse(job, method, settings)
    console.remark(f"{job.data.name}: larger than the memory that may be taken; filled window by window")
    source, tests = Source.open(job.data, said), dict[str, object]()
    if method == "auto" or config.trust == "full":
        tests = predicted(source, allowed_bytes(said), method, settings, config.seed or 0)
    selection = tests.get("selection")
    if isinstance(selection, dict):
        method = str(selection["method"])
    beside = Beside(job.output)
    earlier = beside.of_earlier_run()
    baseline = None if method == _BASELINE else beside.named("baseline")
    with running.stoppable() as stop:

        def written(method: str, settings: dict[str, object], target: Path, about: About) -> dict[str, object]:
            return _written(job, source, method, settings, target, stop, about)

        def result(filled: Filled) -> dict[str, object]:
            judged = tests if config.trust == "none" else judged_by(filled, tests)
            return _record(job, filled.traces, method, settings, judged, baseline, time.perf_counter() - began)

        record = written(method, settings, job.output, result)
        if baseline is not None:
            written(_BASELINE, {}, baseline, lambda filled: _companion(record))
    beside.remove(earlier, [] if baseline is None else [baseline.name])
    summary = {
        "output": str(job.output), "method": method, "status": "done", "samples": 1, "seed": config.seed or 0,
        "quantity": "amplitude", "discrepancy": 0.0, "noise_known": False, "seconds": time.perf_counter() - began,
        **{name: value for name, value in _mapping(record["residual"]).items() if name != "noise"},
    }  # fmt: skip
    if baseline is not None:
        summary |= {"baseline": str(baseline), "baseline_method": _BASELINE, "baseline_discrepancy": 0.0}
    if config.report is not None:
        from medrecon.report import write_report

        data = stored_report(job.output, job.truth)
        summary["report"] = str(write_report(config.report, data, overwrite=job.overwrite))
    return summary


def _refuse(job: Job, method: str, settings: dict[str, object]) -> None:
    for name, asked in {
        "--samples": (job.config.samples or 1) > 1,
        "--prior": job.config.prior is not None,
        "--set": method == "auto" and bool(settings),
    }.items():
        if asked:
            raise UsageError(
                f"{name} needs the volume in memory, and this survey is larger", where=job.data.name,
                hint="Leave it out, or allow more memory: --traces memory=MIB.",
            )  # fmt: skip


def _written(
    job: Job, source: Source, method: str, settings: dict[str, object], target: Path, stop: list[int], about: About
) -> dict[str, object]:
    """Fill the survey by one method and write it with its record, which is returned."""
    from medrecon.data import write
    from medrecon.streaming import fill, work_file

    with work_file(target) as folder:
        bars = running.Bars()

        def show(done: int, rows: int) -> bool:
            bars.show(method, done, rows)
            return not stop

        filled = fill(source, method, settings, Path(folder) / "samples", show)
        bars.close()
        if filled is None:
            console.say(f"medrecon: interrupted. {target.name} was not written.")
            raise typer.Exit(128 + stop[0])
        record = about(filled)
        write(target, filled.traces, overwrite=job.overwrite, provenance=record)
    return record


def _record(
    job: Job, filled: Traces, method: str, settings: dict[str, object], judged: dict[str, object],
    baseline: Path | None, seconds: float,
) -> dict[str, object]:  # fmt: skip
    """As of a run in memory."""
    from medrecon.data.provenance import describe_run
    from medrecon.data.survey import survey_of
    from medrecon.scans import measured_in_words

    return describe_run(
        inputs=[job.data],
        settings={"method": method, **settings},
        seed=job.config.seed,
        residual=judged | {"noise": {}},
        timings={"seconds": seconds},
        extra={
            "status": "done",
            "method": method,
            "baseline_method": None if baseline is None else _BASELINE,
            "beside": {} if baseline is None else {"baseline": baseline.name},
            "request": vars(job.config) | {"preview": None},
            "run": {"method": method, "samples": 1, "prior": None, "seconds": seconds, "in_windows": True},
            "data": {
                "title": f"{job.data.name}: {measured_in_words(filled)}",
                "modality": "seismic",
                "survey": survey_of(filled).to_record(),
            },
        },
    )


def _companion(record: dict[str, object]) -> dict[str, object]:
    kept = ("versions", "seed", "inputs", "data")
    return {key: record[key] for key in kept if key in record} | {"role": "baseline", "method": _BASELINE}


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
