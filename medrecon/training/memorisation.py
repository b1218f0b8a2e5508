"""Whether a prior gives back slices that it was trained on.

Slices are compared by their shape alone: cut to the object, brought to one size, so that place and scale do not hide a
copy. The measure is how near new real slices come to the training slices: what comes much nearer than that is a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch.nn import functional

from medrecon.training.corpus import OBJECT, Corpus

_SIDE = 32
_MOST = 60_000  # training slices that are looked at
_COPY = 0.5  # nearer than this share of the nearest twentieth of new slices
_TOGETHER = 4096


def signature(image: np.ndarray) -> np.ndarray | None:
    """A slice cut to its object, squared by empty borders and reduced to 32 x 32 pixels; None if it is empty."""
    occupied = np.abs(image) > OBJECT
    rows, columns = np.flatnonzero(occupied.any(1)), np.flatnonzero(occupied.any(0))
    if len(rows) < 2 or len(columns) < 2:
        return None
    part = np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dtype=np.float32)
    height, width = part.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.pad(part, ((top, side - height - top), (left, side - width - left)))
    small = functional.interpolate(
        torch.from_numpy(square)[None, None], size=(_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    return small[0, 0].numpy().ravel()


def signatures(images: Iterable[np.ndarray]) -> np.ndarray:
    """Of all slices that are not empty, ``(n, 1024)``."""
    found = [s for s in map(signature, images) if s is not None]
    return np.stack(found) if found else np.zeros((0, _SIDE * _SIDE), np.float32)


def nearest(queries: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Root-mean-square distance of each query, or of its mirror image, to the nearest known slice."""
    if not len(queries) or not len(known):
        return np.full(len(queries), np.inf)
    mirrored = queries.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(queries.shape)
    best = np.full(len(queries), np.inf)
    for first in range(0, len(known), _TOGETHER):
        part = known[first : first + _TOGETHER].astype(np.float64)
        squares = (part**2).sum(1)
        for version in (queries, mirrored):
            wide = version.astype(np.float64)
            distance = (wide**2).sum(1)[:, None] - 2 * wide @ part.T + squares
            best = np.minimum(best, distance.min(1))
    return np.sqrt(np.maximum(best, 0) / queries.shape[1])


def memorisation(
    candidates: Mapping[str, Iterable[np.ndarray]], training: Corpus, validation: Iterable[np.ndarray]
) -> dict[str, object]:
    """How near candidates come to the training slices, compared with new real slices.

    Parameters
    ----------
    candidates
        Slices ``(h, w)`` in network units by kind, for instance ``{"sampled": ..., "denoised": ...}``.
    validation
        Real slices that were not trained on.

    Returns
    -------
    dict
        Distances relative to the median of the validation slices; for each kind the median, the smallest and the
        number of copies: slices nearer than half the fifth percentile of the validation slices.
    """
    stride = max(1, len(training) // _MOST)
    known = signatures(training.slice(i) for i in range(0, len(training), stride))
    real = nearest(signatures(validation), known)
    if not len(real):
        return {}
    unit = float(np.median(real)) or 1.0
    limit = _COPY * float(np.percentile(real, 5))
    report: dict[str, object] = {
        "training_slices": len(known),
        "validation_slices": len(real),
        "unit": unit,
        "validation_smallest": float(real.min()) / unit,
        "copy_below": limit / unit,
    }
    for kind, images in candidates.items():
        distance = nearest(signatures(images), known)
        if len(distance):
            report[kind] = {
                "slices": len(distance),
                "median": float(np.median(distance)) / unit,
                "smallest": float(distance.min()) / unit,
                "copies": int((distance < limit).sum()),
            }
    return report
