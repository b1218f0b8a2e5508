"""fastMRI files, written by h5py in the published layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from helpers import mr_files as files
from medrecon.data import KSpace, Volume, read, sniff, write
from medrecon.errors import InputError
from medrecon.physics.mri.fourier import centred_ifft, cropped

SLICES, COILS, ROWS, COLUMNS = 3, 4, 24, 14
XML = files.header_xml((ROWS, COLUMNS, 1), (480.0, 140.0, 5.0), (12, 12, 1), (240.0, 120.0, 5.0))


def fastmri(path: Path, data: np.ndarray | None = None, xml: str | None = XML, **datasets: object) -> Path:
    """A file as the data set has them; ``mask`` and others by name."""
    data = files.complex_noise(SLICES, COILS, ROWS, COLUMNS) if data is None else data
    with h5py.File(path, "w") as file:
        file["kspace"] = data
        if xml is not None:
            file["ismrmrd_header"] = xml
        for name, values in datasets.items():
            file[name] = values
        file.attrs.update(acquisition="AXT2", patient_id="Canary", max=1.0, norm=2.0)
    return path


def the(content: object) -> KSpace:
    assert isinstance(content, KSpace)
    return content


def test_a_brain_without_mask_bit_for_bit(tmp_path: Path) -> None:
    data = files.complex_noise(SLICES, COILS, ROWS, COLUMNS)
    path = fastmri(tmp_path / "a.h5", data, reconstruction_rss=np.zeros((SLICES, 12, 12), np.float32))
    assert sniff(path) == "fastmri"
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.data, data.swapaxes(0, 1))
    assert kspace.sampling.all() and kspace.encoded == (1, 2) and kspace.readout_axis == 1
    assert kspace.volume_geometry.shape == (SLICES, 12, 12)
    np.testing.assert_allclose(kspace.volume_geometry.spacing, (5.0, 20.0, 10.0))
    assert kspace.meta["contrast"] == "AXT2" and "Canary" not in str(kspace.meta)
    assert kspace.meta["warnings"] == []
    assert "orientation" in kspace.meta["missing"][0]


def test_the_reference_image_is_the_crop_of_ours(tmp_path: Path) -> None:
    """``reconstruction_rss``: root sum of squares of the centred transform, cropped centrally to the recon matrix."""
    from medrecon.engine import reconstruct
    from medrecon.scans import problem_from_scan

    data = files.complex_noise(SLICES, COILS, ROWS, COLUMNS)
    shifted = np.fft.ifftshift(data, axes=(2, 3))
    images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(2, 3))
    rss = np.sqrt((np.abs(images) ** 2).sum(axis=1))[:, 6:18, 1:13]
    kspace = the(read(fastmri(tmp_path / "a.h5", data)))
    ours = reconstruct(problem_from_scan(kspace), "zero-filled", combine="rss").volume.array
    np.testing.assert_allclose(ours, rss, rtol=1e-4, atol=1e-4)
    direct = cropped(centred_ifft(torch.from_numpy(kspace.data), (2, 3)), (12, 12)).abs().square().sum(0).sqrt()
    np.testing.assert_allclose(direct.numpy(), rss, rtol=1e-4, atol=1e-4)


def test_a_test_file_with_its_mask(tmp_path: Path) -> None:
    mask = np.arange(COLUMNS) % 2 == 0
    mask[5:10] = True
    data = files.complex_noise(SLICES, COILS, ROWS, COLUMNS) * mask
    for kind in (bool, np.float32):
        kspace = the(read(fastmri(tmp_path / f"{kind.__name__}.h5", data, mask=mask.astype(kind))))
        np.testing.assert_array_equal(kspace.sampling, mask.reshape(1, 1, -1))
        np.testing.assert_array_equal(kspace.data, data.swapaxes(0, 1))


def test_padding_was_never_measured(tmp_path: Path) -> None:
    """Limits 0 to 9 with the centre at 5 in 14 columns: columns 2 to 11. A mask that says otherwise is corrected."""
    xml = files.header_xml((ROWS, COLUMNS, 1), (480.0, 140.0, 5.0), limits=(0, 5, 9))
    inside = (np.arange(COLUMNS) >= 2) & (np.arange(COLUMNS) <= 11)
    data = files.complex_noise(SLICES, COILS, ROWS, COLUMNS) * inside
    for extra in ({}, {"mask": np.ones(COLUMNS, bool)}):
        kspace = the(read(fastmri(tmp_path / f"{len(extra)}.h5", data, xml, **extra)))
        np.testing.assert_array_equal(kspace.sampling[0, 0], inside)
    full = files.complex_noise(SLICES, COILS, ROWS, COLUMNS)
    kspace = the(read(fastmri(tmp_path / "full.h5", full, xml)))
    assert kspace.sampling.all() and "limits are not used" in kspace.meta["warnings"][0]


def test_a_single_coil_knee(tmp_path: Path) -> None:
    data = files.complex_noise(SLICES, ROWS, COLUMNS)
    path = fastmri(tmp_path / "a.h5", data, reconstruction_esc=np.zeros((SLICES, 12, 12), np.float32))
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.data, data[None])
    assert kspace.coils == 1


def test_headers_that_do_not_fit_are_named(tmp_path: Path) -> None:
    xml = XML.replace("<encodingLimits>", "<encodingLimits><slice><minimum>0</minimum><maximum>31</maximum><center>16"
                      "</center></slice>")  # fmt: skip
    assert "header speaks of 32 slices" in the(read(fastmri(tmp_path / "a.h5", xml=xml))).meta["warnings"][0]
    swapped = files.complex_noise(SLICES, COILS, COLUMNS, ROWS)
    kspace = the(read(fastmri(tmp_path / "b.h5", swapped)))
    assert "exchanged" in kspace.meta["warnings"][0]
    np.testing.assert_array_equal(kspace.data, swapped.transpose(1, 0, 3, 2))
    other = the(read(fastmri(tmp_path / "c.h5", files.complex_noise(SLICES, COILS, ROWS, COLUMNS - 2))))
    assert "field of view is taken to be the same" in other.meta["warnings"][0]
    assert other.volume_geometry.spacing[2] == pytest.approx(140 / 12)


def test_converted_it_is_the_same(tmp_path: Path) -> None:
    import file_examples as examples

    kspace = the(read(fastmri(tmp_path / "a.h5")))
    assert examples.same_kspace(the(read(write(tmp_path / "k.h5", kspace))), kspace)


NOISE = files.complex_noise(SLICES, COILS, ROWS, COLUMNS)
BAD: dict[str, tuple[dict, str]] = {
    "no header": ({"xml": None, "reconstruction_rss": np.zeros((3, 4, 4))}, "ismrmrd_header is missing"),
    "magnitudes": ({"data": np.abs(NOISE)}, "wrong type of number; found float32"),
    "half precision": ({"data": np.abs(NOISE).astype(np.float16)}, "wrong type of number; found float16"),
    "two axes": ({"data": NOISE[0, 0]}, "another number of axes"),
    "five axes": ({"data": NOISE[None]}, "another number of axes"),
    "not a number": ({"data": NOISE * np.nan}, "NaN or infinity"),
    "zeros": ({"data": NOISE * 0}, "nothing was measured"),
    "mask of the rows": ({"mask": np.ones(ROWS, bool)}, r"mask does not fit the columns.*found \(24,\)"),
    "empty mask": ({"mask": np.zeros(COLUMNS, bool)}, "nothing was measured"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(tmp_path: Path, case: str) -> None:
    changes, words = BAD[case]
    with pytest.raises(InputError, match=rf"bad\.h5: .*{words}") as found:
        read(fastmri(tmp_path / "bad.h5", **changes))
    assert found.value.exit_code == 3


def test_an_empty_slice_is_no_reason_to_refuse(tmp_path: Path) -> None:
    data = NOISE.copy()
    data[0] = 0
    kspace = the(read(fastmri(tmp_path / "a.h5", data)))
    assert kspace.sampling.all()


def test_a_volume_is_not_taken_for_it(tmp_path: Path) -> None:
    import file_examples as examples

    assert isinstance(read(write(tmp_path / "v.h5", examples.volume())), Volume)
