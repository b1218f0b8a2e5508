"""Readers of SEG-Y and SU: a file of traces becomes `Traces`, or a few sentences without decoding its samples."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.segy import COMPILED, SegyFile, forget_pages, open_segy, open_su, sniff_segy
from medrecon.data.segy_headers import is_made_here
from medrecon.data.trace_grid import ReadOptions, TraceGrid, trace_grid
from medrecon.data.traces import Figures, State, Traces, judged, survey_words
from medrecon.errors import InputError

GRID_LINE = re.compile(r"MEDRECON GRID (\S+) (\S+)")
"""In a textual header: the grid that traces were removed from, so that whole lines are not forgotten."""

SEGY_KINDS = ("segy", "su")
"""Names of the readers that take `ReadOptions`."""

_DEAD = 2  # bytes 29-30
_LOOKED = 300  # traces whose samples are looked at, unless they are long: loading compiled loops would take longer


def read_traces(path: str | Path, options: ReadOptions | None = None, *, limits: Limits | None = None) -> Traces:
    """Traces of a SEG-Y or SU file on their grid.

    Raises
    ------
    InputError
        See `open_segy` and `trace_grid`; traces with NaN, unless the options call them missing; no live trace.
    """
    file, options = opened(path, options)
    grid = trace_grid(file, options)
    rows, columns = grid.index.shape
    (limits or Limits()).check((rows, columns, file.samples), 8, where=file.path.name)
    present = grid.index >= 0
    data = np.zeros((rows, columns, file.samples), dtype=np.float32)
    which = grid.index[present]
    order = np.argsort(which)  # in the order of the file, which a disk reads faster
    places, which = np.flatnonzero(present.ravel())[order], which[order]
    figures = Figures.empty(present.shape)
    for part in file.blocks(len(which)):
        file.decode_into(data.reshape(-1, file.samples), places[part], which[part])
        figures.fill(data, places[part])
    state = judged(figures, present, _marked(file, grid))
    _check(state, grid, file, options)
    data[state != State.live] = 0
    meta = {"format": file.kind, "sample_format": file.form.name, "warnings": [*file.warnings, *grid.warnings]}
    return Traces(data, state, grid.rows, grid.columns, file.interval, grid.kind, None, file, grid, meta=meta)


def read_states(path: str | Path, options: ReadOptions | None = None) -> tuple[SegyFile, TraceGrid, np.ndarray]:
    """File, grid and the `State` of every trace, as `read_traces` finds them, without holding the samples.

    Raises what `read_traces` raises, but not for what does not fit into memory.
    """
    file, options = opened(path, options)
    grid = trace_grid(file, options)
    present = grid.index >= 0
    which = np.sort(grid.index[present])
    figures, found = Figures.empty(present.shape), Figures.empty((1, len(file)))
    for part in file.blocks(len(which)):
        block = file.decoded(which[part])[None]
        own = Figures.empty((1, len(block[0])))
        own.fill(block, np.arange(len(block[0])))
        for name, values in vars(own).items():
            getattr(found, name)[0, which[part]] = values[0]
        forget_pages(file.traces)
    for name, values in vars(found).items():
        getattr(figures, name)[present] = values[0, grid.index[present]]
    state = judged(figures, present, _marked(file, grid))
    _check(state, grid, file, options)
    return file, grid, state


def opened(path: str | Path, options: ReadOptions | None) -> tuple[SegyFile, ReadOptions]:
    """The file mapped, and the options with the grid that its textual header remembers."""
    from dataclasses import replace

    path, options = Path(path), options or ReadOptions()
    if path.suffix.lower() == ".su":
        return open_su(path, interval=options.interval, salvage=options.salvage), options
    file = open_segy(path, interval=options.interval, salvage=options.salvage)
    found = next((match for line in file.text if (match := GRID_LINE.search(line))), None)
    if found is not None and options.rows is None and options.columns is None:
        rows = None if found[1] == "-" else found[1]
        options = replace(options, rows=rows, columns=found[2])
    return file, options


def _marked(file: SegyFile, grid: TraceGrid) -> np.ndarray:
    dead = file.numbers(29) == _DEAD
    return (grid.index >= 0) & dead[np.maximum(grid.index, 0)]


def _check(state: np.ndarray, grid: TraceGrid, file: SegyFile, options: ReadOptions) -> None:
    broken = grid.index[state == State.not_finite]
    if len(broken) and options.nan == "error":
        first = int(broken.min())
        sample = int(np.flatnonzero(~np.isfinite(file.decoded(np.array([first]))[0]))[0])
        raise InputError(
            "a trace holds NaN or infinity", where=file.path.name,
            found=f"trace {first + 1}, sample {sample + 1}; {len(broken)} such traces", expected="finite samples",
            hint="Say --traces nan=missing to reconstruct these traces; if there are many, the sample format "
            f"({file.form.name}, bytes 3225-3226) may be wrong.",
        )  # fmt: skip
    if not (state == State.live).any():
        raise InputError(
            "no trace is live", where=file.path.name, found=f"{len(file)} traces, all zero, dead or broken"
        )


def describe_traces(path: str | Path, options: ReadOptions | None = None) -> dict[str, object]:
    """What a file holds, from its headers and a few hundred traces: at once, however large it is."""
    file, options = opened(path, options)
    grid = trace_grid(file, options)
    present = grid.index >= 0
    state = np.where(present, np.uint8(State.live), np.uint8(State.absent)).astype(np.uint8)
    state[_marked(file, grid)] = State.marked_dead
    words = survey_words(grid.kind, grid.rows, grid.columns, file.samples, file.interval, state)
    count = min(_LOOKED, max(1, (COMPILED - 1) // file.samples))
    looked = np.unique(np.linspace(0, len(file) - 1, count).astype(int))
    values = file.decoded(looked)
    whole = np.isfinite(values).all(axis=1)
    finite = values[whole]
    if not whole.all():
        first = int(looked[np.argmin(whole)])
        words["not_finite"] = (
            f"{int((~whole).sum())} of the traces looked at hold NaN or infinity, first trace {first + 1}"
        )
    if finite.size:
        words |= {"minimum": float(finite.min()), "maximum": float(finite.max()),
                  "rms": float(np.sqrt(np.mean(np.square(finite, dtype=np.float64))))}  # fmt: skip
    words["looked_at"] = f"all headers, samples of {len(looked)} traces"
    quiet = int((np.ptp(finite, axis=1) == 0).sum()) if finite.size else 0
    found = [f"{quiet} of {len(looked)} traces looked at are zero or constant"] * (quiet > 0)
    found += [f"{len(looked) - len(finite)} of {len(looked)} traces looked at hold NaN"] * (len(finite) < len(looked))
    warnings = [*file.warnings, *grid.warnings, *found]
    if made := int(is_made_here(file).sum()):
        words["filled_by_medrecon"] = f"{made} of the live traces"
    words |= {
        "sample_format": f"{file.form.name}, {'big' if file.order == '>' else 'little'}-endian",
        "revision": file.revision,
        "traces_in_file": len(file),
    }
    return words | ({"warnings": "; ".join(warnings)} if warnings else {})


@reader("segy", suffixes=(".sgy", ".segy", ".seg"), sniff=sniff_segy)
def read_segy(path: str | Path, *, limits: Limits | None = None) -> Traces:
    """SEG-Y of any sample format, byte order and revision; the grid goes by the trace headers."""
    return read_traces(path, limits=limits)


@reader("su", suffixes=(".su",), sniff=lambda path, head: path.suffix.lower() == ".su")
def read_su(path: str | Path, *, limits: Limits | None = None) -> Traces:
    """Seismic Unix in either byte order; the suffix tells, as the format has no signature."""
    return read_traces(path, limits=limits)
