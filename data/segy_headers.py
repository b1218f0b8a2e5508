"""Headers for traces that were never recorded: what they would hold, judged from their neighbours."""

from __future__ import annotations

import numpy as np

from medrecon.data.segy import FIELDS, HEADER, SegyFile
from medrecon.data.trace_grid import TraceGrid

MARK = b"MDRC"
"""Bytes 233-236 of a reconstructed trace (free in revisions 0 and 1; left alone in revision 2)."""

_ROUNDING = 1.0  # coordinates are rounded to whole units
_WIDE = 100  # numbers that span less than this must be affine exactly: a counter to 2 is no coordinate
_LIVE_ID = 1


def new_headers(file: SegyFile, grid: TraceGrid, wanted: np.ndarray) -> np.ndarray:
    """Headers ``(n, 240)`` uint8 of the bins in ``wanted`` (bool), row by row.

    Each number is treated by what it does in the traces that are there: the same in all of them, affine in row and
    column (coordinates, lines, counters of a full grid), the same along a row or a column, or else taken from the
    nearest trace. Numbers that place a trace are set. The trace is marked as live, and as made here.
    """
    present = grid.index >= 0
    rows, columns = np.nonzero(present)
    which = grid.index[present]
    new_rows, new_columns = np.nonzero(wanted)
    nearest = _nearest(present, new_rows, new_columns)
    raw = np.ascontiguousarray(file._bytes)
    out = raw[grid.index[nearest]].copy()
    headers = out.view(_dtype(file))[:, 0]
    for name, (byte, _) in FIELDS.items():
        values = file.numbers(byte)[which]
        if len(values) == 0 or (values == values[0]).all():
            continue
        made = _affine(values, rows, columns, new_rows, new_columns)
        for along, new_along in ((rows, new_rows), (columns, new_columns)):
            if made is None:
                made = _constant_along(values, along, new_along)
        if made is not None:
            limits = np.iinfo(headers.dtype[name])
            known = made != _UNKNOWN
            headers[name][known] = np.clip(made[known], limits.min, limits.max)
    places = [*zip(grid.row_bytes, grid.row_numbers[new_rows].T, strict=True)]
    if grid.columns.byte:
        places.append((grid.columns.byte, grid.columns.first + grid.columns.step * new_columns))
    for byte, numbers in places:
        _set(out, file, byte, numbers)
    _set(out, file, 29, np.full(len(out), _LIVE_ID))
    if file.revision < 2:
        out[:, 232 : 232 + len(MARK)] = np.frombuffer(MARK, np.uint8)
    return out


def is_made_here(file: SegyFile) -> np.ndarray:
    """Which traces of a file carry the mark of `new_headers`."""
    return (file._bytes[:, 232 : 232 + len(MARK)] == np.frombuffer(MARK, np.uint8)).all(axis=1)


_UNKNOWN = np.iinfo(np.int64).min


def _dtype(file: SegyFile) -> np.dtype:
    dtype = file.traces.dtype["header"]
    assert dtype.itemsize == HEADER
    return dtype


def _set(headers: np.ndarray, file: SegyFile, byte: int, numbers: np.ndarray) -> None:
    size = dict(FIELDS.values()).get(byte, 4)
    stored = numbers.astype(f"{file.order}i{size}")[:, None].view(np.uint8)
    headers[:, byte - 1 : byte - 1 + size] = stored


def _nearest(present: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy import ndimage

    found = ndimage.distance_transform_edt(~present, return_distances=False, return_indices=True)
    return found[0][rows, columns], found[1][rows, columns]


def _affine(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, new_rows: np.ndarray, new_columns: np.ndarray
) -> np.ndarray | None:
    """``a + b row + c column`` where that fits every trace within rounding, and rows and columns determine it."""
    base = values.astype(np.float64).mean()
    matrix = np.stack([np.ones(len(rows)), rows - rows.mean(), columns - columns.mean()], axis=1)
    normal = matrix.T @ matrix
    solution = np.linalg.pinv(normal, rcond=1e-12) @ (matrix.T @ (values - base))
    allowed = _ROUNDING if np.ptp(values) >= _WIDE else 1e-3
    if np.abs(matrix @ solution + base - values).max() > allowed:
        return None
    new = np.stack([np.ones(len(new_rows)), new_rows - rows.mean(), new_columns - columns.mean()], axis=1)
    return np.rint(new @ solution + base).astype(np.int64)


def _constant_along(values: np.ndarray, along: np.ndarray, new_along: np.ndarray) -> np.ndarray | None:
    """The number of the same row (or column), where it is the same in all of its traces; unknown in empty ones."""
    count = int(max(along.max(), new_along.max(initial=0))) + 1
    low, high = np.full(count, np.iinfo(np.int64).max), np.full(count, _UNKNOWN)
    np.minimum.at(low, along, values)
    np.maximum.at(high, along, values)
    seen = high != _UNKNOWN
    if (low[seen] != high[seen]).any():
        return None
    return high[new_along]
