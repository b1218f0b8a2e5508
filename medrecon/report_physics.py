"""The section of a report with what a medical physicist measures: tissues, edge response, noise power."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from medrecon import figures
from medrecon import report_sections as parts
from medrecon.data.volume import Volume
from medrecon.figures import COLOURS, Curve
from medrecon.image_quality import Edge, edge, noise_power, signed_distance, tissue_regions

if TYPE_CHECKING:
    from medrecon.report import ReportData

_PLOT = (5.6, 2.8)


def physics(data: ReportData, volumes: Mapping[str, Volume]) -> str:
    """Tables and curves, from regions of the truth, or of the baseline where the truth is not known."""
    reference = next(volumes[name] for name in ("truth", "baseline", "result") if name in volumes)
    source = next(name for name in ("truth", "baseline", "result") if name in volumes)
    labels = parts.shown_names(data)
    blocks = [
        _tissues(reference, volumes, labels),
        _edges(reference, volumes, labels),
        _noise(data, reference, volumes),
    ]
    shown = "".join(block for block in blocks if block)
    if not shown:
        return ""
    return (
        f'<h2>Image quality</h2><p class="note">Regions and edges are those of the {escape(labels[source])}.</p>{shown}'
    )


def _tissues(reference: Volume, volumes: Mapping[str, Volume], labels: Mapping[str, str]) -> str:
    if reference.quantity != "HU":
        return ""
    rows = []
    for name, mask in tissue_regions(reference.array).items():
        cells = [f"<td>{escape(name)}</td>", f'<td class="number">{int(mask.sum())}</td>']
        for volume in volumes.values():
            values = volume.array[mask]
            cells.append(f'<td class="number">{values.mean():.1f} ± {values.std():.1f}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    if not rows:
        return ""
    heads = "".join(f'<th class="number">{escape(labels[name])}, HU</th>' for name in volumes)
    return (
        '<h3>Tissues</h3><div class="scroll"><table><thead><tr><th>region</th><th class="number">voxels</th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="note">Mean and standard deviation of the inner voxels of each tissue.</p>'
    )


def _edges(reference: Volume, volumes: Mapping[str, Volume], labels: Mapping[str, str]) -> str:
    spacing = reference.geometry.spacing
    distance = signed_distance(figures.body_mask(reference), spacing)
    found: dict[str, Edge] = {}
    for name, volume in volumes.items():
        response = edge(volume.array, distance, spacing)
        if response is not None:
            found[name] = response
    if not found:
        return ""
    profiles = [Curve(labels[n], e.distance, e.profile, COLOURS[n], dashed=n == "truth") for n, e in found.items()]
    transfers = [Curve(labels[n], e.frequency, e.transfer, COLOURS[n], dashed=n == "truth") for n, e in found.items()]
    said = "; ".join(
        f"{labels[name]}: {e.rise:.1f} mm from 10 % to 90 %, "
        + (
            f"half modulation at {10 * e.half:.2f} per cm"
            if np.isfinite(e.half)
            else "modulation above a half throughout"
        )
        for name, e in found.items()
    )
    unit = reference.quantity
    pictures = [
        parts.img(
            figures.plot_png(profiles, x_label="mm from the surface, inside to the right", y_label=unit, size=_PLOT),
            "Mean profile across the surface of the body",
            "plot",
        ),
        parts.img(
            figures.plot_png(transfers, x_label="cycles per mm", y_label="modulation", size=_PLOT),
            "Transfer function of the surface of the body",
            "plot",
        ),
    ]
    return (
        f'<h3>Edge of the body</h3><p class="note">Mean over the whole surface, in the planes of the slices. '
        f'{escape(said)}.</p><div class="plots">{"".join(pictures)}</div>'
    )


def _noise(data: ReportData, reference: Volume, volumes: Mapping[str, Volume]) -> str:
    inside, spacing, curves = figures.body_mask(reference), reference.geometry.spacing, []
    errors = "truth" in volumes
    for name, volume in volumes.items():
        if errors and name == "truth":
            continue
        array = volume.array - volumes["truth"].array if errors else volume.array
        found = noise_power(array, inside, spacing, size=24 if min(array.shape[1:]) >= 72 else 12)
        if found is not None:
            curves.append(Curve(parts.shown_names(data)[name], found[0], np.maximum(found[1], 1e-12), COLOURS[name]))
    if not curves:
        return ""
    unit = "HU" if reference.quantity == "HU" else "unit"
    picture = figures.plot_png(curves, x_label="cycles per mm", y_label=f"{unit}² mm²", logarithmic=True, size=_PLOT)
    what = "difference to the truth" if errors else "volume, a plane taken out of each patch"
    return (
        f'<h3>Noise power</h3><p class="note">Radial spectrum of the {what}, in the quietest patches of the body.</p>'
        + parts.img(picture, "Noise power spectrum", "plot")
    )
