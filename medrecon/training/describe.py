"""Slices of a folder of volumes as a prior knows them, to measure it on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medrecon.prior import PriorCard
from medrecon.training.corpus import load_corpus
from medrecon.training.settings import Intensity


def slices_for(card: PriorCard, folder: Path, count: int) -> list[Tensor]:
    """``count`` slices at most, spread evenly over the volumes of a folder: ``(h, w)``, network units of the prior.

    Raises InputError where the folder holds no volumes of the prior's quantity.
    """
    intensity = Intensity.of(card.quantity)
    if intensity.scale is not None:
        ends = [(value - card.offset) / card.scale for value in card.range]
        intensity = Intensity(card.quantity, scale=card.scale, offset=card.offset, low=min(0, ends[0]), high=ends[1])
    with tempfile.TemporaryDirectory() as cache:
        corpus = load_corpus(folder, Path(cache), intensity=intensity)
        numbers = np.unique(np.linspace(0, len(corpus) - 1, count).round().astype(int))
        return [torch.from_numpy(corpus.slice(int(number))) for number in numbers]
