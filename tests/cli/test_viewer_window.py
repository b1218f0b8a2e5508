"""The plugin in a real window of napari, on a virtual screen."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("magicgui")
pytest.importorskip("PyQt6")
pytest.importorskip("pytestqt")
if not os.environ.get("DISPLAY"):  # pytest-xvfb sets it; without a screen Qt ends the process
    if shutil.which("Xvfb") is None:
        pytest.skip("program Xvfb is not installed", allow_module_level=True)
    pytest.importorskip("pytest_xvfb")
    pytest.fail("there is no screen although pytest-xvfb and Xvfb are installed")

from medrecon.viewer import samples
from medrecon.viewer.layers import UNITS, volume_of
from medrecon.viewer.reading import read_layers
from medrecon.viewer.reconstruct import ReconstructWidget, add_layers

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


@pytest.fixture
def chest(monkeypatch: pytest.MonkeyPatch) -> list:
    """The sample, small."""
    monkeypatch.setattr(samples, "SHAPE", (4, 32, 32))
    return samples.chest()


def _wait(until: Callable[[], bool], seconds: float = 120.0) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "the window did not get there"
        QApplication.processEvents()
        time.sleep(0.005)


def _opened(viewer: Any, layers: list) -> ReconstructWidget:
    add_layers(viewer, layers)
    widget = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Reconstruct")
    _wait(lambda: "tv" in widget.method.choices)
    return widget


def test_sample_reconstruct_cancel_rerun_save_reopen(
    make_napari_viewer: Callable[..., Any], chest: list, tmp_path: Path
) -> None:
    threads = {thread.ident for thread in threading.enumerate()}
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    assert Path(widget.file.value) == Path(viewer.layers["chest, measured"].metadata["file"])  # of the active layer

    widget.method.value, widget.steps.value = "sirt", 100_000
    seen: list[int] = []
    widget.begin()
    worker = widget._worker
    assert worker is not None
    worker.yielded.connect(lambda told: seen.append(told[0].step))
    _wait(lambda: any("running" in layer.name for layer in viewer.layers) and len(seen) > 5)
    live = next(layer for layer in viewer.layers if "running" in layer.name)
    before = live.data.copy()
    _wait(lambda: not np.array_equal(live.data, before))  # it changes as the run goes on
    assert widget.cancel.enabled
    widget.cancel.changed.emit(True)
    reached = worker.reached
    _wait(lambda: widget._worker is None)
    assert worker.reached <= reached + 1  # it acts within a step
    stopped = viewer.layers["chest sirt (stopped)"]
    assert stopped.metadata["status"] == "stopped"
    assert not any("running" in layer.name for layer in viewer.layers)

    widget.method.value, widget.steps.value = "tv", 20
    widget.begin()
    _wait(lambda: widget._worker is None)
    result = viewer.layers["chest tv"]
    assert result.metadata["status"] == "done"
    assert all(tuple(map(str, layer.units)) == ("millimeter",) * 3 for layer in viewer.layers)

    file = tmp_path / "saved.nii.gz"
    assert viewer.layers["chest tv"].save(str(file), plugin="medrecon") == [str(file)]
    again = read_layers(str(file))
    assert np.array_equal(again[-1][0], result.data)
    assert np.allclose(again[-1][1]["metadata"]["affine"], result.metadata["affine"], atol=1e-4)
    assert again[-1][1]["units"] == UNITS
    assert again[-1][1]["scale"] == pytest.approx(tuple(result.scale), rel=1e-5)
    assert volume_of(*again[-1][:2]).quantity == "HU"
    _wait(lambda: {t.ident for t in threading.enumerate() if not t.name.startswith("Dummy")} <= threads)


def test_a_baseline_shares_the_window_of_its_result(make_napari_viewer: Callable[..., Any], chest: list) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.method.value, widget.steps.value = "tv", 10
    widget.begin(preview=1)
    _wait(lambda: widget._worker is None)
    result, baseline = viewer.layers["chest tv, slice 1"], viewer.layers["chest tv, slice 1 baseline"]
    assert result.data.shape[0] == 1
    result.contrast_limits = (-100.0, 100.0)
    assert tuple(baseline.contrast_limits) == (-100.0, 100.0)


def test_an_error_is_said_as_the_command_line_says_it(make_napari_viewer: Callable[..., Any], chest: list) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    count = len(viewer.layers)
    widget.method.value = "tv"
    widget.begin(preview=99)
    _wait(lambda: widget._worker is None)
    assert "error: there is no such slice; found 99; expected 0 to 3" in widget.log.value
    assert len(viewer.layers) == count
    assert widget.start.enabled


def test_closing_the_window_ends_the_run(make_napari_viewer: Callable[..., Any], chest: list) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent

    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.method.value, widget.steps.value = "sirt", 100_000
    widget.begin()
    worker = widget._worker
    assert worker is not None
    _wait(lambda: worker.reached > 2)
    viewer.window.remove_dock_widget("all")
    widget.native.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # as the event loop of the program does
    _wait(lambda: not worker.is_running, seconds=30)
