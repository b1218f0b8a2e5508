"""`train`: a prior from a folder, and what is refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.command_line import Run, body
from medrecon.data import Geometry, Volume, write
from medrecon.training import TrainingSettings

TINY = (
    "--no-guided", "--widths", "8,16", "--set", "blocks=1", "--set", "embedding=16",
    "--set", "sizes=[[16, 2, 1.0]]", "--set", "minimum_pixels=20", "--set", "validation_slices=2",
    "--set", "sampled_slices=2", "--set", "licence=CC0",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small bodies."""
    made = tmp_path / "volumes"
    made.mkdir()
    for number in range(4):
        volume = body((6, 32, 32))
        geometry = Geometry.from_spacing((6, 32, 32), (3.0, 4.0, 4.0))
        write(made / f"{number}.nii.gz", Volume(volume.array + 10.0 * number, geometry, "HU"))
    return made


def test_training_writes_a_prior_that_reconstructs(run: Run, folder: Path, scan: Path) -> None:
    answer = run("train", folder, "-o", "mine.safetensors", "--steps", 4, *TINY, "--json")
    assert answer.code == 0, answer.err
    card = json.loads(Path("mine.json").read_text())
    assert card["sha256"] == answer.json()["sha256"]
    assert (card["quantity"], card["licence"]) == ("HU", "CC0")
    assert (card["architecture"]["widths"], card["architecture"]["channels_in"]) == ([8, 16], 1)
    assert run("priors", "verify", "mine.safetensors").code == 0
    words = ("--method", "dds", "--prior", "mine.safetensors", "--steps", 2)
    assert run("recon", scan, "-o", "r.nii.gz", *words).code == 0
    again = run("train", folder, "-o", "mine.safetensors", "--steps", 4, *TINY)
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--set", "stepps=3"], 2, "steps"),
        (["--set", "widths=7.5"], 2, "training setting"),
        (["--steps", "3", "--minutes", "1"], 2, "minutes"),
        *(
            (["--widths", text], 2, "such as 48,96,160,224")
            for text in ("48,wide", "48;96", "", "48,,96", "0,8", "-8,16", "4.5", "٤٨")
        ),
        (["--widths", "9,16"], 2, "divided into groups"),
        (["--widths", "8,16", "--set", "widths=[8, 16]"], 2, "given twice"),
        (["--guided", "--set", "guided=false"], 2, "given twice"),
        (["--init", "no-such-prior", "--steps", "3"], 2, "prior"),
    ],
)
def test_senseless_trainings_are_refused(run: Run, folder: Path, words: list[str], code: int, named: str) -> None:
    answer = run("train", folder, "-o", "mine.safetensors", *words)
    assert answer.code == code, answer.err
    assert named in answer.err
    assert not Path("mine.safetensors").exists()


def test_empty_folder_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = run("train", "empty", "-o", "mine.safetensors", "--steps", 2)
    assert answer.code == 3
    assert "empty" in answer.err


@pytest.mark.parametrize(("word", "guided"), [("--guided", True), ("--no-guided", False), (None, True)])
def test_options_and_settings_say_the_same(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, word: str | None, guided: bool
) -> None:
    seen = []

    def record(settings: TrainingSettings, *_: object, **__: object) -> None:
        seen.append(settings)

    monkeypatch.setattr("medrecon.training.train", record)
    words = [word] if word else []
    assert run("train", folder, "-o", "a.safetensors", "--widths", " 16, 32", *words).code == 130  # `record` ends early
    assert (seen[0].widths, seen[0].guided) == ((16, 32), guided)
    said = [] if word is None else ["--set", f"guided={str(guided).lower()}"]
    run("train", folder, "-o", "a.safetensors", "--set", "widths=[16, 32]", *said)
    assert seen[0] == seen[1]
