"""Importing a checkpoint in the process of the test, and values in HU beside those of a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from medrecon.families.importing import Facts, converted
from medrecon.prior import NetworkPrior, PriorCard, load_prior, write_prior

FACTS = Facts(quantity="HU", range=(-1000.0, 2000.0), spacing_mm=(0.7, 0.9), network_range=(-1.0, 1.0))
UNIT = replace(FACTS, network_range=(0.0, 1.0))


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def imported(path: Path, facts: Facts, **settings: object) -> NetworkPrior:
    """Converted in this process and loaded like any other prior."""
    answer: dict = {}
    target = path.with_name(f"{path.name}.safetensors")
    facts = replace(facts, settings=settings)

    def weights(stand_in: Path) -> None:
        answer.update(converted(path, stand_in, facts))

    write_prior(target, weights, lambda: PriorCard.from_dict(answer["card"]))
    return load_prior(str(target))


def slices(facts: Facts, size: int = 16) -> tuple[Tensor, Tensor]:
    """Noisy slices in HU and the same in the network's range, one formula beside the other."""
    low, high = facts.range
    assert facts.network_range is not None
    bottom, top = facts.network_range
    physical = low + (high - low) * torch.rand(2, 1, size, size) + 100 * torch.randn(2, 1, size, size)
    return physical, bottom + (physical - low) / (high - low) * (top - bottom)


def hounsfield(network: Tensor, facts: Facts) -> Tensor:
    low, high = facts.range
    assert facts.network_range is not None
    bottom, top = facts.network_range
    return low + (network - bottom) / (top - bottom) * (high - low)


def assert_close(found: Tensor, expected: Tensor, noisy: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to rounding, and not because nothing happened."""
    spread = float(expected.std())
    assert (found - expected).abs().max() < tolerance * max(spread, 1000)
    assert (found - noisy).abs().max() > 1e-2 * spread
