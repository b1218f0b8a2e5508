"""`Survey`: the frame of a seismic result, small enough for its record: axes, sampling, and why traces were missing."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from medrecon.data.segy import SegyFile
from medrecon.data.trace_grid import Axis, TraceGrid
from medrecon.data.traces import State, Traces
from medrecon.errors import CorruptInput

_SCALAR, _COORDINATE_UNITS, _DELAY = 71, 89, 109
_COORDINATES = ((181, 185), (73, 77))  # of the bin, else of the source
_LENGTH, _FEET = 1, 2  # in bytes 89-90 of a trace and 3255-3256 of the file
_MOST_TEXT = 40  # lines of a textual header


@dataclass(frozen=True, eq=False)
class Survey:
    """What the axes of a volume of sections ``(row, time, column)`` mean.

    Attributes
    ----------
    kind, rows, columns, state
        As in `Traces`; the state is that of the measured data, before anything was filled.
    interval
        Milliseconds between samples (of depth sections: whatever the file means by it).
    start
        Time of the first sample, milliseconds: the recording delay where all traces have the same.
    bins
        Distance between rows and between columns, in ``length_unit``, where coordinates tell.
    about
        What else there is to say of the file, by name; plain text.
    text
        Lines of the textual header that are not empty.
    """

    kind: str
    rows: Axis
    columns: Axis
    state: np.ndarray
    interval: float
    start: float = 0.0
    bins: tuple[float, float] | None = None
    length_unit: str = "m"
    about: Mapping[str, str] = field(default_factory=dict)
    text: tuple[str, ...] = ()

    @property
    def live(self) -> np.ndarray:
        """Where a trace was measured: bool ``(rows, columns)``."""
        return self.state == State.live

    def part(self, rows: slice, columns: slice) -> Survey:
        """Every n-th row and column: slices with a start and a step."""
        bins = None if self.bins is None else (self.bins[0] * rows.step, self.bins[1] * columns.step)
        state = self.state[rows, columns]
        return replace(self, rows=self.rows.part(rows), columns=self.columns.part(columns), state=state, bins=bins)

    def to_record(self) -> dict[str, object]:
        """Plain values for JSON; the live map compressed."""
        return {
            "kind": self.kind,
            "rows": vars(self.rows),
            "columns": vars(self.columns),
            "interval_ms": self.interval,
            "start_ms": self.start,
            "bins": None if self.bins is None else list(self.bins),
            "length_unit": self.length_unit,
            "about": dict(self.about),
            "text": list(self.text),
            "states": base64.b64encode(zlib.compress(self.state.astype(np.uint8).tobytes(), 9)).decode("ascii"),
        }

    @classmethod
    def from_record(cls, values: Mapping[str, object]) -> Survey:
        """The inverse of :meth:`to_record`. Raises CorruptInput for anything else."""
        try:
            rows, columns = (Axis(**values[name]) for name in ("rows", "columns"))  # type: ignore[arg-type]
            count = rows.count * columns.count
            states = zlib.decompressobj().decompress(base64.b64decode(str(values["states"])), count + 1)
            state = np.frombuffer(states, np.uint8).reshape(rows.count, columns.count)
            bins = values["bins"]
            return cls(
                kind=str(values["kind"]),
                rows=rows,
                columns=columns,
                state=state,
                interval=float(values["interval_ms"]),  # type: ignore[arg-type]
                start=float(values["start_ms"]),  # type: ignore[arg-type]
                bins=None if bins is None else (float(bins[0]), float(bins[1])),  # type: ignore[index]
                length_unit=str(values["length_unit"]),
                about={str(k): str(v) for k, v in dict(values["about"]).items()},  # type: ignore[call-overload]
                text=tuple(str(line) for line in values["text"]),  # type: ignore[attr-defined]
            )
        except (KeyError, TypeError, ValueError, IndexError, zlib.error, binascii.Error) as error:
            raise CorruptInput("the record of the survey is damaged", found=str(error)) from error


def survey_of(traces: Traces) -> Survey:
    """The frame of these traces."""
    about, text, start, bins, unit = {}, tuple[str, ...](), 0.0, None, "m"
    if traces.file is not None and traces.grid is not None:
        file = traces.file
        about = {
            "format": f"{file.kind} revision {file.revision}" if file.kind == "SEG-Y" else file.kind,
            "samples stored as": f"{file.form.name}, {'big' if file.order == '>' else 'little'}-endian",
            "traces in the file": str(len(file)),
        }
        text = tuple(line.rstrip() for line in file.text if line.replace("\0", " ")[3:].strip())[:_MOST_TEXT]
        start, bins = _delay(file), bin_sizes(file, traces.grid)
        unit = "ft" if file.binary(3255) == _FEET else "m"
    for number, warning in enumerate(traces.meta.get("warnings") or [], 1):
        about[f"warning {number}"] = str(warning)
    return Survey(
        kind=traces.kind,
        rows=traces.rows,
        columns=traces.columns,
        state=traces.state,
        interval=traces.interval / 1000,
        start=start,
        bins=bins,
        length_unit=unit,
        about=about,
        text=text,
    )


def _delay(file: SegyFile) -> float:
    delays = file.numbers(_DELAY)
    return float(delays[0]) if (delays == delays[0]).all() else 0.0


def bin_sizes(file: SegyFile, grid: TraceGrid) -> tuple[float, float] | None:
    """Distances between neighbouring rows and columns from the coordinates, in the file's unit of length.

    None where the coordinates are angles or absent, or lie farther than half a bin from a regular grid. Of one row (or
    column) its own distance is 0.
    """
    present = grid.index >= 0
    which = grid.index[present]
    if len(which) < 2 or not np.isin(file.numbers(_COORDINATE_UNITS)[which], (0, _LENGTH)).all():
        return None
    scalar = file.numbers(_SCALAR)[which].astype(np.float64)
    factor = np.where(scalar < 0, -1 / np.minimum(scalar, -1), np.maximum(scalar, 1))
    places = np.stack([np.ones(len(which)), *np.nonzero(present)], axis=1)
    for x_byte, y_byte in _COORDINATES:
        points = np.stack([file.numbers(byte)[which] * factor for byte in (x_byte, y_byte)], axis=1)
        points -= points.mean(axis=0)
        if not points.any():
            continue
        fit, *_ = np.linalg.lstsq(places, points, rcond=None)
        row, column = (float(np.hypot(*step)) for step in fit[1:])
        sizes = [size for size, count in zip((row, column), present.shape, strict=True) if count > 1]
        misfit = float(np.abs(places @ fit - points).max())
        if min(sizes) > 0 and misfit <= 0.5 * min(sizes):
            return (row if present.shape[0] > 1 else 0.0), (column if present.shape[1] > 1 else 0.0)
    return None
