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
        ("I did not feel like it", False),
    ],
)
def test_only_what_is_missing_excuses_a_skip(reason: str, needed: bool) -> None:
    assert skips.is_needed(reason) is needed


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
