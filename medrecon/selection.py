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
    """The method chosen, why in one sentence, and the prediction errors behind it (smaller is better).

    ``signal`` is the root mean square of what was to be predicted, in the unit of the errors.
    """

    method: str
    reason: str
    errors: dict[str, float]
    signal: float | None = None

    def to_record(self) -> dict[str, object]:
        """Plain values."""
        return {"method": self.method, "reason": self.reason, "errors": self.errors, "signal": self.signal}


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
    return _rms_left_out(problem, problem.op(volume) - problem.y, used)


def left_out_signal(problem: Problem, used: Tensor) -> float:
    """Root mean square of the held-out data, in the unit of `prediction_error`."""
    return _rms_left_out(problem, problem.y, used)


def _rms_left_out(problem: Problem, values: Tensor, used: Tensor) -> float:
    weights = problem.noise_model.weights(problem.y) if problem.noise_model else torch.ones_like(problem.y)
    left_out = (1 - used).expand_as(problem.y)
    return float(((weights * values**2 * left_out).sum(dtype=torch.float64) / left_out.sum()).sqrt())


def select(problem: Problem, solve: Callable[[Problem, str], Tensor]) -> Selection:
    """Choose the method for ``problem``.

    ``solve(problem, method)`` returns a volume in the problem's quantity; it is called for all candidates with a share
    of the data held out, and the one that predicts those data best is chosen.
    """
    classical = classical_methods(problem)
    if problem.prior is None and len(classical) == 1:
        return Selection(classical[0], "no prior was given", {})
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
        signal = left_out_signal(problem, used)
        return Selection(method, _signal_to_noise(used, signal, errors), errors, signal)
    words = "better" if method != classical[0] else "worse"
    reason = (
        f"on held-out data the prior predicts {words} than total variation "
        f"({errors[candidates[-1]]:.3g} against {errors[CLASSICAL]:.3g})"
    )
    return Selection(method, reason, errors)


def _signal_to_noise(used: Tensor, signal: float, errors: dict[str, float]) -> str:
    """Signal to noise of every candidate on what was hidden, in words."""
    figures = [f"{name} {decibels(signal, error):.1f} dB" for name, error in errors.items()]
    count = int((1 - used).sum())
    return f"on {count} live traces, hidden as the holes look: {', '.join(figures)}"


def decibels(signal: float, error: float) -> float:
    """Signal to noise from two root mean squares."""
    return 20 * math.log10(max(signal, 1e-30) / max(error, 1e-30))
