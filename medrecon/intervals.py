"""Intervals around a result: the map of where errors are to be expected, and how wide they must be.

The scale is the standard deviation of the samples where a method draws some, else the local root-mean-square change
from the classical volume: where a prior changed much, it may have erred much. Neither is an error bar by itself;
`medrecon.calibration` makes it one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medrecon.assess import local_mean, object_mask
from medrecon.calibration import LEVEL, Calibration, Case, fitting
from medrecon.data.volume import Volume, affine_between
from medrecon.errors import UsageError
from medrecon.problem import System
from medrecon.trace_intervals import half_width

if TYPE_CHECKING:
    from medrecon.engine import Result

_STRANGE = ("prior", "range", "units")  # reasons of a verdict: the object is none of those that one can calibrate on
_WEIGHTS = ("tv", "lam")  # settings that hold the weight of a model prior


def with_intervals(result: Result, system: System, learnt: Mapping[str, object] | None = None) -> Result:
    """The result with what is known of its intervals, and with the map of their half-widths where it is calibrated.

    ``system`` is the one that it was reconstructed from, ``learnt`` what hidden traces taught, if any were hidden: that
    holds with or without a prior. Other results without a prior stay as they are.
    """
    if learnt and result.status == "done":
        return _from_hidden_traces(result, system, learnt)
    if system.prior is None or result.baseline is None or result.provenance.get("prior") is None:
        return result
    calibration, reason = None, _excluded(result)
    if not reason:
        calibration, reason = fitting(
            system.prior.card.calibration, result.method, _samples(result), _settings(result), conditions(system)
        )
    if calibration is None:
        return _told(result, {"calibrated": False, "reason": reason})
    x, unit = system.internal(result.volume), _unit(system, result)
    width = calibration.factor() * (_scale(result, system)[0] + calibration.floor)
    if system.known is not None:
        width = width * (1 - system.known)  # measured voxels are kept as they are
    lowest, mean, highest = next(row[1:] for row in calibration.coverage if row[0] == LEVEL)
    figures = {
        "calibrated": True,
        "level": LEVEL,
        "mean_half_width": float(width[_judged(system, x)].mean()) * unit,
        "of": calibration.scale,
        "floor": calibration.floor * unit,
        "factors": {f"{level:g}": factor for level, factor in calibration.factors},
        "coverage": {"lowest": lowest, "mean": mean, "highest": highest},
        "volumes": calibration.volumes,
        "confidence": calibration.confidence,
    }
    layer = Volume((width * unit).numpy(), system.geometry, result.volume.quantity, {"map": "half-width"})
    return _told(replace(result, layers=result.layers | {"half-width": layer}), figures)


def _from_hidden_traces(result: Result, system: System, learnt: Mapping[str, object]) -> Result:
    """The result with the intervals that hidden traces of the same survey teach."""
    width = half_width(system.raw, torch.from_numpy(result.volume.array), learnt)
    missing = system.raw.op.known.expand_as(width) == 0  # type: ignore[attr-defined]
    figures = {
        "calibrated": True,
        "level": LEVEL,
        "mean_half_width": float(width[missing].mean()) if bool(missing.any()) else 0.0,
        "of": "hidden traces",
        **learnt,
    }
    layer = Volume(width.numpy(), system.geometry, result.volume.quantity, {"map": "half-width"})
    return _told(replace(result, layers=result.layers | {"half-width": layer}), figures)


def case_of(result: Result, system: System, truth: Volume, name: str) -> Case:
    """Errors and scales of a result whose truth is known, in internal units, for `Calibration.of`.

    Voxels count where the result or the truth is not empty space, and nowhere that they were measured themselves.

    Raises
    ------
    UsageError
        The spread of its samples is narrowed by a model prior, or it was made without a prior, or was stopped.
    InputError
        The truth lies on another grid, or holds NaN.
    """
    if reason := _excluded(result):
        raise UsageError("no intervals can be learnt for this method", where=result.method, found=reason)
    x, known = system.internal(result.volume), system.internal(truth, "the truth")
    scale, judged = _scale(result, system)[0], _judged(system, x) | _judged(system, known)
    return Case(name, (x - known).abs()[judged].numpy(), scale[judged].numpy())


def calibration_of(cases: Collection[Case], result: Result, systems: Collection[System]) -> Calibration:
    """Learnt on ``cases``; method and settings are those of one of the results, conditions those of all systems.

    Raises what `Calibration.of` raises.
    """
    found = [conditions(system) for system in systems]
    ranges = {name: (min(c[name] for c in found), max(c[name] for c in found)) for name in found[0]}
    scale = "change" if _spread(result) is None else "spread"
    return Calibration.of(list(cases), result.method, _samples(result), scale, _settings(result), ranges)


def conditions(system: System) -> dict[str, float]:
    """How a volume was measured, as far as it decides how wide intervals are: data over voxels, noise level."""
    return {"sampling": system.data_count / system.back_projection.numel(), "noise": system.noise_level}


def _excluded(result: Result) -> str:
    """Why no interval can be told of such a result, whatever was calibrated."""
    if result.provenance.get("prior") is None or result.baseline is None:
        return "it has no prior to calibrate"
    if result.status != "done":
        return "the run was stopped"
    if result.baseline_method == "given":
        return "the volume to start from was given"
    if _spread(result) is not None and any(_settings(result).get(name) for name in _WEIGHTS):
        return "a model prior beside the network narrows the spread of the samples: set its weight (tv, lam) to 0"
    verdict = result.assessment.get("verdict")
    found = verdict.get("reasons", []) if isinstance(verdict, Mapping) else []
    if strange := [reason for reason in found if reason in _STRANGE]:
        return f"the object is none of those that the prior knows ({', '.join(strange)})"
    return ""


def _scale(result: Result, system: System) -> tuple[Tensor, str]:
    """Where errors are to be expected, internal units, and what it is."""
    if (spread := _spread(result)) is not None:
        return torch.from_numpy(spread.array) / _unit(system, result), "spread"
    assert result.baseline is not None
    change = system.internal(result.volume) - system.internal(result.baseline)
    return local_mean(change.square()).clamp_min(0).sqrt(), "change"


def _spread(result: Result) -> Volume | None:
    """Of samples that differ; those of a method without randomness do not."""
    return result.spread if result.spread is not None and result.spread.array.any() else None


def _samples(result: Result) -> int:
    """Samples that tell something: one of a method without randomness."""
    return int(str(result.provenance["samples"])) if _spread(result) is not None else 1


def _settings(result: Result) -> Mapping[str, object]:
    settings = result.provenance["settings"]
    assert isinstance(settings, Mapping)
    return settings


def _unit(system: System, result: Result) -> float:
    """What an internal unit is in the quantity of the result."""
    raw = system.raw
    return abs(system.scale * affine_between(raw.quantity, result.volume.quantity, raw.water)[0])


def _judged(system: System, x: Tensor) -> Tensor:
    """Voxels that an interval is judged by: those of the object that were not measured themselves."""
    return object_mask(system, x) if system.known is None else system.known == 0


def _told(result: Result, figures: Mapping[str, object]) -> Result:
    return replace(result, assessment=result.assessment | {"intervals": dict(figures)})
