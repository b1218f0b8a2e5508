"""Both bindings of Qt: napari in a process of its own, because a process can hold only one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers import open_window
from helpers.window import BINDINGS, need_window

need_window()


@pytest.mark.parametrize("binding", BINDINGS)
def test_the_widgets_open_at_once_and_reconstruct(binding: str) -> None:
    """Seconds are those of the window's own thread: a busy machine must not fail this."""
    if find_spec(binding) is None:
        pytest.skip(f"could not import '{binding}'")
    program = Path(open_window.__file__)
    paths = os.pathsep.join([str(program.parents[1]), os.environ.get("PYTHONPATH", "")])
    answer = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"QT_API": binding.lower(), "PYTHONPATH": paths},
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout.splitlines()[-1])
    assert said["binding"] == binding
    for opened in said["opened"].values():
        assert opened["seconds"] < 1, said["opened"]
    assert said["opened"]["Compare"]["heavy"] == []
    assert said["state"] == "done" and said["layers"][-1] == "chest tv"
    assert said["compared"][0] == "chest tv"
    assert said["contrast"] > 10  # there is a picture
