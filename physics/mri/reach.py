"""How far frequencies lie from the measured ones, and what of a guess about them counts.

Samples speak of their own frequency and, through the coils, of its neighbours. What a prior or total variation puts
farther away is a guess about edges: sharp, and mostly wrong. The share that counts is that of the least mean square
error (a Wiener filter), as a function of the distance alone; docs/decisions/019 tells how it was measured.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_STEEPNESS = 4


def distances(measured: np.ndarray) -> np.ndarray:
    """Of each frequency of a centred grid to the nearest measured one, in samples.

    Of a real volume a sample also says what lies on the other side of the centre.
    """
    if not measured.any():
        return np.full(measured.shape, np.inf)
    both = measured | _mirrored(measured)
    return np.asarray(ndimage.distance_transform_edt(~both))


def _mirrored(values: np.ndarray) -> np.ndarray:
    """At ``-k`` what was at ``k``; sample ``n // 2`` of an axis is the centre."""
    for axis, n in enumerate(values.shape):
        values = np.take(values, (2 * (n // 2) - np.arange(n)) % n, axis=axis)
    return values


def shares(measured: np.ndarray, plane: tuple[int, ...], reach: float) -> Tensor:
    """What counts of each frequency of an image of ``plane`` pixels: 1 at samples, a half at ``reach`` from them.

    Parameters
    ----------
    measured
        bool, over the centred frequencies of the encoded field of view, which is at least as large as the image.
    reach
        In samples of the encoded field of view.

    Returns
    -------
    Tensor
        float32 of ``plane``, in the order of `torch.fft.fftn`.
    """
    far = distances(measured)
    for axis, (n, m) in enumerate(zip(plane, measured.shape, strict=True)):
        near = np.rint((np.arange(n) - n // 2) * (m / n)).astype(int) + m // 2
        far = np.take(far, near.clip(0, m - 1), axis=axis)
    return torch.from_numpy(np.fft.ifftshift(1 / (1 + (far / reach) ** _STEEPNESS))).to(torch.float32)
