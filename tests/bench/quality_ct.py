"""Sparse-view CT on real held-out patients: every method on the same data, one JSON line per case.

    python tests/bench/quality_ct.py --split test --views 4 8 16 32 --methods fbp tv pnp -o results.jsonl

Projections are simulated on a grid twice as fine and with several rays per detector pixel, by
`medrecon.physics.simulate`, never by the operator that reconstructs. Patients of `test` are never used to choose a
setting: tune with `--split val`. Cases already in the output file are skipped, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import Journal, needs_prior, parsed

import realdata
from medrecon.data.anatomy import anatomy
from medrecon.data.formats import read_volume
from medrecon.data.volume import Geometry, Volume
from medrecon.engine import reconstruct
from medrecon.metrics import compare_volumes
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.noise import PoissonNoise
from medrecon.physics.simulate import simulate_ct
from medrecon.prior import NetworkPrior, load_prior
from medrecon.problem import Problem

TEST_PATIENTS = ("242", "250", "256", "260", "277", "311", "312", "338")  # the whole 3D truths of the test folder
VAL_PATIENTS = ("212", "230", "206", "222")  # with enough whole slices


def patient(split: str, name: str, slices: int) -> Volume:
    """A CT volume in HU, axes LPS; ``slices`` > 0 keeps that many from the middle.

    ``split`` is a folder of real patients, or ``phantom`` (``name`` is kind-seed, for example ``thorax-7``), or
    ``cranium`` (``name`` is the folder that holds ``matrix.dat`` of Cranium.inv3, unpacked from the Debian package
    invesalius-examples: a real head with head-rest, 0.957 mm pixels, averaged to 128 x 128).
    """
    if split == "phantom":
        kind, _, seed = name.partition("-")
        volume = anatomy(kind, (slices or 64, 128, 128), seed=int(seed))
        return Volume(volume.array, volume.geometry, "HU")
    if split == "cranium":
        raw = np.fromfile(Path(name) / "matrix.dat", dtype=np.int16).reshape(108, 256, 256)
        array = raw.reshape(108, 128, 2, 128, 2).mean((2, 4), dtype=np.float32)
        spacing = (1.5, 2 * 0.957031, 2 * 0.957031)
    else:
        path = realdata.root() / "ct" / split / f"openkbp_{name}.nii.gz"
        volume = read_volume(path, quantity="HU").as_orientation("LPS")
        array, spacing = volume.array, volume.geometry.spacing
    array = np.clip(array, -1000, None).astype(np.float32)
    if slices:
        first = (array.shape[0] - slices) // 2
        array = array[first : first + slices]
    return Volume(array, Geometry.from_spacing(array.shape, spacing), "HU")


def measured(truth: Volume, views: int, photons: float, seed: int) -> Problem:
    """Parallel-beam projections over half a turn with Poisson noise."""
    spacing = tuple(float(s) for s in truth.geometry.spacing)
    geometry = CTGeometry.parallel(truth.geometry.shape, spacing, views)
    noise = PoissonNoise(photons)
    y = simulate_ct(torch.from_numpy(truth.to_quantity("1/mm").array), geometry, noise, seed=seed)
    return Problem(CTOperator(geometry), y, truth.geometry, "1/mm", noise_model=noise, lower_bound=0.0)


Measure = Callable[[Volume, int, float, int], Problem]


def main(
    measure: Measure = measured,
    views: Sequence[int] = (8,),
    methods: Sequence[str] = ("fbp", "tv", "pnp"),
    doc: str = "",
) -> None:
    """Run the cases that the output file does not hold yet.

    ``measure(truth, views, photons, seed)`` makes the data; the other arguments are defaults of the options.
    """
    parser = argparse.ArgumentParser(description=(doc or __doc__ or "").split("\n")[0])
    parser.add_argument("--split", choices=("val", "test", "phantom", "cranium"), default="test")
    parser.add_argument("--patients", nargs="*")
    parser.add_argument("--views", type=int, nargs="+", default=list(views))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--photons", type=float, default=1e5)
    parser.add_argument("--slices", type=int, default=0)
    parser.add_argument("--prior", default="ct")
    parser.add_argument("--methods", nargs="+", default=list(methods), help="name or name:key=value,key=value")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the total-variation volumes that guide the prior")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    names = options.patients or (TEST_PATIENTS if options.split == "test" else VAL_PATIENTS)
    prior = load_prior(options.prior) if any(map(needs_prior, options.methods)) else None
    for name in names:
        for views in options.views:
            for seed in options.seeds:
                _case(options, measure, name, views, seed, prior)


def _case(
    options: argparse.Namespace, measure: Measure, name: str, views: int, seed: int, prior: NetworkPrior | None
) -> None:
    problem, start, truth, journal = None, None, None, Journal(options.output)
    for method in options.methods:
        case = f"{options.split}/{Path(name).name}/{views}/{options.photons:g}/{seed}/{method}"
        case += f"/x{options.samples}" if options.samples > 1 else ""
        needs = needs_prior(method)
        case += f"/{options.prior}" if needs else ""
        if case in journal:
            continue
        if problem is None:
            truth = patient(options.split, name, options.slices)
            problem = measure(truth, views, options.photons, seed)
        label, settings = parsed(method)
        if needs and start is None:
            start = _kept(options, name, views, seed, problem) or reconstruct(problem, "tv").volume
        began = time.perf_counter()
        result = reconstruct(
            replace(problem, prior=prior) if needs else problem,
            label,
            quantity="HU",
            samples=options.samples if needs else 1,
            seed=seed,
            start=start if needs else None,
            **settings,
        )
        seconds = time.perf_counter() - began
        if label == "tv" and not settings:
            start = result.volume
            if options.keep is not None:
                np.save(_kept_file(options, name, views, seed), start.array)
        figures = compare_volumes(result.volume, truth)
        record = {
            "case": case, "patient": Path(name).name, "views": views, "seed": seed, "method": method,
            "seconds": seconds,
        }  # fmt: skip
        record |= {k: v for k, v in figures.items() if isinstance(v, float) and k != "data_range"}
        record |= {
            "chosen": result.method,
            "discrepancy": result.assessment["discrepancy"],
            "prior": options.prior if needs else None,
        }
        record |= {"samples": options.samples if needs else 1, "weight": result.stats[-1].get("weight")}
        words = f"{figures['psnr']:.2f} dB, ssim {figures['ssim']:.4f}, z {figures['z_roughness']:.2f}"
        journal.write(record, f"{words}, disc {result.assessment['discrepancy']:.2f}, {seconds:.1f} s")


def _kept_file(options: argparse.Namespace, name: str, views: int, seed: int) -> Path:
    options.keep.mkdir(parents=True, exist_ok=True)
    return options.keep / f"{options.split}-{Path(name).name}-{views}-{options.photons:g}-{options.slices}-{seed}.npy"


def _kept(options: argparse.Namespace, name: str, views: int, seed: int, problem: Problem) -> Volume | None:
    """The total-variation volume of an earlier run of the same case."""
    if options.keep is None or not (file := _kept_file(options, name, views, seed)).exists():
        return None
    return Volume(np.load(file), problem.geometry, "HU")


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
