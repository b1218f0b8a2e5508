"""Which skipped tests are right to be skipped: those that name something missing on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable

import realdata


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name.split(".")[0]) is not None


def _real_data(path: str) -> bool:
    folder = realdata.root()
    return folder is not None and (folder / path).exists()


def _program(name: str) -> bool:
    return shutil.which(name) is not None


def _window(_: str) -> bool:
    """Whether napari could open a window here: then the runners have to be here too."""
    screen = bool(os.environ.get("DISPLAY")) or _program("Xvfb")
    return screen and _importable("napari") and any(_importable(name) for name in ("PyQt6", "PySide6"))


def _cuda(_: str) -> bool:
    import torch

    return torch.cuda.is_available()


# Pattern of a skip reason, and the question "is what its first group names here?"
_NEEDS: list[tuple[str, Callable[[str], bool]]] = [
    (r"could not import '([\w.]+)'", _importable),
    (r"No module named '([\w.]+)'", _importable),
    (r"real data (\S+)", _real_data),
    (r"program ([\w.-]+) is not installed", _program),
    (r"a window needs the test runner (\w+)", _window),
    (r"(CUDA)", _cuda),
]


def is_needed(reason: str) -> bool:
    """Whether the reason names something that is missing here; a reason that names nothing is not."""
    for pattern, is_here in _NEEDS:
        match = re.search(pattern, reason)
        if match:
            return not is_here(match.group(1))
    return False
