"""Siemens raw data: the real file, and what is done without twixtools."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import realdata
from medrecon.data import KSpace, read, sniff
from medrecon.data.twix import _directions
from medrecon.engine import reconstruct
from medrecon.errors import InputError, MissingDependency
from medrecon.mri import measurement_of
from medrecon.scans import problem_from_scan


def phantom_file() -> Path:
    return realdata.need("mri-raw", "siemens_gre.dat")


def test_the_real_gradient_echo_bit_for_bit_and_in_its_place() -> None:
    """Against the samples where the file format has them: readouts of 2 coils at a fixed distance."""
    pytest.importorskip("twixtools")
    path = phantom_file()
    assert sniff(path) == "siemens"
    kspace = read(path)
    assert isinstance(kspace, KSpace)
    raw = path.read_bytes()
    at = int.from_bytes(raw[16:24], "little")
    at += int.from_bytes(raw[at : at + 4], "little")  # beyond the header of the measurement
    for line in (0, 79, 159):
        for coil in (0, 1):
            # 192 bytes before a readout, 32 before each coil
            first = at + line * (192 + 2 * (32 + 320 * 8)) + 192 + 32 + coil * (32 + 320 * 8)
            np.testing.assert_array_equal(
                kspace.data[coil, 0, :, line], np.frombuffer(raw[first : first + 2560], "<c8")
            )
    assert kspace.volume_geometry.shape == (1, 160, 160)
    np.testing.assert_allclose(kspace.field_of_view, (4.0, 400.0, 200.0))
    affine = kspace.volume_geometry.affine
    # The protocol: centre at L -2.59, P 53.92, H -54.00; normal 2.2 degrees from the axis of the scanner towards P
    centre = affine @ [80, 80, 0, 1]
    np.testing.assert_allclose(centre[:3], (2.5897, -53.9224, -53.9995), atol=1e-3)
    np.testing.assert_allclose(affine[:3, 2] / 4.0, (0, -0.0383878, 0.999263), atol=1e-5)
    assert kspace.volume_geometry.orientation == "ALS"


def test_gravity_in_the_real_phantom() -> None:
    """It lay on the table: the level of its liquid, a straight dark edge, is in front (anterior)."""
    pytest.importorskip("twixtools")
    volume = reconstruct(problem_from_scan(read(phantom_file())), "zero-filled").volume.as_orientation("LPS")
    image = volume.array[0]
    inside = image > 0.3 * np.percentile(image, 95)
    rows = np.flatnonzero(inside.any(axis=1))
    width = inside.sum(axis=1)
    assert width[rows[0] + 3] > 1.5 * width[rows[-1] - 3]  # cut straight in front, round behind


def test_retrospective_undersampling_of_the_real_phantom() -> None:
    """Every second line left out but for the centre. The two body coils see nearly the same, so that least squares
    amplifies noise; a regularised volume comes near to the one of all lines."""
    pytest.importorskip("twixtools")
    full = read(phantom_file())
    assert isinstance(full, KSpace)
    mask = np.zeros((1, 1, 160), dtype=bool)
    mask[..., ::2] = True
    mask[..., 68:92] = True
    problem = problem_from_scan(replace(full, data=full.data * mask, mask=mask))
    reference = reconstruct(problem_from_scan(full), "zero-filled").volume.array
    found = [reconstruct(problem, "tv", iterations=40), reconstruct(problem, "cg-sense")]
    error = [np.linalg.norm(each.volume.array - reference) / np.linalg.norm(reference) for each in found]
    assert error[0] < 0.2
    assert error[0] < 0.6 * error[1]


def test_directions_follow_the_quaternion() -> None:
    """A quarter of a turn about the third axis takes (phase, read, slice) from (x, y, z) to (y, -x, z)."""
    half = np.sqrt(0.5)
    read_direction, phase, normal = _directions((half, 0, 0, half), is_3d=False)
    np.testing.assert_allclose(phase, (0, -1, 0), atol=1e-7)  # and round again: the other transform
    np.testing.assert_allclose(read_direction, (1, 0, 0), atol=1e-7)
    np.testing.assert_allclose(normal, (0, 0, 1), atol=1e-7)
    np.testing.assert_allclose(_directions((half, 0, 0, half), is_3d=True)[2], (0, 0, -1), atol=1e-7)


def test_without_twixtools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "twixtools", None)
    table = np.array([0, 1, 1, 1, 64, 0, 0, 0], dtype="<u4").tobytes()
    (tmp_path / "a.dat").write_bytes(table + bytes(200))
    with pytest.raises(MissingDependency, match=r"medrecon\[siemens\]") as found:
        read(tmp_path / "a.dat")
    assert found.value.exit_code == 4


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    pytest.importorskip("twixtools")
    content = phantom_file().read_bytes()
    for cut in (200, 12000, 400_000, len(content) - 3000):
        (tmp_path / "cut.dat").write_bytes(content[:cut])
        with pytest.raises(InputError) as found:
            read(tmp_path / "cut.dat")
        assert found.value.exit_code == 3
    (tmp_path / "floats.dat").write_bytes(np.random.default_rng(0).standard_normal(4000).astype("<f4").tobytes())
    with pytest.raises(InputError, match="no reader recognises"):
        read(tmp_path / "floats.dat")


def test_noise_of_the_real_phantom_is_that_of_its_empty_edges() -> None:
    """No noise scan: the level is told by the oversampled readout, next to the grid and beside the phantom."""
    pytest.importorskip("twixtools")
    kspace = read(phantom_file())
    found = measurement_of(kspace)
    images = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace.data, 2), axis=2, norm="ortho"), 2)
    beside = np.abs(images[:, 0, [*range(60, 80), *range(245, 265)]]) ** 2
    assert found.level == pytest.approx(np.sqrt(beside.mean() / 2), rel=0.1)
