"""Surveys that are filled from the file, some rows at a time: as in memory, in a bounded part of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.traces import dipping, with_holes, write_segy
from medrecon import filling
from medrecon.data import Traces, read
from medrecon.data.volume import Volume
from medrecon.engine import reconstruct
from medrecon.errors import InputError
from medrecon.filling import Filled, Method, fill, fill_widths
from medrecon.physics.windows import Windows
from medrecon.prior import load_prior
from medrecon.problem import Problem
from medrecon.scans import problem_from_scan
from medrecon.slabs import slabs_of
from medrecon.streaming import BYTES, Source
from medrecon.trace_metrics import loudness, snr

ROWS, COLUMNS, SAMPLES = 37, 14, 50
PLENTY = 1 << 40
SETTINGS = {
    "linear": {},
    "pocs": {"window": [8, 32, 10], "iterations": 6},
    "pocs-fan": {"iterations": 6},
    "drr": {"window": [8, 32, 10], "iterations": 2},
    "dip": {"window": [12, 64, 10], "rounds": 1},
    "mixture": {"methods": ["linear", "pocs", "dip"], "shares": [0.2, 0.5, 0.3]},
}


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    """Shuffled traces, some dead, of a survey higher than any window."""
    return with_holes(tmp_path / "holes.sgy", (ROWS, COLUMNS, SAMPLES))


def always(done: int, rows: int) -> bool:
    return True


def whole_of(path: Path) -> Traces:
    traces = read(path)
    assert isinstance(traces, Traces)
    return traces


def problem_of(path: Path, **options: object) -> Problem:
    return problem_from_scan(whole_of(path), **options)  # type: ignore[arg-type]


def filled_by(source: Source, work: Path, name: str, *, allowed: int = PLENTY, **options: object) -> Filled:
    found = fill(source, Method(name, **options), work, always, allowed)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("method", list(SETTINGS))
def test_streamed_is_the_same_bit_for_bit(holes: Path, tmp_path: Path, method: str):
    whole = whole_of(holes)
    result = reconstruct(problem_from_scan(whole), method, judgement="none", **SETTINGS[method])  # type: ignore[arg-type]
    expected = whole.with_volume(result.volume)
    source = Source.open(holes)
    assert source.unit == whole.unit
    np.testing.assert_array_equal(source.state, whole.state)
    found = filled_by(source, tmp_path / "work", method, settings=SETTINGS[method])
    np.testing.assert_array_equal(found.traces.data[~whole.live], expected.data[~whole.live])
    np.testing.assert_array_equal(found.traces.filled, expected.filled)
    np.testing.assert_allclose(found.loudness * source.unit, loudness(result.volume.array), rtol=1e-5)


def test_bands_cover_the_windows_in_their_order():
    windows = Windows((37, 20, 11), (8, 6, 5))
    bands = [(slice(first, first + 8), t, k) for first in windows.starts(0) for _, t, k in windows.in_one_band()]
    assert bands == list(windows) == [place for part in range(5) for place in windows.share(part, 5)]


def test_a_survey_of_one_band_is_that_of_a_run_in_memory(holes: Path, tmp_path: Path):
    """Methods that need a volume: of total variation and of a prior, whatever they start from."""
    source, prior = Source.open(holes), load_prior("seismic")
    start = filled_by(source, tmp_path / "start", "linear")
    given = Volume(start.sections(0, ROWS).copy(), problem_of(holes).geometry, "amplitude")
    for name, settings, how in (("tv", {"iterations": 4}, {}), ("refine", {}, {"prior": prior, "start": start})):
        problem = problem_of(holes, prior=how.get("prior"))
        first = given if how else None
        expected = reconstruct(problem, name, start=first, judgement="none", **settings)  # type: ignore[arg-type]
        found = filled_by(source, tmp_path / name, name, settings=settings, **how)
        missing = ~source.live
        wanted = expected.volume.array.transpose(0, 2, 1)[missing]
        np.testing.assert_allclose(found.traces.data[missing], wanted, atol=1e-6 * np.abs(wanted).max())


def test_bands_leave_no_seam(tmp_path: Path, monkeypatch):
    """Errors beside the border of two bands are those elsewhere, and the answer of a prior hardly knows of bands."""
    rows, columns, samples = 64, 24, 96
    truth, random = dipping(rows, columns, samples), np.random.default_rng(0)
    path = write_segy(tmp_path / "a.sgy", truth, keep=np.flatnonzero(random.random(rows * columns) < 0.5))
    source, prior = Source.open(path), load_prior("seismic")
    start = filled_by(source, tmp_path / "start", "linear")
    how = {"prior": prior, "start": start}
    once = filled_by(source, tmp_path / "once", "refine", **how).traces.data  # type: ignore[arg-type]
    monkeypatch.setattr(filling, "rows_at_once", lambda *_, **__: 16 + 2 * filling.MARGIN)
    banded = filled_by(source, tmp_path / "bands", "refine", **how)  # type: ignore[arg-type]
    missing = ~source.live
    errors = {
        name: np.square(data - truth).mean(axis=2) for name, data in (("bands", banded.traces.data), ("once", once))
    }
    seams = np.zeros((rows, columns), bool)
    for border in (16, 32, 48):
        seams[border - 2 : border + 2] = True
    for part in (missing & seams, missing & ~seams):
        assert errors["bands"][part].mean() < 1.1 * errors["once"][part].mean()
    assert snr(banded.traces.data.transpose(0, 2, 1), once.transpose(0, 2, 1), missing) > 20


def test_rows_that_are_whole_and_rows_without_a_live_trace(tmp_path: Path, monkeypatch):
    data, keep = dipping(112, 6, 40), np.ones((112, 6), bool)
    keep[20:, 0], keep[22:90] = False, False
    source = Source.open(write_segy(tmp_path / "a.sgy", data, keep=np.flatnonzero(keep)))
    monkeypatch.setattr(filling, "rows_at_once", lambda *_, **__: 1)
    start = filled_by(source, tmp_path / "start", "linear")
    found = filled_by(source, tmp_path / "work", "refine", prior=load_prior("seismic"), start=start)
    assert np.isfinite(found.traces.data).all()
    middle = slice(42, 54)  # of bands from row 24 to 55 and from 40 to 71
    np.testing.assert_allclose(found.traces.data[middle], start.traces.data[middle], rtol=1e-6)
    with pytest.raises(InputError, match="no trace of these rows"):
        filled_by(source, tmp_path / "tv", "tv")


def test_the_margin_of_bands():
    assert [(slab.low, slab.high) for slab in slabs_of(40, 16, 8)] == [(0, 21), (5, 35), (19, 40)]


def test_intervals_are_those_of_a_run_in_memory(tmp_path: Path):
    """Of single traces and a gap, in bands of some rows; zero at live traces, and none of them was measured."""
    data = dipping(30, 24, 60)
    keep = np.random.default_rng(1).random((30, 24)) < 0.7
    keep[:, 8:13] = False
    path = write_segy(tmp_path / "a.sgy", data, keep=np.flatnonzero(keep))
    expected = reconstruct(problem_of(path), "linear", judgement="full")
    learnt, width = expected.assessment["intervals"], expected.layers["half-width"].array
    assert isinstance(learnt, dict) and len(learnt["kinds"]) == 2
    filled = filled_by(Source.open(path), tmp_path / "work", "linear")
    found = fill_widths(filled, learnt, tmp_path / "widths", always)
    assert found is not None
    traces, mean = found
    np.testing.assert_allclose(traces.data.transpose(0, 2, 1), width, rtol=1e-5, atol=1e-7)
    assert mean == pytest.approx(learnt["mean_half_width"], rel=1e-5)
    assert not traces.live.any() and not traces.data[filled.source.live].any()
    assert traces.filled is not None and traces.filled.all()
    assert fill_widths(filled, learnt, tmp_path / "none", lambda done, rows: False) is None


def test_it_stops_when_told(holes: Path, tmp_path: Path):
    seen: list[int] = []
    method = Method("pocs", SETTINGS["pocs"])
    assert fill(Source.open(holes), method, tmp_path / "work", lambda *a: seen.append(a[0]), PLENTY) is None  # type: ignore[func-returns-value,arg-type]
    assert len(seen) == 1
    seen.clear()
    assert fill(Source.open(holes), Method("tv"), tmp_path / "tv", lambda *a: seen.append(a[0]), PLENTY) is None  # type: ignore[func-returns-value,arg-type]
    assert seen == [0]  # after its first step, not at the end of the band


def stopped_after(count: int) -> Callable[[int, int], bool]:
    told: list[int] = []

    def progress(done: int, rows: int) -> bool:
        told.append(done)
        return len(told) < count

    return progress


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("method", [*SETTINGS, "tv"])
def test_it_goes_on_where_it_was_stopped(holes: Path, tmp_path: Path, monkeypatch, method: str, share: float):
    """After the first band, the last but one, or between: the same rows in the end, and none is filled twice."""
    monkeypatch.setattr(filling, "MARGIN", 2)
    monkeypatch.setattr(filling, "_BAND", 4 * COLUMNS * SAMPLES * 5)
    source, allowed = Source.open(holes), 12 * BYTES * COLUMNS * SAMPLES
    own, told = Method(method, SETTINGS.get(method, {"iterations": 4})), list[int]()
    whole = fill(source, own, tmp_path / "whole", lambda done, rows: told.append(done) is None, allowed)
    assert whole is not None
    count = 1 + int(share * (len(told) - 2))
    assert fill(source, own, tmp_path / "work", stopped_after(count), allowed) is None
    again = list[int]()
    found = fill(source, own, tmp_path / "work", lambda done, rows: again.append(done) is None, allowed)
    assert found is not None
    assert again == told[count:] or method == "tv"  # which also tells of its steps
    np.testing.assert_array_equal(found.traces.data, whole.traces.data)
    np.testing.assert_array_equal(found.loudness, whole.loudness)
    done = fill(source, own, tmp_path / "work", stopped_after(1), allowed)
    assert done is not None
    np.testing.assert_array_equal(done.traces.data, whole.traces.data)


def test_a_sum_that_was_cut_off_while_it_was_written_begins_anew(holes: Path, tmp_path: Path):
    source, method, work = Source.open(holes), Method("mixture", SETTINGS["mixture"]), tmp_path / "work"
    whole = filled_by(source, tmp_path / "whole", "mixture", settings=SETTINGS["mixture"])
    assert fill(source, method, work, lambda done, rows: done <= ROWS, PLENTY) is None
    mark = work.with_name("work.rows")
    finished = int(mark.read_text().split()[0])
    assert finished > ROWS
    mark.write_text(f"{finished} {finished + 4}")
    data = np.memmap(work, np.float32, "r+", shape=(ROWS, COLUMNS, SAMPLES))
    data[finished - ROWS : finished - ROWS + 2] += 1.0  # some of these rows were added already
    data.flush()
    found = fill(source, method, work, always, PLENTY)
    assert found is not None
    np.testing.assert_array_equal(found.traces.data, whole.traces.data)


_MEASURE = """
import sys, threading, time
from pathlib import Path
from medrecon.cli import options
from medrecon.cli.job import Job

highest, over = [0], threading.Event()

def watch():
    while not over.is_set():
        with open("/proc/self/status") as status:
            own = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
        highest[0] = max(highest[0], own)
        time.sleep(0.002)

def work(path):
    config = options.RunConfig(method="pocs", settings={"iterations": 3, "window": [16, 64, 16]}, traces=["memory=8"],
                               report=path + ".html")
    summary = Job(Path(path), Path(path).with_suffix(".full.sgy"), config).execute()
    assert Path(summary["baseline"]).exists() and Path(summary["report"]).exists()

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
for path in sys.argv[1:]:  # the first, small one compiles and loads everything
    before = highest[0]
    work(path)
over.set()
watcher.join()
print((highest[0] - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_survey(tmp_path: Path):
    """Result, baseline and report of a survey of 61 MB as samples, half of it missing: in memory that takes hundreds.

    Counted is memory of the process alone, not the pages of mapped files, which the system takes back when it must.
    """
    random = np.random.default_rng(0)
    paths = []
    for rows, name in ((240, "small"), (1600, "large")):
        data = random.standard_normal((rows, 16, 600)).astype(np.float32)
        keep = np.flatnonzero(random.random(rows * 16) < 0.5)
        paths.append(write_segy(tmp_path / f"{name}.sgy", data, keep=keep))
    run = subprocess.run([sys.executable, "-c", _MEASURE, *map(str, paths)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) < 45, f"{run.stdout} MiB"
