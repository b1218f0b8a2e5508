"""What tests in a real window need: a display, and patience."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import pytest

BINDINGS = ("PyQt6", "PySide6")
RUNNERS = ("pytestqt", "pytest_xvfb")


def need_window() -> None:
    """Skip the calling module unless napari, a Qt binding, a screen or Xvfb, and the runners are here.

    Without a screen Qt would end the process. Where napari and Qt are here and Qt opens no window, or the runners are
    missing, `skips` calls the skip needless.
    """
    for name in ("napari", "magicgui"):
        pytest.importorskip(name)
    if not any(find_spec(name) for name in BINDINGS):
        pytest.skip("could not import 'PyQt6' or another binding of Qt", allow_module_level=True)
    if not os.environ.get("DISPLAY") and shutil.which("Xvfb") is None:
        pytest.skip("program Xvfb is not installed", allow_module_level=True)
    for name in RUNNERS:
        if find_spec(name) is None:
            pytest.skip(f"a window needs the test runner {name}", allow_module_level=True)
    if not os.environ.get("DISPLAY"):
        pytest.fail("there is no screen although pytest-xvfb and Xvfb are installed")
    trouble = _trouble()
    if trouble:
        pytest.skip(f"Qt opens no window: {trouble}", allow_module_level=True)


@cache
def _trouble() -> str:
    """What Qt says where it cannot open a window, for want of a library of the system; it ends the process then."""
    code = "from qtpy.QtWidgets import QApplication; QApplication([])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return (answer.stderr.strip() or f"exit code {answer.returncode}").splitlines()[0] if answer.returncode else ""


def wait(until: Callable[[], bool], seconds: float = 900.0) -> None:
    """Let the window work until something holds; fails when it never does."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "the window did not get there"
        QApplication.processEvents()
        time.sleep(0.005)
