"""A volume as a classic DICOM series: CT Image for Hounsfield units, MR Image for arbitrary ones.

One file a slice, one rescale for the whole series, a derived image type, and UIDs that follow from the content: the
same volume gives the same bytes. Nothing of a patient is written unless a source series is named and its identifiers
are asked for; then patient, study and references to the source's images are copied.

Reference: DICOM PS3.3 A.3 (CT Image), A.4 (MR Image), C.7.6.2 (image plane), C.12.1 (SOP common), PS3.15 E (UIDs).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.atomic import final_name
from medrecon.data.dicom import series_headers
from medrecon.data.formats import About, writer
from medrecon.data.reading import require_finite
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError, UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

_FULL = 32767  # largest stored value of 16 signed bits
_FINEST = 1 / 64  # of a Hounsfield unit: below the noise of any scanner
_MODALITY = {"HU": "CT", "a.u.": "MR"}
_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip
_POSITIONS = {"HFP", "HFS", "HFDR", "HFDL", "FFP", "FFS", "FFDR", "FFDL"}
_UNPAIRED = {"ABDOMEN", "CHEST", "HEAD", "NECK", "PELVIS", "SPINE", "BRAIN", "HEART", "WHOLEBODY"}
_DISCLAIMER = "Research use only, not for diagnosis."


@writer("dicom", suffixes=("",), folder=True, takes_about=True)
def write_dicom(folder: Path, volume: Volume, about: About) -> None:
    """Write a series, one file a slice, or a float map (``volume.meta["map"]``) as one Parametric Map.

    Raises
    ------
    InputError
        NaN, a sheared affine, slices larger than DICOM allows, or a source that is no series of images.
    UsageError
        A quantity that no classic image holds, such as 1/mm.
    MissingDependency
        A map without highdicom.
    """
    where = final_name(folder)
    require_finite(volume.array, where=where, what="voxels")
    check_plane(volume.geometry, where)
    source = Source.of(about)
    if "map" in volume.meta:
        from medrecon.data.dicom_map import write_map

        write_map(folder / "map.dcm", volume, about, source)
        return
    if volume.quantity not in _MODALITY:
        raise UsageError(
            "DICOM images hold Hounsfield units (CT) or arbitrary ones (MR)", where=where, found=volume.quantity,
            hint="Write HU (--quantity HU), or another format.",
        )  # fmt: skip
    slope, intercept, stored = stored_values(volume)
    headers = slice_headers(volume, about, source)
    for k, (header, plane) in enumerate(zip(headers, stored, strict=True)):
        header.RescaleSlope, header.RescaleIntercept = _decimal(slope), _decimal(intercept)
        header.RescaleType = "HU" if volume.quantity == "HU" else "US"
        if volume.quantity != "HU":  # the rescale of classic MR is not standard: this is where readers look
            header.RealWorldValueMappingSequence = [_real_world(slope, intercept)]
        _window(header, volume)
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
        header.PixelData = plane.astype("<i2").tobytes()
        header.save_as(folder / f"image-{k + 1:05d}.dcm", enforce_file_format=True)


# --- what comes from a source ----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Source:
    """Headers of the series that a volume belongs to, in the order of its slices."""

    headers: Sequence[Dataset]
    keep: bool

    @classmethod
    def of(cls, about: About) -> Source | None:
        """The source that is named; None where none is."""
        if about.source is None:
            if about.keep_identifiers:
                raise UsageError(
                    "there are no identifiers to keep: no DICOM series belongs to this volume",
                    hint="Name one with --like, or leave --keep-identifiers out.",
                )
            return None
        return cls(series_headers(about.source), about.keep_identifiers)

    def nearest(self, position: np.ndarray) -> Dataset:
        """The image whose first pixel lies nearest to a position, LPS mm."""
        places = np.array([h.ImagePositionPatient for h in self.headers], dtype=float)
        return self.headers[int(np.argmin(np.linalg.norm(places - position, axis=1)))]


# --- values ----------------------------------------------------------------------------------------------------
def stored_values(volume: Volume) -> tuple[float, float, np.ndarray]:
    """``(slope, intercept, int16 (z, y, x))`` with ``value = slope * stored + intercept``, rounded to the nearest.

    Hounsfield units get a power of two as slope, so that whole numbers are exact; others 15 bits of their range.
    """
    array = volume.array.astype(np.float64)
    largest = float(np.abs(array).max()) or 1.0
    if volume.quantity == "HU":
        slope = max(2.0 ** math.ceil(math.log2(largest / _FULL)), _FINEST)
    else:
        slope = float(f"{largest / _FULL * 1.00001:.6e}")
    return slope, 0.0, np.rint(array / slope).astype(np.int16)


def _real_world(slope: float, intercept: float) -> Dataset:
    from pydicom import Dataset

    item, unit = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "1", "UCUM", "no units"
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = -_FULL, _FULL
    item["RealWorldValueFirstValueMapped"].VR = item["RealWorldValueLastValueMapped"].VR = "SS"
    item.RealWorldValueIntercept, item.RealWorldValueSlope = intercept, slope
    item.LUTExplanation, item.LUTLabel = "arbitrary units", "a.u."
    item.MeasurementUnitsCodeSequence = [unit]
    return item


def _window(header: Dataset, volume: Volume) -> None:
    """Soft tissue for CT, the whole range but its extremes for others."""
    if volume.quantity == "HU":
        header.WindowCenter, header.WindowWidth = "40", "400"
        return
    low, high = (float(v) for v in np.percentile(volume.array, (0.5, 99.5)))
    header.WindowCenter, header.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, 1e-6))
    header.VOILUTFunction = "LINEAR_EXACT"  # the plain one allows no width below 1


# --- headers ---------------------------------------------------------------------------------------------------
def check_plane(geometry: Geometry, where: str) -> None:
    """Raise InputError where rows, columns and slices are not at right angles, or too many."""
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4:
        raise InputError(
            "DICOM slices have axes at right angles; this volume is sheared", where=where, hint="Resample it first."
        )
    if max(geometry.shape) > 65535:
        raise InputError("DICOM holds at most 65535 rows, columns and slices", where=where, found=geometry.shape)


def slice_headers(volume: Volume, about: About, source: Source | None) -> list[Dataset]:
    """A complete header for every slice, but for what depends on the stored pixels."""
    base = uid("series", volume_digest(volume), about.group, about.description)
    return [_header(volume, about, source, base, k) for k in range(volume.geometry.shape[0])]


def uid(*parts: str) -> str:
    """A UID that follows from its parts: 2.25 and 128 bits of their SHA-256, as for a random UUID (PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big')}"


def volume_digest(volume: Volume) -> str:
    """SHA-256 of values, place and quantity."""
    sha = hashlib.sha256(np.ascontiguousarray(volume.array, dtype="<f4").tobytes())
    sha.update(np.ascontiguousarray(volume.geometry.affine).tobytes())
    sha.update(f"{volume.quantity} {volume.meta.get('map', '')}".encode())
    return sha.hexdigest()


def _header(volume: Volume, about: About, source: Source | None, series: str, k: int) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

    geometry = volume.geometry
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine
    position = (lps @ (0, 0, k, 1))[:3]
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage if volume.quantity == "HU" else MRImageStorage
    ds.SOPInstanceUID = uid(series, str(k))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _identify(ds, about, source, uid("group", about.group or series))
    ds.SeriesInstanceUID, ds.SeriesNumber = series, "1"
    ds.SeriesDescription = "medrecon: research use only"
    ds.Modality = _MODALITY.get(volume.quantity, "OT")
    ds.Manufacturer, ds.ManufacturerModelName = "medrecon", "medrecon"
    ds.SoftwareVersions = _version()
    ds.InstanceNumber, ds.AcquisitionNumber = str(k + 1), None
    ds.ImageType = ["DERIVED", "SECONDARY", _plane_name(geometry) if volume.quantity == "HU" else "OTHER"]
    ds.DerivationDescription = f"{about.description[:900]}. {_DISCLAIMER}"
    ds.ContentQualification = "RESEARCH"
    if about.uses_prior:
        ds.SyntheticData = "YES"  # PS3.3 C.12.1: some of the content was made rather than acquired
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.Rows, ds.Columns = geometry.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    distance, between_rows, between_columns = geometry.spacing
    ds.PixelSpacing = [_decimal(between_rows), _decimal(between_columns)]
    ds.SliceThickness = ds.SpacingBetweenSlices = _decimal(distance)
    ds.ImagePositionPatient = [_decimal(v) for v in position]
    axes = lps[:3, :2] / np.linalg.norm(lps[:3, :2], axis=0)
    ds.ImageOrientationPatient = [_decimal(v) for v in axes.T.ravel()]
    if volume.quantity == "HU":
        ds.KVP = None
        del ds.SpacingBetweenSlices  # the CT Image has no place for it
    else:
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "RM", "NONE", None, None
        ds.RepetitionTime = ds.EchoTime = ds.EchoTrainLength = None
    if source is not None and source.keep:
        ds.SourceImageSequence = [_reference(source.nearest(position))]
    return ds


def _identify(ds: Dataset, about: About, source: Source | None, group: str) -> None:
    """Patient, study and frame of reference: the source's where its identifiers are kept, otherwise nobody's."""
    first = source.headers[0] if source is not None else None
    if first is not None and str(first.get("PatientPosition")) in _POSITIONS:
        ds.PatientPosition = str(first.PatientPosition)
    else:
        ds.PatientPosition = ""
    if first is not None and str(first.get("BodyPartExamined")) in _UNPAIRED:
        ds.BodyPartExamined = str(first.BodyPartExamined)
    else:
        ds.ImageLaterality = "U"  # the standard wants a word on sides
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
                 "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"):  # fmt: skip
        setattr(ds, name, "")
    if source is not None and source.keep and first is not None:
        for name in _PATIENT_AND_STUDY:
            if name in first:
                ds[name] = first[name]
        return
    ds.PatientName, ds.PatientID = "ANONYMOUS^", "ANONYMOUS"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "nothing of the source is copied; UIDs are one-way hashes"
    ds.StudyInstanceUID = uid("study", group)
    known = first.get("FrameOfReferenceUID") if first is not None else None
    ds.FrameOfReferenceUID = uid("frame of reference", str(known) if known else group)


def _reference(image: Dataset) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _plane_name(geometry: Geometry) -> str:
    """The plane that a slice lies in, by the anatomical axis that its normal is nearest to."""
    return {"R": "SAGITTAL", "L": "SAGITTAL", "A": "CORONAL", "P": "CORONAL"}.get(geometry.orientation[2], "AXIAL")


def _version() -> str:
    from medrecon import __version__

    return __version__


def _decimal(value: float) -> str:
    """A number in the 16 characters of DICOM's decimal strings, as exact as they allow."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value) + 0.0)
