"""The rule that nothing is skipped without need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import skips

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize(
    ("reason", "needed"),
    [
        ("could not import 'no_such_module': No module named 'no_such_module'", True),
        ("could not import 'numpy': broken", False),
        ("program no-such-program is not installed", True),
        ("program python3 is not installed", False),
        ("real data no/such/folder is not on this machine", True),
        ("Qt opens no window: libxcb-cursor0 is needed to load the plugin", False),
        ("I did not feel like it", False),
    ],
)
def test_only_what_is_missing_excuses_a_skip(reason: str, needed: bool) -> None:
    assert skips.is_needed(reason) is needed


@pytest.mark.parametrize(("missing", "needed"), [((), False), (("napari",), True), (("PyQt6", "PySide6"), True)])
def test_a_missing_test_runner_excuses_only_where_there_is_no_window(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], needed: bool
) -> None:
    """Continuous integration with napari, Qt and a screen shall run the window tests, not skip them."""
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(skips, "_importable", lambda name: name not in missing)
    assert skips.is_needed("a window needs the test runner pytestqt") is needed


def test_no_screen_excuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(skips, "_importable", lambda name: True)
    monkeypatch.setattr(skips, "_program", lambda name: False)
    assert skips.is_needed("a window needs the test runner pytestqt")


@pytest.mark.parametrize(("strict", "code"), [("1", 1), ("0", 0)])
def test_a_needless_skip_fails_the_run_only_when_asked(tmp_path: Path, strict: str, code: int) -> None:
    for name in ("conftest.py", "skips.py", "realdata.py"):
        (tmp_path / name).write_text((TESTS / name).read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_ok(): pass\ndef test_lazy(): pytest.importorskip('numpy'); pytest.skip('lazy')\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"MEDRECON_STRICT_SKIPS": strict, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == code, run.stdout
    assert ("lazy" in run.stdout.split("skipped although")[-1]) is (strict == "1")
