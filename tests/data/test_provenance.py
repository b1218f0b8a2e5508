"""NAME.json: what is in it, what never is, and when it speaks up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import file_examples as examples
from medrecon.data import read, write
from medrecon.data.atomic import sha256_of_file
from medrecon.data.provenance import describe_run, jsonable, read_sidecar, sidecar_path, verify_sidecar, without_folders
from medrecon.errors import CorruptInput, UsageError


def test_record_of_a_run(tmp_path):
    source = write(tmp_path / "in.nii", examples.volume(), sidecar=False)
    run = describe_run(
        inputs=[source],
        weights=[],
        settings={"method": "dds", "steps": np.int64(20), "prior": source, "rho": np.float32(0.5)},
        seed=7,
        residual={"discrepancy": 1.02, "per_view": np.array([1.0, np.nan, np.inf])},
        timings={"total": 12.5},
        extra={"status": "done"},
    )
    path = write(tmp_path / "recon.nii.gz", examples.volume(examples.oblique()), provenance=run)
    record = json.loads((tmp_path / "recon.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert record["output"]["name"] == "recon.nii.gz" and record["output"]["sha256"] == sha256_of_file(path)
    assert record["output"]["quantity"] == "HU" and record["output"]["units"]["length"] == "mm"
    grid = record["output"]["grid"]
    np.testing.assert_array_equal(grid["affine_ras_mm"], examples.oblique().affine)
    assert grid["shape_zyx"] == [5, 6, 7] and grid["orientation_xyz"] == "LPS"
    assert record["inputs"] == [{"name": "in.nii", "sha256": sha256_of_file(source)}]
    assert record["settings"] == {"method": "dds", "steps": 20, "prior": "in.nii", "rho": 0.5}
    assert record["seed"] == 7 and record["status"] == "done" and record["timings"] == {"total": 12.5}
    assert record["residual"]["per_view"] == [1.0, None, "infinity"]
    assert {"medrecon", "python", "numpy", "torch", "platform"} <= set(record["versions"])
    assert record["peak_memory_bytes"] > 1e6
    assert str(tmp_path) not in json.dumps(record)


def test_every_write_has_one(tmp_path):
    write(tmp_path / "a.nii", examples.volume())
    write(tmp_path / "scan.h5", examples.scan())
    assert json.loads((tmp_path / "a.json").read_text())["output"]["holds"] == "volume"
    record = json.loads((tmp_path / "scan.json").read_text())["output"]
    assert record["holds"] == "scan" and record["noise"]["photons"] == 1e5 and record["water_per_mm"] == 0.0192
    assert record["geometry"]["kind"] == "parallel" and record["data_shape"] == list(examples.scan().data.shape)


def test_changed_file_is_noticed(tmp_path):
    path = write(tmp_path / "a.nii", examples.volume())
    assert verify_sidecar(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptInput, match=r"not the one that a\.json describes.*SHA-256"):
        read(path)
    (tmp_path / "a.json").unlink()
    assert not verify_sidecar(path)
    read(path)


def test_foreign_json_is_kept_and_ignored(tmp_path):
    """dcm2niix puts scan.json beside scan.nii.gz; it is neither replaced nor taken for a record."""
    for foreign in ('{"Modality": "CT"}', "not json", "[1, 2]", '{"medrecon_record": 1, "output": {"name": "a.h5"}}'):
        (tmp_path / "a.json").write_text(foreign)
        path = write(tmp_path / "a.nii.gz", examples.volume(), overwrite=True)
        assert (tmp_path / "a.json").read_text() == foreign
        assert sidecar_path(path) == tmp_path / "a.nii.gz.json"
        record = read_sidecar(path)
        assert record is not None and record["output"]["name"] == "a.nii.gz"  # type: ignore[index]
        read(path)


def test_two_outputs_of_one_stem(tmp_path):
    for name in ("a.nii.gz", "a.h5", "a.nii"):
        write(tmp_path / name, examples.volume(seed=len(name)))
    assert {p.name for p in tmp_path.glob("*.json")} == {"a.json", "a.h5.json", "a.nii.json"}
    for name in ("a.nii.gz", "a.h5", "a.nii"):
        assert verify_sidecar(tmp_path / name)
        write(tmp_path / name, examples.volume(seed=99), overwrite=True)
        assert verify_sidecar(tmp_path / name)


def test_failed_write_keeps_both(tmp_path):
    path = write(tmp_path / "a.nii", examples.volume())
    before = [p.read_bytes() for p in (path, tmp_path / "a.json")]
    with pytest.raises(UsageError):
        write(path, examples.volume(seed=1))
    volume = examples.volume()
    with pytest.raises(Exception, match="NaN"):
        write(path, volume.with_array(volume.array * np.nan), overwrite=True)
    assert [p.read_bytes() for p in (path, tmp_path / "a.json")] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.nii"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane/ct.nii.gz", "ct.nii.gz"),
        ("patients/Jane Doe/ct.nii.gz", "ct.nii.gz"),
        ("../Jane/ct.h5", "ct.h5"),
        ("C:\\Users\\Jane\\ct.nii", "ct.nii"),
        ("~/ct", "ct"),
        ("1/mm", "1/mm"),
        ("dds", "dds"),
        ("recon /data/jane/a.h5 -o ./out/b.nii", "recon a.h5 -o b.nii"),
        ("--prior=/data/jane/p.safetensors", "--prior=p.safetensors"),
        ("and/or", "and/or"),
    ],
)
def test_folders_are_cut(text, expected):
    assert without_folders(text) == expected


def test_jsonable():
    value = {"a": (1, 2.5, None, True), "b": {Path("/x/y"): Path("/x/z.nii")}, "c": np.eye(2, dtype=bool)}
    assert jsonable(value) == {"a": [1, 2.5, None, True], "b": {"y": "z.nii"}, "c": [[True, False], [False, True]]}
    assert jsonable(float("-inf")) == "-infinity"


def test_folder_as_input(tmp_path):
    examples.dicom_series(tmp_path / "one", np.zeros((2, 3, 4), np.int16), names=["a", "b"])
    examples.dicom_series(tmp_path / "two", np.zeros((2, 3, 4), np.int16), names=["y", "x"])
    one, two = describe_run(inputs=[tmp_path / "one", tmp_path / "two"])["inputs"]  # type: ignore[misc]
    assert one["files"] == 2 and one["sha256"] == two["sha256"] and one["name"] == "one"
