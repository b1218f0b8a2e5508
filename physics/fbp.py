r"""Filtered back-projection for parallel and fan beams.

With :math:`t` the distance of a ray from the axis of rotation, :math:`\theta` its direction and :math:`h` the ramp
filter, a slice is :math:`f(x) = \int \int w\, p(t, \theta)\, h(t_x - t)\, dt\, d\theta`, where the redundancy weight
:math:`w` shares one between the rays that measure the same line. A change of variables to the view angle
:math:`\beta` and the detector gives every beam the same four steps: weight the data, filter along the detector,
weight by the distance of the pixel from the source, sum over views.

============ ==================================== ================== =================
beam         weight of the data                   filter             weight of a pixel
============ ==================================== ================== =================
parallel     1                                    h(u)               1
fan, flat    R cos g + c sin g                    h(u)               D / L^2
fan, curved  R cos g + c sin g                    (g / sin g)^2 h(g) 1 / l^2
============ ==================================== ================== =================

``g``: angle in the fan; ``R``, ``D``: distance of the source from the axis of rotation and from the detector; ``c``:
shift of the axis of rotation; ``l``: distance of the pixel from the source, ``L`` its part along the central ray.

Reference: A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3: equation 61 (ramp
in the spatial domain), 3.4.1 and 3.4.2 (fan beams). The shift enters through the Jacobian of ``(g, b) -> (t, theta)``
with ``t = R sin g - c cos g`` (as in G. T. Gullberg et al., IEEE Trans. Med. Imaging 5, 23-29 (1986)).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecon.errors import UsageError
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.fbp_weights import redundancy_weights, symmetric_detector, view_weights
from medrecon.physics.linop import Space
from medrecon.physics.threads import has_numba, run_tasks

FILTERS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")
_PAD = 2
_SPARE = 64
_ROWS = 8
_VIEWS = 32


def fbp(geometry: CTGeometry, y: Tensor, filter: str = "ramp", cutoff: float = 1.0) -> Tensor:
    """Filtered back-projection of line integrals.

    Parameters
    ----------
    geometry
        Rays and voxel grid. Full, short and limited scans, offset detectors and shifted axes are weighted for.
    y
        Line integrals ``(views, slices, columns)``, float32.
    filter
        ``"ramp"``, or the ramp times a window: ``"shepp-logan"``, ``"cosine"``, ``"hamming"``, ``"hann"``; smoother in
        this order.
    cutoff
        Highest frequency that is kept, as a fraction of the detector's Nyquist frequency, in (0, 1].

    Returns
    -------
    Tensor
        Volume ``(z, y, x)`` in 1/mm, slices innermost in memory.

    Raises
    ------
    UsageError
        Unknown filter, or a cutoff outside (0, 1].
    InputError
        Data of another shape or dtype.
    """
    Space(geometry.data_shape).check(y, "projections")
    wide, before, after = symmetric_detector(geometry)
    response = filter_response(wide, filter, cutoff)
    weights = _data_weights(geometry)
    slices, columns = geometry.shape[0], wide.columns + 2 * _PAD
    # One vector of spare floats at the end, for the last lanes of the compiled loop.
    memory = torch.zeros(geometry.n_views * columns * slices + _SPARE)
    filtered = memory[:-_SPARE].view(geometry.n_views, columns, slices)
    data = y.detach().cpu().permute(0, 2, 1)
    size = 2 * (len(response) - 1)
    for part in torch.arange(geometry.n_views).split(_VIEWS):
        weighted = pad(data[part] * weights[part, :, None], (0, 0, before, after))
        spectrum = torch.fft.rfft(weighted, n=size, dim=1) * response[:, None]
        filtered[part, _PAD:-_PAD] = torch.fft.irfft(spectrum, n=size, dim=1)[:, : wide.columns]
    out = torch.zeros(*geometry.shape[1:], slices)
    tops = range(0, geometry.shape[1], _ROWS)
    run_tasks(
        [partial(_back_project, wide, memory, out[top : top + _ROWS], top) for top in tops],
        2.0 * out.numel() * wide.n_views,
    )
    return out.permute(2, 0, 1).to(y.device)


def filter_response(geometry: CTGeometry, filter: str, cutoff: float) -> Tensor:
    """Frequency response, float32, on the frequencies of ``rfft`` of the padded detector row; includes the pixel pitch.

    The ramp is the transform of its band-limited impulse response, not ``|f|``: that would lose the mean value.
    """
    if filter not in FILTERS:
        raise UsageError("unknown filter", found=repr(filter), expected=" | ".join(FILTERS))
    if not 0 < cutoff <= 1:
        raise UsageError("the cutoff is a fraction of the Nyquist frequency", found=cutoff, expected="0 < cutoff <= 1")
    curved = geometry.kind == "fan-curved"
    pitch = geometry.column_spacing / (geometry.detector_radius if curved else 1.0)
    size = 1 << (2 * geometry.columns - 1).bit_length()
    n = np.fft.fftfreq(size, 1.0 / size)
    odd = n % 2 == 1
    impulse = np.zeros(size)
    impulse[0] = 1 / (4 * pitch**2)
    # On a curved detector distances are chords: sin(angle) instead of the angle. Places that no pair of columns can
    # be apart (half of the padding) are wrapped to keep the sine away from zero; they never meet data.
    arc = np.clip(n[odd] * pitch, -0.5 * math.pi, 0.5 * math.pi) if curved else n[odd] * pitch
    impulse[odd] = -1 / (math.pi * (np.sin(arc) if curved else arc)) ** 2
    ramp = np.fft.rfft(impulse).real * pitch
    frequency = np.linspace(0, 1, len(ramp)) / cutoff
    window = {
        "ramp": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency / 2),
        "cosine": np.cos(math.pi * frequency / 2),
        "hamming": 0.54 + 0.46 * np.cos(math.pi * frequency),
        "hann": 0.5 + 0.5 * np.cos(math.pi * frequency),
    }[filter]
    return torch.from_numpy(np.where(frequency <= 1, ramp * window, 0.0)).float()


def _data_weights(geometry: CTGeometry) -> Tensor:
    """Product of all weights that multiply the data, ``(views, columns)``."""
    weights = view_weights(geometry)[:, None] * redundancy_weights(geometry)
    if geometry.kind != "parallel":
        ratio = geometry.column_positions / geometry.detector_radius
        angle = np.arctan(ratio) if geometry.kind == "fan-flat" else ratio
        weights = weights * (geometry.source_radius * np.cos(angle) + geometry.rotation_shift * np.sin(angle))
    return torch.from_numpy(weights).float()


def detector_places(geometry: CTGeometry, rows: range) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of some rows fall on the detector, in columns, and their weights, ``(views, rows, x)`` each."""
    (_, n_y, n_x), (_, s_y, s_x) = geometry.shape, geometry.spacing
    x = (np.arange(n_x) - (n_x - 1) / 2) * s_x
    y = ((np.asarray(rows) - (n_y - 1) / 2) * s_y)[:, None]
    angle = np.asarray(geometry.angles)[:, None, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    # Single precision for the large arrays: a place is then good to 1e-4 columns of a thousand.
    columns_per_mm = np.float32(1 / geometry.column_spacing)
    centre = np.float32((geometry.columns - 1) / 2 - geometry.detector_offset / geometry.column_spacing)
    across = (x * cosine + geometry.rotation_shift).astype(np.float32) + (y * sine).astype(np.float32)
    if geometry.kind == "parallel":
        return across * columns_per_mm + centre, np.ones_like(across)
    along = (geometry.source_radius - x * sine).astype(np.float32) + (y * cosine).astype(np.float32)
    distance = np.float32(geometry.detector_radius)
    if geometry.kind == "fan-flat":
        return across / along * (distance * columns_per_mm) + centre, distance / along**2
    return np.arctan2(across, along) * (distance * columns_per_mm) + centre, 1 / (across**2 + along**2)


def _back_project(geometry: CTGeometry, memory: Tensor, out: Tensor, top: int) -> None:
    """Add the sum over views of the filtered data to the rows of ``out``, by linear interpolation between columns."""
    rows, slices = out.shape[0], out.shape[2]
    column, weight = detector_places(geometry, range(top, top + rows))
    place = np.clip(column, -1, geometry.columns) + np.float32(_PAD)
    columns = geometry.columns + 2 * _PAD
    if has_numba():
        from medrecon.physics.ct_numba import slice_chunks
        from medrecon.physics.fbp_numba import gather

        for lanes, z, count in slice_chunks(slices):
            gather(
                lanes, out.numpy().reshape(-1), memory.numpy(), place, weight, columns, slices, z, count
            )  # fmt: skip
        return
    filtered = memory[:-_SPARE].view(-1, columns, slices)
    first = np.floor(place)
    share, factor = torch.from_numpy(place - first)[..., None], torch.from_numpy(weight)[..., None]
    index = torch.from_numpy(first).long()
    for view, data in enumerate(filtered):
        out += factor[view] * torch.lerp(data[index[view]], data[index[view] + 1], share[view])
