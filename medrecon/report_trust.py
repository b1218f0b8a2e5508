"""The section of a report that says how far to trust the volume: figures, and maps of what the data cannot decide."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from medrecon import figures
from medrecon import report_sections as parts
from medrecon.calibration import in_words
from medrecon.figures import PLANES, View

if TYPE_CHECKING:
    from medrecon.report import ReportData

_EXPLAINED = {
    "null-share": (
        "What the data cannot decide",
        "Share of the local detail that any other volume with the same data may have differently: 0 dark, 1 bright. No "
        "truth is needed for this map; it follows from the geometry and the noise.",
    ),
    "prior-only": (
        "What only the prior says",
        "Difference from the classical volume that the data cannot speak to. A structure that shows here and not in "
        "the volume beside it rests on the prior alone: it may be invented.",
    ),
    "half-width": (
        "How far the truth may be off",
        "Half-width of the interval around each voxel of the result. It is as wide as it had to be on the validation "
        "volumes, where the truth is known; it holds for scans and objects like those, on average over the object and "
        "not for each of its parts.",
    ),
}


def trust(data: ReportData, view: View) -> str:
    """Figures of the assessment and its maps; nothing where there is neither."""
    rows = _rows(data)
    maps = [_map(name, data, view) for name in _EXPLAINED if name in data.layers]
    if not rows and not maps:
        return ""
    body = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td><td>{escape(meaning)}</td></tr>'
        for name, value, meaning in rows
    )
    table = (
        f'<div class="scroll"><table class="trust"><thead><tr><th>figure</th><th class="number">value</th>'
        f"<th>what it says</th></tr></thead><tbody>{body}</tbody></table></div>"
        if rows
        else ""
    )
    intervals = data.assessment.get("intervals")
    said = ""
    if isinstance(intervals, Mapping):
        said = f'<p class="note">Intervals: {escape(in_words(intervals, data.volume.quantity))}{_held(data)}.</p>'
    return f"<h2>Trust</h2>{table}{said}{''.join(maps)}"


def _held(data: ReportData) -> str:
    """How much of the body they hold here, where the truth is known."""
    if data.truth is None or "half-width" not in data.layers:
        return ""
    inside = figures.body_mask(data.truth)
    held = np.abs(data.volume.array - data.truth.array) <= data.layers["half-width"].array
    return f"; here {float(np.mean(held[inside])):.1%} of the body's voxels are"


def _rows(data: ReportData) -> list[tuple[str, str, str]]:
    found, unit = data.assessment, data.volume.quantity
    rows: list[tuple[str, str, str]] = []

    def add(name: str, path: tuple[str, ...], form: str, meaning: str) -> None:
        value: object = found
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            rows.append((name, form.format(value), meaning))

    over = "noise" if data.noise_known else "data"
    add("residual", ("discrepancy",), "{:.3f}", f"over the {over}, all data; 1 is a fit to the noise")
    add("residual of the worst group", ("residual", "worst"), "{:.3f}", "one view, line of k-space or trace")
    add("worst over median group", ("residual", "worst_over_median"), "{:.2f}", "far above 1: some data do not fit in")
    add("chi-square, p", ("residual", "p_value"), "{:.2g}",
        "chance of such a residual if noise were all there is; near 0 where voxels stand for real objects")  # fmt: skip
    add("misfit of the moments", ("moments", "columns"), "{:.3f} columns",
        "centre and width of the views, against those of any object at the stated angles and axis")  # fmt: skip
    add("detail without data", ("null_space", "share"), "{:.0%}", "mean of the map below over the object")
    add("from the prior alone", ("prior_only", "rms"), "{:.3g} " + unit, "root mean square over the object")
    add("the same, of the contrast", ("prior_only", "relative_to_contrast"), "{:.1%}",
        "relative to the standard deviation over the object")  # fmt: skip
    add("error of the prior here", ("prior_fit", "error_ratio"), "{:.2f}", "over its error on its validation data")
    add("brightness", ("prior_fit", "brightness"), "{:.0f} " + unit,
        "upper quartile of the object; a wrong unit moves it from where the prior knows it")  # fmt: skip
    add("held-out data, result", ("held_out", "result"), "{:.3f}", f"prediction error over the {over}")
    add("held-out data, classical", ("held_out", "classical"), "{:.3f}", "of total variation, for comparison")
    add("spread over samples", ("spread", "rms"), "{:.3g} " + unit, "root mean square over the object")
    add("change under other noise", ("stability", "rms"), "{:.3g} " + unit, "of the volume, data measured again")
    return rows


def _map(name: str, data: ReportData, view: View) -> str:
    title, explanation = _EXPLAINED[name]
    layer, cells = data.layers[name].as_orientation("LPS"), []
    share, signed = name.endswith("share"), name == "prior-only"
    high = 1.0 if share else parts.nice(float(np.percentile(np.abs(layer.array), 99.5)))
    for plane in PLANES:
        size, image = parts.pixel_size(view, plane), view.plane(layer.array, plane)
        picture = figures.difference_png(image, high, size) if signed else figures.map_png(image, high, size)
        cells.append(parts.figure(plane, parts.img(picture, f"{title}, {plane}"), plane, size, kind="map"))
    unit = "" if share else f" {escape(layer.quantity)}"
    low = f"−{high:g}{unit}" if signed else "0"
    bar = parts.img(figures.colour_bar_png("difference" if signed else "map"), "scale")
    return (
        f'<h3>{escape(title)}</h3><p class="note">{escape(explanation)}</p>'
        f'<div class="scale"><span>{low}</span>{bar}<span>{"+" if signed else ""}{high:g}{unit}</span></div>'
        f'<div class="row" style="--columns:3">{"".join(cells)}</div>'
    )
