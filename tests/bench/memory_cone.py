"""Memory that a cone-beam reconstruction takes: the whole process, at its peak.

    python tests/bench/memory_cone.py [--size 256] [--views 60]

A drawn abdomen, reduced to a cube of 256 mm, and a flat panel that sees all of it. Total variation and then `refine`
with the bundled prior, each with two of its iterations and of its conjugate gradients: more take longer, and no more
memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from dataclasses import replace

import torch

from medrecon.data.anatomy import anatomy
from medrecon.data.volume import Geometry
from medrecon.engine import reconstruct
from medrecon.physics.cone import ConeOperator
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.noise import PoissonNoise
from medrecon.prior import load_prior
from medrecon.problem import Problem

_PHOTONS, _FEW, _SIDE = 1e5, 2, 256.0  # mm


def main() -> None:
    """Print the peak after each part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    drawn = anatomy("abdomen", (options.size,) * 3, seed=1)
    truth = replace(drawn, geometry=Geometry.from_spacing(drawn.geometry.shape, (_SIDE / options.size,) * 3))
    geometry = ConeGeometry.circular(truth.geometry.shape, truth.geometry.spacing, options.views)
    op, noise = ConeOperator(geometry), PoissonNoise(_PHOTONS)
    y = noise.sample(op(torch.from_numpy(truth.to_quantity("1/mm").array)), 0)
    grid, began = truth.geometry, time.perf_counter()
    del truth, drawn
    _tell("data", began)
    problem = Problem(op, y, grid, "1/mm", noise_model=noise, lower_bound=0.0, prior=load_prior("ct"))
    began = time.perf_counter()
    start = reconstruct(problem, "tv", iterations=_FEW, cg_iterations=_FEW, judgement="none").volume
    _tell("tv", began)
    began = time.perf_counter()
    reconstruct(problem, "refine", start=start, steps=1, iterations=_FEW, cg_iterations=_FEW, judgement="none")
    _tell("refine", began)


def _tell(name: str, began: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(f"{name}: {peak:.2f} GiB at the peak so far, {time.perf_counter() - began:.0f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
