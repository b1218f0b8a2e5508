"""Window and level of the compared layers: presets, numbers, and a drag across the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrecon.figures import Window

LINKED = ("contrast_limits", "gamma")
"""What layers of one quantity share, so that they are compared in one window."""

_FULL = 600.0  # pixels of a drag that count as the width of a picture


class Windowing:
    """One window for all compared layers of one quantity.

    ``changed(window)`` is called whenever it changes, by whatever means.
    """

    def __init__(self, viewer: Any, changed: Callable[[Window], None]) -> None:
        self._viewer, self._changed = viewer, changed
        self._leader: Any = None
        self._linked: list[Any] = []
        self._pans = True

    @property
    def window(self) -> Window | None:
        """What the layers show from black to white; None where nothing is compared."""
        from medrecon.figures import Window

        return None if self._leader is None else Window("", *map(float, self._leader.contrast_limits))

    def follow(self, layers: Sequence[Any]) -> None:
        """Let ``layers`` share the window of the first one; those that were compared before are let go."""
        self.release()
        if not layers:
            return
        self._leader = layers[0]
        self._leader.events.contrast_limits.connect(self._tell)
        for layer in layers[1:]:
            layer.contrast_limits, layer.gamma = self._leader.contrast_limits, self._leader.gamma
        self._linked = [layer for layer in layers[1:] if not _belong_together(layer, self._leader)]
        for layer in self._linked:
            self._viewer.layers.link_layers([self._leader, layer], LINKED)
        self._tell()

    def release(self) -> None:
        """Every layer has its own window again, except those that belong together."""
        if self._leader is None:
            return
        self._leader.events.contrast_limits.disconnect(self._tell)
        for layer in self._linked:
            self._viewer.layers.unlink_layers([self._leader, layer], LINKED)
        self._leader, self._linked = None, []

    def set(self, window: Window) -> None:
        """Show this window, of at least some width."""
        if self._leader is not None:
            least = 1e-6 * max(abs(window.low), abs(window.high), 1e-6)
            self._leader.contrast_limits = (window.low, max(window.high, window.low + least))

    def by_mouse(self, wanted: bool) -> None:
        """Whether a drag with the left button sets the window rather than moves the picture."""
        callbacks = self._viewer.mouse_drag_callbacks
        if wanted and self._drag not in callbacks:
            self._pans = self._viewer.scene.camera.mouse_pan
            self._viewer.scene.camera.mouse_pan = False
            callbacks.append(self._drag)
        elif not wanted and self._drag in callbacks:
            callbacks.remove(self._drag)
            self._viewer.scene.camera.mouse_pan = self._pans

    def _drag(self, viewer: Any, event: Any) -> Iterator[None]:
        before, start = self.window, event.pos
        if event.button != 1 or before is None:
            return
        yield
        while event.type == "mouse_move":
            self.set(before.dragged((event.pos[0] - start[0]) / _FULL, (event.pos[1] - start[1]) / _FULL))
            yield

    def _tell(self, event: object = None) -> None:
        window = self.window
        if window is not None:
            self._changed(window)


def by_hand(width: float, level: float) -> Window:
    """The window of these numbers."""
    from medrecon.figures import Window

    return Window.centred("by hand", width, level)


def _belong_together(first: Any, second: Any) -> bool:
    """A result and its baseline share their window from the start (`medrecon.viewer.reconstruct.add_layers`)."""
    roles = {first.metadata.get("role"), second.metadata.get("role")}
    return roles <= {"result", "baseline"} and first.metadata.get("group") == second.metadata.get("group")
