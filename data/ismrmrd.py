"""ISMRMRD (MRD 1) raw data in HDF5: Cartesian slices and volumes, read in bulk.

One dataset holds all acquisitions as compound values: a header of fixed size and two vectors of variable length. All
are read in one call; nothing loops over acquisitions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data import hdf5
from medrecon.data.formats import reader
from medrecon.data.ismrmrd_header import MRHeader, parse_header
from medrecon.data.kspace import KSpace
from medrecon.data.kspace_checks import check_kspace
from medrecon.data.limits import Limits
from medrecon.data.mr_lines import Encoding, Lines, Remarks, kspace_of_lines, measured_block, noise_covariance_of
from medrecon.data.reading import require_finite
from medrecon.errors import CorruptInput, InputError

if TYPE_CHECKING:
    import h5py

_KIND = "ISMRMRD"
# Bits of the flags (ismrmrd.h numbers them from 1)
_NOISE, _CALIBRATION, _BOTH, _REVERSE = 19, 20, 21, 22
_NO_IMAGE = (_NOISE, 23, 24, 26, 27, 28, 29, 30, 31)  # navigators, phase correction, dummies, feedback, coil correction
_IMAGES = ("contrast", "phase", "repetition", "set")  # counters that tell images apart
_WITHIN = ("embedded", "interleaved")  # calibration lines of the same image


def _group_of(found: dict[str, object]) -> str | None:
    groups = found["groups"]
    assert isinstance(groups, dict)
    return next((name for name, inside in groups.items() if {"xml", "data"} <= set(inside)), None)


def sniff_ismrmrd(path: Path, head: bytes) -> bool:
    """An HDF5 file with a group that holds ``xml`` and ``data``."""
    found = hdf5.peek(path, head)
    return found is not None and _group_of(found) is not None


@reader("ismrmrd", suffixes=(".h5", ".mrd"), sniff=sniff_ismrmrd)
def read_ismrmrd(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """The first image of a file: its samples, noise, calibration and place in the patient.

    Noise scans give the noise covariance; lines that were read backwards are turned; averages are averaged; readout
    oversampling is left to the grid, which crops it. Of several contrasts, phases, repetitions or sets the first is
    read, and ``meta["warnings"]`` says so.

    Raises
    ------
    InputError
        No header, no imaging lines, a trajectory that is not Cartesian, lines that do not fit the header.
    CorruptInput, UnsafeInput, TooLarge
        As for every HDF5 file.
    """
    where, limits = Path(path).name, limits or Limits()
    with hdf5.open_input(path, _KIND) as file:
        group = next(n for n in file if {"xml", "data"} <= set(file[n]))
        text = hdf5.read_text(file, f"{group}/xml", where=where)
        heads, samples = acquisitions(file, f"{group}/data", where, limits)
    header = parse_header(text or "", where)
    if header.trajectory != "cartesian":
        raise InputError(
            "the trajectory is not Cartesian", where=where, found=header.trajectory, expected="cartesian",
            hint="Convert it to kspace.h5 with its trajectory (docs/kspace-h5.md).",
        )  # fmt: skip
    remarks = Remarks()
    flags = heads["flags"]
    image = ~_any(flags, _NO_IMAGE)
    image &= _first_image(heads["idx"], image, remarks)
    calibration = image & _any(flags, (_CALIBRATION,)) & ~_any(flags, (_BOTH,))
    separate = calibration if header.calibration_mode not in _WITHIN else np.zeros_like(calibration)
    imaging = image & ~separate
    if not imaging.any():
        raise InputError("the file holds no imaging lines", where=where, found=f"{len(heads)} acquisitions")
    encoding = _encoding(header)
    lines = _lines(heads, samples, imaging, header, where)
    kspace = kspace_of_lines(lines, encoding, where, remarks, limits, name="ismrmrd")
    centre = None
    if separate.any():
        lines = _lines(heads, samples, separate, header, where)
        centre = measured_block(kspace_of_lines(lines, encoding, where, Remarks(), limits, name="ismrmrd"))
    covariance = _noise(heads, samples, _any(flags, (_NOISE,)), imaging, remarks, where)
    made = replace(
        kspace, calibration=None if centre is None or not centre.size else centre, noise_covariance=covariance
    )
    check_kspace(made, where)
    return made


def _any(flags: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    wanted = np.uint64(sum(1 << (bit - 1) for bit in bits))
    return (flags & wanted) != 0


def acquisitions(file: h5py.File, name: str, where: str, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Headers, and the samples of each acquisition as one array of complex64 ``(coils * samples)``."""
    dataset = hdf5.safe_dataset(file, name, where)
    if dataset.dtype.names is None or not {"head", "data"} <= set(dataset.dtype.names) or dataset.ndim != 1:
        raise InputError("the acquisitions are not laid out as ISMRMRD", where=where, found=str(dataset.dtype)[:80])
    if not dataset.size:
        raise InputError("the file holds no acquisitions", where=where)
    limits.check((file.id.get_filesize(),), 1, where=where)
    whole = dataset[()]  # by field it would take three times as long: HDF5 fetches all samples for each
    heads, samples = whole["head"], whole["data"]
    sizes = heads["number_of_samples"].astype(np.int64) * heads["active_channels"]
    limits.check((int(sizes.sum()),), 4 * 8, where=where)  # as read, as sorted, and what is made of them
    stored = np.fromiter((part.size for part in samples), np.int64, len(samples))
    wrong = np.flatnonzero(stored != 2 * sizes)
    if wrong.size:
        raise CorruptInput(
            "acquisitions with another number of samples than their headers say", where=where,
            found=f"{wrong.size} of {len(samples)}, the first is number {int(wrong[0])}",
        )  # fmt: skip
    return heads, samples


def _first_image(index: np.ndarray, image: np.ndarray, remarks: Remarks) -> np.ndarray:
    """Lines of the first contrast, phase, repetition and set."""
    chosen = image.copy()
    for name in _IMAGES:
        numbers = np.unique(index[name][chosen])
        if len(numbers) > 1:
            remarks.warnings.append(f"the file holds {len(numbers)} {name}s: number {int(numbers[0])} is read")
            chosen &= index[name] == numbers[0]
    return chosen


def _encoding(header: MRHeader) -> Encoding:
    centres = [header.limits.get(f"kspace_encoding_step_{n}", (0, -1, 0))[1] for n in (1, 2)]
    known = [None if centre < 0 else centre for centre in centres]
    return Encoding(header.matrix, header.field_of_view, header.recon_field_of_view, (known[0], known[1]))


def _lines(heads: np.ndarray, samples: np.ndarray, chosen: np.ndarray, header: MRHeader, where: str) -> Lines:
    """The chosen acquisitions as one array; those that were read backwards turned, what shall be discarded left out."""
    part = heads[chosen]
    shapes = np.unique(
        np.stack([part[name] for name in ("active_channels", "number_of_samples", "discard_pre", "discard_post")]),
        axis=1,
    )
    if shapes.shape[1] > 1:
        raise InputError(
            "imaging lines of different lengths or coils", where=where,
            found=f"coils {np.unique(shapes[0]).tolist()}, samples {np.unique(shapes[1]).tolist()}",
        )  # fmt: skip
    coils, count, before, after = (int(n) for n in shapes[:, 0])
    data = np.concatenate(list(samples[chosen])).astype(np.float32, copy=False).view(np.complex64)
    data = data.reshape(len(part), coils, count)
    centre = part["center_sample"].astype(np.int64)
    backwards = _any(part["flags"], (_REVERSE,))
    if backwards.any():
        data[backwards] = data[backwards, :, ::-1]
        centre[backwards] = count - centre[backwards]
    data, centre = data[:, :, before : count - after], centre - before * (centre > 0)
    require_finite(data, where=where, what="k-space")
    index = part["idx"]
    directions = np.stack([part["read_dir"], part["phase_dir"], part["slice_dir"]], axis=1)
    if "siemens" in header.vendor:  # whose directions hold for a forward transform to the image
        directions = directions * np.array([[-1], [-1], [-1 if header.matrix[2] > 1 else 1]], dtype=np.float32)
    return Lines(
        data, index["kspace_encode_step_1"], index["kspace_encode_step_2"], index["slice"], centre, part["position"],
        directions,
    )  # fmt: skip


def _noise(
    heads: np.ndarray, samples: np.ndarray, noise: np.ndarray, imaging: np.ndarray, remarks: Remarks, where: str
) -> np.ndarray | None:
    """Covariance from the noise scan, for the dwell time of the image; None without one."""
    coils = int(heads["active_channels"][imaging][0])
    noise = noise & (heads["active_channels"] == coils)
    if not noise.any():
        return None
    parts = [part.view(np.complex64).reshape(coils, -1) for part in samples[noise]]
    dwell, other = (float(np.median(heads["sample_time_us"][which])) for which in (imaging, noise))
    ratio = other / dwell if dwell > 0 and other > 0 else 1.0
    return noise_covariance_of(np.concatenate(parts, axis=1), ratio, remarks, where)
