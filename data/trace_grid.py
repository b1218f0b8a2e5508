"""Where the traces of a file belong: a grid of rows and columns from what their headers say, never from their number.

Rows and columns are inlines and crosslines of a volume, gathers and their traces before stack, or one row of a 2D
line. A section of the volume, which a prior sees as one image, is a row.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from medrecon.data.segy import SegyFile
from medrecon.errors import InputError, UsageError
from medrecon.registry import unknown_name

INLINE, CROSSLINE, OFFSET, CDP, RECORD, CHANNEL, SHOT, SEQUENCE = 189, 193, 37, 21, 9, 13, 17, 5
LEAST_FILL = 0.02
"""A grid emptier than this comes from a wrong header, not from a survey."""

_DENSE = 0.2


@dataclass(frozen=True)
class Axis:
    """Header numbers along rows or columns: ``first, first + step, ...``; of compound rows ``names`` says more."""

    name: str
    first: int
    step: int
    count: int
    byte: int = 0
    """Where a trace header holds the number; 0 for compound rows and plain arrays."""

    @property
    def last(self) -> int:
        """The last number."""
        return self.first + (self.count - 1) * self.step

    def part(self, cut: slice) -> Axis:
        """The rows or columns of a slice of them."""
        numbers = range(self.count)[cut]
        return replace(self, first=self.first + numbers.start * self.step, step=self.step * numbers.step,
                       count=len(numbers))  # fmt: skip

    def describe(self) -> str:
        """``inline 100 to 120 by 2``."""
        if self.count == 1:
            return f"{self.name} {self.first}"
        return f"{self.name} {self.first} to {self.last}" + ("" if self.step == 1 else f" by {self.step}")


@dataclass(frozen=True)
class ReadOptions:
    """What a user can say about a file of traces; ``None`` where it follows from the headers.

    Attributes
    ----------
    inline, crossline, offset, cdp
        Byte numbers of these header fields.
    keys
        ``"3d"``, ``"offsets"``, ``"cdp"``, ``"shots"`` or ``"line"``: which headers place a trace.
    rows, columns
        The wanted grid, ``FIRST:LAST`` or ``FIRST:LAST:STEP`` in header numbers, or ``::STEP``.
    interval
        Sample interval in microseconds, for files that do not say.
    salvage
        Take the whole traces of a file that was cut short.
    nan
        ``"error"`` or ``"missing"``: what traces with NaN or infinity are.
    sparse
        Accept a grid that is nearly empty.
    memory
        MiB that a reconstruction may take; a larger one is made window by window from the file. By default most of the
        memory that is free.
    """

    inline: int = INLINE
    crossline: int = CROSSLINE
    offset: int = OFFSET
    cdp: int = CDP
    keys: str | None = None
    rows: str | None = None
    columns: str | None = None
    interval: float | None = None
    salvage: bool = False
    nan: str = "error"
    sparse: bool = False
    memory: float | None = None

    @classmethod
    def of(cls, said: dict[str, object]) -> ReadOptions:
        """From names and values of the command line. Raises UsageError for unknown names and values."""
        known = {f.name: f.default for f in fields(cls)}
        for name, value in said.items():
            if name not in known:
                raise unknown_name("option of --traces", name, list(known))
            default = known[name]
            whole = isinstance(default, int) and not isinstance(default, bool)
            if (whole and not isinstance(value, int)) or (isinstance(default, bool) != isinstance(value, bool)):
                raise UsageError(f"option {name} of --traces has the wrong type", found=value)
        options = cls(**{k: str(v) if k in ("rows", "columns") else v for k, v in said.items()})  # type: ignore[arg-type]
        if options.nan not in ("error", "missing"):
            raise UsageError("unknown choice for NaN traces", found=options.nan, expected="error or missing")
        if options.keys not in (None, "3d", "offsets", "cdp", "shots", "line"):
            raise UsageError("unknown keys", found=options.keys, expected="3d, offsets, cdp, shots or line")
        if options.interval is not None and not (isinstance(options.interval, int | float) and options.interval > 0):
            raise UsageError("the sample interval is in microseconds", found=options.interval)
        if options.memory is not None and not (isinstance(options.memory, int | float) and options.memory > 0):
            raise UsageError("memory is a number of MiB", found=options.memory)
        return options


@dataclass(frozen=True, eq=False)
class TraceGrid:
    """``index`` says which trace of the file is in each bin, ``(rows, columns)``, -1 where none is.

    ``row_numbers`` are the header numbers of each row: one column for a simple axis, several for compound rows
    ``(inline, crossline)``, whose bytes are in ``row_bytes``.
    """

    kind: str
    rows: Axis
    columns: Axis
    index: np.ndarray
    row_numbers: np.ndarray
    row_bytes: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def trace_grid(file: SegyFile, options: ReadOptions | None = None) -> TraceGrid:
    """Place every trace of a file.

    Raises
    ------
    InputError
        Two traces have the same place, the headers do not tell traces apart, or one header makes the grid absurd.
    """
    options = options or ReadOptions()
    kind, row_bytes, column_byte, names, warnings = _keys(file, options)
    keys = [file.numbers(byte) for byte in (*row_bytes, column_byte)]
    numbers = np.stack(keys, axis=1)
    _refuse_duplicates(numbers, (*names[0], names[1]), file.path.name)
    if len(row_bytes) == 1:
        rows = _axis(names[0][0], numbers[:, 0], row_bytes[0], options.rows)
        row_numbers = (rows.first + rows.step * np.arange(rows.count))[:, None]
        row, inside = _position(numbers[:, 0], rows)
    else:
        row_numbers, row = np.unique(numbers[:, :-1], axis=0, return_inverse=True)
        row, inside = row.reshape(-1), np.ones(len(row), dtype=bool)
        rows = Axis(" and ".join(names[0]), 0, 1, len(row_numbers))
    columns = _axis(names[1], numbers[:, -1], column_byte, options.columns)
    column, within = _position(numbers[:, -1], columns)
    inside &= within
    fill = len(numbers) / (rows.count * columns.count)
    if fill < LEAST_FILL and not options.sparse:
        _blame(numbers, names, rows, columns, fill, file.path.name)
    if not inside.all():
        left = int((~inside).sum())
        warnings = (*warnings, f"{left} traces lie outside the wanted rows and columns and are left out")
    index = np.full((rows.count, columns.count), -1, dtype=np.int64)
    index[row[inside], column[inside]] = np.flatnonzero(inside)
    return TraceGrid(kind, rows, columns, index, row_numbers, row_bytes, warnings)


def _keys(
    file: SegyFile, options: ReadOptions
) -> tuple[str, tuple[int, ...], int, tuple[tuple[str, ...], str], tuple[str, ...]]:
    """Which headers place a trace: kind, bytes of rows, byte of columns, their names, warnings."""
    il, xl, offset, cdp = options.inline, options.crossline, options.offset, options.cdp
    volume = ("3d", (il,), xl, (("inline",), "crossline"), ())
    line_of_inlines = ("2d", (xl,), il, (("crossline",), "inline"), ())
    offsets = ("prestack", (il, xl), offset, (("inline", "crossline"), "offset"), ())
    cdps = ("2d", (il,), cdp, (("inline",), "cdp"), ())
    gathers = ("prestack", (cdp,), offset, (("cdp",), "offset"), ())
    shots = ("prestack", (RECORD,), CHANNEL, (("field record",), "channel"), ())
    shot_offsets = ("prestack", (RECORD,), offset, (("field record",), "offset"), ())
    points = ("prestack", (SHOT,), offset, (("shot point",), "offset"), ())
    said = f"no header places the traces: they are taken as one line in the order of bytes {SEQUENCE}"
    line = ("2d", (il,), SEQUENCE, (("inline",), "trace"), (said,))
    wanted = {"3d": volume, "offsets": offsets, "cdp": cdps, "shots": shots, "line": line}
    if options.keys is not None:
        return wanted[options.keys]  # type: ignore[return-value]
    inline, crossline = file.numbers(il), file.numbers(xl)
    varies = [bool((v != v[0]).any()) for v in (inline, crossline)]
    if any(varies) or (len(file) == 1 and (inline.any() or crossline.any())):
        # Each says more than nothing: these place the traces, and a repeated pair is an error, not another geometry
        if _unique(file, (il, xl)):
            return line_of_inlines if varies == [True, False] else volume  # type: ignore[return-value]
        repeated = len(inline) - len(_distinct(_codes(np.stack([inline, crossline], 1))))
        by_offset = _unique(file, (il, xl, offset))
        if by_offset and bool((file.numbers(offset) != file.numbers(offset)[0]).any()):
            return offsets  # type: ignore[return-value]
        if not (repeated > len(inline) // 2 or not all(varies)):
            return volume  # type: ignore[return-value]  # whose duplicates are named
    fitting = []
    for candidate in (cdps, shots, shot_offsets, gathers, points):
        values = file.numbers(int(candidate[2]))
        varying = bool((values != values[0]).any()) or (len(file) == 1 and values[0] != 0)
        if varying and _unique(file, (*candidate[1], candidate[2])):
            fitting.append((_fill(file, (*candidate[1], candidate[2])), candidate))
    if fitting:  # the first that makes a grid with few holes, else that with the fewest
        dense = next((candidate for fill, candidate in fitting if fill > _DENSE), None)
        return dense or max(fitting, key=lambda pair: pair[0])[1]  # type: ignore[return-value]
    if not any(varies) and len(_distinct(file.numbers(SEQUENCE))) == len(file):
        return line  # type: ignore[return-value]
    if any(varies):
        return volume  # type: ignore[return-value]
    raise InputError(
        "the trace headers do not say where the traces belong", where=file.path.name,
        found="inline and crossline (bytes 189, 193), CDP (21), record and channel (9, 13) do not tell them apart",
        hint="Name the bytes that do: --traces inline=BYTE --traces crossline=BYTE, or --traces keys=shots.",
    )  # fmt: skip


def _fill(file: SegyFile, bytes_: tuple[int, ...]) -> float:
    """Share of the places with a trace, if they were rows and columns by these numbers."""
    sizes = [len(_distinct(file.numbers(byte))) for byte in bytes_]
    return len(file) / float(np.prod(sizes, dtype=np.float64))


def _unique(file: SegyFile, bytes_: tuple[int, ...]) -> bool:
    codes = _codes(np.stack([file.numbers(byte) for byte in bytes_], axis=1))
    return len(_distinct(codes)) == len(codes)


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """The different numbers, in order: files are mostly sorted already, which this sort makes use of."""
    ordered = np.sort(numbers, kind="stable")
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _codes(numbers: np.ndarray) -> np.ndarray:
    """One number for each row of ``numbers``, equal where the rows are: many times quicker to sort."""
    codes = np.zeros(len(numbers), dtype=np.int64)
    for column in numbers.T:
        width = int(column.max() - column.min()) + 1
        if int(codes.max()) * width + width >= 1 << 62:
            codes = np.unique(codes, return_inverse=True)[1]
        codes = codes * width + (column - column.min())
    return codes


def _refuse_duplicates(numbers: np.ndarray, names: tuple[str, ...], where: str) -> None:
    _, first, inverse = np.unique(_codes(numbers), return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(numbers)))
    if not len(again):
        return
    second = int(again[0])
    one = int(first[inverse[second]])
    place = ", ".join(f"{name} {value}" for name, value in zip(names, numbers[second], strict=True))
    raise InputError(
        "two traces have the same place", where=where,
        found=f"traces {one + 1} and {second + 1} at {place}" + (f", and {len(again) - 1} more" * (len(again) > 1)),
        expected="one trace at each place",
        hint="Remove one of them, or name the header that tells them apart: --traces offset=BYTE or keys=offsets.",
    )  # fmt: skip


def _axis(name: str, numbers: np.ndarray, byte: int, wanted: str | None) -> Axis:
    """From the least to the greatest number by their common step, where nothing else is wanted."""
    found = _distinct(numbers)
    step = int(np.gcd.reduce(np.diff(found))) if len(found) > 1 else 1
    first, last = int(found[0]), int(found[-1])
    if wanted:
        first, last, step = _range(wanted, first, last, step, name)
    return Axis(name, first, step, (last - first) // step + 1, byte)


def _range(text: str, first: int, last: int, step: int, name: str) -> tuple[int, int, int]:
    parts = text.split(":")
    try:
        if len(parts) not in (2, 3):
            raise ValueError
        values = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        raise UsageError(f"the range of {name} is not understood", found=text, expected="FIRST:LAST:STEP") from None
    first, last = (given if given is not None else old for given, old in zip(values, (first, last), strict=False))
    step = values[2] if len(values) == 3 and values[2] is not None else step
    if step < 1 or last < first:
        raise UsageError(f"the range of {name} is empty", found=text, expected="FIRST:LAST:STEP, STEP at least 1")
    return first, last, step


def _position(numbers: np.ndarray, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    place, rest = np.divmod(numbers - axis.first, axis.step)
    return place, (rest == 0) & (place >= 0) & (place < axis.count)


def _blame(
    numbers: np.ndarray, names: tuple[tuple[str, ...], str], rows: Axis, columns: Axis, fill: float, where: str
) -> None:
    """Name the trace whose number lies farthest from the others."""
    spread = []
    for name, values in zip((*names[0], names[1]), numbers.T, strict=True):
        middle = np.median(values)
        typical = max(float(np.median(np.abs(values - middle))), 1.0)
        far = int(np.argmax(np.abs(values - middle)))
        spread.append((abs(values[far] - middle) / typical, far, f"{name} {values[far]}"))
    _, trace, what = max(spread)
    raise InputError(
        "the headers span a grid that is nearly empty", where=where,
        found=f"{rows.count} x {columns.count} places, {fill:.2%} with a trace; trace {trace + 1} has {what}",
        expected=f"at least {LEAST_FILL:.0%}",
        hint="Correct that header, give the grid (--traces rows=FIRST:LAST:STEP, columns=...), or say sparse=yes.",
    )  # fmt: skip
