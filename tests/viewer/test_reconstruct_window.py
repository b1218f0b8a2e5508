"""The plugin in a real window of napari, on a virtual screen."""

from __future__ import annotations

import ctypes
import gc
import re
import time
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import body
from helpers.window import need_window, wait

need_window()

from medrecon.data import write
from medrecon.viewer import reconstruct, samples
from medrecon.viewer.layers import UNITS, volume_of
from medrecon.viewer.reading import read_layers
from medrecon.viewer.reconstruct import ReconstructWidget, add_layers

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


@pytest.fixture
def chest(monkeypatch: pytest.MonkeyPatch) -> list:
    """The sample, small."""
    monkeypatch.setattr(samples, "SHAPE", (4, 32, 32))
    return samples.chest()


def _opened(viewer: Any, layers: list) -> ReconstructWidget:
    add_layers(viewer, layers)
    widget = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Reconstruct")
    wait(lambda: "tv" in widget.method.choices)
    return widget


def test_sample_reconstruct_cancel_rerun_save_reopen(
    make_napari_viewer: Callable[..., Any], chest: list, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    assert Path(widget.file.value) == Path(viewer.layers["chest, measured"].metadata["file"])  # of the active layer

    widget.method.value, widget.steps.value = "sirt", 100_000
    seen: list[int] = []
    widget.begin()
    worker = widget._worker
    assert worker is not None
    worker.yielded.connect(lambda told: seen.append(told[0].step))
    wait(lambda: any("running" in layer.name for layer in viewer.layers) and len(seen) > 5)
    live = next(layer for layer in viewer.layers if "running" in layer.name)
    before = live.data.copy()
    wait(lambda: not np.array_equal(live.data, before))  # it changes as the run goes on
    assert widget.cancel.enabled
    widget.cancel.changed.emit(True)
    reached = worker.reached
    wait(lambda: widget._worker is None)
    assert worker.reached <= reached + 1  # it acts within a step
    stopped = viewer.layers["chest sirt (stopped)"]
    assert stopped.metadata["status"] == "stopped"
    assert not any("running" in layer.name for layer in viewer.layers)

    widget.method.value, widget.steps.value = "tv", 20
    widget.begin()
    wait(lambda: widget._worker is None)
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
    _no_thread_is_left()


def _no_thread_is_left() -> None:
    """Runs, and the loading of choices, are done."""
    from napari.qt.threading import WorkerBase
    from qtpy.QtCore import QThreadPool

    wait(lambda: QThreadPool.globalInstance().activeThreadCount() == 0 and not WorkerBase._worker_set, seconds=60)


def test_every_step_is_shown_where_the_window_keeps_pace(
    make_napari_viewer: Callable[..., Any], chest: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waits for its window; a faster one shows the steps that the window has time for, and says them all."""

    def at_the_pace_of_the_window(request: Any, told: Any, say: Any) -> list:
        def waiting(report: Any, volume: Any) -> bool:
            goes_on = told(report, volume)
            return worker._shown.wait(300) and goes_on

        return reconstructed(request, waiting, say)

    reconstructed = reconstruct.reconstructed
    monkeypatch.setattr(reconstruct, "reconstructed", at_the_pace_of_the_window)
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.method.value, widget.steps.value = "sirt", 6
    shown: list[tuple[str, int, np.ndarray]] = []
    widget.begin()
    worker = widget._worker
    assert worker is not None
    worker.yielded.connect(lambda told: shown.append((told[0].stage, told[0].step, widget._live.data.copy())))
    wait(lambda: widget._worker is None)
    steps = [(step, volume) for stage, step, volume in shown if stage == "sirt"]
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    for (_, before), (_, after) in pairwise(steps):
        assert not np.array_equal(before, after)
    assert np.array_equal(steps[-1][1], viewer.layers["chest sirt"].data)
    said = re.findall(r"^sirt: step (\d) of 6", widget.log.toPlainText(), re.MULTILINE)
    assert said == ["1", "2", "3", "4", "5", "6"]


def test_a_baseline_shares_the_window_of_its_result(make_napari_viewer: Callable[..., Any], chest: list) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.method.value, widget.steps.value = "tv", 10
    widget.begin(preview=1)
    wait(lambda: widget._worker is None)
    result, baseline = viewer.layers["chest tv, slice 1"], viewer.layers["chest tv, slice 1 baseline"]
    assert result.data.shape[0] == 1
    result.contrast_limits = (-100.0, 100.0)
    assert tuple(baseline.contrast_limits) == (-100.0, 100.0)


def test_cancel_ends_diffusion_with_several_samples_in_the_first(
    make_napari_viewer: Callable[..., Any], chest: list
) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.method.value, widget.steps.value, widget.samples.value = "refine", 50, 3
    widget.begin()
    worker = widget._worker
    assert worker is not None
    wait(lambda: widget.state.text().startswith("refine"))
    reached = worker.reached
    widget.cancel.changed.emit(True)
    wait(lambda: widget._worker is None)
    assert worker.reached <= reached + 2  # the step that was on its way, and one that ended before its wish was read
    assert viewer.layers["chest refine (stopped)"].data.any()
    assert viewer.layers["chest refine (stopped)"].metadata["status"] == "stopped"


def test_pause_continue_and_cancel_in_a_pause(make_napari_viewer: Callable[..., Any], chest: list) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    assert not widget.pause.enabled
    widget.method.value, widget.steps.value = "sirt", 100_000
    widget.begin()
    worker = widget._worker
    assert worker is not None
    wait(lambda: worker.reached > 3)
    widget.pause.changed.emit(True)
    assert widget.pause.text == "Continue"
    wait(lambda: "paused" in widget.state.text() or _still(lambda: worker.reached))
    reached = worker.reached
    assert _still(lambda: worker.reached)
    assert worker.reached <= reached + 1  # the step that was on its way
    widget.pause.changed.emit(True)
    assert widget.pause.text == "Pause"
    wait(lambda: worker.reached > reached + 3)
    widget.pause.changed.emit(True)
    wait(lambda: _still(lambda: worker.reached))
    reached = worker.reached
    widget.cancel.changed.emit(True)
    wait(lambda: widget._worker is None)
    assert worker.reached <= reached + 1
    assert viewer.layers["chest sirt (stopped)"].metadata["status"] == "stopped"
    assert widget.pause.text == "Pause" and not widget.pause.enabled


def _still(count: Callable[[], int], seconds: float = 0.5) -> bool:
    """Whether nothing is counted for a while, with the window at work."""
    before, end = count(), time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)
    return count() == before


def test_the_command_line_says_all_choices_and_can_be_copied(
    make_napari_viewer: Callable[..., Any], chest: list, tmp_path: Path
) -> None:
    from qtpy.QtWidgets import QApplication

    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    assert widget.device.choices[:2] == ("auto", "cpu")
    widget.method.value, widget.device.value, widget.steps.value, widget.samples.value = "refine", "cpu", 7, 3
    assert "--method refine --steps 7 --samples 3 --device cpu" in widget.command.value
    widget.copy.changed.emit(True)
    assert QApplication.clipboard().text() == widget.command.value
    widget.own_prior.value = tmp_path / "mine.safetensors"
    assert f"--prior {tmp_path / 'mine.safetensors'} --steps 7" in widget.command.value
    widget.own_prior.value = None
    assert "--prior" not in widget.command.value
    widget.method.value, widget.samples.value, widget.steps.value = "tv", 1, 5
    widget.begin(preview=2)
    assert widget.command.value.endswith("--device cpu --preview-slice 2")
    wait(lambda: widget._worker is None)
    assert viewer.layers["chest tv, slice 2"].data.shape[0] == 1
    assert re.search(r"^tv: step (\d+) of \1, residual/noise \d", widget.log.toPlainText(), re.MULTILINE)


def test_a_seismic_survey_is_filled_as_by_the_command_line(
    make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SURVEY", (4, 32, 12))
    viewer = make_napari_viewer()
    widget = _opened(viewer, samples.survey())
    widget.method.value, widget.steps.value = "pocs", 5
    widget.begin()
    wait(lambda: widget._worker is None)
    result, measured = viewer.layers["survey pocs"], viewer.layers["survey, measured"]
    live = np.abs(measured.data).max(axis=1, keepdims=True) > 0
    assert np.array_equal(np.where(live, result.data, 0), measured.data)  # what was recorded is kept
    assert np.any(np.where(live, 0, result.data))
    assert result.axis_labels == measured.axis_labels


def test_an_error_is_said_as_the_command_line_says_it(make_napari_viewer: Callable[..., Any], chest: list) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    count = len(viewer.layers)
    widget.method.value = "tv"
    widget.begin(preview=99)
    wait(lambda: widget._worker is None)
    assert "error: there is no such slice; found 99; expected 0 to 3" in widget.log.toPlainText()
    assert len(viewer.layers) == count
    assert widget.start.enabled


@pytest.mark.parametrize("kind", ["absent", "damaged", "foreign", "none", "volume"])
def test_a_bad_file_is_a_message_and_the_next_run_is_free(
    make_napari_viewer: Callable[..., Any], chest: list, tmp_path: Path, kind: str
) -> None:
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    good = Path(widget.file.value)
    bad = Path() if kind == "none" else tmp_path / "bad.h5"
    if kind == "damaged":
        bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    elif kind == "foreign":
        bad.write_text("Dear reader, " * 400)
    elif kind == "volume":
        bad = write(tmp_path / "bad.nii.gz", body())
    count = len(viewer.layers)
    widget.method.value, widget.file.value = "tv", bad
    widget.begin()
    wait(lambda: widget._worker is None)
    said = widget.log.toPlainText()
    assert said.startswith("error: ") and "unexpected" not in said
    assert kind == "none" or bad.name in said
    assert len(viewer.layers) == count and widget.start.enabled and widget.state.text() == "failed"
    widget.file.value, widget.steps.value = good, 2
    widget.begin()
    wait(lambda: widget._worker is None)
    assert "chest tv" in viewer.layers


def test_a_defect_is_a_message_too(
    make_napari_viewer: Callable[..., Any], chest: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: Any, told: Any, say: Any) -> list:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(reconstruct, "reconstructed", broken)
    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.begin()
    wait(lambda: widget._worker is None)
    assert "unexpected ZeroDivisionError: a mistake" in widget.log.toPlainText()
    assert widget.start.enabled and not widget.cancel.enabled


@pytest.mark.parametrize("paused", [False, True])
def test_closing_the_window_ends_the_run(make_napari_viewer: Callable[..., Any], chest: list, paused: bool) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent

    viewer = make_napari_viewer()
    widget = _opened(viewer, chest)
    widget.method.value, widget.steps.value = "sirt", 100_000
    widget.begin()
    worker = widget._worker
    assert worker is not None
    wait(lambda: worker.reached > 2)
    if paused:
        widget.pause.changed.emit(True)
    viewer.window.remove_dock_widget("all")
    widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # as the event loop of the program does
    wait(lambda: not worker.is_running)


def _held() -> int:
    """Bytes of this process, without what is free but not yet given back by the allocator (of glibc)."""
    from psutil import Process  # comes with napari

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(Process().memory_info().rss)


@pytest.mark.slow
def test_twenty_runs_do_not_grow_in_memory(
    make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a run stays: no layer, no volume, no worker, no thread, and no memory but what napari keeps itself.

    napari 0.9 keeps the memory of every layer that is added and removed, without any plugin: that is measured beside.
    A run leaves 5 volumes of 2 MB; fifteen runs that were kept would be 150 MB more.
    """
    monkeypatch.setattr(samples, "SHAPE", (32, 128, 128))
    viewer = make_napari_viewer()
    widget = _opened(viewer, samples.chest())
    kept = list(viewer.layers)
    widget.method.value, widget.steps.value = "tv", 2
    sizes, threads, gone, counts = [], [], [], set()
    for _ in range(20):
        widget.begin()
        gone.append(weakref.ref(widget._worker))
        wait(lambda: widget._worker is None)
        assert "chest tv" in viewer.layers
        left = [layer for layer in viewer.layers if layer not in kept]
        gone += [weakref.ref(layer.data) for layer in left]
        counts.add(len(left))
        for layer in left:
            viewer.layers.remove(layer)
        del left, layer
        _no_thread_is_left()
        sizes.append(_held())
        threads.append(len(list(Path("/proc/self/task").iterdir())))
    assert max(threads[5:]) <= max(threads[:5]) + 3, threads  # one for each run would be 15
    assert len(gone) >= 60 and not any(each() is not None for each in gone[:-5])
    before = _held()
    for _ in range(15 * (max(counts) + 1)):  # and the layer that shows the run
        viewer.layers.remove(viewer.add_image(np.random.default_rng(0).random((32, 128, 128), dtype=np.float32)))
    own = _held() - before
    assert max(sizes[15:]) - max(sizes[:5]) < own + 40 * 2**20, (own, [round(size / 2**20) for size in sizes])
