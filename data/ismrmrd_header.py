"""The XML header of ISMRMRD, which fastMRI files carry too: matrices, fields of view, encoding limits."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from medrecon.errors import InputError


@dataclass(frozen=True)
class MRHeader:
    """What a reader needs of the header; sizes along (x, y, z) = (read, first, second phase encoding)."""

    matrix: tuple[int, int, int]
    field_of_view: tuple[float, float, float]
    recon_matrix: tuple[int, int, int]
    recon_field_of_view: tuple[float, float, float]
    limits: dict[str, tuple[int, int, int]]
    """Minimum, centre and maximum of ``kspace_encoding_step_1`` and so on, where they are given."""
    trajectory: str
    calibration_mode: str
    vendor: str


def parse_header(text: str, where: str) -> MRHeader:
    """Read the first encoding. Raises InputError for what is no ISMRMRD header."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError("the header declares entities", where=where, expected="plain XML")
    try:
        root = ElementTree.fromstring(text.strip().strip("\0"))  # noqa: S314 - without entities
    except ElementTree.ParseError as error:
        raise InputError("the header is not XML", where=where) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else element.tag
    encoding = root.find("encoding")
    if encoding is None:
        raise InputError("the header has no encoding", where=where, expected="an ISMRMRD header")
    limits = {}
    for element in encoding.findall("encodingLimits/*"):
        low, centre, high = (element.findtext(name) for name in ("minimum", "center", "maximum"))
        if low is not None and centre is not None and high is not None:
            limits[str(element.tag)] = (_whole(low, where), _whole(centre, where), _whole(high, where))
    return MRHeader(
        matrix=_integers(encoding, "encodedSpace/matrixSize", where),
        field_of_view=_floats(encoding, "encodedSpace/fieldOfView_mm", where),
        recon_matrix=_integers(encoding, "reconSpace/matrixSize", where),
        recon_field_of_view=_floats(encoding, "reconSpace/fieldOfView_mm", where),
        limits=limits,
        trajectory=(encoding.findtext("trajectory") or "cartesian").strip().lower(),
        calibration_mode=(encoding.findtext("parallelImaging/calibrationMode") or "").strip().lower(),
        vendor=(root.findtext("acquisitionSystemInformation/systemVendor") or "").strip().lower(),
    )


def _texts(encoding: ElementTree.Element, path: str, where: str) -> list[str]:
    found = [encoding.findtext(f"{path}/{axis}") for axis in "xyz"]
    known = [text for text in found if text is not None]
    if len(known) < 3:
        raise InputError(f"the header lacks {path}", where=where, expected="an ISMRMRD header")
    return known


def _whole(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError("the header holds text where a number belongs", where=where, found=text[:20]) from error


def _integers(encoding: ElementTree.Element, path: str, where: str) -> tuple[int, int, int]:
    x, y, z = (_whole(text, where) for text in _texts(encoding, path, where))
    return x, y, z


def _floats(encoding: ElementTree.Element, path: str, where: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(text) for text in _texts(encoding, path, where))
    except ValueError as error:
        raise InputError("the header holds text where a number belongs", where=where, found=path) from error
    return x, y, z
