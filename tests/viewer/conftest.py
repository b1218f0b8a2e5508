"""The viewer's tests: files of the command line, and napari's model of a viewer without a window."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cli_fixtures import run, scan, truth  # noqa: F401 - fixtures


@pytest.fixture
def model() -> Any:
    """napari's model of a viewer: layers, grid and camera, no window."""
    pytest.importorskip("napari")
    from napari.components import ViewerModel

    return ViewerModel()
