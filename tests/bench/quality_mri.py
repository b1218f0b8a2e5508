"""Undersampled MRI of a held-out head: every method on the same data, one JSON line per case.

    python tests/bench/quality_mri.py -o results.jsonl                       # zero-filled, CG-SENSE, L1-wavelet, TV
    python tests/bench/quality_mri.py -o results.jsonl --methods pnp refine --prior PRIOR
    python tests/bench/quality_mri.py --split train --methods tv:weight=1 tv:weight=2 -o tuning.jsonl

k-space of 8 coils with phase and noise is simulated on a finer grid (`medrecon.simulate_mri`), never by the operator
that reconstructs, which also has to find the coil maps. The held-out volume is never used to choose a setting: weights
are chosen with ``--split train``. ``tv`` and ``l1-wavelet`` without settings have the defaults that every user gets.
Cases already in the output file are skipped, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import Journal, needs_prior, parsed

import realdata
from medrecon.data.formats import read_volume
from medrecon.data.kspace import KSpace
from medrecon.data.volume import Geometry, Volume
from medrecon.engine import reconstruct
from medrecon.metrics import compare_volumes
from medrecon.mri import mri_problem
from medrecon.physics.mri.masks import real_acceleration
from medrecon.prior import NetworkPrior, load_prior
from medrecon.problem import Problem
from medrecon.simulate_mri import simulate_kspace

TEST = ("seg3d_T1",)  # one subject: report it as one subject
TRAIN = ("uih_a_T1", "adi_MEMPRAGE", "eun_T1")  # to choose weights on; three people
MASKS = (("gaussian1d", 4.0), ("gaussian1d", 8.0), ("poisson2d", 8.0))
METHODS = ("zero-filled", "cg-sense", "l1-wavelet", "tv")
_PERCENTILE = 99.9  # of the truth: the data range of PSNR and SSIM


def subject(split: str, name: str, slices: int) -> Volume:
    """A magnitude volume in LPS axes; ``slices`` > 0 keeps that many from the middle."""
    volume = read_volume(realdata.root() / "mr" / split / f"{name}.nii.gz", quantity="a.u.").as_orientation("LPS")
    array = np.maximum(volume.array, 0)
    affine = volume.geometry.affine.copy()
    if slices:
        first = max(0, (array.shape[0] - slices) // 2)
        array = np.ascontiguousarray(array[first : first + slices])
        affine[:3, 3] += affine[:3, 2] * first
    return Volume(array, Geometry(array.shape, affine), "a.u.")


def data_range(truth: Volume) -> float:
    """Of PSNR and SSIM: a percentile of the truth, whose brightest voxels saturate."""
    return float(np.percentile(truth.array, _PERCENTILE))


def main() -> None:
    """Run the cases that the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--subjects", nargs="*")
    parser.add_argument("--masks", nargs="+", help="NAME:ACCELERATION")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--coils", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.01, help="of the largest value, each part of a sample")
    parser.add_argument("--slices", type=int, default=0)
    parser.add_argument("--prior", help="name or file; needed by diffusion methods")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="name or name:key=value,key=value")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--incomplete", action="store_true", help="coil maps of the measured calibration alone")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    if options.prior is None and any(needs_prior(m) for m in options.methods):
        parser.error("diffusion methods need --prior")
    prior = load_prior(options.prior) if options.prior is not None else None
    chosen = [(n, float(r)) for n, r in (m.split(":") for m in options.masks)] if options.masks else MASKS
    for name in options.subjects or (TEST if options.split == "test" else TRAIN):
        truth = subject(options.split, name, options.slices)
        for mask, rate in chosen:
            for seed in options.seeds:
                _cases(options, name, truth, mask, rate, seed, prior)


def _cases(
    options: argparse.Namespace, name: str, truth: Volume, mask: str, rate: float, seed: int,
    prior: NetworkPrior | None,
) -> None:  # fmt: skip
    """All methods on one measurement; diffusion starts from total variation with its defaults."""
    journal = Journal(options.output)
    scan: KSpace | None = None
    problem: Problem | None = None
    start: Volume | None = None
    for method in options.methods:
        needs = needs_prior(method)
        case = f"{options.split}/{name}/{options.slices}/{mask}/{rate:g}/{options.noise:g}/{seed}/{method}"
        case += f"/x{options.samples}/{options.prior}" if needs else ""
        case += "/incomplete" if options.incomplete else ""
        if case in journal:
            continue
        if problem is None or scan is None:
            scan = simulate_kspace(truth, mask, rate, coils=options.coils, noise=options.noise, seed=seed)
            problem = mri_problem(scan, complete=not options.incomplete)
            system = problem.system()
            misfit = system.discrepancy(system.internal(truth, "the truth"))
        if needs and start is None:
            start = reconstruct(problem, "tv").volume
        label, settings = parsed(method)
        began = time.perf_counter()
        result = reconstruct(
            replace(problem, prior=prior) if needs else problem,
            label,
            samples=options.samples if needs else 1,
            seed=seed,
            start=start if needs else None,
            **settings,
        )
        seconds = time.perf_counter() - began
        if label == "tv" and not settings:
            start = result.volume
        figures = compare_volumes(result.volume, truth, data_range=data_range(truth))
        record = {
            "case": case, "subject": name, "mask": mask, "acceleration": rate, "coils": options.coils,
            "real_acceleration": real_acceleration(scan.sampling), "noise": options.noise, "seed": seed,
            "method": method, "seconds": seconds, "prior": options.prior if needs else None,
            "samples": options.samples if needs else 1, "discrepancy": result.assessment["discrepancy"],
            "misfit": misfit,
        }  # fmt: skip
        record |= {k: v for k, v in figures.items() if isinstance(v, float) and np.isfinite(v)}
        journal.write(
            record,
            f"{figures['psnr']:.2f} dB, ssim {figures['ssim']:.4f}, {seconds:.1f} s, misfit of the truth {misfit:.3f}",
        )


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
