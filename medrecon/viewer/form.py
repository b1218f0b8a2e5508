"""Rows of labelled inputs that scroll where the window is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import CheckBox, PushButton
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

_WIDTH = 400


class Form(QScrollArea):
    """One row for each entry: an input of magicgui with its label, a widget of Qt, or several of them in a tuple.

    ``below`` is a widget that takes the rest of the height.
    """

    def __init__(self, rows: Sequence[Any], below: QWidget | None = None) -> None:
        super().__init__()
        inner = QWidget()
        column = QVBoxLayout(inner)
        layout = QFormLayout()
        layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        column.addLayout(layout)
        column.addWidget(below or QWidget(), stretch=1)
        for row in rows:
            if isinstance(row, tuple):
                label = "" if _wide(row[0]) else row[0].label
                layout.addRow(*([label] if label else []), _beside(row))
            elif _wide(row):
                layout.addRow(_native(row))
            else:
                layout.addRow(row.label, row.native)
        self.setWidget(inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._fit()

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802 - the name is of Qt
        """Qt's own, and wide enough again where the rows have become wider."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return bool(super().eventFilter(watched, event))

    def _fit(self) -> None:
        """Room for the rows with the bar beside them: nothing is cut off."""
        rows = self.widget()
        if rows is not None:
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(max(_WIDTH, rows.minimumSizeHint().width()) + bar)


def _wide(entry: Any) -> bool:
    """Whether an entry takes the whole row: buttons and check boxes carry their own text."""
    return isinstance(entry, QWidget | PushButton | CheckBox) or not entry.label


def _native(entry: Any) -> QWidget:
    return entry if isinstance(entry, QWidget) else entry.native


def _beside(entries: Sequence[Any]) -> QWidget:
    """Several entries in one row; the label of the first one is that of the row."""
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    buttons = all(isinstance(entry, PushButton) for entry in entries)
    for place, entry in enumerate(entries):
        if place and not _wide(entry):
            layout.addWidget(QLabel(entry.label))
        layout.addWidget(_native(entry), stretch=int(buttons or not isinstance(entry, PushButton)))
    return box
