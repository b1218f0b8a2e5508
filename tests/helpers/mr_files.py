"""MR raw data files by their published layouts, written without the package that reads them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from file_examples import rotation

COUNTERS = (
    "kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition", "set",
    "segment",
)  # fmt: skip
NOISE, CALIBRATION, BOTH, REVERSE, NAVIGATOR = (1 << (bit - 1) for bit in (19, 20, 21, 22, 23))

_INDEX = np.dtype([(name, "<u2") for name in COUNTERS] + [("user", "<u2", (8,))])
_HEAD = np.dtype(
    [("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
     ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", (3,)), ("number_of_samples", "<u2"),
     ("available_channels", "<u2"), ("active_channels", "<u2"), ("channel_mask", "<u8", (16,)), ("discard_pre", "<u2"),
     ("discard_post", "<u2"), ("center_sample", "<u2"), ("encoding_space_ref", "<u2"), ("trajectory_dimensions", "<u2"),
     ("sample_time_us", "<f4"), ("position", "<f4", (3,)), ("read_dir", "<f4", (3,)), ("phase_dir", "<f4", (3,)),
     ("slice_dir", "<f4", (3,)), ("patient_table_position", "<f4", (3,)), ("idx", _INDEX), ("user_int", "<i4", (8,)),
     ("user_float", "<f4", (8,))]
)  # fmt: skip


def header_xml(
    encoded: tuple[int, int, int],
    encoded_fov: tuple[float, float, float],
    recon: tuple[int, int, int] | None = None,
    recon_fov: tuple[float, float, float] | None = None,
    *,
    limits: tuple[int, int, int] | None = None,
    more: str = "",
    vendor: str = "",
) -> str:
    """The XML of ISMRMRD; sizes along (x, y, z) = (read, phase, slice); limits are minimum, centre, maximum."""

    def space(name: str, sizes: tuple, fov: tuple) -> str:
        matrix = "".join(f"<{a}>{n}</{a}>" for a, n in zip("xyz", sizes, strict=True))
        extent = "".join(f"<{a}>{n}</{a}>" for a, n in zip("xyz", fov, strict=True))
        return f"<{name}><matrixSize>{matrix}</matrixSize><fieldOfView_mm>{extent}</fieldOfView_mm></{name}>"

    low, centre, high = limits or (0, encoded[1] // 2, encoded[1] - 1)
    steps = (f"<kspace_encoding_step_1><minimum>{low}</minimum><maximum>{high}</maximum><center>{centre}</center>"
             "</kspace_encoding_step_1>")  # fmt: skip
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<subjectInformation><patientName>Canary Yellow</patientName></subjectInformation>"
        f"<acquisitionSystemInformation><systemVendor>{vendor}</systemVendor></acquisitionSystemInformation><encoding>"
        f"{space('encodedSpace', encoded, encoded_fov)}"
        f"{space('reconSpace', recon or encoded, recon_fov or encoded_fov)}"
        f"<encodingLimits>{steps}</encodingLimits><trajectory>cartesian</trajectory>{more}</encoding></ismrmrdHeader>"
    )


def acquisitions(lines: np.ndarray, **fields: object) -> tuple[np.ndarray, list[np.ndarray]]:
    """Heads and samples of ``lines`` ``(n, coils, samples)``; fields of the head or counters, one a line or one."""
    n, coils, samples = lines.shape
    heads = np.zeros(n, dtype=_HEAD)
    heads["version"], heads["active_channels"], heads["available_channels"] = 1, coils, coils
    heads["number_of_samples"], heads["center_sample"], heads["sample_time_us"] = samples, samples // 2, 5.0
    for name, value in fields.items():
        (heads["idx"] if name in COUNTERS else heads)[name] = value
    return heads, [np.ascontiguousarray(line, dtype=np.complex64).ravel().view(np.float32) for line in lines]


def write_ismrmrd(path: Path, xml: str, *parts: tuple[np.ndarray, list[np.ndarray]]) -> Path:
    """A file with these acquisitions, one after the other."""
    vector = h5py.vlen_dtype(np.dtype("<f4"))
    total = sum(len(heads) for heads, _ in parts)
    stored = np.zeros(total, dtype=np.dtype([("head", _HEAD), ("traj", vector), ("data", vector)]))
    stored["head"] = np.concatenate([heads for heads, _ in parts])
    samples = [values for _, part in parts for values in part]
    for index, values in enumerate(samples):
        stored["traj"][index], stored["data"][index] = np.zeros(0, np.float32), values
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=[xml], dtype=h5py.string_dtype())
        group.create_dataset("data", data=stored)
    return path


def oblique_directions() -> np.ndarray:
    """Rows read, phase and slice: a turned frame, LPS."""
    return (rotation(23.0) @ rotation(-14.0, axis=0)).T


def complex_noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random complex64 numbers that differ everywhere."""
    parts = np.random.default_rng(seed).standard_normal((2, *shape), dtype=np.float32)
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def expected_affine(
    directions: np.ndarray, spacing: tuple[float, float, float], counts: tuple[int, int], first: np.ndarray
) -> np.ndarray:
    """RAS+ affine of (phase, read, slice) as (i, j, k): voxel ``n // 2`` of the first slice lies at ``first`` (LPS)."""
    turned = np.diag([-1.0, -1.0, 1.0])
    read, phase, normal = (turned @ d for d in directions)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([phase * spacing[1], read * spacing[0], normal * spacing[2]], axis=1)
    affine[:3, 3] = turned @ first - affine[:3, 0] * (counts[1] // 2) - affine[:3, 1] * (counts[0] // 2)
    return affine
