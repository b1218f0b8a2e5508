"""How far filled traces may be off, learnt on live traces of the same survey that were hidden and predicted.

``method="auto"`` hides live traces as the holes look. What its method misses there by, relative to the local loudness
of what it predicted, says how wide intervals have to be (split conformal prediction with normalised scores, see
`medrecon.calibration`): no truth and no other survey is needed. It holds on average over the missing traces, as far as
those that were hidden are like them; samples of one trace, and traces of one hole, err together, so that few hidden
traces tell little. Where holes are compact, what lies beside them and is predicted back from the filled holes tells of
the very place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medrecon.calibration import LEVEL, LEVELS, Case, learn
from medrecon.physics.trace_holes import kinds_of_holes

if TYPE_CHECKING:
    from medrecon.problem import Problem

_MOST = 500_000  # samples of a part to learn on: more change nothing
_WINDOW = (9, 5)  # samples and traces of which the loudness is taken


def learnt_interval(problem: Problem, tests: Iterable[tuple[Tensor, Mapping[str, Tensor]]]) -> dict[str, object]:
    """Floor and factors of intervals from what was predicted of hidden traces, for each kind of hole.

    ``problem`` holds the hidden data, and so does its loudness, in units of which the floor is. ``tests`` are volumes
    and by kind, 1 there, the hidden data that each predicts; all of one kind are learnt from together.
    """
    unit, count = loudness_of(problem), 0
    samples: dict[str, list[Tensor]] = {}
    for volume, parts in tests:
        errors, loudness = (problem.op(volume) - problem.y).abs(), local_loudness(volume)
        for name, part in parts.items():
            there = part.expand_as(problem.y) > 0
            step = max(1, int(there.sum()) // _MOST)
            pair = torch.stack([values[there][::step] / unit for values in (errors, loudness)])
            samples.setdefault(name, []).append(pair)
            count += int((part > 0).sum())
    kinds: dict[str, dict[str, object]] = {}
    for name, pairs in samples.items():
        fit = learn([Case(name, *torch.cat(pairs, dim=1).numpy())])
        factors = {f"{level:g}": factor for level, factor in zip(LEVELS, fit.factors, strict=True)}
        kinds[name] = {"floor": fit.floor, "factors": factors}
    return {"kinds": kinds, "traces": count}


def half_width(problem: Problem, volume: Tensor, learnt: Mapping[str, object]) -> Tensor:
    """Of intervals for nine in ten samples, in the unit of ``volume``: zero at live traces."""
    kinds = {kind.name: kind.missing for kind in kinds_of_holes(problem.op.live.cpu().numpy())}  # type: ignore[attr-defined]
    return widths(volume, kinds, learnt, loudness_of(problem))


def widths(volume: Tensor, holes: Mapping[str, np.ndarray], learnt: Mapping[str, object], unit: float) -> Tensor:
    """The same for any rows of a survey whose live samples have the root mean square ``unit``.

    ``holes`` are the missing traces of these rows by kind, bool ``(rows, columns)``. A hole of a kind that could not be
    tested has the widest.
    """
    known = learnt["kinds"]
    assert isinstance(known, Mapping)
    loudness = local_loudness(volume)
    found = {name: kind["factors"][f"{LEVEL:g}"] * (loudness + kind["floor"] * unit) for name, kind in known.items()}
    widest, out = torch.stack(list(found.values())).amax(dim=0), torch.zeros_like(volume)
    for name, missing in holes.items():
        out = torch.where(torch.from_numpy(missing)[:, None], found.get(name, widest), out)
    return out


def loudness_of(problem: Problem) -> float:
    """Root mean square of the live samples."""
    live = float(problem.op.known.expand_as(problem.y).sum())  # type: ignore[attr-defined]
    energy = float(problem.op(problem.y).double().square().sum())  # whatever stands at missing places
    return max((energy / max(live, 1.0)) ** 0.5, float(np.finfo(np.float32).tiny))


def local_loudness(volume: Tensor) -> Tensor:
    """Root mean square of a section ``(row, time, column)`` around each of its samples."""
    padding = (_WINDOW[0] // 2, _WINDOW[1] // 2)
    unit = 2.0 ** int(torch.frexp(volume.abs().max())[1])  # exact, and squares of any amplitude can be held
    squares = (volume / unit).square()[:, None]
    mean = torch.nn.functional.avg_pool2d(squares, _WINDOW, 1, padding, count_include_pad=False)
    return mean[:, 0].sqrt() * unit
