"""A folder of DICOM slices as one volume: sorted by geometry, checked for gaps, duplicates and mixed series.

Names of files, instance numbers and slice locations say nothing reliable about the order of slices; position and
orientation in the patient's frame do. Messages name files and series numbers, never a person or a date.

Reference: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.3 (pixels), C.11.1 (modality LUT).
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.reading import reading, require_finite
from medrecon.data.volume import Geometry, Volume

from medrecon.errors import CorruptInput, InputError

if TYPE_CHECKING:
    from pydicom import Dataset

_KIND = "DICOM"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_TOLERANCE = 0.01  # of the slice distance: larger deviations are gaps
_TILT_DEGREES = 0.5
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_QUANTITY = {"CT": "HU", "MR": "a.u."}
_MOST_FILES = 20000
AIR = -1000.0


def sniff_dicom(path: Path, head: bytes) -> bool:
    """A file with the DICOM prefix, or a folder in which at least one file has it."""
    if path.is_dir():
        return next(iter(_dicom_files(path)), None) is not None
    return head[128:132] == b"DICM"


@reader("dicom", suffixes=(".dcm",), sniff=sniff_dicom)
def read_dicom(path: str | Path, *, limits: Limits | None = None) -> Volume:
    """One series of CT or MR slices, from a folder (or a file in it) that holds nothing else.

    Each slice is rescaled by its own slope and intercept. Pixels marked as padding outside the field of view of a CT
    become air, -1000 HU. A file stands for all slices of its folder.

    Returns
    -------
    Volume
        float32 ``(z, y, x)``; x along the rows of an image, y down its columns, z along the normal of the slices.
        ``"HU"`` for CT, ``"a.u."`` for MR.

    Raises
    ------
    InputError
        More than one series, a missing or duplicate slice, differing orientations or sizes, a tilted gantry, an image
        without geometry, a modality other than CT and MR, compressed pixels for which no decoder is installed.
    CorruptInput
        A file that is truncated or damaged.
    TooLarge
        More than the limits allow.
    """
    path, limits = Path(path), limits or Limits()
    with reading(path, _KIND):
        folder = path if path.is_dir() else path.parent
        headers = {file: _header(file) for file in _dicom_files(folder)}
        where = folder.name
        if not headers:
            raise InputError("the folder holds no DICOM images", where=where)
        _check_one_series(headers, where)
        files, geometry = _arranged(headers, where)
        limits.check(geometry.shape, 4, where=where)
        array = np.empty(geometry.shape, np.float32)
        for k, file in enumerate(files):
            array[k] = _pixels(file, geometry.shape[1:], limits)
    modality = str(headers[files[0]].Modality)
    require_finite(array, where=where, what="voxels")
    return Volume(array, geometry, _QUANTITY[modality], {"format": "dicom", "modality": modality, "slices": len(files)})


def _dicom_files(folder: Path) -> list[Path]:
    """Files of a folder (not of its subfolders) with the DICOM prefix, or with the suffix .dcm whatever they hold."""
    found = []
    for seen, file in enumerate(sorted(folder.iterdir())):
        if seen > _MOST_FILES:
            raise InputError("too many files in the folder", where=folder.name, expected=f"at most {_MOST_FILES}")
        if not file.is_file() or file.name.upper() == "DICOMDIR" or file.name.startswith("."):
            continue
        with file.open("rb") as stream:
            prefix = stream.read(132)[128:]
        if prefix == b"DICM" or file.suffix.lower() == ".dcm":
            found.append(file)
    return found


def _load(file: Path, *, pixels: bool) -> Dataset:
    """A file's data set. Raises CorruptInput, also where pydicom only warns."""
    import pydicom

    with reading(file, _KIND), warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom warns about lengths that do not agree, and goes on
        warnings.filterwarnings("ignore", message=r"(?s).*(Invalid value for VR|value length .* exceeds the maximum)")
        try:
            meta = pydicom.filereader.read_file_meta_info(file)
            if str(getattr(meta, "TransferSyntaxUID", "")) == _DEFLATED:
                # Its size cannot be known before it is unpacked.
                raise InputError(
                    "deflated DICOM is not read", where=file.name, hint="Unpack it with: dcmconv +te IN OUT"
                )
            return pydicom.dcmread(file, stop_before_pixels=not pixels)
        except (Warning, pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException) as error:
            raise CorruptInput("the DICOM file is damaged or cut short", where=file.name) from error


def _header(file: Path) -> Dataset:
    header = _load(file, pixels=False)
    frames = header.get("NumberOfFrames", 1)
    if int(frames or 1) > 1:
        raise InputError(
            "several slices in one DICOM file are not read yet",
            where=file.name,
            found=f"{frames} frames",
            hint="Convert it to one file per slice, or to NIfTI.",
        )
    missing = [name for name in (*_GEOMETRY, "SeriesInstanceUID", "Modality") if header.get(name) in (None, "")]
    if missing:
        raise InputError(
            "the image does not say where it lies",
            where=file.name,
            found=f"without {', '.join(missing)}",
            hint="Remove reports, scouts and other objects from the folder.",
        )
    return header


def _check_one_series(headers: dict[Path, Dataset], where: str) -> None:
    counts = Counter(str(h.SeriesInstanceUID) for h in headers.values())
    if len(counts) > 1:
        listed = []
        for uid, count in counts.most_common():
            first = next(h for h in headers.values() if str(h.SeriesInstanceUID) == uid)
            listed.append(f"number {first.get('SeriesNumber', 'unknown')} with {count} images")
        raise InputError(
            f"{len(counts)} series in one folder",
            where=where,
            found="series " + ", ".join(listed[:8]),
            expected="one series",
            hint="Put each series into its own folder.",
        )
    modality = str(next(iter(headers.values())).Modality)
    if modality not in _QUANTITY:
        raise InputError("this modality is not read", where=where, found=modality, expected="CT or MR")


def _arranged(headers: dict[Path, Dataset], where: str) -> tuple[list[Path], Geometry]:
    """Files in the order of their positions along the normal, and the grid. Raises InputError; see `read_dicom`."""
    files = list(headers)
    first = headers[files[0]]
    for name in _GEOMETRY[1:]:
        reference = np.asarray(first[name].value, dtype=float)
        for file in files:
            value = np.asarray(headers[file][name].value, dtype=float)
            if value.shape != reference.shape or not np.allclose(value, reference, rtol=1e-5, atol=1e-4):
                raise InputError(
                    f"the slices differ in {name}",
                    where=file.name,
                    found=value.tolist(),
                    expected=reference.tolist(),
                    hint="Keep only the slices of one acquisition in the folder.",
                )
    along_row, along_column = np.asarray(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    cosines = np.array([along_row @ along_row, along_column @ along_column, along_row @ along_column])
    between_rows, between_columns = (float(s) for s in first.PixelSpacing)
    if not np.allclose(cosines, (1, 1, 0), atol=1e-3) or min(between_rows, between_columns) <= 0:
        raise InputError("orientation or pixel spacing is impossible", where=files[0].name)
    along_row /= np.linalg.norm(along_row)
    normal = np.cross(along_row, along_column / np.linalg.norm(along_column))
    positions = np.array([np.asarray(headers[file].ImagePositionPatient, dtype=float) for file in files])
    if positions.shape != (len(files), 3) or not np.isfinite(positions).all():
        raise InputError("positions of the slices are unusable", where=where)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    files, positions, heights = [files[n] for n in order], positions[order], heights[order]
    step = _slice_step(files, positions, heights, first, where)
    lps = np.eye(4)
    lps[:3, 0] = along_row * between_columns
    lps[:3, 1] = along_column / np.linalg.norm(along_column) * between_rows
    lps[:3, 2] = normal * step
    lps[:3, 3] = positions[0]
    shape = (len(files), int(first.Rows), int(first.Columns))
    return files, Geometry(shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)


def _slice_step(files: list[Path], positions: np.ndarray, heights: np.ndarray, first: Dataset, where: str) -> float:
    """Distance of neighbouring slices, mm, once it is known to be the same everywhere."""
    if len(files) == 1:
        thickness = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 0)
        if thickness <= 0:
            raise InputError("a single slice without thickness", where=files[0].name)
        return thickness
    steps = np.diff(heights)
    step = float(np.median(steps))
    close = np.flatnonzero(steps < max(_TOLERANCE * step, 1e-4))
    if close.size:
        k = int(close[0])
        raise InputError(
            "two slices lie at the same place",
            where=where,
            found=f"{files[k].name} and {files[k + 1].name}",
            hint="Keep one of them; a folder must hold one acquisition.",
        )
    uneven = np.flatnonzero(np.abs(steps - step) > _TOLERANCE * step)
    if uneven.size:
        k = int(uneven[0])
        missing = round(float(steps[k] / step)) - 1
        raise InputError(
            "slices are missing" if missing > 0 else "the slices are not evenly spaced",
            where=where,
            found=f"{steps[k]:.3f} mm between {files[k].name} and {files[k + 1].name}",
            expected=f"{step:.3f} mm",
            hint="Find the missing slices, or resample the series first.",
        )
    travel = positions[-1] - positions[0]
    along = float(heights[-1] - heights[0])
    tilt = np.degrees(np.arctan2(np.linalg.norm(travel - along * np.cross(*_axes(first))), along))
    if tilt > _TILT_DEGREES:
        raise InputError(
            "the gantry was tilted: the slices are not stacked along their normal",
            where=where,
            found=f"{tilt:.1f} degrees",
            expected=f"at most {_TILT_DEGREES}",
            hint="Correct the tilt first, for instance with dcm2niix, and read its NIfTI.",
        )
    return along / (len(files) - 1)


def _axes(header: Dataset) -> tuple[np.ndarray, np.ndarray]:
    along_row, along_column = np.asarray(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return along_row / np.linalg.norm(along_row), along_column / np.linalg.norm(along_column)


def _pixels(file: Path, shape: tuple[int, ...], limits: Limits) -> np.ndarray:
    """One slice, rescaled, float32."""
    dataset = _load(file, pixels=True)
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise InputError("colour images are not read", where=file.name)
    limits.check(shape, 8, where=file.name)
    syntax = dataset.file_meta.TransferSyntaxUID
    with reading(file, _KIND), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            stored = dataset.pixel_array
        except Warning as error:
            raise CorruptInput("the pixels are damaged or cut short", where=file.name) from error
        except (RuntimeError, NotImplementedError) as error:
            if not syntax.is_compressed:
                raise
            raise InputError(
                "the pixels are compressed and cannot be decoded here",
                where=file.name,
                found=syntax.name,
                hint="Install a decoder (pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg), or decompress "
                "the series with dcmdjpeg or gdcmconv --raw.",
            ) from error
        if stored.shape != shape:
            raise CorruptInput("the pixels have the wrong shape", where=file.name, found=stored.shape, expected=shape)
        slope, intercept = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
        values = stored.astype(np.float64) * slope + intercept
        if dataset.Modality == "CT" and "PixelPaddingValue" in dataset:
            limit = int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))
            low, high = sorted((int(dataset.PixelPaddingValue), limit))
            values[(stored >= low) & (stored <= high)] = AIR
    return values.astype(np.float32)
