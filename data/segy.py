"""SEG-Y and SU files, memory-mapped: file headers as bytes, trace headers and samples as one structured array.

Written after the SEG-Y standards of 1975 (revision 0), 2002 (1) and 2017 (2). Byte numbers count from 1, as there.
Nothing is decoded before it is asked for, and nothing here decides where a trace belongs: see `segy_geometry`.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from medrecon.data.reading import reading
from medrecon.data.segy_samples import FORMATS, SampleFormat, decode
from medrecon.errors import CorruptInput, InputError, UsageError

TEXT, BINARY, HEADER = 3200, 400, 240
_LONGEST = 1 << 24  # samples of a trace
_BLOCK = 8 << 20  # bytes that are decoded at once: what caches hold
COMPILED = 1 << 19
"""Samples from which compiled loops are worth loading: fewer are decoded by numpy."""

NAMES = {
    1: "sequence_in_line", 5: "sequence_in_file", 9: "field_record", 13: "channel", 17: "shot_point", 21: "cdp",
    25: "sequence_in_cdp", 29: "trace_id", 37: "offset", 69: "elevation_scalar", 71: "coordinate_scalar",
    73: "source_x", 77: "source_y", 81: "group_x", 85: "group_y", 109: "delay", 115: "samples", 117: "interval",
    181: "cdp_x", 185: "cdp_y", 189: "inline", 193: "crossline",
}  # fmt: skip
"""Trace header fields with a name of their own, by first byte; the others are ``byte5`` and so on."""


def _layout() -> list[tuple[int, int]]:
    """First byte and size of every number of a trace header."""
    groups = ((1, 7, 4), (29, 4, 2), (37, 8, 4), (69, 2, 2), (73, 4, 4), (89, 46, 2), (181, 5, 4), (201, 2, 2),
              (205, 1, 4), (209, 8, 2), (225, 1, 4), (229, 2, 2))  # fmt: skip
    return [(first + i * size, size) for first, count, size in groups for i in range(count)]


FIELDS = {NAMES.get(byte, f"byte{byte}"): (byte, size) for byte, size in _layout()}
"""``name: (first byte, size)`` of every number of a trace header. Bytes 233 to 240 are free in revisions 0 and 1."""


def header_dtype(order: str) -> np.dtype:
    """The 240 bytes of a trace header as a structured dtype."""
    return np.dtype(
        {
            "names": list(FIELDS),
            "formats": [f"{order}i{size}" for _, size in FIELDS.values()],
            "offsets": [byte - 1 for byte, _ in FIELDS.values()],
            "itemsize": HEADER,
        }
    )


@dataclass(frozen=True, eq=False)
class SegyFile:
    """An open file. ``preamble`` is everything before the first trace."""

    path: Path
    order: str
    form: SampleFormat
    samples: int
    interval: float
    """Microseconds (of depth sections: whatever the file means by it)."""
    revision: int
    preamble: bytes
    traces: np.memmap
    """Structured ``(traces,)`` with ``header`` and ``samples``."""
    kind: str = "SEG-Y"
    warnings: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.traces)

    @property
    def headers(self) -> np.ndarray:
        """Structured view of all trace headers (see `FIELDS`)."""
        return np.asarray(self.traces["header"])

    @cached_property
    def _bytes(self) -> np.ndarray:
        return np.ndarray(
            (len(self), HEADER), np.uint8, buffer=self.traces, strides=(self.traces.dtype.itemsize, 1)
        )  # headers alone, without their names

    def numbers(self, byte: int) -> np.ndarray:
        """The header number that starts at ``byte``, of every trace, as int64; four bytes where no field starts."""
        size = dict(FIELDS.values()).get(byte, 4)
        if not 1 <= byte <= HEADER - size + 1:
            raise UsageError("a trace header has 240 bytes", found=f"byte {byte}", expected=f"1 to {HEADER - size + 1}")
        raw = np.ascontiguousarray(self._bytes[:, byte - 1 : byte - 1 + size])
        return raw.view(f"{self.order}i{size}")[:, 0].astype(np.int64)

    def decoded(self, which: np.ndarray | slice) -> np.ndarray:
        """Samples of some traces, float32 ``(traces, samples)``; infinite or NaN where the file says so."""
        chosen = np.arange(len(self))[which] if isinstance(which, slice) else np.asarray(which)
        out = np.empty((len(chosen), self.samples), dtype=np.float32)
        for places in self.blocks(len(chosen)):
            self.decode_into(out, np.arange(places.start, places.stop), chosen[places])
        return out

    def blocks(self, traces: int) -> Iterator[slice]:
        """That many traces in parts that are decoded at once."""
        step = max(1, _BLOCK // max(self.traces.dtype.itemsize, 1))
        for first in range(0, traces, step):
            yield slice(first, min(first + step, traces))

    def decode_into(self, out: np.ndarray, places: np.ndarray, which: np.ndarray) -> None:
        """Decode traces ``which`` into the rows ``places`` of ``out``, float32 ``(rows, samples)``, contiguous."""
        if len(which) * self.samples < COMPILED or self.form.code not in (1, 5):
            consecutive = len(which) > 0 and bool((np.diff(which) == 1).all())
            stored = self.traces["samples"]
            block = stored[which[0] : which[-1] + 1] if consecutive else stored[which]
            out[places] = decode(block, self.form, self.order)
            return
        from medrecon.data import segy_kernels

        size = self.traces.dtype.itemsize
        words = np.ndarray((len(self), self.samples), np.uint32, self.traces, offset=HEADER, strides=(size, 4))
        swap = (self.order == "<") != (sys.byteorder == "little")
        if self.form.code == 1:
            segy_kernels.decode_ibm(words, which, swap, out, places)
        else:
            segy_kernels.copy_words(words, which, swap, out.view(np.uint32), places)

    @property
    def text(self) -> list[str]:
        """The textual header as lines of 80 characters; empty for SU."""
        if len(self.preamble) < TEXT:
            return []
        raw = self.preamble[:TEXT]
        words = raw.decode("cp037" if is_ebcdic(raw) else "latin-1")
        return [words[i : i + 80] for i in range(0, TEXT, 80)]

    def binary(self, byte: int, size: int = 2) -> int:
        """A signed number of the binary file header by its byte in the file (3201 to 3600); 0 for SU."""
        return _number(self.preamble, byte, size, self.order) if len(self.preamble) >= TEXT + BINARY else 0


def forget_pages(*arrays: np.ndarray) -> None:
    """Give back the memory that pages of mapped files take; they are read again when they are needed."""
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def is_ebcdic(text: bytes) -> bool:
    """Whether a textual header is EBCDIC: its blanks are 0x40, and ASCII has few of those ("@")."""
    return text.count(0x40) >= text.count(0x20)


def _number(head: bytes, byte: int, size: int, order: str) -> int:
    return int.from_bytes(head[byte - 1 : byte - 1 + size], "big" if order == ">" else "little", signed=True)


def sniff_segy(path: Path, head: bytes) -> bool:
    """A SEG-Y suffix, or a textual header that begins with a C and a binary header that makes sense."""
    if path.suffix.lower() in (".sgy", ".segy", ".seg"):
        return True
    if len(head) < TEXT + BINARY or head[:1] not in (b"C", b"\xc3"):
        return False
    return any(_number(head, 3225, 2, o) in FORMATS and _number(head, 3221, 2, o) > 0 for o in "><")


def open_segy(path: str | Path, *, interval: float | None = None, salvage: bool = False) -> SegyFile:
    """Map a SEG-Y file.

    Parameters
    ----------
    interval
        Sample interval in microseconds, for files that do not say.
    salvage
        Take the whole traces of a file that was cut short, with a warning.

    Raises
    ------
    InputError
        Format unknown, no samples, an interval of zero, a trace of another length.
    CorruptInput
        The file ends within a header or a trace.
    """
    path = Path(path)
    with reading(path, "SEG-Y"):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(TEXT + BINARY)
            if len(head) < TEXT + BINARY:
                raise CorruptInput(
                    "the file ends within its headers", where=path.name, found=f"{size} bytes",
                    expected=f"at least {TEXT + BINARY}, of the textual and the binary header",
                )  # fmt: skip
            order = _byte_order(head)
            form = _format_of(head, order, path.name)
            revision = head[3500] if order == ">" else max(head[3500], head[3501])
            start = _start_of_traces(path, head, order, revision)
            file.seek(0)
            preamble = file.read(start)
            first = file.read(HEADER)
        samples = _sample_count(head, first, order, path.name)
        microseconds = interval or _interval(head, first, order, path.name)
        dtype = np.dtype([("header", header_dtype(order)), ("samples", form.dtype(order), (samples,))])
        return _mapped(path, order, form, samples, microseconds, revision, preamble, dtype, size, salvage)


def open_su(path: str | Path, *, interval: float | None = None, salvage: bool = False) -> SegyFile:
    """Map a Seismic Unix file: trace headers as in SEG-Y and IEEE floats, without file headers, in either byte order.

    Raises what `open_segy` raises.
    """
    path = Path(path)
    with reading(path, "SU"):
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(HEADER)
        if len(first) < HEADER:
            raise CorruptInput("the file ends within its first trace header", where=path.name, found=f"{size} bytes")
        lengths = {order: _number(first, 115, 2, order) & 0xFFFF for order in "><"}
        whole = [o for o, n in lengths.items() if n > 0 and size % (HEADER + 4 * n) == 0]
        order = whole[0] if whole else ("<" if 0 < lengths["<"] <= lengths[">"] else ">")
        samples = lengths[order]
        if samples == 0:
            raise InputError("traces without samples", where=path.name, found="0 in bytes 115-116 of the first trace")
        microseconds = interval or float(_number(first, 117, 2, order) & 0xFFFF)
        _require_interval(microseconds, path.name, "bytes 117-118 of the first trace")
        form = FORMATS[5]
        dtype = np.dtype([("header", header_dtype(order)), ("samples", form.dtype(order), (samples,))])
        return _mapped(path, order, form, samples, microseconds, 0, b"", dtype, size, salvage, kind="SU")


def _byte_order(head: bytes) -> str:
    """The order in which the binary header makes sense; revision 2 has a number to tell."""
    for order in "><":
        if _number(head, 3297, 4, order) == 0x01020304:
            return order
    scores = {o: (_number(head, 3225, 2, o) in FORMATS) + (0 < _number(head, 3225, 2, o) < 256) for o in "><"}
    return "<" if scores["<"] > scores[">"] else ">"


def _format_of(head: bytes, order: str, where: str) -> SampleFormat:
    code = _number(head, 3225, 2, order)
    if code not in FORMATS:
        raise InputError(
            "unknown sample format", where=where, found=f"{code} in bytes 3225-3226",
            expected=", ".join(f"{f.code} ({f.name})" for f in FORMATS.values()),
            hint="Set these bytes to what the samples are.",
        )  # fmt: skip
    return FORMATS[code]


def _start_of_traces(path: Path, head: bytes, order: str, revision: int) -> int:
    """Byte of the first trace header: after the extended textual headers."""
    start = TEXT + BINARY
    if revision < 1:
        return start
    count = _number(head, 3505, 2, order)
    if revision >= 2:
        if _number(head, 3507, 4, order) > 0:
            raise InputError(
                "traces have more than one header", where=path.name,
                found=f"{_number(head, 3507, 4, order)} in bytes 3507-3510", expected="0",
            )  # fmt: skip
        stated = _number(head, 3521, 8, order)
        if stated > 0:
            return stated
    if count >= 0:
        return start + count * TEXT
    with path.open("rb") as file:  # as many as there are, until one says that it is the last
        file.seek(start)
        while block := file.read(TEXT):
            start += TEXT
            words = block.decode("cp037" if is_ebcdic(block) else "latin-1").upper()
            if "((SEG: ENDTEXT))" in words or "((SEG:ENDTEXT))" in words:
                return start
    raise CorruptInput("the extended textual headers have no end", where=path.name, expected="((SEG: EndText))")


def _sample_count(head: bytes, first: bytes, order: str, where: str) -> int:
    """Samples of a trace from the binary header, of revision 2 its long form; the first trace where that says 0."""
    count = _number(head, 3221, 2, order) & 0xFFFF
    if _number(head, 3501, 1, order) >= 2:
        count = _number(head, 3269, 4, order) or count
    count = count or (_number(first, 115, 2, order) & 0xFFFF if len(first) == HEADER else 0)
    if not 0 < count <= _LONGEST:
        raise InputError(
            "traces without samples", where=where, found=f"{count} in bytes 3221-3222", expected="at least 1",
            hint="Set these bytes to the number of samples of a trace.",
        )  # fmt: skip
    return count


def _interval(head: bytes, first: bytes, order: str, where: str) -> float:
    value = float(_number(head, 3217, 2, order) & 0xFFFF)
    if value == 0 and len(first) == HEADER:
        value = float(_number(first, 117, 2, order) & 0xFFFF)
    _require_interval(value, where, "bytes 3217-3218")
    return value


def _require_interval(value: float, where: str, place: str) -> None:
    if not value > 0:
        raise InputError(
            "the sample interval is zero", where=where, found=f"{value:g} in {place}", expected="microseconds",
            hint="Say it with --traces interval=4000 (microseconds).",
        )  # fmt: skip


def _fits(path: Path, start: int, size: int, order: str, form: SampleFormat, samples: int) -> bool:
    """Whether the file holds traces of this length throughout, each of which says so."""
    dtype = np.dtype([("header", header_dtype(order)), ("samples", form.dtype(order), (samples,))])
    count, rest = divmod(size - start, dtype.itemsize)
    if rest:
        return False
    traces = np.memmap(path, dtype=dtype, mode="r", offset=start, shape=(count,))
    return bool((traces["header"]["samples"].astype(np.int64) & 0xFFFF == samples).all())


def _mapped(
    path: Path, order: str, form: SampleFormat, samples: int, interval: float, revision: int, preamble: bytes,
    dtype: np.dtype, size: int, salvage: bool, *, kind: str = "SEG-Y",
) -> SegyFile:  # fmt: skip
    """The file with its traces mapped, every trace of the length that the headers promise."""
    count, rest = divmod(size - len(preamble), dtype.itemsize)
    if size < len(preamble):
        count, rest = 0, 0
    warnings: list[str] = []
    if count == 0 and not rest:
        raise CorruptInput("the file has headers but no trace", where=path.name, found=f"{size} bytes")
    if rest:
        where_it_ends = f"trace {count + 1} ends after {rest} of {dtype.itemsize} bytes"
        if not (salvage and count):
            raise CorruptInput(
                "the file is cut short, or its traces have another length", where=path.name, found=where_it_ends,
                expected=f"traces of {samples} samples ({form.name})",
                hint="Copy it again, correct bytes 3221-3222, or take what is whole with --traces salvage=yes.",
            )  # fmt: skip
        warnings.append(f"the file is cut short: {where_it_ends}; {count} whole traces were taken")
    traces = np.memmap(path, dtype=dtype, mode="r", offset=len(preamble), shape=(count,))
    found = SegyFile(path, order, form, samples, interval, revision, preamble, traces, kind, tuple(warnings))
    said = found.numbers(115) & 0xFFFF
    other = np.flatnonzero((said != 0) & (said != samples & 0xFFFF))
    if len(other) and (len(other) < count or len(np.unique(said)) > 1):
        raise InputError(
            "a trace says that it has another number of samples", where=path.name,
            found=f"{int(said[other[0]])} in trace {int(other[0]) + 1} (bytes 115-116), and {len(other) - 1} more",
            expected=f"{samples}, as bytes 3221-3222 say", hint="Traces of several lengths cannot be read.",
        )  # fmt: skip
    if len(other) and _fits(path, len(preamble), size, order, form, int(said[0])):
        raise InputError(
            "the file header has another number of samples than the traces", where=path.name,
            found=f"{samples} in bytes 3221-3222, {int(said[0])} in trace 1 and all others (bytes 115-116)",
            expected="the same in both", hint=f"Set bytes 3221-3222 to {int(said[0])}: with that every trace fits.",
        )  # fmt: skip
    if len(other):  # a cut of a longer file: the size of this one decides
        told = f"all trace headers say {int(said[0])} samples; there are {samples}, as the file header says"
        found = replace(found, warnings=(*found.warnings, told))
    return found
