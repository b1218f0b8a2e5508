"""``method="auto"``: a held-out test on the user's own data decides between the classical and the diffusion volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from medrecon.data.volume import Geometry
from medrecon.physics.linop import LinearOperator
from medrecon.physics.seismic import TraceMask
from medrecon.prior import NetworkPrior, Prior
from medrecon.problem import Problem
from medrecon.trace_intervals import learnt_interval

CLASSICAL, DIFFUSION, GUIDED, MIXTURE = "tv", "pnp", "refine", "mixture"
_SHARE = 8  # one group of data in this many is held out
_FEWEST = 3  # groups of data to hold one out of
_SILENT = 1e-30
_MARGIN = 1.0  # the prior has to predict at least as well as the classical volume
_DOUBTED = 0.9  # and clearly better where the object is none of those that it knows
_LEAST_SHARE = 0.05  # of a mixture: a method that has less is left out
_RIDGE = 0.02  # of the smallest square error, added to each: hidden traces are few, and shares of them uncertain
_BACK = 0.75  # of the score of compact holes: what lies beside them, predicted back; the rest are holes elsewhere
_LUCK = 0.1  # by which a mixture must predict one gap or block better than its best method; n: over the root of n


@dataclass(frozen=True)
class Selection:
    """The method chosen, why in one sentence, and the prediction errors behind it (smaller is better).

    ``classical`` is the classical method that predicted best: what a diffusion starts from, and is compared with;
    ``mixture`` holds the shares of the methods that it consists of, where it is the mean of several. ``signal`` is the
    root mean square of what was to be predicted, in the unit of the errors. ``hidden`` says what that was, where it was
    of several kinds: name, share of what is missing, count, and the errors of each kind alone. ``interval`` is what the
    errors of traces teach of how far the result may be off (`medrecon.trace_intervals`).
    """

    method: str
    reason: str
    errors: dict[str, float]
    classical: str
    signal: float | None = None
    hidden: list[dict[str, object]] = field(default_factory=list)
    mixture: dict[str, float] = field(default_factory=dict)
    interval: dict[str, object] = field(default_factory=dict)

    def settings(self, method: str) -> dict[str, object]:
        """What the test found for this method: the shares of a mixture."""
        if method != MIXTURE:
            return {}
        return {"methods": tuple(self.mixture), "shares": tuple(self.mixture.values())}

    def held_out_errors(self) -> dict[str, float]:
        """Errors of the method chosen and of the classical one, and the signal; {} where nothing was tested."""
        if not self.errors:
            return {}
        found = {"result": self.errors[self.method], "classical": self.errors[self.classical]}
        return found if self.signal is None else found | {"signal": self.signal}

    def to_record(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Part:
    """Data that are left out together: 1 there, ``y``-broadcastable, and their weight in the score.

    ``holes`` is how many compact holes they are, whose errors are alike within each; 0 where they are scattered.
    """

    name: str
    share: float
    mask: Tensor
    holes: int = 0

    def products(self, problem: Problem, values: Sequence[Tensor]) -> np.ndarray:
        """Mean products ``(n, n)`` of these data over this part, in units of the noise where it is known."""
        weights = problem.noise_model.weights(problem.y) if problem.noise_model else torch.ones_like(problem.y)
        there = self.mask.expand_as(problem.y) > 0
        rows = torch.stack([value[there] for value in values]).double()
        return (rows * weights[there] @ rows.T / rows.shape[1]).cpu().numpy()

    def rms(self, problem: Problem, values: Tensor) -> float:
        """Root mean square over this part, in units of the noise where it is known."""
        return float(self.products(problem, [values])[0, 0]) ** 0.5


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says of hidden data; where holes are compact also of the holes, and back of what lies beside them.

    All are volumes.
    """

    hidden: Tensor
    filled: Tensor | None = None
    back: Tensor | None = None

    @classmethod
    def mean(cls, answers: Sequence[Answer], shares: Sequence[float]) -> Answer:
        """In shares."""

        def of(volumes: Sequence[Tensor | None]) -> Tensor | None:
            known = [share * volume for share, volume in zip(shares, volumes, strict=True) if volume is not None]
            return torch.stack(known).sum(dim=0) if known else None

        hidden = of([answer.hidden for answer in answers])
        assert hidden is not None
        return cls(hidden, of([answer.filled for answer in answers]), of([answer.back for answer in answers]))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Data that are left out as a test, in one or more parts that do not overlap; their shares sum to one.

    ``op`` and ``y`` are what to test on, where that is not the problem itself. ``beside`` are the data beside compact
    holes: a method that fills a hole well can predict them back from it, and so is tested at the very hole.
    """

    parts: tuple[Part, ...]
    op: LinearOperator | None = None
    y: Tensor | None = None
    beside: tuple[Part, ...] = ()

    @property
    def mask(self) -> Tensor:
        """1 where left out, ``y``-broadcastable."""
        return torch.stack([part.mask for part in self.parts]).sum(dim=0)

    @property
    def elsewhere(self) -> bool:
        """Whether the test is on another problem than the one to solve: what is found there is less sure here."""
        return self.op is not None

    @property
    def luck(self) -> float:
        """By how much a mixture may seem better than its best method where compact holes, few of them, are the test."""
        compact = [part for part in self.parts if part.holes]
        if not compact:
            return 0.0
        return _LUCK * sum(part.share for part in compact) / sum(part.holes for part in compact) ** 0.5

    @property
    def used(self) -> Tensor:
        """1 where the data may be used."""
        return 1 - self.mask

    def tested(self, problem: Problem) -> Problem:
        """The problem to test on, with all of its data."""
        if self.op is None or self.y is None:
            return problem
        grid = Geometry.from_spacing(self.op.domain.shape, (1.0, 1.0, 1.0))  # type: ignore[arg-type]
        return replace(problem, op=self.op, y=self.y, geometry=grid)

    def to_go_back(self, problem: Problem, filled: Tensor) -> Problem:
        """The problem with its holes ``filled`` as if measured, and what lies beside compact ones left out."""
        op: TraceMask = problem.op  # type: ignore[assignment]
        y = torch.where(op.known.expand_as(problem.y) > 0, problem.y, filled)
        return replace(problem, op=op.complete(), y=y, used=1 - torch.stack([part.mask for part in self.beside]).sum(0))

    def signal(self, problem: Problem) -> float:
        """Root mean square of what was left out, in the unit of :meth:`error`."""
        return Part("", 1.0, self.mask).rms(problem, problem.y)

    def error(self, problem: Problem, volume: Tensor) -> float:
        """Root-mean-square error of the prediction, in units of the noise where it is known.

        Of several parts each counts by its share, relative to its own signal: what is missing is as loud as the rest
        wherever the parts to test on happened to lie.
        """
        return float(self.products(problem, [Answer(volume)])[0, 0]) ** 0.5

    def products(self, problem: Problem, answers: Sequence[Answer]) -> np.ndarray:
        """Mean products ``(n, n)`` of the errors of these predictions: the square of `error`, and between.

        What was predicted back counts more than what was hidden in holes of its kind: it is about the hole itself.
        """
        residuals = [problem.op(answer.hidden) - problem.y for answer in answers]
        back = [problem.op(answer.back) - problem.y for answer in answers if answer.back is not None]
        found = [part.products(problem, residuals) for part in self.parts]
        if len(found) == 1 and not back:
            return found[0]
        again = {part.name: _relative(part, problem, part.products(problem, back)) for part in self.beside if back}
        total = np.zeros_like(found[0])
        for part, own in zip(self.parts, found, strict=True):
            relative = _relative(part, problem, own)
            if part.name in again:
                relative = (1 - _BACK) * relative + _BACK * again[part.name]
            total += part.share * relative
        return self.signal(problem) ** 2 * total

    def interval(self, problem: Problem, answer: Answer) -> dict[str, object]:
        """What these errors teach of how far a volume may be off; {} where data are not themselves what is wanted."""
        if getattr(problem.op, "known", None) is None:
            return {}
        predicted = ((answer.hidden, self.parts), (answer.back, self.beside))
        tests = [(volume, {p.name: p.mask for p in parts}) for volume, parts in predicted if volume is not None]
        return learnt_interval(problem, tests)


def _relative(part: Part, problem: Problem, products: np.ndarray) -> np.ndarray:
    return products / max(part.rms(problem, problem.y), _SILENT) ** 2


def diffusion_method(prior: Prior) -> str:
    """The diffusion method that ``auto`` considers: its settings are those of all presets of the one loop."""
    return GUIDED if isinstance(prior, NetworkPrior) and prior.guides else DIFFUSION


def classical_methods(problem: Problem) -> tuple[str, ...]:
    """Classical methods to choose from: total variation, or what the operator names."""
    found: tuple[str, ...] = getattr(problem.op, "classical_methods", (CLASSICAL,))
    return found


def starting_method(problem: Problem) -> str:
    """The classical method that a diffusion starts from, and is compared with, where no test has told the best.

    The first to choose from, if the operator does not name another.
    """
    found: str = getattr(problem.op, "starting_method", classical_methods(problem)[0])
    return found


def too_few_to_hide(problem: Problem) -> bool:
    """Whether there are not three groups of data (views, lines; live traces), of which one could be hidden."""
    groups = getattr(problem.op, "holdout_groups", None)
    return (problem.y.shape[getattr(problem.op, "holdout_axis", 0)] if groups is None else groups) < _FEWEST


def held_out(problem: Problem) -> HeldOut:
    """The data to leave out: every eighth view (line, trace group).

    An operator that knows better what to hide says so with ``held_out(y)``: traces do, after their holes.

    The operator's ``holdout_axis`` names the axis of the data that is held out as whole groups; at least one group
    is left out and at least two remain. The groups left out are spread evenly and do not start at the first.
    """
    if hasattr(problem.op, "held_out"):
        op, y, parts = problem.op.held_out(problem.y)
        if op is not problem.op:
            return HeldOut(tuple(Part(*part) for part in parts), op, y)
        hidden = tuple(Part(*part) for part in parts)
        names = [part.name for part in hidden]
        beside = tuple(Part(*part) for part in getattr(problem.op, "beside_holes", list)() if part[0] in names)
        return HeldOut(hidden, beside=beside)
    axis = getattr(problem.op, "holdout_axis", 0)
    groups = problem.y.shape[axis]
    count = max(1, groups // _SHARE)
    chosen = ((torch.arange(count) + 0.5) * groups / count).long()
    mask = torch.zeros(groups)
    mask[chosen] = 1
    shape = [1] * problem.y.ndim
    shape[axis] = groups
    return HeldOut((Part("groups", 1.0, mask.reshape(shape)),))


def select(
    problem: Problem,
    solve: Callable[[Problem, str, Tensor | None], Tensor],
    is_foreign: Callable[[Problem, Tensor], bool] = lambda problem, volume: False,
) -> Selection:
    """Choose the method for ``problem``.

    ``solve(problem, method, start)`` returns a volume in the problem's quantity; it is called for all candidates with a
    share of the data held out, and the one that predicts those data best is chosen. The diffusion method comes last and
    starts from the best of the others. A prediction that is a little better may be luck: a tenth is asked for where
    ``is_foreign(problem, volume)`` says that the classical volume shows nothing that the prior knows, and half of the
    luck of a mixture where few compact holes are the test.
    """
    classical = classical_methods(problem)
    if problem.prior is None and len(classical) == 1:
        return Selection(classical[0], "no prior was given", {}, classical[0])
    if too_few_to_hide(problem):
        return Selection(classical[0], "too few data to hold any out", {}, classical[0])
    held = held_out(problem)
    tested = held.tested(problem)
    reduced = replace(tested, used=held.used)

    def answer(method: str, start: Answer | None = None) -> Answer:
        first = (None, None, None) if start is None else (start.hidden, start.filled, start.back)
        hidden = solve(reduced, method, first[0])
        if not held.beside:
            return Answer(hidden)
        filled = solve(problem, method, first[1])
        return Answer(hidden, filled, solve(held.to_go_back(problem, filled), method, first[2]))

    answers = {method: answer(method) for method in classical}
    products = held.products(tested, list(answers.values()))
    errors = dict(zip(classical, np.sqrt(products.diagonal()).tolist(), strict=True))
    shares = best_shares(products)
    mixture = {method: share for method, share in zip(classical, shares.tolist(), strict=True) if share > 0}
    mixed, least = float(shares @ products @ shares) ** 0.5, (1 - held.luck) * min(errors.values())
    if len(mixture) > 1 and mixed < least and not held.elsewhere:  # other problems have other shares
        answers[MIXTURE] = Answer.mean([answers[method] for method in mixture], list(mixture.values()))
        errors[MIXTURE] = mixed
    method = best = min(errors, key=lambda name: errors[name])
    if problem.prior is not None:
        diffusion = diffusion_method(problem.prior)
        answers[diffusion] = answer(diffusion, answers[best])
        errors[diffusion] = float(held.products(tested, [answers[diffusion]])[0, 0]) ** 0.5
        foreign = is_foreign(reduced, answers[best].hidden)
        margin = _DOUBTED if foreign else _MARGIN - held.luck / 2
        method = diffusion if errors[diffusion] <= margin * errors[best] else best
    if classical != (CLASSICAL,):
        signal, hidden = held.signal(tested), _hidden(held, tested, answers)
        reason = _signal_to_noise(hidden, signal, errors)
        interval = held.interval(tested, answers[method])
        return Selection(method, reason, errors, best, signal, hidden, mixture if best == MIXTURE else {}, interval)
    words = "better" if method != best else "hardly better" if errors[diffusion] <= errors[best] else "worse"
    reason = (
        f"on held-out data the prior predicts {words} than total variation "
        f"({errors[diffusion]:.3g} against {errors[CLASSICAL]:.3g})"
    )
    if foreign:
        reason += ", and the object is much brighter or darker than those that it knows"
    return Selection(method, reason, errors, best)


def best_shares(products: np.ndarray) -> np.ndarray:
    """Shares, not negative and summing to one, of the mean with the smallest error; those that hardly count are zero.

    ``products`` are the mean products of the errors. On any set of methods the best shares that sum to one are
    ``P^-1 1`` up to a factor (Bates and Granger 1969); sets where one is negative are passed over, and of the others
    the best is taken.
    """
    count = len(products)
    regular = products + (_RIDGE * products.diagonal().min() + _SILENT) * np.eye(count)
    best, least = np.eye(count)[0], math.inf
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            shares = np.linalg.solve(regular[np.ix_(chosen, chosen)], np.ones(size))
            shares /= shares.sum()
            if shares.min() < _LEAST_SHARE:
                continue
            candidate = np.zeros(count)
            candidate[chosen] = shares
            if (error := float(candidate @ regular @ candidate)) < least:
                best, least = candidate, error
    best = best.round(3)
    best[best.argmax()] += 1 - best.sum()  # what rounding left over
    return best.round(3)


def _hidden(held: HeldOut, tested: Problem, answers: Mapping[str, Answer]) -> list[dict[str, object]]:
    """Of every part of the test what it was, and each method's error; what was predicted back follows its kind."""
    beside, found = {part.name: part for part in held.beside}, []
    for part in held.parts:
        back = _BACK * part.share if part.name in beside else 0.0
        own = replace(part, share=part.share - back)
        found.append(_of_part(tested, own, {name: answer.hidden for name, answer in answers.items()}))
        if back:
            own = replace(beside[part.name], name=f"{part.name}, predicted back", share=back)
            volumes = {name: answer.back for name, answer in answers.items() if answer.back is not None}
            found.append(_of_part(tested, own, volumes))
    return found


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
