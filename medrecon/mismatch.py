"""When a CT scan does not fit its geometry: the residual says so, and a few likely mistakes are tried on coarse data.

Only linear least squares is asked, on merged pixels and some of the views: what it cannot explain no volume explains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from medrecon.corrections import corrected
from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.errors import InputError
from medrecon.scans import problem_from_scan
from medrecon.solvers import cg

_SUSPICIOUS = {True: 3.0, False: 0.1}
"""Discrepancy that calls for a look: times the noise where it is known, else of the data."""
_POOR = 0.05  # of the data: what a right geometry leaves is far less
_BETTER = 0.6  # of the residual as it is: a mistake that explains the data is named
_COLUMNS, _VIEWS, _ITERATIONS = 40, 40, 15


def warnings_of(scan: Scan | KSpace | Traces, discrepancy: float, *, noise_known: bool) -> list[str]:
    """What may be wrong with the description of a scan whose reconstruction left this discrepancy; empty where nothing.

    Axes that were exchanged and a rotation the other way round leave traces where the geometry can tell them.
    """
    if not isinstance(scan, Scan) or scan.modality != "ct" or discrepancy < _SUSPICIOUS[noise_known]:
        return []
    coarse = _coarse(scan)
    error = unexplained(coarse)
    if error < _POOR:
        return []
    said = [f"{100 * error:.0f} % of the data fit no volume in this geometry"]
    tries: dict[str, tuple[Callable[[Scan], Scan], Scan]] = {
        "the rotation runs the other way (--correct reverse)": (lambda s: _scan(corrected(s, ["reverse"])), coarse),
        "rows and columns of the detector are exchanged": (lambda s: _exchanged(s, 1, 2), scan),
        "views and columns are exchanged": (lambda s: _exchanged(s, 0, 2), scan),
        "views and rows are exchanged": (lambda s: _exchanged(s, 0, 1), scan),
    }
    better = []
    for words, (change, whole) in tries.items():
        try:
            changed = change(whole)
            other = unexplained(_coarse(changed) if whole is scan else changed)
        except InputError:
            continue
        if other < _BETTER * error:
            better.append((other, words))
    if better:
        other, words = min(better)
        said.append(f"they fit better ({100 * other:.0f} %) if {words}")
    else:
        said.append("check units, angles, distances and the axis of rotation (--correct centre)")
    said.append(f"until that is mended, --set model_error={error:.2g} fits the data no closer than that")
    return ["; ".join(said)]


def unexplained(scan: Scan) -> float:
    """Share of the data that least squares leaves after a few iterations."""
    problem = problem_from_scan(replace(scan, noise={}))
    op, y = problem.op, problem.y
    norm = float(torch.linalg.vector_norm(y))
    if norm == 0:
        return 0.0
    x = cg(lambda v: op.adjoint(op(v)), op.adjoint(y), max_iterations=_ITERATIONS).x
    return float(torch.linalg.vector_norm(op(x) - y)) / norm


def _coarse(scan: Scan) -> Scan:
    """Merged pixels, some of the views, and of a stack of slices the middle ones."""
    views, rows, columns = scan.data.shape
    by = max(1, columns // _COLUMNS)
    steps = [f"bin={min(by, rows) if scan.is_cone else 1},{by}"]
    if not scan.is_cone and rows > 4:
        steps.insert(0, f"crop={rows // 2 - 2}:{rows // 2 + 2},0:{columns}")
    return _scan(corrected(scan, steps, f"0::{max(1, views // _VIEWS)}"))


def _exchanged(scan: Scan, one: int, two: int) -> Scan:
    """The scan with two axes of its data exchanged. Raises InputError unless they are of one length."""
    if scan.data.shape[one] != scan.data.shape[two]:
        raise InputError("axes of different lengths are not exchanged by mistake", found=scan.data.shape)
    return replace(scan, data=np.ascontiguousarray(scan.data.swapaxes(one, two)))


def _scan(content: Scan | KSpace | Traces) -> Scan:
    assert isinstance(content, Scan)
    return content
