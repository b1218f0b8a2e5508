"""The frame of a survey: what stands in its record, bin sizes from coordinates, damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import realdata
from helpers.traces import dipping, traces, write_segy
from medrecon.data import Traces, read
from medrecon.data.survey import Survey, survey_of
from medrecon.errors import CorruptInput


def opened(path: Path) -> Survey:
    content = read(path)
    assert isinstance(content, Traces)
    return survey_of(content)


def test_a_survey_comes_back_from_its_record(tmp_path: Path):
    rows, columns, _ = dipping().shape
    keep = np.flatnonzero(np.random.default_rng(0).random(rows * columns) > 0.4)
    ids = np.ones(rows * columns, int)
    ids[keep[:3]] = 2
    path = write_segy(tmp_path / "a.sgy", dipping(), keep=keep, change={"trace_id": ids, "delay": np.full(80, 800)})
    found = opened(path)
    again = Survey.from_record(json.loads(json.dumps(found.to_record())))
    np.testing.assert_array_equal(again.state, found.state)
    assert (again.rows, again.columns, again.kind) == (found.rows, found.columns, "3d")
    assert (again.interval, again.start, again.bins, again.about) == (4.0, 800.0, found.bins, found.about)
    np.testing.assert_array_equal(again.live, read(path).live)
    assert set(np.unique(again.state)) == {0, 1, 2}


def test_bins_are_measured_on_the_coordinates(tmp_path: Path):
    """The helper's grid: decimetres, turned; steps of (120.3, 51.1) and (-48.7, 118.2)."""
    found = opened(write_segy(tmp_path / "a.sgy", dipping()))
    assert found.bins == pytest.approx((13.07, 12.78), abs=0.02)
    line = opened(write_segy(tmp_path / "line.sgy", dipping(rows=1)))
    assert line.bins is not None and line.bins == pytest.approx((0.0, 12.78), abs=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"cdp_x": np.random.default_rng(1).integers(0, 9999, 80), "cdp_y": np.zeros(80)},
        {name: np.zeros(80) for name in ("cdp_x", "cdp_y", "source_x", "source_y")},
    ],
    ids=["scattered", "absent"],
)
def test_bins_are_not_guessed(tmp_path: Path, change: dict[str, np.ndarray]):
    others = {name: np.zeros(80) for name in ("source_x", "source_y")}
    assert opened(write_segy(tmp_path / "a.sgy", dipping(), change=others | change)).bins is None


def test_angles_are_no_distances(tmp_path: Path):
    path = write_segy(tmp_path / "a.sgy", dipping())
    raw = bytearray(path.read_bytes())
    size = 240 + 4 * dipping().shape[2]
    for trace in range(80):
        raw[3600 + trace * size + 89] = 2  # seconds of arc
    path.write_bytes(raw)
    assert opened(path).bins is None


def test_arrays_have_a_frame_too():
    found = survey_of(traces())
    assert (found.bins, found.text, found.start) == (None, (), 0.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("states", "!!"), ("states", ""), ("rows", {"name": "inline"}), ("bins", [1.0]), ("interval_ms", "x")],
)
def test_a_damaged_record_is_refused(key: str, value: object):
    record = survey_of(traces()).to_record() | {key: value}
    with pytest.raises(CorruptInput, match="survey"):
        Survey.from_record(record)
    with pytest.raises(CorruptInput, match="survey"):
        Survey.from_record({})


def test_a_real_survey():
    found = opened(realdata.need("seismic", "test", "f3.sgy"))
    assert found.bins == pytest.approx((25.0, 25.0), abs=0.2)
    assert found.start == 4.0
