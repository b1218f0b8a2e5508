"""Writers of SEG-Y and SU: live traces are copied as bytes, reconstructed ones get headers of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.data.atomic import final_name
from medrecon.data.formats import writer
from medrecon.data.segy import (
    BINARY,
    FIELDS,
    NAMES,
    TEXT,
    SegyFile,
    forget_pages,
    header_dtype,
    is_ebcdic,
)
from medrecon.data.segy_headers import new_headers
from medrecon.data.segy_samples import FORMATS, encode
from medrecon.data.trace_grid import CROSSLINE, INLINE, Axis
from medrecon.data.traces import Traces
from medrecon.errors import InputError, UsageError

_BLOCK = 4 << 20  # bytes of traces that are written at once
_BIN = 25  # metres between traces of a survey without coordinates
_LONGEST_SU = 0xFFFF


@writer("segy", suffixes=(".sgy", ".segy", ".seg"), content=Traces)
def write_segy(path: Path, traces: Traces) -> None:
    """All traces that were measured, byte for byte, and those that were filled.

    Traces stand in the order of the file that they come from (by rows or by columns), the new ones in their places.
    The textual header gets a line that says what was done, where one is free. Raises InputError for NaN in new traces.
    """
    file = traces.file
    if file is None or file.kind != "SEG-Y":
        _write_blocks(path, _fresh_preamble(traces), _fresh_traces(traces, ">"))
        return
    _refuse_source(path, file)
    if _unchanged(traces):
        shutil.copyfile(file.path, path)
        return
    _write_blocks(path, _changed_preamble(traces, file), _blocks(traces, file))


@writer("su", suffixes=(".su",), content=Traces)
def write_su(path: Path, traces: Traces) -> None:
    """As `write_segy`, for files that come from SU; arrays get new headers. SEG-Y files stay SEG-Y."""
    file = traces.file
    if traces.data.shape[2] > _LONGEST_SU:
        raise InputError("SU cannot hold traces of this length", found=traces.data.shape[2], expected=_LONGEST_SU)
    if file is None or file.kind != "SU":
        _write_blocks(path, b"", _fresh_traces(traces, "<"))
        return
    _refuse_source(path, file)
    if _unchanged(traces):
        shutil.copyfile(file.path, path)
    else:
        _write_blocks(path, b"", _blocks(traces, file))


def _write_blocks(path: Path, preamble: bytes, blocks: Iterator[np.ndarray]) -> None:
    with path.open("wb") as out:
        out.write(preamble)
        for block in blocks:
            out.write(block.tobytes())


def _refuse_source(path: Path, file: SegyFile) -> None:
    if path.with_name(final_name(path)).resolve() == file.path.resolve():
        raise UsageError("a file is not written over itself", where=file.path.name, hint="Choose another output.")


def _unchanged(traces: Traces) -> bool:
    assert traces.grid is not None
    filled = traces.filled is not None and bool(traces.filled.any())
    silenced = traces.silenced is not None and bool(traces.silenced.any())
    return not filled and not silenced and int((traces.grid.index >= 0).sum()) == len(traces.file or ())


def _blocks(traces: Traces, file: SegyFile) -> Iterator[np.ndarray]:
    """The traces to write, as bytes ``(n, bytes of a trace)``."""
    grid = traces.grid
    assert grid is not None
    new = np.zeros(traces.state.shape, bool) if traces.filled is None else traces.filled
    source = np.where(new, -1, grid.index)
    present = grid.index >= 0
    place = np.flatnonzero((new | present).ravel())
    if _by_columns(grid.index):
        count = traces.state.shape[1]
        place = place[np.lexsort((place // count, place % count))]
    headers = new_headers(file, grid, new) if new.any() else np.empty((0, 240), np.uint8)
    quiet = np.zeros(new.size, bool) if traces.silenced is None else traces.silenced.ravel()
    number = np.full(new.size, -1)
    number[np.flatnonzero(new.ravel())] = np.arange(len(headers))
    size = file.traces.dtype.itemsize
    stored = np.ndarray((len(file), size), np.uint8, buffer=file.traces)
    data, source, number = traces.data.reshape(-1, file.samples), source.ravel(), number
    step = max(1, _BLOCK // size)
    for first in range(0, len(place), step):
        part = place[first : first + step]
        block = np.empty((len(part), size), np.uint8)
        old = source[part] >= 0
        block[old] = stored[source[part][old]]
        block[old & quiet[part], 240:] = 0
        if not old.all():
            fresh = part[~old]
            block[~old, :240] = headers[number[fresh]]
            samples = np.ascontiguousarray(encode(data[fresh], file.form, file.order))
            block[~old, 240:] = samples.reshape(len(fresh), -1).view(np.uint8)
        yield block
        forget_pages(file.traces, traces.data)


def _by_columns(index: np.ndarray) -> bool:
    """Whether the file runs down the columns of the grid."""
    down = index.T[index.T >= 0]
    along = index[index >= 0]
    return bool((np.diff(down) > 0).mean() > (np.diff(along) > 0).mean()) if len(along) > 1 else False


def _changed_preamble(traces: Traces, file: SegyFile) -> bytes:
    """The file's own headers with the lines of this package, and the number of traces of revision 2."""
    head = bytearray(file.preamble)
    for line in _lines(traces):
        _add_line(head, line)
    if file.revision >= 2 and any(head[3320:3328]):
        assert traces.grid is not None
        new = 0 if traces.filled is None else int((traces.filled & (traces.grid.index < 0)).sum())
        total = int((traces.grid.index >= 0).sum()) + new
        head[3320:3328] = total.to_bytes(8, "big" if file.order == ">" else "little")
    return bytes(head)


def _lines(traces: Traces) -> list[str]:
    from medrecon import __version__

    lines = []
    grid = traces.meta.get("grid")
    if grid:
        lines.append(f"MEDRECON GRID {grid}")
    if note := traces.meta.get("note"):
        lines.append(f"MEDRECON {__version__} {note}")
    if traces.filled is not None and traces.filled.any():
        method = str(traces.meta.get("method", "")) or "reconstruction"
        lines.append(f"MEDRECON {__version__} FILLED {int(traces.filled.sum())} TRACES BY {method.upper()}")
    return lines


def _add_line(head: bytearray, words: str) -> None:
    """Put words into the last free line of the textual header that is not its end mark; none free, none added."""
    codec = "cp037" if is_ebcdic(bytes(head[:TEXT])) else "latin-1"
    text = bytes(head[:TEXT]).decode(codec)
    for number in range(39, 0, -1):
        line = text[80 * (number - 1) : 80 * number]
        label = f"C{number:2d} "
        if not line.replace("\0", " ")[3:].strip() and (line[:1] == "C" or not line.replace("\0", " ").strip()):
            head[80 * (number - 1) : 80 * number] = f"{label}{words}"[:80].ljust(80).encode(codec)
            return


def grid_line(rows: Axis, columns: Axis) -> str:
    """The grid for `medrecon.data.segy_reading.GRID_LINE`: ranges of rows (``-`` where they are compound), columns."""
    row = f"{rows.first}:{rows.last}:{rows.step}" if rows.byte else "-"
    return f"{row} {columns.first}:{columns.last}:{columns.step}"


# --- files that come from no file --------------------------------------------------------------------------------
def _fresh_preamble(traces: Traces) -> bytes:
    places = [f"{name.upper()} IN BYTES {byte}-{byte + size - 1}" for name, byte, size, _, _ in _places(traces)]
    lines = {1: "SEG-Y WRITTEN BY MEDRECON", 2: ", ".join(places),
             3: f"SAMPLES: {traces.data.shape[2]} BY {traces.interval:g} US, IEEE FLOAT",
             39: "SEG-Y REV1", 40: "END TEXTUAL HEADER"}  # fmt: skip
    text = "".join(f"C{i:2d} {lines.get(i, '')}".ljust(80) for i in range(1, 41)).encode("cp037")
    head = bytearray(text + bytes(BINARY))

    def put(byte: int, value: int, size: int = 2) -> None:
        head[byte - 1 : byte - 1 + size] = value.to_bytes(size, "big")

    samples = traces.data.shape[2]
    if samples > 0xFFFF:
        raise InputError("revision 1 cannot hold traces of this length", found=samples, expected="at most 65535")
    put(3213, min(traces.columns.count, 0x7FFF))
    put(3217, round(traces.interval) & 0xFFFF)
    put(3221, samples)
    put(3225, 5)
    put(3229, 2)  # sorted by CDP
    put(3255, 1)  # metres
    put(3501, 0x0100)
    put(3503, 1)
    for line in _lines(traces):
        _add_line(head, line)
    return bytes(head)


def _fresh_traces(traces: Traces, order: str) -> Iterator[np.ndarray]:
    form = FORMATS[5]
    written = traces.live
    for more in (traces.filled, traces.silenced):
        written = written if more is None else written | more
    dtype = np.dtype([("header", header_dtype(order)), ("samples", form.dtype(order), (traces.data.shape[2],))])
    rows, columns = np.nonzero(written)
    step = max(1, _BLOCK // dtype.itemsize)
    for first in range(0, len(rows), step):
        row, column = rows[first : first + step], columns[first : first + step]
        block = np.zeros(len(row), dtype)
        header = block["header"]
        header["sequence_in_line"], header["sequence_in_file"] = column + 1, first + 1 + np.arange(len(row))
        header["trace_id"], header["coordinate_scalar"] = 1, 1
        header["samples"], header["interval"] = traces.data.shape[2], round(traces.interval) & 0x7FFF
        header["cdp"] = row * traces.columns.count + column + 1
        for (_, byte, _, first_number, step), place in zip(_places(traces), (row, column), strict=True):
            header[NAMES[byte]] = first_number + step * place
        header["source_x"] = header["group_x"] = header["cdp_x"] = _BIN * column
        header["source_y"] = header["group_y"] = header["cdp_y"] = _BIN * row
        block["samples"] = encode(traces.data[row, column], form, order)
        yield block.view(np.uint8).reshape(len(row), -1)


def _places(traces: Traces) -> list[tuple[str, int, int, int, int]]:
    """Name, byte, size, first number and step of rows and columns; inline and crossline where no header is theirs."""
    found = []
    for axis, usual in ((traces.rows, INLINE), (traces.columns, CROSSLINE)):
        byte = axis.byte if axis.byte in NAMES else usual
        found.append((axis.name if axis.byte else NAMES[usual], byte, FIELDS[NAMES[byte]][1], axis.first, axis.step))
    return found


def plain_axes(rows: int, columns: int) -> tuple[Axis, Axis]:
    """Inlines and crosslines from 1, for arrays."""
    return Axis("inline", 1, 1, rows, INLINE), Axis("crossline", 1, 1, columns, CROSSLINE)


def without_file(traces: Traces) -> Traces:
    """The same as if it came from an array, for writing in another format."""
    return replace(traces, file=None, grid=None)
