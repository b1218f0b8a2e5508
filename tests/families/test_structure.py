"""The architecture is found from names and shapes alone, at the sizes of the published networks too."""

from __future__ import annotations

import pytest
import torch

from medrecon.families import checkpoint_families
from medrecon.families.base import Checkpoint, Settings
from medrecon.families.importing import recognised
from medrecon.network import count_parameters

NCSNPP = {
    "channels": 1, "width": 128, "mult": [1, 2, 2, 2], "blocks": 4, "attention": [], "pyramid": True,
    "fir": [1.0, 3.0, 3.0, 1.0], "rescale": 0.5**0.5, "centred": False, "over_sigma": True,
}  # fmt: skip
ADM = {
    "channels": 1, "channels_out": 2, "width": 256, "mult": [1, 1, 2, 2, 4, 4], "blocks": 1, "attention": [4],
    "film": True, "resample_in_block": True, "heads": 0, "head_channels": 64, "new_attention_order": False,
}  # fmt: skip
EDM = {
    "kind": "dhariwal", "channels": 2, "width": 128, "embedding": 512, "mult": [1, 1, 1, 2, 2], "blocks": 1,
    "attention": [4], "taps": 2, "size": 320,
}  # fmt: skip
DRUNET = {"channels": 3, "widths": [64, 128, 256, 512], "blocks": 4}

CONFIGS = [
    ("ncsnpp", NCSNPP),
    ("ncsnpp", NCSNPP | {"width": 32, "mult": [1, 2], "blocks": 1, "attention": [0, 1], "pyramid": False}),
    ("ncsnpp", NCSNPP | {"width": 32, "mult": [2, 1, 3], "blocks": 2, "attention": [1], "channels": 2}),
    ("adm", ADM),
    ("adm", ADM | {"channels": 2, "channels_out": 4, "attention": []}),
    ("adm", ADM | {"width": 64, "mult": [1, 2], "blocks": 3, "attention": [0, 1], "film": False}),
    ("adm", ADM | {"width": 64, "mult": [1, 2, 3, 4], "blocks": 2, "attention": [2, 3], "resample_in_block": False}),
    ("adm", ADM | {"width": 64, "mult": [2], "blocks": 2, "attention": [0], "resample_in_block": False}),
    ("adm", ADM | {"width": 128, "mult": [0.5, 1], "blocks": 2, "attention": [1]}),
    ("edm", EDM),
    ("edm", EDM | {"channels": 1, "mult": [1, 2, 3, 4], "blocks": 3, "attention": [1, 2, 3], "size": 256}),
    ("edm", EDM | {"kind": "song", "mult": [1, 2, 2], "blocks": 4, "attention": [1], "size": 64}),
    ("drunet", DRUNET),
    ("drunet", DRUNET | {"widths": [8, 16, 24, 32], "blocks": 1, "channels": 1}),
]


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_the_structure_is_found_again(name: str, config: dict) -> None:
    """Built without memory for the weights, taken apart, and read back."""
    family = checkpoint_families()[name]
    with torch.device("meta"):
        weights = dict(family.network(config).state_dict())
    checkpoint = Checkpoint("x.pt", weights)
    assert recognised(checkpoint)[0] == name
    assert family.share(checkpoint) == 1
    found = family.read(checkpoint, Settings({}, name))
    assert found.config == config
    assert found.channels == config["channels"]


@pytest.mark.parametrize(
    ("name", "config", "millions", "tensors"),
    [("ncsnpp", NCSNPP, 61.43, 521), ("adm", ADM, 374.0, 362),
     ("adm", ADM | {"channels": 2, "channels_out": 4, "attention": []}, 361.4, 344)],
)  # fmt: skip
def test_sizes_of_published_networks(name: str, config: dict, millions: float, tensors: int) -> None:
    """Those of DiffusionMBIR (one more in its file: the noise levels) and of DDS for CT and MRI, as counted there."""
    with torch.device("meta"):
        network = checkpoint_families()[name].network(config)
    assert count_parameters(network) / 1e6 == pytest.approx(millions, abs=0.05)
    assert len(network.state_dict()) == tensors


def test_every_network_of_this_package_is_tested() -> None:
    assert {name for name, _ in CONFIGS} == set(checkpoint_families()) - {"diffusers", "monai"}  # the libraries' own
