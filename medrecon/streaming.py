"""Surveys larger than memory: their traces on the grid, what methods are worth on them, and what is shown of them.

They are filled by `medrecon.filling`. What is held here are a few numbers a trace, and as many rows as fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
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
from medrecon.prior import NetworkPrior
from medrecon.scans import problem_from_scan
from medrecon.trace_metrics import faint_share

SHOWN_BYTES = 96
"""Of memory that a sample takes in a report: result, baseline, holes, differences, and what is made of them."""

BYTES = 128
"""Of memory that a sample takes in `reconstruct`: data, sums, weights, estimates, and all that `auto` compares."""

LEAST_ROWS = 32
"""Of a survey that a prior is shown at once, if there are so many: it takes sections across them too."""

SECTION = 512 * 512
"""Samples of the largest section that a network takes as a whole; larger ones it takes in tiles."""

_PRIOR_BYTES = 280  # that a sample takes with a prior
_NETWORK_BYTES = 2400  # that it takes while the network sees its section

_SHARE = 0.6  # of the free memory
_LEAST_SHOWN = 64  # MiB that a report may take however little is allowed: as much as the pictures themselves
_FEW_ROWS, _FEW_COLUMNS = 4, 64  # that a report shows at least, if there are so many
_MIB = 1 << 20


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
    loudness: float
    """Root mean square of the live samples."""

    @classmethod
    def open(cls, path: str | Path, options: ReadOptions | None = None) -> Source:
        """Two passes over the file: the state of every trace, and how bright samples are (`Traces.unit`)."""
        file, grid, state = read_states(path, options)
        live = grid.index[state == State.live]
        samples = file.samples
        step, chosen, largest, energy = sample_step(live.size * samples), [], 0.0, 0.0
        for part in file.blocks(len(live)):
            values = file.decoded(live[part]).ravel()
            energy += float(np.square(values, dtype=np.float64).sum())
            np.abs(values, out=values)
            chosen.append(values[-part.start * samples % step :: step].copy())
            largest = max(largest, float(values.max()))
            forget_pages(file.traces)
        unit = bright_unit(np.concatenate(chosen), lambda: largest)
        return cls(file, grid, state, unit, (energy / max(1, live.size * samples)) ** 0.5)

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
        """Some rows as traces in memory."""
        rows = self.grid.rows.part(slice(first, last))
        return Traces(self.traces(first, last), self.state[first:last], rows, self.grid.columns, self.file.interval,
                      self.grid.kind)  # fmt: skip


def rows_at_once(source: Source, allowed: int, *, with_prior: bool = False) -> int:
    """How many rows can be reconstructed in ``allowed`` bytes: one at least, and all at most.

    Raises UsageError where a prior would be shown fewer rows than it needs.
    """
    rows, samples, columns = source.shape
    if not with_prior:
        return min(rows, max(1, allowed // (BYTES * samples * columns)))
    network, row = _NETWORK_BYTES * min(samples * columns, SECTION), _PRIOR_BYTES * samples * columns
    if allowed < (least := network + row * min(rows, LEAST_ROWS)):
        raise UsageError(
            "a prior needs more memory for sections of this size", where=source.file.path.name,
            found=f"{allowed / _MIB:.0f} MiB", expected=f"{least / _MIB:.0f} MiB or more",
            hint="Choose a classical --method, or allow more memory: --traces memory=MIB.",
        )  # fmt: skip
    return min(rows, (allowed - network) // row)


# --- testing a method --------------------------------------------------------------------------------------------
def predicted(
    source: Source, allowed: int, method: str = "auto", settings: Mapping[str, object] | None = None, seed: int = 0,
    prior: NetworkPrior | None = None,
) -> dict[str, object]:  # fmt: skip
    """How well hidden traces are predicted on the rows that tell most, as many as fit into memory.

    Returns the ``held_out`` errors of a record, what they teach of ``intervals``, and under ``auto`` the ``selection``.
    """
    count = rows_at_once(source, allowed, with_prior=prior is not None)
    first = _telling_rows(source.live, count)
    part = source.cut(first, first + count)
    if not part.live.any():
        raise InputError("no trace of these rows is live", found=f"rows {first} to {first + count - 1}")
    judgement = "basic" if method == "auto" else "full"
    problem = replace(problem_from_scan(part, prior=prior), unit=source.unit)
    found = reconstruct(problem, method, seed=seed, judgement=judgement, **(settings or {}))  # type: ignore[arg-type]
    record: dict[str, object] = {
        name: found.assessment[name] for name in ("held_out", "selection", "intervals") if name in found.assessment
    }
    selection = record.get("selection")
    if isinstance(selection, dict):
        told = {"reason": f"in {part.rows.describe()}, {selection['reason']}"}
        record["selection"] = selection | told
    return record


def judged_by(live: np.ndarray, loudness: np.ndarray, tests: Mapping[str, object]) -> dict[str, object]:
    """What is known of a filled survey, and its verdict: as of `medrecon.assess.assess` on one in memory.

    ``live`` and the ``loudness`` of every filled or live trace are ``(rows, columns)``.
    """
    figures: dict[str, object] = {
        "discrepancy": 0.0,  # live traces are as they were measured
        "missing": {"share": float(1 - live.mean()), "faint": faint_share(loudness, live)},
    } | dict(tests)
    return figures | {"verdict": verdict(figures, Thresholds(), noise_known=False)}


def _telling_rows(live: np.ndarray, count: int) -> int:
    """First of ``count`` rows with many live and many missing traces."""
    sums = np.concatenate([[0], np.cumsum(live.sum(axis=1))])
    known = sums[count:] - sums[:-count]
    return int(np.argmax(known * (count * live.shape[1] - known)))


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
