"""fastMRI HDF5 files: multi-coil and single-coil slices with the header of ISMRMRD."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.data import hdf5
from medrecon.data.formats import reader
from medrecon.data.ismrmrd_header import MRHeader, parse_header
from medrecon.data.kspace import KSpace
from medrecon.data.kspace_checks import check_kspace
from medrecon.data.limits import Limits
from medrecon.data.mr_lines import Encoding, Remarks, placed_grid
from medrecon.data.reading import require_finite
from medrecon.errors import InputError

_KIND = "fastMRI"
_BESIDE = ("ismrmrd_header", "reconstruction_rss", "reconstruction_esc")


def sniff_fastmri(path: Path, head: bytes) -> bool:
    """An HDF5 file with ``kspace`` and the header or a reference image beside it."""
    found = hdf5.peek(path, head)
    names = found["names"] if found is not None else []
    return isinstance(names, list) and "kspace" in names and any(name in names for name in _BESIDE)


@reader("fastmri", suffixes=(".h5",), sniff=sniff_fastmri)
def read_fastmri(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """``/kspace`` ``(slices, coils, rows = readout, columns)`` or ``(slices, rows, columns)``; ``/mask`` may be there.

    Rows become y and columns x. Columns beyond the encoding limits were never measured and leave the mask; the
    oversampling of the readout is cropped by the grid, which has the field of view of ``reconSpace``. The files say
    nothing about place and orientation in the patient.

    Raises
    ------
    InputError
        No header, real numbers, a mask of another length, nothing measured.
    CorruptInput, UnsafeInput, TooLarge
        As for every HDF5 file.
    """
    where, limits = Path(path).name, limits or Limits()
    with hdf5.open_input(path, _KIND) as file:
        text = hdf5.read_text(file, "ismrmrd_header", where=where)
        if text is None:
            raise InputError(
                "the dataset /ismrmrd_header is missing", where=where, found=f"/{', /'.join(file)}",
                expected="the header of the measurement, for voxel sizes",
                hint="Take the file as it was released, or convert it to kspace.h5 (docs/kspace-h5.md).",
            )  # fmt: skip
        header = parse_header(text, where)
        stored = hdf5.read_complex(file, "kspace", where=where, limits=limits)
        stated = hdf5.read_array(file, "mask", kinds="biuf", where=where, limits=limits) if "mask" in file else None
        contrast = file.attrs.get("acquisition")
    remarks = Remarks(missing=["place and orientation in the patient"])
    data = _in_our_axes(stored, header, remarks, where)
    require_finite(data, where=where, what="k-space")
    _compare_with_header(data, header, remarks)
    mask = _mask(data, stated, header, remarks, where)
    if not mask.all():
        data = data * mask
    _, slices, rows, columns = data.shape
    extent, wanted = header.field_of_view, header.recon_field_of_view
    thickness = wanted[2] / max(header.recon_matrix[2], 1)
    sizes = (extent[0], extent[1], thickness * slices)
    encoding = Encoding((rows, columns, slices), sizes, (wanted[0], wanted[1], thickness * slices))
    encoding.check(where)
    counts, voxel = encoding.grid(slices)
    middle = voxel[2] * (-(slices - 1) / 2)
    grid = placed_grid(counts, voxel, np.eye(3), np.array([0.0, 0.0, middle]), centre_slice=0)
    meta: dict[str, object] = {"format": "fastmri", "warnings": remarks.warnings, "missing": remarks.missing}
    if isinstance(contrast, str | bytes):
        meta["contrast"] = contrast.decode("utf-8", "replace") if isinstance(contrast, bytes) else contrast
    made = KSpace(
        np.ascontiguousarray(data, dtype=np.complex64), grid, (sizes[2], sizes[0], sizes[1]), mask, readout_axis=1,
        meta=meta,
    )  # fmt: skip
    check_kspace(made, where)
    return made


def _in_our_axes(stored: np.ndarray, header: MRHeader, remarks: Remarks, where: str) -> np.ndarray:
    """``(coils, slices, rows, columns)``, the readout along the rows."""
    if stored.ndim not in (3, 4):
        raise InputError(
            "/kspace has another number of axes", where=where, found=stored.shape,
            expected="(slices, coils, rows, columns), or (slices, rows, columns) of one coil",
        )  # fmt: skip
    data = stored[None] if stored.ndim == 3 else stored.swapaxes(0, 1)
    read = header.matrix[0]
    if data.shape[2] != read and data.shape[3] == read:
        remarks.warnings.append("rows and columns stand in the other order than fastMRI's: they are exchanged")
        data = data.swapaxes(2, 3)
    return data


def _compare_with_header(data: np.ndarray, header: MRHeader, remarks: Remarks) -> None:
    slices, rows, columns = data.shape[1:]
    stated = header.limits.get("slice")
    if stated is not None and stated[2] + 1 != slices:
        remarks.warnings.append(f"the header speaks of {stated[2] + 1} slices, the file holds {slices}")
    if (rows, columns) != header.matrix[:2]:
        remarks.warnings.append(
            f"the header speaks of {header.matrix[0]} x {header.matrix[1]} samples, the file holds {rows} x {columns}: "
            "the field of view is taken to be the same"
        )


def _mask(data: np.ndarray, stated: np.ndarray | None, header: MRHeader, remarks: Remarks, where: str) -> np.ndarray:
    """``(1, 1, columns)``: stated, or the columns that are not zero; without those beyond the encoding limits."""
    columns = data.shape[3]
    filled = np.zeros(columns, dtype=bool)
    for coil in data:
        filled |= (coil != 0).any(axis=(0, 1))
    mask = filled
    if stated is not None:
        if stated.squeeze().shape != (columns,):
            raise InputError(
                "the mask does not fit the columns of /kspace", where=where, found=stated.shape, expected=(columns,)
            )
        mask = stated.reshape(-1) != 0
        if (filled & ~mask).any():
            remarks.warnings.append(f"{int((filled & ~mask).sum())} columns hold data that the mask leaves out")
    lines = header.limits.get("kspace_encoding_step_1")
    if lines is not None and header.matrix[1] == columns:
        left = header.matrix[1] // 2 - lines[1]
        inside = (np.arange(columns) >= left) & (np.arange(columns) <= left + lines[2])
        if (filled & ~inside).any():
            remarks.warnings.append(
                f"{int((filled & ~inside).sum())} columns beyond the encoding limits hold data: the limits are not used"
            )
        else:
            mask = mask & inside
    if not mask.any():
        raise InputError("the mask says that nothing was measured", where=where)
    return mask.reshape(1, 1, -1)
