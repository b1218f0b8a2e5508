"""The command line in this process, on a volume small enough for seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli_fixtures import run, scan, truth  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network in a prior's files: it shrinks noise by its level and knows nothing of images."""
    import torch

    from medrecon.network import EDMDenoiser, UNetConfig
    from medrecon.prior import PriorCard, save_prior

    torch.manual_seed(1)
    config = UNetConfig(widths=(8, 16), blocks=1, embedding=16)
    card = PriorCard(
        name="tiny", quantity="HU", scale=1000.0, offset=-1000.0, sigma_min=2.0, sigma_max=2000.0,
        range=(-1000.0, 3000.0), spacing_mm=(1.0, 4.0), architecture=config.to_dict(), sigma_data=0.4,
        licence="CC0",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, EDMDenoiser(config, 0.4), card)
    return path
