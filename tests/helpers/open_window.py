"""Run as a program: open both widgets in a new window, reconstruct a small sample, say as JSON how it went."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

HEAVY = ("torch", "matplotlib", "scipy.signal", "nibabel", "medrecon.engine")


def main() -> dict[str, Any]:
    """What was opened, how long it took in the thread of the window, and what came out."""
    import napari
    from qtpy import API_NAME

    from helpers.window import wait
    from medrecon.viewer import samples

    viewer = napari.Viewer(show=True)
    opened, told = {}, {}
    for name in ("Compare", "Reconstruct"):  # the second one sends a thread of its own for torch
        start = time.thread_time()
        _, opened[name] = viewer.window.add_plugin_dock_widget("medrecon", name)
        told[name] = {"seconds": time.thread_time() - start, "heavy": sorted({*HEAVY} & {*sys.modules})}
    widget = opened["Reconstruct"]
    wait(lambda: "tv" in widget.method.choices)
    samples.SHAPE = (4, 32, 32)
    viewer.open_sample("medrecon", "chest")
    widget.method.value, widget.steps.value = "tv", 3
    widget.begin()
    wait(lambda: widget._worker is None)
    picture = viewer.screenshot(canvas_only=True, flash=False)
    found = {
        "binding": API_NAME,
        "opened": told,
        "state": widget.state.text(),
        "layers": [layer.name for layer in viewer.layers],
        "compared": [layer.name for layer in opened["Compare"].layers()],
        "contrast": float(picture[..., :3].std()),
    }
    viewer.close()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()))
