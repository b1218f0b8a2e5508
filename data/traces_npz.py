"""Traces as arrays: an ``.npz`` with the samples ``data`` and their ``live`` map. No pickle is ever read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from medrecon.data.formats import reader, writer
from medrecon.data.limits import Limits
from medrecon.data.reading import reading
from medrecon.data.segy_writing import plain_axes
from medrecon.data.trace_grid import Axis
from medrecon.data.traces import Figures, State, Traces, judged
from medrecon.errors import InputError


def sniff_npz(path: Path, head: bytes) -> bool:
    """A zip archive that holds ``data.npy`` and ``live.npy``; other archives of arrays are k-space."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"data.npy", "live.npy"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


@reader("traces.npz", suffixes=(".npz",), sniff=sniff_npz)
def read_npz(path: str | Path, *, limits: Limits | None = None) -> Traces:
    """``data`` ``(rows, columns, samples)``, or ``(columns, samples)`` of a line; ``live``, true where measured.

    Also ``rows`` and ``columns`` (first number and step) and ``interval`` (microseconds), where they are there.
    """
    where = Path(path).name
    with reading(path, "NumPy"), zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        (limits or Limits()).check((size,), 1, where=where)
        with np.load(path, allow_pickle=False) as stored:
            parts = {name: np.array(stored[name]) for name in stored.files}
    return _traces(parts, where)


def _traces(parts: dict[str, np.ndarray], where: str) -> Traces:
    array, live = parts["data"], parts["live"]
    if array.dtype.kind not in "fiu":
        raise InputError("samples are real numbers", where=where, found=str(array.dtype))
    if array.ndim == 2:
        array, live = array[None], live[None]
    if array.ndim != 3 or min(array.shape) < 1:
        raise InputError("wrong shape of the samples", where=where, found=array.shape, expected="(rows, columns, n)")
    if live.shape == array.shape:
        live = (live != 0).any(axis=2)
    if live.shape != array.shape[:2]:
        raise InputError("the live map does not fit", where=where, found=live.shape, expected=array.shape[:2])
    live, data = np.asarray(live != 0), array.astype(np.float32)
    data[~live] = 0
    if not np.isfinite(data).all():
        row, column, sample = (int(i) for i in np.argwhere(~np.isfinite(data))[0])
        raise InputError(
            "a live trace holds NaN or infinity", where=where, found=f"row {row}, column {column}, sample {sample}"
        )
    figures = Figures.empty(live.shape)
    figures.fill(data, np.arange(live.size))
    state = judged(figures, live, np.zeros(live.shape, bool))
    data[state != State.live] = 0
    if not (state == State.live).any():
        raise InputError("no trace is live", where=where, found=f"{state.size} traces, all zero or missing")
    rows, columns = plain_axes(*live.shape)
    if {"rows", "columns"} <= set(parts):
        (first, step), (start, stride) = (parts[name].astype(int).ravel()[:2] for name in ("rows", "columns"))
        rows = Axis("inline", int(first), int(step), live.shape[0], rows.byte)
        columns = Axis("crossline", int(start), int(stride), live.shape[1], columns.byte)
    interval = float(parts["interval"].ravel()[0]) if "interval" in parts else 4000.0
    survey = "2d" if live.shape[0] == 1 else "3d"
    return Traces(data, state, rows, columns, interval, survey, meta={"format": "npz", "warnings": []})


@writer("traces.npz", suffixes=(".npz",), content=Traces)
def write_npz(path: Path, traces: Traces) -> None:
    """Samples, live map (true for filled traces too), numbers of rows and columns, sample interval."""
    live = traces.live if traces.filled is None else traces.live | traces.filled
    with path.open("wb") as file:
        np.savez(
            file,
            data=np.ascontiguousarray(traces.data, dtype="<f4"),
            live=live,
            rows=np.array([traces.rows.first, traces.rows.step]),
            columns=np.array([traces.columns.first, traces.columns.step]),
            interval=np.array([traces.interval]),
        )
