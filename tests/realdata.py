"""Where tests find real volumes and measurements: never in the repository, never downloaded.

The folder is ``$MEDRECON_DATA``, or ``shared/data`` beside the checkout. Tests that need it skip where it is
absent; ``.ci/run`` fails when a test was skipped although the folder is there. With ``MEDRECON_REQUIRE_DATA=1`` an
absent data set fails the test instead.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest


def root() -> Path | None:
    """The folder with real data, or None where there is none."""
    named = os.environ.get("MEDRECON_DATA")
    checkout = Path(__file__).resolve().parent.parent
    for folder in [Path(named)] if named else [checkout.parent / "shared" / "data", checkout / "shared" / "data"]:
        if folder.is_dir():
            return folder
    return None


def need(*parts: str) -> Path:
    """The path ``root()/parts``; skips the calling test where it is absent."""
    folder = root()
    path = folder.joinpath(*parts) if folder else None
    if path is None or not path.exists():
        _absent(f"real data {'/'.join(parts)} is not on this machine")
    assert path is not None
    return path


def volumes(*parts: str) -> list[Path]:
    """The NIfTI files in one folder of the real data, sorted; skips where there are none."""
    found = sorted(need(*parts).glob("*.nii*"))
    if not found:
        _absent(f"real data {'/'.join(parts)} holds no volume on this machine")
    return found


def _absent(reason: str) -> NoReturn:
    if os.environ.get("MEDRECON_REQUIRE_DATA", "") not in ("", "0"):
        pytest.fail(reason)
    pytest.skip(reason)
