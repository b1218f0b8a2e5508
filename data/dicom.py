"""A folder of DICOM slices as one volume: sorted by geometry, checked for gaps, duplicates and mixed series.

Names of files, instance numbers and slice locations say nothing reliable about the order of slices; position and
orientation in the patient's frame do. Messages name files and series numbers, never a person or a date.

Reference: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.3 (pixels), C.11.1 (modality LUT).
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.dicom_map import PARAMETRIC_MAP, read_map
from medrecon.data.dicom_media import directory_in, listed_images
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
_NEEDED = (
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_SAID = {
    "along_row": "ImageOrientationPatient",
    "along_column": "ImageOrientationPatient",
    "spacing": "PixelSpacing",
    "shape": "Rows or Columns",
}
# Only these words of a file are ever repeated to the user.
_MODALITIES = {"CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "SEG", "SR", "RTSTRUCT", "RTDOSE", "RTPLAN", "OT"}
_QUANTITY = {"CT": "HU", "MR": "a.u."}
_MOST_FILES = 20000
_AIR = -1000.0


@dataclass(frozen=True)
class _Slice:
    """What the header of one file says about its place; plain values, nothing about the patient."""

    file: Path
    series: str
    series_number: str
    modality: str
    shape: tuple[int, int]
    position: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    spacing: tuple[float, float]  # between rows, between columns
    thickness: float

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.along_row, self.along_column)


def sniff_dicom(path: Path, head: bytes) -> bool:
    """A file with the DICOM prefix, a folder in which at least one file has it, or a medium with a DICOMDIR."""
    if path.is_dir():
        return bool(_dicom_files(path)) or directory_in(path) is not None
    return head[128:132] == b"DICM"


@reader("dicom", suffixes=(".dcm",), sniff=sniff_dicom)
def read_dicom(path: str | Path, *, limits: Limits | None = None) -> Volume:
    """One series of CT or MR slices, from a folder (or a file in it) that holds nothing else; or one Parametric Map.

    Each slice is rescaled by its own slope and intercept. Pixels marked as padding outside the field of view of a CT
    become air, -1000 HU. A file stands for all slices of its folder, a DICOMDIR for the images that it lists.

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
    UnsafeInput
        A DICOMDIR that names files outside its folder.
    TooLarge
        More than the limits allow.
    """
    path, limits = Path(path), limits or Limits()
    with reading(path, _KIND):
        files, where = _files_of(path)
        if len(files) == 1 and _is_map(files[0]):
            with strictly(files[0]):
                return read_map(_load(files[0], pixels=True), files[0].name, limits)
        slices, geometry = _sorted_series(files, where)
        limits.check(geometry.shape, 4, where=where)
        array = np.empty(geometry.shape, np.float32)
        for k, one in enumerate(slices):
            array[k] = _pixels(one, limits)
    require_finite(array, where=where, what="voxels")
    modality = slices[0].modality
    meta = {"format": "dicom", "modality": modality, "slices": len(slices)}
    return Volume(array, geometry, _QUANTITY[modality], meta)


def series_headers(path: str | Path) -> list[Dataset]:
    """Headers, without pixels, of all slices of a series in the order of their positions. Raises as `read_dicom`."""
    path = Path(path)
    with reading(path, _KIND):
        if not path.exists():
            raise FileNotFoundError
        slices, _ = _sorted_series(*_files_of(path))
        headers = []
        for one in slices:
            with strictly(one.file):
                headers.append(_load(one.file, pixels=False))
    return headers


def _files_of(path: Path) -> tuple[list[Path], str]:
    """The files that ``path`` stands for, and the name for messages."""
    folder = path if path.is_dir() else path.parent
    files = [] if path.name.upper() == "DICOMDIR" else _dicom_files(folder)
    directory = path if path.name.upper() == "DICOMDIR" else directory_in(folder)
    if not files and directory is not None:
        with strictly(directory):
            files = listed_images(_load(directory, pixels=False), directory)
    if not files:
        raise InputError("the folder holds no DICOM images", where=folder.name)
    return files, folder.name


def _is_map(file: Path) -> bool:
    with strictly(file):
        return str(_load(file, pixels=False).get("SOPClassUID")) == PARAMETRIC_MAP


def _sorted_series(files: list[Path], where: str) -> tuple[list[_Slice], Geometry]:
    slices = [_header(file) for file in files]
    _check_one_series(slices, where)
    return _arranged(slices, where)


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


@contextmanager
def strictly(file: Path) -> Iterator[None]:
    """Make pydicom's warnings errors, but for formal faults of values, and keep it from logging.

    pydicom warns about elements that end too early, and goes on. Its messages quote values, names of patients included.
    """
    import pydicom

    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with reading(file, _KIND), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=r"(?s).*(Invalid value for VR|The value length|Invalid UID)")
            try:
                yield
            except (Warning, pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException) as error:
                raise CorruptInput("the DICOM file is damaged or cut short", where=file.name) from error
    finally:
        logger.disabled = before


def _load(file: Path, *, pixels: bool) -> Dataset:
    """A file's data set. Call within `strictly`."""
    import pydicom

    meta = pydicom.filereader.read_file_meta_info(file)
    if str(getattr(meta, "TransferSyntaxUID", "")) == _DEFLATED:
        # Its size cannot be known before it is unpacked.
        raise InputError("deflated DICOM is not read", where=file.name, hint="Unpack it with: dcmconv +te IN OUT")
    return pydicom.dcmread(file, stop_before_pixels=not pixels)


def _header(file: Path) -> _Slice:
    with strictly(file):
        header = _load(file, pixels=False)
        frames = int(header.get("NumberOfFrames") or 1)
        if frames > 1:
            raise InputError(
                "several slices in one DICOM file are not read yet",
                where=file.name,
                found=f"{frames} frames",
                hint="Convert it to one file per slice, or to NIfTI.",
            )
        missing = [name for name in _NEEDED if header.get(name) in (None, "")]
        if missing:
            raise InputError(
                "the image does not say where it lies",
                where=file.name,
                found=f"without {', '.join(missing)}",
                hint="Remove reports, scouts and other objects from the folder.",
            )
        along_row, along_column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        one = _Slice(
            file=file,
            series=str(header.SeriesInstanceUID),
            series_number=number if (number := str(header.get("SeriesNumber"))).isdecimal() else "unknown",
            modality=str(header.Modality) if str(header.Modality) in _MODALITIES else "other",
            shape=(int(header.Rows), int(header.Columns)),
            position=np.array(header.ImagePositionPatient, dtype=float).reshape(3),
            along_row=along_row / np.linalg.norm(along_row),
            along_column=along_column / np.linalg.norm(along_column),
            spacing=(float(header.PixelSpacing[0]), float(header.PixelSpacing[1])),
            thickness=float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0),
        )
        numbers = np.concatenate([one.position, along_row, along_column, one.spacing, [one.thickness]])
        lengths = [along_row @ along_row, along_column @ along_column, along_row @ along_column]
        if (
            not np.isfinite(numbers).all()
            or not np.allclose(lengths, (1, 1, 0), atol=1e-3)
            or min(*one.spacing, *one.shape) <= 0
        ):
            raise InputError("position, orientation or pixel spacing is impossible", where=file.name)
    return one


def _check_one_series(slices: list[_Slice], where: str) -> None:
    counts = Counter(one.series for one in slices)
    if len(counts) > 1:
        number = {one.series: one.series_number for one in slices}
        listed = [f"number {number[uid]} with {count} images" for uid, count in counts.most_common(8)]
        raise InputError(
            f"{len(counts)} series in one folder",
            where=where,
            found="series " + ", ".join(listed),
            expected="one series",
            hint="Put each series into its own folder.",
        )
    modalities = sorted({one.modality for one in slices})
    if len(modalities) > 1 or modalities[0] not in _QUANTITY:
        raise InputError("this modality is not read", where=where, found=", ".join(modalities), expected="CT or MR")


def _arranged(slices: list[_Slice], where: str) -> tuple[list[_Slice], Geometry]:
    """Slices in the order of their positions along the normal, and the grid. Raises InputError; see `read_dicom`."""
    first = slices[0]
    for name in ("along_row", "along_column", "spacing", "shape"):
        reference = np.asarray(getattr(first, name))
        for one in slices:
            value = np.asarray(getattr(one, name))
            if not np.allclose(value, reference, rtol=1e-5, atol=1e-4):
                raise InputError(
                    f"the slices differ in {_SAID[name]}",
                    where=one.file.name,
                    found=value.tolist(),
                    expected=reference.tolist(),
                    hint="Keep only the slices of one acquisition in the folder.",
                )
    slices = sorted(slices, key=lambda one: float(one.position @ first.normal))
    step = _slice_step(slices, where)
    between_rows, between_columns = first.spacing
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * between_columns
    lps[:3, 1] = first.along_column * between_rows
    lps[:3, 2] = first.normal * step
    lps[:3, 3] = slices[0].position
    return slices, Geometry((len(slices), *first.shape), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)


def _slice_step(slices: list[_Slice], where: str) -> float:
    """Distance of neighbouring slices, mm, once it is known to be the same everywhere."""
    first, last = slices[0], slices[-1]
    if len(slices) == 1:
        if first.thickness <= 0:
            raise InputError("a single slice without thickness", where=first.file.name)
        return first.thickness
    heights = np.array([one.position @ first.normal for one in slices])
    steps = np.diff(heights)
    step = float(np.median(steps))
    close = np.flatnonzero(steps < max(_TOLERANCE * step, 1e-4))
    if close.size:
        k = int(close[0])
        raise InputError(
            "two slices lie at the same place",
            where=where,
            found=f"{slices[k].file.name} and {slices[k + 1].file.name}",
            hint="Keep one of them; a folder must hold one acquisition.",
        )
    uneven = np.flatnonzero(np.abs(steps - step) > _TOLERANCE * step)
    if uneven.size:
        k = int(uneven[0])
        whole = abs(steps[k] / step - round(steps[k] / step)) < 0.05
        raise InputError(
            "slices are missing" if whole and steps[k] > step else "the slices are not evenly spaced",
            where=where,
            found=f"{steps[k]:.3f} mm between {slices[k].file.name} and {slices[k + 1].file.name}",
            expected=f"{step:.3f} mm",
            hint="Find the missing slices, or resample the series first.",
        )
    travel = last.position - first.position
    along = float(heights[-1] - heights[0])
    tilt = np.degrees(np.arctan2(np.linalg.norm(travel - along * first.normal), along))
    if tilt > _TILT_DEGREES:
        raise InputError(
            "the gantry was tilted: the slices are not stacked along their normal",
            where=where,
            found=f"{tilt:.1f} degrees",
            expected=f"at most {_TILT_DEGREES}",
            hint="Correct the tilt first, for instance with dcm2niix, and read its NIfTI.",
        )
    return along / (len(slices) - 1)


def _pixels(one: _Slice, limits: Limits) -> np.ndarray:
    """One slice, rescaled, float32."""
    name = one.file.name
    with strictly(one.file):
        dataset = _load(one.file, pixels=True)
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise InputError("colour images are not read", where=name)
        limits.check((int(dataset.Rows), int(dataset.Columns)), 8, where=name)
        syntax = dataset.file_meta.TransferSyntaxUID
        try:
            stored = dataset.pixel_array
        except (RuntimeError, NotImplementedError) as error:
            if not syntax.is_compressed:
                raise
            raise InputError(
                "the pixels are compressed and cannot be decoded here",
                where=name,
                found=syntax.name,
                hint="Install a decoder (pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg), or decompress "
                "the series with dcmdjpeg or gdcmconv --raw.",
            ) from error
        if stored.shape != one.shape:
            raise CorruptInput("the pixels have the wrong shape", where=name, found=stored.shape, expected=one.shape)
        slope, intercept = (float(dataset.get(key, d)) for key, d in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
        if not (np.isfinite([slope, intercept]).all() and slope != 0):
            raise CorruptInput("the rescale of the pixels is impossible", where=name, found=f"{slope}, {intercept}")
        values = stored.astype(np.float64) * slope + intercept
        if one.modality == "CT" and dataset.get("PixelPaddingValue") is not None:
            ends = int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))
            values[(stored >= min(ends)) & (stored <= max(ends))] = _AIR
    return values.astype(np.float32)
