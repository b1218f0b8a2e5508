"""SEG-Y through the command line: info, recon to SEG-Y and to a volume, options of traces, bad input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.traces import dipping, write_segy
from medrecon.cli.job import _with_traces
from medrecon.data import Traces, read, read_volume, write
from medrecon.data.provenance import read_sidecar
from medrecon.data.segy import open_segy
from medrecon.viewer.reading import read_layers


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    keep = np.sort(np.random.default_rng(0).permutation(80)[:50])
    return write_segy(tmp_path / "holes.sgy", dipping(), form=1, keep=keep)


def test_info_speaks_of_the_survey(run: Run, holes: Path):
    answer = run("info", holes)
    assert answer.code == 0
    for words in (
        "inline 100 to 114 by 2",
        "crossline 30 to 39",
        "30 (37.5%)",
        "30 not in the file",
        "32 by 4 ms",
        "IBM",
    ):
        assert words in answer.out
    assert run("info", holes, "--json").json()["live_traces"] == 50


def test_recon_gives_the_file_back_with_its_holes_filled(run: Run, holes: Path, tmp_path: Path):
    answer = run("recon", holes, "-o", "full.sgy", "--json")
    assert answer.code == 0, answer.err
    summary = answer.json()
    assert set(summary["selection"]["errors"]) - {"mixture"} == {"linear", "pocs", "drr", "dip", "refine"}
    before, after = read(holes), read(tmp_path / "full.sgy")
    assert after.live.all() and after.data.shape == (8, 10, 32)
    old, new = open_segy(holes), open_segy(tmp_path / "full.sgy")
    live = before.live
    mine, theirs = (np.ndarray((len(f), 368), np.uint8, buffer=f.traces) for f in (new, old))
    np.testing.assert_array_equal(mine[after.grid.index[live]], theirs[before.grid.index[live]])
    assert f"BY {summary['method'].upper()}" in "".join(new.text)
    assert "30 of the live traces" in run("info", "full.sgy").out


def test_intervals_stand_beside_a_survey(run: Run, holes: Path, tmp_path: Path):
    """As SEG-Y without a measured trace, in the terminal, in the record and in the report."""
    answer = run("recon", holes, "-o", "full.sgy", "--method", "pocs", "--trust", "full", "--report", "r.html")
    assert answer.code == 0, answer.err
    assert "90% of the missing samples within +-" in answer.out and "full-half-width.sgy" in answer.out
    width, scan = read(tmp_path / "full-half-width.sgy"), read(holes)
    assert not width.data[scan.live].any() and (width.data[~scan.live] > 0).all()
    assert "HALF-WIDTH OF POCS" in "".join(open_segy(tmp_path / "full-half-width.sgy").text)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "How far filled samples may be off" in page and "Here" not in page
    truth = write_segy(tmp_path / "truth.sgy", dipping(), form=1)
    assert run("report", "full.sgy", "-o", "t.html", "--truth", truth).code == 0
    assert "of the missing samples are" in (tmp_path / "t.html").read_text(encoding="utf-8")


def test_a_report_beside_the_truth(run: Run, holes: Path, tmp_path: Path):
    """From the files alone, the input gone; against the truth in decibels of the missing traces."""
    truth = write_segy(tmp_path / "truth.sgy", dipping(), form=1)
    found = run("recon", holes, "-o", "full.sgy", "--json")
    assert found.code == 0
    assert (tmp_path / "full-baseline.sgy").exists()
    method, classical = found.json()["method"], found.json()["selection"]["classical"]
    beside = classical if method == "refine" else "linear"
    assert f"BY {beside.upper()}" in "".join(open_segy(tmp_path / "full-baseline.sgy").text)
    holes.unlink()
    answer = run("report", "full.sgy", "-o", "r.html", "--truth", truth, "--json")
    assert answer.code == 0, answer.err
    words = answer.json()["text"]
    assert "37.5% of the traces were missing" in words and "hidden live traces are predicted to" in words
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for words in (
        "not in the file: 30",
        "inline 100 to 114 by 2",
        "signal to noise of the missing traces",
        "13.07 × 12",
    ):
        assert words in page
    short = write_segy(tmp_path / "short.sgy", dipping(columns=9), form=1)
    assert run("report", "full.sgy", "-o", "s.html", "--truth", short).code == 3


def test_a_volume_has_the_same_report(run: Run, holes: Path, tmp_path: Path):
    assert (
        run("recon", holes, "-o", "full.nii.gz", "--method", "pocs", "--trust", "full", "--report", "n.html").code == 0
    )
    page = (tmp_path / "n.html").read_text(encoding="utf-8")
    assert "Hidden traces" in page and "not in the file: 30" in page
    assert (
        run("recon", holes, "-o", "one.h5", "--method", "linear", "--preview-slice", 3, "--report", "o.html").code == 0
    )
    assert "inline 106" in (tmp_path / "o.html").read_text(encoding="utf-8")


def test_a_spread_is_zero_where_traces_were_measured(holes: Path, tmp_path: Path):
    """Also in SEG-Y, where live traces of other files are copied as they are."""
    scan = read(holes)
    assert isinstance(scan, Traces)
    deviation = scan.to_volume().with_array(np.arange(8 * 32 * 10, dtype=np.float32).reshape(8, 32, 10))
    write(tmp_path / "s.sgy", _with_traces(deviation, scan, "spread", tmp_path / "s.sgy", "posterior"))
    found = read(tmp_path / "s.sgy")
    expected = np.where(scan.live[..., None], 0, deviation.array.transpose(0, 2, 1))
    np.testing.assert_allclose(found.data, expected, rtol=1e-6)
    assert "SPREAD OF POSTERIOR" in "".join(open_segy(tmp_path / "s.sgy").text)


def test_a_volume_and_a_preview(run: Run, holes: Path, tmp_path: Path):
    assert run("recon", holes, "-o", "full.h5", "--method", "linear").code == 0
    volume = read_volume(tmp_path / "full.h5")
    assert volume.quantity == "amplitude" and volume.geometry.shape == (8, 32, 10)
    live = read(holes).live
    np.testing.assert_allclose(volume.array.transpose(0, 2, 1)[live], read(holes).data[live], rtol=1e-6)
    assert run("recon", holes, "-o", "one.h5", "--method", "linear", "--preview-slice", 3).code == 0
    assert read_volume(tmp_path / "one.h5").geometry.shape == (1, 32, 10)
    assert run("recon", holes, "-o", "one.sgy", "--method", "linear", "--preview-slice", 3).code == 2


def test_options_of_traces(run: Run, holes: Path):
    grid = ("--traces", "columns=30:41:1")
    assert run("info", holes, *grid, "--json").json()["grid"] == "8 x 12 traces"
    assert run("recon", holes, "-o", "wide.sgy", "--method", "linear", *grid).code == 0
    assert run("info", "wide.sgy", "--json").json()["grid"] == "8 x 12 traces"
    assert "Did you mean" in run("info", holes, "--traces", "inlin=9").err
    assert run("info", holes, "--traces", "inline=text").code == 2
    assert run("info", holes, "--traces", "inline=400").code == 2


def test_a_report_of_traces_whose_numbers_stand_elsewhere(run: Run, tmp_path: Path):
    """The report reads results as the run read the data."""
    raw = bytearray(write_segy(tmp_path / "usual.sgy", dipping()).read_bytes())
    length = 240 + 4 * read(tmp_path / "usual.sgy").data.shape[2]
    for start in range(3600, len(raw), length):
        raw[start + 8 : start + 12], raw[start + 20 : start + 24] = (
            raw[start + 188 : start + 192], raw[start + 192 : start + 196]
        )  # fmt: skip
        raw[start + 188 : start + 196] = bytes(8)
    (tmp_path / "other.sgy").write_bytes(raw)
    words = ("--traces", "inline=9", "--traces", "crossline=21")
    made = run("simulate", "seismic", "other.sgy", "-o", "holes.sgy", "--missing", "random", "--seed", 1, *words)
    assert made.code == 0, made.err
    made = run("recon", "holes.sgy", "-o", "full.sgy", "--method", "linear", "--report", "full.html", *words)
    assert made.code == 0, made.err
    assert run("report", "full.sgy", "-o", "again.html").code == 0
    assert (tmp_path / "again.html").exists()
    shown = read_layers(tmp_path / "full.sgy")  # as the viewer does
    assert shown[0][0].shape == read_volume(write_segy(tmp_path / "u.sgy", dipping())).array.shape


def _number(byte: int, value: int, size: int = 2) -> Callable[[bytearray], None]:
    """Set the number that starts at ``byte``."""

    def put(raw: bytearray) -> None:
        raw[byte - 1 : byte - 1 + size] = value.to_bytes(size, "big")

    return put


def _cut(size: int) -> Callable[[bytearray], None]:
    """Leave so many bytes (from the end, if negative)."""
    return lambda raw: raw.__delitem__(slice(size, None))


_SECOND = 3600 + 240 + 32 * 4  # bytes before the header of the second trace
BAD = {
    "empty": ([_cut(0)], "is empty"),
    "cut in the headers": ([_cut(3500)], "3500 bytes"),
    "headers alone": ([_cut(3600)], "headers but no trace"),
    "cut in a trace": ([_cut(-50)], "trace 80 ends after 318 of 368 bytes"),
    "wrong number of samples": ([_number(3221, 33)], "trace 80 ends after 52 of 372 bytes"),
    "wrong number that fits": ([_number(3221, 124)], "124 in bytes 3221-3222, 32 in trace 1"),
    "no samples": ([_number(3221, 0), _number(3600 + 115, 0)], "0 in bytes 3221-3222"),
    "a trace of another length": ([_number(_SECOND + 115, 99)], "99 in trace 2 (bytes 115-116)"),
    "zero interval": ([_number(3217, 0), _number(3600 + 117, 0)], "0 in bytes 3217-3218"),
    "unknown format": ([_number(3225, 77)], "77 in bytes 3225-3226"),
    "format zero": ([_number(3225, 0)], "0 in bytes 3225-3226"),
    "two traces at one place": ([_number(_SECOND + 193, 30, 4)], "traces 1 and 2 at inline 100, crossline 30"),
    "a stray header": ([_number(_SECOND + 193, 2_000_000_000, 4)], "trace 2 has crossline 2000000000"),
    "NaN": ([_number(_SECOND + 240 + 4 * 6 + 1, 0x7FC00000, 4)], "trace 2, sample 7"),
    "infinity": ([_number(_SECOND + 240 + 4 * 6 + 1, 0x7F800000, 4)], "trace 2, sample 7"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_end_with_3_and_leave_nothing(run: Run, tmp_path: Path, fault: str):
    """The trace or the byte is named, in memory as streamed; what stood there before stays."""
    damage, words = BAD[fault]
    path = write_segy(tmp_path / "bad.sgy", dipping())
    raw = bytearray(path.read_bytes())
    for change in damage:
        change(raw)
    path.write_bytes(raw)
    (tmp_path / "out.sgy").write_bytes(b"before")
    answers = [
        run("recon", path, "-o", "out.sgy", "--overwrite", "--method", "linear", *more)
        for more in ((), ("--traces", "memory=0.01"))
    ]
    if fault not in ("NaN", "infinity"):  # of which a look at the headers says nothing, or only that they are there
        answers.append(run("info", path))
    for answer in answers:
        assert answer.code == 3, answer.err
        assert "bad.sgy" in answer.err and words in answer.err
        assert "Traceback" not in answer.err
    assert (tmp_path / "out.sgy").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.sgy", "out.sgy"]


def test_what_is_said_of_bad_files_helps(run: Run, holes: Path, tmp_path: Path):
    """The hints of the messages are true: salvage, an interval that is said, NaN traces taken as missing."""
    raw = holes.read_bytes()
    cases = {
        "salvage=yes": raw[:-50],
        "interval=4000": raw[:3216] + bytes(2) + raw[3218:3716] + bytes(2) + raw[3718:],
    }
    for option, content in cases.items():
        path = tmp_path / "bad.sgy"
        path.write_bytes(content)
        assert run("recon", path, "-o", "out.sgy", "--method", "linear", "--overwrite").code == 3
        done = run("recon", path, "-o", "out.sgy", "--method", "linear", "--traces", option, "--overwrite")
        assert done.code == 0, done.err
    path = write_segy(tmp_path / "nan.sgy", dipping())
    raw = bytearray(path.read_bytes())
    for change in BAD["NaN"][0]:
        change(raw)
    path.write_bytes(raw)
    assert "first trace 2" in run("info", path).out
    assert run("recon", path, "-o", "full.sgy", "--method", "linear", "--traces", "nan=missing").code == 0
    assert np.isfinite(read(tmp_path / "full.sgy").data).all()


def test_other_data_are_not_written_as_traces(run: Run, scan: Path):
    assert run("recon", scan, "-o", "out.sgy", "--method", "fbp").code == 2
    assert run("info", scan, "--traces", "inline=9").code == 2


def test_recon_gives_the_same_file_either_way(run: Run, holes: Path, tmp_path: Path):
    words = ("--method", "pocs", "--set", "iterations=5")
    assert run("recon", holes, "-o", "memory.sgy", *words).code == 0
    answer = run("recon", holes, "-o", "stream.sgy", *words, "--traces", "memory=0.05", "--json")
    assert answer.code == 0, answer.err
    assert "some rows at a time" in answer.err and answer.json()["method"] == "pocs"
    assert (tmp_path / "stream.sgy").read_bytes() == (tmp_path / "memory.sgy").read_bytes()
    assert not list(tmp_path.glob(".*work"))
    assert (tmp_path / "stream-baseline.sgy").read_bytes() == (tmp_path / "memory-baseline.sgy").read_bytes()
    assert "BY LINEAR" in "".join(open_segy(tmp_path / "stream-baseline.sgy").text)
    answer = run("recon", holes, "-o", "not.sgy", "--samples", 2, "--traces", "memory=0.05")
    assert answer.code == 2 and "memory" in answer.err
    assert not (tmp_path / "not.sgy").exists()


def test_recon_with_a_prior_gives_the_same_file_either_way(run: Run, holes: Path, tmp_path: Path, monkeypatch):
    """Of a survey with no more rows than a band: result, intervals, baseline, and what the record says of them."""
    words = ("--method", "refine", "--prior", "seismic", "--trust", "full")
    assert run("recon", holes, "-o", "memory.sgy", *words).code == 0
    answer = run("recon", holes, "-o", "stream.sgy", *words, "--traces", "memory=0.05", "--json")
    assert answer.code == 2 and "needs more memory" in answer.err
    monkeypatch.setattr("medrecon.streaming.exceeds_memory", lambda *_: True)
    answer = run("recon", holes, "-o", "stream.sgy", *words, "--json")
    assert answer.code == 0 and "some rows at a time" in answer.err
    records = [read_sidecar(tmp_path / f"{name}.sgy") or {} for name in ("memory", "stream")]
    for name in ("", "-baseline", "-half-width"):
        memory, stream = (read(tmp_path / f"{kind}{name}.sgy").data for kind in ("memory", "stream"))
        np.testing.assert_allclose(stream, memory, atol=1e-5 * np.abs(memory).max())
    for told in ("method", "baseline_method"):
        assert records[0][told] == records[1][told]
    assert records[1]["run"]["prior"] == "seismic" and records[1]["weights"] == records[0]["weights"]
    assert set(records[1]["beside"]) == {"baseline", "half-width"}
    assert "HALF-WIDTH OF REFINE" in "".join(open_segy(tmp_path / "stream-half-width.sgy").text)


_INTERRUPTED = """
import os, signal, sys
from medrecon.cli import main, stream
show = stream.running.Bars.show
def interrupt(self, stage, done, total, remark=""):
    if stage == "pocs" and 0 < done < total:
        os.kill(os.getpid(), signal.SIGINT)
    return show(self, stage, done, total, remark)
stream.running.Bars.show = interrupt
main(sys.argv[1:])
"""


def test_a_streamed_run_that_was_interrupted_goes_on(run: Run, holes: Path, tmp_path: Path):
    settings = ("--set", "iterations=5", "--set", "window=[4,32,10]", "--traces", "memory=0.05", "--trust", "full")
    words = ("recon", str(holes), "-o", "full.sgy", "--method", "pocs", *settings)
    ended = subprocess.run([sys.executable, "-c", _INTERRUPTED, *words], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 130, ended.stderr
    assert "--resume" in ended.stderr and not (tmp_path / "full.sgy").exists()
    work = tmp_path / ".full.sgy.work"
    assert (work / "result.rows").exists() and (work / "tests.json").exists()
    answer = run(*words[:4], "--method", "refine", "--prior", "seismic", "--traces", "memory=0.05")
    assert answer.code == 2 and "needs more memory" in answer.err and (work / "result.rows").exists()
    answer = run(*words, "--seed", 5, "--resume")
    assert answer.code == 3 and "another run" in answer.err and work.exists()
    tested, told = (work / "tests.json").stat().st_mtime_ns, (work / "allowed.json").read_bytes()
    (work / "allowed.json").write_bytes(b"{")
    answer = run(*words, "--resume")
    assert answer.code == 3 and "allowed.json" in answer.err
    (work / "allowed.json").write_bytes(told)
    answer = run(*words, "--resume", "--json")
    assert answer.code == 0, answer.err
    assert tested < (tmp_path / "full.sgy").stat().st_mtime_ns and not work.exists()
    assert run(*words[:3], "whole.sgy", *words[4:]).code == 0
    for name in ("", "-baseline", "-half-width"):
        assert (tmp_path / f"full{name}.sgy").read_bytes() == (tmp_path / f"whole{name}.sgy").read_bytes()
    answer = run(*words[:3], "more.sgy", *words[4:], "--resume")
    assert answer.code == 0 and "beginning" in answer.err


def test_a_streamed_run_takes_away_what_belonged_to_the_result_before(run: Run, holes: Path, tmp_path: Path):
    words = ("--method", "pocs", "--set", "iterations=5", "--trust", "full")
    assert run("recon", holes, "-o", "full.sgy", *words).code == 0
    assert (tmp_path / "full-baseline.sgy").exists() and (tmp_path / "full-half-width.sgy").exists()
    streamed = ("--method", "linear", "--traces", "memory=0.05", "--overwrite")
    assert run("recon", holes, "-o", "full.sgy", *streamed).code == 0
    assert not list(tmp_path.glob("full-*"))


def test_a_streamed_run_has_a_report_like_any_other(run: Run, holes: Path, tmp_path: Path, monkeypatch):
    """Of a survey whose sections fit, the page differs in nothing that it shows."""
    truth = write_segy(tmp_path / "truth.sgy", dipping(), form=1)
    answer = run("recon", holes, "-o", "stream.sgy", "--traces", "memory=0.05", "--report", "s.html", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["selection"]["errors"] and answer.json()["verdict"]["text"]
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    for words in (
        "Hidden traces",
        "linear (baseline)",
        "half-width",
        "not in the file: 30",
        "8 × 10 traces",
        "single traces",
    ):
        assert words in page, words
    assert "larger than memory" not in page
    assert run("report", "stream.sgy", "-o", "t.html", "--truth", truth).code == 0
    assert "signal to noise of the missing traces" in (tmp_path / "t.html").read_text(encoding="utf-8")
    monkeypatch.setattr("medrecon.streaming._LEAST_SHOWN", 0)
    assert run("report", "stream.sgy", "-o", "u.html", "--truth", truth).code == 0
    part = (tmp_path / "u.html").read_text(encoding="utf-8")
    assert "The survey is larger than memory" in part and "rows" in part
    assert "8 × 10 traces" in part and "not in the file: 30" in part
