"""Sample data that are computed, not stored."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrecon.viewer.layers import Layer

SHAPE, VIEWS, PHOTONS, FINER = (16, 96, 96), 16, 1e5, 2


@lru_cache(maxsize=1)
def _folder() -> TemporaryDirectory[str]:
    """Where the files of samples stand until the program ends."""
    return TemporaryDirectory(prefix="medrecon-sample-")


def chest() -> list[Layer]:
    """A synthetic chest in HU, and its measurement with few views: a file that the widget can reconstruct."""
    from medrecon.data import write
    from medrecon.data.anatomy import anatomy
    from medrecon.physics.noise import PoissonNoise
    from medrecon.simulate import coarsened, ct_geometry, simulate_scan
    from medrecon.viewer.layers import measurement_layer, volume_layer

    z, y, x = SHAPE
    fine = anatomy("thorax", (z, y * FINER, x * FINER), seed=0)
    truth = coarsened(fine, FINER)
    scan = simulate_scan(fine, ct_geometry(truth, "parallel", VIEWS), PoissonNoise(PHOTONS), seed=0, refine=1)
    file = write(Path(_folder().name) / "chest.h5", scan, overwrite=True)
    return [volume_layer(truth, "chest, truth"), measurement_layer(scan, "chest, measured", file=str(file))]
