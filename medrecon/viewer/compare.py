"""The widget that compares: volumes beside each other in one window, along a line, in a region, from slice to slice."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton, Slider
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QHeaderView, QLabel, QTableWidget, QTableWidgetItem

from medrecon.errors import MedreconError
from medrecon.viewer.arranging import AS_LISTED, DIFFERENCE, MODES, SIDE_BY_SIDE, WIPE, Arrangement
from medrecon.viewer.form import Form
from medrecon.viewer.layers import gained_layer, is_map, is_volume, layer_volume
from medrecon.viewer.probing import LINE, REGIONS, Drawings, flicker, profiles, statistics
from medrecon.viewer.reading import report_beside
from medrecon.viewer.windowing import Windowing, by_hand

if TYPE_CHECKING:
    from medrecon.figures import Curve, Window
    from medrecon.image_quality import RegionStatistics

PROFILE, STEPS = PLOTS = ("profile along the line", "steps from slice to slice")
AGC, BY_HAND = "AGC", "by hand"
_COLUMNS = ("mean", "sd", "median", "min", "max", "mm²")
_PAUSE = 120  # milliseconds without a change before a plot is drawn
_MAPS = (
    "half-width",
    "spread",
    "prior-only",
    "null-share",
)  # what is shown third where nobody chose, the first that there is
_PIXELS_PER_INCH = 88  # of a plot: its letters are then as large as those of the window
_MOST_ROWS = 8  # of the table before it scrolls
_LARGEST = 1e9  # of any number that a window is set to


class CompareWidget(Form):
    """Choose a result and what to compare it with; see them in one window, and measure them."""

    def __init__(self, napari_viewer: Any) -> None:
        self._viewer = napari_viewer
        self._arrangement = Arrangement(napari_viewer)
        self._windowing = Windowing(napari_viewer, self._window_changed)
        self._drawings = Drawings(napari_viewer, self._draw_soon)
        self._gained: dict[Any, Any] = {}  # a layer, and its copy after automatic gain
        self._presets: dict[str, Window] = {}
        self._arranging = False
        self.result = ComboBox(label="result", choices=self._volumes, nullable=True)
        self.beside = ComboBox(label="beside it", choices=self._volumes, nullable=True, tooltip="Baseline or truth.")
        self.third = ComboBox(label="third", choices=self._volumes, nullable=True, tooltip="Another volume, or a map.")
        self.mode = ComboBox(label="show", choices=MODES)
        self.edge = Slider(label="wipe", min=0, max=100, value=50, tooltip="Left of the edge is the result.")
        self.preset = ComboBox(label="window", choices=lambda _: [*self._presets, *self._further()])
        self.window_width = FloatSpinBox(label="width", min=0, max=_LARGEST, value=1)
        self.window_level = FloatSpinBox(label="level", min=-_LARGEST, max=_LARGEST, value=0)
        self.drag = CheckBox(text="a drag sets the window", tooltip="To the right: wider. Upwards: brighter.")
        self.line = PushButton(text="Draw a line")
        self.region = PushButton(text="Draw a region")
        self.plot = ComboBox(label="plot", choices=PLOTS)
        self.picture = QLabel()
        self.caption = QLabel()
        self.table = QTableWidget()
        self.report = PushButton(text="Open the report")
        self.state = QLabel()
        super().__init__(
            [
                self.result, self.beside, self.third, self.mode, self.edge, self.preset,
                (self.window_width, self.window_level), self.drag, (self.line, self.region), self.plot, self.picture,
                self.caption, self.table, self.report, self.state,
            ]
        )  # fmt: skip
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.state.setWordWrap(True)
        self._prepare_table()
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_PAUSE)
        self._soon.timeout.connect(self._draw)
        self.result.changed.connect(self._result_chosen)
        for widget in (self.beside, self.third, self.mode):
            widget.changed.connect(self._arrange)
        self.edge.changed.connect(lambda percent: self._arrangement.wipe_to(percent / 100))
        self.preset.changed.connect(self._take_preset)
        for number in (self.window_width, self.window_level):
            number.changed.connect(self._take_numbers)
        self.drag.changed.connect(self._windowing.by_mouse)
        self.line.changed.connect(lambda: self._draw_shape(LINE))
        self.region.changed.connect(lambda: self._draw_shape(REGIONS))
        self.plot.changed.connect(self._draw_soon)
        self.report.changed.connect(self._open_report)
        for event in self._events():
            event.connect(self._layers_changed)
        self._viewer.dims.events.order.connect(self._turned)
        self.destroyed.connect(lambda: self._abandon())
        self._take_newest()

    def _prepare_table(self) -> None:
        self.table.setColumnCount(len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.hide()

    def _events(self) -> Sequence[Any]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.renamed)

    def _abandon(self) -> None:
        """The widget is gone: listen no more."""
        for event in self._events():
            event.disconnect(self._layers_changed)
        self._viewer.dims.events.order.disconnect(self._turned)
        self._windowing.by_mouse(False)
        self._windowing.release()

    # --- what is compared -------------------------------------------------------------------------------------
    def _volumes(self, widget: object = None) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self._viewer.layers if is_volume(layer)]

    def layers(self) -> list[Any]:
        """The chosen layers: the result, what stands beside it, and a third; each once."""
        chosen = [widget.value for widget in (self.result, self.beside, self.third)]
        return list(dict.fromkeys(layer for layer in chosen if layer is not None))

    def pictures(self) -> list[Any]:
        """Those of the chosen layers that hold the result's quantity, so that one window fits them."""
        quantity = None if self.result.value is None else self.result.value.metadata.get("quantity")
        return [layer for layer in self.layers() if layer.metadata.get("quantity") == quantity and not is_map(layer)]

    def _layers_changed(self, event: object = None) -> None:
        if self._arranging:
            return
        had, new = self.result.value, getattr(event, "value", None)
        for chooser in (self.result, self.beside, self.third):
            chooser.reset_choices()
        # A result that comes is looked at, unless one is looked at already
        first = _is_result(new) and not _is_result(had) and getattr(event, "type", "") == "inserted"
        if had is None or first:
            self._take_newest()
        self._draw_soon()

    def _take_newest(self) -> None:
        """Begin with the last result, or else the last volume."""
        volumes = [layer for _, layer in self._volumes() if not is_map(layer)]
        results = [layer for layer in volumes if _is_result(layer)]
        if volumes:
            self.result.value = (results or volumes)[-1]

    def _result_chosen(self, result: Any) -> None:
        """Take what belongs to the result, else the truth or another volume."""
        others = [layer for _, layer in self._volumes() if layer is not result]
        group = None if result is None else result.metadata.get("group")
        mine = {layer.metadata.get("role"): layer for layer in others if group and layer.metadata.get("group") == group}
        alike = [layer for layer in others if not is_map(layer) and result is not None
                 and layer.data.shape == result.data.shape]  # fmt: skip
        with self.beside.changed.blocked(), self.third.changed.blocked():
            self.beside.value = mine.get("baseline", alike[0] if alike else None)
            self.third.value = next((mine[role] for role in _MAPS if role in mine and mine[role].data.any()), None)
        self._presets = {}
        if result is not None:
            from medrecon.figures import presets_of

            self._presets = {window.name: window for window in presets_of(layer_volume(result))}
            for number in (self.window_width, self.window_level):
                number.step = _step(max(window.width for window in self._presets.values()))
        with self.preset.changed.blocked():
            self.preset.reset_choices()
        self._arrange()

    # --- how they stand ---------------------------------------------------------------------------------------
    def _arrange(self, event: object = None) -> None:
        """Show the chosen layers in the chosen mode, in one window."""
        if self._arranging:  # layers that come and go on the way make napari renew every choice
            return
        self.state.setText("")
        self._arranging = True
        self._windowing.release()
        try:
            self._gain()
            shown = [self._gained.get(layer, layer) for layer in self.layers()]
            compared = self.layers() if self.mode.value == DIFFERENCE else shown
            self._arrangement.show(self.mode.value, compared, self.edge.value / 100)
            made = [self._arrangement.made] if self.mode.value == WIPE and self._arrangement.made is not None else []
            self._windowing.follow([*(self._gained.get(layer, layer) for layer in self.pictures()), *made])
        except MedreconError as error:
            self.state.setText(str(error))
        finally:
            self._arranging = False
        self.edge.enabled = self.mode.value == WIPE
        self._draw_soon()

    def _turned(self, event: object = None) -> None:
        if self.mode.value == WIPE:  # along another axis now
            self._arrange()

    def _gain(self) -> None:
        """Copies after automatic gain while that is chosen, none otherwise."""
        wanted = self.pictures() if self.preset.value == AGC else []
        for layer in [layer for layer in self._gained if layer not in wanted]:
            copy = self._gained.pop(layer)
            if copy in self._viewer.layers:
                self._viewer.layers.remove(copy)
        for layer in wanted:
            if layer not in self._gained:
                data, keywords, _ = gained_layer(layer)
                self._gained[layer] = self._viewer.add_image(data, **keywords)

    # --- the window -------------------------------------------------------------------------------------------
    def _further(self) -> list[str]:
        result = self.result.value
        amplitudes = result is not None and result.metadata.get("quantity") == "amplitude"
        return [AGC, BY_HAND] if amplitudes else [BY_HAND]

    def _take_preset(self, name: str) -> None:
        if (name == AGC) != bool(self._gained):
            self._arrange()
        if name in self._presets:
            self._windowing.set(self._presets[name])

    def _take_numbers(self, event: object = None) -> None:
        self._windowing.set(by_hand(self.window_width.value, self.window_level.value))

    def _window_changed(self, window: Window) -> None:
        """Show the numbers, and the name where a preset has them."""
        same = (name for name, w in self._presets.items() if _close(w, window))
        kept = self.preset.value == AGC or (
            self.preset.value in self._presets and _close(self._presets[self.preset.value], window)
        )
        with self.window_width.changed.blocked(), self.window_level.changed.blocked(), self.preset.changed.blocked():
            self.window_width.value, self.window_level.value = window.width, window.level
            if not kept:
                self.preset.value = next(same, BY_HAND)

    # --- what they are ----------------------------------------------------------------------------------------
    def _draw_shape(self, kind: str) -> None:
        if self.result.value is None:
            self.state.setText("Choose a result first.")
            return
        if self.mode.value == SIDE_BY_SIDE:  # every layer has a picture of its own there, the drawing too
            self.mode.value = WIPE if len(self.pictures()) > 1 else AS_LISTED
        self._drawings.draw(kind, self.result.value)
        if kind == LINE:
            self.plot.value = PROFILE

    def _draw_soon(self, event: object = None) -> None:
        self._soon.start()

    def _draw(self) -> None:
        """The plot and the table, as they are now."""
        layers, curves = self.pictures(), []
        try:
            curves = self.curves()
        except MedreconError as error:
            self.state.setText(str(error))
        if curves:
            unit = layers[0].metadata.get("quantity", "a.u.")
            self._show_plot(
                curves, *(("mm", unit) if self.plot.value == PROFILE else ("slice", f"mean |step|, {unit}"))
            )
        else:
            self.picture.setText("Draw a line to see the volumes along it." if self.plot.value == PROFILE else "")
        self._show_statistics(statistics(self._drawings.regions(), layers))

    def curves(self) -> list[Curve]:
        """What the chosen plot shows of the compared volumes."""
        layers, line = self.pictures(), self._drawings.line()
        if self.plot.value == STEPS:
            return flicker(layers) if layers and layers[0].data.shape[0] > 1 else []
        return profiles(line, layers) if layers and line is not None else []

    def _show_plot(self, curves: list[Curve], x_label: str, y_label: str) -> None:
        from medrecon.figures import DARK, WHITE, plot_png

        ratio, width = self.picture.devicePixelRatioF(), max(self.viewport().width() - 20, 280)
        paper = WHITE if self._viewer.theme == "light" else DARK
        size = (width / _PIXELS_PER_INCH, 0.55 * width / _PIXELS_PER_INCH)
        pixmap = QPixmap()
        pixmap.loadFromData(plot_png(curves, x_label=x_label, y_label=y_label, size=size, paper=paper))
        pixmap = pixmap.scaledToWidth(round(width * ratio), Qt.TransformationMode.SmoothTransformation)
        pixmap.setDevicePixelRatio(ratio)
        self.picture.setPixmap(pixmap)

    def _show_statistics(self, found: Mapping[tuple[int, str], RegionStatistics]) -> None:
        unit = "" if self.result.value is None else self.result.value.metadata.get("quantity", "a.u.")
        self.table.setRowCount(len(found))
        self.table.setVerticalHeaderLabels([f"{number} {name}" for number, name in found])
        self.caption.setText(f"Regions, in {unit}" if found else "")
        for row, s in enumerate(found.values()):
            for column, value in enumerate((s.mean, s.deviation, s.median, s.lowest, s.highest, s.area)):
                self.table.setItem(row, column, QTableWidgetItem(_figure(value)))
        rows = min(len(found), _MOST_ROWS)
        self.table.setFixedHeight(self.table.horizontalHeader().height() + rows * self.table.rowHeight(0) + 4)
        self.table.setVisible(bool(found))

    def _open_report(self) -> None:
        try:
            webbrowser.open(report_beside(self.result.value).as_uri())
        except MedreconError as error:
            self.state.setText(str(error))


def _step(width: float) -> float:
    """A fitting step for numbers of this size: a power of ten."""
    return 10.0 ** floor(log10(width / 50)) if width > 0 else 1.0


def _close(first: Window, second: Window) -> bool:
    room = 1e-4 * max(first.width, 1e-12)
    return abs(first.low - second.low) < room and abs(first.high - second.high) < room


def _figure(value: float) -> str:
    if 10 <= abs(value) < 1e5:  # four letters and a sign: what a column shows whole
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return f"{value:.3g}"


def _is_result(layer: object) -> bool:
    return getattr(layer, "metadata", {}).get("role") == "result"
