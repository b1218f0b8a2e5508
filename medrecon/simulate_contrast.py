"""MR-like magnitude volumes from label maps: random contrast, bias field, resolution and noise.

The idea is SynthSeg's (Billot et al., Medical Image Analysis 2023): a network that has seen the same anatomy in
contrasts that no scanner made cannot rely on one contrast. Here they teach a prior what few real heads cannot. Three of
four volumes draw the brightness of each tissue from a range that is usual for T1, T2 or FLAIR, the fourth at random.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import ndimage

from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError

TISSUES: dict[str, tuple[int, ...]] = {
    "white": (2, 41, 7, 46, 16, 28, 60, 85, 25, 57, 77, 136, 137, 163, 164),
    "grey": (3, 42, 8, 47, 17, 53, 18, 54, 26, 58),
    "deep": (10, 49, 11, 50, 12, 51),
    "pallidum": (13, 52),
    "fluid": (4, 43, 5, 44, 14, 15, 24, 72),
    "vessel": (30, 62, 502),
    "eye": (506,),
    "soft": (507, 508, 514),
    "skin": (511,),
    "mucosa": (509, 512, 530),
    "bone": (515,),
    "marrow": (516,),
}
"""Values of a label map: FreeSurfer's for the brain; beyond it those of SynthSeg's maps, named after where they lie."""

_FAT = "fat"  # part of the soft tissue
_BRAIN = ("white", "grey", "deep", "pallidum", "fluid", "vessel")
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "T1": {
        "white": (0.75, 1.0), "grey": (0.45, 0.7), "deep": (0.6, 0.8), "pallidum": (0.7, 0.9), "fluid": (0.1, 0.25),
        "vessel": (0.1, 1.1), "eye": (0.12, 0.3), "soft": (0.3, 0.55), _FAT: (0.8, 1.3), "skin": (0.5, 0.9),
        "mucosa": (0.3, 0.8), "bone": (0.02, 0.15), "marrow": (0.5, 1.1),
    },
    "T2": {
        "white": (0.28, 0.45), "grey": (0.42, 0.6), "deep": (0.35, 0.5), "pallidum": (0.2, 0.4), "fluid": (0.8, 1.1),
        "vessel": (0.03, 0.6), "eye": (0.8, 1.1), "soft": (0.15, 0.35), _FAT: (0.4, 0.9), "skin": (0.25, 0.5),
        "mucosa": (0.6, 1.0), "bone": (0.02, 0.1), "marrow": (0.3, 0.7),
    },
    "FLAIR": {
        "white": (0.5, 0.65), "grey": (0.62, 0.85), "deep": (0.55, 0.75), "pallidum": (0.45, 0.6), "fluid": (0.04, 0.2),
        "vessel": (0.03, 0.6), "eye": (0.05, 0.2), "soft": (0.25, 0.5), _FAT: (0.2, 1.1), "skin": (0.25, 0.6),
        "mucosa": (0.4, 1.0), "bone": (0.02, 0.1), "marrow": (0.2, 0.8),
    },
}  # fmt: skip
_KINDS, _SHARES = ("T1", "T2", "FLAIR", "random"), (0.45, 0.2, 0.1, 0.25)
_MARGIN = 6  # voxels of air around the head


def random_contrast(labels: Volume, seed: int = 0) -> Volume:
    """A magnitude volume, arbitrary units, of the anatomy in a label map.

    Axes are LPS, voxels isotropic of 1 to 1.35 mm; the head is turned, scaled and bent a little. One of four is a brain
    without its skull.

    Parameters
    ----------
    labels
        Integers as in `TISSUES`, 0 for air. Labels of no tissue are drawn like soft tissue.

    Raises
    ------
    InputError
        No label, or values that are not whole numbers.
    """
    codes = np.rint(labels.array).astype(np.int64)
    if not np.array_equal(codes, labels.array) or not codes.any():
        raise InputError("this is not a label map", where="volume", expected="whole numbers, 0 for air, some above 0")
    rng = np.random.default_rng([seed, 5])
    volume = _around_the_head(replace(labels, array=codes.astype(np.float32)).as_orientation("LPS"))
    codes = volume.array.astype(np.int64)
    kind = str(rng.choice(_KINDS, p=_SHARES))
    if rng.random() < 0.25:
        codes = np.where(np.isin(codes, [code for tissue in _BRAIN for code in TISSUES[tissue]]), codes, 0)
    image = _painted(codes, kind, rng)
    if rng.random() < 0.6:
        image = ndimage.gaussian_filter(image, rng.uniform(0.2, 0.7))
    image, spacing = _bent(image, volume.geometry.spacing, rng.uniform(1.0, 1.35), rng)
    image *= np.exp(rng.uniform(0, 0.25) * _smooth(image.shape, rng.uniform(25, 60), rng))
    noise = rng.uniform(0, 0.015)
    real, imaginary = (noise * rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
    image = np.hypot(image + real, imaginary).astype(np.float32)
    return Volume(image, Geometry.from_spacing(image.shape, (spacing,) * 3), "a.u.")  # type: ignore[arg-type]


def _around_the_head(labels: Volume) -> Volume:
    occupied = np.argwhere(labels.array > 0)
    low = np.maximum(occupied.min(0) - _MARGIN, 0)
    high = np.minimum(occupied.max(0) + 1 + _MARGIN, labels.array.shape)
    array = labels.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = labels.geometry.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low[::-1]
    return Volume(np.ascontiguousarray(array), Geometry(array.shape, affine), labels.quantity)


def _painted(codes: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Brightness of every voxel: that of its tissue, its structure and a texture."""
    tissue_of = {code: tissue for tissue, members in TISSUES.items() for code in members}
    ranges = _RANGES.get(kind)
    # Fat in soft tissue lies in strands and sheets of some millimetres
    fat = _smooth(codes.shape, rng.uniform(2, 4), rng) > rng.uniform(-0.8, 0.6)
    means = {t: rng.uniform(*(ranges[t] if ranges else (0.03, 1.1))) for t in (*TISSUES, _FAT)}
    image = np.zeros(codes.shape, dtype=np.float32)
    textures = [_smooth(codes.shape, sigma, rng) for sigma in (0.6, 1.2)]
    for code in np.unique(codes[codes != 0]):
        tissue = tissue_of.get(int(code), "soft")
        where = codes == code
        value = means[tissue] * math.exp(0.05 * rng.standard_normal())
        amount = rng.uniform(0.01, 0.05) if tissue in _BRAIN else rng.uniform(0.03, 0.15)
        values = value + (means[_FAT] - value) * fat[where] if tissue == "soft" else value
        image[where] = values * (1 + amount * textures[int(rng.integers(2))][where])
    return np.maximum(image, 0, out=image)


def _smooth(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation 1 that varies over about ``sigma`` voxels: float32."""
    # Drawn on a coarser grid where it is smooth: same look, a fraction of the time
    step = max(1.0, sigma / 2)
    coarse = tuple(math.ceil(n / step) + 2 for n in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma / step, mode="wrap")
    if step > 1:
        field = ndimage.zoom(field, [(n + 1) / c for n, c in zip(shape, coarse, strict=True)], order=1)
    field = field[tuple(slice(n) for n in shape)]
    return (field - field.mean()) / field.std()


def _bent(
    image: np.ndarray, spacing: tuple[float, float, float], voxel: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The image on voxels of ``voxel`` mm, turned by some degrees, scaled by some percent, bent by some millimetres."""
    angles, scales = rng.normal(0, 0.08, 3), np.exp(rng.normal(0, 0.05, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        i, j = (a for a in range(3) if a != axis)
        one[[i, i, j, j], [i, j, i, j]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        turn = turn @ one
    step = np.array([voxel / s for s in spacing])
    shape = tuple(math.ceil(n / s) for n, s in zip(image.shape, step, strict=True))
    matrix = turn * (step / scales)
    offset = (np.array(image.shape) - 1) / 2 - matrix @ ((np.array(shape) - 1) / 2)
    grid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    places = np.empty((3, *shape), dtype=np.float32)
    for axis in range(3):
        bend = rng.uniform(0, 2.5) * _smooth(shape, rng.uniform(12, 25), rng)
        places[axis] = offset[axis] + sum(matrix[axis, a] * grid[a] for a in range(3)) + bend
    return np.maximum(ndimage.map_coordinates(image, places, order=3, mode="constant"), 0), voxel
