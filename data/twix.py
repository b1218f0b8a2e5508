"""Siemens raw data (twix, ``.dat``), through the optional package twixtools."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.kspace import KSpace
from medrecon.data.kspace_checks import check_kspace
from medrecon.data.limits import Limits
from medrecon.data.mr_lines import Encoding, Lines, Remarks, kspace_of_lines, measured_block, noise_covariance_of
from medrecon.data.reading import reading, require_finite
from medrecon.errors import InputError, MissingDependency

_KIND = "Siemens raw"
_IMAGES = {"Eco": "echoes", "Phs": "phases", "Rep": "repetitions", "Set": "sets"}


class Block(Protocol):
    """What is used of a twixtools measurement block."""

    mdh: object
    data: np.ndarray
    is_flag_set: Callable[[str], bool]
    is_image_scan: Callable[[], bool]


def sniff_twix(path: Path, head: bytes) -> bool:
    """The table of measurements of VD and later, or the header of VB with its first buffer."""
    if len(head) < 32:
        return False
    first, count = struct.unpack("<II", head[:8])
    if first < 10000 and 1 <= count <= 64:  # VD: a number below 10000, how many, then their places
        offset, length = struct.unpack("<QQ", head[16:32])
        return path.suffix.lower() == ".dat" and offset > 0 and offset + length <= path.stat().st_size + 512
    return 32 < first < 1 << 24 and count < 64 and head[8:40].split(b"\0")[0] in (b"Config", b"Dicom", b"Meas")


@reader("siemens", suffixes=(".dat",), sniff=sniff_twix)
def read_twix(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """The last measurement of a file: Cartesian slices or a volume, with noise scan and calibration lines.

    Siemens' directions hold for a forward transform to the image. Here the transform is the inverse one, so that the
    directions of all encoded axes are turned round; no sample is changed.

    Raises
    ------
    InputError
        No imaging lines, a trajectory that is not Cartesian, lines that do not fit the protocol.
    MissingDependency
        twixtools is not installed.
    """
    path, limits = Path(path), limits or Limits()
    where = path.name
    try:
        import twixtools
    except ImportError as error:
        raise MissingDependency("twixtools", "siemens", "reading Siemens raw data") from error
    limits.check((path.stat().st_size,), 3, where=where)
    with reading(path, _KIND), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scans = twixtools.read_twix(str(path), parse_pmu=False, parse_geometry=False, verbose=False)
        if not scans:
            raise InputError("the file holds no measurement", where=where)
        return _kspace(scans, where, limits)


def _kspace(scans: Sequence[Mapping], where: str, limits: Limits) -> KSpace:
    protocol, remarks = scans[-1]["hdr"]["MeasYaps"], Remarks()
    space = protocol.get("sKSpace", {})
    if int(space.get("ucTrajectory", 1)) != 1:
        raise InputError("the trajectory is not Cartesian", where=where, found=f"kind {space.get('ucTrajectory')}")
    blocks: list[Block] = [b for b in scans[-1]["mdb"] if hasattr(b.mdh, "Counter")]
    image = [b for b in blocks if b.is_image_scan()]
    reference = [b for b in blocks if b.is_flag_set("PATREFSCAN") and not b.is_flag_set("PATREFANDIMASCAN")]
    image = [b for b in image if b not in reference] if reference else image
    for counter, words in _IMAGES.items():
        numbers = sorted({getattr(b.mdh.Counter, counter) for b in image})  # type: ignore[attr-defined]
        if len(numbers) > 1:
            remarks.warnings.append(f"the file holds {len(numbers)} {words}: number {numbers[0]} is read")
            image = [b for b in image if getattr(b.mdh.Counter, counter) == numbers[0]]  # type: ignore[attr-defined]
    if not image:
        raise InputError("the file holds no imaging lines", where=where, found=f"{len(blocks)} readouts")
    is_3d = int(space.get("ucDimension", 2)) == 4
    encoding = _encoding(scans[-1]["hdr"], image[0], is_3d=is_3d)
    made = kspace_of_lines(_lines(image, where, is_3d=is_3d), encoding, where, remarks, limits, name="siemens")
    if reference:
        lines = _lines(reference, where, is_3d=is_3d)
        centre = measured_block(kspace_of_lines(lines, encoding, where, Remarks(), limits, name="siemens"))
        made = replace(made, calibration=centre if centre.size else None)
    made = replace(made, noise_covariance=_noise(scans, made.coils, remarks, where))
    check_kspace(made, where)
    return made


def _encoding(header: Mapping, block: Block, *, is_3d: bool) -> Encoding:
    """Matrix and field of view, oversampling included; of slices the third entries are one and their thickness."""
    protocol = header["MeasYaps"]
    space, place = protocol["sKSpace"], protocol["sSliceArray"]["asSlice"][0]
    over = float(header.get("Dicom", {}).get("flReadoutOSFactor") or 2.0)
    phase_over = 1 + float(space.get("dPhaseOversamplingForDialog", 0.0))
    slice_over = 1 + float(space.get("dSliceOversamplingForDialog", 0.0))
    read = round(int(space["lBaseResolution"]) * over)
    lines = int(header.get("Meas", {}).get("iPEFTLength") or round(int(space["lPhaseEncodingLines"]) * phase_over))
    partitions = 1
    if is_3d:
        partitions = int(header.get("Meas", {}).get("i3DFTLength") or round(int(space["lPartitions"]) * slice_over))
    wanted = (float(place["dReadoutFOV"]), float(place["dPhaseFOV"]), float(place["dThickness"]))
    extent = (wanted[0] * over, wanted[1] * phase_over, wanted[2] * (slice_over if is_3d else 1))
    mdh = block.mdh
    centres = (int(mdh.CenterLin), int(mdh.CenterPar) if is_3d else None)  # type: ignore[attr-defined]
    return Encoding((read, lines, partitions), extent, wanted, centres)


def _lines(blocks: Sequence[Block], where: str, *, is_3d: bool) -> Lines:
    heads = [b.mdh for b in blocks]
    shapes = {b.data.shape for b in blocks}
    if len(shapes) > 1:
        raise InputError("imaging lines of different lengths or coils", where=where, found=sorted(shapes))
    data = np.stack([b.data for b in blocks]).astype(np.complex64, copy=False)
    require_finite(data, where=where, what="k-space")
    centre = np.array([h.CenterCol for h in heads], dtype=np.int64)  # type: ignore[attr-defined]
    backwards = np.array([b.is_flag_set("REFLECT") for b in blocks])
    data[backwards] = data[backwards, :, ::-1]
    centre[backwards] = data.shape[2] - centre[backwards]
    number = {c: np.array([getattr(h.Counter, c) for h in heads]) for c in ("Lin", "Par", "Sli")}  # type: ignore[attr-defined]
    position = np.array([[getattr(h.SliceData.SlicePos, axis) for axis in ("Sag", "Cor", "Tra")] for h in heads])  # type: ignore[attr-defined]
    directions = np.stack([_directions(h.SliceData.Quaternion, is_3d=is_3d) for h in heads[:1]])  # type: ignore[attr-defined]
    return Lines(data, number["Lin"], number["Par"], number["Sli"], centre, position, directions)


def _directions(quaternion: Sequence[float], *, is_3d: bool) -> np.ndarray:
    """Rows read, phase, slice in the patient's frame. The quaternion (w, x, y, z) turns (phase, read, slice) there."""
    w, x, y, z = (float(v) for v in quaternion)
    phase = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    read = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    normal = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    return np.array([read, phase, normal]) * np.array([[-1.0], [-1.0], [-1.0 if is_3d else 1.0]])


def _noise(scans: Sequence[Mapping], coils: int, remarks: Remarks, where: str) -> np.ndarray | None:
    """Covariance from the last noise scan of the same coils, for the dwell time of the image."""
    for scan in reversed(scans):
        found = [b for b in scan["mdb"] if b.is_flag_set("NOISEADJSCAN")]
        parts = [b.data for b in found if b.data.shape[0] == coils]
        if parts:
            ratio = _dwell(scan) / _dwell(scans[-1]) if _dwell(scan) and _dwell(scans[-1]) else 1.0
            return noise_covariance_of(np.concatenate(parts, axis=1), ratio, remarks, where)
    return None


def _dwell(scan: Mapping) -> float:
    times = scan["hdr"]["MeasYaps"].get("sRXSPEC", {}).get("alDwellTime", [0])
    return float(times[0] or 0) if isinstance(times, list) and times else 0.0
