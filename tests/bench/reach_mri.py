"""How much of what stands far from all samples is right: heads that the prior has not seen, one JSON line per case.

    python tests/bench/reach_mri.py -o docs/results/mri-reach.jsonl

For frequencies by their distance to the nearest sample: the factor that brings the volume nearest to the truth there
(its regression on the truth; 1: all of it counts, 0: nothing), of total variation and of `refine`, both without reach.
Beside them the gain of `refine` over total variation without reach and with some. Cases already in the output file are
skipped.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import Journal
from quality_mri import data_range, subject

from medrecon.engine import reconstruct
from medrecon.metrics import compare_volumes
from medrecon.mri import mri_problem
from medrecon.physics.mri.reach import distances
from medrecon.prior import load_prior
from medrecon.simulate_mri import simulate_kspace

SUBJECTS = ("eun_T1", "colin27_T1")  # those of the prior's validation
CASES = (("gaussian1d", 4.0, 0), ("gaussian1d", 8.0, 0), ("gaussian1d", 8.0, 1), ("gaussian1d", 8.0, 2),
         ("poisson2d", 8.0, 0))  # fmt: skip
EDGES = (0, 0.5, 2.5, 5, 7, 10, 14, 20, 200)  # samples
REACHES = (0.0, 8.0, 12.0, 16.0)


def factors(volume: np.ndarray, truth: np.ndarray, far: np.ndarray) -> list[float | None]:
    """By distance: what brings the volume nearest to the truth."""
    found, wanted = (np.fft.fftshift(np.fft.fft2(x, norm="ortho"), axes=(1, 2)) for x in (volume, truth))
    out: list[float | None] = []
    for low, high in pairwise(EDGES):
        there = (far >= low) & (far < high)
        a, b = found[:, there], wanted[:, there]
        out.append(float(np.vdot(a, b).real / np.vdot(a, a).real) if there.any() else None)
    return out


def main() -> None:
    """Run the cases that the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--prior", default="mr")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    prior, journal = load_prior(options.prior), Journal(options.output)
    for name in options.subjects:
        truth = subject("train", name, options.slices)
        for mask, rate, seed in CASES:
            case = f"{name}/{options.slices}/{mask}/{rate:g}/{seed}/{options.prior}"
            if case in journal:
                continue
            scan = simulate_kspace(truth, mask, rate, coils=8, noise=0.01, seed=seed)
            problem = mri_problem(scan)
            classical = reconstruct(problem, "tv", judgement="none").volume
            given, top = replace(problem, prior=prior), data_range(truth)
            refined = {
                reach: reconstruct(given, "refine", start=classical, judgement="none", reach=reach).volume
                for reach in REACHES
            }
            reached = {reach: compare_volumes(v, truth, data_range=top)["psnr"] for reach, v in refined.items()}
            base = compare_volumes(classical, truth, data_range=top)["psnr"]
            pattern = np.broadcast_to(np.asarray(scan.sampling)[0], truth.array.shape[1:])
            far = distances(pattern)
            record = {
                "case": case, "subject": name, "mask": mask, "acceleration": rate, "seed": seed,
                "edges": EDGES, "tv": factors(classical.array, truth.array, far),
                "refine": factors(refined[0.0].array, truth.array, far),
                "gains": {f"{reach:g}": float(psnr - base) for reach, psnr in reached.items()},
            }  # fmt: skip
            journal.write(record, str(record["gains"]))


if __name__ == "__main__":
    main()
