"""Surveys larger than memory: bands of rows from the mapped file, filled window by window, put away as they are done.

What is held at a time is one band of windows, a few times over, and one number a trace. The result is that of
`reconstruct` bit for bit: the same windows in the same order.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from medrecon.data.limits import available_memory
from medrecon.data.segy import SegyFile, forget_pages
from medrecon.data.segy_reading import opened, read_states
from medrecon.data.trace_grid import ReadOptions, TraceGrid, trace_grid
from medrecon.data.traces import State, Traces, bright_unit, sample_step
from medrecon.engine import make_sampler, reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.physics.trace_interpolation import interpolation_weights
from medrecon.physics.windows import Windows
from medrecon.samplers import Sampler, linear
from medrecon.samplers.trace_system import TraceSystem
from medrecon.samplers.windowed import Windowed
from medrecon.scans import problem_from_scan

BYTES = 48
"""Of memory that a sample takes in `reconstruct`: data, sums, weights, estimates and a baseline."""

_SHARE = 0.6  # of the free memory
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


# --- choosing a method -------------------------------------------------------------------------------------------
def choose(source: Source, allowed: int, seed: int = 0) -> dict[str, object]:
    """The method that predicts hidden traces best on the rows that tell most, as many as fit into memory.

    Returns the record of the choice (``method``, ``reason``, ...).
    """
    rows, samples, columns = source.shape
    count = min(rows, max(1, allowed // (BYTES * samples * columns)))
    first = _telling_rows(source.live, count)
    part = source.cut(first, first + count)
    if not part.live.any():
        raise InputError("no trace of these rows is live", found=f"rows {first} to {first + count - 1}")
    result = reconstruct(problem_from_scan(part), "auto", seed=seed, judgement="none")
    chosen = result.assessment["selection"]
    assert isinstance(chosen, dict)
    where = f"in {part.rows.describe()}, "
    return chosen | {"reason": where + str(chosen["reason"])}


def _telling_rows(live: np.ndarray, count: int) -> int:
    """First of ``count`` rows with many live and many missing traces."""
    sums = np.concatenate([[0], np.cumsum(live.sum(axis=1))])
    known = sums[count:] - sums[:-count]
    return int(np.argmax(known * (count * live.shape[1] - known)))


# --- filling -------------------------------------------------------------------------------------------------------
Progress = Callable[[int, int], bool]
"""``progress(rows done, rows)``; returning False stops."""


def fill(source: Source, method: str, settings: dict[str, object], work: Path, progress: Progress) -> Traces | None:
    """The survey with its missing traces filled, its samples in the file ``work`` (mapped; live traces are not in it).

    None where ``progress`` said stop. Raises UsageError for a method that needs the whole volume in memory.
    """
    bands = bands_of(make_sampler(method, settings), source)
    rows, samples, columns = source.shape
    data = np.memmap(work, np.float32, "w+", shape=(rows, columns, samples))
    for first, sections in bands:
        last = first + len(sections)
        missing = ~source.live[first:last]
        data[first:last][missing] = (sections * source.unit + 0.0).permute(0, 2, 1).numpy()[missing]
        data.flush()
        forget_pages(data)
        if not progress(last, rows):
            return None
    warnings = [*source.file.warnings, *source.grid.warnings]
    meta = {"format": source.file.kind, "sample_format": source.file.form.name, "warnings": warnings, "method": method}
    return Traces(data, source.state, source.grid.rows, source.grid.columns, source.file.interval, source.grid.kind,
                  ~source.live, source.file, source.grid, meta=meta)  # fmt: skip


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
