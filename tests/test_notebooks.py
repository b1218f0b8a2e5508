"""The notebooks run, on small data, and each stands in both of its forms."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))

_EXECUTE = """
import sys, jupytext, nbclient
notebook = jupytext.read(sys.argv[1])
resources = {"metadata": {"path": sys.argv[2]}}
nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
pictures = sum("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))
print("pictures", pictures)
"""


def test_there_are_notebooks() -> None:
    assert SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(script: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _EXECUTE, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"MEDRECON_NOTEBOOK_SIZE": "small", "JUPYTER_PLATFORM_DIRS": "1", "TMPDIR": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout.split()[-1]) >= 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_of_a_notebook_hold_the_same_cells(script: Path) -> None:
    import jupytext

    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells]
    paired = [(cell.cell_type, cell.source) for cell in jupytext.read(script.with_suffix(".ipynb")).cells]
    assert paired == cells


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_stored_notebook_is_small_and_free_of_machine_paths(script: Path) -> None:
    text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert len(text) < 2e6
    for path in ("/home/", "/root/", "/tmp/", "/work/", "/Users/"):
        assert path not in text
