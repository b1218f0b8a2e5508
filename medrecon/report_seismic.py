"""The report of a seismic result: live map, sections, wiggles, spectra, and how hidden traces were predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from medrecon import figures, seismic_figures
from medrecon import report_sections as parts
from medrecon.calibration import in_words
from medrecon.data.survey import Survey
from medrecon.data.trace_grid import Axis
from medrecon.data.traces import REASONS
from medrecon.data.volume import Volume
from medrecon.selection import decibels
from medrecon.trace_metrics import fk_amplitude

if TYPE_CHECKING:
    from medrecon.report import ReportData

_CLIP = 98.0  # percentile of live samples at which sections are black and white
_MOST_SAMPLES = 4_000_000  # for percentiles
_WIGGLES, _WIGGLE_SAMPLES = 32, 96
_LEAST_FK = 8  # traces along an axis that a spectrum needs
_KINDS = {"3d": "3D after stack", "2d": "2D line", "prestack": "before stack"}


@dataclass(frozen=True, eq=False)
class _Shown:
    """Volumes of sections ``(row, time, column)`` by name, and the planes through them to show."""

    survey: Survey
    volumes: Mapping[str, np.ndarray]
    labels: Mapping[str, str]
    differences: tuple[tuple[str, np.ndarray], ...]
    clip: float
    row: int
    column: int
    sample: int

    @classmethod
    def of(cls, data: ReportData, survey: Survey) -> _Shown:
        result = data.volume.as_orientation("LPS").array
        live = survey.live
        volumes = {"holes": np.where(live[:, None], result, np.float32(np.nan))}
        volumes |= {name: volume.array for name, volume in data.in_display_order().items() if name != "truth"}
        labels = {"holes": "with holes"} | parts.shown_names(data)
        truth = None if data.truth is None else data.truth.as_orientation("LPS").array
        beside = truth if truth is not None else volumes.get("baseline")
        differences = tuple(
            (f"{labels[name]} − {'truth' if truth is not None else labels['baseline']}", volumes[name] - beside)
            for name in ("baseline", "result")
            if beside is not None and name in volumes and volumes[name] is not beside
        )
        if truth is not None:
            volumes["truth"] = truth
        measured = np.abs(result.transpose(0, 2, 1)[live]).ravel()
        sampled = measured[:: max(1, measured.size // _MOST_SAMPLES)]
        clip = float(np.percentile(sampled, _CLIP)) if sampled.size else 0.0
        row, column = _most_missing(~live, 1), _most_missing(~live, 0)
        loudness = np.square(np.nan_to_num(volumes["holes"]), dtype=np.float64).sum(axis=(0, 2))
        return cls(survey, volumes, labels, differences, clip or float(np.abs(result).max()) or 1.0, row, column,
                   int(np.argmax(loudness)))  # fmt: skip


def _most_missing(missing: np.ndarray, axis: int) -> int:
    """The row (``axis`` 1) or column (0) with the most missing traces; of several the one nearest the middle."""
    counts = missing.sum(axis=axis)
    best = np.flatnonzero(counts == counts.max())
    return int(best[np.argmin(np.abs(best - (len(counts) - 1) / 2))])


def seismic_sections(data: ReportData, survey: Survey) -> list[str]:
    """The parts of the page between its head and its records."""
    shown = _Shown.of(data, survey)
    return [
        _hidden(data),
        _maps(data, shown),
        _sections(shown),
        _wiggles(shown),
        _spectra(shown),
        _interval(data, shown),
        _spread(data, shown),
        parts.residuals(data) if any("sigma" in entry for entry in data.history) else "",
        _file(survey),
    ]


def facts(data: ReportData, survey: Survey) -> dict[str, str]:
    """The tiles on top of the page."""
    missing = int((~survey.live).sum())
    samples = data.volume.as_orientation("LPS").geometry.shape[1]
    found = {
        "Survey": f"{_KINDS.get(survey.kind, survey.kind)}, {survey.rows.count} × {survey.columns.count} traces",
        "Rows": survey.rows.describe(),
        "Columns": survey.columns.describe(),
        "Samples": f"{samples} by {survey.interval:g} ms" + (f" from {survey.start:g} ms" if survey.start else ""),
        "Missing": f"{missing} ({missing / survey.state.size:.1%})",
    }
    if survey.bins is not None:
        sizes = " × ".join(f"{size:.4g}" for size in survey.bins if size)
        found["Bins"] = f"{sizes} {survey.length_unit}"
    signal, error = _held_out(data, "signal"), _held_out(data, "result")
    if signal is not None and error is not None:
        found["Hidden traces"] = f"{decibels(signal, error):.1f} dB"
    return found


def _held_out(data: ReportData, name: str) -> float | None:
    values = data.assessment.get("held_out")
    value = values.get(name) if isinstance(values, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


# --- how hidden traces were predicted --------------------------------------------------------------------------
def _hidden(data: ReportData) -> str:
    """The score of every candidate on live traces that were hidden from it, over all and by kind of hole."""
    chosen = data.assessment.get("selection")
    chosen = chosen if isinstance(chosen, Mapping) else {}
    scores, parts = _scores(chosen), chosen.get("hidden") or []
    if not scores:
        size = _held_out(data, "signal")
        for name, method in (("classical", "linear"), ("result", data.method)):
            error = _held_out(data, name)
            if size is not None and error is not None:
                scores[method] = decibels(size, error)
    if not scores:
        return ""
    columns = {"signal to noise, dB": scores}
    if len(parts) > 1:
        columns |= {f"{part['name']}, {part['share']:.0%}": _scores(part) for part in parts}
    best = {title: max(values.values()) for title, values in columns.items()}
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(_score(values[name], values[name] == best[title]) for title, values in columns.items())
        + "</tr>"
        for name in scores
    )
    heads = "".join(f'<th class="number">{escape(title)}</th>' for title in columns)
    said = " and ".join(f"{part['count']} in {part['name']}" for part in parts)
    return (
        '<h2>Hidden traces</h2><p class="note">Live traces were hidden, in holes like those there are'
        f"{f' ({said})' if said else ''}, and predicted from the others: what each method can do on this survey, "
        "without a truth. Kinds of holes count by their share of the missing traces; it says nothing of holes of "
        f"another form.{_BACK if any('back' in str(part['name']) for part in parts) else ''}</p>"
        f'<div class="scroll"><table><thead><tr><th>method</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


_BACK = (
    " Predicted back: a method fills the holes, and what lies beside them is hidden and predicted from what it filled, "
    "so that it is tested at the very hole."
)


def _scores(tested: Mapping[str, object]) -> dict[str, float]:
    """Decibels by method, from ``errors`` and ``signal``; {} where nothing was tested."""
    errors, signal = tested.get("errors"), tested.get("signal")
    if not isinstance(errors, Mapping) or not isinstance(signal, int | float):
        return {}
    return {str(name): decibels(signal, float(error)) for name, error in errors.items()}


def _score(value: float, best: bool) -> str:
    return f'<td class="number{" better" if best else ""}">{value:.1f}</td>'


# --- maps of traces ----------------------------------------------------------------------------------------------
def _maps(data: ReportData, shown: _Shown) -> str:
    survey, whole = shown.survey, data.whole or shown.survey
    cells = [_panel("live map", seismic_figures.live_map_png(whole), "Live and missing traces")]
    loudness = {
        name: np.sqrt(np.square(volume, dtype=np.float64).mean(axis=1))
        for name, volume in shown.volumes.items()
        if name in ("holes", "result", "truth")
    }
    high = parts.nice(float(np.nanpercentile(loudness["result"], 99)))
    for name, values in loudness.items():
        label = f"loudness, {shown.labels[name]}"
        cells.append(_panel(label, seismic_figures.trace_map_png(values, survey, high), label))
    entries = "".join(
        f'<span><i style="background:{seismic_figures.STATE_COLOURS[state]}"></i>'
        f"{escape(REASONS.get(state, 'live'))}: {count}</span>"
        for state, count in seismic_figures.legend(whole).items()
    )
    long = min(survey.state.shape) == 1
    return (
        f'<h2>Traces</h2><div class="legend">{entries}</div>{_scale("map", "0", f"{high:g}", "loudness of a trace")}'
        f'<div class="{"lines" if long else "panels"}">{"".join(cells)}</div>'
        '<p class="note">Loudness is the root mean square of a trace. Filled traces that are fainter than their '
        "neighbours were filled with too little.</p>"
    )


# --- sections ------------------------------------------------------------------------------------------------------
def _sections(shown: _Shown) -> str:
    survey = shown.survey
    planes = [(_named(survey.rows, shown.row), survey.columns, lambda volume: volume[shown.row])]
    if survey.rows.count > 1:
        planes.append((_named(survey.columns, shown.column), survey.rows, lambda volume: volume[:, :, shown.column].T))
    blocks = []
    for title, axis, cut in planes:
        cells = [
            _panel(shown.labels[name], seismic_figures.section_png(cut(volume), axis, survey, shown.clip),
                   f"{shown.labels[name]}, {title}")
            for name, volume in shown.volumes.items()
        ]  # fmt: skip
        cells += [
            _panel(label, seismic_figures.section_png(cut(difference), axis, survey, shown.clip, signed=True),
                   f"{label}, {title}")
            for label, difference in shown.differences
        ]  # fmt: skip
        blocks.append(f'<h3>{escape(title)}</h3><div class="panels">{"".join(cells)}</div>')
    if min(survey.state.shape) > 1:
        blocks.append(_time_slice(shown))
    limits = f"−{_amplitude(shown.clip)}", f"+{_amplitude(shown.clip)}"
    scales = _scale("grey", *limits, "amplitude")
    if shown.differences:
        scales += _scale("difference", *limits, "differences")
    return (
        f"<h2>Sections</h2>{scales}"
        f'<p class="note">Through the row and the column with the most missing traces. Black and white, and the '
        f"colours of the differences, end at the {_CLIP:g}th percentile of the live samples' sizes. Holes are "
        "sand-coloured.</p>" + "".join(blocks)
    )


def _time_slice(shown: _Shown) -> str:
    survey = shown.survey
    title = f"time slice, {survey.start + survey.interval * shown.sample:g} ms"
    cells = [
        _panel(shown.labels[name], seismic_figures.slice_png(volume[:, shown.sample], survey, shown.clip),
               f"{shown.labels[name]}, {title}")
        for name, volume in shown.volumes.items()
    ]  # fmt: skip
    cells += [
        _panel(label, seismic_figures.slice_png(difference[:, shown.sample], survey, shown.clip, signed=True),
               f"{label}, {title}")
        for label, difference in shown.differences
    ]  # fmt: skip
    return f'<h3>{escape(title)}</h3><div class="panels">{"".join(cells)}</div>'


def _wiggles(shown: _Shown) -> str:
    """Curves of the traces around the widest hole of the section shown."""
    survey = shown.survey
    if survey.columns.count > 1:
        axis, missing, title = survey.columns, ~survey.live[shown.row], _named(survey.rows, shown.row)
        sections = {name: volume[shown.row] for name, volume in shown.volumes.items()}
    else:
        axis, missing, title = survey.rows, ~survey.live[:, shown.column], _named(survey.columns, shown.column)
        sections = {name: volume[:, :, shown.column].T for name, volume in shown.volumes.items()}
    if not missing.any():
        return ""
    first, start = (
        _around(_widest(missing), _WIGGLES, len(missing)),
        _around((shown.sample, shown.sample + 1), _WIGGLE_SAMPLES, len(sections["result"])),
    )
    traces, samples = slice(first, first + _WIGGLES), slice(start, start + _WIGGLE_SAMPLES)
    new = missing[traces]
    cut = axis.part(traces)
    cells = []
    for name, section in sections.items():
        filled = new if name in ("result", "baseline") else np.zeros_like(new)
        picture = seismic_figures.wiggle_png(section[samples, traces], filled, cut, survey, start, shown.clip)
        cells.append(_panel(shown.labels[name], picture, f"wiggles, {shown.labels[name]}"))
    return (
        f'<h3>Wiggles, {escape(title)}</h3><p class="note">Around the widest hole of the section above and the loudest '
        f'time; filled traces in blue.</p><div class="panels">{"".join(cells)}</div>'
    )


def _widest(missing: np.ndarray) -> tuple[int, int]:
    """First and end of the longest run of missing traces."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(int), [0]])))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])


def _around(span: tuple[int, int], width: int, count: int) -> int:
    """Where a window of ``width`` begins that has the middle of ``span`` in its own, inside ``count``."""
    return int(np.clip((span[0] + span[1] - width) // 2, 0, max(count - width, 0)))


# --- spectra -------------------------------------------------------------------------------------------------------
def _spectra(shown: _Shown) -> str:
    survey, blocks = shown.survey, []
    row_size, column_size = survey.bins or (0.0, 0.0)
    for axis, size, turned in ((survey.columns, column_size, False), (survey.rows, row_size, True)):
        if axis.count < _LEAST_FK:
            continue
        found = {
            name: fk_amplitude(np.nan_to_num(volume.transpose(2, 1, 0) if turned else volume))
            for name, volume in shown.volumes.items()
        }
        loudest = float(max(spectrum.max() for name, spectrum in found.items() if name != "holes"))
        distance, unit = (size, survey.length_unit) if size > 0 else (1.0, "trace")
        cells = [
            _panel(shown.labels[name], seismic_figures.fk_png(spectrum, loudest, survey.interval, distance, unit),
                   f"f-k spectrum, {shown.labels[name]}")
            for name, spectrum in found.items()
        ]  # fmt: skip
        blocks.append(f'<h3>wavenumber over {escape(axis.name)}</h3><div class="panels">{"".join(cells)}</div>')
    if not blocks:
        return ""
    return (
        "<h2>Frequency and wavenumber</h2>"
        f"{_scale('map', f'−{-seismic_figures.FLOOR:g} dB', '0 dB', 'of the loudest')}"
        '<p class="note">Amplitude, averaged over the sections. Random holes smear energy over all wavenumbers, holes '
        "at regular distances repeat the spectrum; both should be gone from the result.</p>" + "".join(blocks)
    )


# --- spread --------------------------------------------------------------------------------------------------------
def _spread(data: ReportData, shown: _Shown) -> str:
    if data.spread is None:
        return ""
    text = f"Standard deviation over {data.samples} samples; live traces are sand-coloured."
    held = _held(data, shown, 2 * data.spread.as_orientation("LPS").array)
    if held is not None:
        text += f" The error is within twice the spread in {held:.0%} of the missing samples (95 % if calibrated)."
    else:
        text += " It shows where samples differ, not where they err together."
    return _by_trace("Spread", text, data.spread, shown, "spread")


def _interval(data: ReportData, shown: _Shown) -> str:
    """How far filled samples may be off, where hidden traces told."""
    told = data.assessment.get("intervals")
    if "half-width" not in data.layers or not isinstance(told, Mapping):
        return ""
    layer = data.layers["half-width"]
    text = (
        f"{in_words(told, layer.quantity)}. Half-widths of the intervals, root mean square of each trace; live traces "
        "are sand-coloured. On average over the missing traces they hold as far as those are like the hidden ones."
    )
    held = _held(data, shown, layer.as_orientation("LPS").array)
    if held is not None:
        text += f" Here {held:.0%} of the missing samples are."
    return _by_trace("How far filled samples may be off", text, layer, shown, "half-width")


def _held(data: ReportData, shown: _Shown, width: np.ndarray) -> float | None:
    """Share of the missing samples whose error is within ``width``, where the truth is known."""
    missing = ~shown.survey.live
    if data.truth is None or not missing.any():
        return None
    error = np.abs(shown.volumes["result"] - shown.volumes["truth"]).transpose(0, 2, 1)[missing]
    return float(np.mean(error <= width.transpose(0, 2, 1)[missing]))


def _by_trace(title: str, text: str, volume: Volume, shown: _Shown, name: str) -> str:
    """A section with a map of the root mean square of each missing trace."""
    survey, values = shown.survey, volume.as_orientation("LPS").array
    missing = ~survey.live
    each = np.sqrt(np.square(values, dtype=np.float64).mean(axis=1))
    high = parts.nice(float(np.percentile(values.transpose(0, 2, 1)[missing], 99))) if missing.any() else 1.0
    picture = seismic_figures.trace_map_png(np.where(missing, each, np.nan), survey, high)
    cell = _panel("filled traces", picture, f"{name.capitalize()} of each trace")
    long = min(survey.state.shape) == 1
    return (
        f'<h2>{escape(title)}</h2><p class="note">{escape(text)}</p>{_scale("map", "0", f"{high:g}", name)}'
        f'<div class="{"lines" if long else "panels"}">{cell}</div>'
    )


# --- the file ------------------------------------------------------------------------------------------------------
def _file(survey: Survey) -> str:
    about = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in survey.about.items()
    )
    text = "\n".join(survey.text)
    header = (
        f"<details><summary>textual header of the input</summary><pre>{escape(text)}</pre></details>" if text else ""
    )
    return (
        "<h2>File and headers</h2>"
        '<p class="note">Written as SEG-Y, live traces and their headers are those of the input, byte for byte. A '
        "filled trace has a header made from its neighbours: numbers that are constant or affine in row and column are "
        "continued, others are those of the nearest trace; it is marked by MDRC in bytes 233-236.</p>"
        + (f'<dl class="pairs">{about}</dl>' if about else "")
        + header
    )


# --- small parts ---------------------------------------------------------------------------------------------------
def _named(axis: Axis, index: int) -> str:
    """``inline 112``; of compound rows their count."""
    return f"{axis.name} {axis.first + index * axis.step}"


def _amplitude(value: float) -> str:
    """Three digits, without a power of ten where that is short."""
    return f"{float(f'{value:.3g}'):g}" if 1e-3 <= value < 1e6 else f"{value:.2e}"


def _panel(label: str, picture: bytes, words: str) -> str:
    return f"<figure><figcaption><b>{escape(label)}</b></figcaption>{parts.img(picture, words, 'panel')}</figure>"


def _scale(kind: str, low: str, high: str, what: str) -> str:
    bar = parts.img(figures.colour_bar_png(kind), "scale")
    return f'<div class="scale"><span>{low}</span>{bar}<span>{high}</span><span>{escape(what)}</span></div>'
