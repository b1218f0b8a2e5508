"""The sections of a report that show pictures: volumes, slice-to-slice steps, curves, spread."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from medrecon import figures
from medrecon.data.volume import Volume
from medrecon.figures import COLOURS, PLANES, Curve, View
from medrecon.image_quality import slice_steps

if TYPE_CHECKING:
    from medrecon.report import ReportData

_PIXELS = 384  # longest side of an image in the file
_NICE_LIMITS = (1, 2, 3, 5)
_PLOT = (5.6, 2.8)  # inches: small enough that the letters can be read on a telephone


def images(data: ReportData, volumes: Mapping[str, Volume], view: View) -> str:
    """Three planes of every volume in every window, and the differences."""
    windows = figures.windows_for(volumes["result"])
    labels = shown_names(data)
    differences = _differences(volumes, labels)
    body = figures.body_mask(volumes["result"])
    limit = nice(max((float(np.percentile(np.abs(d[body]), 96)) for _, d in differences), default=1.0))
    unit = data.volume.quantity
    rows = []
    for plane in PLANES:
        cells = []
        for name, volume in volumes.items():
            image, size = view.plane(volume.array, plane), pixel_size(view, plane)
            shown = "".join(
                img(figures.grey_png(image, window, size), f"{labels[name]}, {plane}, {window.name}", f"choice w{i}")
                for i, window in enumerate(windows)
            )
            cells.append(figure(labels[name], shown, plane, size))
        for label, difference in differences:
            size = pixel_size(view, plane)
            picture = figures.difference_png(view.plane(difference, plane), limit, size)
            cells.append(figure(label, img(picture, f"{label}, {plane}"), plane, size, kind="map"))
        rows.append(f'<h3>{plane}</h3><div class="row" style="--columns:{len(cells)}">{"".join(cells)}</div>')
    switches, rules = [], []
    for i, window in enumerate(windows):
        checked = " checked" if i == 0 else ""
        text = f"{window.name} ({window.low:g} to {window.high:g} {unit})"
        switches.append(
            f'<input type="radio" name="window" id="w{i}"{checked}><label for="w{i}">{escape(text)}</label>'
        )
        rules.append(f"#w{i}:checked~.planes .w{i}{{display:block}}")
    scale = (
        f'<div class="scale"><span>−{limit:g} {escape(unit)}</span>'
        f"{img(figures.colour_bar_png('difference'), 'scale')}"
        f"<span>+{limit:g} {escape(unit)}</span><span>differences</span></div>"
        if differences
        else ""
    )
    return (
        f"<h2>Volumes</h2><style>{''.join(rules)}</style>"
        f'<div class="windows">{"".join(switches)}{scale}<div class="planes">{"".join(rows)}</div></div>'
    )


def shown_names(data: ReportData) -> dict[str, str]:
    """What truth, baseline and result are called in the report."""
    return {"truth": "truth", "baseline": f"{data.baseline_method} (baseline)", "result": f"{data.method} (result)"}


def _differences(volumes: Mapping[str, Volume], labels: Mapping[str, str]) -> list[tuple[str, np.ndarray]]:
    if "truth" in volumes:
        truth = volumes["truth"].array
        return [
            (f"{labels[name].split(' (')[0]} − truth", volumes[name].array - truth)
            for name in ("baseline", "result")
            if name in volumes
        ]
    if "baseline" in volumes:
        return [("result − baseline", volumes["result"].array - volumes["baseline"].array)]
    return []


def flicker(data: ReportData, volumes: Mapping[str, Volume], view: View) -> str:
    """Narrow strips across the slices, and the mean step between neighbouring slices."""
    if data.volume.geometry.shape[0] < 3:
        return ""
    window = figures.windows_for(volumes["result"])[0]
    labels, parts = shown_names(data), []
    for plane in ("coronal", "sagittal"):
        cells = []
        for name, volume in volumes.items():
            strip = _middle(view.plane(volume.array, plane))
            size = (strip.shape[1], strip.shape[0])
            shown = img(figures.grey_png(strip, window, size), f"{labels[name]}, {plane} strip")
            cells.append(figure(labels[name], shown, plane, size, kind="strip", letters=False))
        parts.append(f'<h3>{plane} strips</h3><div class="row" style="--columns:{len(cells)}">{"".join(cells)}</div>')
    mask = figures.body_mask(volumes.get("truth", volumes["result"]))
    curves = []
    for name, volume in volumes.items():
        steps = slice_steps(volume.array, mask)
        curves.append(Curve(labels[name], np.arange(steps.size) + 0.5, steps, COLOURS[name], dashed=name == "truth"))
    picture = figures.plot_png(
        curves, x_label="slice", y_label=f"mean |step along z|, {data.volume.quantity}", size=_PLOT
    )
    return (
        "<h2>From slice to slice</h2>"
        '<p class="note">A prior that sees one slice at a time can flicker along z: horizontal bands in the strips, '
        "and a curve above that of the truth or the baseline.</p>"
        + "".join(parts)
        + img(picture, "Mean absolute step between neighbouring slices", "plot")
    )


def _middle(image: np.ndarray, rows: int = 32, columns: int = 80) -> np.ndarray:
    """The middle of an image, small enough that single slices can be seen."""
    top, left = (max(0, (n - m) // 2) for n, m in zip(image.shape, (rows, columns), strict=True))
    return image[top : top + rows, left : left + columns]


def residuals(data: ReportData) -> str:
    """The figures of each step and the residual of each view."""
    plots = []
    stages = list(dict.fromkeys(str(entry.get("stage")) for entry in data.history))
    palette = itertools.cycle((COLOURS["result"], "#0d9488", "#be185d", "#4d7c0f"))
    colours = {stage: COLOURS["baseline"] if stage == "baseline" else next(palette) for stage in stages}
    known = {"stage", "sample", "step"}
    figures_told = list(dict.fromkeys(key for entry in data.history for key in entry if key not in known))
    for key in sorted(figures_told, key=lambda k: (k != "discrepancy", figures_told.index(k)))[:6]:
        curves = []
        for stage in stages:
            points = [
                (float(entry["step"]), float(entry[key]))  # type: ignore[arg-type]
                for entry in data.history
                if entry.get("stage") == stage and entry.get("sample", 0) == 0 and key in entry
            ]
            if len(points) > 1:
                name = data.baseline_method if stage == "baseline" else stage
                curves.append(Curve(name, [p[0] for p in points], [p[1] for p in points], colours[stage]))
        if curves:
            values = [value for curve in curves for value in curve.y]
            if key != "discrepancy" and min(values) == max(values):
                continue  # a setting, not a course of events
            wide = min(values) > 0 and max(values) > 8 * min(values)
            reference = (1.0, "noise") if key == "discrepancy" and data.noise_known else None
            label = {"discrepancy": "residual / noise" if data.noise_known else "residual / data"}.get(key, key)
            picture = figures.plot_png(
                curves, x_label="step", y_label=label, logarithmic=wide, reference=reference, size=_PLOT
            )
            plots.append(img(picture, f"{label} by step", "plot"))
    if len(data.residual_per_view) > 1:
        curve = Curve("residual", range(len(data.residual_per_view)), list(data.residual_per_view), COLOURS["result"])
        reference = (1.0, "noise") if data.noise_known else None
        label = "residual / noise" if data.noise_known else "residual / data"
        picture = figures.plot_png([curve], x_label="view", y_label=label, reference=reference, size=_PLOT)
        plots.append(img(picture, "Residual of each view", "plot"))
    if not plots:
        return ""
    return f'<h2>Residual and convergence</h2><div class="plots">{"".join(plots)}</div>'


def measurement(data: ReportData) -> str:
    """What was measured, and where the residual lies."""
    if data.measurement is None:
        return ""
    note = "Coil maps of the middle slice, the mask, and the residual of the samples, over all coils."
    return f'<h2>Measurement</h2><p class="note">{note}</p>' + img(
        data.measurement, "Coil maps, mask, residual", "plot"
    )


def profile(data: ReportData, volumes: Mapping[str, Volume], view: View) -> str:
    """Values along one line."""
    labels, spacing = shown_names(data), data.volume.as_orientation("LPS").geometry.spacing
    curves = []
    for name, volume in volumes.items():
        values = volume.array[view.z, view.y]
        curves.append(
            Curve(labels[name], np.arange(values.size) * spacing[2], values, COLOURS[name], dashed=name == "truth")
        )
    picture = figures.plot_png(
        curves, x_label="mm, from the right side of the patient", y_label=data.volume.quantity, size=_PLOT
    )
    return (
        f'<h2>Profile</h2><p class="note">Across the axial plane shown above, slice {view.z}, row {view.y}.</p>'
        + img(picture, "Line profile", "plot")
    )


def spread(data: ReportData, view: View) -> str:
    """The standard deviation over samples."""
    if data.spread is None:
        return ""
    volume = data.spread.as_orientation("LPS")
    high = nice(float(np.percentile(volume.array, 99.5)))
    cells = []
    for plane in PLANES:
        size = pixel_size(view, plane)
        picture = figures.map_png(view.plane(volume.array, plane), high, size)
        cells.append(figure(plane, img(picture, f"spread, {plane}"), plane, size))
    text = f"Standard deviation over {data.samples} samples."
    if not np.any(data.spread.array):
        return f'<h2>Spread</h2><p class="note">The {data.samples} samples are equal: this method draws no noise.</p>'
    if data.truth is not None:
        error = np.abs(data.volume.array - data.truth.array)
        inside = figures.body_mask(data.truth)
        covered = float(np.mean(error[inside] <= 2 * data.spread.array[inside]))
        text += (
            f" The true error is within twice the spread in {covered:.0%} of the body's voxels (95 % if calibrated)."
        )
    else:
        text += " It shows where samples differ, not where they err together."
    unit = escape(data.volume.quantity)
    return (
        f'<h2>Spread</h2><p class="note">{escape(text)}</p><div class="scale"><span>0</span>'
        f"{img(figures.colour_bar_png('map'), 'scale')}<span>{high:g} {unit}</span></div>"
        f'<div class="row" style="--columns:3">{"".join(cells)}</div>'
    )


# --- small parts -----------------------------------------------------------------------------------------------
def img(content: bytes, text: str, kind: str = "") -> str:
    """A PNG inside the page."""
    encoded = base64.b64encode(content).decode("ascii")
    return f'<img class="{kind}" alt="{escape(text, quote=True)}" src="data:image/png;base64,{encoded}">'


def figure(label: str, shown: str, plane: str, size: tuple[int, int], *, kind: str = "", letters: bool = True) -> str:
    """One plane in its frame, with its name and the letters of its sides."""
    marks = "".join(f"<i>{letter}</i>" for letter in figures.plane_letters(plane)) if letters else ""
    return (
        f'<figure><figcaption><b>{escape(label)}</b></figcaption><div class="frame {kind}" '
        f'style="aspect-ratio:{size[0]}/{size[1]}">{shown}{marks}</div></figure>'
    )


def pixel_size(view: View, plane: str) -> tuple[int, int]:
    """Size of the image of a plane in the page."""
    width, height = view.size(plane)
    scale = _PIXELS / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def nice(value: float) -> float:
    """The next of 1, 2, 3, 5 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next((n * power for n in (*_NICE_LIMITS, 10) if n * power >= value * 0.999), 10 * power))
