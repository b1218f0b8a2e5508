"""A prior's card as text for a terminal: what one wants to know before using it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medrecon.cli import console

if TYPE_CHECKING:
    from medrecon.prior import PriorCard

_PSNR_OF_EARLIER_CARDS = "validation_psnr_db_range_2000"


def card_text(card: PriorCard) -> str:
    """Facts, then errors by noise level; the whole card, with its list of files, is for ``--json``."""
    parts = [f"{card.name}: {card.description or 'no description'}", console.table(_facts(card))]
    if levels := _levels(card):
        parts.append(levels)
    return "\n\n".join(parts)


def _facts(card: PriorCard) -> list[tuple[str, str]]:
    unit = _unit(card)
    low, high = card.spacing_mm
    channels = _count(card.architecture, "channels_in") - _count(card.architecture, "channels_out")
    mapped = bool(card.architecture.get("mapped"))
    guides, maps = (channels // 2, " and what was measured of them") if mapped else (channels, "")
    rows = [
        ("modality", card.modality),
        ("quantity", card.quantity),
        ("range", f"{card.range[0]:g} to {card.range[1]:g}{unit}"),
        ("network's unit", f"{card.scale:g}{unit}, its zero at {card.offset:g}{unit}"),
        ("pixels", f"{low:g} mm" if low == high else f"{low:g} to {high:g} mm"),
        ("orientation", card.orientation),
        ("noise levels", f"{card.sigma_min:g} to {card.sigma_max:g}{unit}"),
        ("guide", f"{guides} slices of a classical volume{maps}; works without" if guides > 0 else "none"),
        ("fast solvers", _measured(card)),
        *_settings(card),
        ("network", _network(card.architecture)),
        ("intervals", ", ".join(f"{c.method} with {c.samples}, {c.volumes} volumes" for c in card.calibration)),
        *_training(card.training),
        ("licence", card.licence),
        ("SHA-256", card.sha256),
    ]
    return [(name, value or "not said") for name, value in rows]


def _settings(card: PriorCard) -> list[tuple[str, str]]:
    """One row for each method whose settings suit the prior."""
    lines = [f"{method}: {in_words(said)}" for method, said in card.settings.items()] or ["the defaults"]
    return [("settings" if number == 0 else "", line) for number, line in enumerate(lines)]


def _measured(card: PriorCard) -> str:
    """What `priors stats` and `priors search` added."""
    searched = ", ".join(f"{entry['method']} {entry['steps']}" for entry in card.sequences)
    parts = ["model statistics"] if card.statistics else []
    return "; ".join(parts + ([f"searched levels for {searched}"] if searched else [])) or "nothing measured"


def in_words(settings: Mapping[str, object]) -> str:
    """Settings as they are said to ``--set``."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _unit(card: PriorCard) -> str:
    return "" if card.quantity in ("", "a.u.") else f" {card.quantity}"


def _count(values: Mapping[str, object], key: str) -> int:
    found = values.get(key, 1)
    return found if isinstance(found, int) else 1


def _network(architecture: Mapping[str, object]) -> str:
    if (family := architecture.get("family", "lean")) != "lean":
        return f"{family}, predicts {architecture.get('predicts')}"
    widths = architecture.get("widths")
    groups = _count(architecture, "channels_out")
    at_once = f", {groups} slices at once" if groups > 1 else ""
    return f"U-Net of {' '.join(map(str, widths))} channels{at_once}" if isinstance(widths, list | tuple) else ""


def _training(training: Mapping[str, object]) -> list[tuple[str, str]]:
    """Data, effort and the search for memorised slices, as far as the card tells."""
    data = [f"{training[key]} {key}" for key in ("volumes", "slices") if key in training]
    effort = [f"{training['steps']} steps"] if "steps" in training else []
    if isinstance(seconds := training.get("cpu_seconds"), int | float):
        effort.append(f"{seconds / 60:.0f} core-minutes")
    elif "core_minutes" in training:
        effort.append(f"{training['core_minutes']} core-minutes")
    rows = [("data", ", ".join(data)), ("training", ", ".join(effort))]
    sources = training.get("sources")
    rows += [("source", str(source)) for source in sources] if isinstance(sources, list) else []
    if isinstance(guides := training.get("guides"), str):
        rows.append(("guides", guides))
    found = _table_of(_table_of(training, "validation"), "memorisation")
    copies = [
        f"{figures['copies']} of {figures['slices']} {kind}"
        for kind, figures in found.items()
        if isinstance(figures, Mapping) and {"copies", "slices"} <= set(figures)
    ]
    return rows + ([("copied slices", ", ".join(copies))] if copies else [])


def _table_of(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _levels(card: PriorCard) -> str:
    """Errors and peak signal-to-noise ratios on validation slices, one row for each noise level of the card."""
    errors = dict(card.error_curve)
    figures = {"PSNR dB": _earlier_psnr(card), **_psnr(card)}
    figures = {name: found for name, found in figures.items() if found}
    levels = sorted(set(errors).union(*figures.values()))
    if not levels:
        return ""
    unit = _unit(card)
    header = (f"noise{unit}", f"error{unit}", *figures)
    rows = [
        (f"{level:g}", _number(errors.get(level), ".4g"), *(_number(f.get(level), ".2f") for f in figures.values()))
        for level in levels
    ]
    return "denoising of validation slices, without a guide\n\n" + console.table(rows, header)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _earlier_psnr(card: PriorCard) -> dict[float, float]:
    pairs = card.training.get(_PSNR_OF_EARLIER_CARDS)
    return {float(level): float(value) for level, value in pairs} if isinstance(pairs, list) else {}


def _psnr(card: PriorCard) -> dict[str, dict[float, float]]:
    """Of the network and of total variation; reports hold noise levels in the network's unit."""
    found = _table_of(_table_of(card.training, "validation"), "denoising_psnr")
    names = {"network": "PSNR dB", "tv": "of TV dB"}
    return {
        names[kind]: {round(float(level) * card.scale, 6): float(str(value)) for level, value in values.items()}
        for kind, values in found.items()
        if kind in names and isinstance(values, Mapping)
    }
