"""The report of a seismic result: what it shows of a 3D survey, a line, gathers, samples and nothing missing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.traces import dipping, traces
from medrecon.data.survey import survey_of
from medrecon.data.trace_grid import Axis
from medrecon.data.traces import State, Traces
from medrecon.errors import InputError
from medrecon.report import ReportData, render, verdict
from medrecon.trace_metrics import compare_traces
from test_report import _parsed

ROWS, COLUMNS, SAMPLES = 9, 14, 40


def survey(rows: int = ROWS, columns: int = COLUMNS) -> Traces:
    state = np.zeros((rows, columns), np.uint8)
    state[np.random.default_rng(0).random(state.shape) < 0.4] = State.absent
    state[0, :2] = State.marked_dead
    made = traces(None, rows=rows, columns=columns, samples=SAMPLES)
    return replace(made, state=state, data=np.where((state == State.live)[..., None], made.data, np.float32(0)))


def report(given: Traces | None = None, **more: object) -> ReportData:
    given = given or survey()
    rows, columns = given.state.shape
    truth = replace(given, data=dipping(rows, columns, SAMPLES)).to_volume()
    result = truth.with_array(np.where(given.live[:, None], truth.array, 0.9 * truth.array).astype(np.float32))
    baseline = truth.with_array(np.where(given.live[:, None], truth.array, 0.5 * truth.array).astype(np.float32))
    holes = ~given.live
    values: dict[str, object] = {
        "title": "holes.sgy", "volume": result, "method": "drr", "baseline": baseline, "baseline_method": "linear",
        "survey": survey_of(given),
        "metrics": {"result": compare_traces(result.array, truth.array, holes),
                    "baseline": compare_traces(baseline.array, truth.array, holes)},
        "truth": truth,
        "assessment": {
            "selection": {"errors": {"linear": 500.0, "drr": 50.0}, "signal": 500.0},
            "held_out": {"result": 50.0, "classical": 500.0, "signal": 500.0},
            "verdict": {"level": "good", "text": "Live traces are predicted well: 40.0% of the traces were missing."},
        },
    }  # fmt: skip
    return ReportData(**(values | more))  # type: ignore[arg-type]


def test_a_report_shows_what_a_geophysicist_asks_for():
    page = render(report())
    _parsed(page)
    for words in (
        "with holes", "linear (baseline)", "drr (result)", "truth", "linear (baseline) − truth", "drr (result) − truth",
        "inline 1", "crossline", "time slice", "Wiggles", "Frequency and wavenumber", "Hidden traces", "live map",
        "marked dead (trace identification 2): 2", "not in the file", "signal to noise of the missing traces, dB",
        "14.0 dB better than linear", "20.0", "MDRC", "loudness, drr (result)", "3D after stack",
    ):  # fmt: skip
        assert words in page, words
    for medical in ("patient", "axial", "diagnosis", " mm"):
        assert medical not in page, medical
    assert len(page) < 4e6


def test_pictures_follow_the_data():
    """Those of the result change with it, those of the holes and of the truth do not."""
    data = report()
    array = data.volume.array
    other = replace(data, volume=data.volume.with_array(np.where(survey().live[:, None], array, -array)))
    shown = [re.findall(r'alt="([^"]*, inline [^"]*)" src="([^"]*)"', render(each)) for each in (data, other)]
    changed = {name for (name, one), (_, two) in zip(*shown, strict=True) if one != two}
    assert {name.split(",")[0] for name in changed} == {"drr (result)", "drr (result) − truth"}
    assert len(shown[0]) == 6


@pytest.mark.parametrize(("rows", "columns"), [(1, 20), (20, 1), (2, 3)])
def test_lines_and_small_surveys_have_reports(rows: int, columns: int):
    page = render(report(survey(rows, columns)))
    _parsed(page)
    assert ("time slice" in page) == (min(rows, columns) > 1)
    assert ("Frequency and wavenumber" in page) == (max(rows, columns) >= 8)


def test_gathers_are_counted_where_rows_have_no_number():
    given = replace(survey(), rows=Axis("inline and crossline", 0, 1, ROWS), kind="prestack")
    assert "before stack" in render(report(given))


def test_without_truth_the_baseline_is_what_the_result_differs_from():
    page = render(report(truth=None, metrics={}))
    assert "drr (result) − linear (baseline)" in page and "Against the truth" not in page
    alone = render(report(truth=None, metrics={}, baseline=None, assessment={}))
    assert "−" not in alone.split("<h2>Sections</h2>")[1].split("<h3>Wiggles")[0].split("</div>", 1)[1]
    assert "Hidden traces" not in alone


def test_nothing_missing_is_reported_without_holes():
    given = traces(None, rows=ROWS, columns=COLUMNS, samples=SAMPLES)
    page = render(report(given))
    assert "Wiggles" not in page and "0 (0.0%)" in page


def test_spread_is_shown_at_the_filled_traces():
    data = report(samples=4)
    spread = data.volume.with_array(np.abs(data.volume.array - data.truth.array))  # type: ignore[union-attr]
    page = render(replace(data, spread=spread))
    assert "Standard deviation over 4 samples" in page and "within twice the spread in 100%" in page


def test_the_score_says_what_was_hidden():
    parts = [
        {"name": "blocks", "share": 0.25, "count": 31, "signal": 400.0, "errors": {"linear": 200.0, "drr": 400.0}},
        {"name": "single traces", "share": 0.75, "count": 64, "signal": 500.0, "errors": {"linear": 500.0, "drr": 5.0}},
    ]
    selection = {"errors": {"linear": 447.2, "drr": 250.0}, "signal": 500.0, "hidden": parts}
    page = render(report(assessment={"selection": selection}))
    for words in ("31 in blocks and 64 in single traces", "blocks, 25%", "single traces, 75%", "40.0", "6.0"):
        assert words in page, words
    row = re.search(r"<tr><td>drr</td>(.*?)</tr>", page)
    assert row is not None and re.findall(r">([-.0-9]+)</td>", row[1]) == ["6.0", "0.0", "40.0"]
    assert re.findall(r"number( better)?\"", row[1]) == [" better", "", " better"]


def test_a_survey_of_another_shape_is_refused():
    data = report()
    with pytest.raises(InputError, match="survey and result disagree"):
        replace(data, survey=survey_of(survey(5, 5)))


def test_the_verdict_is_that_of_hidden_traces():
    text = "Usable with care: 40.0% of the traces were missing, hidden live traces are predicted to 5.0 dB."
    judged = report(assessment={"verdict": {"level": "fair", "text": text}, "discrepancy": 0.0})
    level, headline, detail = verdict(judged)
    assert (level, headline) == ("fair", "Usable with care")
    assert detail.startswith("40.0% of the traces") and detail.endswith("14.0 dB better than linear.")
