"""Small volumes, scans and DICOM series for the tests of files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.volume import Geometry, Volume
from medrecon.physics.ct_geometry import CTGeometry


def rotation(degrees: float, axis: int = 2) -> np.ndarray:
    """3x3 rotation about a world axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    i, j = (n for n in range(3) if n != axis)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def oblique(shape: tuple[int, int, int] = (5, 6, 7), spacing: tuple[float, float, float] = (3.1, 0.7, 1.3)) -> Geometry:
    """A grid turned about two axes, with unequal spacings and an odd origin."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(17.3) @ rotation(-8.1, axis=0) @ np.diag([-spacing[2], -spacing[1], spacing[0]])
    affine[:3, 3] = (12.345, -67.891, 0.123)
    return Geometry(shape, affine)


def volume(geometry: Geometry | None = None, quantity: str = "HU", seed: int = 0) -> Volume:
    """Values between -1000 and about 1000 that no two voxels share."""
    geometry = geometry or Geometry.from_spacing((5, 6, 7), (3.1, 0.7, 1.3))
    array = np.random.default_rng(seed).uniform(-1000, 1000, geometry.shape).astype(np.float32)
    return Volume(array, geometry, quantity)


def scan(views: int = 6, seed: int = 0, geometry: CTGeometry | None = None) -> Scan:
    """Random projections with a consistent geometry."""
    grid = Geometry.from_spacing((5, 6, 7), (3.1, 0.7, 1.3))
    geometry = geometry or CTGeometry.parallel(grid.shape, grid.spacing, views)
    data = np.random.default_rng(seed).uniform(0, 3, geometry.data_shape).astype(np.float32)
    noise = {"kind": "poisson", "photons": 1e5, "electronic": 2.5}
    return Scan(data, geometry.to_dict(), grid, noise=noise, provenance={"source": "test", "seed": 3})


def kspace(seed: int = 0) -> KSpace:
    """Random samples with every part that k-space may have, on an oblique grid."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        parts = rng.standard_normal((2, *shape), dtype=np.float32)
        return (parts[0] + 1j * parts[1]).astype(np.complex64)

    grid = oblique()
    mask = np.array([1, 0, 1, 1, 1, 0, 1], dtype=bool).reshape(1, 1, 7)
    z, y, x = (n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    mixing = draw(3, 3).astype(np.complex128)
    return KSpace(
        draw(3, *grid.shape) * mask, grid, (z, y, x), mask, readout_axis=1, averages=mask.astype(np.float32) * 2,
        noise_covariance=mixing @ mixing.conj().T, calibration=draw(3, 5, 4, 3), maps=draw(1, 3, *grid.shape),
        provenance={"source": "test"}, meta={"format": "test", "warnings": ["one"]},
    )  # fmt: skip


def same_kspace(a: KSpace, b: KSpace) -> bool:
    """Whether two measurements agree bit for bit in all that is meant."""
    names = ("data", "mask", "averages", "noise_covariance", "calibration", "trajectory", "maps")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    facts = [
        (k.field_of_view, k.encoded, k.readout_axis, k.matrix, k.quantity, k.volume_geometry.shape,
         k.volume_geometry.affine.tolist(), k.provenance)
        for k in (a, b)
    ]  # fmt: skip
    return facts[0] == facts[1] and all(
        p is q is None or (p is not None and q is not None and p.dtype == q.dtype and np.array_equal(p, q))
        for p, q in pairs
    )


def dicom_series(
    folder: Path,
    stored: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (2.5, 0.8, 0.9),
    orientation: np.ndarray | None = None,
    origin: tuple[float, float, float] = (-20.0, -30.0, 100.0),
    slopes: list[float] | None = None,
    intercept: float = -1024.0,
    modality: str = "CT",
    series: str = "1.2.3.4",
    step: np.ndarray | None = None,
    names: list[str] | None = None,
    **elements: object,
) -> list[Path]:
    """Write a series of slices (int16, ``(z, y, x)``) the way a scanner does; returns the files.

    ``orientation`` holds the directions of a row, a column and the stack as columns, LPS; ``step`` replaces the shift
    from slice to slice (for a tilted gantry).
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(exist_ok=True)
    axes = np.eye(3) if orientation is None else orientation
    step = axes[:, 2] * spacing[0] if step is None else step
    files = []
    for k, plane in enumerate(stored):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"{series}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = folder / (names[k] if names else f"slice{k:03d}.dcm")
        ds = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.PatientName, ds.PatientID = "Canary^Yellow", "CANARY-7"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = "1.2.3", series, 4
        ds.Modality, ds.InstanceNumber = modality, 1 + (7 * k) % len(stored)  # says nothing about the order
        ds.Rows, ds.Columns = plane.shape
        ds.PixelSpacing = [spacing[1], spacing[2]]
        ds.SliceThickness = spacing[0]
        ds.ImageOrientationPatient = [f"{v:.12g}"[:16] for v in axes[:, :2].T.ravel()]
        ds.ImagePositionPatient = [f"{v:.10g}"[:16] for v in np.asarray(origin) + k * step]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        if modality == "CT":
            ds.RescaleSlope, ds.RescaleIntercept = (slopes[k] if slopes else 1), intercept
        for name, value in elements.items():
            setattr(ds, name, value)
        ds.PixelData = plane.astype("<i2").tobytes()
        ds.save_as(file, enforce_file_format=True)
        files.append(file)
    return files
