"""Small surveys and SEG-Y files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.data.segy import header_dtype
from medrecon.data.segy_samples import FORMATS, encode
from medrecon.data.segy_writing import plain_axes
from medrecon.data.traces import State, Traces


def dipping(rows: int = 8, columns: int = 10, samples: int = 32, slope: float = 0.6, seed: int = 0) -> np.ndarray:
    """Plane events ``(rows, columns, samples)`` of two slopes, float32."""
    random = np.random.default_rng(seed)
    time = np.arange(samples)[None, None]
    out = np.zeros((rows, columns, samples))
    for p, q in ((slope, 0.3 * slope), (-0.4 * slope, 0.2)):
        for start in random.uniform(0, samples, 3):
            centre = start + p * np.arange(columns)[None, :, None] + q * np.arange(rows)[:, None, None]
            away = ((time - centre) / 2.5) ** 2
            out += (1 - 2 * away) * np.exp(-away)
    return (1000 * out).astype(np.float32)


def traces(live: np.ndarray | None = None, **shape: int) -> Traces:
    """`dipping` with holes."""
    data = dipping(**shape)  # type: ignore[arg-type]
    live = np.ones(data.shape[:2], bool) if live is None else live
    rows, columns = plain_axes(*live.shape)
    state = np.where(live, State.live, State.absent).astype(np.uint8)
    return Traces(np.where(live[..., None], data, 0).astype(np.float32), state, rows, columns)


def write_segy(
    path: Path,
    data: np.ndarray,
    *,
    form: int = 5,
    order: str = ">",
    revision: int = 1,
    inlines: tuple[int, int] = (100, 2),
    crosslines: tuple[int, int] = (30, 1),
    interval: int = 4000,
    extended: int = 0,
    change: dict[str, np.ndarray] | None = None,
    keep: np.ndarray | None = None,
    ascii_text: bool = False,
) -> Path:
    """A SEG-Y file of ``data`` ``(rows, columns, samples)``, written without the package's writer.

    ``change`` sets header fields of all traces; ``keep`` (numbers of traces, any order, repeats allowed) picks traces
    at the end. Coordinates lie on a rotated grid, rounded, in decimetres.
    """
    rows, columns, samples = data.shape
    kind = FORMATS[form]
    dtype = np.dtype([("header", header_dtype(order)), ("samples", kind.dtype(order), (samples,))])
    block = np.zeros(rows * columns, dtype)
    row, column = (part.ravel() for part in np.indices((rows, columns)))
    header = block["header"]
    header["sequence_in_line"], header["sequence_in_file"] = column + 1, np.arange(len(block)) + 1
    header["trace_id"], header["samples"], header["interval"] = 1, samples, interval
    header["inline"], header["crossline"] = inlines[0] + inlines[1] * row, crosslines[0] + crosslines[1] * column
    header["coordinate_scalar"] = -10
    x, y = 4_312_345 + 120.3 * row - 48.7 * column, 64_120_990 + 51.1 * row + 118.2 * column
    header["cdp_x"], header["cdp_y"] = np.rint(x), np.rint(y)
    header["source_x"], header["source_y"] = np.rint(x), np.rint(y)
    for name, values in (change or {}).items():
        header[name] = values
    block["samples"] = encode(data.reshape(len(block), samples), kind, order)
    if keep is not None:
        block = block[keep]
    codec = "latin-1" if ascii_text else "cp037"
    head = bytearray("".join(f"C{i:2d}".ljust(80) for i in range(1, 41)).encode(codec) + bytes(400))
    end = "big" if order == ">" else "little"
    for byte, value in (
        (3217, interval),
        (3221, samples),
        (3225, form),
        (3501, revision << 8),
        (3503, 1),
        (3505, extended),
    ):
        head[byte - 1 : byte + 1] = value.to_bytes(2, end, signed=value < 0)
    tail = b"".join(" ".ljust(3200).encode(codec) for _ in range(max(extended, 0)))
    path.write_bytes(bytes(head) + tail + block.tobytes())
    return path


def with_holes(path: Path, shape: tuple[int, int, int]) -> Path:
    """Two thirds of the traces of a survey ``(rows, columns, samples)``, shuffled; some are silent, one is too loud."""
    rows, columns, samples = shape
    random = np.random.default_rng(3)
    data = dipping(rows, columns, samples)
    data[random.random((rows, columns)) < 0.05] = 0
    data[4, 5] *= 1e6
    return write_segy(path, data, form=1, keep=random.permutation(rows * columns)[: rows * columns * 2 // 3])
