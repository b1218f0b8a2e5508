"""The registry: content decides what a file is, the suffix decides what is written, and every writer has its reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import file_examples as examples
from helpers.traces import traces
from medrecon.data import KSpace, Scan, Traces, Volume, read, read_volume, readers, sniff, write, writers
from medrecon.data.formats import writer_for
from medrecon.data.limits import Limits, available_memory
from medrecon.errors import InputError, UsageError


@pytest.mark.parametrize("entry", list(writers), ids=writers.names())
def test_contract_of_every_writer(tmp_path, entry):
    """What any writer writes, the registry recognises and reads back with the same values, place and quantity."""
    kinds = {Scan: examples.scan, KSpace: examples.kspace, Traces: traces}
    kinds[Volume] = lambda: examples.volume(examples.oblique())
    content = kinds[entry.value.content]()
    for suffix in entry.value.suffixes:
        path = write(tmp_path / f"name{suffix}", content)
        assert sniff(path) == entry.name
        back = read(path)
        assert type(back) is type(content)
        if isinstance(back, Volume) and isinstance(content, Volume):
            rounding = 1 / 64 if entry.name == "dicom" else 0.0  # 16 bits a voxel
            np.testing.assert_allclose(back.array, content.array, rtol=0, atol=rounding)
            assert back.geometry.almost_equal(content.geometry, 1e-4) and back.quantity == content.quantity
        if isinstance(back, Traces) and isinstance(content, Traces):
            np.testing.assert_array_equal(back.data, content.data)
            assert back.quantity == content.quantity
        with pytest.raises(UsageError):
            write(path, content)
        write(path, content, overwrite=True)


def test_content_not_suffix_decides(tmp_path):
    path = write(tmp_path / "a.nii.gz", examples.volume(), sidecar=False)
    for name in ("a.h5", "a", "a.nii", "a.dcm", "A.NII.GZ"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert sniff(tmp_path / name) == "nifti"
        assert isinstance(read(tmp_path / name), Volume)


def test_suffixes(tmp_path):
    assert writer_for("X.NII.GZ").name == "nifti"
    assert writer_for("a.h5").name == "hdf5-volume"
    assert writer_for("a.h5", Scan).name == "scan.h5"
    with pytest.raises(UsageError, match=r"no writer for a scan.*\.h5"):
        writer_for("a.nii", Scan)
    with pytest.raises(UsageError, match=r"a\.tif: no writer"):
        writer_for(tmp_path / "a.tif")


def test_unknown_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match=r"89 50 4e 47.*expected nifti|no reader recognises"):
        sniff(tmp_path / "a.png")
    (tmp_path / "empty.nii").touch()
    with pytest.raises(InputError, match=r"empty\.nii: the file is empty"):
        sniff(tmp_path / "empty.nii")
    with pytest.raises(InputError, match="no such file"):
        sniff(tmp_path / "absent")


def test_read_volume_overrules_the_quantity(tmp_path):
    path = write(tmp_path / "a.nii", examples.volume(quantity="a.u."))
    assert read_volume(path).quantity == "a.u."
    assert read_volume(path, quantity="HU").quantity == "HU"


def test_importing_formats_loads_no_heavy_library():
    code = "import sys, medrecon.data; print([m for m in ('torch', 'nibabel', 'h5py', 'pydicom') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


def test_limits_are_sensible():
    assert 1 << 20 < available_memory() < 1 << 50
    assert Limits(100).check((5, 5), 4, where="x") == 100
    with pytest.raises(InputError, match="5 x 6 values = 120 bytes"):
        Limits(100).check((5, 6), 4, where="x")


def test_reader_names():
    assert {"nifti", "scan.h5", "kspace.h5", "hdf5-volume", "dicom", "segy", "su", "traces.npz"} <= set(readers.names())
