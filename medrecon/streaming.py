"""Surveys larger than memory: bands of rows from the mapped file, filled window by window, put away as they are done.

What is held at a time is one band of windows, a few times over, and a few numbers a trace. The result is that of
`reconstruct` bit for bit: the same windows in the same order. What is shown of it are some of its traces.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from medrecon.assess import Thresholds, verdict
from medrecon.data.limits import available_memory
from medrecon.data.segy import SegyFile, forget_pages
from medrecon.data.segy_reading import opened, read_states
from medrecon.data.trace_grid import ReadOptions, TraceGrid, trace_grid
from medrecon.data.traces import State, Traces, bright_unit, sample_step
from medrecon.data.volume import Geometry, Volume
from medrecon.engine import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.physics.trace_interpolation import interpolation_weights
from medrecon.physics.windows import Windows
from medrecon.samplers import Sampler, linear
from medrecon.samplers.settings import make_sampler
from medrecon.samplers.trace_system import TraceSystem
from medrecon.samplers.windowed import Windowed
from medrecon.scans import problem_from_scan
from medrecon.selection import Selection
from medrecon.trace_metrics import faint_share, loudness

SHOWN_BYTES = 96
"""Of memory that a sample takes in a report: result, baseline, holes, differences, and what is made of them."""

BYTES = 48
"""Of memory that a sample takes in `reconstruct`: data, sums, weights, estimates and a baseline."""

_SHARE = 0.6  # of the free memory
_LEAST_SHOWN = 64  # MiB that a report may take however little is allowed: as much as the pictures themselves
_FEW_ROWS, _FEW_COLUMNS = 4, 64  # that a report shows at least, if there are so many
_MIB = 1 << 20
_BAND = 4 << 20  # bytes of the rows that linear interpolation works on at once


def allowed_bytes(options: ReadOptions | None) -> int:
    """Memory that a reconstruction may take."""
    if options is not None and options.memory is not None:
        return int(options.memory * _MIB)
    return int(_SHARE * available_memory())


def exceeds_memory(path: str | Path, options: ReadOptions | None = None) -> bool:
    """Whether the survey of a SEG-Y or SU file, reconstructed as a whole, takes more memory than it may."""
    file, options = opened(path, options)
    return math.prod(trace_grid(file, options).index.shape) * file.samples * BYTES > allowed_bytes(options)


@dataclass(frozen=True, eq=False)
class Source:
    """The traces of a file on their grid, decoded when they are asked for, in units of ``unit``."""

    file: SegyFile
    grid: TraceGrid
    state: np.ndarray
    unit: float

    @classmethod
    def open(cls, path: str | Path, options: ReadOptions | None = None) -> Source:
        """Two passes over the file: the state of every trace, and what is a bright sample (`Traces.unit`)."""
        file, grid, state = read_states(path, options)
        live = grid.index[state == State.live]
        samples = file.samples
        step, chosen, largest = sample_step(live.size * samples), [], 0.0
        for part in file.blocks(len(live)):
            values = file.decoded(live[part]).ravel()
            np.abs(values, out=values)
            chosen.append(values[-part.start * samples % step :: step].copy())
            largest = max(largest, float(values.max()))
            forget_pages(file.traces)
        return cls(file, grid, state, bright_unit(np.concatenate(chosen), lambda: largest))

    @property
    def live(self) -> np.ndarray:
        """Bool ``(rows, columns)``."""
        return self.state == State.live

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the sections: rows, samples, columns."""
        rows, columns = self.state.shape
        return rows, self.file.samples, columns

    def traces(self, first: int, last: int) -> np.ndarray:
        """Rows ``first`` to ``last - 1`` as they are in the file, ``(rows, columns, samples)``; zero if not live."""
        live, index = self.live[first:last], self.grid.index[first:last]
        data = np.zeros((*live.shape, self.file.samples), np.float32)
        places = np.flatnonzero(live.ravel())
        order = np.argsort(index.ravel()[places])
        which, places = index.ravel()[places][order], places[order]
        for part in self.file.blocks(len(which)):
            self.file.decode_into(data.reshape(-1, self.file.samples), places[part], which[part])
        forget_pages(self.file.traces)
        return data

    def sections(self, first: int, last: int) -> Tensor:
        """The same as sections ``(row, time, column)`` in internal units."""
        return torch.from_numpy(self.traces(first, last)).permute(0, 2, 1).contiguous() / self.unit

    def cut(self, first: int, last: int) -> Traces:
        """Some rows as traces in memory, for tests on them."""
        rows = replace(self.grid.rows, first=self.grid.rows.first + first * self.grid.rows.step, count=last - first)
        return Traces(self.traces(first, last), self.state[first:last], rows, self.grid.columns, self.file.interval,
                      self.grid.kind)  # fmt: skip


# --- testing a method --------------------------------------------------------------------------------------------
def predicted(
    source: Source, allowed: int, method: str = "auto", settings: Mapping[str, object] | None = None, seed: int = 0
) -> dict[str, object]:
    """How well hidden traces are predicted on the rows that tell most, as many as fit into memory.

    Returns the ``held_out`` errors of a record, and under ``auto`` the ``selection`` of the best single method, as a
    mixture would take several volumes.
    """
    rows, samples, columns = source.shape
    count = min(rows, max(1, allowed // (BYTES * samples * columns)))
    first = _telling_rows(source.live, count)
    part = source.cut(first, first + count)
    if not part.live.any():
        raise InputError("no trace of these rows is live", found=f"rows {first} to {first + count - 1}")
    judgement = "basic" if method == "auto" else "full"
    found = reconstruct(problem_from_scan(part), method, seed=seed, judgement=judgement, **(settings or {}))  # type: ignore[arg-type]
    record: dict[str, object] = {
        name: found.assessment[name] for name in ("held_out", "selection") if name in found.assessment
    }
    selection = record.get("selection")
    if isinstance(selection, dict):
        alone = Selection(**selection).alone()
        told = {"reason": f"in {part.rows.describe()}, {alone.reason}"}
        record |= {"selection": alone.to_record() | told, "held_out": alone.held_out_errors()}
    return record


def judged_by(filled: Filled, tests: Mapping[str, object]) -> dict[str, object]:
    """What is known of a filled survey, and its verdict: as of `medrecon.assess.assess` on one in memory."""
    live = filled.traces.live
    figures: dict[str, object] = {
        "discrepancy": 0.0,  # live traces are as they were measured
        "missing": {"share": float(1 - live.mean()), "faint": faint_share(filled.loudness, live)},
    } | dict(tests)
    return figures | {"verdict": verdict(figures, Thresholds(), noise_known=False)}


def _telling_rows(live: np.ndarray, count: int) -> int:
    """First of ``count`` rows with many live and many missing traces."""
    sums = np.concatenate([[0], np.cumsum(live.sum(axis=1))])
    known = sums[count:] - sums[:-count]
    return int(np.argmax(known * (count * live.shape[1] - known)))


# --- filling -------------------------------------------------------------------------------------------------------
Progress = Callable[[int, int], bool]
"""``progress(rows done, rows)``; returning False stops."""


@dataclass(frozen=True, eq=False)
class Filled:
    """A survey whose samples are in a work file (mapped; live traces are not in it), and the loudness of its traces."""

    traces: Traces
    loudness: np.ndarray


def fill(source: Source, method: str, settings: dict[str, object], work: Path, progress: Progress) -> Filled | None:
    """The survey with its missing traces filled, its samples in the file ``work``.

    None where ``progress`` said stop. Raises UsageError for a method that needs the whole volume in memory.
    """
    bands = bands_of(make_sampler(method, settings), source)
    rows, samples, columns = source.shape
    data = np.memmap(work, np.float32, "w+", shape=(rows, columns, samples))
    loud = np.zeros((rows, columns))
    for first, sections in bands:
        last = first + len(sections)
        missing = ~source.live[first:last]
        data[first:last][missing] = (sections * source.unit + 0.0).permute(0, 2, 1).numpy()[missing]
        loud[first:last] = loudness(sections.numpy())
        data.flush()
        forget_pages(data)
        if not progress(last, rows):
            return None
    warnings = [*source.file.warnings, *source.grid.warnings]
    meta = {"format": source.file.kind, "sample_format": source.file.form.name, "warnings": warnings, "method": method}
    traces = Traces(data, source.state, source.grid.rows, source.grid.columns, source.file.interval, source.grid.kind,
                    ~source.live, source.file, source.grid, meta=meta)  # fmt: skip
    return Filled(traces, loud)


def bands_of(sampler: Sampler, source: Source) -> Iterator[tuple[int, Tensor]]:
    """Finished sections, internal units, from the first row to the last: ``(first row, (rows, time, columns))``."""
    if isinstance(sampler, Windowed):
        return _windowed(sampler, source)
    if isinstance(sampler, linear.Linear):
        return _linear(source)
    raise UsageError(
        "this method needs the whole volume in memory", where=source.file.path.name,
        expected="linear, pocs, pocs-fan, drr or dip",
        hint="Choose one of these, or allow more memory: --traces memory=MIB.",
    )  # fmt: skip


def _windowed(sampler: Windowed, source: Source) -> Iterator[tuple[int, Tensor]]:
    windows = Windows(source.shape, sampler.window_for(source.shape))
    places, taper, height = windows.in_one_band(), windows.taper(), windows.window[0]
    held = source.sections(0, height)
    total, weight = torch.zeros_like(held), torch.zeros_like(held)
    live = torch.from_numpy(source.live)
    for first, following in pairwise([*windows.starts(0), source.shape[0]]):
        sampler.fill_windows(TraceSystem(held, live[first : first + height]), places, taper, total, weight)
        done = following - first
        finished = TraceSystem(held[:done], live[first:following])
        yield first, finished.with_live(total[:done] / weight[:done].clamp_min(1e-12))
        if following < source.shape[0]:
            below = torch.zeros(done, *held.shape[1:])
            held = torch.cat([held[done:], source.sections(first + height, following + height)])
            total, weight = (torch.cat([part[done:], below]) for part in (total, weight))


def _linear(source: Source) -> Iterator[tuple[int, Tensor]]:
    live = source.live
    weights = interpolation_weights(live)
    rows, samples, columns = source.shape
    step = max(1, _BAND // (4 * samples * columns))
    before = np.concatenate([[0], np.cumsum((~live).sum(axis=1))])  # missing traces above each row
    index = source.grid.index[live]
    for first in range(0, rows, step):
        last = min(first + step, rows)
        part = weights[before[first] : before[last]]
        used = np.unique(part.indices)
        known = torch.from_numpy(source.file.decoded(index[used])) / source.unit
        forget_pages(source.file.traces)
        local = sparse.csr_matrix((part.data, np.searchsorted(used, part.indices), part.indptr),
                                  shape=(part.shape[0], len(used)))  # fmt: skip
        out = source.sections(first, last).permute(0, 2, 1).contiguous()
        out[torch.from_numpy(~live[first:last])] = torch.from_numpy(np.asarray(local @ known.numpy(), dtype=np.float32))
        yield first, out.permute(0, 2, 1)


def work_file(beside: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for the work file beside an output, on the disk that will hold it; gone when it is closed."""
    return tempfile.TemporaryDirectory(prefix=f".{beside.name}.", suffix=".work", dir=beside.parent)


# --- what is shown of a survey -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shown:
    """Every n-th row and column of a survey: a grid again, and few enough for a report in memory."""

    rows: slice
    columns: slice

    @classmethod
    def of(cls, missing: np.ndarray, samples: int, allowed: int) -> Shown:
        """As many rows as fit into ``allowed`` bytes, the one with the most missing traces among them.

        Columns are left out where not even a few rows of all fit. ``missing`` is bool ``(rows, columns)``.
        """
        room = max(allowed, _LEAST_SHOWN * _MIB) // (SHOWN_BYTES * samples)  # traces
        rows, columns = missing.shape
        every = -(-columns // max(1, min(columns, max(_FEW_COLUMNS, room // min(rows, _FEW_ROWS)))))
        step = -(-rows // max(1, room // -(-columns // every)))
        counts = missing.sum(axis=1)
        telling = int(np.argmax(counts)), int(np.argmax(missing.sum(axis=0)))
        return cls(slice(telling[0] % step, None, step), slice(telling[1] % every, None, every))

    def words(self) -> str:
        """``one in 8 rows``; empty where all is shown."""
        said = [f"one in {part.step} {name}" for part, name in ((self.rows, "rows"), (self.columns, "columns"))
                if part.step > 1]  # fmt: skip
        return " and ".join(said)

    def cut(self, volume: Volume, shape: tuple[int, ...]) -> Volume:
        """The same part of a volume in memory. Raises InputError where that is not of ``shape`` (rows, columns)."""
        if volume.array.shape[::2] != shape:
            raise InputError("the volume is not of this survey", found=volume.array.shape[::2], expected=shape)
        array = np.ascontiguousarray(volume.array[self.rows][:, :, self.columns])
        return Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0)), volume.quantity)


def samples_of(path: Path, options: ReadOptions | None = None) -> int:
    """Samples of a trace of a SEG-Y or SU file."""
    return opened(path, options)[0].samples


def read_shown(path: Path, shown: Shown, shape: tuple[int, int], options: ReadOptions | None = None) -> Volume:
    """Some sections ``(row, time, column)`` of a complete SEG-Y or SU file.

    Raises InputError where its grid is not of ``shape``.
    """
    file, options = opened(path, options)
    index = trace_grid(file, options).index
    if index.shape != shape:
        raise InputError("the file is not of this survey", where=path.name, found=index.shape, expected=shape)
    chosen = index[shown.rows, shown.columns]
    data = np.zeros((*chosen.shape, file.samples), np.float32)
    present = np.flatnonzero(chosen.ravel() >= 0)
    data.reshape(-1, file.samples)[present] = file.decoded(chosen.ravel()[present])
    forget_pages(file.traces)
    rows, columns, samples = data.shape
    grid = Geometry.from_spacing((rows, samples, columns), (1.0, 1.0, 1.0))
    return Volume(np.ascontiguousarray(data.transpose(0, 2, 1)), grid, "amplitude")
