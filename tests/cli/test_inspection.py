"""`methods`, `priors`, `doctor`: about the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.command_line import Run
from helpers.priors import SMALL, card
from medrecon.cli.card_text import card_text
from medrecon.samplers import samplers


def test_every_registered_method_is_listed(run: Run) -> None:
    listed = {row["name"]: row for row in run("methods", "--json").json()["methods"]}
    assert set(listed) == {"auto", *samplers.names()}
    assert listed["dds"]["needs_prior"]
    assert not listed["tv"]["needs_prior"]
    assert all(row["summary"] for row in listed.values())
    text = run("methods").out
    assert all(name in text for name in listed)


@pytest.mark.parametrize("name", samplers.names())
def test_settings_of_every_method(run: Run, name: str) -> None:
    assert run("methods", name, "--json").json()["settings"] or name == "linear"  # which has none
    assert name in run("methods", name).out


def test_a_prior_in_a_file(run: Run, tiny_prior: Path) -> None:
    card = run("priors", "show", tiny_prior, "--json").json()
    assert (card["quantity"], card["licence"]) == ("HU", "CC0")
    assert "CC0" in run("priors", "show", tiny_prior).out
    assert run("priors", "verify", tiny_prior, "--json").json()["priors"][0]["verified"]


def test_a_card_is_readable_on_a_terminal(run: Run) -> None:
    """Every bundled prior: the facts, one row a noise level, and no list of hundreds of files."""
    for name in (entry["name"] for entry in run("priors", "list", "--json").json()["priors"]):
        card = run("priors", "show", name, "--json").json()
        lines = run("priors", "show", name).out.splitlines()
        assert len(lines) < 45
        assert max(map(len, lines[1:])) <= 120
        rows = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines if "  " in line}
        assert rows["quantity"] == card["quantity"]
        unit = "" if card["quantity"] == "a.u." else f" {card['quantity']}"
        assert rows["range"] == f"{card['range'][0]:g} to {card['range'][1]:g}{unit}"
        assert rows["pixels"] == " to ".join(dict.fromkeys(f"{size:g}" for size in card["spacing_mm"])) + " mm"
        assert rows["SHA-256"] == card["sha256"]
        assert rows["licence"] == card["licence"]
        for level, error in card["error_curve"]:
            assert any(line.split()[:2] == [f"{level:g}", f"{error:.4g}"] for line in lines)


def test_the_card_of_a_training_tells_its_figures() -> None:
    """As `train` writes it: levels in the network's unit, total variation beside, the search for copies."""
    validation = {
        "denoising_psnr": {"network": {"0.02": 40.0, "0.2": 30.123}, "tv": {"0.02": 39.0, "0.2": 28.5}},
        "memorisation": {"unit": 0.1, "sampled": {"slices": 16, "copies": 0}, "denoised": {"slices": 48, "copies": 1}},
        "error_curve": {"0.02": 0.01},
    }
    training = {
        "volumes": 3,
        "slices": 40,
        "steps": 7,
        "cpu_seconds": 120,
        "validation": validation,
        "history": [1] * 99,
    }
    made = card(
        quantity="HU", scale=1000.0, offset=-1000.0, error_curve=((20.0, 10.0), (200.0, 50.0)), training=training,
        architecture=SMALL.to_dict() | {"channels_in": 4},
    )  # fmt: skip
    lines = [line.split() for line in card_text(made).splitlines()]
    assert ["200", "50", "30.12", "28.50"] in lines
    assert ["data", "3", "volumes,", "40", "slices"] in lines
    assert ["training", "7", "steps,", "2", "core-minutes"] in lines
    assert ["copied", "slices", "0", "of", "16", "sampled,", "1", "of", "48", "denoised"] in lines
    assert ["guide", "3", "slices", "of", "a", "classical", "volume;", "works", "without"] in lines
    assert ["licence", "not", "said"] in lines


def test_a_card_without_figures() -> None:
    text = card_text(card(modality=""))
    assert "none" in text and "not said" in text and "PSNR" not in text


def test_damaged_weights_are_found(run: Run, tiny_prior: Path) -> None:
    damaged = bytearray(tiny_prior.read_bytes())
    damaged[-3] ^= 1
    Path("tiny.safetensors").write_bytes(damaged)
    Path("tiny.json").write_bytes(tiny_prior.with_suffix(".json").read_bytes())
    answer = run("priors", "verify", "tiny.safetensors")
    assert answer.code == 3
    assert "tiny.safetensors" in answer.err


def test_bundled_priors_are_listed_and_whole(run: Run) -> None:
    listed = run("priors", "list", "--json").json()["priors"]
    verified = run("priors", "verify", "--json").json()["priors"]
    assert [entry["name"] for entry in listed] == [entry["name"] for entry in verified]
    assert all(entry["sha256"] and entry["licence"] for entry in listed)


def test_doctor(run: Run) -> None:
    values = run("doctor", "--json").json()
    assert values["versions"]["torch"]
    assert set(values["extras"]) == {
        "ct",
        "mri",
        "seismic",
        "train",
        "priors",
        "viewer",
        "dicom",
        "rings",
        "siemens",
        "zarr",
    }
    for state in values["extras"].values():
        assert state == "present" or "pip install 'medrecon[" in state
    assert "torch" in run("doctor").out
