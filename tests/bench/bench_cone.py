"""Cone-beam projectors against RTK's Joseph pair on the CPU, in turns (A B A B) within one process.

    python tests/bench/bench_cone.py [--rounds 3]

128^3 voxels, 128 x 128 detector pixels, 120 views, one thread each; also our general kernels, for tilted detectors, and
two threads. Ratios are of CPU time, which other load on the machine disturbs least; wall time is given too. The best
turn of each counts. Needs itk-rtk.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.rtk_projector import RtkProjector
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct import slices_innermost
from medrecon.physics.fdk import fdk

SIZE, VIEWS, PIXELS, PITCH = 128, 120, 128, 1.6


def timed(work: Callable[[], object], threads: int) -> tuple[float, float]:
    """CPU seconds of the process and wall seconds of one call with so many torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        return time.process_time() - cpu, time.perf_counter() - wall
    finally:
        torch.set_num_threads(before)


def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """Best CPU and wall seconds of everything; the first round compiles and is not counted."""
    geometry = ConeGeometry.circular(
        (SIZE,) * 3, (1.0,) * 3, VIEWS, source_origin=500.0, source_detector=750.0, rows=PIXELS, columns=PIXELS,
        row_spacing=PITCH, column_spacing=PITCH,
    )  # fmt: skip
    op, general = ConeOperator(geometry), ConeOperator(geometry, "general")
    rtk = RtkProjector(geometry)
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(geometry.shape)
    x[2:-2, 2:-2, 2:-2] = torch.rand((SIZE - 4,) * 3, generator=generator)
    x = slices_innermost(x)
    y = op(x)
    forward, adjoint = rtk.forward_filter(x.numpy()), rtk.adjoint_filter(y.numpy())

    def again(step: object) -> None:
        step.Modified()  # type: ignore[attr-defined]
        step.Update()  # type: ignore[attr-defined]

    turns: dict[str, tuple[int, Callable[[], object]]] = {
        "rtk forward": (1, lambda: again(forward)),
        "ours forward": (1, lambda: op(x)),
        "ours forward, 2 threads": (2, lambda: op(x)),
        "general forward": (1, lambda: general(x)),
        "rtk adjoint": (1, lambda: again(adjoint)),
        "ours adjoint": (1, lambda: op.adjoint(y)),
        "ours adjoint, 2 threads": (2, lambda: op.adjoint(y)),
        "general adjoint": (1, lambda: general.adjoint(y)),
        "ours fdk": (1, lambda: fdk(geometry, y)),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for _ in range(rounds + 1):
        for name, (threads, work) in turns.items():
            times[name].append(timed(work, threads))
    return {name: (min(c for c, _ in all_[1:]), min(w for _, w in all_[1:])) for name, all_ in times.items()}


def table(times: dict[str, tuple[float, float]]) -> str:
    """Times, rates and ratios as text."""
    updates = VIEWS * SIZE**3 / 1e9
    lines = [f"cone beam: {SIZE}^3, {VIEWS} views of {PIXELS} x {PIXELS}"]
    for label, (cpu, wall) in times.items():
        rtk = times.get(f"rtk {label.removesuffix(', 2 threads').rsplit(' ', 1)[-1]}")
        ratio = f"{rtk[0] / cpu:6.1f}x cpu {rtk[1] / wall:6.1f}x wall" if rtk else ""
        lines.append(
            f"  {label:26} {cpu * 1e3:8.0f} ms cpu {wall * 1e3:8.0f} ms wall {updates / cpu:6.2f} GUPS  {ratio}"
        )
    return "\n".join(lines) + "\n"


def test_cone_projectors_against_rtk() -> None:
    """At least five times faster than RTK's pair; the general kernels not slower than it."""
    times = measure(3)
    sys.stdout.write("\n" + table(times))
    for way in ("forward", "adjoint"):
        assert times[f"rtk {way}"][0] / times[f"ours {way}"][0] >= 5
        assert times[f"rtk {way}"][0] / times[f"general {way}"][0] >= 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    sys.stdout.write(table(measure(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
