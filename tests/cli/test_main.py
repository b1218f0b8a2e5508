"""Exit codes, streams, and what a person is told when something is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.command_line import Run
from medrecon import __version__


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.strip() == f"medrecon {__version__}"
    answer = run("--help")
    assert answer.code == 0
    for command in (
        "demo", "simulate", "recon", "compare", "info", "convert", "report", "methods", "priors", "train", "doctor",
    ):  # fmt: skip
        assert command in answer.out
    assert "research use only" in " ".join(answer.out.split()).lower()


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["recon"],
        ["recon", "scan.h5"],
        ["recon", "scan.h5", "-o", "x.nii.gz", "--no-such-option"],
        ["simulate", "ct", "v.nii.gz", "-o", "s.h5", "--views", "many"],
        ["simulate", "ct", "v.nii.gz", "-o", "s.h5", "--views", "0"],
        ["methods", "no-such-method"],
        ["priors", "show", "no-such-prior"],
        ["demo", "sonar"],
        ["demo", "opera"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_something(run: Run, words: list[str]) -> None:
    answer = run(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.strip()
    assert "Traceback" not in answer.err


def test_near_names_are_offered(run: Run) -> None:
    assert "pnp" in run("methods", "pmp").err


def test_missing_file_ends_with_3_and_names_it(run: Run) -> None:
    for words in (["info", "absent.nii.gz"], ["recon", "absent.h5", "-o", "x.nii.gz"], ["compare", "a.nii", "b.nii"]):
        answer = run(*words)
        assert answer.code == 3
        assert words[1] in answer.err
        assert answer.out == ""


def test_traceback_only_with_debug_wherever_it_stands(run: Run) -> None:
    assert "Traceback" not in run("info", "absent.nii.gz").err
    for words in (["--debug", "info", "absent.nii.gz"], ["info", "absent.nii.gz", "--debug"]):
        answer = run(*words)
        assert answer.code == 3
        assert "Traceback" in answer.err


def test_defects_end_with_1_and_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import medrecon.data

    def broken(path: Path) -> None:
        raise ZeroDivisionError("by the test")

    monkeypatch.setattr(medrecon.data, "sniff", broken)
    answer = run("info", "anything")
    assert answer.code == 1
    assert "ZeroDivisionError: by the test" in answer.err
    assert "--debug" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_lack_of_memory_is_said_as_that(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import medrecon.data

    def hungry(path: Path) -> None:
        raise error

    monkeypatch.setattr(medrecon.data, "sniff", hungry)
    answer = run("info", "anything")
    assert answer.code == 1
    assert "--voxel" in answer.err
    assert "defect" not in answer.err


def test_missing_dependency_ends_with_4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import medrecon.data
    from medrecon.errors import MissingDependency

    def lacking(path: Path) -> None:
        raise MissingDependency("segyio", "seismic", "reading SEG-Y")

    monkeypatch.setattr(medrecon.data, "sniff", lacking)
    answer = run("info", "anything")
    assert answer.code == 4
    assert "pip install 'medrecon[seismic]'" in answer.err


def test_quiet_leaves_only_the_result(run: Run, scan: Path) -> None:
    answer = run("recon", scan, "-o", "r.nii.gz", "--method", "sirt", "--steps", 3, "-q")
    assert answer.code == 0
    assert answer.err == ""
    assert "r.nii.gz" in answer.out


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_end_with_their_codes(name: str, code: int, tmp_path: Path) -> None:
    """As in a terminal; a shell that starts the tests in the background has its programs ignore Ctrl-C."""
    script = (
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from medrecon.cli import main\nfrom medrecon.cli.app import app\n"
        "def wait(name=None, as_json=False):\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
        "app.command('wait')(wait)\n"
        "main(['wait'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        time.sleep(0.2)
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=30)
    finally:  # or its pipes would trouble the tests that follow
        process.kill()
        process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'from medrecon.cli import main; main()' methods | head -1"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ)
    assert answer.returncode == 0
    assert "Traceback" not in answer.stderr
