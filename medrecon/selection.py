"""``method="auto"``: a held-out test on the user's own data decides between the classical and the diffusion volume."""

from __future__ import annotations

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


def held_out(problem: Problem) -> Tensor:
    """Mask of the data to use, ``y``-broadcastable: every eighth view (line, trace group) is left out.

    The operator's ``holdout_axis`` names the axis of the data that is held out as whole groups; at least one group
    is left out and at least two remain. The groups left out are spread evenly and do not start at the first.
    """
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

    ``solve(problem, method)`` returns a volume in the problem's quantity; it is called for both candidates with a
    share of the data held out, and the one that predicts those data better is chosen.
    """
    if problem.prior is None:
        return Selection(CLASSICAL, "no prior was given", {})
    axis = getattr(problem.op, "holdout_axis", 0)
    if problem.y.shape[axis] < 3:
        return Selection(CLASSICAL, "too few data to hold any out", {})
    used, candidate = held_out(problem), diffusion_method(problem.prior)
    reduced = replace(problem, used=used)
    errors = {method: prediction_error(problem, solve(reduced, method), used) for method in (CLASSICAL, candidate)}
    better = errors[candidate] <= _MARGIN * errors[CLASSICAL]
    method = candidate if better else CLASSICAL
    words = "better" if better else "worse"
    reason = (
        f"on held-out data the prior predicts {words} than total variation "
        f"({errors[candidate]:.3g} against {errors[CLASSICAL]:.3g})"
    )
    return Selection(method, reason, errors)
