"""Maps of real numbers, such as a spread, as DICOM Parametric Maps: float32, one file.

Reference: DICOM PS3.3 A.75 (Parametric Map), C.7.6.16 (functional groups of frames).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.limits import Limits
from medrecon.data.reading import require_finite
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import CorruptInput, InputError, MissingDependency

if TYPE_CHECKING:
    from pydicom import Dataset

    from medrecon.data.dicom_write import Source
    from medrecon.data.formats import About

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_UNITS = {"HU": ("[hnsf'U]", "Hounsfield unit"), "share": ("1", "no units"), "a.u.": ("1", "no units")}


def write_map(path: Path, volume: Volume, about: About, source: Source | None) -> None:
    """Write ``volume.meta["map"]`` (its name) as a Parametric Map. Raises MissingDependency without highdicom."""
    from medrecon.data.dicom_write import slice_headers, uid

    try:
        import highdicom as hd
        from pydicom.sr.coding import Code
    except ImportError as error:
        raise MissingDependency("highdicom", "dicom", "a map in DICOM") from error
    headers = slice_headers(volume, about, source)
    for header in headers:  # the constructor copies patient, study and frame of reference from them
        header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    name = str(volume.meta["map"])
    code, meaning = _UNITS.get(volume.quantity, ("1", "no units"))
    low, high = float(volume.array.min()), float(volume.array.max())
    mapping = hd.pm.RealWorldValueMapping(
        lut_label=name[:16],
        lut_explanation=name[:64],
        unit=Code(code, "UCUM", meaning),
        value_range=(low, max(high, low + 1e-6)),
        slope=1.0,
        intercept=0.0,
    )
    distance, rows, columns = volume.geometry.spacing
    first = headers[0]
    made = hd.pm.ParametricMap(
        source_images=headers,
        pixel_array=np.ascontiguousarray(volume.array, dtype=np.float32),
        series_instance_uid=uid("map", str(first.SeriesInstanceUID)),
        series_number=2,
        sop_instance_uid=uid("map", str(first.SOPInstanceUID)),
        instance_number=1,
        manufacturer="medrecon",
        manufacturer_model_name="medrecon",
        software_versions=str(first.SoftwareVersions),
        device_serial_number="0",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            hd.VOILUTTransformation(
                window_center=(low + high) / 2,
                window_width=max(high - low, 1e-6),
                voi_lut_function="LINEAR_EXACT",
            )
        ],
        content_label=name.upper().replace(" ", "_").replace("-", "_")[:16],
        content_description=name[:64],
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=(rows, columns), slice_thickness=distance, spacing_between_slices=distance
        ),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", first.ImageOrientationPatient),
        plane_positions=[hd.PlanePositionSequence("PATIENT", h.ImagePositionPatient) for h in headers],
    )
    _settle(made, headers, keep=source is not None and source.keep)
    made.save_as(path, enforce_file_format=True)


def _settle(made: Dataset, headers: list[Dataset], *, keep: bool) -> None:
    """What the constructor cannot know: no dates, no references to images that were never written, what was derived."""
    from medrecon.data.dicom_write import uid

    for name in ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "TimezoneOffsetFromUTC"):
        if name in made:
            delattr(made, name)
    made.ContentDate, made.ContentTime = "19000101", "000000"  # needed by the standard, and nobody's
    copied = ("DerivationDescription", "SyntheticData", "BodyPartExamined", "SeriesDescription")
    for name in copied if keep else (*copied, "PatientIdentityRemoved", "DeidentificationMethod"):
        if name in headers[0]:
            made[name] = headers[0][name]
    for item in made.get("ContributingEquipmentSequence") or []:
        item.pop("ContributionDateTime", None)
    organisation = uid("dimensions", str(made.SOPInstanceUID))
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    if "BodyPartExamined" not in made:
        made.Laterality = ""
    for name in ("ReferencedSeriesSequence", "SourceImageSequence", "SourceImageEvidenceSequence"):
        if name in made:
            delattr(made, name)
    for frame in made.PerFrameFunctionalGroupsSequence:
        if "DerivationImageSequence" in frame:
            del frame.DerivationImageSequence


def read_map(dataset: Dataset, where: str, limits: Limits) -> Volume:
    """A Parametric Map with one parallel, evenly spaced stack of frames, as `write_map` writes it.

    Raises InputError for anything else.
    """
    frames = int(dataset.NumberOfFrames)
    shape = (frames, int(dataset.Rows), int(dataset.Columns))
    limits.check(shape, 8, where=where)
    raw = dataset.get("FloatPixelData")
    if raw is None or len(raw) != 4 * int(np.prod(shape)):
        raise CorruptInput("the map does not hold one float32 for every voxel", where=where)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = [[frame, shared] for frame in dataset.PerFrameFunctionalGroupsSequence]
    positions = np.array([_of(g, "PlanePositionSequence").ImagePositionPatient for g in groups], dtype=float)
    axes = np.array(_of(groups[0], "PlaneOrientationSequence").ImageOrientationPatient, dtype=float).reshape(2, 3)
    measures = _of(groups[0], "PixelMeasuresSequence")
    if len(groups) != frames or positions.shape != (frames, 3):
        raise CorruptInput("the map does not say where its frames lie", where=where)
    normal = np.cross(axes[0], axes[1])
    order = np.argsort(positions @ normal)
    positions = positions[order]
    step = (positions[-1] - positions[0]) / (frames - 1) if frames > 1 else normal * float(measures.SliceThickness)
    if np.abs(positions - positions[0] - np.arange(frames)[:, None] * step).max() > 0.01 * np.linalg.norm(step):
        raise InputError("the frames of the map are not evenly spaced", where=where)
    lps = np.eye(4)
    lps[:3, 0] = axes[0] * float(measures.PixelSpacing[1])
    lps[:3, 1] = axes[1] * float(measures.PixelSpacing[0])
    lps[:3, 2], lps[:3, 3] = step, positions[0]
    array = np.frombuffer(raw, "<f4").reshape(shape)[order].astype(np.float32)
    require_finite(array, where=where, what="voxels")
    mapping = _of(groups[0], "RealWorldValueMappingSequence")
    unit = str(mapping.MeasurementUnitsCodeSequence[0].CodeValue)
    quantity = "HU" if unit == _UNITS["HU"][0] else "a.u."
    meta = {"format": "dicom", "map": "map"}
    return Volume(array, Geometry(shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps), quantity, meta)


def _of(groups: list[Dataset], name: str) -> Dataset:
    """The item of a functional group, of the frame or shared by all. Raises KeyError where there is none."""
    return next(group[name][0] for group in groups if name in group)
