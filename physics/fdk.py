r"""Feldkamp's filtered back-projection for circular cone beams.

The steps are those of a fan (medrecon.physics.fbp) with the obliquity of each ray as a further weight: weight the data
by the cosine of the angle to the central ray, filter along detector rows with the ramp, weight by the inverse square
of the depth of the voxel, sum over views. Exact in the plane of the source, approximate elsewhere; what the circle
does not measure darkens slices far from it.

============ ==================================================== ================= =======================
detector     weight of the data                                   filter            weight of a voxel
============ ==================================================== ================= =======================
flat         :math:`(R D + s u) / \sqrt{D^2 + u^2 + v^2}`         h(u)              1 / (D depth^2)
curved       :math:`R \cos\gamma\, D / \sqrt{D^2 + v^2}`          h(sin(gamma))     1 / (D depth)^2
============ ==================================================== ================= =======================

:math:`R` and :math:`D` are the distances from the source to the axis and to the detector, :math:`s` the shift of the
axis. Short scans have Parker's weights, offset detectors (half-fan) those of Wang, both as functions of the column.

References
----------
L. A. Feldkamp, L. C. Davis, J. W. Kress, J. Opt. Soc. Am. A 1, 612-619 (1984).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.fbp import filter_response
from medrecon.physics.fbp_weights import redundancy_weights, symmetric_detector, view_weights
from medrecon.physics.linop import Space
from medrecon.physics.threads import run_tasks

_VIEWS = 16
_ROWS = 4


def fdk(geometry: ConeGeometry, y: Tensor, filter: str = "ramp", cutoff: float = 1.0) -> Tensor:
    """Feldkamp reconstruction of line integrals.

    Parameters
    ----------
    geometry
        A circular scan: full, short or limited, with an offset or slightly tilted detector, or a shifted axis.
    y
        Line integrals ``(views, rows, columns)``, float32.
    filter, cutoff
        As in :func:`medrecon.physics.fbp.fbp`.

    Returns
    -------
    Tensor
        Volume ``(z, y, x)`` in 1/mm, slices innermost in memory.

    Raises
    ------
    InputError
        The source does not run on a circle around the z axis; data of another shape or dtype.
    UsageError
        Unknown filter, or a cutoff outside (0, 1].
    """
    from medrecon.physics.cone_kernels import AFTER, BEFORE
    from medrecon.physics.cone_lanes import WIDTH
    from medrecon.physics.fdk_kernels import gather_any, gather_upright

    Space(geometry.data_shape).check(y, "projections")
    fan = geometry.central_fan()
    wide, before, after = symmetric_detector(fan)
    response = filter_response(wide, filter, cutoff)
    lines = torch.from_numpy(view_weights(fan)[:, None] * redundancy_weights(fan)).float()
    obliquity = _obliquity(geometry, fan)
    down = geometry.axial and bool(geometry.up[0, 2] < 0)
    size = 2 * (len(response) - 1)
    tail = -geometry.rows % WIDTH + AFTER
    filtered = torch.zeros(geometry.n_views, wide.columns + 2, BEFORE + geometry.rows + tail)
    data = y.detach().cpu().permute(0, 2, 1)
    for part in torch.arange(geometry.n_views).split(_VIEWS):
        weighted = pad(data[part] * lines[part, :, None] * obliquity, (0, 0, before, after))
        spectrum = torch.fft.rfft(weighted, n=size, dim=1) * response[:, None]
        rows = torch.fft.irfft(spectrum, n=size, dim=1)[:, : wide.columns]
        filtered[part, 1:-1, BEFORE : BEFORE + geometry.rows] = rows.flip(2) if down else rows
    out = torch.zeros(*geometry.shape[1:], geometry.shape[0])
    frames, curved = _frames(geometry, down)
    gather = gather_upright if geometry.axial else gather_any
    where = (wide.columns, geometry.rows, 0.5 * (geometry.columns - 1) + before, curved)
    run_tasks(
        [
            partial(gather, out[top : top + _ROWS].numpy(), filtered.numpy().reshape(-1), frames, top, *where)
            for top in range(0, geometry.shape[1], _ROWS)
        ],
        8.0 * out.numel() * geometry.n_views,
    )
    distance = fan.detector_radius
    out *= 1 / distance if geometry.detector == "flat" else 1 / distance**2
    return out.permute(2, 0, 1).to(y.device)


def _obliquity(geometry: ConeGeometry, fan: CTGeometry) -> Tensor:
    """Weight of every detector pixel, ``(columns, rows)``."""
    height = float((((geometry.centre - geometry.source) * geometry.up).sum(axis=1)).mean())
    v = height + (np.arange(geometry.rows) - (geometry.rows - 1) / 2) * float(geometry.row_pitch.mean())
    u, distance = fan.column_positions[:, None], fan.detector_radius
    if fan.kind == "fan-flat":
        weights = (fan.source_radius * distance + fan.rotation_shift * u) / np.sqrt(distance**2 + u**2 + v**2)
    else:
        angle = u / distance
        across = fan.source_radius * np.cos(angle) + fan.rotation_shift * np.sin(angle)
        weights = across * distance / np.sqrt(distance**2 + v**2)
    return torch.from_numpy(weights).float()


def _frames(geometry: ConeGeometry, down: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the back-projection reads of every view; with ``down``, detector rows are counted from the other end."""
    turn = -1.0 if down else 1.0
    axes = np.stack(
        [geometry.vectors[:, 6:9], turn * geometry.vectors[:, 9:12], geometry.centre - geometry.source], axis=2
    )
    inverse = np.linalg.inv(axes)
    spacing = np.array(geometry.spacing)[::-1]
    corner = -0.5 * (np.array(geometry.shape)[::-1] - 1) * spacing
    offset = (inverse @ (corner - geometry.source)[:, :, None])[..., 0]
    frames = np.concatenate([inverse * spacing, offset[:, :, None]], axis=2)
    curved = np.zeros((geometry.n_views, 2))
    if geometry.detector == "curved":
        curved[:, 0] = geometry.source_detector / geometry.column_pitch
        curved[:, 1] = turn * ((geometry.centre - geometry.source) * geometry.up).sum(axis=1) / geometry.row_pitch
    return np.ascontiguousarray(frames), curved
