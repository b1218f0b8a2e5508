"""Surveys larger than memory: read a part at a time, tested on the rows that tell most, shown in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.traces import dipping, with_holes, write_segy
from medrecon.data import Traces, read
from medrecon.data.survey import survey_of
from medrecon.data.trace_grid import ReadOptions
from medrecon.engine import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.filling import Method, fill
from medrecon.scans import problem_from_scan
from medrecon.streaming import BYTES, Shown, Source, exceeds_memory, judged_by, predicted, read_shown, rows_at_once
from medrecon.trace_intervals import loudness_of

ROWS, COLUMNS, SAMPLES = 37, 14, 50


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    """Shuffled traces, some dead, of a survey higher than any window."""
    return with_holes(tmp_path / "holes.sgy", (ROWS, COLUMNS, SAMPLES))


def test_a_method_is_chosen_on_the_rows_that_tell_most(tmp_path: Path):
    """Rows without holes, rows without traces, and some of both: of those as many as fit."""
    live = np.zeros((36, 14), bool)
    live[:12] = True
    live[12:24] = np.random.default_rng(0).random((12, 14)) < 0.5
    live[[12, 23], 3], live[35, 13] = True, True
    path = write_segy(tmp_path / "a.sgy", dipping(36, 14, 50), keep=np.flatnonzero(live))
    record = predicted(Source.open(path), 12 * 14 * 50 * BYTES)
    chosen, held_out = record["selection"], record["held_out"]
    assert isinstance(chosen, dict) and isinstance(held_out, dict)
    assert held_out["result"] == chosen["errors"][chosen["method"]]
    assert {"linear", "pocs", "drr", "dip"} <= set(chosen["errors"])  # type: ignore[call-overload]
    assert record["intervals"]["kinds"] == chosen["interval"]["kinds"]  # type: ignore[call-overload,index]
    assert chosen["method"] == min(chosen["errors"], key=chosen["errors"].get)
    first = int(str(chosen["reason"]).split()[2])
    assert 100 + 2 * 9 <= first <= 100 + 2 * 15


def test_it_is_judged_as_in_memory(holes: Path, tmp_path: Path):
    """Where the rows that are tested are all: the same scores on hidden traces, and the same verdict."""
    expected = reconstruct(problem_from_scan(read(holes)), "linear", judgement="full").assessment
    source = Source.open(holes)
    tests = predicted(source, 500 << 20, "linear")
    assert tests["held_out"] == pytest.approx(expected["held_out"])
    assert source.loudness == pytest.approx(loudness_of(problem_from_scan(read(holes))), rel=1e-6)
    filled = fill(source, Method("linear"), tmp_path / "work", lambda done, rows: True, 500 << 20)
    assert filled is not None
    found = judged_by(source.live, filled.loudness, tests)
    assert found["missing"] == pytest.approx(expected["missing"]) and found["verdict"] == expected["verdict"]


def test_a_part_to_show_has_the_row_and_the_column_that_miss_most():
    missing = np.zeros((1000, 90), bool)
    missing[333], missing[:, 7] = True, True
    shown = Shown.of(missing, 2000, 100 << 20)
    rows, columns = range(1000)[shown.rows], range(90)[shown.columns]
    assert 333 in rows and 7 in columns
    assert 2000 * len(rows) * len(columns) * 96 <= 100 << 20
    assert shown.columns.step == 1 and f"one in {shown.rows.step} rows" == shown.words()
    wide = Shown.of(np.ones((3, 50_000), bool), 2000, 100 << 20)
    assert wide.rows.step == 1 and 64 <= len(range(50_000)[wide.columns]) < 200
    everything = Shown.of(missing, 20, 1 << 30)
    assert everything.words() == "" and (everything.rows.step, everything.columns.step) == (1, 1)


def test_a_part_is_read_as_it_is_in_the_whole(tmp_path: Path):
    path = write_segy(tmp_path / "a.sgy", dipping(ROWS, COLUMNS, SAMPLES), form=1, inlines=(100, 2))
    shown = Shown(slice(2, None, 5), slice(1, None, 3))
    whole = read(path)
    assert isinstance(whole, Traces)
    found = read_shown(path, shown, (ROWS, COLUMNS))
    np.testing.assert_array_equal(found.array, whole.to_volume().array[2::5, :, 1::3])
    np.testing.assert_array_equal(shown.cut(whole.to_volume(), (ROWS, COLUMNS)).array, found.array)
    part = survey_of(whole).part(shown.rows, shown.columns)
    assert (part.rows.first, part.rows.step, part.rows.count) == (104, 10, 7)
    assert part.columns.describe() == "crossline 31 to 43 by 3" and part.state.shape == (7, 5)
    bins = survey_of(whole).bins
    assert part.bins is not None and bins is not None and part.bins == pytest.approx((5 * bins[0], 3 * bins[1]))
    with pytest.raises(InputError, match="not of this survey"):
        read_shown(path, shown, (ROWS, COLUMNS + 1))
    with pytest.raises(InputError, match="not of this survey"):
        shown.cut(whole.to_volume(), (ROWS, COLUMNS + 1))


def test_a_survey_without_live_traces_is_refused(tmp_path: Path):
    nothing = write_segy(tmp_path / "zero.sgy", np.zeros((3, 4, 20), np.float32))
    with pytest.raises(InputError, match="no trace is live"):
        Source.open(nothing)


def test_with_a_prior_fewer_rows_fit(holes: Path):
    source, row = Source.open(holes), COLUMNS * SAMPLES
    assert rows_at_once(source, 20 * row * BYTES) == 20 and rows_at_once(source, 5) == 1
    needed = row * (2400 + 32 * 280)
    assert rows_at_once(source, needed, with_prior=True) == 32 and rows_at_once(source, needed) == ROWS
    with pytest.raises(UsageError, match="a prior needs more memory"):
        rows_at_once(source, needed - 1, with_prior=True)


def test_memory_is_what_was_allowed(holes: Path):
    assert exceeds_memory(holes, ReadOptions(memory=0.5)) and not exceeds_memory(holes, ReadOptions(memory=500))
    assert not exceeds_memory(holes)
    with pytest.raises(UsageError, match="MiB"):
        ReadOptions.of({"memory": -1})
