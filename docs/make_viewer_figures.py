"""Take docs/figures/viewer-reconstruct.png and viewer-compare.png: both widgets with a reconstruction of a real run.

    python docs/make_viewer_figures.py

A synthetic chest is measured with 16 views and reconstructed with the bundled prior, in a window of napari. Without a
screen the script starts itself again under xvfb-run.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).resolve().parent / "figures"
SIZE = (1580, 740)
STEPS, SAMPLES = 10, 2
CLOSER = 1.35
HALF_WAY = 0.6  # of the steps: when the first picture is taken


def wait(until: Callable[[], object], seconds: float = 1800.0) -> None:
    """Let the window work until something holds."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there")
        QApplication.processEvents()
        time.sleep(0.005)


def settle(seconds: float = 1.5) -> None:
    """Let everything be drawn."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def take(viewer: Any, name: str) -> None:
    """A small picture of the whole window: 256 colours."""
    from PIL import Image

    settle()
    pixels = viewer.window.screenshot(canvas_only=False, flash=False)
    picture = Image.fromarray(pixels).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    (FIGURES / name).write_bytes(buffer.getvalue())
    sys.stdout.write(f"{name}: {picture.size[0]} x {picture.size[1]}, {len(buffer.getvalue()) / 1024:.0f} kB\n")


def look_closer(viewer: Any) -> None:
    """The body rather than the air around it."""
    settle()
    viewer.reset_view()
    viewer.scene.camera.zoom *= CLOSER


def main() -> None:
    """Reconstruct, watch, compare."""
    import napari

    from medrecon.viewer import samples
    from medrecon.viewer.compare import CompareWidget
    from medrecon.viewer.probing import LINE, REGIONS
    from medrecon.viewer.reconstruct import ReconstructWidget, add_layers

    samples.SHAPE = (12, 128, 128)
    viewer = napari.Viewer(title="medrecon", show=True)
    viewer.window.resize(*SIZE)
    viewer.window._qt_window.statusBar().hide()
    add_layers(viewer, samples.chest())
    truth, measured = viewer.layers["chest, truth"], viewer.layers["chest, measured"]
    viewer.canvas.overlays.scale_bar.visible = True
    widgets = {"Reconstruct": ReconstructWidget(viewer), "Compare": CompareWidget(viewer)}
    reconstruct, compare = widgets.values()
    docks = [viewer.window.add_dock_widget(w, name=name, tabify=True) for name, w in widgets.items()]
    wait(lambda: "refine" in reconstruct.method.choices)
    docks[0].raise_()

    # --- while it runs ---
    truth.visible = measured.visible = False
    viewer.layers.selection.active = measured
    reconstruct.method.value, reconstruct.steps.value, reconstruct.samples.value = "refine", STEPS, SAMPLES
    reconstruct.begin()
    middle = truth.data.shape[0] // 2
    place = tuple(truth.data_to_world((middle, 0, 0)))
    viewer.dims.set_point(0, place[0])
    wait(lambda: reconstruct.state.text().startswith("refine") and _share(reconstruct) >= HALF_WAY)
    reconstruct.pause.changed.emit(True)
    wait(lambda: "paused" in reconstruct.state.text())
    look_closer(viewer)
    take(viewer, "viewer-reconstruct.png")
    reconstruct.pause.changed.emit(True)
    wait(lambda: reconstruct._worker is None)

    # --- what came out ---
    docks[1].raise_()
    compare.result.value = viewer.layers["chest refine"]
    compare.preset.value = "mediastinum"
    rows, columns = truth.data.shape[1:]
    compare.line.changed.emit(True)
    viewer.layers[LINE].add_lines(np.array([[middle, 0.5 * rows, 0.1 * columns], [middle, 0.5 * rows, 0.9 * columns]]))
    compare.region.changed.emit(True)
    top, left, size = 0.44 * rows, 0.46 * columns, 0.1 * columns
    box = [(top, left), (top, left + size), (top + size, left + size), (top + size, left)]
    viewer.layers[REGIONS].add_ellipses(np.array([(middle, *corner) for corner in box]))
    viewer.layers.selection.active = compare.result.value
    compare.mode.value = "side by side"
    look_closer(viewer)
    take(viewer, "viewer-compare.png")
    viewer.close()


def _share(reconstruct: Any) -> float:
    return float(reconstruct.progress.value) / float(reconstruct.progress.max)


if __name__ == "__main__":
    if not os.environ.get("DISPLAY"):
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            sys.exit("there is no screen: install Xvfb (apt-get install xvfb), or run this where there is one")
        os.execv(xvfb, [xvfb, "-a", "-s", "-screen 0 1600x1000x24", sys.executable, *sys.argv])  # noqa: S606
    with tempfile.TemporaryDirectory() as settings:
        os.environ.setdefault("NAPARI_CONFIG", str(Path(settings) / "napari.yaml"))
        main()
