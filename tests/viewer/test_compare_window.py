"""The widget that compares, in a real window of napari on a virtual screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Run, body
from helpers.window import need_window, wait

need_window()

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from medrecon.data import Geometry, Volume
from medrecon.viewer import compare
from medrecon.viewer.arranging import AS_LISTED, DIFFERENCE, MODES, SIDE_BY_SIDE, WIPE
from medrecon.viewer.compare import AGC, BY_HAND, PROFILE, STEPS, CompareWidget
from medrecon.viewer.layers import volume_layer, with_companions
from medrecon.viewer.probing import LINE, REGIONS
from medrecon.viewer.reading import read_layers
from medrecon.viewer.reconstruct import add_layers

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


def _filled(viewer: Any) -> CompareWidget:
    """A result 20 HU off its truth, with a baseline and a spread."""
    truth = body()
    off = truth.with_array(truth.array + 20)
    spread = Volume(np.full(truth.array.shape, 3, np.float32), truth.geometry, "HU", {"map": "spread"})
    add_layers(viewer, [volume_layer(truth, "truth", role="truth")])
    add_layers(viewer, with_companions(off, {"baseline": truth.with_array(truth.array - 5), "spread": spread}, "run"))
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Compare")
    return widget


def test_it_begins_with_the_result_and_what_belongs_to_it(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    assert [layer.name for layer in widget.layers()] == ["run", "run baseline", "run spread"]
    assert [layer.name for layer in widget.pictures()] == ["run", "run baseline"]  # a spread has a window of its own
    for mode in MODES:
        widget.mode.value = mode
        assert widget.state.text() == ""
        shown = {layer.name for layer in viewer.layers if layer.visible}
        assert (
            shown
            == {
                AS_LISTED: {"truth", "run"},
                SIDE_BY_SIDE: {"run", "run baseline", "run spread"},
                WIPE: {"run | run baseline"},
                DIFFERENCE: {"run − run baseline"},
            }[mode]
        )
    assert np.allclose(viewer.layers["run − run baseline"].data, 25)
    widget.beside.value = viewer.layers["truth"]
    assert np.allclose(viewer.layers["run − truth"].data, 20)
    assert "run − run baseline" not in viewer.layers
    widget.mode.value = WIPE
    widget.edge.value = 100
    assert np.array_equal(viewer.layers["run | truth"].data, viewer.layers["run"].data)


def test_the_window_is_that_of_all(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    result, baseline, spread = widget.layers()
    before = tuple(spread.contrast_limits)
    widget.preset.value = "lung"
    assert tuple(result.contrast_limits) == tuple(baseline.contrast_limits) == (-1200, 200)
    assert (widget.window_width.value, widget.window_level.value) == (1400, -500)
    widget.window_level.value = 0
    assert tuple(baseline.contrast_limits) == (-700, 700) and widget.preset.value == BY_HAND
    baseline.contrast_limits = (-125, 225)
    assert (widget.window_width.value, widget.window_level.value) == (350, 50)
    widget.mode.value = WIPE
    widget.preset.value = "bone"
    assert tuple(viewer.layers["run | run baseline"].contrast_limits) == (-100, 900)
    assert tuple(spread.contrast_limits) == before


def test_a_drag_of_the_mouse_sets_the_window(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    from qtpy.QtCore import QPoint, Qt

    viewer = make_napari_viewer(show=True)
    widget = _filled(viewer)
    widget.preset.value = "abdomen"
    widget.drag.value = True
    canvas = viewer.window._qt_viewer.canvas.native
    centre = tuple(viewer.scene.camera.center)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(60, 60))
    for x in (80, 120, 160):
        qtbot.mouseMove(canvas, QPoint(x, 60))
        qtbot.wait(20)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(160, 60))
    assert widget.window_width.value > 400 and widget.window_level.value == pytest.approx(40, abs=1)
    assert tuple(viewer.scene.camera.center) == centre


def test_plots_and_statistics_follow_what_is_drawn(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    assert "Draw a line" in widget.picture.text() or widget.picture.text() == ""
    widget.line.changed.emit(True)
    assert viewer.layers.selection.active is viewer.layers[LINE]
    viewer.layers[LINE].add_lines(np.array([[3, 12, 2], [3, 12, 20.0]]))
    wait(lambda: not widget.picture.pixmap().isNull())
    result, baseline = widget.curves()
    assert np.asarray(result.y) - np.asarray(baseline.y) == pytest.approx(25, abs=1e-3)
    assert result.x[-1] == pytest.approx(18 * 2.0)
    assert not widget.table.isVisibleTo(widget)
    widget.region.changed.emit(True)
    viewer.layers[REGIONS].add_rectangles(np.array([[3, 9, 9], [3, 9, 14], [3, 14, 14], [3, 14, 9.0]]))
    wait(lambda: widget.table.rowCount() == 2)
    assert widget.table.isVisibleTo(widget)
    widget.table.setMinimumWidth(widget.minimumWidth() + 200)  # as long numbers do
    for part in (widget.table.parentWidget(), widget.widget()):  # a window that is not shown does not do this itself
        part.layout().invalidate()
        part.layout().activate()
    QApplication.sendEvent(widget.widget(), QEvent(QEvent.Type.LayoutRequest))
    assert widget.minimumWidth() > widget.table.minimumWidth()
    assert widget.table.verticalHeaderItem(0).text() == "1 result" and widget.caption.text() == "Regions, in HU"
    means = [float(widget.table.item(row, 0).text()) for row in range(2)]
    assert means[0] - means[1] == pytest.approx(25, abs=0.2)
    widget.plot.value = STEPS
    assert len(widget.curves()[0].x) == body().geometry.shape[0] - 1
    widget.plot.value = PROFILE
    viewer.layers[LINE].data = []
    wait(lambda: "Draw a line" in widget.picture.text())


def test_drawing_leaves_the_side_by_side_view(make_napari_viewer: Callable[..., Any]) -> None:
    """There a layer of shapes would have a picture of its own, with nothing under it."""
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    widget.mode.value = SIDE_BY_SIDE
    widget.line.changed.emit(True)
    assert widget.mode.value == WIPE and not viewer.canvas.grid.enabled


def test_unequal_grids_are_said(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    add_layers(viewer, [volume_layer(body((4, 24, 24)), "small")])
    widget.beside.value = viewer.layers["small"]
    widget.mode.value = DIFFERENCE
    assert "different grids" in widget.state.text()
    assert {layer.name for layer in viewer.layers if layer.visible} == {"truth", "run", "small"}
    widget.mode.value = SIDE_BY_SIDE
    assert widget.state.text() == ""


def test_automatic_gain_is_for_looking(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    time = np.exp(-np.arange(200) / 40) * np.sin(np.arange(200))
    array = np.broadcast_to(time[None, :, None], (3, 200, 8)).astype(np.float32).copy()
    volume = Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0)), "amplitude")
    for name in ("a", "b"):
        add_layers(viewer, [volume_layer(volume, name)])
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Compare")
    assert AGC in widget.preset.choices
    widget.mode.value = SIDE_BY_SIDE
    widget.preset.value = AGC
    assert {layer.name for layer in viewer.layers if layer.visible} == {"a (AGC)", "b (AGC)"}
    late = viewer.layers["a (AGC)"].data[:, 150:, :]
    assert np.sqrt(np.mean(late**2)) == pytest.approx(1, rel=0.2)
    assert [layer.name for layer in widget.pictures()] == ["b", "a"]  # measured are the amplitudes
    widget.mode.value = DIFFERENCE
    assert not np.any(widget._arrangement.made.data)
    widget.preset.value = "99 %"
    assert {layer.name for layer in viewer.layers} == {"a", "b", "b − a"}


def test_layers_come_and_go(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    widget.mode.value = WIPE
    viewer.layers.remove("run baseline")
    assert viewer.layers["run"] in widget.result.choices
    viewer.layers.clear()
    assert widget.layers() == [] and widget.pictures() == []
    widget.mode.value = DIFFERENCE
    widget.line.changed.emit(True)
    assert "result" in widget.state.text()
    add_layers(viewer, [volume_layer(body(), "new")])
    assert widget.result.value is viewer.layers["new"]


def test_the_report_beside_a_result_is_opened(
    make_napari_viewer: Callable[..., Any], scan: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(compare, "webbrowser", SimpleNamespace(open=opened.append))
    viewer = make_napari_viewer()
    widget = _filled(viewer)
    widget.report.changed.emit(True)
    assert "only a result" in widget.state.text()
    target = tmp_path / "recon.nii.gz"
    assert run("recon", scan, "-o", target, "--method", "fbp").code == 0
    add_layers(viewer, read_layers(str(target)))
    widget.result.value = viewer.layers["recon"]
    widget.report.changed.emit(True)
    assert "medrecon report" in widget.state.text() and not opened
    assert run("report", target).code == 0
    widget.report.changed.emit(True)
    assert opened == [(tmp_path / "recon.html").as_uri()]


def test_closing_the_widget_ends_its_hold_on_the_viewer(make_napari_viewer: Callable[..., Any]) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent

    viewer = make_napari_viewer()
    widget = _filled(viewer)
    widget.drag.value = True
    viewer.window.remove_dock_widget("all")
    widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # as the event loop of the program does
    assert viewer.scene.camera.mouse_pan
    add_layers(viewer, [volume_layer(body(), "later")])
    viewer.layers["run"].contrast_limits = (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [SIDE_BY_SIDE, WIPE])
def test_large_volumes_stay_usable(make_napari_viewer: Callable[..., Any], mode: str) -> None:
    """Four layers of 256^3: seconds of the window's own thread until the next slice, edge or window is drawn."""
    from qtpy.QtWidgets import QApplication

    viewer = make_napari_viewer(show=True)
    truth = body((256, 256, 256), (1.0, 1.0, 1.0))
    spread = replace(truth.with_array(np.abs(truth.array) / 100), meta={"map": "spread"})
    add_layers(viewer, [volume_layer(truth, "truth", role="truth")])
    add_layers(viewer, with_companions(truth, {"baseline": truth.with_array(truth.array - 5), "spread": spread}, "run"))
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Compare")
    widget.mode.value = mode
    seconds = []
    for change in range(12):
        start = time.thread_time()
        viewer.dims.set_current_step(0, 100 + change)
        widget.preset.value = ("lung", "bone")[change % 2]
        widget.edge.value = 40 + change
        QApplication.processEvents()
        seconds.append(time.thread_time() - start)
    assert float(np.median(seconds)) < 0.5, seconds
