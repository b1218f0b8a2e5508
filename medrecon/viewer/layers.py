"""Volumes and measured data as layers of napari, and layers as volumes: plain tuples, no window needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer as NapariLayer

Layer = tuple[np.ndarray, dict[str, Any], str]
"""What napari takes: ``(data, keywords, type)``."""

_SIGNED = ("difference", "prior-only")  # maps of changes, of either sign
UNITS = ("mm", "mm", "mm")
_SHOWN = "LPS"  # x to the patient's left, y to the back, z to the head: as radiologists look at it
DIVERGING = {
    "name": "difference",
    "colors": [(0.35, 0.65, 1.0), (0.0, 0.1, 0.5), (0.0, 0.0, 0.0), (0.5, 0.05, 0.0), (1.0, 0.6, 0.3)],
}
"""Colours of a difference on a dark canvas: blue below zero, black at zero, red above."""


def volume_layer(volume: Volume, name: str, **metadata: object) -> Layer:
    """A volume as an image layer in mm.

    napari slices oblique volumes wrongly (napari#4205). The voxels are therefore shown along the nearest axes of the
    patient, about the volume's true centre; the true affine stays in ``metadata`` and is what is written.
    """
    shown = volume.as_orientation(_SHOWN)
    low, high, colours = _contrast(volume)
    keywords: dict[str, Any] = {
        "name": name,
        **_placed(shown.geometry),
        "axis_labels": ("z", "y", "x"),
        "contrast_limits": (low, high),
        "colormap": colours,
        "metadata": {
            "affine": shown.geometry.affine.copy(),
            "orientation": volume.geometry.orientation,
            "quantity": volume.quantity,
            "volume_meta": dict(volume.meta),
            **metadata,
        },
    }
    return shown.array, keywords, "image"


def _placed(shown: Geometry) -> dict[str, Any]:
    """Where an orthogonal display puts a grid in LPS order: voxel size and first voxel, mm along ``(z, y, x)``."""
    spacing = np.array(shown.spacing)
    middle = (np.array(shown.shape) - 1) / 2
    right, anterior, superior = (shown.affine @ (*middle[::-1], 1.0))[:3]
    first = np.array([superior, -anterior, -right]) - spacing * middle
    return {"scale": tuple(spacing.tolist()), "translate": tuple(first.tolist()), "units": UNITS}


def _contrast(volume: Volume) -> tuple[float, float, str | dict[str, Any]]:
    """Limits of contrast and a colour map: grey for pictures, colours for maps about them."""
    from medrecon.figures import body_mask, windows_for

    if volume.quantity == "share":
        return 0.0, 1.0, "viridis"
    if volume.meta.get("map") in _SIGNED:
        high = float(np.percentile(np.abs(volume.array[body_mask(volume)]), 98)) or 1.0
        return -high, high, DIVERGING
    if "map" in volume.meta:
        high = float(np.percentile(np.abs(volume.array), 99.5))
        return 0.0, high or 1.0, "inferno"
    window = windows_for(volume)[0]
    return window.low, max(window.high, float(np.nextafter(np.float32(window.low), np.float32(np.inf)))), "gray"


def with_companions(volume: Volume, beside: Mapping[str, Volume], name: str, **metadata: object) -> list[Layer]:
    """A result and what belongs to it. The baseline has the contrast of the result; maps start hidden."""
    top = volume_layer(volume, name, role="result", group=name, **metadata)
    layers = []
    for role, companion in beside.items():
        layer = volume_layer(companion, f"{name} {role}", role=role, group=name)
        if role == "baseline":
            layer[1]["contrast_limits"] = top[1]["contrast_limits"]
        layer[1]["visible"] = False
        layers.append(layer)
    return [*layers, top]


def traces_layer(traces: Traces, name: str, **metadata: object) -> Layer:
    """Seismic traces as sections ``(row, time, column)``, zero where traces are missing.

    A bin, and a sample, is drawn as large as 1 mm, because napari shows lengths only while all layers have one unit.
    """
    data, keywords, kind = volume_layer(traces.to_volume(), name, slices=traces.rows.count, **metadata)
    return with_axes([(data, keywords, kind)], section_axes(traces))[0]


def with_axes(layers: list[Layer], labels: tuple[str, str, str]) -> list[Layer]:
    """Layers whose axes are called otherwise than z, y, x."""
    return [(data, keywords | {"axis_labels": labels}, kind) for data, keywords, kind in layers]


def section_axes(traces: Traces) -> tuple[str, str, str]:
    """What the axes of sections are called."""
    return traces.rows.name, "time", traces.columns.name


def measurement_layer(scan: Scan | KSpace, name: str, **metadata: object) -> Layer:
    """Measured data as they are: sinograms of the slices, projections of a cone beam, or the size of k-space.

    They do not lie in the space of the patient. napari shows lengths only while all layers are measured in the same
    unit, so they are drawn where the volume is and as large as it; the labels of the axes say what they are.
    """
    if isinstance(scan, KSpace):
        data, labels = _kspace_size(scan)
    elif scan.is_cone:
        data, labels = scan.data, ("view", "row", "column")
    else:
        data, labels = np.swapaxes(scan.data, 0, 1), ("slice", "view", "column")
    low, high = (float(v) for v in np.percentile(data, (0.5, 99.5)))
    keywords: dict[str, Any] = {
        "name": name,
        **_filling(data.shape, scan.volume_geometry),
        "axis_labels": labels,
        "contrast_limits": (low, high if high > low else low + 1.0),
        "metadata": {"role": "measurement", "slices": scan.volume_geometry.shape[0], **metadata},
    }
    return data, keywords, "image"


def _filling(shape: tuple[int, ...], grid: Geometry) -> dict[str, Any]:
    """Where an array is drawn that fills the box of a grid, whatever its number of samples."""
    shown = Volume(np.broadcast_to(np.float32(0), grid.shape), grid).as_orientation(_SHOWN).geometry
    place = _placed(shown)
    voxel = np.array(place["scale"])
    scale = voxel * np.array(shown.shape) / np.array(shape)
    first = np.array(place["translate"]) + (scale - voxel) / 2
    return {"scale": tuple(scale.tolist()), "translate": tuple(first.tolist()), "units": UNITS}


def _kspace_size(kspace: KSpace) -> tuple[np.ndarray, tuple[str, str, str]]:
    """``log(1 + |k|)``, the root of the sum of squares over the coils, in units of its median where measured."""
    size = np.sqrt((np.abs(kspace.data) ** 2).sum(axis=0, dtype=np.float32))
    measured = size[size > 0]
    unit = float(np.median(measured)) if measured.size else 1.0
    if kspace.trajectory is not None:
        labels = ("slice", "spoke", "sample")
    else:
        labels = ("kz" if 0 in kspace.encoded else "slice", "ky", "kx")
    return np.log1p(size / unit, dtype=np.float32), labels


def volume_of(data: object, keywords: Mapping[str, Any]) -> Volume:
    """The volume that an image layer shows, on its true grid and in the order of axes that it was read in.

    Layers of other origin are taken to be in LPS order, as they are shown. Raises InputError for what is no volume.
    """
    name, metadata = str(keywords.get("name", "layer")), dict(keywords.get("metadata") or {})
    array = np.asarray(data)
    if metadata.get("role") == "measurement":
        raise InputError("this layer shows measured data, not a volume", where=name, hint="Choose another layer.")
    if metadata.get("role") == "display":
        raise InputError(
            "this layer is for looking alone: it holds no volume", where=name, hint="Choose another layer."
        )
    if array.ndim != 3 or array.dtype.kind not in "fiub" or keywords.get("rgb"):
        raise InputError(
            "this layer is no volume", where=name, found=f"shape {array.shape}, {array.dtype}",
            expected="real numbers along (z, y, x)",
        )  # fmt: skip
    units = tuple(str(unit) for unit in keywords.get("units") or UNITS)
    if not set(units) <= {"mm", "millimeter", "pixel"}:
        raise InputError("this layer is not measured in mm", where=name, found=", ".join(units), expected="mm")
    geometry = _shown_geometry(array.shape, keywords)
    known = metadata.get("affine")
    if known is not None:
        true = Geometry(geometry.shape, known)
        if _same_place(_placed(true), keywords):
            geometry = true  # the layer stands where it was put
    volume = Volume(array, geometry, str(metadata.get("quantity", "a.u.")), dict(metadata.get("volume_meta") or {}))
    return volume.as_orientation(str(metadata.get("orientation", _SHOWN)))


def layer_volume(layer: NapariLayer) -> Volume:
    """The volume of a layer of the viewer in the order of axes in which it is shown; raises as `volume_of`."""
    keywords = {key: getattr(layer, key) for key in ("name", "scale", "translate", "units", "metadata", "rgb")}
    return volume_of(layer.data, keywords).as_orientation(_SHOWN)


def is_map(layer: NapariLayer) -> bool:
    """Whether a volume says something about another one, such as a spread, rather than what was measured."""
    metadata = layer.metadata
    return metadata.get("quantity") == "share" or "map" in (metadata.get("volume_meta") or {})


def gained_layer(layer: NapariLayer) -> Layer:
    """A copy of a layer of seismic amplitudes after automatic gain, to look at."""
    from medrecon.figures import automatic_gain

    volume = layer_volume(layer)
    copy = Volume(automatic_gain(volume.array), volume.geometry, "a.u.")
    data, keywords, kind = volume_layer(copy, f"{layer.name} (AGC)", role="gain")
    return data, keywords | {"contrast_limits": (-2.0, 2.0), "axis_labels": layer.axis_labels}, kind


def is_volume(layer: NapariLayer) -> bool:
    """Whether a layer of the viewer shows a volume, rather than measured data, drawings or pictures of colours."""
    return (
        layer.__class__.__name__ == "Image"
        and layer.ndim == 3
        and not layer.rgb
        and layer.metadata.get("role") not in ("measurement", "display", "gain")
    )


def _shown_geometry(shape: tuple[int, ...], keywords: Mapping[str, Any]) -> Geometry:
    """The grid at which napari draws a layer: scale and translation of an orthogonal display."""
    scale = np.asarray(keywords.get("scale", (1.0, 1.0, 1.0)), dtype=float)
    first = np.asarray(keywords.get("translate", (0.0, 0.0, 0.0)), dtype=float)
    affine = np.diag([-scale[2], -scale[1], scale[0], 1.0])
    affine[:3, 3] = -first[2], -first[1], first[0]
    return Geometry(shape, affine)  # type: ignore[arg-type]


def _same_place(placed: Mapping[str, Any], keywords: Mapping[str, Any]) -> bool:
    return all(np.allclose(placed[key], keywords.get(key, placed[key]), atol=1e-3) for key in ("scale", "translate"))
