"""SEG-Y and SU against segyio: formats, byte orders, geometry, byte-exact copies, new headers, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import realdata
from helpers.traces import dipping, write_segy
from medrecon.data import Traces, read, sniff, write
from medrecon.data.segy import FIELDS, open_segy
from medrecon.data.segy_headers import MARK, is_made_here
from medrecon.data.segy_reading import describe_traces, read_traces
from medrecon.data.segy_samples import FORMATS, decode, encode, ibm_to_ieee, ieee_to_ibm
from medrecon.data.segy_writing import grid_line
from medrecon.data.trace_grid import ReadOptions
from medrecon.data.traces import State
from medrecon.errors import CorruptInput, InputError, UsageError

segyio = pytest.importorskip("segyio")


def filled(traces: Traces, value: float = 0.5) -> Traces:
    """Every missing trace as a constant ramp, whatever it should be."""
    ramp = np.linspace(-value, value, traces.data.shape[2], dtype=np.float32)
    volume = traces.to_volume()
    return traces.with_volume(volume.with_array(np.where(traces.live[:, None, :], volume.array, ramp[None, :, None])))


def bytes_of_traces(path: Path) -> np.ndarray:
    file = open_segy(path)
    return np.ndarray((len(file), file.traces.dtype.itemsize), np.uint8, buffer=file.traces).copy()


# --- samples -----------------------------------------------------------------------------------------------------
def test_ibm_numbers_of_the_standard():
    """Worked examples: -118.625 is C276A000, and its neighbours."""
    bits = np.array([0xC276A000, 0x42640000, 0x41100000, 0x00000000, 0x40800000], dtype=np.uint32)
    np.testing.assert_array_equal(ibm_to_ieee(bits), np.float32([-118.625, 100.0, 1.0, 0.0, 0.5]))
    np.testing.assert_array_equal(ieee_to_ibm(np.float32([-118.625, 100, 1, 0, 0.5])), bits)


def test_ibm_is_the_nearest_number_and_settles_after_one_trip():
    random = np.random.default_rng(0)
    values = (random.standard_normal(20000) * 10 ** random.uniform(-30, 30, 20000)).astype(np.float32)
    once = ibm_to_ieee(ieee_to_ibm(values))
    assert np.abs(once / values - 1).max() <= 2.0**-21
    np.testing.assert_array_equal(ibm_to_ieee(ieee_to_ibm(once)), once)


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("form", list(FORMATS))
def test_every_format_keeps_what_it_can_hold(form, order):
    kind = FORMATS[form]
    values = (
        np.float32([[-128, -1, 0, 1, 127]])
        if kind.stored[0] in "if" or form == 1
        else np.float32([[0, 1, 2, 200, 255]])
    )
    untouched = values.copy()
    np.testing.assert_array_equal(decode(encode(values, kind, order), kind, order), values)
    np.testing.assert_array_equal(values, untouched)  # segyio changes its caller's array in place


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("form", [1, 5])
def test_compiled_loops_read_what_numpy_reads(tmp_path, monkeypatch, form, order):
    """Bits of any kind, infinite and NaN among them, in any order, with traces of every state."""
    random = np.random.default_rng(form)
    data = dipping()
    data[0, :3], data[0, 3, 5], data[2, 2] = 0, 1e9, 3e7 * data[2, 2]
    path = write_segy(tmp_path / "a.sgy", data, form=form, order=order, keep=random.permutation(80)[:60])
    raw = bytearray(path.read_bytes())
    wild = random.integers(0, 1 << 32, 32, dtype=np.uint32).astype(f"{order}u4")
    wild[3] = np.uint32(0x7FFFFFFF)  # NaN, and the largest IBM number
    raw[-128:] = wild.tobytes()
    path.write_bytes(raw)
    found = []
    for least in (1 << 60, 0):
        monkeypatch.setattr("medrecon.data.segy.COMPILED", least)
        monkeypatch.setattr("medrecon.data.traces.COMPILED", least)
        found.append((read_traces(path, ReadOptions(nan="missing")), open_segy(path).decoded(slice(None))))
    (slow, all_slow), (fast, all_fast) = found
    np.testing.assert_array_equal(fast.state, slow.state)
    assert {State.live, State.absent, State.zero, State.not_finite, State.outlier} <= set(np.unique(slow.state))
    np.testing.assert_array_equal(fast.data, slow.data)
    np.testing.assert_array_equal(all_fast.view(np.uint32), all_slow.view(np.uint32))


def test_integers_are_rounded_and_cut_not_wrapped():
    values = np.float32([[1e9, -1e9, 1.6, -1.6]])
    np.testing.assert_array_equal(encode(values, FORMATS[3], ">")[0], [32767, -32768, 2, -2])
    assert (np.sign(encode(np.float32([[1e30, -1e30]]), FORMATS[9], ">")[0].astype(float)) == [1, -1]).all()


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("form", [1, 2, 3, 5, 6, 8])
def test_segyio_reads_the_same(tmp_path, form, order):
    data = np.rint(dipping() / 20)
    path = write_segy(tmp_path / "a.sgy", data, form=form, order=order)
    ours = read(path)
    with segyio.open(path, iline=189, xline=193, endian="big" if order == ">" else "little") as theirs:
        np.testing.assert_allclose(ours.data, segyio.tools.cube(theirs), rtol=1e-6)
        np.testing.assert_array_equal(theirs.ilines, np.arange(ours.rows.first, ours.rows.last + 1, ours.rows.step))
        np.testing.assert_array_equal(theirs.attributes(181)[:], ours.file.headers["cdp_x"])
    assert ours.file.order == order
    assert ours.live.all()


def test_every_header_field_is_where_segyio_has_it(tmp_path):
    path = write_segy(tmp_path / "a.sgy", dipping(3, 4))
    raw = bytearray(path.read_bytes())
    raw[3600 : 3600 + 232] = np.random.default_rng(0).integers(0, 127, 232, dtype=np.uint8).tobytes()
    raw[3600 + 114 : 3600 + 116] = (32).to_bytes(2, "big")
    path.write_bytes(raw)
    headers = open_segy(path).headers
    with segyio.open(path, ignore_geometry=True) as theirs:
        for name, (byte, _) in FIELDS.items():
            if byte in theirs.header[0] and byte != 219:  # three angles of revision 2, one of 4 bytes before
                assert headers[name][0] == theirs.header[0][byte], name


def test_revisions_and_extended_headers(tmp_path):
    data = dipping(3, 4)
    for revision, extended in ((0, 0), (1, 2), (2, 1)):
        path = write_segy(tmp_path / f"{revision}.sgy", data, revision=revision, extended=extended)
        assert open_segy(path).revision == revision
        np.testing.assert_array_equal(read(path).data, data)
    path = write_segy(tmp_path / "open.sgy", data, revision=1, extended=2)
    raw = bytearray(path.read_bytes())
    raw[3504:3506] = (-1).to_bytes(2, "big", signed=True)
    with pytest.raises(CorruptInput, match="EndText"):
        path.write_bytes(raw) and read(path)
    raw[6800:6816] = "((SEG: EndText))".encode("cp037")
    path.write_bytes(raw)
    np.testing.assert_array_equal(read(path).data, data)


def test_a_file_is_known_by_its_content(tmp_path):
    path = write_segy(tmp_path / "cube.dat", dipping(), ascii_text=True)
    assert sniff(path) == "segy"
    assert describe_traces(path)["grid"] == "8 x 10 traces"


# --- geometry: the traps -----------------------------------------------------------------------------------------
def places(traces: Traces) -> list[int]:
    return traces.grid.index[traces.live].tolist()


def test_missing_and_shuffled_traces_fall_into_place(tmp_path):
    data, random = dipping(), np.random.default_rng(3)
    keep = random.permutation(80)[:47]
    found = read(write_segy(tmp_path / "a.sgy", data, keep=keep))
    live = np.isin(np.arange(80), keep).reshape(8, 10)
    assert found.rows.step == 2 and found.data.shape == data.shape
    np.testing.assert_array_equal(found.live, live)
    np.testing.assert_array_equal(found.data[live], data[live])
    assert not found.data[~live].any()
    assert found.counts() == {"absent": 33}


@pytest.mark.parametrize("lost", [[0], [79], [37], [0, 9, 70, 79], [*range(20, 30)], [*range(0, 80, 9)]], ids=str)
def test_whatever_is_missing_inside_leaves_the_others_in_place(tmp_path, lost):
    """First, last and corner traces, and a whole inline: segyio refuses these, or takes them for a smaller cube."""
    data = dipping()
    found = read(write_segy(tmp_path / "a.sgy", data, keep=np.delete(np.arange(80), lost)))
    assert found.data.shape == data.shape
    np.testing.assert_array_equal(np.flatnonzero(~found.live), lost)
    np.testing.assert_array_equal(found.data[found.live], data[found.live])


def test_a_dropped_and_a_repeated_trace_are_no_cube(tmp_path):
    """The count fits, and segyio opens it strictly as a cube with every later trace in the wrong place."""
    keep = np.r_[0:20, 21:51, 50, 51:80]
    path = write_segy(tmp_path / "a.sgy", dipping(), keep=keep)
    assert len(open_segy(path)) == 80
    with pytest.raises(
        InputError, match=r"a\.sgy: two traces have the same place.*traces 50 and 51 at inline 110, crossl"
    ):
        read(path)


def test_whole_lines_that_are_gone_come_back_by_the_users_grid(tmp_path):
    """Segyio takes a regularly decimated survey for a smaller complete one."""
    data = dipping()
    keep = np.arange(80).reshape(8, 10)[:, ::2].ravel()
    path = write_segy(tmp_path / "a.sgy", data, keep=keep)
    assert read(path).data.shape == (8, 5, 32)
    found = read_traces(path, ReadOptions(columns="30:39:1"))
    assert found.data.shape == data.shape
    assert found.live[:, ::2].all() and not found.live[:, 1::2].any()
    finer = read_traces(path, ReadOptions(columns="::1", rows="98:"))
    assert finer.data.shape == (9, 9, 32)
    with pytest.raises(UsageError, match="range of crossline"):
        read_traces(path, ReadOptions(columns="1-2"))


def test_one_stray_header_does_not_make_a_giant_grid(tmp_path):
    data = dipping()
    crossline = 30 + np.tile(np.arange(10), 8)
    crossline[33] = 2_000_000_001
    path = write_segy(tmp_path / "a.sgy", data, change={"crossline": crossline})
    with pytest.raises(InputError, match=r"nearly empty.*trace 34 has crossline 2000000001"):
        read(path)


def test_steps_may_be_negative_and_bytes_elsewhere(tmp_path):
    data = dipping()
    path = write_segy(tmp_path / "a.sgy", data, inlines=(500, -3), crosslines=(-4, 1))
    np.testing.assert_array_equal(read(path).data, data[::-1])
    row, column = np.divmod(np.arange(80), 10)
    path = write_segy(
        tmp_path / "b.sgy", data, inlines=(0, 0), crosslines=(0, 0), change={"byte197": row + 7, "cdp": column + 1}
    )
    np.testing.assert_array_equal(read_traces(path, ReadOptions(inline=197, crossline=21)).data, data)


def test_lines_and_gathers(tmp_path):
    row, column = np.divmod(np.arange(80), 10)
    nothing = {"inlines": (0, 0), "crosslines": (0, 0)}
    line = read(write_segy(tmp_path / "line.sgy", dipping(1, 80), **nothing, change={"cdp": np.arange(80) + 5}))
    assert (line.kind, line.data.shape, line.columns.describe()) == ("2d", (1, 80, 32), "cdp 5 to 84")
    inline = read(write_segy(tmp_path / "inline.sgy", dipping(80, 1)))
    assert (inline.kind, inline.data.shape) == ("2d", (1, 80, 32))
    data = dipping()
    shots = {"field_record": row + 900, "channel": column + 1, "offset": column * 25 - 300}
    shot = read(write_segy(tmp_path / "shots.sgy", data, **nothing, change=shots))
    assert (shot.kind, shot.rows.name, shot.columns.name) == ("prestack", "field record", "channel")
    gathers = {"cdp": row + 1, "offset": column * 25 - 300}
    cdp = read(write_segy(tmp_path / "cdp.sgy", data, **nothing, change=gathers))
    assert (cdp.kind, cdp.rows.name, cdp.columns.describe()) == ("prestack", "cdp", "offset -300 to -75 by 25")
    offsets = {"inline": row // 4, "crossline": row % 4, "offset": column * 25}
    prestack = read(write_segy(tmp_path / "offsets.sgy", data, change=offsets))
    assert (prestack.kind, prestack.rows.name) == ("prestack", "inline and crossline")
    for found in (shot, cdp, prestack):
        np.testing.assert_array_equal(found.data, data)
    last = read(write_segy(tmp_path / "plain.sgy", data, **nothing))
    assert last.kind == "2d" and "no header places the traces" in last.meta["warnings"][0]
    blank = {"sequence_in_file": np.zeros(80, int)}
    with pytest.raises(InputError, match="do not say where the traces belong"):
        read(write_segy(tmp_path / "blank.sgy", data, **nothing, change=blank))


def test_reasons_why_traces_are_missing(tmp_path):
    data = dipping()
    data[0, 0], data[1, 1], data[2, 2, 5], data[3, 3] = 0, 7.5, np.nan, data[3, 4] * 1e5
    keep = np.delete(np.arange(80), 44)
    ids = np.where(np.arange(80) == 55, 2, 1)
    stored = data.copy()
    stored[2, 2, 5] = 0
    path = write_segy(tmp_path / "a.sgy", stored, keep=keep, change={"trace_id": ids})
    raw = bytearray(path.read_bytes())
    start = 3600 + 22 * (240 + 128) + 240 + 5 * 4
    raw[start : start + 4] = np.array(np.nan, ">f4").tobytes()
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"NaN or infinity; found trace 23, sample 6; 1 such"):
        read(path)
    found = read_traces(path, ReadOptions(nan="missing"))
    expected = {
        (0, 0): "zero",
        (1, 1): "zero",
        (2, 2): "not_finite",
        (3, 3): "outlier",
        (4, 4): "absent",
        (5, 5): "marked_dead",
    }
    assert {place: State(found.state[place]).name for place in zip(*np.nonzero(~found.live), strict=True)} == expected
    assert not found.data[~found.live].any()
    assert "trace identification 2" in str(found.summary()["missing_marked_dead"])


# --- writing -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", [1, 3, 5, 7, 16])
@pytest.mark.parametrize("order", [">", "<"])
def test_live_traces_are_copied_byte_for_byte(tmp_path, form, order):
    data = np.abs(np.rint(dipping() / 20)) if form == 16 else np.rint(dipping() / 20)
    keep = np.random.default_rng(1).permutation(80)[:50]
    source = write_segy(tmp_path / "a.sgy", data, form=form, order=order, keep=keep)
    traces = read(source)
    path = write(tmp_path / "b.sgy", filled(traces))
    back, before, after = read(path), bytes_of_traces(source), bytes_of_traces(path)
    assert back.data.shape == data.shape and len(after) == 80
    live = traces.live
    np.testing.assert_array_equal(after[back.grid.index[live]], before[traces.grid.index[live]])
    assert is_made_here(back.file)[back.grid.index[~live]].all()
    assert not is_made_here(back.file)[back.grid.index[live]].any()
    assert "FILLED 30 TRACES" in "".join(back.file.text)
    np.testing.assert_array_equal(path.read_bytes()[3200:3600], source.read_bytes()[3200:3600])


def test_headers_of_new_traces_are_those_that_were_removed(tmp_path):
    """All but running counters and one unit of rounding of coordinates; segyio opens the result strictly."""
    data = dipping()
    whole = write_segy(tmp_path / "whole.sgy", data)
    keep = np.sort(np.random.default_rng(2).permutation(80)[:48])
    path = write(tmp_path / "b.sgy", filled(read(write_segy(tmp_path / "a.sgy", data, keep=keep))))
    with segyio.open(path, iline=189, xline=193) as strict:
        assert (len(strict.ilines), len(strict.xlines)) == (8, 10)
    truth, found = open_segy(whole).headers, open_segy(path).headers
    for name in FIELDS:
        near = 1 if name in ("cdp_x", "cdp_y", "source_x", "source_y") else 0
        assert np.abs(truth[name].astype(np.int64) - found[name]).max() <= near, name


def test_rows_decide_what_is_not_affine(tmp_path):
    """Prestack: source positions differ from shot to shot without any rule, and are the same within a shot."""
    row, column = np.divmod(np.arange(80), 10)
    source = np.random.default_rng(4).integers(0, 10**6, 8)[row]
    shots = {"field_record": row * 3 + 900, "channel": column + 1, "offset": column * 25, "source_x": source}
    keep = np.sort(np.random.default_rng(5).permutation(80)[:60])
    arguments = {"inlines": (0, 0), "crosslines": (0, 0), "change": shots}
    whole = write_segy(tmp_path / "whole.sgy", dipping(), **arguments)
    path = write(tmp_path / "b.sgy", filled(read(write_segy(tmp_path / "a.sgy", dipping(), keep=keep, **arguments))))
    for name in shots:
        np.testing.assert_array_equal(open_segy(path).headers[name], open_segy(whole).headers[name])


def test_nothing_missing_gives_the_same_file(tmp_path):
    source = write_segy(tmp_path / "a.sgy", dipping(), form=1, keep=np.random.default_rng(0).permutation(80))
    assert write(tmp_path / "b.sgy", read(source)).read_bytes() == source.read_bytes()


def test_removed_traces_are_remembered_by_the_grid(tmp_path):
    traces = read(write_segy(tmp_path / "a.sgy", dipping(), form=1))
    keep = np.ones((8, 10), bool)
    keep[:, 1::2] = False
    traces.meta["grid"] = grid_line(traces.rows, traces.columns)
    back = read(write(tmp_path / "b.sgy", traces.keeping(keep)))
    np.testing.assert_array_equal(back.live, keep)
    assert len(back.file) == 40


def test_order_of_the_file_is_kept(tmp_path):
    down = np.arange(80).reshape(8, 10).T.ravel()
    source = write_segy(tmp_path / "a.sgy", dipping(), keep=down[down % 7 != 0])
    headers = open_segy(write(tmp_path / "b.sgy", filled(read(source)))).headers
    assert (np.diff(headers["crossline"].astype(int) * 1000 + headers["inline"]) > 0).all()


def test_a_file_is_not_written_over_itself(tmp_path):
    source = write_segy(tmp_path / "a.sgy", dipping(), keep=np.arange(75))
    before = source.read_bytes()
    with pytest.raises(UsageError, match="not written over itself"):
        write(source, filled(read(source)), overwrite=True)
    assert source.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.sgy"]


def test_no_nan_is_written(tmp_path):
    traces = read(write_segy(tmp_path / "a.sgy", dipping(), keep=np.arange(75), form=1))
    with pytest.raises(InputError, match="to write holds NaN"):
        write(tmp_path / "b.sgy", filled(traces, float("nan")))
    assert not (tmp_path / "b.sgy").exists()


@pytest.mark.parametrize("order", [">", "<"])
def test_filled_traces_survive_a_second_trip(tmp_path, order):
    """IBM numbers are rounded once: what was written and read again is written as the same bytes."""
    first = write(tmp_path / "b.sgy", filled(read(write_segy(tmp_path / "a.sgy", dipping(), form=1, order=order,
                                                             keep=np.delete(np.arange(80), [3, 44])))))  # fmt: skip
    traces = read(first)
    mine = traces.data.copy()
    again = write(tmp_path / "c.sgy", replace(traces, filled=np.ones((8, 10), bool)))
    np.testing.assert_array_equal(traces.data, mine)
    np.testing.assert_array_equal(read(again).data, mine)


@pytest.mark.parametrize("order", [">", "<"])
def test_su(tmp_path, order):
    sgy = write_segy(tmp_path / "a.sgy", dipping(), order=order, keep=np.arange(75))
    su = tmp_path / "a.su"
    su.write_bytes(sgy.read_bytes()[3600:])
    traces = read(su)
    np.testing.assert_array_equal(traces.data, read(sgy).data)
    with segyio.su.open(
        su, iline=189, xline=193, endian="big" if order == ">" else "little", ignore_geometry=True
    ) as other:
        np.testing.assert_array_equal(other.trace.raw[:], traces.data[traces.live])
    back = write(tmp_path / "b.su", filled(traces))
    assert back.read_bytes()[: 75 * 368] == su.read_bytes()
    assert read(back).live.all()


@pytest.mark.parametrize("suffix", [".sgy", ".su", ".npz"])
def test_arrays_become_files(tmp_path, suffix):
    live = np.broadcast_to(np.arange(10) % 3 > 0, (8, 10))
    np.savez(tmp_path / "a.npz", data=dipping(), live=live)
    traces = read(tmp_path / "a.npz")
    assert traces.counts() == {"absent": 32}
    back = read(write(tmp_path / f"b{suffix}", filled(traces)))
    np.testing.assert_array_equal(back.data, filled(traces).data)
    if suffix == ".sgy":
        with segyio.open(write(tmp_path / "c.sgy", filled(traces)), iline=189, xline=193) as strict:
            assert segyio.tools.cube(strict).shape == (8, 10, 32)


def test_npz_whose_missing_places_hold_anything(tmp_path):
    data, live = dipping(), np.random.default_rng(0).random((8, 10)) < 0.5
    for wrong in (1e30, np.nan):
        np.savez(tmp_path / "a.npz", data=np.where(live[..., None], data, wrong), live=live)
        np.testing.assert_array_equal(read(tmp_path / "a.npz").data, np.where(live[..., None], data, 0))
    np.savez(tmp_path / "b.npz", data=data, live=live[:3])
    with pytest.raises(InputError, match="live map does not fit"):
        read(tmp_path / "b.npz")


# --- bad input ---------------------------------------------------------------------------------------------------
def broken(path: Path, **numbers: tuple[int, int]) -> Path:
    raw = bytearray(path.read_bytes())
    for byte, (size, value) in numbers.items():
        raw[int(byte[1:]) - 1 : int(byte[1:]) - 1 + size] = value.to_bytes(size, "big")
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"b3225": (2, 0)}, r"unknown sample format; found 0 in bytes 3225-3226"),
        ({"b3225": (2, 4)}, r"unknown sample format; found 4"),
        ({"b3221": (2, 33)}, r"cut short.*trace 80 ends after 52 of 372 bytes"),
        ({"b3221": (2, 0), "b3715": (2, 0)}, r"traces without samples; found 0 in bytes 3221-3222"),
        ({"b3217": (2, 0), "b3717": (2, 0)}, r"the sample interval is zero; found 0 in bytes 3217-3218"),
        ({"b4083": (2, 99)}, r"another number of samples; found 99 in trace 2 \(bytes 115-116\), and 0 more"),
    ],
)
def test_wrong_headers_are_named(tmp_path, numbers, message):
    path = broken(write_segy(tmp_path / "a.sgy", dipping()), **numbers)
    with pytest.raises(InputError, match=rf"a\.sgy: .*{message}"):
        read(path)


def test_truncated_files(tmp_path):
    path = write_segy(tmp_path / "a.sgy", dipping())
    whole = path.read_bytes()
    for size, message in (
        (0, "is empty"),
        (100, "ends within its headers; found 100 bytes"),
        (3600, "headers but no trace"),
    ):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=message):
            read(path)
    path.write_bytes(whole[:-50])
    with pytest.raises(CorruptInput, match="trace 80 ends after 318 of 368 bytes"):
        read(path)
    found = read_traces(path, ReadOptions(salvage=True))
    assert found.counts() == {"absent": 1} and "cut short" in found.meta["warnings"][0]


def test_nothing_live(tmp_path):
    with pytest.raises(InputError, match=r"no trace is live; found 80 traces"):
        read(write_segy(tmp_path / "a.sgy", np.zeros((8, 10, 32), np.float32)))


# --- real files --------------------------------------------------------------------------------------------------
def test_f3_and_its_copy_with_holes_agree():
    whole = read(realdata.need("seismic", "test", "f3.sgy"))
    holes = read(realdata.need("seismic", "test", "f3_with_missing_traces.sgy"))
    assert holes.counts() == {"absent": 175}
    np.testing.assert_array_equal(holes.data[holes.live], whole.data[holes.live])


@pytest.mark.parametrize("name", ["f3.sgy", "f3_2lines.sgy", "viking_small.segy"])
def test_segyio_reads_the_same_of_real_files(name):
    path = realdata.need("seismic", "test", name)
    ours = open_segy(path)
    with segyio.open(path, ignore_geometry=True) as theirs:
        np.testing.assert_allclose(ours.decoded(slice(None)), theirs.trace.raw[:], rtol=1e-6)
        for byte in (1, 37, 73, 181, 189, 193):
            np.testing.assert_array_equal(ours.numbers(byte), theirs.attributes(byte)[:])


def test_real_gathers_are_shots():
    found = read(realdata.need("seismic", "test", "viking_small.segy"))
    assert (found.kind, found.data.shape) == ("prestack", (4, 120, 600))


def test_marks_are_four_bytes():
    assert len(MARK) == 4
