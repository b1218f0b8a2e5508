"""`medrecon train` and the curve of quality against budget."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from helpers.bodies import corpus_folder
from medrecon.cli import main
from medrecon.prior import read_card

SMALL = {
    "widths": "[8,16]", "blocks": "1", "embedding": "16", "sizes": "[[24,4,1.0]]", "guided": "false",
    "minimum_pixels": "60", "validation_slices": "4", "sampled_slices": "2",
}  # fmt: skip


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["train", *(str(word) for word in words)])
    return int(end.value.code or 0)


def test_from_a_folder_to_a_prior_and_its_curve(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus_folder(tmp_path / "data", 4)
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    output = tmp_path / "p.safetensors"
    assert command(folder, "-o", output, "--steps", 12, "--json", *settings) == 0
    answer = json.loads(capfd.readouterr().out)
    card = read_card(str(output))
    assert answer["sha256"] == card.sha256 and card.training["steps"] == 12
    assert command(folder, "-o", output, "--steps", 12, *settings) == 2
    assert command(tmp_path / "nowhere", "-o", tmp_path / "q.safetensors", "--steps", 3, *settings) == 3
    assert command(folder, "-o", tmp_path / "q.safetensors", "--steps", 3, "--minutes", 1, *settings) == 2
    capfd.readouterr()

    script = Path(__file__).resolve().parents[2] / "docs" / "make_training_curve.py"
    spec = importlib.util.spec_from_file_location("make_training_curve", script)
    assert spec is not None and spec.loader is not None
    curve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curve)
    monkeypatch.setattr(curve, "OUTPUT", tmp_path / "figures" / "curve.png")
    monkeypatch.setattr("sys.argv", ["make_training_curve.py", str(output)])
    curve.main()
    table = capfd.readouterr().out.splitlines()
    assert table[2].startswith("| stage | steps | core-minutes | sigma 0.05 ")
    assert len(table) >= 4 + len(card.training["history"])
    assert (tmp_path / "figures" / "curve.png").stat().st_size > 1000
