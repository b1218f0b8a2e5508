"""`medrecon simulate seismic` and `seismic-model`: holes in a survey, and a survey out of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli import console, options
from medrecon.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from medrecon.data.traces import Traces


def simulate_seismic(
    cube: Annotated[Path, typer.Argument(help="Complete traces: SEG-Y, SU or .npz.")],
    output: options.Output,
    missing: Annotated[
        str | None, typer.Option("--missing", help="random, regular, gap, lines (whole columns) or hole (a block).")
    ] = None,
    fraction: Annotated[float, typer.Option("--fraction", help="Share of the traces that go missing.")] = 0.5,
    like: Annotated[
        Path | None, typer.Option("--like", help="Instead of --missing: the holes of this file of traces.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Whole rows go missing instead of columns.")] = False,
    silent: Annotated[
        bool, typer.Option("--silent", help="Missing traces stay in the file, as zeros, instead of being left out.")
    ] = False,
    traces: options.Traces = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Take traces out of CUBE, so that a reconstruction can be judged by it.

    The other traces are copied byte for byte. A line of the textual header remembers the grid, whose lines no other
    header tells once they are gone.
    """
    from medrecon.data import Traces, read_scan, sniff, write
    from medrecon.data.atomic import check_target
    from medrecon.data.formats import writer_for
    from medrecon.data.provenance import describe_run
    from medrecon.data.segy_reading import read_traces
    from medrecon.data.segy_writing import grid_line

    if (missing is None) == (like is None):
        raise UsageError("say which traces go missing", expected="--missing KIND or --like FILE, one of them")
    writer_for(output, Traces)
    check_target(output, overwrite=overwrite)
    said = options.trace_options(traces, sniff(cube)) if traces else None
    survey = read_scan(cube) if said is None else read_traces(cube, said)
    if not isinstance(survey, Traces):
        raise InputError("this file holds no traces", where=cube.name, found=survey.modality)
    keep = _kept(survey, missing, like, fraction, seed, rows=rows)
    if not (keep & survey.live).any():
        raise UsageError("no trace would be left", found=f"{int(survey.live.sum())} live traces")
    holes = survey.keeping(keep, silent=silent)
    holes.meta["grid"] = grid_line(survey.rows, survey.columns)
    count = int(survey.live.sum() - holes.live.sum())
    settings = {"missing": missing or "like", "fraction": fraction, "rows": rows, "silent": silent}
    run = describe_run(inputs=[cube, *([like] if like else [])], settings=settings, seed=seed)
    write(output, holes, overwrite=overwrite, provenance=run)
    if as_json:
        shown = {"output": output, "traces": survey.state.size, "live": int(holes.live.sum()), "removed": count}
        console.result_json(shown | settings | {"seed": seed})
        return
    done = "silenced" if silent else "removed"
    console.result(f"{output.name}: {count} of {int(survey.live.sum())} traces {done}")


def _kept(
    survey: Traces, missing: str | None, like: Path | None, fraction: float, seed: int, *, rows: bool
) -> np.ndarray:
    """Which traces stay: bool ``(rows, columns)``."""
    from medrecon.data import Traces, read_scan
    from medrecon.physics.seismic import make_trace_mask

    shape = survey.data.shape[:2]
    if like is None:
        mask = make_trace_mask(str(missing), shape[::-1] if rows else shape, fraction, seed=seed)
        return mask.T if rows else mask
    other = read_scan(like)
    if not isinstance(other, Traces) or other.state.shape != shape:
        found = other.state.shape if isinstance(other, Traces) else other.modality
        raise InputError("the holes are of another grid", where=like.name, found=found, expected=shape)
    return other.live


def simulate_seismic_model(
    output: options.Output,
    kind: Annotated[
        str, typer.Option("--kind", help="volume or line after stack, gathers or shot before it.")
    ] = "volume",
    shape: Annotated[
        str | None, typer.Option("--shape", metavar="ROWS,COLUMNS,SAMPLES", help="[64,64,128; a line: 1,256,256]")
    ] = None,
    interval: Annotated[float, typer.Option("--interval", metavar="MS", help="Sample interval in milliseconds.")] = 4.0,
    ground_roll: Annotated[bool, typer.Option("--ground-roll", help="Gathers: with slow surface waves.")] = False,
    steepness: Annotated[
        float | None,
        typer.Option(
            "--steepness", metavar="SAMPLES", help="Folds: usual slope in samples a trace. [0.03 to 1.2, drawn]"
        ),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--first", metavar="ROW,COLUMN", help="Header numbers of the first trace.")
    ] = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make a synthetic survey without holes: folded, faulted and eroded layers, or gathers of an earth like that.

    No real survey is in it; every seed is another one.
    """
    from dataclasses import replace

    from medrecon.data import Traces, write
    from medrecon.data.atomic import check_target
    from medrecon.data.formats import writer_for
    from medrecon.data.provenance import describe_run
    from medrecon.data.seismic_model import seismic_model

    writer_for(output, Traces)
    check_target(output, overwrite=overwrite)
    size = options.shape_of(shape or ("1,256,256" if kind == "line" else "64,64,128"))
    assert size is not None
    survey = seismic_model(
        kind, size, interval=1000 * interval, seed=seed, ground_roll=ground_roll, steepness=steepness
    )
    if first is not None:
        row, column = (int(n) for n in options.numbers(first, what="--first", counts=(2,)))
        axes = replace(survey.rows, first=row), replace(survey.columns, first=column)
        survey = replace(survey, rows=axes[0], columns=axes[1])
    settings = {
        "kind": kind,
        "shape": size,
        "interval_ms": interval,
        "ground_roll": ground_roll,
        "steepness": steepness,
    }
    write(output, survey, overwrite=overwrite, provenance=describe_run(settings=settings, seed=seed))
    if as_json:
        console.result_json({"output": output, **settings, "seed": seed})
        return
    rows, columns = survey.rows.describe(), survey.columns.describe()
    console.result(f"{output.name}: {rows}, {columns}, {size[2]} samples by {interval:g} ms")
