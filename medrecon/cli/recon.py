"""`medrecon recon`: measured data in, a volume out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.cli.job import Job


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("recon", short_help="Reconstruct a volume from measured data.")(recon)


def recon(
    data: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Measured data: any file or folder that a reader knows.")
    ],
    output: options.Output,
    method: Annotated[str | None, typer.Option("--method", help="See `medrecon methods`. [auto]")] = None,
    prior: Annotated[
        str | None, typer.Option("--prior", help="Name or .safetensors file; see `medrecon priors`.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps, or iterations, of the method.")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Independent samples: their mean and their spread. [1]")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same result. [0]")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda:0. [auto]")] = None,
    tile: Annotated[
        int | None,
        typer.Option("--tile", min=1, metavar="PIXELS", help="Ask the prior about overlapping tiles of large slices."),
    ] = None,
    slab: Annotated[
        int | None,
        typer.Option(
            "--slab", min=1, metavar="SLICES", help="Large volumes: so many slices at a time, to save memory."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; may be repeated.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with these options and `settings`.")
    ] = None,
    like: Annotated[str | None, typer.Option("--like", help="Take the output grid from this volume.")] = None,
    voxel: Annotated[str | None, typer.Option("--voxel", metavar="MM", help="Pixel size, or Z,Y,X, in mm.")] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", metavar="Z,Y,X", help="Size of the output, in voxels.")
    ] = None,
    quantity: Annotated[str | None, typer.Option("--quantity", help="HU or mu (1/mm) in the output. [HU]")] = None,
    correct: Annotated[
        list[str] | None,
        typer.Option("--correct", metavar="NAME[=VALUE]", help="CT: see `medrecon corrections`; may be repeated."),
    ] = None,
    views: Annotated[
        str | None, typer.Option("--views", metavar="START:STOP:STEP", help="CT: take these views only, as 0::8.")
    ] = None,
    traces: options.Traces = None,
    kspace: options.Kspace = None,
    trust: Annotated[
        str | None, typer.Option("--trust", help="Judge the result: none, basic, or full (two more runs). [basic]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was interrupted.")] = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
    preview_slice: Annotated[
        int | None, typer.Option("--preview-slice", metavar="Z", help="Reconstruct this slice only.")
    ] = None,
    report: Annotated[str | None, typer.Option("--report", help="Write the report to this .html file.")] = None,
    keep_identifiers: options.KeepIdentifiers = False,
    as_json: options.Json = False,
) -> None:
    """Reconstruct a volume from INPUT.

    Beside OUTPUT stand NAME.json (settings, hashes, residual), NAME-baseline (the classical volume that the result is
    to be judged against), NAME-null-share (share of the detail that the data cannot decide, 0 to 1), with a prior
    NAME-prior-only (what nothing but the prior says) and, with --samples, NAME-spread (the standard deviation). Where
    the prior is calibrated for the method, nine in ten true values lie within NAME +- NAME-half-width.
    """
    said = options.RunConfig(
        method=method, prior=prior, steps=steps, samples=samples, seed=seed, device=device, quantity=quantity,
        like=like, voxel=voxel, shape=shape, report=report, views=views, correct=correct or None, trust=trust,
        traces=traces or None, kspace=kspace or None, tile=tile, slab=slab,
        settings=options.settings_of(settings),
    )  # fmt: skip
    settled = options.resolved(said, config)
    job = Job(
        data, output, settled, overwrite=overwrite, preview=preview_slice, keep_identifiers=keep_identifiers
    )  # fmt: skip
    if keep_identifiers:
        options.source_of(settled.like, keep_identifiers)  # says before the run what is missing
    if dry_run:
        _show_plan(job, as_json)
        return
    job.check_targets()
    summary = job.execute(resume=resume)
    if as_json:
        console.result_json(summary)
    else:
        console.result(_text(summary))


def _text(summary: dict[str, object]) -> str:
    from medrecon.calibration import in_words

    unit = "times the noise" if summary["noise_known"] else "of the data"
    rows = [
        ("volume", f"{summary['output']}"),
        ("method", f"{summary['method']}, {float(str(summary['seconds'])):.1f} s"),
        ("residual", f"{float(str(summary['discrepancy'])):.3f} {unit}"),
    ]
    if "baseline_discrepancy" in summary:
        rows.append(
            ("baseline", f"{summary['baseline_method']}, {float(str(summary['baseline_discrepancy'])):.3f} {unit}")
        )
    selection = summary.get("selection")
    if isinstance(selection, dict):
        rows.insert(2, ("chosen", str(selection["reason"])))
    rows += [(name, str(summary[name])) for name in ("spread", "half-width", "report") if name in summary]
    if isinstance(intervals := summary.get("intervals"), dict):
        rows.append(("intervals", in_words(intervals, str(summary["quantity"]))))
    verdict = summary.get("verdict")
    said = f"\n{verdict['text']}" if isinstance(verdict, dict) else ""
    return console.table(rows) + said


def _show_plan(job: Job, as_json: bool) -> None:
    from medrecon.planning import plan
    from medrecon.scans import measured_in_words

    ready, shape, slabs = job.planned()
    estimate = plan(ready.problem, job.config.method or "auto", ready.settings, samples=job.config.samples or 1)
    values = {
        "input": job.data.name,
        "method": estimate.method,
        "shape": shape,
        "data_shape": ready.scan.data.shape,
        "evaluations_per_slice": estimate.evaluations,
        "evaluations": estimate.evaluations * shape[0],
        "slabs": slabs,
        "seconds": round(estimate.seconds * slabs, 1),
        "memory_mib": round(estimate.memory_mib),
        "dry_run": True,
    }
    if as_json:
        console.result_json(values)
        return
    rows = [
        ("method", estimate.method),
        ("volume", f"{' x '.join(map(str, shape))} (z, y, x)"),
        ("data", measured_in_words(ready.scan)),
        ("evaluations", f"{estimate.evaluations} of the prior for each slice"),
        ("time", f"about {estimate.seconds * slabs:.0f} s"),
        ("memory", f"about {estimate.memory_mib:.0f} MiB"),
    ]
    if job.config.slab is not None:
        rows.append(("slabs", f"{slabs}, of up to {ready.problem.geometry.shape[0]} slices with their margins"))
    console.result(console.table(rows))
