"""Files cut at many places and files with one flipped bit: never a silent difference, never another kind of error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import file_examples as examples
from medrecon.data import KSpace, Scan, Volume, read, write
from medrecon.data.formats import read as read_any
from medrecon.errors import InputError

FORMATS = ["a.nii", "a.nii.gz", "volume.h5", "scan.h5", "kspace.h5"]
CHECKED_BY_ITSELF = ["a.nii.gz", "volume.h5", "scan.h5", "kspace.h5"]  # plain .nii has no checksum: its sidecar has


def example(name: str) -> Volume | Scan | KSpace:
    if name == "kspace.h5":
        return examples.kspace()
    return examples.scan() if name == "scan.h5" else examples.volume(examples.oblique())


def same(a: Volume | Scan | KSpace, b: Volume | Scan | KSpace) -> bool:
    if isinstance(a, KSpace) and isinstance(b, KSpace):
        return examples.same_kspace(a, b)
    if isinstance(a, Volume) and isinstance(b, Volume):
        return (
            np.array_equal(a.array, b.array)
            and np.array_equal(a.geometry.affine, b.geometry.affine)
            and a.quantity == b.quantity
        )
    assert isinstance(a, Scan) and isinstance(b, Scan)
    facts = [(s.geometry, s.noise, s.water, s.modality, s.volume_geometry.affine.tolist()) for s in (a, b)]
    return np.array_equal(a.data, b.data) and facts[0] == facts[1]


def outcome(path: Path, whole: Volume | Scan | KSpace, *, verify: bool) -> str:
    """``refused``, ``same`` or ``different``; any error but InputError passes through and fails the test."""
    try:
        return "same" if same(read_any(path, verify=verify), whole) else "different"
    except InputError as error:
        assert error.exit_code == 3 and path.name in str(error) and str(path.parent) not in str(error)
        return "refused"


@pytest.mark.parametrize("name", FORMATS)
def test_truncation(tmp_path, name):
    whole = example(name)
    path = write(tmp_path / name, whole, sidecar=False)
    data = path.read_bytes()
    cuts = {*range(0, min(len(data), 520), 13), *(len(data) - n for n in (1, 2, 4, 8, 9, 16)), 343, 347, 348, 352}
    cuts |= set(np.random.default_rng(0).integers(0, len(data), 60).tolist())
    for cut in sorted(c for c in cuts if c < len(data)):
        path.write_bytes(data[:cut])
        assert outcome(path, whole, verify=False) == "refused", f"cut at {cut} of {len(data)}"


@pytest.mark.parametrize("name", FORMATS)
def test_bit_flips(tmp_path, name):
    """With the sidecar every flip is refused; without it, formats with their own checksum never give other values."""
    whole = example(name)
    path = write(tmp_path / name, whole)
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    places = np.concatenate([rng.integers(0, min(len(data), 4096), 105), rng.integers(0, len(data), 45)])
    for place, bit in zip(places, rng.integers(0, 8, len(places)), strict=True):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(bit)
        path.write_bytes(flipped)
        assert outcome(path, whole, verify=True) == "refused", f"byte {place}, bit {bit}"
        if name in CHECKED_BY_ITSELF:
            assert outcome(path, whole, verify=False) != "different", f"byte {place}, bit {bit}"


@pytest.mark.parametrize("name", FORMATS)
def test_spliced_and_foreign_bytes(tmp_path, name):
    whole = example(name)
    path = write(tmp_path / name, whole, sidecar=False)
    data = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(20):
        start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
        path.write_bytes(data[:start] + rng.bytes(length) + data[start + length :])
        got = outcome(path, whole, verify=False)
        assert name not in CHECKED_BY_ITSELF or got != "different"
    for junk in (
        b"",
        b"\0" * 1000,
        rng.bytes(5000),
        b"\x1f\x8b" + rng.bytes(100),
        b"\x89HDF\r\n\x1a\n" + rng.bytes(600),
    ):
        path.write_bytes(junk)
        assert outcome(path, whole, verify=False) == "refused"


@pytest.mark.parametrize("name", FORMATS)
def test_absent_empty_and_folder(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="no reader recognises"):
        read(tmp_path / name)
