"""``method="auto"``: a held-out test on the user's own data decides between the classical and the diffusion volume."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecon.prior import NetworkPrior, Prior
from medrecon.problem import Problem

CLASSICAL, DIFFUSION, GUIDED = "tv", "pnp", "refine"
_SHARE = 8  # one group of data in this many is held out
_MARGIN = 1.0  # the prior has to predict at least as well as the classical volume


@dataclass(frozen=True)
class Selection:
    """The method chosen, why in one sentence, and the prediction errors behind it (smaller is better)."""

    method: str
    reason: str
    errors: dict[str, float]


def diffusion_method(prior: Prior) -> str:
    """The diffusion method that ``auto`` considers: its settings are those of all presets of the one loop."""
    return GUIDED if isinstance(prior, NetworkPrior) and prior.guides else DIFFUSION


def classical_methods(problem: Problem) -> tuple[str, ...]:
    """Classical methods to choose from: total variation, or what the operator names. The first starts a diffusion."""
    found: tuple[str, ...] = getattr(problem.op, "classical_methods", (CLASSICAL,))
    return found


def held_out(problem: Problem) -> Tensor:
    """Mask of the data to use, ``y``-broadcastable: every eighth view (line, trace group) is left out.

    An operator that knows better what to hide says so with ``held_out()``: traces do, after their holes.

    The operator's ``holdout_axis`` names the axis of the data that is held out as whole groups; at least one group
    is left out and at least two remain. The groups left out are spread evenly and do not start at the first.
    """
    if hasattr(problem.op, "held_out"):
        own: Tensor = problem.op.held_out()
        return own
    axis = getattr(problem.op, "holdout_axis", 0)
    groups = problem.y.shape[axis]
    count = max(1, groups // _SHARE)
    chosen = ((torch.arange(count) + 0.5) * groups / count).long()
    used = torch.ones(groups)
    used[chosen] = 0
    shape = [1] * problem.y.ndim
    shape[axis] = groups
    return used.reshape(shape)


def prediction_error(problem: Problem, volume: Tensor, used: Tensor) -> float:
    """Root-mean-square error of the predicted held-out data, in units of their noise where it is known."""
    weights = problem.noise_model.weights(problem.y) if problem.noise_model else torch.ones_like(problem.y)
    left_out = (1 - used).expand_as(problem.y)
    squares = weights * (problem.op(volume) - problem.y) ** 2 * left_out
    return float((squares.sum(dtype=torch.float64) / left_out.sum()).sqrt())


def select(problem: Problem, solve: Callable[[Problem, str], Tensor]) -> Selection:
    """Choose the method for ``problem``.

    ``solve(problem, method)`` returns a volume in the problem's quantity; it is called for all candidates with a share
    of the data held out, and the one that predicts those data best is chosen.
    """
    classical = classical_methods(problem)
    if problem.prior is None and len(classical) == 1:
        return Selection(classical[0], getattr(problem.op, "choice", "no prior was given"), {})
    axis = getattr(problem.op, "holdout_axis", 0)
    if problem.y.shape[axis] < 3:
        return Selection(classical[0], "too few data to hold any out", {})
    used = held_out(problem)
    reduced = replace(problem, used=used)
    candidates = classical if problem.prior is None else (*classical, diffusion_method(problem.prior))
    errors = {method: prediction_error(problem, solve(reduced, method), used) for method in candidates}
    method = min(classical, key=lambda name: errors[name])
    if problem.prior is not None and errors[candidates[-1]] <= _MARGIN * errors[method]:
        method = candidates[-1]
    if classical != (CLASSICAL,):
        return Selection(method, _signal_to_noise(problem, used, errors), errors)
    words = "better" if method != classical[0] else "worse"
    reason = (
        f"on held-out data the prior predicts {words} than total variation "
        f"({errors[candidates[-1]]:.3g} against {errors[CLASSICAL]:.3g})"
    )
    return Selection(method, reason, errors)


def _signal_to_noise(problem: Problem, used: Tensor, errors: dict[str, float]) -> str:
    """Signal to noise of every candidate on what was hidden, in words."""
    hidden = (1 - used).expand_as(problem.y)
    size = float(((problem.y**2 * hidden).sum(dtype=torch.float64) / hidden.sum()).sqrt())
    figures = [
        f"{name} {20 * math.log10(max(size, 1e-30) / max(error, 1e-30)):.1f} dB" for name, error in errors.items()
    ]
    count = int((1 - used).sum())
    return f"on {count} live traces, hidden as the holes look: {', '.join(figures)}"
