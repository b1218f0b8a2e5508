"""The plugin as napari sees it: every contribution, files that are opened, saved and dropped on the window."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import file_examples as examples
from helpers.command_line import body
from helpers.traces import dipping, write_segy
from helpers.window import need_window, wait

need_window()

from medrecon.data import read, read_scan, read_volume, write
from medrecon.data.segy import open_segy
from medrecon.viewer import samples
from medrecon.viewer.layers import UNITS
from medrecon.viewer.run import Request, reconstructed

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


def _contributions(kind: str) -> list[dict]:
    text = resources.files("medrecon.viewer").joinpath("napari.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["contributions"][kind]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of a size that takes no time."""
    monkeypatch.setattr(samples, "SHAPE", (4, 32, 32))
    monkeypatch.setattr(samples, "SLICES", 2)
    monkeypatch.setattr(samples, "SURVEY", (4, 32, 12))


@pytest.mark.parametrize("key", [each["key"] for each in _contributions("sample_data")])
def test_every_sample_opens_and_can_be_reconstructed(
    make_napari_viewer: Callable[..., Any], small: None, key: str
) -> None:
    viewer = make_napari_viewer()
    truth, measured = viewer.open_sample("medrecon", key)
    assert all(tuple(map(str, layer.units)) == ("millimeter",) * 3 for layer in (truth, measured))
    assert truth.metadata["role"] == "truth"
    scan = read_scan(measured.metadata["measured"])
    assert measured.metadata["slices"] == scan.volume_geometry.shape[0]
    method = {"ct": "fbp", "mri": "zero-filled", "seismic": "linear"}[scan.modality]
    layers = reconstructed(Request(Path(measured.metadata["measured"]), method=method), lambda report, layer: True)
    assert layers[-1][0].shape == truth.data.shape
    assert tuple(layers[-1][1]["scale"]) == pytest.approx(tuple(truth.scale))


@pytest.mark.parametrize("name", [each["display_name"] for each in _contributions("widgets")])
def test_every_widget_opens(make_napari_viewer: Callable[..., Any], name: str) -> None:
    viewer = make_napari_viewer()
    dock, widget = viewer.window.add_plugin_dock_widget("medrecon", name)
    assert widget.result if name == "Compare" else widget.file
    if name == "Reconstruct":
        wait(lambda: "tv" in widget.method.choices)
    assert dock.isVisibleTo(viewer.window._qt_window)


def test_files_open_as_what_they_are(make_napari_viewer: Callable[..., Any], tmp_path: Path) -> None:
    """Volumes on their grid, sections with a time, measured data as sinograms and k-space."""
    volume = body().as_orientation("RAS")
    files = {
        "v.nii.gz": write(tmp_path / "v.nii.gz", volume),
        "series": write(tmp_path / "series", volume),
        "s.sgy": write_segy(tmp_path / "s.sgy", dipping()),
        "scan.h5": write(tmp_path / "scan.h5", examples.scan()),
        "k.h5": write(tmp_path / "k.h5", examples.kspace()),
    }
    viewer = make_napari_viewer()
    shown = {name: viewer.open(str(file), plugin="medrecon")[-1] for name, file in files.items()}
    assert shown["v.nii.gz"].data.shape == shown["series"].data.shape == volume.geometry.shape
    assert np.allclose(shown["v.nii.gz"].data, shown["series"].data, atol=0.5)
    assert shown["s.sgy"].axis_labels == ("inline", "time", "crossline")
    assert shown["scan.h5"].axis_labels == ("slice", "view", "column")
    assert shown["k.h5"].axis_labels[1:] == ("ky", "kx")
    for layer in shown.values():
        assert tuple(map(str, layer.units)) == ("millimeter",) * 3
        assert layer.metadata["file"] == str(files[{v: k for k, v in shown.items()}[layer]])
    viewer.dims.ndisplay = 3


@pytest.mark.parametrize("name", ["saved.nii.gz", "saved"])
def test_a_volume_is_saved_and_opened_again(make_napari_viewer: Callable[..., Any], tmp_path: Path, name: str) -> None:
    volume = examples.volume(examples.oblique())  # turned against the axes of the patient
    file = write(tmp_path / "in.nii.gz", volume)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(file), plugin="medrecon")
    command = "medrecon.write" if name.endswith(".gz") else "medrecon.write_dicom"
    (saved,) = viewer.layers.save(str(tmp_path / name), plugin=command)
    (again,) = viewer.open(saved, plugin="medrecon")
    assert np.allclose(again.data, layer.data, atol=0 if name.endswith(".gz") else 0.02)
    assert np.allclose(again.metadata["affine"], layer.metadata["affine"], atol=1e-3)
    assert again.metadata["quantity"] == "HU" and again.units == layer.units
    assert tuple(again.scale) == pytest.approx(tuple(layer.scale), rel=1e-4)
    assert np.allclose(read_volume(saved).geometry.affine, volume.geometry.affine, atol=1e-3) or not name.endswith("gz")


def test_filled_sections_are_saved_with_the_headers_of_their_survey(
    make_napari_viewer: Callable[..., Any], tmp_path: Path
) -> None:
    keep = np.sort(np.random.default_rng(0).permutation(80)[:50])
    holes = write_segy(tmp_path / "holes.sgy", dipping(), form=1, keep=keep)
    viewer = make_napari_viewer()
    layers = reconstructed(Request(holes, method="linear"), lambda report, layer: True)
    data, keywords, _ = layers[-1]
    assert keywords["axis_labels"] == ("inline", "time", "crossline")
    layer = viewer.add_image(data, **keywords)
    (saved,) = layer.save(str(tmp_path / "full.sgy"), plugin="medrecon")
    before, after = read(holes), read(saved)
    assert after.live.all()
    old, new = open_segy(holes), open_segy(Path(saved))
    mine, theirs = (np.ndarray((len(f), 368), np.uint8, buffer=f.traces) for f in (new, old))
    live = before.live
    assert np.array_equal(mine[after.grid.index[live]], theirs[before.grid.index[live]])
    assert "BY LINEAR" in "".join(new.text)
    (again,) = viewer.open(saved, plugin="medrecon")
    assert np.allclose(again.data, layer.data, rtol=1e-5)
    viewer.layers.selection.active = viewer.open(str(holes), plugin="medrecon")[0]
    (copied,) = viewer.layers.save(str(tmp_path / "copy.sgy"), selected=True, plugin="medrecon")
    assert Path(copied).read_bytes() == holes.read_bytes()  # as it was measured, holes and all


def test_sections_of_no_file_are_saved_with_headers_of_their_own(
    make_napari_viewer: Callable[..., Any], tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    data = np.random.default_rng(0).normal(size=(3, 40, 5)).astype(np.float32)
    layer = viewer.add_image(data, units=UNITS)
    (saved,) = layer.save(str(tmp_path / "own.sgy"), plugin="medrecon")
    assert np.allclose(read(saved).data, data.transpose(0, 2, 1))


def test_view_opens_files_with_both_widgets(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari

    from medrecon.cli.viewing import view

    viewer = make_napari_viewer()
    monkeypatch.setattr(napari, "Viewer", lambda **options: viewer)
    monkeypatch.setattr(napari, "run", lambda: None)
    view([write(tmp_path / "v.nii.gz", body()), write(tmp_path / "scan.h5", examples.scan())])
    assert [layer.name for layer in viewer.layers] == ["v", "scan"]
    widgets = viewer.window.dock_widgets
    assert set(widgets) == {"Reconstruct", "Compare"}
    wait(lambda: "tv" in widgets["Reconstruct"].method.choices)


def _bad_files(folder: Path) -> list[Path]:
    """Damaged, cut short, empty, of another kind than their name says, and folders of nothing."""
    good = write(folder / "damaged.nii.gz", body())
    bytes_ = bytearray(good.read_bytes())
    bytes_[len(bytes_) // 2] ^= 0xFF
    good.write_bytes(bytes(bytes_))
    scan = write(folder / "short.h5", examples.scan())
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    (folder / "empty.nii").write_bytes(b"")
    (folder / "letter.sgy").write_text("Dear reader, " * 400)
    (folder / "letter.dcm").write_text("Dear reader, " * 400)
    (folder / "nothing").mkdir()
    (folder / "broken-series").mkdir()
    (folder / "broken-series" / "1.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    return [p for p in sorted(folder.iterdir()) if p.suffix != ".json"]


def test_bad_files_dropped_on_the_window_give_a_message(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """napari's own reader claims many names too: the person who is asked chooses medrecon where it is offered."""
    from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
    from napari.utils.notifications import NotificationSeverity, notification_manager

    texts: dict[str, str] = {}

    def told(notification: Any) -> None:
        """Keep the words alone: an error holds its frames, and those hold the window."""
        if notification.severity >= NotificationSeverity.WARNING:
            texts[file.name] = f"{texts.get(file.name, '')} {notification.message}"

    monkeypatch.setattr(QtReaderDialog, "get_user_choices", lambda dialog: ("medrecon", False))
    monkeypatch.setattr(notification_manager, "dispatch", told)
    viewer = make_napari_viewer()
    for file in _bad_files(tmp_path):
        with notification_manager:  # as `napari.run` has it
            _drop(viewer.window._qt_viewer, file)
        assert texts.get(file.name), file.name
    assert "letter.sgy: unknown sample format" in texts["letter.sgy"]  # as the command line says it
    assert "damaged.nii.gz" in texts["damaged.nii.gz"]
    assert "short.h5: " in texts["short.h5"]
    assert len(viewer.layers) == 0
    viewer.add_image(np.zeros((2, 4, 4)))  # the window lives
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):  # Python keeps the last error as well
        vars(sys).pop(name, None)


def _drop(target: Any, file: Path) -> None:
    """Drag a file onto a widget and let it go, by the events that Qt itself sends."""
    from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
    from qtpy.QtGui import QDragEnterEvent, QDropEvent
    from qtpy.QtWidgets import QApplication

    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(file))])
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(target, QDragEnterEvent(QPoint(5, 5), *how))
    assert QApplication.sendEvent(target, QDropEvent(QPointF(5, 5), *how))
