"""`simulate ct-phantom`: a synthetic volume to try things on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from medrecon.data import read_volume
from medrecon.data.anatomy import anatomy
from medrecon.data.shapes import random_shapes


@pytest.mark.parametrize("kind", ["abdomen", "shapes"])
def test_the_file_holds_the_phantom(run: Run, tmp_path: Path, kind: str):
    answer = run("simulate", "ct-phantom", kind, "-o", "p.nii.gz", "--shape", "6,32,40", "--seed", 5, "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["kind"] == kind and answer.json()["shape"] == [6, 32, 40]
    made = random_shapes((6, 32, 40), seed=5) if kind == "shapes" else anatomy(kind, (6, 32, 40), seed=5)
    read = read_volume(tmp_path / "p.nii.gz", quantity="HU").as_orientation("LPS")
    np.testing.assert_array_equal(read.array, made.array)
    assert read.geometry.spacing == pytest.approx(made.geometry.spacing)


def test_bad_requests_are_refused(run: Run, tmp_path: Path):
    unknown = run("simulate", "ct-phantom", "thoraxx", "-o", "p.nii.gz")
    assert unknown.code == 2 and "Did you mean thorax" in unknown.err
    assert run("simulate", "ct-phantom", "shapes", "-o", "p.nii.gz", "--shape", "6,32").code == 2
    assert run("simulate", "ct-phantom", "shapes", "-o", "p.sgy").code == 2
    assert not list(tmp_path.glob("p.*"))
    assert run("simulate", "ct-phantom", "shapes", "-o", "p.nii.gz", "--shape", "2,8,8").code == 0
    again = run("simulate", "ct-phantom", "shapes", "-o", "p.nii.gz", "--shape", "2,8,8")
    assert again.code == 2 and "exists" in again.err
