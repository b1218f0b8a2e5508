"""Guides for seismic data: traces taken out of complete sections, and filled by a classical method."""

from __future__ import annotations

import math

import numpy as np

from medrecon.data.segy_writing import plain_axes
from medrecon.data.traces import State, Traces
from medrecon.data.volume import Volume
from medrecon.noise import KeyedNoise
from medrecon.physics.seismic import make_trace_mask
from medrecon.problem import Problem
from medrecon.samplers.settings import sampler_for
from medrecon.seismic import seismic_problem
from medrecon.selection import best_shares, classical_methods
from medrecon.training.guides import guide_makers

KINDS = ("random", "regular", "regular", "regular", "gap", "gap", "lines", "hole")
_SHARES = (0.3, 0.85)  # missing traces, random ones and lines
_STEPS = (2, 2, 2, 3, 4)  # of regular columns
_WIDEST = 16  # traces of a gap
_SIDES = 0.1, 0.35  # of a block, relative to those of the survey
_BEST = 0.6  # share of guides that are mixed as `auto` would mix them; the others are mixed by chance
_TESTED = 64  # missing traces by which the shares of such a mixture are found: about what `auto` hides
_ALONE = 0.5  # share of the guides mixed by chance that are the volume of one method
_ALSO = 0.2  # share of surveys with random holes beside the others
_FEW = 8  # rows: with fewer, lines are missing along columns alone


@guide_makers.register("seismic", levels=(30, 50, 70, 85), least=1, windows=True, edition=4)
def missing_traces(truth: Volume, rng: np.random.Generator, views: int | None = None) -> tuple[Problem, Volume]:
    """Sections ``(row, time, column)`` without some of their traces, filled by what suits the holes.

    That is the mixture that ``auto`` finds, or any of its methods, or the mean of two of them in random shares, as what
    ``auto`` makes of them is what a diffusion starts from. In place of hidden traces, which would cost each method
    twice, some of the missing ones tell the shares here.

    Missing are single traces at random (``views`` per cent of them, where it is given), all but every second to fourth
    column, one to three gaps, whole lines, or a block; along rows as well as columns.
    """
    rows, _, columns = truth.geometry.shape
    live = random_holes(rng, (rows, columns)) if views is None else _single(rng, (rows, columns), views / 100)
    data = np.where(live[..., None], truth.array.transpose(0, 2, 1), np.float32(0))
    reasons = np.where(live, np.uint8(State.live), np.uint8(State.absent)).astype(np.uint8)
    problem = seismic_problem(Traces(data, reasons, *plain_axes(rows, columns), quantity=truth.quantity))
    methods, best = list(classical_methods(problem)), rng.random() < _BEST
    if not best:
        methods = rng.permutation(methods)[: 1 if rng.random() < _ALONE else 2].tolist()
    system = problem.system()
    filled = [system.to_quantity(sampler_for(problem, m, {}).run(system, KeyedNoise(0)).estimate) for m in methods]
    volumes = np.stack([volume.numpy() for volume in filled])
    shares = _best_shares(volumes - truth.array, ~live, rng) if best else rng.dirichlet(np.ones(len(methods)))
    mean = np.tensordot(shares, volumes, axes=1).astype(np.float32)
    return problem, truth.with_array(np.where(live[:, None], truth.array, mean))


def _best_shares(errors: np.ndarray, missing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shares of the mean that is best on some of the missing traces; errors are ``(volume, row, time, column)``."""
    places = np.argwhere(missing)
    row, column = rng.permutation(places)[:_TESTED].T
    tested = errors.swapaxes(2, 3)[:, row, column].reshape(len(errors), -1)
    return best_shares((tested @ tested.T / tested.shape[1]).astype(np.float64))


def random_holes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Live traces ``(rows, columns)`` of a survey with holes of a random kind, at least one of them."""
    across = shape[0] >= _FEW and rng.random() < 0.5
    rows, columns = area = shape[::-1] if across else shape
    kind = str(rng.choice(KINDS))
    if kind == "random":
        live = _single(rng, area, rng.uniform(*_SHARES))
    elif kind == "regular":
        step = int(rng.choice(_STEPS))
        first = int(rng.integers(step))
        live = make_trace_mask("regular", (rows, columns + step), 1 - 1 / step)[:, first : first + columns]
    elif kind == "gap":
        live = np.ones(area, dtype=bool)
        for _ in range(int(rng.integers(1, 4))):
            width = math.exp(rng.uniform(math.log(2), math.log(min(_WIDEST, columns / 2) + 1)))
            live = live & make_trace_mask("gap", area, width / columns, seed=_seed(rng))
    elif kind == "hole":
        live = make_trace_mask("hole", area, rng.uniform(*_SIDES) ** 2, seed=_seed(rng))
    else:
        live = make_trace_mask("lines", area, rng.uniform(*_SHARES), seed=_seed(rng))
    if kind != "random" and rng.random() < _ALSO:
        live = live & _single(rng, area, rng.uniform(0.05, 0.3))
    if not live.any():
        live = _single(rng, area, 0.5)
    return live.T if across else live


def _single(rng: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    return make_trace_mask("random", shape, share, seed=_seed(rng))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
