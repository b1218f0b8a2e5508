"""Measured CT data: how well each method predicts views that it was not shown. JSON lines, one a case and method.

    python tests/bench/measured_ct.py -o docs/results/ct-measured.jsonl

No truth exists of measured objects, so views are hidden: of a tooth (synchrotron, parallel beam, 181 views) all but
every eighth, or fourth; of an acrylic disc of the Helsinki Tomography Challenge 2022 (fan beam) the last third of an
arc of 90 or 60 degrees, so that a limited arc has to say what comes next. Columns are merged in pairs. The error is
that of the hidden data relative to their size. Of the disc the outline is known, a circle: that which fits the shadow
in all views best. Its overlap (Dice) with the outline of each volume is told too, for the whole arcs as well. The prior
knows patients; teeth and acrylic discs are out of its domain.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import Journal, needs_prior, parsed

import realdata
from medrecon.corrections import corrected
from medrecon.data import read
from medrecon.data.scan import Scan
from medrecon.engine import reconstruct
from medrecon.prior import load_prior
from medrecon.problem import Problem
from medrecon.scans import grid_of, problem_from_scan

_DENSE = 0.98  # quantile of a slice that stands for the material
_SHADOW = 0.05  # of the largest line integral: where the object is met


@dataclass(frozen=True)
class Object:
    """A measured scan: its file, corrections, pixel of the volume (mm), and which of its views are shown.

    The tooth's file does not say how large its pixels are: they count as 1 mm.
    """

    file: str
    steps: tuple[str, ...]
    voxel: float
    shown: Callable[[int], slice]

    @property
    def disc(self) -> bool:
        """Whether the outline is a circle."""
        return self.file.startswith("htc")


OBJECTS = {
    "tooth, every 8th view": Object("tooth.h5", ("centre", "crop=0:1,0:640", "bin=1,2"), 4.0, lambda n: slice(0, n, 8)),
    "tooth, every 4th view": Object("tooth.h5", ("centre", "crop=0:1,0:640", "bin=1,2"), 4.0, lambda n: slice(0, n, 4)),
    "disc, 90 degrees": Object("htc2022_tb_subsample_90.mat", ("bin=1,2",), 0.8, slice),
    "disc, 60 degrees": Object("htc2022_tb_subsample_60.mat", ("bin=1,2",), 0.8, slice),
    "disc, 60 of 90 degrees": Object("htc2022_tb_subsample_90.mat", ("bin=1,2",), 0.8, lambda n: slice(0, 2 * n // 3)),
    "disc, 40 of 60 degrees": Object("htc2022_tb_subsample_60.mat", ("bin=1,2",), 0.8, lambda n: slice(0, 2 * n // 3)),
}


def main() -> None:
    """Run what the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", nargs="+", default=list(OBJECTS), choices=list(OBJECTS))
    parser.add_argument("--methods", nargs="+", default=["fbp", "sirt", "tv", "refine", "auto"])
    parser.add_argument("--prior", default="ct")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    journal = Journal(options.output)
    for name in options.objects:
        for method in options.methods:
            case = f"{name}/{method}/{options.prior}"
            if case not in journal:
                journal.write({"case": case, "object": name, "method": method} | predicted(name, method, options.prior))


def predicted(name: str, method: str, prior: str) -> dict[str, object]:
    """Relative error of the hidden views, and what the run said of itself."""
    thing = OBJECTS[name]
    scan = read(realdata.root() / "ct-raw" / thing.file)
    assert isinstance(scan, Scan)
    scan = corrected(scan, list(thing.steps))  # type: ignore[assignment]
    views = scan.data.shape[0]
    shown = np.zeros(views, dtype=bool)
    shown[thing.shown(views)] = True
    grid = grid_of(scan, None, (thing.voxel,))
    kept, whole = (problem_from_scan(part, grid=grid) for part in (_with_views(scan, shown), scan))
    if needs_prior(method):
        kept = replace(kept, prior=load_prior(prior))
    label, settings = parsed(method)
    began = time.perf_counter()
    result = reconstruct(kept, label, quantity="HU", **settings)
    seconds = time.perf_counter() - began
    volume = torch.from_numpy(result.volume.to_quantity("1/mm", kept.water).array)
    hidden = torch.from_numpy(~shown)
    missed, data = (whole.op(volume) - whole.y)[hidden], whole.y[hidden]
    verdict = result.assessment["verdict"]
    return {
        "views": int(shown.sum()), "hidden": int(hidden.sum()), "seconds": seconds,
        "error": float(torch.linalg.vector_norm(missed) / torch.linalg.vector_norm(data)) if hidden.any() else None,
        "outline": overlap(outline(volume.numpy()), disc(whole)) if thing.disc else None,
        "chosen": result.method, "level": verdict["level"], "reasons": verdict["reasons"],  # type: ignore[index]
    }  # fmt: skip


def outline(volume: np.ndarray) -> np.ndarray:
    """What lies within the outer border of the object in its one slice; holes count as inside."""
    return ndimage.binary_fill_holes(volume[0] > np.quantile(volume[0], _DENSE) / 2)


def disc(problem: Problem) -> np.ndarray:
    """The circle whose shadow agrees best with that of the object in all views."""
    _, rows, columns = problem.op.domain.shape
    row, column = np.mgrid[:rows, :columns]
    dark = (problem.y > _SHADOW * problem.y.max()).numpy()

    def image(circle: np.ndarray) -> np.ndarray:
        return np.clip(circle[2] - np.hypot(row - circle[0], column - circle[1]) + 0.5, 0, 1).astype(np.float32)[None]

    def disagreement(circle: np.ndarray) -> float:
        chords = problem.op(torch.from_numpy(image(circle))).numpy() / spacing
        return float(np.abs(chords.clip(0, 1) - dark).mean())

    spacing, start = problem.geometry.spacing[1], np.array([rows / 2, columns / 2, min(rows, columns) / 3])
    best = optimize.minimize(disagreement, start, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 1e-5}).x
    return image(best)[0] > 0.5


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice coefficient of two masks."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def _with_views(scan: Scan, shown: np.ndarray) -> Scan:
    numbers = np.flatnonzero(shown)
    step = int(numbers[1] - numbers[0])
    part = corrected(scan, [], f"{numbers[0]}:{numbers[-1] + 1}:{step}")
    assert isinstance(part, Scan)
    return part


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
