"""What a wrong axis of rotation costs, and what a larger ``model_error`` gives back: JSON lines, one a run.

    python tests/bench/quality_mismatch.py -o docs/results/ct-mismatch.jsonl

A validation patient, parallel beam, reconstructed as if the axis were some pixels off. ``model_error`` is the default,
the share of the data that total variation leaves, or three times that.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import Journal, needs_prior
from quality_ct import VAL_PATIENTS, measured, patient

from medrecon.engine import reconstruct
from medrecon.metrics import compare_volumes
from medrecon.physics.ct import CTOperator
from medrecon.prior import load_prior
from medrecon.problem import Problem

METHODS = ("tv", "refine", "pnp")
DEFAULT = 0.01


def off_axis(problem: Problem, pixels: float) -> Problem:
    """The same data, described with an axis of rotation that is so many pixels off."""
    geometry = problem.op.geometry
    shift = geometry.rotation_shift + pixels * problem.geometry.spacing[2]
    return replace(problem, op=CTOperator(replace(geometry, rotation_shift=shift)))


def main() -> None:
    """Run what the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pixels", type=float, nargs="+", default=[0.0, 0.5, 1.5])
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    name, prior, journal = VAL_PATIENTS[0], load_prior("ct"), Journal(options.output)
    truth = patient("val", name, options.slices)
    for pixels in options.pixels:
        problem = off_axis(measured(truth, options.views, 1e5, 0), pixels)
        start = reconstruct(problem, "tv", judgement="none").volume
        system = problem.system()
        left = system.data_residual(system.internal(start))
        share = float(torch.linalg.vector_norm(left) / torch.linalg.vector_norm(system.y))
        for method in METHODS:
            for factor, error in ((0, DEFAULT), (1, share), (3, 3 * share)):
                case = f"val/{name}/{options.slices}/{options.views}/{pixels:g}/{method}/{factor}"
                if case in journal:
                    continue
                posed = replace(problem, prior=prior) if needs_prior(method) else problem
                given = {"start": start} if needs_prior(method) else {}
                found = reconstruct(posed, method, judgement="none", quantity="HU", model_error=error, **given).volume
                record = {"case": case, "pixels": pixels, "method": method, "factor": factor, "model_error": error}
                psnr = compare_volumes(found, truth)["psnr"]
                journal.write(record | {"left": share, "psnr": psnr}, f"{psnr:.2f} dB")


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
