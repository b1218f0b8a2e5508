"""The card of a trained network."""

from __future__ import annotations

import json

import numpy as np

from medrecon.data.provenance import versions
from medrecon.metrics import PLANES
from medrecon.network import count_parameters
from medrecon.prior import ANY, EMPTY, PriorCard
from medrecon.training.corpus import STEP, Corpus
from medrecon.training.settings import TrainingSettings
from medrecon.training.state import TrainingState


def make_card(
    settings: TrainingSettings,
    state: TrainingState,
    training: Corpus,
    held: Corpus | None,
    report: dict,
    before: PriorCard | None,
    name: str,
) -> PriorCard:
    """Everything that is known about a network after its training.

    ``report`` is that of `medrecon.training.validate.full_report`, ``before`` the card of the prior started from.
    """
    intensity = training.intensity
    scale = intensity.scale or 1.0
    low, high = settings.sigma_trained()
    pixel = np.array([source.spacing[1:] for source in training.used])
    curve = {float(sigma): error for sigma, error in report.get("error_curve", {}).items()}
    seen = {"files": training.files(), "validation_files": held.files() if held is not None else []}
    values = (intensity.low, min(intensity.high, float(training.values.max()) * STEP))
    return PriorCard(
        name=settings.name or (before.name if before else name),
        quantity=intensity.quantity,
        scale=scale,
        offset=intensity.offset,
        sigma_min=low * scale,
        sigma_max=high * scale,
        range=(intensity.offset + scale * values[0], intensity.offset + scale * values[1]),
        spacing_mm=(float(pixel.min()), float(pixel.max())),
        architecture=state.mean.network.config.to_dict(),
        sigma_data=state.mean.sigma_data,
        guide_error=state.mean.guide_error,
        orientation=ANY if len(set(settings.planes)) == len(PLANES) else "LPS",
        modality=settings.modality,
        error_curve=tuple((sigma * scale, error * scale) for sigma, error in sorted(curve.items())),
        description=settings.description or (before.description if before else ""),
        training={
            "steps": state.step,
            "seconds": round(state.seconds),
            "cpu_seconds": round(state.cpu_seconds),
            "parameters": count_parameters(state.mean),
            "volumes": len({source.sha256 for source in training.used}),
            "slices": len(training),
            "pairs": state.pairs,
            "intensity": "one scale for all volumes"
            if intensity.scale
            else f"each volume divided by the {intensity.percentile} percentile of its magnitude",
            "settings": _plain(settings.to_dict()),
            "versions": versions(),
            "start": _start(before, seen) if before else None,
            **seen,
            "validation": report,
            "history": state.history,
        },
        licence=settings.licence or (before.licence if before else ""),
        brightness=_brightness(training) if intensity.scale else (),
    )


def _brightness(training: Corpus) -> tuple[float, ...]:
    """Lowest and highest upper quartile of the objects of all volumes, in the quantity; nothing where all is empty."""
    quartiles = []
    for source in np.unique(training.index[:, 0]):
        numbers = np.flatnonzero(training.index[:, 0] == source)
        values = np.concatenate([training.stored(int(i)).ravel()[::7] for i in numbers]) * STEP
        if (occupied := values > EMPTY).any():
            quartiles.append(float(np.quantile(values[occupied], 0.75)))
    scale, offset = training.intensity.scale or 1.0, training.intensity.offset
    return tuple(offset + scale * end for end in (min(quartiles), max(quartiles))) if quartiles else ()


def _start(before: PriorCard, seen: dict[str, list[dict]]) -> dict:
    """The prior that a training started from; of the files that it saw only those that this training did not see."""
    told = dict(before.training)
    for name, files in seen.items():
        if name in told:
            told[name] = [file for file in told[name] if file not in files]
    return {"name": before.name, "sha256": before.sha256, "training": told}


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))
