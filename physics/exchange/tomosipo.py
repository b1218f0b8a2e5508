"""tomosipo: the arguments of ``ts.volume`` and ``ts.cone_vec``, vectors as (z, y, x).

Volumes are ours; data are ``(rows, views, columns)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medrecon.errors import InputError
from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.exchange.base import CTLike, Values, convention


def read_tomosipo(values: Values) -> ConeGeometry:
    """``{"projections": {shape, src_pos, det_pos, det_v, det_u}, "volume": {shape, pos, size}}``."""
    rays, volume = values["projections"], values["volume"]
    parts = [np.asarray(rays[name], dtype=np.float64)[:, ::-1] for name in ("src_pos", "det_pos", "det_u", "det_v")]
    z, y, x = (int(n) for n in volume["shape"])
    size_z, size_y, size_x = (float(s) for s in volume["size"])
    centre = np.asarray(volume.get("pos", (0.0, 0.0, 0.0)), dtype=np.float64).reshape(3)[::-1]
    rows, columns = (int(n) for n in rays["shape"])
    vectors = np.concatenate([parts[0] - centre, parts[1] - centre, *parts[2:]], axis=1)
    return ConeGeometry(vectors, rows, columns, (z, y, x), (size_z / z, size_y / y, size_x / x))


@convention("tomosipo", read_tomosipo, checked="against its documentation, by hand")
def export_tomosipo(geometry: CTLike) -> dict[str, Any]:
    """A cone beam with a flat detector."""
    if not isinstance(geometry, ConeGeometry) or geometry.detector != "flat":
        raise InputError("tomosipo takes cone beams with flat detectors", found=geometry.kind)
    turned = [geometry.vectors[:, i : i + 3][:, ::-1].copy() for i in (0, 3, 6, 9)]
    names = ("src_pos", "det_pos", "det_u", "det_v")
    rays = {"shape": (geometry.rows, geometry.columns), **dict(zip(names, turned, strict=True))}
    size = tuple(n * s for n, s in zip(geometry.shape, geometry.spacing, strict=True))
    return {"projections": rays, "volume": {"shape": geometry.shape, "pos": (0.0, 0.0, 0.0), "size": size}}
