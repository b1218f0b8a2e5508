"""Large volumes, some slices at a time: for scans whose slices are measured apart.

A slab is solved with a margin of neighbours, which its coupling along z needs, and kept without it. What stands in
memory is one problem of a slab, and the finished volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt

import numpy as np
import torch

from medrecon.assess import Thresholds, chi_square_of, verdict
from medrecon.data.volume import Geometry, Volume
from medrecon.engine import Result
from medrecon.errors import UsageError

MARGIN = 4  # slices on either side: a seam then differs from one run by less than neighbouring slices do


@dataclass(frozen=True)
class Slab:
    """Slices ``first`` to ``last - 1`` are kept of those from ``low`` to ``high - 1``, which are solved."""

    first: int
    last: int
    low: int
    high: int

    @property
    def inner(self) -> slice:
        """What is kept of the solved slices."""
        return slice(self.first - self.low, self.last - self.low)


def slabs_of(slices: int, thickness: int, margin: int = MARGIN) -> list[Slab]:
    """Slabs of ``thickness`` slices or a little less, alike in size, with a margin on both sides.

    Raises UsageError where the thickness is none.
    """
    if thickness < 1:
        raise UsageError("a slab has at least one slice", found=thickness)
    count = -(-slices // thickness)
    ends = [round(number * slices / count) for number in range(count + 1)]
    return [Slab(first, last, max(0, first - margin), min(slices, last + margin)) for first, last in pairwise(ends)]


def reconstruct_in_slabs(
    slabs: Sequence[Slab], grid: Geometry, method: str, solve: Callable[[Slab, str], Result]
) -> Result:
    """One result from those of all slabs, on the whole ``grid``.

    ``solve(slab, method)`` reconstructs the slices ``low`` to ``high``. The middle slab goes first: what ``"auto"``
    chooses there holds for all. A result that was stopped is returned as it is.
    """
    order = sorted(range(len(slabs)), key=lambda number: abs(number - len(slabs) // 2))
    whole, parts = dict[str, np.ndarray](), list[Result]()
    for number in order:
        slab = slabs[number]
        result = solve(slab, method)
        if result.status != "done":
            return result
        method = result.method
        for name, volume in _volumes(result).items():
            target = whole.setdefault(name, np.zeros(grid.shape, dtype=volume.array.dtype))
            target[slab.first : slab.last] = volume.array[slab.inner]
        parts.append(_without_volumes(result))

    def on_grid(name: str) -> Volume | None:
        return Volume(whole[name], grid, *kinds[name]) if name in whole else None

    first = parts[0]
    kinds = {name: (part.quantity, part.meta) for name, part in _volumes(first).items()}
    joined = on_grid("result")
    assert joined is not None
    return replace(
        first,
        volume=joined,
        baseline=on_grid("baseline"),
        spread=on_grid("spread"),
        layers={name: layer for name in first.layers if (layer := on_grid(f"layer {name}")) is not None},
        stats=[line | {"slab": number} for number, part in zip(order, parts, strict=True) for line in part.stats],
        assessment=_merged([part.assessment for part in parts], noise_known=first.provenance["noise_level"] != 0),
        provenance=first.provenance
        | {
            "seconds": sum(float(str(part.provenance["seconds"])) for part in parts),
            "peak_memory_mib": max(float(str(part.provenance["peak_memory_mib"])) for part in parts),
            "slabs": [[slab.first, slab.last] for slab in slabs],
        },
    )


def _volumes(result: Result) -> dict[str, Volume]:
    named = {"result": result.volume, "baseline": result.baseline, "spread": result.spread}
    named |= {f"layer {name}": layer for name, layer in result.layers.items()}
    return {name: volume for name, volume in named.items() if volume is not None}


def _without_volumes(result: Result) -> Result:
    """The same with one voxel of each volume: enough to know its quantity."""

    def emptied(volume: Volume) -> Volume:
        corner = volume.array[:1, :1, :1].copy()
        return replace(volume, array=corner, geometry=Geometry(corner.shape, volume.geometry.affine))

    return replace(
        result,
        volume=emptied(result.volume),
        baseline=None if result.baseline is None else emptied(result.baseline),
        spread=None if result.spread is None else emptied(result.spread),
        layers={name: emptied(layer) for name, layer in result.layers.items()},
    )


# --- one assessment of several ---------------------------------------------------------------------------------------
_MEANS = {("null_space", "share"), ("prior_only", "share_of_difference")}
_LARGEST = {
    ("prior_only", "largest"),
    ("prior_fit", "error_ratio"),
    ("prior_fit", "outside_range"),
    ("prior_fit", "brightness_outside"),
}


def _merged(found: Sequence[Mapping[str, object]], *, noise_known: bool) -> dict[str, object]:
    """Of the whole: root mean squares over slabs, shares as means, worst cases as the largest, and a new verdict."""
    # The first slab has some that the others lack: those of the test of `auto`
    merged = {key: _together((key,), [f[key] for f in found if key in f]) for key in found[0] if key != "verdict"}
    groups, residuals = merged.get("residual_per_group"), [figures.get("residual") for figures in found]
    if isinstance(groups, list):
        count = sum(int(residual["data"]) for residual in residuals if isinstance(residual, Mapping))
        merged["residual"] = chi_square_of(torch.tensor(groups), count, noise_known=noise_known)
    if "verdict" in found[0]:
        merged["verdict"] = verdict(merged, Thresholds(), noise_known=noise_known)
    return merged


def _together(path: tuple[str, ...], values: Sequence[object]) -> object:
    """The same figure of all slabs as one."""
    first = values[0]
    if isinstance(first, Mapping) and path != ("selection",):
        return {key: _together((*path, key), [value[key] for value in values]) for key in first}  # type: ignore[index]
    if isinstance(first, list) and all(isinstance(value, list) and len(value) == len(first) for value in values):
        if not first or not isinstance(first[0], float):
            return first
        return np.sqrt(np.square(np.asarray(values)).mean(axis=0)).tolist()
    if isinstance(first, bool):
        return all(values)
    if not isinstance(first, float) or any(value is None for value in values):
        return first
    numbers = np.asarray(values, dtype=float)
    if path in _LARGEST:
        return float(numbers.max())
    return float(numbers.mean()) if path in _MEANS else sqrt(float(np.square(numbers).mean()))
