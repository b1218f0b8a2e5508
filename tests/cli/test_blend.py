"""The mean of two priors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.command_line import Run
from helpers.priors import SMALL, card, random_denoiser
from medrecon.errors import UsageError
from medrecon.network import EDMDenoiser
from medrecon.prior import load_prior, save_prior
from medrecon.training.blend import blend


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    first, second = random_denoiser(), random_denoiser()
    with torch.no_grad():
        for value in second.parameters():
            value.mul_(0.5)
    save_prior(tmp_path / "one.safetensors", first, card(name="one", training={"steps": 3}), half=False)
    told = {"steps": 4, "validation": {"slices": 1}}
    save_prior(
        tmp_path / "two.safetensors", second, card(name="two", training=told, error_curve=((1.0, 2.0),)), half=False
    )
    return str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors")


def test_weights_are_the_mean_and_the_card_says_so(two: tuple[str, str], tmp_path: Path) -> None:
    written = blend(*two, tmp_path / "both.safetensors", 0.25)
    one, other, both = (load_prior(name).denoiser.state_dict() for name in (*two, str(tmp_path / "both.safetensors")))
    for key, value in both.items():
        torch.testing.assert_close(value, 0.75 * one[key] + 0.25 * other[key], rtol=2e-3, atol=1e-3)
    assert written.name == "two" and written.error_curve == () and "validation" not in written.training
    assert [part["name"] for part in written.training["blended"]] == ["one", "two"]
    assert written.training["share"] == 0.25 and written.training["steps"] == 4


def test_both_ends_are_the_priors_themselves(two: tuple[str, str], tmp_path: Path) -> None:
    for share, name in ((0.0, two[0]), (1.0, two[1])):
        blend(*two, tmp_path / "end.safetensors", share, overwrite=True)
        end, known = (load_prior(n).denoiser.state_dict() for n in (str(tmp_path / "end.safetensors"), name))
        assert all(torch.equal(value, known[key].half().float()) for key, value in end.items())


def test_the_command_and_what_it_refuses(run: Run, two: tuple[str, str], tmp_path: Path) -> None:
    assert run("priors", "blend", *two, "-o", "m.safetensors").out.startswith("m.safetensors: 50% of")
    assert run("priors", "blend", *two, "-o", "m.safetensors").code == 2  # exists
    assert run("priors", "blend", *two, "-o", "n.safetensors", "--share", 1.5).code == 2
    save_prior(tmp_path / "three.safetensors", random_denoiser(), card(name="three", scale=2.0))
    answer = run("priors", "blend", two[0], tmp_path / "three.safetensors", "-o", "n.safetensors")
    assert answer.code == 2 and "another scale" in answer.err
    wider = replace(SMALL, widths=(8, 24))
    save_prior(tmp_path / "four.safetensors", EDMDenoiser(wider, 0.4), card(architecture=wider.to_dict()))
    answer = run("priors", "blend", two[0], tmp_path / "four.safetensors", "-o", "n.safetensors")
    assert answer.code == 2 and "another network" in answer.err
    assert not (tmp_path / "n.safetensors").exists()
    with pytest.raises(UsageError, match="share"):
        blend(*two, tmp_path / "n.safetensors", -0.1)
