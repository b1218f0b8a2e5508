"""Checkpoints of strangers: nothing is executed, damage is found, sizes are checked first."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers import published
from medrecon.errors import CorruptInput, InputError, TooLarge, UnsafeInput
from medrecon.families.reading import read_checkpoint


def weights() -> dict[str, torch.Tensor]:
    return published.random_weights(published.drunet_shapes())


class Evil:
    """An object whose opening runs a program."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("place", [None, "state_dict", "ema", "params", "model"])
def test_where_weights_may_stand(tmp_path: Path, place: str | None, new: bool) -> None:
    held = weights()
    content = held if place is None else {place: held, "step": 3}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    found = read_checkpoint(tmp_path / "x.pt")
    assert found.name == "x.pt"
    assert all(torch.equal(found.weights[key], value) for key, value in held.items())


def test_averaged_weights_come_first_and_wrappers_lose_their_prefix(tmp_path: Path) -> None:
    held = weights()
    torch.save(
        {"model": {"a": torch.zeros(1)}, "ema": {f"module.{key}": value.half() for key, value in held.items()}},
        tmp_path / "x.pt",
    )
    found = read_checkpoint(tmp_path / "x.pt").weights
    assert set(found) == set(held)
    assert all(value.dtype == torch.float32 for value in found.values())


def test_safetensors(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "x.safetensors")
    assert set(read_checkpoint(tmp_path / "x.safetensors").weights) == set(weights())


@pytest.mark.parametrize("new", [True, False])
def test_objects_that_run_programs_are_refused(tmp_path: Path, new: bool) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": weights(), "extra": Evil(trace)}, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(
        UnsafeInput, match=r"x.pt: the file holds more than tensors.*found posix.system.*state_dict\(\)"
    ):
        read_checkpoint(tmp_path / "x.pt")
    assert not trace.exists()


def test_a_whole_module_is_refused_with_its_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(UnsafeInput, match=r"found torch.nn.modules.linear.Linear"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["x.pkl", "x.pt"])
def test_plain_pickles_are_refused_by_their_first_bytes(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "trace"
    (tmp_path / name).write_bytes(b"\x80\x04" + f"cposix\nsystem\n(S'touch {trace}'\ntR.".encode())
    with pytest.raises(UnsafeInput, match=r"pickle.*save the tensors alone.*torch.save\(network.state_dict\(\)"):
        read_checkpoint(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("new", [True, False])
def test_truncated_files(tmp_path: Path, keep: float, new: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"x.pt"):
        read_checkpoint(path)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    held = weights()
    held["m_tail.weight"][0, 0, 0, 0] = float("nan")
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(CorruptInput, match=r"NaN or infinity; found m_tail.weight"):
        read_checkpoint(tmp_path / "x.pt")


def test_an_archive_that_unpacks_to_far_more(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * (8 << 20))
    with pytest.raises(TooLarge, match="unpacks to far more"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"step": 3}, "no table of named tensors.*found .'step'."),
        ([1, 2], "no table of named tensors was found; found list"),
        ({}, "no table of named tensors"),
        ({"state_dict": {"a": 3}}, "no table of named tensors"),
    ],
)
def test_files_without_weights(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "x.pt")


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"x.pt: not a checkpoint"):
        read_checkpoint(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"y.pt: not a checkpoint; found an archive"):
        read_checkpoint(tmp_path / "y.pt")
    with pytest.raises(InputError, match=r"z.pt: there is no such file"):
        read_checkpoint(tmp_path / "z.pt")


def test_folders(tmp_path: Path) -> None:
    """Weights under a known name, and the JSON files beside them."""
    with pytest.raises(InputError, match="holds no weights under a known name"):
        read_checkpoint(tmp_path)
    (tmp_path / "unet").mkdir()
    save_file(weights(), tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    found = read_checkpoint(tmp_path)
    assert set(found.weights) == set(weights())
    assert found.configs == {"unet/config.json": {"_class_name": "UNet2DModel"}}
    (tmp_path / "unet" / "config.json").write_text("{")
    with pytest.raises(CorruptInput, match=r"config.json: not valid JSON"):
        read_checkpoint(tmp_path)


def test_the_limit_of_memory_holds() -> None:
    """In a process of its own: what is asked beyond it is refused, not given."""
    import subprocess
    import sys

    code = (
        "import torch\n"
        "from medrecon.families.importing import limit_memory\n"
        "limit_memory(64 << 20)\n"
        "try:\n    torch.zeros(256 << 20)\n"
        "except (MemoryError, RuntimeError):\n    print('refused')\n"
    )
    pytest.importorskip("resource")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "refused", run.stderr
