"""`KSpace`: what an MR scanner measured, with all that is needed to reconstruct it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medrecon.data.volume import Geometry

AXES = ("z", "y", "x")


@dataclass(frozen=True, eq=False)
class KSpace:
    """Measured k-space, where it was measured, its noise and the grid to reconstruct on.

    Axes of the arrays are the axes of the volume, ``(z, y, x)``: a 2D multi-slice measurement has its slices along
    axis 0, a 3D one has ``kz`` there. A reader permutes its data to that order and gives the affine that goes with it;
    it does not resample, whiten, compress, crop or combine anything. All transforms are centred (the centre of k-space
    and of the image is sample ``n // 2`` of each axis) and orthonormal, with ``exp(-2 pi i k x / n)`` from the image
    to k-space. The last axis is best a phase-encoded one, with the readout along ``y`` (as fastMRI stores it): one
    Fourier transform then suffices for a mask of lines. Any order is correct.

    Attributes
    ----------
    data
        complex64 ``(coils, z, y, x)``, zero where nothing was measured; ``(coils, slices, spokes, samples)`` with a
        ``trajectory``. Repeated samples are averaged by the reader and counted in ``averages``.
    volume_geometry
        The grid to reconstruct on. Along an encoded axis it has the voxel size ``field_of_view / data.shape`` and
        lies centrally in the encoded field of view (voxel ``m // 2`` on sample ``n // 2``): fewer voxels than samples
        means oversampling that is cropped in the image. Voxels are as large as measured: a file that asks for smaller
        ones gets no interpolation. Slices are as far apart as their centres (thickness plus gap).
    field_of_view
        Encoded field of view along ``(z, y, x)`` in mm, oversampling included; of a slice axis slices times distance.
    mask
        bool, True where a sample was measured, of shape ``(z, y, x)`` with 1 where all are alike: ``(1, 1, x)`` for
        lines common to all slices; ``(slices or 1, spokes, samples)`` or broadcastable to it with a trajectory. It is
        the same for all coils. Padding that was never measured is False. ``None`` means that the mask is not known
        and follows from the non-zero samples.
    encoded
        Axes that hold spatial frequencies, of 0 = z, 1 = y, 2 = x: ``(1, 2)`` for slices, ``(0, 1, 2)`` for 3D.
    readout_axis
        The axis of `encoded` along which a line is read, fully sampled; None where unknown or not Cartesian.
    noise_covariance
        complex ``(coils, coils)``, ``E[n n^H] / 2``: variance of the real (and of the imaginary) part of one sample of
        each coil; None where no noise scan or noise level is known. It may be diagonal.
    averages
        How often each sample was measured (float32, broadcastable to ``mask``); its noise variance is divided by it.
    calibration
        A separate fully sampled centre, complex64 ``(coils, slices or kz, cy, cx)``, centred as `data` is and in the
        same units; None where the calibration lines are part of `data`.
    trajectory
        float32 ``(spokes, samples, 2)``, or 3 with ``encoded = (0, 1, 2)``: spatial frequencies in the order of
        `encoded` (``(y, x)``), in cycles per field of view, within ``+-matrix / 2``. None for Cartesian data.
    matrix
        Encoded matrix ``(z, y, x)``; that of `data` for Cartesian data, needed with a trajectory.
    maps
        Coil maps that came with the data, complex64 ``(sets, coils, z, y, x)`` on the encoded grid; None mostly.
    quantity, provenance, meta
        Unit of the volume; plain JSON values without patient data; what the reader has to say. Known keys of `meta`:
        ``format``, ``contrast``, ``warnings`` (a list of sentences on what was assumed or repaired).
    """

    data: np.ndarray
    volume_geometry: Geometry
    field_of_view: tuple[float, float, float]
    mask: np.ndarray | None = None
    encoded: tuple[int, ...] = (1, 2)
    readout_axis: int | None = None
    noise_covariance: np.ndarray | None = None
    averages: np.ndarray | None = None
    calibration: np.ndarray | None = None
    trajectory: np.ndarray | None = None
    matrix: tuple[int, int, int] | None = None
    maps: np.ndarray | None = None
    quantity: str = "a.u."
    provenance: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)

    @property
    def modality(self) -> str:
        """``"mri"``: chooses how a problem is made of it."""
        return "mri"

    @property
    def coils(self) -> int:
        """Number of receive coils."""
        return int(self.data.shape[0])

    @property
    def sampling(self) -> np.ndarray:
        """Where samples were measured, bool, as in `mask`; the samples that are not zero where no mask is stated."""
        return (self.data != 0).any(axis=0) if self.mask is None else np.asarray(self.mask) != 0
