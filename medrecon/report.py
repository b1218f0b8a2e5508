"""The report of one reconstruction: a single HTML file with everything in it, no scripts and no links outside."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from medrecon import figures
from medrecon.data.atomic import atomic_write
from medrecon.data.provenance import jsonable
from medrecon.data.volume import Volume
from medrecon.errors import InputError
from medrecon.figures import COLOURS, PLANES, Curve, View

_PIXELS = 384  # longest side of an image in the file
_NICE_LIMITS = (1, 2, 3, 5)


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that a report shows; volumes lie on one grid.

    Attributes
    ----------
    title, method, baseline_method
        Names to show.
    volume, baseline, truth
        The result, the classical volume beside it, and what was simulated from where that is known.
    spread, samples
        Standard deviation over that many samples.
    history
        One mapping a step: ``stage``, ``sample``, ``step`` and the step's figures (``discrepancy``, ...).
    assessment
        ``discrepancy`` (residual over noise; residual over data where ``noise_known`` is false), ``baseline_discrepancy``.
    residual_per_view
        Root-mean-square residual of each view, in the units of ``assessment["discrepancy"]``.
    metrics
        ``{"result": {"psnr": ...}, "baseline": {...}}`` against the truth.
    settings, provenance
        Plain values, shown as they are.
    notes
        Sentences that the reader must know, such as how the data were simulated.
    """

    title: str
    volume: Volume
    method: str
    baseline: Volume | None = None
    baseline_method: str = "baseline"
    truth: Volume | None = None
    spread: Volume | None = None
    samples: int = 1
    uses_prior: bool = False
    noise_known: bool = True
    history: Sequence[Mapping[str, object]] = ()
    assessment: Mapping[str, object] = field(default_factory=dict)
    residual_per_view: Sequence[float] = ()
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("baseline", "truth", "spread"):
            other = getattr(self, name)
            if other is None:
                continue
            if not other.geometry.almost_equal(self.volume.geometry):
                raise InputError(
                    f"{name} and result lie on different grids",
                    found=other.geometry.shape,
                    expected=self.volume.geometry.shape,
                )
            if other.quantity != self.volume.quantity:
                raise InputError(
                    f"{name} and result have different quantities", found=other.quantity, expected=self.volume.quantity
                )

    def in_display_order(self) -> dict[str, Volume]:
        """Truth, baseline and result, those that there are, in LPS order."""
        named = {"truth": self.truth, "baseline": self.baseline, "result": self.volume}
        return {name: volume.as_orientation("LPS") for name, volume in named.items() if volume is not None}


def write_report(path: str | Path, data: ReportData, *, overwrite: bool = False) -> Path:
    """Write the report, whole or not at all. Raises what `atomic_write` raises."""
    text = render(data)
    return atomic_write(path, lambda target: _write_text(target, text), overwrite=overwrite)


def _write_text(target: Path, text: str) -> None:
    target.write_text(text, encoding="utf-8")


def render(data: ReportData) -> str:
    """The report as one HTML page."""
    volumes = data.in_display_order()
    view = View.through_body(volumes.get("truth", volumes["result"]))
    sections = [
        _head(data),
        _metrics_table(data),
        _images(data, volumes, view),
        _flicker(data, volumes, view),
        _residuals(data),
        _profile(data, volumes, view),
        _spread(data, view),
        _records(data),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.title)}</title><style>{style}</style></head><body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


# --- what it comes to ------------------------------------------------------------------------------------------
def verdict(data: ReportData) -> tuple[str, str, str]:
    """``(level, headline, detail)``; the level is ``good``, ``fair`` or ``poor``."""
    discrepancy = data.assessment.get("discrepancy")
    if not isinstance(discrepancy, int | float) or not np.isfinite(discrepancy):
        return "poor", "Not judged against the data", "No residual was recorded with this volume."
    if not data.noise_known:
        level, headline = "fair", f"Residual {discrepancy:.1%} of the data"
        detail = "The noise of the data is not known, so it cannot be said whether that is little or much."
    elif discrepancy > 2.0:
        level, headline = "poor", "Does not explain the measured data"
        detail = f"The residual is {discrepancy:.2f} times the noise: check geometry, units and noise model."
    elif discrepancy > 1.25:
        level, headline = "fair", "Explains the measured data, but not to their noise"
        detail = f"The residual is {discrepancy:.2f} times the noise."
    elif discrepancy < 0.6:
        level, headline = "fair", "Fits the noise of the data too"
        detail = f"The residual is {discrepancy:.2f} times the noise: the volume carries noise as structure."
    else:
        level, headline = "good", "Fits the measured data to their noise"
        detail = f"The residual is {discrepancy:.2f} times the noise."
    return level, headline, f"{detail}{_gain(data)}"


def _gain(data: ReportData) -> str:
    result, baseline = data.metrics.get("result", {}), data.metrics.get("baseline", {})
    if "psnr" not in result or "psnr" not in baseline:
        return ""
    gain = result["psnr"] - baseline["psnr"]
    return f" Against the truth it is {abs(gain):.1f} dB {'better' if gain >= 0 else 'worse'} than {data.baseline_method}."


def _head(data: ReportData) -> str:
    level, headline, detail = verdict(data)
    grid = data.volume.geometry
    facts = {
        "Method": data.method + (f", {data.samples} samples" if data.samples > 1 else ""),
        "Beside it": data.baseline_method if data.baseline is not None else "nothing",
        "Residual / noise" if data.noise_known else "Residual / data": _number(data.assessment.get("discrepancy")),
        "Grid (z, y, x)": " × ".join(str(n) for n in grid.shape),
        "Voxel (z, y, x)": " × ".join(f"{s:.3g}" for s in grid.spacing) + " mm",
        "Quantity": data.volume.quantity,
    }
    seconds = data.provenance.get("seconds")
    if isinstance(seconds, int | float):
        facts["Time"] = f"{seconds:.0f} s"
    tiles = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    notes = list(data.notes)
    if data.uses_prior:
        notes.append(
            "A trained prior filled in what the data do not determine. Fine structure that only this volume shows, and not "
            "the volume beside it, may be invented."
        )
    return (
        '<div class="kicker"><span>medrecon report</span><span class="research">research use only: not for diagnosis'
        f"</span></div><h1>{escape(data.title)}</h1>"
        f'<div class="verdict {level}"><strong>{escape(headline)}.</strong> {escape(detail)}</div>'
        f'<dl class="facts">{tiles}</dl>' + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    )


def _metrics_table(data: ReportData) -> str:
    result, baseline = data.metrics.get("result"), data.metrics.get("baseline")
    if not result:
        return ""
    names = [name for name in _METRIC_NAMES if isinstance(result.get(name), int | float)]
    body = []
    for name in names:
        cells = [f"<td>{escape(_METRIC_NAMES[name])}</td>"]
        if baseline:
            cells.append(f'<td class="number">{_number(baseline.get(name))}</td>')
        kind = ""
        if baseline and name in baseline:
            gain = _quality(name, result[name]) - _quality(name, baseline[name])
            kind = " better" if gain > 0 else " worse" if gain < 0 else ""
        cells.append(f'<td class="number{kind}">{_number(result[name])}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    columns = [data.baseline_method, data.method] if baseline else [data.method]
    heads = "".join(f'<th class="number">{escape(c)}</th>' for c in columns)
    return (
        f'<h2>Against the truth</h2><div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _quality(name: str, value: float) -> float:
    """The larger, the better."""
    if name == "z_roughness":  # 1 is right: neither flickering nor smeared
        return -abs(np.log(value)) if value > 0 else -np.inf
    return -value if name in ("rmse", "nmse") else value


_METRIC_NAMES = {
    "psnr": "PSNR, dB",
    "rmse": "RMSE",
    "nmse": "NMSE",
    "z_roughness": "roughness along z, relative to the truth",
    **{f"{figure}_{plane}": f"{figure.upper()}, {plane} planes" for figure in ("psnr", "ssim") for plane in PLANES},
    "ssim": "SSIM, mean of the planes",
}


# --- pictures --------------------------------------------------------------------------------------------------
def _images(data: ReportData, volumes: Mapping[str, Volume], view: View) -> str:
    windows = figures.windows_for(volumes["result"])
    labels = _labels(data)
    differences = _differences(volumes, labels)
    body = figures.body_mask(volumes["result"])
    limit = _nice(max((float(np.percentile(np.abs(d[body]), 96)) for _, d in differences), default=1.0))
    unit = data.volume.quantity
    rows = []
    for plane in PLANES:
        cells = []
        for name, volume in volumes.items():
            image, size = view.plane(volume.array, plane), _pixel_size(view, plane)
            shown = "".join(
                _img(figures.grey_png(image, window, size), f"{labels[name]}, {plane}, {window.name}", f"choice w{i}")
                for i, window in enumerate(windows)
            )
            cells.append(_figure(labels[name], shown, plane, size))
        for label, difference in differences:
            size = _pixel_size(view, plane)
            picture = figures.difference_png(view.plane(difference, plane), limit, size)
            cells.append(_figure(label, _img(picture, f"{label}, {plane}"), plane, size, kind="map"))
        rows.append(f'<h3>{plane}</h3><div class="row" style="--columns:{len(cells)}">{"".join(cells)}</div>')
    switches, rules = [], []
    for i, window in enumerate(windows):
        checked = " checked" if i == 0 else ""
        text = f"{window.name} ({window.low:g} to {window.high:g})"
        switches.append(f'<input type="radio" name="window" id="w{i}"{checked}><label for="w{i}">{escape(text)}</label>')
        rules.append(f"#w{i}:checked~.planes .w{i}{{display:block}}")
    scale = (
        f'<div class="scale"><span>−{limit:g} {escape(unit)}</span>{_img(figures.colour_bar_png("difference"), "scale")}'
        f"<span>+{limit:g} {escape(unit)}</span><span>differences</span></div>"
        if differences
        else ""
    )
    return (
        f"<h2>Volumes</h2><style>{''.join(rules)}</style>"
        f'<div class="windows">{"".join(switches)}{scale}<div class="planes">{"".join(rows)}</div></div>'
    )


def _labels(data: ReportData) -> dict[str, str]:
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


def _flicker(data: ReportData, volumes: Mapping[str, Volume], view: View) -> str:
    """Narrow strips across the slices, and the mean step between neighbouring slices."""
    if data.volume.geometry.shape[0] < 3:
        return ""
    window = figures.windows_for(volumes["result"])[0]
    labels, parts = _labels(data), []
    for plane in ("coronal", "sagittal"):
        cells = []
        for name, volume in volumes.items():
            strip = _middle(view.plane(volume.array, plane))
            size = (strip.shape[1], strip.shape[0])
            shown = _img(figures.grey_png(strip, window, size), f"{labels[name]}, {plane} strip")
            cells.append(_figure(labels[name], shown, plane, size, kind="strip", letters=False))
        parts.append(f'<h3>{plane} strips</h3><div class="row" style="--columns:{len(cells)}">{"".join(cells)}</div>')
    mask = figures.body_mask(volumes.get("truth", volumes["result"]))
    both = mask[1:] & mask[:-1]
    count = np.maximum(both.sum(axis=(1, 2)), 1)
    curves = []
    for name, volume in volumes.items():
        steps = (np.abs(np.diff(volume.array, axis=0)) * both).sum(axis=(1, 2)) / count
        curves.append(Curve(labels[name], np.arange(steps.size) + 0.5, steps, COLOURS[name], dashed=name == "truth"))
    picture = figures.plot_png(
        curves, x_label="slice", y_label=f"mean |step along z|, {data.volume.quantity}", size=(7.2, 2.8)
    )
    return (
        "<h2>From slice to slice</h2>"
        '<p class="note">A prior that sees one slice at a time can flicker along z: horizontal bands in the strips, and a curve '
        "above that of the truth or the baseline.</p>"
        + "".join(parts)
        + _img(picture, "Mean absolute step between neighbouring slices", "plot")
    )


def _middle(image: np.ndarray, rows: int = 32, columns: int = 80) -> np.ndarray:
    """The middle of an image, small enough that single slices can be seen."""
    top, left = (max(0, (n - m) // 2) for n, m in zip(image.shape, (rows, columns), strict=True))
    return image[top : top + rows, left : left + columns]


def _residuals(data: ReportData) -> str:
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
            positive = all(min(curve.y) > 0 for curve in curves)
            reference = (1.0, "noise") if key == "discrepancy" and data.noise_known else None
            label = {"discrepancy": "residual / noise" if data.noise_known else "residual / data"}.get(key, key)
            picture = figures.plot_png(
                curves, x_label="step", y_label=label, logarithmic=positive, reference=reference, size=(5.6, 2.8)
            )
            plots.append(_img(picture, f"{label} by step", "plot"))
    if len(data.residual_per_view) > 1:
        curve = Curve("residual", range(len(data.residual_per_view)), list(data.residual_per_view), COLOURS["result"])
        reference = (1.0, "noise") if data.noise_known else None
        label = "residual / noise" if data.noise_known else "residual / data"
        picture = figures.plot_png([curve], x_label="view", y_label=label, reference=reference, size=(5.6, 2.8))
        plots.append(_img(picture, "Residual of each view", "plot"))
    if not plots:
        return ""
    return f'<h2>Residual and convergence</h2><div class="plots">{"".join(plots)}</div>'


def _profile(data: ReportData, volumes: Mapping[str, Volume], view: View) -> str:
    labels, spacing = _labels(data), data.volume.as_orientation("LPS").geometry.spacing
    curves = []
    for name, volume in volumes.items():
        values = volume.array[view.z, view.y]
        curves.append(Curve(labels[name], np.arange(values.size) * spacing[2], values, COLOURS[name], dashed=name == "truth"))
    picture = figures.plot_png(curves, x_label="mm, from the right side of the patient", y_label=data.volume.quantity)
    return (
        f'<h2>Profile</h2><p class="note">Across the axial plane shown above, slice {view.z}, row {view.y}.</p>'
        + _img(picture, "Line profile", "plot")
    )


def _spread(data: ReportData, view: View) -> str:
    if data.spread is None:
        return ""
    volume = data.spread.as_orientation("LPS")
    high = _nice(float(np.percentile(volume.array, 99.5)))
    cells = []
    for plane in PLANES:
        size = _pixel_size(view, plane)
        picture = figures.map_png(view.plane(volume.array, plane), high, size)
        cells.append(_figure(plane, _img(picture, f"spread, {plane}"), plane, size))
    text = f"Standard deviation over {data.samples} samples."
    if data.truth is not None:
        error = np.abs(data.volume.array - data.truth.array)
        inside = figures.body_mask(data.truth)
        covered = float(np.mean(error[inside] <= 2 * data.spread.array[inside]))
        text += f" The true error is within twice the spread in {covered:.0%} of the body's voxels (95 % if calibrated)."
    else:
        text += " It shows where samples differ, not where they err together."
    unit = escape(data.volume.quantity)
    return (
        f'<h2>Spread</h2><p class="note">{escape(text)}</p><div class="scale"><span>0</span>'
        f"{_img(figures.colour_bar_png('map'), 'scale')}<span>{high:g} {unit}</span></div>"
        f'<div class="row" style="--columns:3">{"".join(cells)}</div>'
    )


# --- records ---------------------------------------------------------------------------------------------------
def _records(data: ReportData) -> str:
    blocks = [f"<h2>Settings</h2>{_pairs(data.settings)}" if data.settings else ""]
    if data.provenance:
        blocks.append(
            f"<h2>Provenance</h2><details open><summary>versions, inputs, hashes</summary>{_pairs(data.provenance)}</details>"
        )
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    blocks.append(
        f"<footer>Written {written} by medrecon. Research use only: this is not a medical device and the volume must "
        "not be used for diagnosis or treatment. Axial planes are seen from the feet: the patient's left is on the right."
        "</footer>"
    )
    return "".join(blocks)


def _pairs(values: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(text)}</td></tr>" for key, text in _flat(jsonable(values), "")
    )
    return f'<div class="scroll"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def _flat(value: object, prefix: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [pair for i, item in enumerate(value) for pair in _flat(item, f"{prefix}[{i}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(_number(item) for item in value) if len(value) <= 24 else f"{len(value)} values")]
    return [(prefix, _number(value))]


# --- small parts -----------------------------------------------------------------------------------------------
def _number(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:.1f}"
    return str(value)


def _img(content: bytes, text: str, kind: str = "") -> str:
    encoded = base64.b64encode(content).decode("ascii")
    return f'<img class="{kind}" alt="{escape(text, quote=True)}" src="data:image/png;base64,{encoded}">'


def _figure(
    label: str, shown: str, plane: str, size: tuple[int, int], *, kind: str = "", letters: bool = True
) -> str:
    marks = "".join(f"<i>{letter}</i>" for letter in figures.plane_letters(plane)) if letters else ""
    return (
        f'<figure><figcaption><b>{escape(label)}</b></figcaption><div class="frame {kind}" '
        f'style="aspect-ratio:{size[0]}/{size[1]}">{shown}{marks}</div></figure>'
    )


def _pixel_size(view: View, plane: str) -> tuple[int, int]:
    width, height = view.size(plane)
    scale = _PIXELS / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _nice(value: float) -> float:
    """The next of 1, 2, 3, 5 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next((n * power for n in (*_NICE_LIMITS, 10) if n * power >= value * 0.999), 10 * power))
