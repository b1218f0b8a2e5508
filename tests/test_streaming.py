"""Surveys that are filled window by window from the file: the same bits as in memory, in a bounded part of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.traces import dipping, write_segy
from medrecon.data import Traces, read
from medrecon.data.trace_grid import ReadOptions
from medrecon.engine import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.physics.windows import Windows
from medrecon.scans import problem_from_scan
from medrecon.streaming import Source, choose, exceeds_memory, fill

ROWS, COLUMNS, SAMPLES = 37, 14, 50
SETTINGS = {
    "linear": {},
    "pocs": {"window": [8, 32, 10], "iterations": 6},
    "pocs-fan": {"iterations": 6},
    "drr": {"window": [8, 32, 10], "iterations": 2},
    "dip": {"window": [12, 64, 10], "rounds": 1},
}


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    """Shuffled traces, some dead, of a survey higher than any window."""
    random = np.random.default_rng(3)
    data = dipping(ROWS, COLUMNS, SAMPLES)
    data[random.random((ROWS, COLUMNS)) < 0.05] = 0
    data[4, 5] *= 1e6
    keep = random.permutation(ROWS * COLUMNS)[: ROWS * COLUMNS * 2 // 3]
    return write_segy(tmp_path / "holes.sgy", data, form=1, keep=keep)


def always(done: int, rows: int) -> bool:
    return True


@pytest.mark.parametrize("method", list(SETTINGS))
def test_streamed_is_the_same_bit_for_bit(holes: Path, tmp_path: Path, method: str):
    whole = read(holes)
    assert isinstance(whole, Traces)
    result = reconstruct(problem_from_scan(whole), method, judgement="none", **SETTINGS[method])  # type: ignore[arg-type]
    expected = whole.with_volume(result.volume)
    source = Source.open(holes)
    assert source.unit == whole.unit
    np.testing.assert_array_equal(source.state, whole.state)
    found = fill(source, method, SETTINGS[method], tmp_path / "work", always)
    assert found is not None
    np.testing.assert_array_equal(found.data[~whole.live], expected.data[~whole.live])
    np.testing.assert_array_equal(found.filled, expected.filled)


def test_bands_cover_the_windows_in_their_order():
    windows = Windows((37, 20, 11), (8, 6, 5))
    bands = [(slice(first, first + 8), t, k) for first in windows.starts(0) for _, t, k in windows.in_one_band()]
    assert bands == list(windows) == [place for part in range(5) for place in windows.share(part, 5)]


def test_a_method_is_chosen_on_the_rows_that_tell_most(tmp_path: Path):
    """Rows without holes, rows without traces, and some of both: of those as many as fit."""
    live = np.zeros((36, 14), bool)
    live[:12] = True
    live[12:24] = np.random.default_rng(0).random((12, 14)) < 0.5
    live[[12, 23], 3], live[35, 13] = True, True
    path = write_segy(tmp_path / "a.sgy", dipping(36, 14, 50), keep=np.flatnonzero(live))
    chosen = choose(Source.open(path), 12 * 14 * 50 * 48)
    assert set(chosen["errors"]) == {"linear", "pocs", "drr", "dip"}  # type: ignore[call-overload]
    first = int(str(chosen["reason"]).split()[2])
    assert 100 + 2 * 9 <= first <= 100 + 2 * 15


def test_what_must_be_whole_is_refused(holes: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="whole volume in memory"):
        fill(Source.open(holes), "tv", {}, tmp_path / "work", always)
    nothing = write_segy(tmp_path / "zero.sgy", np.zeros((3, 4, 20), np.float32))
    with pytest.raises(InputError, match="no trace is live"):
        Source.open(nothing)


def test_it_stops_when_told(holes: Path, tmp_path: Path):
    seen: list[int] = []
    assert fill(Source.open(holes), "pocs", SETTINGS["pocs"], tmp_path / "work", lambda *a: seen.append(a[0])) is None  # type: ignore[func-returns-value]
    assert len(seen) == 1


def test_memory_is_what_was_allowed(holes: Path):
    assert exceeds_memory(holes, ReadOptions(memory=0.5)) and not exceeds_memory(holes, ReadOptions(memory=500))
    assert not exceeds_memory(holes)
    with pytest.raises(UsageError, match="MiB"):
        ReadOptions.of({"memory": -1})


_MEASURE = """
import sys, threading, time
from pathlib import Path
from medrecon.data import write
from medrecon.streaming import Source, fill

highest, over = [0], threading.Event()

def watch():
    while not over.is_set():
        with open("/proc/self/status") as status:
            own = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
        highest[0] = max(highest[0], own)
        time.sleep(0.002)

def work(path, method, settings):
    filled = fill(Source.open(path), method, settings, Path(sys.argv[3]) / "work", lambda done, rows: True)
    write(Path(sys.argv[3]) / (Path(path).stem + method + ".sgy"), filled)

watcher = threading.Thread(target=watch)
watcher.start()
for path in sys.argv[1:3]:  # the first, small one compiles and loads everything
    before = highest[0]
    work(path, "pocs", {"iterations": 3, "window": [16, 64, 16]})
    work(path, "linear", {})
over.set()
watcher.join()
print((highest[0] - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_survey(tmp_path: Path):
    """A survey of 61 MB as samples, half of it missing: in memory a run would take hundreds.

    Counted is memory of the process alone, not the pages of mapped files, which the system takes back when it must.
    """
    random = np.random.default_rng(0)
    paths = []
    for rows, name in ((200, "small"), (1600, "large")):
        data = random.standard_normal((rows, 16, 600)).astype(np.float32)
        keep = np.flatnonzero(random.random(rows * 16) < 0.5)
        paths.append(write_segy(tmp_path / f"{name}.sgy", data, keep=keep))
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, *map(str, paths), str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) < 45, f"{run.stdout} MiB"
