"""Sparse-view cone beams of real held-out patients: every method on the same data, one JSON line per case.

    python tests/bench/quality_cone.py --split test --views 24 12 --methods fdk sirt tv refine -o results.jsonl

A full turn of a flat panel that sees the whole volume, with photon noise; simulated on voxels half as large and four
rays per detector pixel. Options, patients and the rules on `test` and `val` are those of quality_ct.py, which runs the
cases.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import quality_ct

from medrecon.data.volume import Volume
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.noise import PoissonNoise
from medrecon.physics.simulate import simulate_cone
from medrecon.problem import Problem


def measured(truth: Volume, views: int, photons: float, seed: int) -> Problem:
    """Cone-beam projections over a full turn with Poisson noise."""
    geometry = ConeGeometry.circular(truth.geometry.shape, [float(s) for s in truth.geometry.spacing], views)
    noise = PoissonNoise(photons)
    y = simulate_cone(torch.from_numpy(truth.to_quantity("1/mm").array), geometry, noise, seed=seed)
    return Problem(ConeOperator(geometry), y, truth.geometry, "1/mm", noise_model=noise, lower_bound=0.0)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    quality_ct.main(measured, (24, 12), ("fdk", "sirt", "tv", "refine"), __doc__)
