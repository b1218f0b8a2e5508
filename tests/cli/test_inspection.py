"""`methods`, `priors`, `doctor`: about the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.command_line import Run
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
    assert run("methods", name, "--json").json()["settings"]
    assert name in run("methods", name).out


def test_a_prior_in_a_file(run: Run, tiny_prior: Path) -> None:
    card = run("priors", "show", tiny_prior, "--json").json()
    assert (card["quantity"], card["licence"]) == ("HU", "CC0")
    assert "CC0" in run("priors", "show", tiny_prior).out
    assert run("priors", "verify", tiny_prior, "--json").json()["priors"][0]["verified"]


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
    assert set(values["extras"]) == {"ct", "mri", "seismic", "train", "viewer", "dicom"}
    for state in values["extras"].values():
        assert state == "present" or "pip install 'medrecon[" in state
    assert "torch" in run("doctor").out
