"""One window for several layers: links, presets, and a drag of the mouse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medrecon.figures import HU_WINDOWS, Window
from medrecon.viewer.windowing import Windowing

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


def layers(model: Any, count: int = 3) -> list[Any]:
    ramp = np.linspace(-1000, 1000, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    return [model.add_image(ramp, name=f"v{n}", contrast_limits=(-1000 + n, 1000)) for n in range(count)]


def drag(model: Any, *places: tuple[int, int], button: int = 1) -> None:
    """Press, move through places, release, as napari calls what this package adds to its own callbacks."""
    event = SimpleNamespace(type="mouse_press", pos=places[0], button=button)
    mine = [
        callback for callback in model.mouse_drag_callbacks if isinstance(getattr(callback, "__self__", 0), Windowing)
    ]
    running = [callback(model, event) for callback in mine]
    for kind, place in [
        ("mouse_press", places[0]),
        *(("mouse_move", p) for p in places[1:]),
        ("mouse_release", places[-1]),
    ]:
        event.type, event.pos = kind, place
        for generator in running:
            next(generator, None)


def test_layers_share_a_window_until_they_are_let_go(model: Any) -> None:
    first, second, third = layers(model)
    told: list[Window] = []
    windowing = Windowing(model, told.append)
    windowing.follow([first, second])
    assert tuple(second.contrast_limits) == tuple(first.contrast_limits)
    windowing.set(HU_WINDOWS["lung"])
    assert tuple(first.contrast_limits) == tuple(second.contrast_limits) == (-1200, 200)
    assert tuple(third.contrast_limits) == (-998, 1000)
    second.contrast_limits = (0, 50)  # by napari's own slider
    assert tuple(first.contrast_limits) == (0, 50) and (told[-1].low, told[-1].high) == (0, 50)
    windowing.release()
    second.contrast_limits = (0, 60)
    assert tuple(first.contrast_limits) == (0, 50) and told[-1].high == 50
    assert windowing.window is None


def test_a_baseline_stays_linked_to_its_result(model: Any) -> None:
    first, second, _ = layers(model)
    for layer, role in ((first, "result"), (second, "baseline")):
        layer.metadata.update(role=role, group="run")
    model.layers.link_layers([first, second], ("contrast_limits",))
    windowing = Windowing(model, lambda window: None)
    windowing.follow([first, second])
    windowing.release()
    first.contrast_limits = (1, 2)
    assert tuple(second.contrast_limits) == (1, 2)


def test_a_drag_sets_the_window_and_moves_no_picture(model: Any) -> None:
    first, second, _ = layers(model)
    windowing = Windowing(model, lambda window: None)
    windowing.follow([first, second])
    windowing.set(HU_WINDOWS["abdomen"])
    drag(model, (100, 100), (400, 100))
    assert windowing.window.width == pytest.approx(350)  # not asked for
    windowing.by_mouse(True)
    assert not model.scene.camera.mouse_pan
    drag(model, (100, 100), (160, 100), (250, 100))
    wide = windowing.window
    assert wide.level == pytest.approx(40) and wide.width == pytest.approx(350 * np.exp(2 * 150 / 600))
    drag(model, (100, 100), (100, 40))
    assert windowing.window.width == pytest.approx(wide.width)
    assert windowing.window.level < 40  # upwards brightens
    drag(model, (100, 100), (400, 100), button=2)
    assert windowing.window.width == pytest.approx(wide.width)
    windowing.by_mouse(False)
    assert model.scene.camera.mouse_pan
    drag(model, (100, 100), (400, 100))
    assert windowing.window.width == pytest.approx(wide.width)


def test_a_window_has_some_width(model: Any) -> None:
    first, *_ = layers(model)
    windowing = Windowing(model, lambda window: None)
    windowing.follow([first])
    windowing.set(Window("", 5.0, 5.0))
    assert first.contrast_limits[1] > first.contrast_limits[0]
