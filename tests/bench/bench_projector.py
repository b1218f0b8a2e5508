"""Projectors against ASTRA's on the CPU, in turns (A B A B) within one process.

    python tests/bench/bench_projector.py [--rounds 3] [--slices 64]

256 x 256 pixels, 180 views, 64 slices; our numba kernels against ASTRA's `linear` (parallel, the same model) and
`line_fanflat` (fan). ASTRA works slice by slice on one thread: a turn of it projects a few slices, and the time is
scaled to all of them. Ratios are of CPU time on one thread each, which other load on the machine disturbs least; wall
time is given too, and that of two threads. The best turn of each counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.astra_projector import AstraProjector
from medrecon.physics.ct import CTOperator, slices_innermost
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.fbp import fbp

SIZE, VIEWS, COLUMNS = 256, 180, 367
ASTRA_SLICES = 4


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of the process and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def with_threads(count: int, work: Callable[[], object]) -> tuple[float, float]:
    """As ``timed``, with ``count`` torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return timed(work)
    finally:
        torch.set_num_threads(before)


def best(turns: list[tuple[float, float]], factor: float = 1.0) -> tuple[float, float]:
    """Smallest CPU and smallest wall time."""
    return factor * min(cpu for cpu, _ in turns), factor * min(wall for _, wall in turns)


def measure(beam: str, rounds: int, slices: int) -> dict[str, tuple[float, float]]:
    """Best CPU and wall seconds of everything, for one beam."""
    shape, spacing = (slices, SIZE, SIZE), (1.0, 1.0, 1.0)
    if beam == "parallel":
        geometry = CTGeometry.parallel(shape, spacing, VIEWS, columns=COLUMNS)
    else:
        geometry = CTGeometry.fan(shape, spacing, VIEWS, columns=COLUMNS)
    op = CTOperator(geometry, backend="numba")
    astra = AstraProjector(geometry, "linear" if beam == "parallel" else "line_fanflat")
    generator = torch.Generator().manual_seed(0)
    x = slices_innermost(torch.randn(shape, generator=generator))
    y = op(torch.randn(shape, generator=generator))
    images = [np.ascontiguousarray(x[z]) for z in range(min(ASTRA_SLICES, slices))]
    data = [np.ascontiguousarray(y[:, z]) for z in range(min(ASTRA_SLICES, slices))]
    ours = {"forward": lambda: op(x), "adjoint": lambda: op.adjoint(y)}
    theirs = {
        "forward": lambda: [astra.forward(image) for image in images],
        "adjoint": lambda: [astra.adjoint(view) for view in data],
    }
    turns: dict[str, list[tuple[float, float]]] = {}
    for round_ in range(rounds + 1):
        for name in ours:
            for label, turn in (
                (f"astra {name}", lambda name=name: with_threads(1, theirs[name])),
                (f"ours {name}", lambda name=name: with_threads(1, ours[name])),
                (f"ours {name}, 2 threads", lambda name=name: with_threads(2, ours[name])),
            ):
                result = turn()
                if round_ > 0:  # the first round compiles and fills caches
                    turns.setdefault(label, []).append(result)
    turns["ours fbp"] = [with_threads(1, lambda: fbp(geometry, y)) for _ in range(rounds + 1)][1:]
    scale = slices / len(images)
    return {label: best(values, scale if label.startswith("astra") else 1.0) for label, values in turns.items()}


def table(beam: str, times: dict[str, tuple[float, float]], slices: int) -> str:
    """Times, rates and ratios as text."""
    updates = slices * VIEWS * SIZE**2 / 1e9
    lines = [f"{beam}: {SIZE} x {SIZE}, {VIEWS} views, {COLUMNS} columns, {slices} slices"]
    for label, (cpu, wall) in times.items():
        direction = label.removesuffix(", 2 threads").rsplit(" ", 1)[-1]
        astra = times.get(f"astra {direction}")
        ratio = f"{astra[0] / cpu:6.1f}x cpu {astra[1] / wall:6.1f}x wall" if astra else ""
        lines.append(
            f"  {label:26} {cpu * 1e3:8.0f} ms cpu {wall * 1e3:8.0f} ms wall {updates / cpu:6.2f} GUPS  {ratio}"
        )
    return "\n".join(lines) + "\n"


def test_projectors_against_astra() -> None:
    """At least 20 and 15 times faster than `linear`; fan of the same order."""
    for beam in ("parallel", "fan"):
        times = measure(beam, 3, 64)
        sys.stdout.write("\n" + table(beam, times, 64))
        assert times["astra forward"][0] / times["ours forward"][0] >= 20
        assert times["astra adjoint"][0] / times["ours adjoint"][0] >= 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=64)
    arguments = parser.parse_args()
    for beam in ("parallel", "fan"):
        sys.stdout.write(table(beam, measure(beam, arguments.rounds, arguments.slices), arguments.slices))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
