"""Made-up volumes to train on: random ellipses in a body, quick to make and unlike each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.data import Geometry, Volume, write
from medrecon.training import TrainingSettings


def body(seed: int, shape: tuple[int, int, int] = (12, 40, 36), quantity: str = "HU") -> Volume:
    """An elliptic body with a few organs that change slowly along z; empty space around it."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(np.float32)
    centre = np.array(shape[1:]) / 2 + rng.uniform(-2, 2, 2)
    array = np.full(shape, -1000.0, np.float32)
    inside = np.hypot((y - centre[0]) / (0.36 * shape[1]), (x - centre[1]) / (0.4 * shape[2])) < 1
    array[inside] = rng.uniform(-20, 60)
    for _ in range(5):
        spot = centre + rng.uniform(-8, 8, 2)
        size = rng.uniform(2, 6, 2) * (1 + 0.3 * np.sin(z[..., None] / 4 + rng.uniform(0, 6)))
        organ = np.hypot((y - spot[0]) / size[..., 0], (x - spot[1]) / size[..., 1]) < 1
        array[inside & organ] = rng.uniform(-700, 900)
    if quantity != "HU":
        array = (array + 1000) * rng.uniform(0.5, 2)
    return Volume(array, Geometry.from_spacing(shape, (3.0, 4.0, 4.0)), quantity)


def corpus_folder(folder: Path, count: int = 4, first_seed: int = 0, quantity: str = "HU") -> Path:
    """A folder with ``count`` bodies as NIfTI."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        volume = body(first_seed + number, quantity=quantity)
        write(folder / f"body{number:02d}.nii.gz", volume, sidecar=number == 0)
    return folder


def small(**changes: object) -> TrainingSettings:
    """Settings of a training that takes a second or two."""
    values: dict[str, object] = {
        "steps": 12,
        "widths": (8, 16),
        "blocks": 1,
        "embedding": 16,
        "sizes": ((24, 4, 0.75), (32, 2, 0.25)),
        "guided": False,
        "pairs": 3,
        "pairs_in_background": False,
        "warm_up": 4,
        "minimum_pixels": 60,
        "checkpoint_every": 5,
        "validation_slices": 6,
        "validation_pairs": 2,
        "sampled_slices": 2,
    }
    return TrainingSettings(**(values | changes))  # type: ignore[arg-type]
