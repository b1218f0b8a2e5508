"""Filling surveys larger than memory: bands of rows from the mapped file, put away as they are done.

What is held at a time is one band of rows, a few times over. Methods that work in windows, and mixtures of them, give
what `reconstruct` gives bit for bit: the same windows in the same order. All others, those with a prior among them,
reconstruct bands that overlap and fade into each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from medrecon.data.atomic import write_bytes
from medrecon.data.segy import forget_pages
from medrecon.data.traces import State, Traces
from medrecon.data.volume import Volume
from medrecon.engine import StepReport, reconstruct
from medrecon.errors import InputError, Stopped
from medrecon.physics.trace_holes import kinds_of_holes
from medrecon.physics.trace_interpolation import interpolation_weights
from medrecon.physics.windows import Windows
from medrecon.prior import NetworkPrior
from medrecon.samplers import Sampler, linear
from medrecon.samplers.settings import make_sampler
from medrecon.samplers.trace_system import TraceSystem
from medrecon.samplers.windowed import Windowed
from medrecon.scans import problem_from_scan
from medrecon.selection import MIXTURE
from medrecon.slabs import Slab, slabs_of
from medrecon.streaming import Source, rows_at_once
from medrecon.trace_intervals import widths
from medrecon.trace_metrics import loudness

MARGIN = 8
"""Rows on either side of a band that the bands beside it reconstruct as well; there they fade into each other."""

_BAND = 4 << 20  # bytes of the rows that are interpolated linearly, or given intervals, at once

Progress = Callable[[int, int], bool]
"""``progress(rows done, rows)``; returning False stops."""


@dataclass(frozen=True, eq=False)
class Filled:
    """A survey whose samples are in a work file (mapped; live traces are not in it), and the loudness of its traces."""

    source: Source
    traces: Traces
    loudness: np.ndarray

    def sections(self, first: int, last: int) -> np.ndarray:
        """Rows ``first`` to ``last - 1``, live traces among them, as sections ``(row, time, column)``."""
        rows = self.source.traces(first, last)
        missing = ~self.source.live[first:last]
        rows[missing] = self.traces.data[first:last][missing]
        return rows.transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class Method:
    """A method by name, its settings, and for a diffusion its prior and the filled survey that it starts from."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    prior: NetworkPrior | None = None
    start: Filled | None = None
    seed: int = 0

    def parts(self) -> list[tuple[Method, float]]:
        """The methods that it is a mean of, and their shares; of any but a mixture that is itself."""
        if self.name != MIXTURE:
            return [(self, 1.0)]
        mixture = make_sampler(self.name, dict(self.settings))
        return [(Method(name), share) for name, share in zip(mixture.methods, mixture.shares, strict=True)]  # type: ignore[attr-defined]


def fill(source: Source, method: Method, work: Path, progress: Progress, allowed: int) -> Filled | None:
    """The survey with its missing traces filled, its samples in the file ``work``; None where ``progress`` said stop.

    A call that was stopped, or cut off, leaves the finished rows in ``work``, and beside it how many they are: the same
    call goes on there, to the same result. ``allowed`` bytes of memory decide how many rows are reconstructed at once.
    Raises InputError where all traces of those are missing and the method cannot do without.
    """
    rows, samples, columns = source.shape
    parts, mark = method.parts(), _Mark(work.with_name(f"{work.name}.rows"))
    reached = mark.read(rows)
    mode: Literal["r+", "w+"] = "r+" if reached else "w+"
    data = np.memmap(work, np.float32, mode, shape=(rows, columns, samples))
    loud = np.memmap(work.with_name(f"{work.name}.loudness"), np.float64, mode, shape=(rows, columns))
    done = 0

    def told(rows_done: int) -> None:
        if not progress(done + rows_done, len(parts) * rows):
            raise Stopped("stopped while traces were filled")

    try:
        for number, (part, share) in enumerate(parts):
            after = min(max(reached - done, 0), rows)
            for first, sections in _bands_of(part, source, allowed, told, after) if after < rows else ():
                last = first + len(sections)
                if first < after:
                    continue
                missing = ~source.live[first:last]
                found = share * sections
                if number > 0:
                    found = torch.from_numpy(data[first:last].transpose(0, 2, 1)) + found
                if number == len(parts) - 1:
                    found = TraceSystem(sections, torch.from_numpy(source.live[first:last])).with_live(found)
                    loud[first:last] = loudness(found.numpy())
                    found = found * source.unit + 0.0
                if number > 0:
                    mark.begin(done + first, done + last)
                data[first:last][missing] = found.permute(0, 2, 1).numpy()[missing]
                data.flush()
                loud.flush()
                forget_pages(data)
                mark.finish(done + last)
                told(last)
            done += rows
    except Stopped:
        return None
    return Filled(source, _traces(source, data, source.state, ~source.live, method.name), loud)


@dataclass(frozen=True)
class _Mark:
    """How many rows of a work file are finished, over all methods of a mixture, in a file beside it."""

    path: Path

    def read(self, rows: int) -> int:
        """Zero where rows of a sum were being changed when the run was cut off: some may hold an addend twice."""
        try:
            finished, begun = map(int, self.path.read_text().split())
        except (OSError, ValueError):
            return 0
        return finished if begun == finished or finished < rows else 0

    def begin(self, finished: int, begun: int) -> None:
        """Rows that were finished before are about to be changed."""
        write_bytes(self.path, f"{finished} {begun}".encode(), overwrite=True)

    def finish(self, finished: int) -> None:
        """So many are done, and on disk."""
        self.begin(finished, finished)


def fill_widths(
    filled: Filled, learnt: Mapping[str, object], work: Path, progress: Progress
) -> tuple[Traces, float] | None:
    """Half-widths of the intervals around a filled survey, in the file ``work``, and their mean over missing samples.

    They are those of `reconstruct` (see `medrecon.trace_intervals`), zero at live traces. None where ``progress`` said
    stop.
    """
    source = filled.source
    rows, samples, columns = source.shape
    data = np.memmap(work, np.float32, "w+", shape=(rows, columns, samples))
    kinds = {kind.name: kind.missing for kind in kinds_of_holes(source.live)}
    step, total = _rows_in_band(source), 0.0
    for first in range(0, rows, step):
        last = min(first + step, rows)
        sections = torch.from_numpy(np.ascontiguousarray(filled.sections(first, last)))
        width = widths(sections, {name: part[first:last] for name, part in kinds.items()}, learnt, source.loudness)
        total += float(width.sum(dtype=torch.float64))
        data[first:last] = width.permute(0, 2, 1).numpy()
        data.flush()
        forget_pages(data)
        if not progress(last, rows):
            return None
    state = np.full_like(source.state, State.absent)  # none of these traces was measured
    made = _traces(source, data, state, np.ones_like(source.live), f"half-width of {filled.traces.meta['method']}")
    return made, total / max(1, int((~source.live).sum()) * samples)


def _traces(source: Source, data: np.ndarray, state: np.ndarray, filled: np.ndarray, method: str) -> Traces:
    warnings = [*source.file.warnings, *source.grid.warnings]
    meta = {"format": source.file.kind, "sample_format": source.file.form.name, "warnings": warnings, "method": method}
    return Traces(data, state, source.grid.rows, source.grid.columns, source.file.interval, source.grid.kind, filled,
                  source.file, source.grid, meta=meta)  # fmt: skip


def _rows_in_band(source: Source) -> int:
    _, samples, columns = source.shape
    return max(1, _BAND // (4 * samples * columns))


# --- finished rows, from the first to the last -------------------------------------------------------------------
Bands = Iterator[tuple[int, Tensor]]
"""Finished sections in internal units: ``(first row, (rows, time, columns))``.

Those of the first ``after`` rows are known, and these are the end of a band: a few of them may come again, since what
follows needs them.
"""


def _bands_of(method: Method, source: Source, allowed: int, told: Callable[[int], None], after: int) -> Bands:
    sampler = make_sampler(method.name, dict(method.settings))
    if isinstance(sampler, Windowed):
        return _windowed(sampler, source, after)
    if isinstance(sampler, linear.Linear):
        return _linear(source, after)
    return _overlapping(sampler, method, source, allowed, told, after)


def _windowed(sampler: Windowed, source: Source, after: int) -> Bands:
    windows = Windows(source.shape, sampler.window_for(source.shape))
    places, taper, height = windows.in_one_band(), windows.taper(), windows.window[0]
    starts = [start for start in windows.starts(0) if start + height > after]
    held = source.sections(starts[0], starts[0] + height)
    total, weight = torch.zeros_like(held), torch.zeros_like(held)
    live = torch.from_numpy(source.live)
    for first, following in pairwise([*starts, source.shape[0]]):
        sampler.fill_windows(TraceSystem(held, live[first : first + height]), places, taper, total, weight)
        done = following - first
        finished = TraceSystem(held[:done], live[first:following])
        yield first, finished.with_live(total[:done] / weight[:done].clamp_min(1e-12))
        if following < source.shape[0]:
            below = torch.zeros(done, *held.shape[1:])
            held = torch.cat([held[done:], source.sections(first + height, following + height)])
            total, weight = (torch.cat([part[done:], below]) for part in (total, weight))


def _linear(source: Source, after: int) -> Bands:
    live = source.live
    weights = interpolation_weights(live)
    rows, step = source.shape[0], _rows_in_band(source)
    before = np.concatenate([[0], np.cumsum((~live).sum(axis=1))])  # missing traces above each row
    index = source.grid.index[live]
    for first in range(after, rows, step):
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


def _overlapping(
    sampler: Sampler, method: Method, source: Source, allowed: int, told: Callable[[int], None], after: int
) -> Bands:
    rows, height = source.shape[0], rows_at_once(source, allowed, with_prior=sampler.needs_prior)
    slabs = slabs_of(rows, rows if height == rows else max(height, 4 * MARGIN) - 2 * MARGIN, MARGIN)
    slabs = [slab for slab, following in zip(slabs, [*slabs[1:], slabs[-1]], strict=True) if following.low >= after]
    above = torch.zeros(0)  # what the band before says of the first rows of this one
    for slab, following in zip(slabs, [*slabs[1:], None], strict=True):
        found = _band(sampler, method, source, slab, told)
        if len(above):
            share = ((torch.arange(len(above)) + 0.5) / len(above))[:, None, None]
            found[: len(above)] = torch.lerp(above, found[: len(above)], share)
        done = len(found) - (0 if following is None else slab.high - following.low)
        yield slab.low, found[:done]
        above = found[done:].clone()


def _band(sampler: Sampler, method: Method, source: Source, slab: Slab, told: Callable[[int], None]) -> Tensor:
    """Rows ``low`` to ``high - 1`` as a survey of their own, in units of the whole."""
    rows = slice(slab.low, slab.high)
    start = None
    if method.start is not None and sampler.needs_prior:
        start = np.ascontiguousarray(method.start.sections(slab.low, slab.high))
    if source.live[rows].all():
        return source.sections(slab.low, slab.high)
    if not source.live[rows].any():
        if start is None:
            raise InputError(
                "no trace of these rows is live", found=source.grid.rows.part(rows).describe(),
                hint="Allow more memory: --traces memory=MIB.",
            )  # fmt: skip
        return torch.from_numpy(start) / source.unit

    def go_on(report: StepReport) -> bool:
        told(slab.low)
        return True

    problem = replace(problem_from_scan(source.cut(slab.low, slab.high), prior=method.prior), unit=source.unit)
    given = None if start is None else Volume(start, problem.geometry, problem.quantity)
    result = reconstruct(
        problem, method.name, quantity=problem.quantity, seed=method.seed + slab.low, start=given, callback=go_on,
        judgement="none", **dict(method.settings),  # type: ignore[arg-type]
    )  # fmt: skip
    return torch.from_numpy(result.volume.array) / source.unit
