"""The program BART as an independent code for MRI: arrays in, arrays out, through its files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest


def need_bart() -> str:
    """The path of the program; skips the calling test where it is not installed."""
    program = which("bart")
    if program is None:
        pytest.skip("program bart is not installed")
    return program


def write_cfl(path: Path, array: np.ndarray) -> None:
    """BART's pair of files; ``array`` has its dimensions in BART's order (read, phase, phase, coil, sets, ...)."""
    sizes = [*array.shape, *[1] * (16 - array.ndim)]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> np.ndarray:
    """What BART wrote, without trailing dimensions of one."""
    sizes = [int(n) for n in path.with_suffix(".hdr").read_text().split("\n")[1].split()]
    array = np.fromfile(path.with_suffix(".cfl"), dtype=np.complex64).reshape(sizes, order="F")
    return array.reshape(array.shape[: max(i + 1 for i, n in enumerate(sizes) if n > 1)])


def bart(folder: Path, command: list[str], **inputs: np.ndarray) -> np.ndarray:
    """Run one command in a folder; words that name an input stand for its file, ``out`` for the result."""
    for name, array in inputs.items():
        write_cfl(folder / name, array)
    subprocess.run([need_bart(), *command], cwd=folder, check=True, capture_output=True)
    return read_cfl(folder / "out")


def slice_for_bart(data: np.ndarray) -> np.ndarray:
    """``(coils, 1, y, x)`` in BART's order: ``(y, x, 1, coils)``."""
    return np.moveaxis(data[:, 0], 0, -1)[:, :, None]
