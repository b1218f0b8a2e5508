"""How wide an interval must be to hold the truth as often as it says: learnt on volumes whose truth is known.

An interval is ``x +- factor * (scale + floor)`` with a map ``scale`` of where errors are to be expected, whatever its
unit and its faults, and a constant floor. Both numbers come from errors that were seen (split conformal prediction with
normalised scores: Lei et al. 2018, J. Am. Stat. Assoc. 113, section 5.2). Voxels of one volume resemble each other, so
they are not the units of the statistics; volumes are: the quantile of the scores is taken over each volume, and of
those quantiles one that is large among them (compare groups in Dunn et al. 2023, J. Am. Stat. Assoc. 118).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil, inf

import numpy as np

from medrecon.errors import InputError

LEVELS = (0.5, 0.9, 0.95)
"""Shares of the voxels that intervals are made for."""
LEVEL = 0.9
"""The one of them that maps are written for."""

_CONFIDENCE = 0.8  # wanted chance that a new volume is covered to the level or better
_FLOORS = np.geomspace(0.01, 30, 25)  # candidates, in medians of the error
_TOLERANCES = {"sampling": 1.25, "noise": 2.0}  # how far beyond the conditions of a calibration it still counts


@dataclass(frozen=True, eq=False)
class Case:
    """A reconstruction whose truth is known: errors ``|x - truth|`` and scales at the voxels of the object, ``(n,)``.

    ``volume`` names the truth: several measurements of one volume are no further volume.
    """

    volume: str
    errors: np.ndarray
    scales: np.ndarray

    def covered(self, factor: float, floor: float) -> float:
        """Share of the voxels whose truth lies in the interval."""
        return float(np.mean(self.errors <= factor * (self.scales + floor)))


@dataclass(frozen=True)
class Fit:
    """A floor, and a factor for each of `LEVELS`; ``confidence`` is the chance that a new volume is covered."""

    floor: float
    factors: tuple[float, ...]
    confidence: float


def learn(cases: Iterable[Case], floors: Sequence[float] | None = None) -> Fit:
    """The most probable floor, and the factors that go with it.

    Of ``n`` volumes the factor is the k-th smallest of their quantiles, ``k = ceil(0.8 (n + 1))`` or n where that is
    more: a new volume that is drawn as those were has a share of at least the level in its intervals with a chance of
    ``k / (n + 1)``. The floor is one number of a short grid, learnt on the same volumes; what that costs, those of
    `left_out` tell.

    Parameters
    ----------
    floors
        Candidates in the unit of the errors, by default a grid around their median.
    """
    cases = list(cases)
    candidates = candidate_floors(cases) if floors is None else floors
    floor = min(candidates, key=lambda floor: sum(_misfit(case, floor) for case in cases))
    volumes = sorted({case.volume for case in cases})
    order = min(len(volumes), ceil(_CONFIDENCE * (len(volumes) + 1)))
    quantiles = np.array([_quantiles(volume, cases, floor) for volume in volumes])
    factors = np.sort(quantiles, axis=0)[order - 1]
    return Fit(float(floor), tuple(map(float, factors)), order / (len(volumes) + 1))


def _misfit(case: Case, floor: float) -> float:
    """Minus the logarithm of the likelihood of Laplace errors of the best multiple of ``scale + floor``, per voxel.

    Its expectation is least at the true floor whatever law the scaled errors have (Jensen's inequality). The narrowest
    intervals would be another choice, and a bad one: they are bought with the voxels whose errors are large.
    """
    scales = case.scales + floor
    return float(np.log(max(float(np.mean(case.errors / scales)), 1e-30)) + np.mean(np.log(scales)))


def candidate_floors(cases: Sequence[Case]) -> list[float]:
    """A grid of floors around the median error of the cases."""
    middle = float(np.median([np.median(case.errors) for case in cases]))
    return [float(floor) * max(middle, 1e-9) for floor in _FLOORS]


def _quantiles(volume: str, cases: Sequence[Case], floor: float) -> np.ndarray:
    """Of the scores of one volume at each of `LEVELS`; of several measurements of it the largest."""
    of_cases = [
        np.quantile(case.errors / (case.scales + floor), LEVELS, method="higher")
        for case in cases
        if case.volume == volume
    ]
    return np.max(of_cases, axis=0)


def left_out(cases: Sequence[Case]) -> np.ndarray:
    """Coverage of each case by what the other volumes teach, ``(cases, levels)``."""
    floors, found = candidate_floors(cases), np.empty((len(cases), len(LEVELS)))
    for volume in {case.volume for case in cases}:
        fit = learn((case for case in cases if case.volume != volume), floors)
        for row, case in enumerate(cases):
            if case.volume == volume:
                found[row] = [case.covered(factor, fit.floor) for factor in fit.factors]
    return found


@dataclass(frozen=True)
class Calibration:
    """What was learnt of one method with one prior, as it stands in the prior's card.

    Attributes
    ----------
    method, samples, settings
        Whose results it is for; settings beyond those that it names do not matter.
    scale
        ``"spread"`` of the samples, or ``"change"`` from the classical volume.
    conditions
        Smallest and largest ``sampling`` (data over voxels) and ``noise`` (in internal units) of the scans.
    floor
        In the network's unit: 1 is ``PriorCard.scale``.
    factors, coverage
        For each level: ``(level, factor)``, and ``(level, lowest, mean, highest)`` share of the voxels of a volume that
        the other volumes' factors covered.
    volumes, confidence
        Number of volumes, and the chance that a new one is covered to the level or better.
    """

    method: str
    samples: int
    scale: str
    settings: Mapping[str, object]
    conditions: Mapping[str, tuple[float, float]]
    floor: float
    factors: tuple[tuple[float, float], ...]
    coverage: tuple[tuple[float, float, float, float], ...]
    volumes: int
    confidence: float

    @classmethod
    def of(
        cls, cases: Sequence[Case], method: str, samples: int, scale: str, settings: Mapping[str, object],
        conditions: Mapping[str, tuple[float, float]],
    ) -> Calibration:  # fmt: skip
        """Learnt on these cases. Raises InputError for fewer than two volumes, and for those without a voxel."""
        volumes = len({case.volume for case in cases})
        if volumes < 2:
            raise InputError(
                "intervals are learnt on several volumes, of different people",
                found=volumes,
                expected="2 or more, 4 say",
            )
        for case in cases:
            if case.errors.size == 0:
                raise InputError("there is no object in this volume to learn intervals on", where=case.volume)
        fit, covered = learn(cases), left_out(cases)
        return cls(
            method=method,
            samples=samples,
            scale=scale,
            settings=settings,
            conditions=conditions,
            floor=fit.floor,
            factors=tuple(zip(LEVELS, fit.factors, strict=True)),
            coverage=tuple(
                (level, float(column.min()), float(column.mean()), float(column.max()))
                for level, column in zip(LEVELS, covered.T, strict=True)
            ),
            volumes=volumes,
            confidence=fit.confidence,
        )

    @classmethod
    def from_dict(cls, values: object) -> Calibration:
        """From JSON values. Raises ValueError or TypeError for anything that is no calibration."""
        if not isinstance(values, Mapping) or {f.name for f in fields(cls)} != set(values):
            raise ValueError("a calibration has the fields " + ", ".join(f.name for f in fields(cls)))
        pairs = {name: tuple(tuple(map(float, row)) for row in values[name]) for name in ("factors", "coverage")}
        conditions = {name: (float(low), float(high)) for name, (low, high) in values["conditions"].items()}
        made = cls(**(dict(values) | pairs | {"conditions": conditions, "settings": dict(values["settings"])}))
        if not (
            0 <= made.floor < inf
            and made.samples >= 1
            and made.scale in ("spread", "change")
            and LEVEL in dict(made.factors)  # type: ignore[arg-type]
            and all(len(row) == 2 and 0 < row[0] < 1 and 0 <= row[1] < inf for row in made.factors)
            and all(len(row) == 4 and all(0 <= share <= 1 for share in row) for row in made.coverage)
        ):
            raise ValueError(f"an impossible calibration of {made.method}")
        return made

    def factor(self, level: float = LEVEL) -> float:
        """Of ``scale + floor``, for the half-width of the interval."""
        return dict(self.factors)[level]

    def misfit(self, settings: Mapping[str, object], conditions: Mapping[str, float]) -> str:
        """Why it does not hold for a run with these settings on data of these conditions; empty where it does."""
        other = [
            f"{name}={wanted}"
            for name, wanted in self.settings.items()
            if name in settings and _plain(settings[name]) != _plain(wanted)
        ]
        if other:
            return f"it was calibrated with {', '.join(other)}"
        for name, value in conditions.items():
            low, high = self.conditions.get(name, (0.0, inf))
            if not low / _TOLERANCES[name] <= value <= high * _TOLERANCES[name]:
                return f"it was calibrated at a {name} of {low:.3g} to {high:.3g}, this scan has {value:.3g}"
        return ""

    def replaces(self, other: Calibration) -> bool:
        """Whether both are for the same results, so that only one of them can stand in a card."""
        overlap = all(
            low <= other.conditions[name][1] and other.conditions[name][0] <= high
            for name, (low, high) in self.conditions.items()
            if name in other.conditions
        )
        mine, theirs = ((c.method, c.samples, _plain(c.settings)) for c in (self, other))
        return mine == theirs and overlap


def _plain(value: object) -> object:
    """A tuple and the list that JSON makes of it are the same."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def fitting(
    calibrations: Sequence[Calibration], method: str, samples: int, settings: Mapping[str, object],
    conditions: Mapping[str, float],
) -> tuple[Calibration | None, str]:  # fmt: skip
    """The calibration that holds for a run, and why none does."""
    reason = f"the prior has no calibration of {method} with {samples} sample{'s' * (samples > 1)}"
    for calibration in calibrations:
        if (calibration.method, calibration.samples) != (method, samples):
            continue
        reason = calibration.misfit(settings, conditions)
        if not reason:
            return calibration, ""
    return None, reason


def in_words(figures: Mapping[str, object], quantity: str) -> str:
    """The intervals of a result, as they stand in its assessment, in one sentence."""
    if not figures.get("calibrated"):
        return f"not calibrated: {figures.get('reason')}"
    if figures.get("of") == "hidden traces":
        return (
            f"{figures['level']:.0%} of the missing samples within +- {figures['mean_half_width']:.3g} in the mean, by "
            f"what was missed of {figures['traces']} hidden traces"
        )
    shares = figures["coverage"]
    assert isinstance(shares, Mapping)
    unit = "" if quantity == "a.u." else f" {quantity}"
    return (
        f"{figures['level']:.0%} within +- {figures['mean_half_width']:.3g}{unit} in the mean; on "
        f"{figures['volumes']} validation volumes {shares['lowest']:.1%} to {shares['highest']:.1%} were"
    )
