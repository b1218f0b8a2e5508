"""`medrecon view`: files in a window of napari."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from medrecon.errors import MissingDependency

_BINDINGS = ("PyQt6", "PySide6", "PyQt5")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("view", short_help="Open volumes, results and measured data in napari.")(view)


def view(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Volumes, results, measured data.")],
) -> None:
    """Open FILES in napari, each result with what stands beside it, and the widgets that reconstruct and compare."""
    check_installed()
    from medrecon.viewer.reading import read_layers

    layers = read_layers([str(file) for file in files])  # bad files are said before a window opens
    import napari

    from medrecon.viewer.compare import CompareWidget
    from medrecon.viewer.reconstruct import ReconstructWidget, add_layers

    viewer = napari.Viewer(title="medrecon")
    add_layers(viewer, layers)
    viewer.canvas.overlays.scale_bar.visible = True
    widgets = {"Reconstruct": ReconstructWidget(viewer), "Compare": CompareWidget(viewer)}
    for name, widget in widgets.items():
        viewer.window.add_dock_widget(widget, name=name, tabify=True)
    napari.run()


def check_installed() -> None:
    """Raise MissingDependency unless napari and a Qt binding are there."""
    for name in ("napari", "magicgui", "qtpy"):
        if find_spec(name) is None:
            raise MissingDependency(name, "viewer", "medrecon view")
    if not any(find_spec(name) for name in _BINDINGS):
        raise MissingDependency(
            "PyQt6 or PySide6", "viewer", "medrecon view", hint="Install one with: pip install PyQt6"
        )
