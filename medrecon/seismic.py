"""From traces with holes to a `Problem`."""

from __future__ import annotations

from dataclasses import replace

import torch

from medrecon.data.traces import Traces
from medrecon.data.volume import Geometry
from medrecon.errors import InputError
from medrecon.physics.seismic import TraceMask
from medrecon.prior import Prior
from medrecon.problem import Problem
from medrecon.scans import problem_builders, slice_cutters


@problem_builders.register("seismic")
def seismic_problem(traces: Traces, *, prior: Prior | None = None, grid: Geometry | None = None) -> Problem:
    """The problem that missing traces pose: sections ``(row, time, column)`` whose live traces are known.

    What stands at missing places is set to zero here and plays no part. Raises InputError for another grid, and where
    nothing is live.
    """
    own = traces.volume_geometry
    if grid is not None and grid.shape != own.shape:
        raise InputError(
            "traces are reconstructed on their own grid", found=grid.shape, expected=own.shape,
            hint="Choose the grid with --traces rows=FIRST:LAST:STEP and columns=FIRST:LAST:STEP.",
        )  # fmt: skip
    if not traces.live.any():
        raise InputError("no trace is live")
    op = TraceMask(own.shape, torch.from_numpy(traces.live.copy()))
    sections = torch.from_numpy(traces.data.transpose(0, 2, 1).copy())
    return Problem(op=op, y=op(sections), geometry=own, quantity=traces.quantity, prior=prior, unit=traces.unit)


@slice_cutters.register("seismic")
def cut_seismic(traces: Traces, first: int, last: int) -> Traces:
    """Some rows alone."""
    cut = traces.cut_rows(first, last)
    if not cut.live.any():
        raise InputError("no trace of these rows is live", found=f"rows {first} to {last - 1}")
    return replace(cut, provenance=traces.provenance)
