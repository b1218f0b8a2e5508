"""ISMRMRD: files of the Debian tool and files by the published layout, bit for bit and in their place."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import h5py
import numpy as np
import pytest
import torch

from helpers import mr_files as files
from medrecon.data import KSpace, read, sniff
from medrecon.data.limits import Limits
from medrecon.errors import CorruptInput, InputError, TooLarge
from medrecon.physics.mri.fourier import centred_ifft

READ, PHASE, SLICES, COILS = 12, 8, 3, 2
FOV = (96.0, 40.0, 6.0)  # encoded, read oversampled twice
XML = files.header_xml((READ, PHASE, 1), FOV, (READ // 2, PHASE, 1), (48.0, 40.0, 6.0))
WHERE = np.array([12.5, -30.25, 47.0])


def slices_file(path: Path, xml: str = XML, **changes: object) -> tuple[Path, np.ndarray]:
    """Fully sampled slices 7.5 mm apart, acquired in the order 2, 0, 1, lines in a shuffled order."""
    data = files.complex_noise(SLICES, PHASE, COILS, READ)
    directions = files.oblique_directions()
    numbers = np.random.default_rng(1).permutation(SLICES * PHASE)
    z, line = numbers // PHASE, numbers % PHASE
    fields: dict[str, object] = {
        "kspace_encode_step_1": line,
        "slice": (z + 1) % SLICES,
        "position": WHERE + 7.5 * z[:, None] * directions[2],
        "read_dir": directions[0],
        "phase_dir": directions[1],
        "slice_dir": directions[2],
    }
    files.write_ismrmrd(path, xml, files.acquisitions(data[z, line], **(fields | changes)))
    return path, data.transpose(2, 0, 3, 1)  # coils, z, read, phase


def the(content: object) -> KSpace:
    assert isinstance(content, KSpace)
    return content


# --- the tool of the format's own package --------------------------------------------------------------------------
@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = "ismrmrd_generate_cartesian_shepp_logan"
    if which(program) is None:
        pytest.skip(f"program {program} is not installed")
    path = tmp_path_factory.mktemp("tool") / "shepp.h5"
    command = [program, "-m", "64", "-c", "4", "-O", "2", "-a", "4", "-w", "16", "-C", "-n", "0.02", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_a_file_of_the_tool_bit_for_bit(generated: Path) -> None:
    """Every line of the first repetition, found by a loop over the file as the format's documentation has it."""
    assert sniff(generated) == "ismrmrd"
    kspace = the(read(generated))
    assert kspace.data.shape == (4, 1, 128, 64)
    assert kspace.volume_geometry.shape == (1, 64, 64)
    np.testing.assert_allclose(kspace.volume_geometry.spacing, (6, 300 / 64, 300 / 64))
    seen = set()
    with h5py.File(generated) as file:
        for acquisition in file["dataset/data"][()]:
            head = acquisition["head"]
            if int(head["flags"]) & files.NOISE or head["idx"]["repetition"]:
                continue
            line = int(head["idx"]["kspace_encode_step_1"])
            seen.add(line)
            np.testing.assert_array_equal(
                kspace.data[:, 0, :, line], acquisition["data"].view(np.complex64).reshape(4, 128)
            )
    assert set(np.flatnonzero(kspace.sampling[0, 0])) == seen and len(seen) == 28
    assert any("4 repetitions" in text for text in kspace.meta["warnings"])
    assert any("no direction cosines" in text for text in kspace.meta["warnings"])


def test_noise_scan_of_the_tool(generated: Path) -> None:
    kspace = the(read(generated))
    level = np.sqrt(np.diagonal(kspace.noise_covariance).real)
    np.testing.assert_allclose(level, 0.02, rtol=0.25)


def test_images_of_the_tool(generated: Path, tmp_path: Path) -> None:
    """Fully sampled: coil images are those that the tool computed, before it added noise."""
    path = tmp_path / "full.h5"
    command = ["ismrmrd_generate_cartesian_shepp_logan", "-m", "64", "-c", "4", "-n", "0.002", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    kspace = the(read(path))
    images = centred_ifft(torch.from_numpy(kspace.data), (2, 3))[:, 0].numpy()
    with h5py.File(path) as file:
        stored = file["dataset/coil_images"][0]
    truth = (stored["real"] + 1j * stored["imag"]).swapaxes(1, 2)
    noise = 0.002 * np.sqrt(2 * truth.size)
    assert np.linalg.norm(images - truth) == pytest.approx(noise, rel=0.05)
    assert np.linalg.norm(truth) > 40 * noise


# --- files by the published layout ---------------------------------------------------------------------------------
def test_slices_in_any_order_bit_for_bit_and_in_their_place(tmp_path: Path) -> None:
    path, data = slices_file(tmp_path / "a.h5")
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.data, data)
    assert kspace.encoded == (1, 2) and kspace.readout_axis == 1 and kspace.meta["warnings"] == []
    assert kspace.volume_geometry.shape == (SLICES, READ // 2, PHASE)
    np.testing.assert_allclose(kspace.field_of_view, (22.5, 96.0, 40.0), rtol=1e-5)
    expected = files.expected_affine(files.oblique_directions(), (8.0, 5.0, 7.5), (READ // 2, PHASE), WHERE)
    np.testing.assert_allclose(kspace.volume_geometry.affine, expected, atol=1e-4)


def test_siemens_directions_hold_for_the_other_transform(tmp_path: Path) -> None:
    xml = files.header_xml((READ, PHASE, 1), FOV, vendor="SIEMENS")
    kspace = the(read(slices_file(tmp_path / "a.h5", xml)[0]))
    directions = files.oblique_directions() * [[-1], [-1], [1]]
    expected = files.expected_affine(directions, (8.0, 5.0, 7.5), (READ, PHASE), WHERE)
    np.testing.assert_allclose(kspace.volume_geometry.affine, expected, atol=1e-4)


def test_no_patient_data_come_along(tmp_path: Path) -> None:
    kspace = the(read(slices_file(tmp_path / "a.h5")[0]))
    assert "Canary" not in str(kspace.meta) + str(kspace.provenance)


def test_a_3d_scan(tmp_path: Path) -> None:
    """Partial Fourier along the first, an odd size and undersampling along the second phase encoding."""
    phase, partitions = 8, 5
    data = files.complex_noise(partitions, phase, COILS, READ)
    chosen = [(k, line) for k in range(partitions) for line in range(3, phase) if (k + line) % 2 or k == 2]
    second, first = np.array(chosen).T
    directions = files.oblique_directions()
    xml = files.header_xml((READ, phase, partitions), (96.0, 40.0, 20.0), (READ // 2, phase, 3), (48.0, 40.0, 12.0))
    path = files.write_ismrmrd(
        tmp_path / "a.h5", xml,
        files.acquisitions(data[second, first], kspace_encode_step_1=first, kspace_encode_step_2=second, position=WHERE,
                           read_dir=directions[0], phase_dir=directions[1], slice_dir=directions[2]),
    )  # fmt: skip
    kspace = the(read(path))
    assert kspace.encoded == (0, 1, 2)
    mask = np.zeros((partitions, 1, phase), dtype=bool)
    mask[second, 0, first] = True
    np.testing.assert_array_equal(kspace.sampling, mask)
    np.testing.assert_array_equal(kspace.data, data.transpose(2, 0, 3, 1) * mask)
    middle = WHERE - 4.0 * directions[2]  # slice 0 of 3 lies one below the centre of the slab
    expected = files.expected_affine(directions, (8.0, 5.0, 4.0), (READ // 2, phase), middle)
    np.testing.assert_allclose(kspace.volume_geometry.affine, expected, atol=1e-4)


def test_repeated_lines_are_averaged_and_counted(tmp_path: Path) -> None:
    data = files.complex_noise(PHASE + 2, 1, READ)
    line = np.r_[np.arange(PHASE), 4, 4]
    average = np.r_[np.zeros(PHASE), 1, 2]
    path = files.write_ismrmrd(
        tmp_path / "a.h5", XML, files.acquisitions(data, kspace_encode_step_1=line, average=average)
    )
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.averages[0, 0], np.where(np.arange(PHASE) == 4, 3, 1))
    np.testing.assert_allclose(
        kspace.data[0, 0, :, 4], data[[4, PHASE, PHASE + 1], 0].mean(axis=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(kspace.data[0, 0, :, 5], data[5, 0])


def test_reversed_lines_are_turned_and_navigators_left_out(tmp_path: Path) -> None:
    data = files.complex_noise(PHASE, 1, READ)
    flags = np.where(np.arange(PHASE) % 2, files.REVERSE, 0)
    stored = data.copy()
    stored[1::2] = stored[1::2, :, ::-1]
    navigators = files.acquisitions(files.complex_noise(3, 1, READ, seed=5), flags=files.NAVIGATOR)
    path = files.write_ismrmrd(
        tmp_path / "a.h5",
        XML,
        navigators,
        files.acquisitions(stored, kspace_encode_step_1=np.arange(PHASE), flags=flags),
    )
    np.testing.assert_array_equal(the(read(path)).data[0, 0].T, data[:, 0])


def test_an_asymmetric_echo_and_discarded_samples(tmp_path: Path) -> None:
    """Nine samples of which one is discarded at either end: the echo, sample 3, goes to the centre."""
    data = files.complex_noise(PHASE, 1, 9)
    path = files.write_ismrmrd(
        tmp_path / "a.h5", XML,
        files.acquisitions(data, kspace_encode_step_1=np.arange(PHASE), discard_pre=1, discard_post=1, center_sample=3),
    )  # fmt: skip
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.data[0, 0, READ // 2 - 2 : READ // 2 + 5].T, data[:, 0, 1:8])
    assert kspace.sampling[0, :, 0].sum() == 7 and kspace.sampling[0, READ // 2 - 2, 0]


def test_partial_fourier_by_the_encoding_limits(tmp_path: Path) -> None:
    """Lines 0 to 5 with the centre at 2 of a matrix of 8: the first two lines were not measured."""
    data = files.complex_noise(6, 1, READ)
    xml = files.header_xml((READ, PHASE, 1), FOV, limits=(0, 2, 5))
    path = files.write_ismrmrd(tmp_path / "a.h5", xml, files.acquisitions(data, kspace_encode_step_1=np.arange(6)))
    kspace = the(read(path))
    np.testing.assert_array_equal(kspace.sampling[0, 0], [0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(kspace.data[0, 0, :, 2:].T, data[:, 0])


def test_separate_calibration_and_correlated_noise(tmp_path: Path) -> None:
    data, centre = files.complex_noise(4, COILS, READ), files.complex_noise(4, COILS, READ, seed=3)
    factor = np.array([[2.0, 0.0], [0.6 - 0.4j, 1.0]])
    noise = np.einsum("ij,njs->nis", factor, files.complex_noise(1, COILS, 20000, seed=4))
    more = "<parallelImaging><calibrationMode>separate</calibrationMode></parallelImaging>"
    xml = files.header_xml((READ, PHASE, 1), FOV, more=more)
    path = files.write_ismrmrd(
        tmp_path / "a.h5", xml, files.acquisitions(noise, flags=files.NOISE, sample_time_us=10.0),
        files.acquisitions(centre, kspace_encode_step_1=np.arange(2, 6), flags=files.CALIBRATION),
        files.acquisitions(data, kspace_encode_step_1=np.arange(0, 8, 2)),
    )  # fmt: skip
    kspace = the(read(path))
    np.testing.assert_array_equal(np.flatnonzero(kspace.sampling[0, 0]), [0, 2, 4, 6])
    np.testing.assert_array_equal(kspace.calibration[:, 0], centre.transpose(1, 2, 0))
    # Twice the dwell time of the image: half its variance
    np.testing.assert_allclose(kspace.noise_covariance, 2 * factor @ factor.conj().T, rtol=0.05, atol=0.05)


# --- what is refused, and what is said -----------------------------------------------------------------------------
def test_slices_without_positions(tmp_path: Path) -> None:
    kspace = the(read(slices_file(tmp_path / "a.h5", position=0.0)[0]))
    assert any("without positions" in text for text in kspace.meta["warnings"])
    assert kspace.volume_geometry.spacing[0] == pytest.approx(6.0)


def test_directions_that_are_not_orthogonal(tmp_path: Path) -> None:
    kspace = the(read(slices_file(tmp_path / "a.h5", phase_dir=files.oblique_directions()[0])[0]))
    assert any("not orthogonal" in text for text in kspace.meta["warnings"])


def good(**changes: object) -> tuple[np.ndarray, list[np.ndarray]]:
    return files.acquisitions(
        files.complex_noise(PHASE, 1, READ), **({"kspace_encode_step_1": np.arange(PHASE)} | changes)
    )


BAD = {
    "no XML": ("no header", [good()], "is not XML"),
    "other XML": ("<a/>", [good()], "has no encoding"),
    "entities": ('<!DOCTYPE a [<!ENTITY b "c">]><a/>', [good()], "declares entities"),
    "spiral": (XML.replace(">cartesian<", ">spiral<"), [good()], "not Cartesian; found spiral"),
    "no field of view": (XML.replace("<x>96.0</x>", "<x>0</x>"), [good()], "not positive"),
    "no matrix": (XML.replace("matrixSize", "matrix"), [good()], "lacks encodedSpace/matrixSize"),
    "noise alone": (XML, [good(flags=files.NOISE)], "no imaging lines"),
    "line beyond": (XML, [good(kspace_encode_step_1=np.arange(PHASE) + 1)], "outside of the matrix.*found 1 to 8"),
    "too long": (XML, [files.acquisitions(files.complex_noise(2, 1, READ + 2))], "do not fit the encoded matrix"),
    "coils differ": (XML, [good(), files.acquisitions(files.complex_noise(1, 2, READ))], "different lengths or coils"),
    "not a number": (XML, [files.acquisitions(np.full((1, 1, READ), np.nan + 0j))], "NaN or infinity"),
    "zeros": (XML, [files.acquisitions(np.zeros((PHASE, 1, READ), complex))], "zeros alone"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(tmp_path: Path, case: str) -> None:
    xml, parts, words = BAD[case]
    path = files.write_ismrmrd(tmp_path / "bad.h5", xml, *parts)
    with pytest.raises(InputError, match=rf"bad\.h5: .*{words}") as found:
        read(path)
    assert found.value.exit_code == 3


def test_headers_that_lie_about_the_samples(tmp_path: Path) -> None:
    heads, samples = good()
    heads["number_of_samples"][3] = READ - 1
    with pytest.raises(CorruptInput, match="the first is number 3"):
        read(files.write_ismrmrd(tmp_path / "bad.h5", XML, (heads, samples)))


def test_size_is_checked_before_memory_is_taken(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        read(slices_file(tmp_path / "a.h5")[0], limits=Limits(1000))


def test_a_truncated_file(tmp_path: Path) -> None:
    path, _ = slices_file(tmp_path / "a.h5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.h5"):
        read(path)
