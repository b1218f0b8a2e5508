"""How the compared layers stand in the viewer: as they are, side by side, as a wipe, as their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.errors import InputError
from medrecon.viewer.layers import Layer, is_map, layer_volume, volume_layer

if TYPE_CHECKING:
    from medrecon.data.volume import Volume

AS_LISTED, SIDE_BY_SIDE, WIPE, DIFFERENCE = MODES = ("as listed", "side by side", "wipe", "difference")


class Wipe:
    """One array on this side of an edge, another beyond it; moving the edge copies only what it passes over."""

    def __init__(self, near: np.ndarray, far: np.ndarray, axis: int) -> None:
        self._sides, self._axis, self._edge = (near, far), axis, 0
        self.array = far.copy()

    def to(self, share: float) -> None:
        """The edge at this share of the width."""
        edge = round(share * self.array.shape[self._axis])
        passed = [slice(None)] * self.array.ndim
        passed[self._axis] = slice(min(edge, self._edge), max(edge, self._edge))
        self.array[tuple(passed)] = self._sides[0 if edge > self._edge else 1][tuple(passed)]
        self._edge = edge


class Arrangement:
    """Shows layers in one of the `MODES`, and gives the viewer back as it was.

    It works on napari's model of a viewer: no window is needed. ``made`` is the layer that a mode needs beside those
    that are compared, None where it needs none.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._before: dict[Any, bool] = {}  # what was visible
        self._grid: tuple[bool, int, tuple[int, int]] | None = None
        self._wipe: Wipe | None = None
        self.made: Any = None

    def show(self, mode: str, layers: Sequence[Any], wipe: float = 0.5) -> None:
        """Arrange ``layers``: the result, what it is compared with, and what else shall stand beside them.

        Raises InputError where a wipe or a difference has not two volumes on one grid.
        """
        self.restore()
        if mode == AS_LISTED or not layers:
            return
        made = self._made_for(mode, layers)
        self._before = {layer: layer.visible for layer in self._viewer.layers}
        shown = list(layers)
        if made is not None:
            data, keywords, _ = made
            self.made = self._viewer.add_image(data, **keywords)
            shown = [self.made]
            self.wipe_to(wipe)
        for layer in self._viewer.layers:
            layer.visible = layer in shown
            _label(layer, layer in shown)
        if mode == SIDE_BY_SIDE:
            self._side_by_side(shown)

    def restore(self) -> None:
        """Everything as it was before `show`; layers that came later stay as they are."""
        if self.made is not None and self.made in self._viewer.layers:
            self._viewer.layers.remove(self.made)
        self.made = self._wipe = None
        if self._grid is not None:
            grid = self._viewer.canvas.grid
            grid.enabled, grid.stride, grid.shape = self._grid
            self._grid = None
            self._viewer.reset_view()
        for layer, visible in self._before.items():
            if layer in self._viewer.layers:
                layer.visible = visible
                _label(layer, False)
        self._before = {}

    def wipe_to(self, share: float) -> None:
        """Move the edge of a wipe to this share of the picture's width; left of it is the result."""
        if self._wipe is not None:
            self._wipe.to(share)
            self.made.refresh()

    def _made_for(self, mode: str, layers: Sequence[Any]) -> Layer | None:
        if mode == SIDE_BY_SIDE:
            return None
        if len(layers) < 2:
            raise InputError(f"a {mode} takes two volumes", hint="Choose what the result is compared with.")
        from medrecon.metrics import difference, on_grid

        volume, beside = (layer_volume(layer) for layer in layers[:2])
        if mode == DIFFERENCE:
            change = replace(difference(volume, beside), meta={"map": "difference"})
            return volume_layer(change, f"{layers[0].name} − {layers[1].name}", role="difference")
        beside = on_grid(beside, volume.geometry, layers[1].name, layers[0].name).to_quantity(volume.quantity)
        return self._wiped(volume, beside, f"{layers[0].name} | {layers[1].name}", layers[0])

    def _wiped(self, volume: Volume, beside: Volume, name: str, like: Any) -> Layer:
        across = self._viewer.dims.displayed[-1]
        self._wipe = Wipe(volume.array, beside.array, axis=across - self._viewer.dims.ndim)
        _, keywords, kind = volume_layer(volume, name, role="display")
        look = {"contrast_limits": like.contrast_limits, "gamma": like.gamma, "colormap": like.colormap.name}
        return self._wipe.array, keywords | look, kind

    def _side_by_side(self, layers: Sequence[Any]) -> None:
        """One row, what the result is compared with first: the eye goes from the known to the new."""
        row = [*layers[1:2], *layers[:1], *layers[2:]]
        listed = self._viewer.layers
        for layer in row:  # the last one on top
            listed.move(listed.index(layer), len(listed))
        grid = self._viewer.canvas.grid
        self._grid = (grid.enabled, grid.stride, grid.shape)
        grid.shape = (1, -1)
        grid.stride = 1
        grid.enabled = True
        first, last = (grid.position(listed.index(layer), listed) for layer in (row[0], row[-1]))
        if first > last:  # releases of napari fill the grid from either end of the list
            grid.stride = -1
        self._viewer.reset_view()


def _label(layer: Any, shown: bool) -> None:
    """Name in the picture, and a bar of colours for maps."""
    layer.name_overlay.visible = shown
    if is_map(layer):
        layer.colorbar.position = "bottom_left"
        layer.colorbar.visible = shown
