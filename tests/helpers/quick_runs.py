"""Reconstructions in four steps from a given start, and callbacks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from helpers.priors import FunctionPrior
from helpers.problems import blocks, projection_problem
from medrecon import Result, reconstruct
from medrecon.data.volume import Volume
from medrecon.engine import StepReport
from medrecon.problem import Problem

SHAPE = (5, 12, 10)
QUICK = {"steps": 4, "cg_iterations": 3}


def smooth(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """A quick, voxel-wise stand-in for a network."""
    return x / (1 + sigma)


def problem(**changes: object) -> Problem:
    return replace(projection_problem(prior=FunctionPrior(smooth)), **changes)


def start_volume(shape: tuple[int, int, int] = SHAPE) -> Volume:
    """A given start spares the tests the total-variation volume."""
    return Volume(blocks(shape).numpy(), projection_problem(shape).geometry, "a.u.")


def quick(method: str = "dds", made: Problem | None = None, **options: object) -> Result:
    """A reconstruction in four steps from a given start."""
    return reconstruct(made or problem(), method, **({"start": start_volume()} | QUICK | options))


def never(report: StepReport) -> bool:
    raise AssertionError(f"a step was made: {report.stage} {report.step}")


def stop_at(count: int) -> Callable[[StepReport], bool]:
    """A callback that stops the run at its ``count``-th report."""
    heard = []

    def callback(report: StepReport) -> bool:
        heard.append(report)
        return len(heard) < count

    return callback
