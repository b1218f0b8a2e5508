"""Calling the command line in tests, and a volume small enough for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medrecon.data import Geometry, Volume

SHAPE, SPACING = (6, 24, 24), (3.0, 2.0, 2.0)


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> dict:
        """stdout as the one JSON object that it must be."""
        return json.loads(self.out)


Run = Callable[..., Answer]


def body(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING) -> Volume:
    """A lopsided body of water with a lung and a bone, in air."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    array = np.full(shape, -1000.0, dtype=np.float32)
    array[(x / 0.8) ** 2 + (y / 0.65) ** 2 < 1] = 0.0
    array[((x - 0.3) / 0.25) ** 2 + (y / 0.3) ** 2 + 0.1 * z < 1] = -700.0
    array[((x + 0.4) / 0.15) ** 2 + ((y - 0.2) / 0.15) ** 2 < 1] = 500.0
    return Volume(array, Geometry.from_spacing(shape, spacing), "HU")
