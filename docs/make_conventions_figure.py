"""Draw docs/figures/conventions.png: axes, affine, CT angles and the Hounsfield scale.

Rays, sources and detectors are those that `CTGeometry` computes, and corners are those of `Geometry`: if a
convention of the code changed, the picture would change with it.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc, Ellipse, Rectangle
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from medrecon.data.volume import WATER, Geometry, affine_between
from medrecon.physics.ct_geometry import CTGeometry

OUTPUT = Path(__file__).resolve().parent / "figures" / "conventions.png"
INK, GREY, RED, GREEN, BLUE, ORANGE = "#222222", "#8a8a8a", "#c0392b", "#2e8b57", "#2563ab", "#d97706"
SHAPE, SPACING = (6, 64, 64), (20.0, 4.5, 4.5)  # a field of 288 x 288 mm


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, text: str, **place: float
) -> None:
    """A labelled arrow in the plane."""
    ax.annotate(
        "", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 14}
    )
    ax.text(end[0] + place.get("dx", 0), end[1] + place.get("dy", 0), text, color=colour, ha="center", va="center")


def patient(ax: Axes) -> None:
    """A supine body in an axial slice: spine at the back, that is at the bottom; half a field wide."""
    ax.add_patch(Ellipse((0, 0), 190, 130, facecolor="#f3e3d3", edgecolor=GREY))
    ax.add_patch(Ellipse((-42, -8), 58, 74, facecolor="#cfd8e3", edgecolor="none"))
    ax.add_patch(Ellipse((44, -8), 54, 74, facecolor="#cfd8e3", edgecolor="none"))
    ax.add_patch(Ellipse((16, -14), 40, 36, facecolor="#dba39a", edgecolor="none"))
    ax.add_patch(Ellipse((0, 38), 30, 24, facecolor="white", edgecolor=GREY))


def slice_frame(ax: Axes, limit: float) -> None:
    """The slice with the letters of its sides, y downwards as on a screen."""
    half = SHAPE[1] * SPACING[1] / 2
    ax.add_patch(Rectangle((-half, -half), 2 * half, 2 * half, fill=False, edgecolor=INK, lw=1.2))
    patient(ax)
    ax.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
    ax.set_axis_off()


def panel_volume(ax: Axes) -> None:
    """The grid in the patient: where index (0, 0, 0) lies and which way the axes run."""
    geometry = Geometry.from_spacing((4, 5, 6), (1.5, 1.0, 1.0))
    last = np.array(geometry.shape[::-1]) - 1
    corners = {c: (geometry.affine @ [*(np.array(c) * last), 1])[:3] for c in np.ndindex(2, 2, 2)}
    edges = [
        (a, b) for a in corners for b in corners if sum(abs(p - q) for p, q in zip(a, b, strict=True)) == 1 and a < b
    ]
    ax.add_collection3d(Line3DCollection([[corners[a], corners[b]] for a, b in edges], colors=GREY, lw=1))
    origin = corners[0, 0, 0]
    ax.scatter(*origin, color=INK, s=28)
    ax.text(*(origin + np.array([1.1, 0.3, -1.0])), "array[0, 0, 0]", color=INK, ha="center")
    for corner, colour, text, shift in [
        ((1, 0, 0), RED, "x = i  (to the Left)", (0.9, 0.2, -0.75)),
        ((0, 1, 0), GREEN, "y = j  (to Posterior)", (-1.5, -0.1, 0.45)),
        ((0, 0, 1), BLUE, "z = k  (to Superior)", (0.4, 0, 0.9)),
    ]:
        tip = origin + 0.92 * (corners[corner] - origin)
        ax.quiver(*origin, *(tip - origin), color=colour, lw=2.4, arrow_length_ratio=0.16)
        ax.text(*(tip + np.array(shift)), text, color=colour, ha="center")
    ax.set_box_aspect(np.ptp(np.array(list(corners.values())), axis=0))
    ax.view_init(elev=20, azim=118)
    ax.set_axis_off()
    ax.text2D(
        0.5, -0.02, "array is (z, y, x); its affine maps (i, j, k, 1) to RAS+ mm", transform=ax.transAxes, ha="center"
    )


def panel_parallel(ax: Axes) -> None:
    """A parallel view at t = 35 degrees."""
    t = math.radians(35)
    geometry = CTGeometry.parallel(SHAPE, SPACING, angles=[t], columns=9, column_spacing=36.0)
    slice_frame(ax, 330)
    ax.set(ylim=(375, -330))
    points, directions = (a[0] for a in geometry.rays())
    for point, direction in zip(points, directions, strict=True):
        ends = np.array([point - 215 * direction, point + 225 * direction])
        ax.plot(*ends.T, color=ORANGE, lw=0.8, alpha=0.8)
    u, d = np.array([math.cos(t), math.sin(t)]), directions[0]
    centre = 228 * d
    detector = np.array([centre - 165 * u, centre + 165 * u])
    ax.plot(*detector.T, color=INK, lw=4, solid_capstyle="butt")
    arrow(ax, tuple(centre), tuple(centre + 215 * u), INK, "u", dx=14, dy=8)
    arrow(ax, tuple(-300 * d), tuple(-225 * d), ORANGE, "d", dx=34, dy=-30)
    half = SHAPE[1] * SPACING[1] / 2
    arrow(ax, (-half, -half), (-half + 90, -half), RED, "x, Left", dx=-30, dy=-15)
    arrow(ax, (-half, -half), (-half, -half + 90), GREEN, "y,\nPosterior", dx=-48, dy=-12)
    ax.plot([0, 0], [0, -300], color=GREY, lw=1, ls="--")
    ax.text(-10, -318, "t = 0", color=GREY, ha="center")
    ax.add_patch(Arc((0, 0), 420, 420, theta1=-90, theta2=-90 + math.degrees(t), color=INK, lw=1.4))
    ax.text(78, -222, "t", color=INK, ha="center", va="center", fontsize=13)
    ax.plot(0, 0, "+", color=INK, ms=9)
    ax.set_title("CT, parallel beam, on the screen", pad=14)
    ax.text(0, 366, "u = (cos t, sin t),  d = (-sin t, cos t)  in (x, y);  radians", ha="center")


def panel_fan(ax: Axes) -> None:
    """A fan view at t = 0 with its distances, and the next source positions."""
    source_origin, source_detector = 260.0, 460.0
    geometry = CTGeometry.fan(
        SHAPE, SPACING, angles=[0.0], columns=9, column_spacing=60.0, source_origin=source_origin,
        source_detector=source_detector,
    )  # fmt: skip
    slice_frame(ax, 330)
    ax.set(ylim=(300, -330), xlim=(-360, 330))
    origins, directions = (a[0] for a in geometry.rays())
    for origin, direction in zip(origins, directions, strict=True):
        ends = np.array([origin, origin + source_detector / direction[1] * direction])
        ax.plot(*ends.T, color=ORANGE, lw=0.8, alpha=0.8)
    y = source_detector - source_origin
    ax.plot([-270, 270], [y, y], color=INK, lw=4, solid_capstyle="butt")
    arrow(ax, (0, y + 22), (270, y + 22), INK, "u", dx=16)
    ax.plot(*origins[0], "o", color=ORANGE, ms=9)
    ax.text(-12, -source_origin - 14, "source, t = 0", color=ORANGE, ha="right")
    for degrees in (15, 30, 45):
        later = CTGeometry.fan(
            SHAPE, SPACING, angles=[math.radians(degrees)], columns=9, column_spacing=60.0, source_origin=source_origin,
            source_detector=source_detector,
        )  # fmt: skip
        ax.plot(*later.rays()[0][0, 0], "o", color=ORANGE, ms=5, alpha=0.6)
    ax.text(175, -292, "t grows:\nclockwise", color=ORANGE, ha="center", va="center")
    for x, bottom, text in [(-330, y, "source_detector"), (-235, 0, "source_origin")]:
        ax.annotate(
            "", xy=(x, bottom), xytext=(x, -source_origin), arrowprops={"arrowstyle": "<|-|>", "color": GREY, "lw": 1.2}
        )
        ax.text(x - 12, (bottom - source_origin) / 2, text, color=GREY, rotation=90, ha="center", va="center")
    ax.plot([-345, 0], [-source_origin] * 2, color=GREY, lw=0.6, ls=":")
    ax.plot([-250, 0], [0, 0], color=GREY, lw=0.6, ls=":")
    ax.plot(0, 0, "+", color=INK, ms=9)
    ax.set_title("CT, fan beam")
    ax.text(0, 272, "column c at u = (c - (columns - 1)/2) column_spacing + detector_offset, mm", ha="center")


def panel_scale(ax: Axes) -> None:
    """Hounsfield units against attenuation."""
    scale, offset = affine_between("HU", "1/mm", WATER)
    values = np.array([-1000.0, 2000.0])
    ax.plot(values, scale * values + offset, color=INK, lw=2)
    for name, hu, dx, dy in [("air", -1000, 90, -0.0004), ("lung", -750, 90, -0.0012), ("fat", -100, 0, -0.0035),
                             ("water", 0, 90, -0.0008), ("dense bone", 1500, 260, -0.0024)]:  # fmt: skip
        ax.plot(hu, scale * hu + offset, "o", color=BLUE, ms=6)
        ax.text(
            hu + dx,
            scale * hu + offset + dy,
            name,
            color=BLUE,
            ha="left" if name != "dense bone" else "center",
            va="center",
        )
    ax.axvspan(-1000, 1000, color="#eef3f8", zorder=0)
    ax.text(0, 0.0545, "metrics: data range 2000 HU", ha="center", color=GREY)
    ax.set(xlim=(-1200, 2100), ylim=(-0.003, 0.06), xlabel="HU", ylabel="attenuation $\\mu$, 1/mm")
    ax.set_title(f"$\\mu$ = water (1 + HU / 1000),  water = {WATER} / mm")
    ax.grid(alpha=0.3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def main() -> None:
    """Draw the four panels and write the picture."""
    mpl.rcParams.update({"font.size": 10.5, "axes.titlesize": 12, "figure.dpi": 110, "svg.hashsalt": "medrecon"})
    figure = plt.figure(figsize=(12.4, 10.6), facecolor="white")
    volume = figure.add_subplot(2, 2, 1, projection="3d")
    volume.set_title("A volume in the patient")
    panel_volume(volume)
    panel_parallel(figure.add_subplot(2, 2, 2))
    panel_fan(figure.add_subplot(2, 2, 3))
    panel_scale(figure.add_subplot(2, 2, 4))
    figure.tight_layout(pad=1.6)
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
