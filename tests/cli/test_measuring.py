"""`priors stats`, `search` and `suit`: facts for fast solvers in a prior's card, and errors where they are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.bodies import corpus_folder
from helpers.command_line import Run
from medrecon.prior import read_card

SHORT = ("--method", "diffpir", "--steps", 3)


def test_statistics_are_measured_stored_and_used(run: Run, tiny_prior: Path, scan: Path, tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "volumes", 1)
    wanted = ("recon", scan, *SHORT, "--set", "stepper=dpm-v3", "--set", "eta=0", "--trust", "none")
    refused = run(*wanted, "-o", "a.nii.gz", "--prior", tiny_prior)
    assert refused.code == 2 and "medrecon priors stats" in refused.err and not Path("a.nii.gz").exists()
    answer = run("priors", "stats", tiny_prior, folder, "-o", "new.safetensors", "--slices", 2, "--json")
    assert answer.code == 0, answer.err
    card = read_card("new.safetensors")
    assert card.statistics == answer.json()["statistics"]
    assert card.statistics["levels"][0] == pytest.approx(2.0) and len(card.statistics["l"]) == 24
    assert card.sha256 == read_card(str(tiny_prior)).sha256
    done = run(*wanted, "-o", "a.nii.gz", "--prior", "new.safetensors")
    assert done.code == 0, done.err
    assert "0.0" in run("priors", "stats", "new.safetensors", folder, "-o", "b.safetensors", "--slices", 1).out


def test_levels_are_searched_stored_and_used(run: Run, tiny_prior: Path, scan: Path) -> None:
    wanted = ("recon", scan, *SHORT, "--set", "schedule=searched", "--trust", "none", "-o", "a.nii.gz")
    refused = run(*wanted, "--prior", tiny_prior)
    assert refused.code == 2 and "medrecon priors search" in refused.err and "--steps 3" in refused.err
    plan = run(*wanted, "--prior", tiny_prior, "--dry-run")
    assert plan.code == 2 and "medrecon priors search" in plan.err
    search = ("priors", "search", tiny_prior, scan, "-o", "new.safetensors", "--slices", 2)
    answer = run(*search, "--method", "diffpir", "--steps", "3,4", "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json()["sequences"]
    assert (first["steps"], len(first["levels"]), second["steps"], len(second["levels"])) == (3, 3, 4, 4)
    assert first["error"] <= min(first["errors"].values())
    done = run(*wanted, "--prior", "new.safetensors")
    assert done.code == 0, done.err
    assert json.loads(Path("a.json").read_text())["settings"]["sequence"] == first["levels"]
    missing = run(*wanted, "--prior", "new.safetensors", "--overwrite", "--set", "steps=3", "--steps", 5)
    assert missing.code == 2
    again = run("priors", "search", "new.safetensors", scan, "-o", "new.safetensors", "--overwrite", *SHORT)
    assert again.code == 0 and [e["steps"] for e in read_card("new.safetensors").sequences] == [4, 3]
    assert "searched levels for diffpir 4, diffpir 3" in run("priors", "show", "new.safetensors").out


def test_settings_that_suit_a_prior_are_stored_and_used(run: Run, tiny_prior: Path, scan: Path) -> None:
    suit = ("priors", "suit", tiny_prior, "-o", "new.safetensors", "--method", "pnp", "--set", "steps=2")
    answer = run(*suit, "--set", "trust=0.3", "--json")
    assert answer.code == 0 and answer.json()["settings"] == {"pnp": {"steps": 2, "trust": 0.3}}, answer.err
    assert "pnp: steps=2, trust=0.3" in run("priors", "show", "new.safetensors").out
    wanted = ("recon", scan, "--method", "pnp", "--trust", "none", "--prior", "new.safetensors")
    assert run(*wanted, "-o", "a.nii.gz").code == 0
    assert run(*wanted, "-o", "b.nii.gz", "--set", "trust=0.6").code == 0
    used = [json.loads(Path(f"{name}.json").read_text())["settings"] for name in "ab"]
    assert [(s["steps"], s["trust"]) for s in used] == [(2, 0.3), (2, 0.6)]
    more = ("priors", "suit", "new.safetensors", "-o", "more.safetensors", "--method", "pnp+directions")
    assert run(*more, "--set", "directions=[0,1,2]").code == 0
    assert list(read_card("more.safetensors").settings) == ["pnp", "pnp+directions"]
    forget = run("priors", "suit", "new.safetensors", "-o", "new.safetensors", "--overwrite", "--method", "pnp")
    assert forget.code == 0 and read_card("new.safetensors").settings == {}


@pytest.mark.parametrize("words", [("--method", "pnpp"), ("--method", "pnp", "--set", "trus=1")])
def test_settings_that_no_method_has_are_not_stored(run: Run, tiny_prior: Path, words: tuple[str, ...]) -> None:
    answer = run("priors", "suit", tiny_prior, "-o", "new.safetensors", *words)
    assert answer.code == 2 and "Did you mean" in answer.err and not Path("new.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "diffpirr"), "Did you mean diffpir"),
        (("--method", "mbir"), "follows no flow"),
        (("--method", "pnp"), "follows no flow"),
        (("--steps", "2"), "3 or more"),
        (("--steps", "2.5"), "positive whole numbers"),
        (("--set", "schedul=log"), "Did you mean schedule"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    run: Run, tiny_prior: Path, scan: Path, words: tuple[str, ...], said: str
) -> None:
    answer = run("priors", "search", tiny_prior, scan, "-o", "new.safetensors", "--slices", 1, *words)
    assert answer.code == 2 and said in answer.err, answer.err
    assert not Path("new.safetensors").exists()


def test_nothing_is_overwritten_unasked(run: Run, tiny_prior: Path, scan: Path, tmp_path: Path) -> None:
    Path("new.safetensors").write_text("kept")
    for words in (("stats", tiny_prior, tmp_path), ("search", tiny_prior, scan)):
        answer = run("priors", *words, "-o", "new.safetensors")
        assert answer.code == 2 and "new.safetensors" in answer.err
    assert Path("new.safetensors").read_text() == "kept"


def test_a_folder_without_volumes_is_refused(run: Run, tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = run("priors", "stats", tiny_prior, tmp_path / "empty", "-o", "new.safetensors")
    assert answer.code == 3 and "no volume" in answer.err
