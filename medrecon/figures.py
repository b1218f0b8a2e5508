"""Pictures of volumes and curves, as PNG bytes. Nothing here touches pyplot's global state.

Volumes are shown in radiological orientation: in axial planes the patient's left is on the right of the picture,
in coronal and sagittal planes the head is up.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"truth": "#6b7280", "baseline": "#d97706", "result": "#2563eb", "spread": "#7c3aed"}
PLANES = ("axial", "coronal", "sagittal")
_LETTERS = {"axial": ("A", "P", "R", "L"), "coronal": ("S", "I", "R", "L"), "sagittal": ("S", "I", "A", "P")}
_SHARES = (99.8, 99.0, 96.0, 90.0)  # per cent of the values between black and white


@dataclass(frozen=True)
class Window:
    """A named range of values shown from black to white."""

    name: str
    low: float
    high: float

    @classmethod
    def centred(cls, name: str, width: float, level: float) -> Window:
        """A window as radiologists write it: width and level."""
        return cls(name, level - width / 2, level + width / 2)

    @property
    def width(self) -> float:
        """From black to white."""
        return self.high - self.low

    @property
    def level(self) -> float:
        """Middle grey."""
        return (self.low + self.high) / 2

    def dragged(self, right: float, down: float) -> Window:
        """The window after a drag, in shares of the picture's size: right widens, up brightens, as in DICOM viewers.

        A full width to the right makes the window ``e^2`` times as wide; a full height moves it by twice its width.
        """
        return Window.centred("by hand", self.width * float(np.exp(2 * right)), self.level + 2 * self.width * down)


HU_WINDOWS = {
    "soft tissue": Window.centred("soft tissue", 400, 40),
    "mediastinum": Window.centred("mediastinum", 350, 40),
    "abdomen": Window.centred("abdomen", 350, 40),
    "lung": Window.centred("lung", 1400, -500),
    "bone": Window.centred("bone", 1000, 400),
    "brain": Window.centred("brain", 100, 50),
}
"""Presets in HU: W 400 L 40, twice W 350 L 40, W 1400 L -500, W 1000 L 400, W 100 L 50."""


def windows_for(volume: Volume) -> list[Window]:
    """The presets worth showing for this volume, the most telling first.

    CT: chest presets where a fair part of the body is lung, head presets where the body is small, else general ones.
    Other quantities: the range from the 0.5th to the 99.5th percentile, and its darker half; for amplitudes, which
    swing about zero, a range and a narrower one that are symmetric.
    """
    values = volume.array
    if volume.quantity == "amplitude":
        return [percentile_window(volume, 99.0, "full range"), percentile_window(volume, 95.0, "weak events")]
    if volume.quantity != "HU":
        full = percentile_window(volume, 99.0, "full range")
        return [full, Window("dark half", full.low, full.level)]
    body = body_mask(volume)
    lung = float(np.mean((values[body] > -950) & (values[body] < -600))) if body.any() else 0.0
    width = max(
        (side.stop - side.start) * s for side, s in list(zip(_extent(body), volume.geometry.spacing, strict=True))[1:]
    )
    if lung > 0.08:
        names = ["mediastinum", "lung", "bone"]
    elif width < 260:
        names = ["brain", "soft tissue", "bone"]
    else:
        names = ["soft tissue", "bone", "lung"]
    return [HU_WINDOWS[name] for name in names]


def percentile_window(volume: Volume, share: float, name: str = "") -> Window:
    """The range of the middle ``share`` per cent of the finite values; symmetric about zero for amplitudes."""
    values, tail = volume.array[np.isfinite(volume.array)], (100 - share) / 2
    if not values.size:
        return Window(name or f"{share:g} %", 0.0, 1.0)
    if volume.quantity == "amplitude":
        high = float(np.percentile(np.abs(values), share)) or 1.0
        return Window(name or f"{share:g} %", -high, high)
    low, high = (float(v) for v in np.percentile(values, (tail, 100 - tail)))
    return Window(name or f"{share:g} %", low, high if high > low else low + 1.0)


def presets_of(volume: Volume) -> list[Window]:
    """Every window worth offering: those of radiology for HU, percentiles for the rest."""
    if volume.quantity == "HU":
        return list(HU_WINDOWS.values())
    return [percentile_window(volume, share) for share in _SHARES]


def automatic_gain(sections: np.ndarray, samples: int = 50) -> np.ndarray:
    """Amplitudes over their root mean square in a window of ``samples`` along time, zero where nothing is recorded.

    For looking only: reflections of all depths are equally strong after it, and amplitudes mean nothing any more.
    ``sections`` are ``(row, time, column)``. Reference: Yilmaz, Seismic Data Analysis (2001), section 1.4.
    """
    from scipy.ndimage import uniform_filter1d

    power = uniform_filter1d(np.square(sections, dtype=np.float64), min(samples, sections.shape[1]), axis=1)
    loudness = np.sqrt(np.maximum(power, 0.0))
    heard = loudness > 1e-6 * loudness.max(initial=0.0)
    return np.divide(sections, loudness, out=np.zeros(sections.shape), where=heard).astype(np.float32)


def body_mask(volume: Volume) -> np.ndarray:
    """Where the object is: the convex-ish inside of everything denser than fat, per slice; all voxels if none is.

    Holes such as lungs count as inside: a row of a slice is inside between its first and its last dense voxel.
    """
    threshold = -300.0 if volume.quantity == "HU" else 0.1 * float(np.percentile(volume.array, 99.5))
    dense = volume.array > threshold
    across = np.logical_or.accumulate(dense, 2) & np.logical_or.accumulate(dense[:, :, ::-1], 2)[:, :, ::-1]
    down = np.logical_or.accumulate(dense, 1) & np.logical_or.accumulate(dense[:, ::-1], 1)[:, ::-1]
    inside = across & down
    return inside if inside.any() else np.ones_like(inside)


def _extent(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The box around what is true."""
    sides = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, mask.shape[axis]))
    return sides[0], sides[1], sides[2]


@dataclass(frozen=True)
class View:
    """Which planes of a volume in LPS order to show, and how much of them.

    ``z``, ``y``, ``x`` are the voxel indices of the axial, coronal and sagittal plane, ``box`` the part that is shown,
    ``spacing`` the voxel size, mm.
    """

    z: int
    y: int
    x: int
    box: tuple[slice, slice, slice]
    spacing: tuple[float, float, float]

    @classmethod
    def through_body(cls, volume: Volume, margin: float = 12.0) -> View:
        """The planes through the middle of the body, cut to the body and ``margin`` mm around it in y and x."""
        mask, spacing = body_mask(volume), volume.geometry.spacing
        box = _extent(mask)
        grown = [slice(0, mask.shape[0])]
        for axis in (1, 2):
            extra = round(margin / spacing[axis])
            grown.append(slice(max(0, box[axis].start - extra), min(mask.shape[axis], box[axis].stop + extra)))
        centre = [round(float(np.average(np.arange(n), weights=mask.sum(axis=axes))))
                  for n, axes in zip(mask.shape, ((1, 2), (0, 2), (0, 1)), strict=True)]  # fmt: skip
        return cls(centre[0], centre[1], centre[2], (grown[0], grown[1], grown[2]), spacing)

    def plane(self, array: np.ndarray, name: str) -> np.ndarray:
        """One plane of an array ``(z, y, x)`` as an image, first row on top."""
        z, y, x = self.box
        if name == "axial":
            return array[self.z, y, x]
        return array[z, self.y, x][::-1] if name == "coronal" else array[z, y, self.x][::-1]

    def size(self, name: str) -> tuple[float, float]:
        """Width and height of a plane, mm."""
        z, y, x = ((side.stop - side.start) * s for side, s in zip(self.box, self.spacing, strict=True))
        return {"axial": (x, y), "coronal": (x, z), "sagittal": (y, z)}[name]


def plane_letters(name: str) -> tuple[str, str, str, str]:
    """Anatomical letters at the top, bottom, left and right of a plane."""
    return _LETTERS[name]


# --- single images ---------------------------------------------------------------------------------------------
def grey_png(image: np.ndarray, window: Window, size: tuple[int, int]) -> bytes:
    """An image in a window, black to white, scaled to ``size`` = (width, height) pixels."""
    levels = np.clip((image - window.low) / (window.high - window.low), 0, 1) * 255
    return _encode(np.rint(levels).astype(np.uint8), size)


def difference_png(image: np.ndarray, limit: float, size: tuple[int, int]) -> bytes:
    """A difference on a scale symmetric about zero: blue is negative, white zero, red positive."""
    from matplotlib import colormaps

    colours = colormaps["RdBu_r"](np.clip(image / (2 * limit) + 0.5, 0, 1))
    return _encode((colours[..., :3] * 255).astype(np.uint8), size)


def map_png(image: np.ndarray, high: float, size: tuple[int, int]) -> bytes:
    """A map of values from zero to ``high`` in the perceptually uniform colours of `inferno`."""
    from matplotlib import colormaps

    return _encode((colormaps["inferno"](np.clip(image / high, 0, 1))[..., :3] * 255).astype(np.uint8), size)


def _encode(pixels: np.ndarray, size: tuple[int, int]) -> bytes:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def colour_bar_png(kind: str) -> bytes:
    """A horizontal bar: the colours of `difference_png` (``"difference"``) or `map_png` (``"map"``), or ``"grey"``."""
    ramp = np.tile(np.linspace(-1, 1, 256), (12, 1))
    if kind == "grey":
        return grey_png(ramp, Window("grey", -1, 1), (256, 12))
    return difference_png(ramp, 1.0, (256, 12)) if kind == "difference" else map_png(ramp + 1, 2.0, (256, 12))


# --- plots -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Paper:
    """What a plot is drawn on and with."""

    ground: str
    ink: str
    grid: str


WHITE, DARK = Paper("#ffffff", "#1f2937", "#e5e7eb"), Paper("#262930", "#d1d5db", "#41454d")


@dataclass(frozen=True)
class Curve:
    """One line of a plot."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: str
    dashed: bool = False


def plot_png(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    reference: tuple[float, str] | None = None,
    size: tuple[float, float] = (7.2, 3.0),
    paper: Paper = WHITE,
) -> bytes:
    """Curves on one pair of axes; ``reference`` = (value, name) is a dotted horizontal line."""
    figure, axes = _axes(size, paper)
    if reference is not None:
        axes.axhline(reference[0], color=paper.ink, linewidth=0.9, linestyle=":")
        axes.annotate(reference[1], (1.0, reference[0]), xycoords=("axes fraction", "data"), fontsize=8,
                      color=paper.ink, ha="right", va="bottom", xytext=(-3, 2), textcoords="offset points")  # fmt: skip
    for curve in curves:
        marker = "o" if len(curve.x) < 40 else None
        axes.plot(curve.x, curve.y, color=curve.colour, linewidth=1.6, linestyle="--" if curve.dashed else "-",
                  marker=marker, markersize=3, label=curve.name)  # fmt: skip
    if logarithmic:
        _logarithmic(axes, [value for curve in curves for value in curve.y])
    axes.set_xlabel(x_label, color=paper.ink)
    axes.set_ylabel(y_label, color=paper.ink)
    axes.margins(x=0.01)
    if len(curves) > 1:
        figure.legend(
            loc="outside upper right", ncols=min(len(curves), 4), frameon=False, fontsize=8.5, labelcolor=paper.ink
        )
    return save(figure)


def _axes(size: tuple[float, float], paper: Paper) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor=paper.ground)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(paper.ground)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9ca3af")
    axes.tick_params(colors=paper.ink, labelsize=8.5)
    axes.grid(color=paper.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale; with plain numbers at 1, 2, 5 where it spans less than three decades."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    if max(values) < 1000 * min(values) and min(values) > 1e-3 and max(values) < 1e5:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure) -> bytes:
    """A figure as PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


# --- one picture of a whole case -------------------------------------------------------------------------------
def montage_png(volumes: Mapping[str, Volume], window: Window | None = None, *, title: str = "") -> bytes:
    """Three planes of several volumes on one grid, side by side in one window; the demo's picture.

    The planes go through the body of the last volume.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    turned = {name: volume.as_orientation("LPS") for name, volume in volumes.items()}
    last = list(turned.values())[-1]
    window = window or windows_for(last)[0]
    view = View.through_body(last)
    heights = [view.size(plane)[1] / view.size(plane)[0] for plane in PLANES]
    width = 2.6
    figure = Figure(
        figsize=(width * len(turned) + 0.3, width * sum(heights) + 0.75),
        dpi=150,
        facecolor="black",
        layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.06, wspace=0.01, hspace=0.01),
    )
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(PLANES), len(turned), height_ratios=heights)
    for row, plane in enumerate(PLANES):
        for column, (name, volume) in enumerate(turned.items()):
            axes = figure.add_subplot(grid[row, column])
            image = view.plane(volume.array, plane)
            aspect = heights[row] * image.shape[1] / image.shape[0]
            axes.imshow(image, cmap="gray", vmin=window.low, vmax=window.high, aspect=aspect, interpolation="bicubic")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, color="white", fontsize=10)
    note = f"{window.name} window {window.low:g} to {window.high:g} {last.quantity}   research use only"
    figure.suptitle(title, color="white", fontsize=11)
    figure.supxlabel(note, color="#9ca3af", fontsize=8)
    return save(figure)


def write_montage(path: Path, volumes: Mapping[str, Volume], *, title: str = "", overwrite: bool = False) -> None:
    """`montage_png` into a file, whole or not at all."""
    from medrecon.data.atomic import write_bytes

    write_bytes(path, montage_png(volumes, title=title), overwrite=overwrite)
