"""The command line in this process, on a volume small enough for seconds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.command_line import Answer, Run, body
from medrecon.cli import main
from medrecon.data import write


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Run a command with its files in an empty folder."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)  # `main` takes it over for the rest of its process

    def command(*words: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        return Answer(int(end.value.code or 0), captured.out, captured.err)

    yield command
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A volume in a file."""
    return write(tmp_path / "truth.nii.gz", body())


@pytest.fixture
def scan(run: Run, truth: Path, tmp_path: Path) -> Path:
    """A scan of it, of 12 views with photon noise."""
    path = tmp_path / "scan.h5"
    assert run("simulate", "ct", truth, "-o", path, "--views", 12, "--photons", "1e5").code == 0
    return path


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
