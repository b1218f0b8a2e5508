"""`Traces`: a seismic survey as a grid of traces, some of them missing, with what is needed to write it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from medrecon.data.segy import COMPILED, SegyFile
from medrecon.data.trace_grid import Axis, TraceGrid
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError

_OUTLIER = 1000.0  # times the median loudness: no gain of a recorder explains that
_BRIGHT = 0.995  # share of live samples that are fainter than 1 in internal units, as in training of priors
_MOST_SAMPLES = 1_000_000  # for percentiles


class State(IntEnum):
    """Why a trace is live or missing."""

    live = 0
    absent = 1
    marked_dead = 2
    zero = 3
    not_finite = 4
    outlier = 5


REASONS = {
    State.absent: "not in the file",
    State.marked_dead: "marked dead (trace identification 2)",
    State.zero: "zero or constant",
    State.not_finite: "holds NaN or infinity",
    State.outlier: f"more than {_OUTLIER:g} times as loud as the others",
}
"""What is said of missing traces."""


@dataclass(frozen=True, eq=False)
class Traces:
    """Measured traces on their grid.

    Attributes
    ----------
    data
        float32 ``(rows, columns, samples)``, zero where ``state`` is not live and ``filled`` is false.
    state
        uint8 ``(rows, columns)``, one `State` a trace.
    rows, columns
        What the grid's axes are (see `medrecon.data.trace_grid`).
    interval
        Sample interval in microseconds, as the file counts it.
    kind
        ``"3d"``, ``"2d"`` or ``"prestack"``.
    filled
        bool ``(rows, columns)``: traces that were reconstructed.
    file, grid
        The SEG-Y or SU file that they come from, and which of its traces is where; None for arrays.
    quantity, provenance, meta
        Unit of the samples; plain JSON values; what the reader has to say (``format``, ``warnings``).
    silenced
        bool ``(rows, columns)``: traces of the file that are to be written with zeros for samples.
    """

    data: np.ndarray
    state: np.ndarray
    rows: Axis
    columns: Axis
    interval: float = 4000.0
    kind: str = "3d"
    filled: np.ndarray | None = None
    file: SegyFile | None = None
    grid: TraceGrid | None = None
    quantity: str = "amplitude"
    provenance: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)
    silenced: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.state.shape != self.data.shape[:2]:
            raise InputError("samples and live map disagree", found=self.data.shape, expected=(*self.state.shape, "n"))

    @property
    def modality(self) -> str:
        """``"seismic"``: chooses how a problem is made of it."""
        return "seismic"

    @property
    def live(self) -> np.ndarray:
        """Where a trace was measured: bool ``(rows, columns)``."""
        return self.state == State.live

    @property
    def volume_geometry(self) -> Geometry:
        """The grid of sections ``(row, time, column)``; a bin, and a sample, counts as 1 mm."""
        rows, columns, samples = self.data.shape
        return Geometry.from_spacing((rows, samples, columns), (1.0, 1.0, 1.0))

    @property
    def unit(self) -> float:
        """A bright amplitude, the 99.5th percentile of the live samples' sizes: what counts as 1 inside."""
        values = np.abs(self.data[self.live]).ravel()
        return bright_unit(values[:: sample_step(values.size)], lambda: float(values.max()))

    def counts(self) -> dict[str, int]:
        """How many traces are missing, by `State`; only those that occur."""
        numbers = np.bincount(self.state.ravel(), minlength=len(State))
        return {state.name: int(numbers[state]) for state in State if state is not State.live and numbers[state]}

    def to_volume(self) -> Volume:
        """Sections ``(row, time, column)``; zeros where traces are missing."""
        array = np.ascontiguousarray(self.data.transpose(0, 2, 1), dtype=np.float32)
        return Volume(array, self.volume_geometry, self.quantity, dict(self.meta))

    def with_volume(self, volume: Volume) -> Traces:
        """Missing traces from a volume of sections on this grid; live ones stay as they are.

        Raises InputError for another grid.
        """
        if volume.geometry.shape != self.volume_geometry.shape:
            raise InputError(
                "the volume is not of this survey", found=volume.geometry.shape, expected=self.volume_geometry.shape
            )
        values = volume.array.transpose(0, 2, 1).astype(np.float32)
        data = np.where(self.live[..., None], self.data, values)
        return replace(self, data=data, filled=~self.live)

    def keeping(self, keep: np.ndarray, *, silent: bool = False) -> Traces:
        """The live traces of ``keep``, bool ``(rows, columns)``, alone: the others are as if never recorded.

        With ``silent`` those that were live stay in their places, as zeros.
        """
        kept = keep & self.live
        lost = self.live & ~keep if silent else np.zeros_like(kept)
        state = np.where(kept, np.uint8(State.live), np.where(lost, np.uint8(State.zero), np.uint8(State.absent)))
        grid = self.grid and replace(self.grid, index=np.where(kept | lost, self.grid.index, -1))
        data = np.where(kept[..., None], self.data, np.float32(0))
        return replace(self, data=data, state=state.astype(np.uint8), grid=grid, silenced=lost if silent else None)

    def cut_rows(self, first: int, last: int) -> Traces:
        """Rows ``first`` to ``last - 1``; without the file, as a part is not written back."""
        part = slice(first, last)
        filled = None if self.filled is None else self.filled[part]
        return replace(
            self, data=self.data[part].copy(), state=self.state[part], rows=self.rows.part(part), filled=filled,
            silenced=None, file=None, grid=None,
        )  # fmt: skip

    def summary(self) -> dict[str, object]:
        """What there is to know, in a user's words."""
        values = self.data[self.live]
        words = survey_words(self.kind, self.rows, self.columns, self.data.shape[2], self.interval, self.state)
        if self.filled is not None and self.filled.any():
            words["filled"] = int(self.filled.sum())
        if values.size:
            words |= {"minimum": float(values.min()), "maximum": float(values.max()),
                      "rms": float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))}  # fmt: skip
        warnings = self.meta.get("warnings") or []
        return words | ({"warnings": "; ".join(warnings)} if warnings else {})


def sample_step(samples: int) -> int:
    """Every how many live samples are looked at for percentiles, in the order of the grid."""
    return max(1, samples // _MOST_SAMPLES)


def bright_unit(sizes: np.ndarray, largest: Callable[[], float]) -> float:
    """`Traces.unit` from the sizes of the live samples that are looked at; ``largest`` of all, where those are zero."""
    if sizes.size == 0:
        return 1.0
    return float(np.quantile(sizes, _BRIGHT)) or largest() or 1.0


def survey_words(
    kind: str, rows: Axis, columns: Axis, samples: int, interval: float, state: np.ndarray
) -> dict[str, object]:
    """Grid, samples and live map of a survey as a user would say it."""
    kinds = {"3d": "3D survey after stack", "2d": "2D line", "prestack": "gathers before stack"}
    live = int((state == State.live).sum())
    words: dict[str, object] = {
        "holds": "seismic traces",
        "survey": kinds[kind],
        "rows": rows.describe(),
        "columns": columns.describe(),
        "grid": f"{rows.count} x {columns.count} traces",
        "samples": f"{samples} by {interval / 1000:g} ms",
        "live_traces": live,
        "missing_traces": f"{state.size - live} ({(state.size - live) / state.size:.1%})",
    }
    numbers = np.bincount(state.ravel(), minlength=len(State))
    return words | {f"missing_{s.name}": f"{int(numbers[s])} {text}" for s, text in REASONS.items() if numbers[s]}


@dataclass(frozen=True, eq=False)
class Figures:
    """Of every trace, ``(rows, columns)``: whether it is finite, whether it is constant, and its root mean square."""

    finite: np.ndarray
    constant: np.ndarray
    loudness: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Figures:
        """Of traces that are not there: zeros."""
        return cls(np.ones(shape, bool), np.ones(shape, bool), np.zeros(shape))

    def fill(self, data: np.ndarray, places: np.ndarray) -> None:
        """The figures of the traces ``places``, flat numbers of ``data`` ``(rows, columns, n)``."""
        traces, (finite, constant, loudness) = (
            data.reshape(-1, data.shape[2]),
            (part.reshape(-1) for part in (self.finite, self.constant, self.loudness)),
        )
        if len(places) * data.shape[2] >= COMPILED:
            from medrecon.data import segy_kernels

            segy_kernels.judge(traces, traces.view(np.uint32), places, finite, constant, loudness)
            return
        chosen = traces[places]
        with np.errstate(over="ignore", invalid="ignore"):
            highest, lowest = chosen.max(axis=1), chosen.min(axis=1)
            finite[places] = np.isfinite(highest) & np.isfinite(lowest)
            constant[places] = highest == lowest
            loudness[places] = np.sqrt(np.mean(np.square(chosen, dtype=np.float64), axis=1))


def judged(figures: Figures, present: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """`State` of every trace from its figures, its presence and its mark."""
    state = np.where(present, np.uint8(State.live), np.uint8(State.absent)).astype(np.uint8)
    state[present & figures.constant] = State.zero
    state[present & ~figures.finite] = State.not_finite
    state[present & marked] = State.marked_dead
    live = state == State.live
    if live.any():
        state[live & (figures.loudness > _OUTLIER * np.median(figures.loudness[live]))] = State.outlier
    return state
