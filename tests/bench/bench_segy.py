"""Speed of reading SEG-Y against segyio, in one process, alternating, one thread: ratios of medians.

python tests/bench/bench_segy.py [--rounds N] [--megabytes N] [--folder DIR]

Both read the same complete cube, from the page cache: segyio by ``tools.cube``, and by ``trace.raw`` without looking at
headers; this package with the grid from headers and the state of every trace. Last, against copying the file's bytes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import segyio

from helpers.traces import write_segy
from medrecon.data.segy_reading import read_traces

SAMPLES = 750


def compared(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int, gigabytes: float
) -> None:
    """One warm-up of both, then turns; prints CPU seconds for a gigabyte and how many times faster ours is."""
    ours(), theirs()
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        turn = []
        for work in (ours, theirs):
            began = time.process_time()
            work()
            turn.append((time.process_time() - began) / gigabytes)
        times.append((turn[0], turn[1]))
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(other / mine for mine, other in times)
    sys.stdout.write(
        f"{name:34s} {mine:6.2f} s/GB  {other:6.2f} s/GB  ratio {other / mine:5.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})\n"
    )
    sys.stdout.flush()


def cube(path: Path) -> np.ndarray:
    return segyio.tools.cube(str(path))


def raw(path: Path) -> np.ndarray:
    with segyio.open(str(path), ignore_geometry=True) as file:
        file.mmap()
        return file.trace.raw[:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    lines = max(2, int((given.megabytes * 1e6 / (240 + 4 * SAMPLES)) ** 0.5))
    data = 1000 * np.random.default_rng(0).standard_normal((lines, lines, SAMPLES), dtype=np.float32)
    for form, name in ((1, "IBM"), (5, "IEEE")):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = write_segy(Path(folder) / "cube.sgy", data, form=form)
            size = path.stat().st_size / 1e9
            error = np.abs(read_traces(path).data - cube(path)).max() / 1000
            compared(f"{name}, tools.cube (error {error:.0e})", lambda p=path: read_traces(p).data,
                     lambda p=path: cube(p), given.rounds, size)  # fmt: skip
            compared(
                f"{name}, trace.raw", lambda p=path: read_traces(p).data, lambda p=path: raw(p), given.rounds, size
            )
            compared(f"{name}, bytes alone", lambda p=path: read_traces(p).data, lambda p=path: p.read_bytes(),
                     given.rounds, size)  # fmt: skip


if __name__ == "__main__":
    main()
