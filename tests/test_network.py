"""The lean U-Net: its size, its start, and the independence of a slice from the slices beside it."""

from __future__ import annotations

import pytest
import torch

from helpers.priors import SMALL, random_denoiser
from medrecon.network import EDMDenoiser, LeanUNet, NoiseEmbedding, UNetConfig, count_parameters


def slices(count: int, size: tuple[int, int] = (32, 32), channels: int = 1) -> torch.Tensor:
    return torch.randn((count, channels, *size), generator=torch.Generator().manual_seed(0))


def test_parameters_of_the_default_network_part_by_part():
    """The counts follow from the description of the architecture by hand."""
    network = LeanUNet(UNetConfig())
    parts = {
        "embedding": 33_024,
        "stem": 1_184,
        "encoder": 2_320_896,
        "down": 139_648,
        "up": 139_488,
        "decoder": 892_416,
        "head_norm": 64,
        "head": 1_156,
    }
    assert {name: count_parameters(getattr(network, name)) for name in parts} == parts
    assert count_parameters(network) == 3_527_876


def test_parameters_of_the_wider_network():
    assert count_parameters(LeanUNet(UNetConfig(widths=(64, 128, 192, 256)))) == 7_722_884


def test_the_multiple_is_the_smallest_that_runs():
    config = UNetConfig(widths=(8, 8, 8), blocks=1, embedding=8)
    assert config.multiple == 8
    assert UNetConfig().multiple == 16
    network = LeanUNet(config).eval()
    assert network(slices(1, (16, 24)), torch.zeros(1)).shape == (1, 1, 16, 24)
    with pytest.raises(RuntimeError):
        network(slices(1, (16, 20)), torch.zeros(1))


@pytest.mark.parametrize("config", [UNetConfig(), UNetConfig(channels_in=4, widths=(8, 16), stem=1)], ids=str)
@pytest.mark.parametrize("sigma", [0.01, 0.4, 20.0])
def test_an_untrained_denoiser_only_shrinks(config: UNetConfig, sigma: float):
    """``D(x, sigma) = c_skip x`` because the head starts at zero; also where guides are possible but not given."""
    denoiser = EDMDenoiser(config, sigma_data=0.4).eval()
    with torch.no_grad():
        found = denoiser(slices(2), torch.tensor([sigma]))
    torch.testing.assert_close(found, slices(2) * 0.16 / (sigma**2 + 0.16), rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", [0.01, 0.2, 20.0])
def test_an_untrained_guided_denoiser_weighs_both_by_their_variances(sigma: float):
    """Inverse-variance weighting of the noisy slice and of the middle guide; the other guides wait for training."""
    denoiser = EDMDenoiser(UNetConfig(channels_in=4, widths=(8, 16)), sigma_data=0.4, guide_error=0.1).eval()
    x, guide = slices(2), slices(2, channels=3) + 1
    with torch.no_grad():
        found = denoiser(x, torch.tensor([sigma]), guide)
    weights = sigma**-2, 0.1**-2
    expected = (x * weights[0] + guide[:, 1:2] * weights[1]) / sum(weights)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_preconditioning_matches_the_paper():
    """EDM, table 1: c_in, c_skip, c_out and c_noise, around the bare network."""
    denoiser = random_denoiser(sigma_data=0.3)
    x, sigma = slices(1, (16, 16)), 0.7
    level = (sigma**2 + 0.3**2) ** 0.5
    with torch.no_grad():
        inner = denoiser.network(x / level, torch.tensor([sigma]).log() / 4)
        found = denoiser(x, torch.tensor([sigma]))
    torch.testing.assert_close(found, 0.3**2 / level**2 * x + sigma * 0.3 / level * inner)


def test_the_network_sees_the_noise_level():
    denoiser, x = random_denoiser(), slices(1, (16, 16))
    with torch.no_grad():
        a, b = (denoiser.network(x, torch.tensor([n])) for n in (-0.5, 0.5))
    assert (a - b).abs().max() > 1e-3


def test_noise_embedding_frequencies_are_not_weights():
    """Geometric from 1/4 to 64, and left out of the file."""
    embedding = NoiseEmbedding(128)
    assert embedding.frequencies[0] == 0.25
    assert embedding.frequencies[-1] == 64
    assert "frequencies" not in embedding.state_dict()


@pytest.mark.parametrize("config", [SMALL, UNetConfig()], ids=["small", "default"])
def test_a_batch_of_eight_equals_eight_of_one(config: UNetConfig):
    """One noise number is embedded once for all slices and every norm is of one slice: nothing but rounding is left,
    because torch's convolutions and norms choose their loops by the size of the batch."""
    denoiser = random_denoiser(config).eval().to(memory_format=torch.channels_last)
    x, sigma = slices(8).contiguous(memory_format=torch.channels_last), torch.tensor([0.3])
    with torch.inference_mode():
        together = denoiser(x, sigma)
        alone = torch.cat(
            [denoiser(x[i : i + 1].contiguous(memory_format=torch.channels_last), sigma) for i in range(8)]
        )
    assert together.std() > 0.1
    assert (together - alone).abs().max() <= 2e-6 * together.abs().max()


def test_the_neighbours_in_a_batch_do_not_matter():
    """Bit for bit: the same slice among other slices, at the same place of a batch of the same size."""
    denoiser = random_denoiser().eval()
    x = slices(4)
    others = x.clone()
    others[[0, 1, 3]] *= 100
    with torch.no_grad():
        assert torch.equal(denoiser(x, torch.tensor([0.3]))[2], denoiser(others, torch.tensor([0.3]))[2])


def test_memory_formats_agree():
    """channels_last against the default format: rounding only."""
    denoiser, x, sigma = random_denoiser(UNetConfig()), slices(2), torch.tensor([0.3])
    with torch.no_grad():
        plain = denoiser(x, sigma)
        last = denoiser.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last), sigma)
    assert (plain - last).abs().max() <= 1e-5 * plain.abs().max()


def test_every_weight_is_trained():
    """A gradient reaches each parameter."""
    denoiser = random_denoiser().requires_grad_(True)
    denoiser(slices(2, (16, 16)), torch.tensor([0.2, 0.5])).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in denoiser.parameters())


def test_config_round_trip():
    config = UNetConfig(channels_in=3, widths=(8, 16), blocks=1, stem=4, embedding=32)
    assert UNetConfig.from_dict(config.to_dict()) == config
    assert isinstance(config.to_dict()["widths"], list)
