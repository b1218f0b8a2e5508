"""Lines and regions that a person draws on the volumes, and what the volumes are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.errors import InputError
from medrecon.viewer.layers import layer_volume

if TYPE_CHECKING:
    from medrecon.figures import Curve
    from medrecon.image_quality import RegionStatistics

LINE, REGIONS = "profile line", "regions"
_MODES = {LINE: "add_line", REGIONS: "add_ellipse"}
_EDGE = {LINE: "#fde047", REGIONS: "#4ade80"}
_LONGEST = 26  # letters of a label
_MORE = ("#0d9488", "#be185d", "#4d7c0f")  # of curves of no known role


class Drawings:
    """Two layers of shapes, one for the line and one for regions; ``changed()`` is called when one of them does."""

    def __init__(self, viewer: Any, changed: Callable[[], None]) -> None:
        self._viewer, self._changed = viewer, changed

    def draw(self, kind: str, on: Any) -> None:
        """Let the person draw a `LINE` or `REGIONS` on a layer; the last line counts, and every region."""
        layer = self._layer(kind)
        if layer is None:
            layer = self._viewer.add_shapes(
                ndim=3, name=kind, scale=on.scale, translate=on.translate, units=on.units, axis_labels=on.axis_labels,
                edge_color=_EDGE[kind], face_color="transparent", edge_width=0.8,
            )  # fmt: skip
            layer.metadata["role"] = kind
            layer.events.data.connect(lambda event: self._changed())
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = _MODES[kind]

    def line(self) -> np.ndarray | None:
        """Corners ``(n, 3)`` of the last line, mm in the viewer's world."""
        shapes = self._shapes(LINE)
        return shapes[-1][1] if shapes else None

    def regions(self) -> list[tuple[str, np.ndarray]]:
        """Kind (``ellipse``, ``rectangle``, ``polygon``) and corners of every region."""
        return self._shapes(REGIONS)

    def _layer(self, kind: str) -> Any:
        return next((layer for layer in self._viewer.layers if layer.metadata.get("role") == kind), None)

    def _shapes(self, kind: str) -> list[tuple[str, np.ndarray]]:
        layer = self._layer(kind)
        if layer is None:
            return []
        return [
            (str(name), np.array([layer.data_to_world(corner) for corner in corners]))
            for name, corners in zip(layer.shape_type, layer.data, strict=True)
        ]


def _indices(layer: Any, corners: np.ndarray) -> np.ndarray:
    return np.array([layer.world_to_data(corner) for corner in corners])


def profiles(line: np.ndarray, layers: Sequence[Any]) -> list[Curve]:
    """Values of every layer along a line, mm from its first end."""
    from medrecon.figures import Curve
    from medrecon.image_quality import line_profile

    curves = []
    for layer, name, colour in zip(layers, labels(layers), _colours(layers), strict=True):
        distance, values = line_profile(layer.data, _indices(layer, line), layer.scale)
        curves.append(Curve(name, distance, values, colour, _is_truth(layer)))
    return curves


def flicker(layers: Sequence[Any]) -> list[Curve]:
    """Mean step from slice to slice of every layer, over the body that the first one shows."""
    from medrecon.figures import Curve, body_mask
    from medrecon.image_quality import slice_steps

    inside = body_mask(layer_volume(layers[0]))
    curves = []
    for layer, name, colour in zip(layers, labels(layers), _colours(layers), strict=True):
        if layer.data.shape != inside.shape:
            raise InputError("slices of unequal grids cannot be compared", where=layer.name, found=layer.data.shape,
                             expected=inside.shape)  # fmt: skip
        steps = slice_steps(layer.data, inside)
        curves.append(Curve(name, np.arange(steps.size) + 0.5, steps, colour, _is_truth(layer)))
    return curves


def statistics(
    regions: Sequence[tuple[str, np.ndarray]], layers: Sequence[Any]
) -> dict[tuple[int, str], RegionStatistics]:
    """Statistics by the number of the region and the label of the layer; what a region misses is left out."""
    if not regions:
        return {}
    from medrecon.image_quality import region_statistics

    found = {}
    for number, (kind, corners) in enumerate(regions, 1):
        for layer, name in zip(layers, labels(layers), strict=True):
            try:
                found[number, name] = region_statistics(
                    layer.data, _indices(layer, corners), layer.scale, ellipse=kind == "ellipse"
                )
            except InputError:
                continue
    return found


def labels(layers: Sequence[Any]) -> list[str]:
    """What the layers are called in plots and tables: their roles where those tell them apart, else their names."""
    roles = [layer.metadata.get("role") for layer in layers]
    if None not in roles and len(set(roles)) == len(roles):
        return roles
    return [layer.name if len(layer.name) <= _LONGEST else f"…{layer.name[1 - _LONGEST :]}" for layer in layers]


def _is_truth(layer: Any) -> bool:
    return layer.metadata.get("role") == "truth"


def _colours(layers: Sequence[Any]) -> list[str]:
    """A colour for each layer: that of its role in the report, or one that is free."""
    from medrecon.figures import COLOURS

    spare, colours = iter(_MORE), []
    for layer in layers:
        colour = COLOURS.get(layer.metadata.get("role"))
        colours.append(next(spare, _MORE[-1]) if colour is None or colour in colours else colour)
    return colours
