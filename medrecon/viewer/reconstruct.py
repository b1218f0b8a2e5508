"""The widget that reconstructs: it watches a run step by step and can stop it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, FileEdit, LineEdit, ProgressBar, PushButton, SpinBox
from napari.qt.threading import WorkerBase, WorkerBaseSignals, create_worker
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QLabel, QPlainTextEdit

from medrecon.cli.failures import said_of
from medrecon.viewer.form import Form
from medrecon.viewer.run import Choices, Request, known_choices, reconstructed
from medrecon.viewer.windowing import LINKED

if TYPE_CHECKING:
    from medrecon.engine import StepReport
    from medrecon.viewer.layers import Layer

_LINES = 2000  # of the log


class _Signals(WorkerBaseSignals):
    yielded = Signal(object)
    said = Signal(str)


class Reconstruction(WorkerBase):
    """One run in a thread of its own. It yields every step, and its result also when it was stopped.

    ``stop`` is the person's wish to keep what is reached; ``quit`` is napari's when the window closes.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(SignalsClass=_Signals)
        self.request = request
        self.reached = 0  # steps so far, of all stages
        self._stopped = threading.Event()
        self._going, self._shown = threading.Event(), threading.Event()
        self._going.set()
        self._shown.set()

    def stop(self) -> None:
        """End after the current step."""
        self._stopped.set()
        self._going.set()

    def pause(self) -> None:
        """Wait after the current step."""
        self._going.clear()

    def go_on(self) -> None:
        """End of the pause."""
        self._going.set()

    def quit(self) -> None:
        """End after the current step, a pause included: the window closes."""
        super().quit()
        self._going.set()

    def shown(self) -> None:
        """The window has shown the last volume: the next one may come."""
        self._shown.set()

    def work(self) -> list[Layer]:
        """The layers of the result."""

        def told(report: StepReport, volume: Any) -> bool:
            self.reached += 1
            layer = None
            if self._shown.is_set():  # volumes do not pile up before a window that is slower than the run
                self._shown.clear()
                layer = volume()
            self.yielded.emit((report, layer))
            self._going.wait()
            return not (self._stopped.is_set() or self.abort_requested)

        return reconstructed(self.request, told, self.said.emit)


class ReconstructWidget(Form):
    """Choose measured data and a method, try one slice, reconstruct, watch, pause, stop."""

    def __init__(self, napari_viewer: Any) -> None:
        self._viewer = napari_viewer
        self._worker: Reconstruction | None = None
        self._live: Any = None
        self._known = Choices(["auto"], [], ["auto"])
        self.file = FileEdit(label="file", mode="r", tooltip="Measured data: a scan, k-space, or traces.")
        self.method = ComboBox(label="method", choices=lambda _: self._known.methods, tooltip="See `medrecon methods`.")
        self.prior = ComboBox(
            label="prior",
            choices=lambda _: [("the one for the modality", ""), *((name, name) for name in self._known.priors)],
            tooltip="See `medrecon priors`.",
        )
        self.own_prior = FileEdit(
            label="own prior", mode="r", filter="*.safetensors", nullable=True,
            tooltip="A file, in place of the one above.",
        )  # fmt: skip
        self.steps = SpinBox(label="steps", min=0, max=100_000, tooltip="0: as the method has it.")
        self.samples = SpinBox(label="samples", value=1, min=1, max=1000, tooltip="Their mean and their spread.")
        self.device = ComboBox(label="device", choices=lambda _: self._known.devices)
        self.slice = SpinBox(label="slice", min=0, max=100_000, tooltip="The slice to try.")
        self.preview = PushButton(text="Preview it", tooltip="This slice alone, with its neighbours: seconds.")
        self.start = PushButton(text="Reconstruct")
        self.pause = PushButton(text="Pause", enabled=False)
        self.cancel = PushButton(text="Cancel", enabled=False, tooltip="End after this step and keep the volume.")
        self.progress = ProgressBar(label="progress", min=0, max=1, value=0)
        self.state = QLabel()
        self.command = LineEdit(label="command", tooltip="The command line that does the same.")
        self.copy = PushButton(text="Copy")
        self.log = QPlainTextEdit()
        super().__init__(
            [
                self.file, self.method, self.prior, self.own_prior, (self.steps, self.samples), self.device,
                (self.slice, self.preview), self.start, (self.pause, self.cancel), self.progress, self.state,
                (self.command, self.copy),
            ],
            below=self.log,
        )  # fmt: skip
        self.command.native.setReadOnly(True)
        self.state.setWordWrap(True)
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(_LINES)
        for widget in (self.file, self.method, self.prior, self.own_prior, self.steps, self.samples, self.device):
            widget.changed.connect(self._show_command)
        self.preview.changed.connect(lambda: self.begin(preview=self.slice.value))
        self.start.changed.connect(lambda: self.begin())
        self.pause.changed.connect(self._pause)
        self.cancel.changed.connect(self._cancel)
        self.copy.changed.connect(lambda: QApplication.clipboard().setText(self.command.value))
        self._viewer.layers.selection.events.active.connect(self._take_file)
        self.destroyed.connect(lambda: self._abandon())
        self._take_file()
        self._choices = create_worker(known_choices)  # loads torch: not while the widget opens
        self._choices.returned.connect(self._offer)
        self._choices.start()

    # --- choices ----------------------------------------------------------------------------------------------
    def _offer(self, known: Choices) -> None:
        self._known = known
        for chooser in (self.method, self.prior, self.device):
            chooser.reset_choices()

    def _take_file(self, event: object = None) -> None:
        """Take the measured data of the active layer, with its middle slice to try."""
        layer = self._viewer.layers.selection.active
        metadata = {} if layer is None else layer.metadata
        if "measured" in metadata and "slices" in metadata:
            self.file.value = Path(metadata["measured"])
            self.slice.value = int(metadata["slices"]) // 2

    def request(self, preview: int | None = None) -> Request:
        """What is chosen now."""
        return Request(
            file=Path(self.file.value),
            method=str(self.method.value),
            prior=str(self.own_prior.value or self.prior.value or ""),
            steps=int(self.steps.value),
            samples=int(self.samples.value),
            device=str(self.device.value),
            preview=preview,
        )

    def _show_command(self, *_: object, request: Request | None = None) -> None:
        self.command.value = (request or self.request()).command
        self.command.native.setCursorPosition(0)

    # --- the run ----------------------------------------------------------------------------------------------
    def begin(self, preview: int | None = None) -> None:
        """Start a run; nothing happens while another one is on its way."""
        if self._worker is not None:
            return
        request = self.request(preview)
        self._show_command(request=request)
        self.log.clear()
        self.state.setText("reading")
        self.progress.value = 0
        self._switch(running=True)
        self._worker = worker = Reconstruction(request)
        worker.yielded.connect(self._step)
        worker.said.connect(self._say)
        worker.returned.connect(self._result)
        worker.errored.connect(self._error)
        worker.finished.connect(self._end)
        worker.start()

    def _pause(self) -> None:
        """Wait after this step, or go on."""
        if self._worker is None:
            return
        if self.pause.text == "Pause":
            self._worker.pause()
            self.pause.text = "Continue"
            self.state.setText("pausing after this step")
        else:
            self._worker.go_on()
            self.pause.text = "Pause"
            self.state.setText("going on")

    def _cancel(self) -> None:
        if self._worker is not None:
            self.state.setText("stopping after this step")
            self.pause.enabled = False
            self._worker.stop()

    def _abandon(self) -> None:
        """The window is gone: end the run, and touch nothing of what it still has to say."""
        self._viewer.layers.selection.events.active.disconnect(self._take_file)
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.quit()

    def _switch(self, *, running: bool) -> None:
        self.start.enabled = self.preview.enabled = not running
        self.cancel.enabled = self.pause.enabled = running
        self.pause.text = "Pause"

    def _step(self, told: tuple[StepReport, Layer | None]) -> None:
        if self._worker is None:
            return
        report, layer = told
        self.progress.max = report.total_steps
        self.progress.value = report.step
        said = f"{report.stage}: step {report.step} of {report.total_steps}"
        waits = self.pause.text != "Pause"
        self.state.setText(f"{said}, {'paused' if waits else f'{report.remaining:.0f} s left'}")
        self._say(f"{said}{_residual(report)}")
        if layer is not None:
            self._show(layer)
        self._worker.shown()

    def _show(self, layer: Layer) -> None:
        """The volume so far, in one layer that keeps the window that the person chose."""
        data, keywords, _ = layer
        if self._live is not None and self._live in self._viewer.layers and self._live.data.shape == data.shape:
            self._live.data = data
            return
        self._drop_live()
        self._live = self._viewer.add_image(data, **keywords)

    def _result(self, layers: list[Layer]) -> None:
        """Replace the running layer by the result and what belongs to it."""
        before = self._viewer.layers.selection.active
        self._drop_live()
        add_layers(self._viewer, layers)
        result = self._viewer.layers[-1]
        if before is not None and before in self._viewer.layers:
            self._viewer.layers.selection.active = before  # the file stays chosen
        said = result.metadata["status"]
        self.state.setText(said)
        self._say(f"{result.name}: {said}")

    def _error(self, error: Exception) -> None:
        if self._worker is None:
            return
        self.state.setText("failed" if getattr(error, "exit_code", 1) != 130 else "stopped")
        self._say(said_of(error))
        self._drop_live()

    def _end(self) -> None:
        if self._worker is not None:
            self._worker = None
            self._switch(running=False)

    def _drop_live(self) -> None:
        if self._live is not None and self._live in self._viewer.layers:
            self._viewer.layers.remove(self._live)
        self._live = None

    def _say(self, line: str) -> None:
        self.log.appendPlainText(line)


def add_layers(viewer: Any, layers: list[Layer]) -> None:
    """Add layers; a result and its baseline share their window."""
    from napari.layers import Layer as NapariLayer

    added = [viewer.add_layer(NapariLayer.create(*layer)) for layer in layers]
    groups: dict[str, list[Any]] = {}
    for layer in added:
        if layer.metadata.get("role") in ("result", "baseline"):
            groups.setdefault(layer.metadata["group"], []).append(layer)
    for linked in groups.values():
        if len(linked) > 1:
            viewer.layers.link_layers(linked, LINKED)
            _unlink_when_one_goes(viewer, linked)


def _unlink_when_one_goes(viewer: Any, linked: list[Any]) -> None:
    """A link in napari, and with it both volumes, lives until it is told to end."""

    def gone(event: Any) -> None:
        if event.value in linked:
            viewer.layers.events.removed.disconnect(gone)
            viewer.layers.unlink_layers(linked, LINKED)

    viewer.layers.events.removed.connect(gone)


def _residual(report: StepReport) -> str:
    discrepancy = report.stats.get("discrepancy")
    return "" if discrepancy is None else f", residual/noise {discrepancy:.2f}"
