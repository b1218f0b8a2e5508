"""`priors import`: a checkpoint in, a prior out, and every way in which it can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helpers import published
from helpers.command_line import Run

FACTS = ("--range", "-1000", "2000", "--spacing", "1,4", "--quantity", "HU")


@pytest.fixture(scope="module")
def drunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser that does nothing much: random weights of a thousandth."""
    weights = published.random_weights(published.drunet_shapes())
    path = tmp_path_factory.mktemp("published") / "drunet_gray.pth"
    torch.save({key: 1e-3 * value for key, value in weights.items()}, path)
    return path


def test_a_checkpoint_becomes_a_prior_and_reconstructs(run: Run, drunet: Path, scan: Path) -> None:
    """Converted, shown, verified and used, like any prior."""
    answer = run("priors", "import", drunet, *FACTS, "-o", "drunet.safetensors", "--licence", "MIT", "--json")
    assert answer.code == 0, answer.err
    said = answer.json()
    assert said["family"] == "drunet" and said["architecture"]["predicts"] == "D"
    card = run("priors", "show", "drunet.safetensors", "--json").json()
    assert (card["name"], card["licence"], card["modality"]) == ("drunet", "MIT", "ct")
    assert (card["range"], card["spacing_mm"]) == ([-1000, 2000], [1, 4])
    assert (card["scale"], card["offset"]) == (1000, -1000)
    assert card["sigma_max"] == pytest.approx(3000 * 50 / 255)
    assert card["training"]["imported"]["source"] == "drunet_gray.pth"
    assert len(card["training"]["imported"]["source_sha256"]) == 64
    assert "drunet, predicts D" in run("priors", "show", "drunet.safetensors").out
    assert run("priors", "verify", "drunet.safetensors").code == 0
    done = run("recon", scan, "-o", "out.nii.gz", "--method", "pnp", "--prior", "drunet.safetensors", "--steps", 2)
    assert done.code == 0, done.err
    record = json.loads(Path("out.json").read_text())
    assert record["run"]["prior"] == "drunet"


def test_a_prior_that_removes_no_noise_is_remarked(run: Run, tmp_path: Path) -> None:
    weights = {key: 0 * value for key, value in published.random_weights(published.drunet_shapes()).items()}
    torch.save(weights, tmp_path / "zero.pth")
    answer = run("priors", "import", tmp_path / "zero.pth", *FACTS, "-o", "zero.safetensors")
    assert answer.code == 0 and "warning" in answer.err and "--network-range" in answer.err


def test_nothing_is_overwritten_unasked(run: Run, drunet: Path) -> None:
    for name in ("a.safetensors", "a.json"):
        Path(name).write_text("kept")
        answer = run("priors", "import", drunet, *FACTS, "-o", "a.safetensors")
        assert answer.code == 2 and name in answer.err
        assert Path(name).read_text() == "kept"
        Path(name).unlink()
    assert run("priors", "import", drunet, *FACTS, "-o", "a.pt").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--range", "5", "1", "--spacing", "1", "--quantity", "HU"), "its lower end first"),
        (("--range", "0", "1", "--spacing", "-1", "--quantity", "HU"), "positive sizes"),
        (("--range", "0", "1", "--spacing", "1", "--quantity", "ppm"), "unknown quantity"),
        ((*FACTS, "--network-range", "1", "-1"), "its lower end first"),
    ],
)
def test_wrong_facts(run: Run, drunet: Path, words: tuple[str, ...], message: str) -> None:
    answer = run("priors", "import", drunet, *words, "-o", "a.safetensors")
    assert answer.code == 2 and message in answer.err
    assert not [path for path in Path().iterdir() if path.name.startswith((".a", "a."))]


def test_another_family_is_named(run: Run, drunet: Path) -> None:
    answer = run("priors", "import", drunet, *FACTS, "--family", "adm", "-o", "a.safetensors")
    assert answer.code == 3
    assert "drunet_gray.pth: this does not look like a checkpoint of adm; found 100% of the names" in answer.err
    assert "--family drunet" in answer.err


def test_a_pickle_is_refused_and_never_run(run: Run, tmp_path: Path) -> None:
    """Its program would leave a file behind."""
    trace = tmp_path / "trace"
    program = f"cposix\nsystem\n(S'touch {trace}'\ntR.".encode()
    (tmp_path / "network.pkl").write_bytes(program)
    answer = run("priors", "import", tmp_path / "network.pkl", *FACTS, "-o", "a.safetensors")
    assert answer.code == 3
    assert "network.pkl" in answer.err and "state_dict()" in answer.err
    assert not trace.exists()
    assert not Path("a.safetensors").exists()


def test_a_limit_of_time(run: Run, drunet: Path) -> None:
    answer = run("priors", "import", drunet, *FACTS, "-o", "a.safetensors", "--minutes", "0.001")
    assert answer.code == 3 and "more than 0.001 minutes" in answer.err
    assert not [path for path in Path().iterdir() if path.name.startswith((".a", "a."))]
