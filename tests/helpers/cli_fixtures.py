"""Fixtures: the command line in this process, on a volume small enough for seconds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.command_line import Answer, Run, body
from medrecon.cli import main
from medrecon.data import write


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Run a command with its files in an empty folder."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)  # `main` takes it over for the rest of its process

    def command(*words: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        return Answer(int(end.value.code or 0), captured.out, captured.err)

    yield command
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A volume in a file."""
    return write(tmp_path / "truth.nii.gz", body())


@pytest.fixture
def scan(run: Run, truth: Path, tmp_path: Path) -> Path:
    """A scan of it, of 12 views with photon noise."""
    path = tmp_path / "scan.h5"
    assert run("simulate", "ct", truth, "-o", path, "--views", 12, "--photons", "1e5").code == 0
    return path
