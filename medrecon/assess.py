"""How far a volume can be trusted: what the data say of it, what they cannot say, and what only the prior says.

Every figure works without knowing the truth. `assess` gathers them into plain values, maps and one sentence; the
functions beneath it can be called by themselves. All tensors are in the internal units of a `System`.

References: Bhadra et al. 2021 (null-space and hallucination maps, IEEE TMI 40(11)); Morozov 1966 (discrepancy).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from medrecon.consistency import moment_mismatch
from medrecon.noise import KeyedNoise
from medrecon.physics.seismic import TraceMask
from medrecon.prior import EMPTY, NetworkPrior
from medrecon.problem import System
from medrecon.selection import decibels
from medrecon.solvers import cg, least_squares_gram
from medrecon.trace_metrics import faint_share, loudness

DETAIL = 0.05
"""Amplitude of one voxel that matters, internal units: 50 HU, or a twentieth of a bright value."""

LAYERS = ("null-share", "prior-only", "half-width")
"""Maps that may stand beside a result; the last is made by `medrecon.intervals`."""

_PROBE_LEVELS = (0.3, 0.8)  # noise on the classical volume for the test of the prior, internal units
_NEIGHBOURHOOD = 2.0  # pixels: standard deviation of the window of local shares
_MOST_GROUPS = 512  # in the record


@dataclass(frozen=True)
class Thresholds:
    """Where a figure turns into a warning; `tests/bench/quality_trust.py` measures how often each is right.

    Attributes
    ----------
    residual
        Residual over noise above which the volume does not explain the data.
    overfit
        Residual over noise below which it explains their noise too.
    chance
        Chance of the residual, if noise were all there is, below which it is more than noise.
    uneven, uneven_noted
        Residual of a group (view, line, trace) over the median group: a warning, and worth a word.
    prior_error, guided_prior_error
        Error of the prior on this object over that on its card; a prior that is guided by the very volume that it is
        tested on does better than its card.
    moments, moments_poor
        Misfit of the moments of the views, in detector columns: worth care, and a wrong geometry.
    brightness
        How far the upper quartile of the object lies outside those of the objects that the prior was trained on, in
        internal units.
    held_out
        Prediction error of the prior's volume over that of the classical one.
    attenuation
        Median attenuation of the object over that of water, lowest and highest: beyond them a unit is wrong.
    unseen
        Root mean square, over the object, of what only the prior says, relative to the contrast of the object.
    hidden_good, hidden_poor
        Signal to noise on hidden live traces, dB: from here on the error is below a third of the signal; below there it
        is more than two thirds.
    faint
        Share of the filled traces with less than a third of the loudness of the nearest live one.
    """

    residual: float = 2.5
    overfit: float = 0.5
    chance: float = 0.001
    uneven: float = 3.0
    uneven_noted: float = 2.0
    prior_error: float = 2.5
    guided_prior_error: float = 0.8
    moments: float = 0.02
    moments_poor: float = 1.0
    brightness: float = 0.2
    held_out: float = 1.05
    attenuation: tuple[float, float] = (0.1, 3.0)
    unseen: float = 0.1
    hidden_good: float = 10.0
    hidden_poor: float = 3.0
    faint: float = 0.02


@dataclass(frozen=True, eq=False)
class Assessment:
    """Plain values for the record, and maps ``(z, y, x)`` in internal units (shares are from 0 to 1)."""

    figures: dict[str, object]
    maps: dict[str, Tensor] = field(default_factory=dict)


def assess(
    system: System,
    x: Tensor,
    *,
    classical: Tensor | None = None,
    spread: Tensor | None = None,
    held_out: Mapping[str, float] | None = None,
    stability: float | None = None,
    unit: float | None = None,
    thresholds: Thresholds | None = None,
) -> Assessment:
    """Judge ``x`` against the data of ``system``.

    Parameters
    ----------
    classical
        The volume without a prior, where ``x`` was made with one.
    spread
        Standard deviation over samples.
    held_out
        Prediction errors of held-out data: ``{"result": ..., "classical": ...}``.
    stability
        Root-mean-square change of the result under another draw of noise, internal units.
    unit
        What an internal unit is in the quantity of the figures; by default in that of the problem.
    """
    limits, inside = thresholds or Thresholds(), object_mask(system, x)
    unit = abs(system.scale) if unit is None else unit
    contrast = float(x[inside].std()) if int(inside.sum()) > 1 else 1.0
    groups, coil_axis = group_residuals(system, x), getattr(system.raw.op, "coil_axis", None)
    figures: dict[str, object] = {"discrepancy": system.discrepancy(x), "residual": chi_square(system, groups)}
    figures["residual_per_group"] = _at_most(groups, _MOST_GROUPS).tolist()
    if coil_axis is not None:
        figures["residual_per_coil"] = group_residuals(system, x, coil_axis).tolist()
    if system.raw.quantity == "1/mm":
        attenuation = system.to_quantity(x[inside].median())
        figures["attenuation_over_water"] = float(attenuation) / system.raw.water
    if (columns := moment_mismatch(system.raw)) is not None:
        figures["moments"] = {"columns": columns}
    maps, op = dict[str, Tensor](), system.raw.op
    if isinstance(op, TraceMask):  # whole traces are known or not: the live map says what the data cannot decide
        faint = faint_share(loudness(x.cpu().numpy()), op.live.cpu().numpy())
        figures["missing"] = {"share": op.missing_share, "faint": faint}
    else:
        measured, converged = measured_part(system, x)
        unmeasured = x - measured
        maps["null-share"] = detail_share(unmeasured, measured)
        figures["null_space"] = {
            "share": float(maps["null-share"][inside].mean()),
            "rms": rms(unmeasured[inside]) * unit,
            "detail": DETAIL * unit,
            "converged": converged,
        }
    if classical is not None:
        difference = x - classical
        unseen = difference - measured_part(system, difference)[0]
        maps["prior-only"] = unseen
        figures["prior_only"] = {
            "rms": rms(unseen[inside]) * unit,
            "difference_rms": rms(difference[inside]) * unit,
            "share_of_difference": (rms(unseen[inside]) / max(rms(difference[inside]), 1e-12)) ** 2,
            "relative_to_contrast": rms(unseen[inside]) / max(contrast, 1e-12),
            "largest": float(unseen.abs().max()) * unit,
        }
        figures["prior_fit"] = prior_fit(system, classical)
    if spread is not None:
        figures["spread"] = {"rms": rms(spread[inside]) * unit}
    if held_out:
        figures["held_out"] = dict(held_out)
    if stability is not None:
        figures["stability"] = {"rms": stability * unit}
    figures["verdict"] = verdict(figures, limits, noise_known=system.noise_level > 0)
    return Assessment(figures, maps)


# --- the data ----------------------------------------------------------------------------------------------------
def group_residuals(system: System, x: Tensor, axis: int | None = None) -> Tensor:
    """Root-mean-square residual over noise of each group of data: a view, a line of k-space, a trace.

    ``axis`` is that of the data whose indices are the groups: by default the one that is held out as a whole. Without
    a noise model: over the root mean square of the data. Groups without data (masked samples) are left out.
    """
    axis = int(getattr(system.raw.op, "holdout_axis", 0)) if axis is None else axis
    residual = system.data_residual(x).movedim(axis, 0).flatten(1)
    counted = ((residual != 0) | (system.y.movedim(axis, 0).flatten(1) != 0)).sum(dim=1)
    scale = system.noise_level or rms(system.y[system.y != 0])
    sums = residual.double().square().sum(dim=1)
    return (sums[counted > 0] / counted[counted > 0]).sqrt().float() / max(scale, 1e-30)


def chi_square(system: System, groups: Tensor) -> dict[str, object]:
    """How the residuals of the groups compare with what noise alone gives, and the group that fits worst.

    ``p_value`` is that of the sum of squares over all data (smaller means less likely by chance); a fit has fewer
    degrees of freedom than data, so it errs on the side of trust.
    """
    return chi_square_of(groups, system.data_count, noise_known=system.noise_level > 0)


def chi_square_of(groups: Tensor, count: int, *, noise_known: bool) -> dict[str, object]:
    """The same for groups of ``count`` data together."""
    from scipy.stats import chi2

    worst = int(groups.argmax())
    values: dict[str, object] = {
        "data": count,
        "groups": len(groups),
        "worst_group": worst,
        "worst": float(groups[worst]),
        "median": float(groups.median()),
        "worst_over_median": float(groups[worst] / groups.median().clamp_min(1e-30)),
    }
    if noise_known:
        total = float(groups.double().square().mean()) * count
        values["p_value"] = float(chi2.sf(total, count))
        values["standard_errors"] = (total / count - 1) * sqrt(count / 2)
    return values


# --- what the data cannot speak to -------------------------------------------------------------------------------
def measured_part(system: System, x: Tensor, *, detail: float = DETAIL, iterations: int = 80) -> tuple[Tensor, bool]:
    """The part of ``x`` that the data determine, ``A^+ A x``, and whether the iteration converged.

    ``A^+ = (A'A + (s / detail)^2)^-1 A'`` with the noise level ``s``: what noise hides at the amplitude ``detail``
    counts as not measured, as the exact null space does. The rest, ``x - A^+ A x``, is what any other volume that fits
    the data may have differently.
    """
    damping = max((system.noise_level / detail) ** 2, 1e-6)
    solved = cg(least_squares_gram(system.op, damping), system.op.normal(x), max_iterations=iterations, tolerance=2e-3)
    return solved.x, solved.converged


def detail_share(unmeasured: Tensor, measured: Tensor) -> Tensor:
    """Share of the local detail, from 0 to 1, that lies in the part without data.

    Detail is what differs from the local mean; energies are taken over a Gaussian neighbourhood in each slice.
    """
    energies = [local_mean((part - local_mean(part)).square()) for part in (unmeasured, measured)]
    total = energies[0] + energies[1]
    floor = 1e-4 * float(total.mean()) + 1e-20
    return energies[0] / (total + floor)


def local_mean(x: Tensor) -> Tensor:
    """Each slice of ``(z, y, x)`` under a Gaussian window of 2 pixels (standard deviation)."""
    radius = int(3 * _NEIGHBOURHOOD)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / _NEIGHBOURHOOD) ** 2)
    kernel = kernel / kernel.sum()
    slices = functional.pad(x[:, None], (radius,) * 4, mode="replicate")
    slices = functional.conv2d(slices, kernel[None, None, :, None])
    return functional.conv2d(slices, kernel[None, None, None, :])[:, 0]


# --- the prior -----------------------------------------------------------------------------------------------------
def prior_fit(system: System, classical: Tensor) -> dict[str, object]:
    """Whether the prior knows such objects: its range, and its error on the classical volume with noise added.

    A prior that was trained on such objects takes the noise off and leaves the volume; its error is then near that on
    its validation data. A prior of something else pulls the volume towards what it knows.
    """
    prior, system = system.prior, replace(system, start=classical)
    assert prior is not None
    card, rows, columns = prior.card, *system.region
    ratios = {}
    for level in _PROBE_LEVELS:
        sigma = level * card.scale
        if not card.sigma_min <= sigma <= card.sigma_max:
            continue
        noisy = classical + level * KeyedNoise(0).volume(0, system.geometry.shape)
        error = (system.denoise(noisy, level) - classical)[:, rows, columns]
        ratios[f"{sigma:g}"] = rms(error) * card.scale / prior.rms_error(sigma)
    low, high = (
        float(v) * card.scale + card.offset
        for v in torch.quantile(_thinned(classical.flatten()), torch.tensor([0.01, 0.99]))
    )
    bright, strange = brightness(system, classical)
    width = card.range[1] - card.range[0]
    outside = max(card.range[0] - low, high - card.range[1], 0.0) / width
    return {
        "error_ratio": max(ratios.values(), default=None),
        "error_ratios": ratios,
        "outside_range": outside,
        "brightness": bright,
        "brightness_outside": strange,
        "validated": bool(card.error_curve),
        "guided": isinstance(prior, NetworkPrior) and prior.guides > 0,
    }


def brightness(system: System, classical: Tensor) -> tuple[float | None, float]:
    """Upper quartile of the object, in the prior's quantity, and how far it lies outside those that the prior knows.

    The distance is in internal units; nothing, and no distance, where the card of the prior does not say.
    """
    card = None if system.prior is None else system.prior.card
    if card is None or not card.brightness:
        return None, 0.0
    bright = float(_thinned(classical[object_mask(system, classical)]).quantile(0.75)) * card.scale + card.offset
    return bright, max(card.brightness[0] - bright, bright - card.brightness[1], 0.0) / card.scale


def is_foreign(system: System, classical: Tensor) -> bool:
    """Whether the object is so bright or dark that it is none of those that the prior was trained on."""
    return brightness(system, classical)[1] > Thresholds().brightness


# --- in words --------------------------------------------------------------------------------------------------------
def verdict(figures: Mapping[str, object], limits: Thresholds, *, noise_known: bool) -> dict[str, object]:
    """``{"level": good | fair | poor, "text": one sentence, "reasons": [names of what raised a warning]}``."""
    if _number(figures, "missing", "share") is not None:
        return _verdict_of_traces(figures, limits)
    poor, fair, said = [], [], []
    discrepancy = _number(figures, "discrepancy") or 0.0
    chance = _number(figures, "residual", "p_value")
    only_noise = noise_known and (chance is None or chance >= limits.chance)
    if noise_known:
        said.append(f"the residual is {discrepancy:.2f} times the noise")
        if discrepancy > limits.residual:
            poor.append("residual")
            said.append("so geometry, units or noise are not as stated, or the prior overrules the data")
        elif discrepancy < limits.overfit:
            fair.append("overfit")
        elif not only_noise:
            said.append("more than noise alone leaves, as voxels cannot show a real object exactly")
    else:
        said.append(f"the residual is {discrepancy:.1%} of the data, whose noise is not known")
        fair.append("noise unknown")
    uneven = _number(figures, "residual", "worst_over_median") or 1.0
    if uneven > limits.uneven and (not noise_known or (_number(figures, "residual", "worst") or 0) > limits.residual):
        poor.append("uneven")
        said.append(f"one group of data fits {uneven:.1f} times worse than most")
    elif uneven > limits.uneven_noted:
        said.append(f"the worst group of data fits {uneven:.1f} times worse than the median one")
    columns = _number(figures, "moments", "columns") or 0.0
    if columns > limits.moments:
        (poor if columns > limits.moments_poor else fair).append("moments")
        said.append(f"the views cannot all be of one object at the stated angles and axis ({columns:.2g} columns off)")
    attenuation = _number(figures, "attenuation_over_water")
    if attenuation is not None and not limits.attenuation[0] <= attenuation <= limits.attenuation[1]:
        poor.append("units")
        said.append(f"the object attenuates {attenuation:.3g} times as much as water, so a unit must be wrong")
    share = _number(figures, "null_space", "share")
    if share is not None:
        said.append(f"{share:.0%} of the detail lies where the data cannot decide")
    unseen = _number(figures, "prior_only", "relative_to_contrast")
    if unseen is not None:
        said.append(f"the prior alone added {unseen:.1%} of the contrast")
        if unseen > limits.unseen:
            fair.append("prior-made detail")
    ratio = _number(figures, "prior_fit", "error_ratio")
    guided = bool(_mapping(figures.get("prior_fit")).get("guided"))
    if ratio is not None and ratio > (limits.guided_prior_error if guided else limits.prior_error):
        poor.append("prior")
        said.append(f"the prior errs {ratio:.1f} times as much on this object as on those it was validated on")
    if (_number(figures, "prior_fit", "brightness_outside") or 0.0) > limits.brightness:
        poor.append("brightness")
        said.append(
            "the object is much brighter or darker than those that the prior was trained on, as with a wrong unit"
        )
    if (_number(figures, "prior_fit", "outside_range") or 0.0) > 0.25:
        poor.append("range")
        said.append("the values lie outside the range that the prior was trained on")
    result, classical = _number(figures, "held_out", "result"), _number(figures, "held_out", "classical")
    if result is not None and classical is not None:
        said.append(f"it predicts held-out data to {result:.2f} against {classical:.2f} of the classical volume")
        if result > limits.held_out * classical:
            fair.append("held-out")
    level = "poor" if poor else "fair" if fair else "good"
    opening = {
        "good": "Consistent with the data" + (" and the noise" if only_noise else ", up to the error of the model"),
        "fair": "Usable with care",
        "poor": "Not to be trusted as it is",
    }[level]
    return {"level": level, "text": f"{opening}: {', '.join(said)}.", "reasons": poor + fair}


def _verdict_of_traces(figures: Mapping[str, object], limits: Thresholds) -> dict[str, object]:
    """Live traces are kept as they are, so it is hidden ones that tell how good the filled ones are."""
    share, faint = (_number(figures, "missing", name) or 0.0 for name in ("share", "faint"))
    if share == 0:
        return {"level": "good", "text": "Nothing to fill: no trace was missing.", "reasons": []}
    poor, fair = [], []
    said = [f"{share:.1%} of the traces were missing"]
    signal, result, classical = (_number(figures, "held_out", name) for name in ("signal", "result", "classical"))
    if signal is None or result is None:
        fair.append("not tested")
        said.append("and no live trace was hidden to test how well they are predicted")
    else:
        found = decibels(signal, result)
        said.append(f"hidden live traces are predicted to {found:.1f} dB")
        if classical not in (None, result):
            said.append(f"by a classical method to {decibels(signal, classical):.1f} dB")
        if found < limits.hidden_poor:
            poor.append("hidden traces")
        elif found < limits.hidden_good:
            fair.append("hidden traces")
        if classical is not None and result > limits.held_out * classical:
            fair.append("worse than classical")
    if faint > limits.faint:
        fair.append("faint")
        said.append(f"{faint:.0%} of the filled ones are fainter than a third of the nearest live one")
    ratio = _number(figures, "prior_fit", "error_ratio")
    guided = bool(_mapping(figures.get("prior_fit")).get("guided"))
    if ratio is not None and ratio > (limits.guided_prior_error if guided else limits.prior_error):
        poor.append("prior")
        said.append(f"the prior errs {ratio:.1f} times as much on this survey as on those it was validated on")
    level = "poor" if poor else "fair" if fair else "good"
    opening = {
        "good": "Live traces are predicted well",
        "fair": "Usable with care",
        "poor": "Filled traces are not to be trusted",
    }[level]
    return {"level": level, "text": f"{opening}: {', '.join(said)}.", "reasons": poor + fair}


def _number(figures: Mapping[str, object], *path: str) -> float | None:
    value: object = figures
    for key in path:
        value = _mapping(value).get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


# --- small parts -----------------------------------------------------------------------------------------------------
def object_mask(system: System, x: Tensor) -> Tensor:
    """Where the object is: voxels that differ from empty space; all where nothing does."""
    occupied = (x - system.background).abs() > EMPTY
    return occupied if bool(occupied.any()) else torch.ones_like(occupied)


def _thinned(values: Tensor, count: int = 100_000) -> Tensor:
    """About ``count`` of them, evenly spread: as many as quantiles need."""
    return values[:: max(1, values.numel() // count)]


def _at_most(groups: Tensor, count: int) -> Tensor:
    """Root mean squares of neighbouring groups where there are more than ``count``."""
    if len(groups) <= count:
        return groups
    return torch.stack([part.square().mean().sqrt() for part in groups.tensor_split(count)])


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.double().square().mean().sqrt()) if x.numel() else 0.0
