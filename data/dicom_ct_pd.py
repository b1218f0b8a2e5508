"""DICOM-CT-PD: clinical CT projections with private tags, one file per view: helix, curved detector, flying spot.

Reference: B. Chen et al., Proc. SPIE 9412, 94123L (2015), the user manual of the format.

============ ==================================== ============ ===================================
tag          meaning                              tag          meaning
============ ==================================== ============ ===================================
7029,1002    spacing of detector columns (arc)    7031,1031    distance from source to detector
7029,1006    spacing of detector rows             7031,1033    element (column, row) of the central ray
7029,1010/11 number of rows, of columns           7033,100B-D  shift of the focal spot: angle, z, radius
7031,1001    angle of the source                  7041,1001    attenuation of water
7031,1002/3  its z, and distance from the axis    7029,100B    shape of the detector
============ ==================================== ============ ===================================

The focal spot's shifts are followed to first order: the arc of the detector is centred on the shifted spot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import scan_of
from medrecon.data.reading import naming, reading
from medrecon.data.scan import Scan
from medrecon.data.volume import WATER
from medrecon.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

    from medrecon.physics.cone_geometry import ConeGeometry

_KIND = "DICOM-CT-PD"
_ANGLE = (0x7031, 0x1001)
_MOST_FILES = 200_000
_PIXELS_ACROSS = 512
_FIELD = 500.0  # mm, where the file does not name the field of view
_PREAMBLE = 132


@dataclass(frozen=True)
class _View:
    """What a file says about its view, nothing about the patient; lengths in mm, angles in radians."""

    number: int
    angle: float
    height: float
    origin: float
    detector: float
    shifts: tuple[float, float, float]


def sniff_ct_pd(path: Path, head: bytes) -> bool:
    """A folder, or a file, of DICOM with the angle of a source."""
    if path.is_dir():
        first = next(iter(_files(path)), None)
        if first is None:
            return False
        path = first
    return _has_angle(path)


def _has_angle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_PREAMBLE)
        if start[128:132] != b"DICM":
            return False
        from pydicom import dcmread

        return _ANGLE in dcmread(path, stop_before_pixels=True, specific_tags=[_ANGLE])
    except Exception:  # noqa: BLE001  (whatever a broken file raises: another reader will say)
        return False


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.lower() in (".dcm", ".ima", ""))


@reader("dicom-ct-pd", suffixes=(), sniff=sniff_ct_pd)
def read_ct_pd(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """All views of a folder, in the order of their numbers, as line integrals.

    Raises
    ------
    InputError
        Files without the tags of the format, of several detectors, with missing views.
    CorruptInput, TooLarge
        Damaged files, more data than memory.
    """
    path = Path(path)
    files = list(_files(path)) if path.is_dir() else [path]
    where, limits = path.name, limits or Limits()
    if len(files) > _MOST_FILES:
        raise InputError("too many files", where=where, found=len(files), expected=f"at most {_MOST_FILES}")
    views: list[_View] = []
    frames: list[np.ndarray] = []
    shape: tuple[int, ...] | None = None
    first: Dataset | None = None
    for file in files:
        header = _dataset(file)
        view, frame = _view(header, file.name), _frame(header, file.name)
        if first is None:
            first, shape = header, frame.shape
            limits.check((len(files), *frame.shape), 4, where=where)
        if frame.shape != shape:
            raise InputError("views of several detectors", where=file.name, found=frame.shape, expected=shape)
        views.append(view)
        frames.append(frame)
    if first is None:
        raise InputError("the folder holds no views", where=where)
    order = sorted(range(len(views)), key=lambda k: views[k].number)
    numbers = [views[k].number for k in order]
    if np.unique(np.diff(numbers)).size > 1:
        gap = numbers[int(np.argmax(np.diff(numbers)))]
        raise InputError("views are missing, or there twice", where=where, found=f"a gap after view {gap}",
                         hint="Copy the missing files; a run of views, or every n-th, is fine.")  # fmt: skip
    water = _number(first, 0x7041, 0x1001, where, WATER)
    with naming(where):
        geometry = _geometry(first, [views[k] for k in order], np.shape(frames[0]), where)
        data = np.stack([frames[k] for k in order])
        notes = ["the sense of rotation and the order of rows are those of the format's manual"]
        if any(any(view.shifts) for view in views):
            notes.append("the flying focal spot is followed to first order")
        return scan_of(data, geometry, kind=_KIND, notes=notes, water=water if water < 0.1 else 0.1 * water)


def _dataset(file: Path) -> Dataset:
    from pydicom import dcmread

    with reading(file, "DICOM"):
        return dcmread(file)


def _view(header: Dataset, where: str) -> _View:
    return _View(
        number=int(getattr(header, "InstanceNumber", 0) or 0),
        angle=_number(header, *_ANGLE, where),
        height=_number(header, 0x7031, 0x1002, where),
        origin=_number(header, 0x7031, 0x1003, where),
        detector=_number(header, 0x7031, 0x1031, where),
        shifts=(
            _number(header, 0x7033, 0x100B, where, 0.0), _number(header, 0x7033, 0x100C, where, 0.0),
            _number(header, 0x7033, 0x100D, where, 0.0),
        ),
    )  # fmt: skip


def _frame(header: Dataset, where: str) -> np.ndarray:
    """Line integrals ``(rows, columns)`` of the detector."""
    with reading(where, "DICOM"):
        rows, columns = (int(_number(header, 0x7029, tag, where)) for tag in (0x1010, 0x1011))
        pixels = np.frombuffer(header.PixelData, "<u2")
        if pixels.size < rows * columns or rows * columns == 0:
            raise InputError("the pixels are cut short", where=where, found=pixels.size, expected=rows * columns)
        pixels = pixels[: rows * columns]
        # Stored along the detector's rows or along its columns: the picture's own numbers tell.
        along_columns = (int(header.Rows), int(header.Columns)) == (columns, rows) and rows != columns
        frame = pixels.reshape(columns, rows).T if along_columns else pixels.reshape(rows, columns)
        slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
    return (frame * slope + intercept).astype(np.float32)


def _geometry(first: Dataset, views: list[_View], shape: tuple[int, ...], where: str) -> ConeGeometry:
    from medrecon.physics.cone_geometry import ConeGeometry

    rows, columns = shape
    pitch_u, pitch_v = _number(first, 0x7029, 0x1002, where), _number(first, 0x7029, 0x1006, where)
    central = _numbers(first, 0x7031, 0x1033, where)
    form = str(_value(first, 0x7029, 0x100B) or "CYLINDRICAL").strip().upper()
    if form != "CYLINDRICAL":
        raise InputError("only cylindrical detectors are read", where=where, found=form[:20])
    # Elements count from one; the offset is that of the detector's middle from the central ray.
    across, rise = ((columns + 1) / 2 - central[0]) * pitch_u, ((rows + 1) / 2 - central[1]) * pitch_v
    vectors = np.array([_vectors(view, across, rise, pitch_u, pitch_v) for view in views])
    heights = vectors[:, 2]
    middle = 0.5 * (heights.min() + heights.max())
    vectors[:, (2, 5)] -= middle
    field = float(getattr(first, "DataCollectionDiameter", 0) or _FIELD)
    thick = pitch_v * views[0].origin / views[0].detector
    slices = max(rows if np.ptp(heights) < 1e-6 else 1, math.ceil(np.ptp(heights) / thick))
    size = field / _PIXELS_ACROSS
    return ConeGeometry(vectors, rows, columns, (slices, _PIXELS_ACROSS, _PIXELS_ACROSS), (thick, size, size), "curved")


def _vectors(view: _View, across: float, rise: float, pitch_u: float, pitch_v: float) -> np.ndarray:
    """The source where it really was, the arc of the detector around it towards the nominal detector's middle."""
    angle_shift, height_shift, radius_shift = view.shifts
    nominal = _spot(view.angle, view.origin)
    # The nominal detector's middle, `across` along its arc from the central ray.
    inward = -nominal / view.origin
    turn = across / view.detector
    sideways = np.array([-inward[1], inward[0]])
    sideways *= np.sign(sideways @ np.array([math.cos(view.angle), math.sin(view.angle)]))
    middle = nominal + view.detector * (math.cos(turn) * inward + math.sin(turn) * sideways)
    source = _spot(view.angle + angle_shift, view.origin + radius_shift)
    ray = middle - source
    distance = float(np.hypot(*ray))
    u = np.array([-ray[1], ray[0]]) / distance
    u *= np.sign(u @ sideways)
    return np.array(
        [*source, view.height + height_shift, *middle, view.height + rise, *(pitch_u * u), 0.0, 0.0, 0.0, pitch_v]
    )


def _spot(angle: float, radius: float) -> np.ndarray:
    """Place of a source at ``angle``, as in our fans: above the image at 0, then towards +x."""
    return radius * np.array([math.sin(angle), -math.cos(angle)])


def _value(header: Dataset, group: int, element: int) -> Any:
    return header[group, element].value if (group, element) in header else None


def _numbers(header: Dataset, group: int, element: int, where: str) -> list[float]:
    """Private tags may come as bytes, where the reader's dictionary does not know their kind."""
    value = _value(header, group, element)
    if value is None:
        raise InputError(f"the tag ({group:04X},{element:04X}) is missing", where=where, expected="DICOM-CT-PD")
    if isinstance(value, bytes):
        if len(value) in (4, 8):
            value = np.frombuffer(value, "<f4").tolist()
        elif len(value) == 2:
            value = int(np.frombuffer(value, "<u2")[0])
        else:
            value = float(value.decode("ascii", "replace").strip("\0 "))
    try:
        numbers = [float(v) for v in (value if isinstance(value, Iterable) and not isinstance(value, str) else [value])]
    except (TypeError, ValueError):
        numbers = [math.nan]
    if not numbers or not all(math.isfinite(n) for n in numbers):
        raise InputError(f"the tag ({group:04X},{element:04X}) holds no numbers", where=where)
    return numbers


def _number(header: Dataset, group: int, element: int, where: str, default: float | None = None) -> float:
    if default is not None and _value(header, group, element) is None:
        return default
    return _numbers(header, group, element, where)[0]
