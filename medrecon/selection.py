"""``method="auto"``: a held-out test on the user's own data decides between the classical and the diffusion volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from medrecon.prior import NetworkPrior, Prior
from medrecon.problem import Problem

CLASSICAL, DIFFUSION, GUIDED = "tv", "pnp", "refine"
_SHARE = 8  # one group of data in this many is held out
_SILENT = 1e-30
_MARGIN = 1.0  # the prior has to predict at least as well as the classical volume


@dataclass(frozen=True)
class Selection:
    """The method chosen, why in one sentence, and the prediction errors behind it (smaller is better).

    ``classical`` is the classical method that predicted best: what a diffusion starts from, and is compared with.
    ``signal`` is the root mean square of what was to be predicted, in the unit of the errors. ``hidden`` says what that
    was, where it was of several kinds: name, share of what is missing, count, and the errors of each kind alone.
    """

    method: str
    reason: str
    errors: dict[str, float]
    classical: str
    signal: float | None = None
    hidden: list[dict[str, object]] = field(default_factory=list)

    def to_record(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Part:
    """Data that are left out together: 1 there, ``y``-broadcastable, and their weight in the score."""

    name: str
    share: float
    mask: Tensor

    def rms(self, problem: Problem, values: Tensor) -> float:
        """Root mean square over this part, in units of the noise where it is known."""
        weights = problem.noise_model.weights(problem.y) if problem.noise_model else torch.ones_like(problem.y)
        mask = self.mask.expand_as(problem.y)
        return float(((weights * values**2 * mask).sum(dtype=torch.float64) / mask.sum()).sqrt())


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Data that are left out as a test, in one or more parts that do not overlap; their shares sum to one."""

    parts: tuple[Part, ...]

    @property
    def mask(self) -> Tensor:
        """1 where left out, ``y``-broadcastable."""
        return torch.stack([part.mask for part in self.parts]).sum(dim=0)

    @property
    def used(self) -> Tensor:
        """1 where the data may be used."""
        return 1 - self.mask

    def signal(self, problem: Problem) -> float:
        """Root mean square of what was left out, in the unit of :meth:`error`."""
        return Part("", 1.0, self.mask).rms(problem, problem.y)

    def error(self, problem: Problem, volume: Tensor) -> float:
        """Root-mean-square error of the prediction, in units of the noise where it is known.

        Of several parts each counts by its share, relative to its own signal: what is missing is as loud as the rest
        wherever the parts to test on happened to lie.
        """
        residual = problem.op(volume) - problem.y
        errors = [part.rms(problem, residual) for part in self.parts]
        if len(errors) == 1:
            return errors[0]
        signals = [max(part.rms(problem, problem.y), _SILENT) for part in self.parts]
        shares = [part.share * (e / s) ** 2 for part, e, s in zip(self.parts, errors, signals, strict=True)]
        return self.signal(problem) * math.sqrt(math.fsum(shares))


def diffusion_method(prior: Prior) -> str:
    """The diffusion method that ``auto`` considers: its settings are those of all presets of the one loop."""
    return GUIDED if isinstance(prior, NetworkPrior) and prior.guides else DIFFUSION


def classical_methods(problem: Problem) -> tuple[str, ...]:
    """Classical methods to choose from: total variation, or what the operator names.

    A diffusion starts from the first of them, after a held-out test from the one that predicted best.
    """
    found: tuple[str, ...] = getattr(problem.op, "classical_methods", (CLASSICAL,))
    return found


def held_out(problem: Problem) -> HeldOut:
    """The data to leave out: every eighth view (line, trace group).

    An operator that knows better what to hide says so with ``held_out()``: traces do, after their holes.

    The operator's ``holdout_axis`` names the axis of the data that is held out as whole groups; at least one group
    is left out and at least two remain. The groups left out are spread evenly and do not start at the first.
    """
    if hasattr(problem.op, "held_out"):
        return HeldOut(tuple(Part(*part) for part in problem.op.held_out()))
    axis = getattr(problem.op, "holdout_axis", 0)
    groups = problem.y.shape[axis]
    count = max(1, groups // _SHARE)
    chosen = ((torch.arange(count) + 0.5) * groups / count).long()
    mask = torch.zeros(groups)
    mask[chosen] = 1
    shape = [1] * problem.y.ndim
    shape[axis] = groups
    return HeldOut((Part("groups", 1.0, mask.reshape(shape)),))


def select(problem: Problem, solve: Callable[[Problem, str, Tensor | None], Tensor]) -> Selection:
    """Choose the method for ``problem``.

    ``solve(problem, method, start)`` returns a volume in the problem's quantity; it is called for all candidates with a
    share of the data held out, and the one that predicts those data best is chosen. The diffusion method comes last and
    starts from the best of the others.
    """
    classical = classical_methods(problem)
    if problem.prior is None and len(classical) == 1:
        return Selection(classical[0], "no prior was given", {}, classical[0])
    axis = getattr(problem.op, "holdout_axis", 0)
    if problem.y.shape[axis] < 3:
        return Selection(classical[0], "too few data to hold any out", {}, classical[0])
    held = held_out(problem)
    reduced = replace(problem, used=held.used)
    volumes = {method: solve(reduced, method, None) for method in classical}
    errors = {method: held.error(problem, volume) for method, volume in volumes.items()}
    method = best = min(classical, key=lambda name: errors[name])
    if problem.prior is not None:
        diffusion = diffusion_method(problem.prior)
        volumes[diffusion] = solve(reduced, diffusion, volumes[best])
        errors[diffusion] = held.error(problem, volumes[diffusion])
        method = diffusion if errors[diffusion] <= _MARGIN * errors[best] else best
    if classical != (CLASSICAL,):
        signal, hidden = held.signal(problem), [_of_part(problem, part, volumes) for part in held.parts]
        return Selection(method, _signal_to_noise(hidden, signal, errors), errors, best, signal, hidden)
    words = "better" if method != best else "worse"
    reason = (
        f"on held-out data the prior predicts {words} than total variation "
        f"({errors[diffusion]:.3g} against {errors[CLASSICAL]:.3g})"
    )
    return Selection(method, reason, errors, best)


def _of_part(problem: Problem, part: Part, volumes: Mapping[str, Tensor]) -> dict[str, object]:
    errors = {name: part.rms(problem, problem.op(volume) - problem.y) for name, volume in volumes.items()}
    return {"name": part.name, "share": part.share, "count": int(part.mask.sum()),
            "signal": part.rms(problem, problem.y), "errors": errors}  # fmt: skip


def _signal_to_noise(hidden: Sequence[Mapping[str, object]], signal: float, errors: Mapping[str, float]) -> str:
    """What was hidden, and the signal to noise of every candidate on it, in words."""
    figures = [f"{name} {decibels(signal, error):.1f} dB" for name, error in errors.items()]
    kinds = " and ".join(f"{part['count']} in {part['name']} ({part['share']:.0%})" for part in hidden)
    if len(hidden) == 1:
        kinds = f"{hidden[0]['count']} in {hidden[0]['name']}"
    return f"live traces hidden as the holes look, {kinds}: {', '.join(figures)}"


def decibels(signal: float, error: float) -> float:
    """Signal to noise from two root mean squares."""
    return 20 * math.log10(max(signal, 1e-30) / max(error, 1e-30))
