"""Pictures of seismic sections, maps of traces and spectra, as PNG bytes with axes a geophysicist reads.

Time runs downwards in milliseconds; traces carry their header numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.survey import Survey
from medrecon.data.trace_grid import Axis
from medrecon.data.traces import State
from medrecon.figures import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

STATE_COLOURS = {
    State.live: "#cbd5e1",
    State.absent: "#1d4ed8",
    State.marked_dead: "#dc2626",
    State.zero: "#f59e0b",
    State.not_finite: "#7c3aed",
    State.outlier: "#0d9488",
}
"""Of the live map."""

FLOOR = -60.0
"""Decibels below the loudest at which spectra turn black."""

_HOLE = "#f5e6c4"  # where a section has no trace: told apart from grey, which is silence
_FILLED = "#1d4ed8"
_INK = "#1f2937"
_PANEL = (3.3, 3.1)  # inches
_LONG, _SHORT = 8.0, 1.3  # map of a survey of one row
_DPI = 130
_FEW = 16  # rows: a section across fewer is not shown


def section_png(image: np.ndarray, traces: Axis, survey: Survey, clip: float, *, signed: bool = False) -> bytes:
    """A section ``(time, trace)`` from -clip (black) to +clip (white); NaN is a hole. ``signed``: red and blue."""
    figure, axes = _axes(_PANEL)
    low, high = _times(survey, image.shape[0])
    _show(axes, image, (*_ends(traces), high, low), clip, signed)
    axes.set_xlabel(_label(traces))
    axes.set_ylabel("ms")
    _on_top(axes)
    return save(figure)


def slice_png(image: np.ndarray, survey: Survey, clip: float, *, signed: bool = False) -> bytes:
    """A time slice ``(row, column)`` on the same scale."""
    figure, axes = _axes(_PANEL)
    left, right = _ends(survey.columns)
    top, bottom = _ends(survey.rows)
    _show(axes, image, (left, right, bottom, top), clip, signed)
    _name_axes(axes, survey.rows, survey.columns)
    return save(figure)


def _show(axes: Axes, image: np.ndarray, extent: tuple[float, float, float, float], clip: float, signed: bool) -> None:
    from matplotlib import colormaps

    colours = colormaps["RdBu_r" if signed else "gray"].with_extremes(bad=_HOLE)
    shown = np.ma.masked_invalid(image)
    axes.imshow(shown, cmap=colours, vmin=-clip, vmax=clip, extent=extent, aspect="auto")


def wiggle_png(
    image: np.ndarray, filled: np.ndarray, traces: Axis, survey: Survey, first_sample: int, clip: float
) -> bytes:
    """Traces ``(time, trace)`` as curves with their positive lobes filled; filled ones in blue, NaN left out."""
    figure, axes = _axes((_PANEL[0], 1.15 * _PANEL[1]))
    times = survey.start + survey.interval * (first_sample + np.arange(image.shape[0]))
    numbers = traces.first + traces.step * np.arange(image.shape[1])
    for number, trace, new in zip(numbers, image.T, filled, strict=True):
        if not np.isfinite(trace).all():
            continue
        colour = _FILLED if new else _INK
        swing = number + traces.step * np.clip(1.3 * trace / clip, -1.8, 1.8)
        axes.plot(swing, times, color=colour, linewidth=0.6)
        axes.fill_betweenx(times, number, swing, where=(trace > 0).tolist(), color=colour, linewidth=0, alpha=0.85)
    axes.set_xlim(numbers[0] - 1.5 * traces.step, numbers[-1] + 1.5 * traces.step)
    axes.set_ylim(times[-1], times[0])
    axes.set_xlabel(_label(traces))
    axes.set_ylabel("ms")
    _on_top(axes)
    return save(figure)


def live_map_png(survey: Survey) -> bytes:
    """Why each trace is live or missing, in `STATE_COLOURS`."""
    from matplotlib.colors import ListedColormap

    figure, axes = _map_axes(survey)
    colours = ListedColormap([STATE_COLOURS[state] for state in State])
    _map(axes, survey, survey.state, colours, -0.5, len(State) - 0.5)
    return save(figure)


def trace_map_png(values: np.ndarray, survey: Survey, high: float) -> bytes:
    """One value a trace, ``(rows, columns)``, from 0 to ``high`` in the colours of `figures.map_png`; NaN is a hole."""
    from matplotlib import colormaps

    figure, axes = _map_axes(survey)
    colours = colormaps["inferno"].with_extremes(bad=_HOLE)
    _map(axes, survey, np.ma.masked_invalid(values), colours, 0.0, high)
    return save(figure)


def _map_axes(survey: Survey) -> tuple[Figure, Axes]:
    return _axes(_PANEL if min(survey.state.shape) > 1 else (_LONG, _SHORT))


def _map(axes: Axes, survey: Survey, values: np.ndarray, colours: Colormap, low: float, high: float) -> None:
    rows, columns = survey.rows, survey.columns
    if columns.count == 1 and rows.count > 1:  # a line of rows lies down
        rows, columns, values = columns, rows, values.T
    left, right = _ends(columns)
    top, bottom = _ends(rows)
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, extent=(left, right, bottom, top), aspect="auto",
                interpolation="nearest")  # type: ignore[arg-type]  # fmt: skip
    _name_axes(axes, rows, columns)
    if rows.count == 1:
        axes.set_yticks([])


def fk_png(amplitude: np.ndarray, loudest: float, interval: float, distance: float, unit: str) -> bytes:
    """An amplitude spectrum ``(frequency, wavenumber)``, decibels below ``loudest``.

    ``interval`` in milliseconds; ``distance`` between traces in ``unit`` (1 and ``"trace"`` where it is not known).
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(_PANEL)
    levels = 20 * np.log10(np.maximum(amplitude, 1e-30) / max(loudest, 1e-30))
    count = amplitude.shape[1]
    half = 0.5 / (count * distance)
    numbers = np.fft.fftshift(np.fft.fftfreq(count, d=distance))
    highest = 500.0 / interval
    extent = (numbers[0] - half, numbers[-1] + half, 0.0, highest)
    axes.imshow(levels, cmap="inferno", vmin=FLOOR, vmax=0, extent=extent, origin="lower", aspect="auto")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"wavenumber, 1/{unit}")
    axes.set_ylabel("frequency, Hz")
    return save(figure)


def montage_png(volumes: Mapping[str, np.ndarray], *, title: str = "") -> bytes:
    """The middle sections of volumes ``(row, time, column)`` side by side: of a row, and below it of a column.

    All are clipped at the same amplitude, a bright one of the first; NaN is a hole. Volumes of few rows show one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(volumes.values()))
    rows, _, columns = first.shape
    clip = float(np.nanpercentile(np.abs(first), 99)) or 1.0
    count = 2 if rows >= _FEW else 1
    figure = Figure(figsize=(2.3 * len(volumes), 2.6 * count + 0.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(count, len(volumes), squeeze=False)
    for column, (name, volume) in enumerate(volumes.items()):
        sections = (volume[rows // 2], volume[:, :, columns // 2].T)
        for axes, section in zip(grid[:, column], sections, strict=False):
            _show(axes, section, (0, section.shape[1], section.shape[0], 0), clip, signed=False)
            axes.set_axis_off()
        grid[0, column].set_title(name, color=_INK, fontsize=9)
    figure.suptitle(title, color=_INK, fontsize=10)
    return save(figure)


def legend(survey: Survey) -> Mapping[State, int]:
    """The states that occur and how many traces have them."""
    counts = np.bincount(survey.state.ravel(), minlength=len(State))
    return {state: int(counts[state]) for state in State if counts[state]}


# --- axes --------------------------------------------------------------------------------------------------------
def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(colors=_INK, labelsize=8)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)
    for spine in axes.spines.values():
        spine.set_color("#9ca3af")
    return figure, axes


def _on_top(axes: Axes) -> None:
    """The axis of traces, above the picture and with whole numbers written out."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def _name_axes(axes: Axes, rows: Axis, columns: Axis) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlabel(_label(columns))
    axes.set_ylabel(_label(rows))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    _on_top(axes)


def _label(axis: Axis) -> str:
    """The name of an axis; of compound rows, which have no numbers of their own, that they are counted."""
    return axis.name if axis.byte else f"{axis.name}, counted"


def _ends(axis: Axis) -> tuple[float, float]:
    return axis.first - 0.5 * axis.step, axis.last + 0.5 * axis.step


def _times(survey: Survey, samples: int) -> tuple[float, float]:
    """From half a sample before the first to half a sample after the last."""
    return survey.start - 0.5 * survey.interval, survey.start + (samples - 0.5) * survey.interval
