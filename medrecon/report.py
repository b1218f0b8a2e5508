"""The report of one reconstruction: a single HTML file with everything in it, no scripts and no links outside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from medrecon import report_sections as sections
from medrecon.data.atomic import atomic_write
from medrecon.data.provenance import jsonable
from medrecon.data.survey import Survey
from medrecon.data.volume import Volume
from medrecon.errors import InputError
from medrecon.figures import PLANES, View
from medrecon.report_physics import physics
from medrecon.report_seismic import facts as seismic_facts
from medrecon.report_seismic import seismic_sections
from medrecon.report_trust import trust


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
    layers
        Maps of the assessment, by name (see `medrecon.assess.LAYERS`).
    history
        One mapping a step: ``stage``, ``sample``, ``step`` and the step's figures (``discrepancy``, ...).
    assessment
        ``discrepancy`` (residual over noise; over the data where ``noise_known`` is false), ``baseline_discrepancy``.
    residual_per_view
        Root-mean-square residual of each view, in the units of ``assessment["discrepancy"]``.
    metrics
        ``{"result": {"psnr": ...}, "baseline": {...}}`` against the truth.
    settings, provenance
        Plain values, shown as they are.
    notes
        Sentences that the reader must know, such as how the data were simulated.
    measurement
        A PNG of how the data were measured and where they are not fitted.
    survey
        Of seismic traces: what the axes mean and why traces were missing. The report is then one of sections.
    whole
        The frame of the whole survey, where the volumes are some of its rows and columns.
    """

    title: str
    volume: Volume
    method: str
    baseline: Volume | None = None
    baseline_method: str = "baseline"
    truth: Volume | None = None
    spread: Volume | None = None
    layers: Mapping[str, Volume] = field(default_factory=dict)
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
    measurement: bytes | None = None
    survey: Survey | None = None
    whole: Survey | None = None

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
        shape = self.volume.as_orientation("LPS").geometry.shape
        if self.survey is not None and self.survey.state.shape != (shape[0], shape[2]):
            raise InputError("survey and result disagree", found=self.survey.state.shape, expected=shape)

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
    shown = _volume_sections(data) if data.survey is None else seismic_sections(data, data.survey)
    parts = [_head(data), _metrics_table(data), *shown, _records(data)]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.title)}</title><style>{style}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _volume_sections(data: ReportData) -> list[str]:
    """The parts of the page for a volume of a body."""
    volumes = data.in_display_order()
    view = View.through_body(volumes.get("truth", volumes["result"]))
    return [
        sections.images(data, volumes, view),
        sections.flicker(data, volumes, view),
        trust(data, view),
        sections.residuals(data),
        sections.measurement(data),
        sections.profile(data, volumes, view),
        physics(data, volumes),
        sections.spread(data, view),
    ]


# --- what it comes to ------------------------------------------------------------------------------------------
def verdict(data: ReportData) -> tuple[str, str, str]:
    """``(level, headline, detail)``; the level is ``good``, ``fair`` or ``poor``."""
    found = data.assessment.get("verdict")
    if isinstance(found, Mapping) and found.get("text"):
        headline, _, detail = str(found["text"]).partition(": ")
        return str(found["level"]), headline, f"{detail[:1].upper()}{detail[1:]}{_gain(data)}"
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
    figure = "psnr" if data.survey is None else "snr_missing"
    if figure not in result or figure not in baseline:
        return ""
    gain = result[figure] - baseline[figure]
    if abs(gain) < 0.05:
        return f" Against the truth it is as good as {data.baseline_method}."
    word = "better" if gain > 0 else "worse"
    return f" Against the truth it is {abs(gain):.1f} dB {word} than {data.baseline_method}."


def _head(data: ReportData) -> str:
    level, headline, detail = verdict(data)
    facts = {
        "Method": data.method + (f", {data.samples} samples" if data.samples > 1 else ""),
        "Beside it": data.baseline_method if data.baseline is not None else "nothing",
    } | (_grid_facts(data) if data.survey is None else seismic_facts(data, data.whole or data.survey))
    seconds = data.provenance.get("seconds")
    if isinstance(seconds, int | float):
        facts["Time"] = f"{seconds:.0f} s"
    tiles = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    notes = list(data.notes)
    if data.uses_prior:
        notes.append(
            "A trained prior filled in what the data do not determine. Fine structure that only this volume shows, and "
            "not the volume beside it, may be invented."
        )
    limits = "research use only: not for diagnosis" if data.survey is None else "research use only"
    return (
        f'<div class="kicker"><span>medrecon report</span><span class="research">{limits}'
        f"</span></div><h1>{escape(data.title)}</h1>"
        f'<div class="verdict {level}"><strong>{escape(headline)}.</strong> {escape(detail)}</div>'
        f'<dl class="facts">{tiles}</dl>' + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    )


def _grid_facts(data: ReportData) -> dict[str, str]:
    grid = data.volume.geometry
    return {
        "Residual / noise" if data.noise_known else "Residual / data": _number(data.assessment.get("discrepancy")),
        "Grid (z, y, x)": " × ".join(str(n) for n in grid.shape),
        "Voxel (z, y, x)": " × ".join(f"{s:.3g}" for s in grid.spacing) + " mm",
        "Quantity": data.volume.quantity,
    }


def _metrics_table(data: ReportData) -> str:
    result, baseline = data.metrics.get("result"), data.metrics.get("baseline")
    if not result:
        return ""
    names = [name for name in _METRIC_NAMES if isinstance(result.get(name), int | float)]
    body = []
    for name in names:
        cells = [f"<td>{escape(_METRIC_NAMES[name])}</td>"]
        shown, kind = _metric(name, result[name]), ""
        if baseline:
            beside = _metric(name, baseline.get(name))
            cells.append(f'<td class="number">{beside}</td>')
            if name in baseline and beside != shown:  # what looks equal is called equal
                gain = _quality(name, result[name]) - _quality(name, baseline[name])
                kind = " better" if gain > 0 else " worse" if gain < 0 else ""
        cells.append(f'<td class="number{kind}">{shown}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    columns = [data.baseline_method, data.method] if baseline else [data.method]
    heads = "".join(f'<th class="number">{escape(c)}</th>' for c in columns)
    return (
        f'<h2>Against the truth</h2><div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _metric(name: str, value: object) -> str:
    """With as many decimals in every column."""
    decimals = next((n for start, n in _DECIMALS.items() if name.startswith(start)), None)
    if decimals is None or not isinstance(value, int | float) or not np.isfinite(value):
        return _number(value)
    return f"{value:.{decimals}f}"


def _quality(name: str, value: float) -> float:
    """The larger, the better."""
    if name in ("z_roughness", "loudness"):  # 1 is right: neither flickering nor smeared, too loud nor too faint
        return -abs(np.log(value)) if value > 0 else -np.inf
    return -value if name in ("rmse", "nmse", "fk_error") else value


_DECIMALS = {"psnr": 2, "ssim": 4, "nmse": 5, "z_roughness": 3, "snr": 2, "correlation": 3, "loudness": 3, "fk": 3}
_METRIC_NAMES = {
    "snr_missing": "signal to noise of the missing traces, dB",
    "snr_all": "signal to noise of all traces, dB",
    "correlation": "correlation of the missing traces, mean",
    "loudness": "loudness of the missing traces, relative to the truth",
    "fk_error": "error of the f-k amplitude, relative",
    "psnr": "PSNR, dB",
    "rmse": "RMSE",
    "nmse": "NMSE",
    "z_roughness": "roughness along z, relative to the truth",
    **{f"{figure}_{plane}": f"{figure.upper()}, {plane} planes" for figure in ("psnr", "ssim") for plane in PLANES},
    "ssim": "SSIM, mean of the planes",
}


# --- records ---------------------------------------------------------------------------------------------------
def _records(data: ReportData) -> str:
    blocks = [f"<h2>Settings</h2>{_pairs(data.settings)}" if data.settings else ""]
    if data.provenance:
        blocks.append(
            "<h2>Provenance</h2><details open><summary>versions, inputs, hashes</summary>"
            f"{_pairs(data.provenance)}</details>"
        )
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    blocks.append(
        f"<footer>Written {written} by medrecon. Research use only: this is not a medical device and the volume must "
        "not be used for diagnosis or treatment. Axial planes are seen from the feet: the patient's left is on the "
        "right.</footer>"
        if data.survey is None
        else f"<footer>Written {written} by medrecon. Research use only.</footer>"
    )
    return "".join(blocks)


def _pairs(values: Mapping[str, object]) -> str:
    rows = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(text)}</dd></div>" for key, text in _flat(jsonable(values), "")
    )
    return f'<dl class="pairs">{rows}</dl>'


def _flat(value: object, prefix: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [pair for i, item in enumerate(value) for pair in _flat(item, f"{prefix}[{i}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(_number(item) for item in value) if len(value) <= 24 else f"{len(value)} values")]
    return [(prefix, _number(value))]


def _number(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:.6g}"
    if isinstance(value, list):
        return f"({', '.join(_number(item) for item in value)})"
    return str(value)
