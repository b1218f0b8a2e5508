"""`recon` of surveys that do not fit into memory: from SEG-Y to SEG-Y, window by window."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medrecon.cli import console, options, running
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.cli.job import Job
    from medrecon.data.trace_grid import ReadOptions
    from medrecon.data.traces import Traces


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
    """Fill the traces and write them; returns the summary of the run. Raises UsageError for what needs a volume."""
    from medrecon.data import write
    from medrecon.streaming import Source, allowed_bytes, choose, fill, work_file

    config, began, said = job.config, time.perf_counter(), _options(job)
    settings, method = job.method_settings(), config.method or "auto"
    for name, asked in {
        "--report": config.report is not None,
        "--samples": (config.samples or 1) > 1,
        "--prior": config.prior is not None,
        "--set": method == "auto" and bool(settings),
    }.items():
        if asked:
            raise UsageError(
                f"{name} needs the volume in memory, and this survey is larger", where=job.data.name,
                hint="Leave it out, or allow more memory: --traces memory=MIB.",
            )  # fmt: skip
    console.remark(f"{job.data.name}: larger than the memory that may be taken; filled window by window")
    source, selection = Source.open(job.data, said), None
    if method == "auto":
        selection = choose(source, allowed_bytes(said), config.seed or 0)
        method = str(selection["method"])
    with work_file(job.output) as folder, running.stoppable() as stop:
        bars = running.Bars()

        def show(done: int, rows: int) -> bool:
            bars.show(method, done, rows)
            return not stop

        filled = fill(source, method, settings, Path(folder) / "samples", show)
        bars.close()
        if filled is None:
            console.say("medrecon: interrupted. Nothing was written.")
            raise typer.Exit(128 + stop[0])
        seconds = time.perf_counter() - began
        record = _record(job, filled, method, settings, selection, seconds)
        write(job.output, filled, overwrite=job.overwrite, provenance=record)
    return {
        "output": str(job.output), "method": method, "status": "done", "samples": 1, "seed": config.seed or 0,
        "quantity": filled.quantity, "discrepancy": 0.0, "noise_known": False, "seconds": seconds,
        **({} if selection is None else {"selection": selection}),
    }  # fmt: skip


def _record(
    job: Job, filled: Traces, method: str, settings: dict[str, object], selection: dict[str, object] | None,
    seconds: float,
) -> dict[str, object]:  # fmt: skip
    """As of a run in memory, without what was not judged."""
    from medrecon.data.provenance import describe_run
    from medrecon.data.survey import survey_of
    from medrecon.scans import measured_in_words

    return describe_run(
        inputs=[job.data],
        settings={"method": method, **settings},
        seed=job.config.seed,
        residual={"noise": {}, **({} if selection is None else {"selection": selection})},
        timings={"seconds": seconds},
        extra={
            "status": "done",
            "method": method,
            "request": vars(job.config) | {"preview": None},
            "run": {"method": method, "samples": 1, "prior": None, "seconds": seconds, "in_windows": True},
            "data": {
                "title": f"{job.data.name}: {measured_in_words(filled)}",
                "modality": "seismic",
                "survey": survey_of(filled).to_record(),
            },
        },
    )
