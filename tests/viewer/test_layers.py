"""The plugin's contributions as plain functions: no Qt, no napari."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml

from helpers.command_line import Run, body
from helpers.mri import full_kspace, head
from medrecon.data import Geometry, KSpace, Volume, read_scan, read_volume
from medrecon.errors import InputError
from medrecon.viewer.layers import UNITS, measurement_layer, volume_layer, volume_of
from medrecon.viewer.reading import get_reader, read_layers
from medrecon.viewer.run import Request, heard, reconstructed
from medrecon.viewer.writing import write_volume


def _manifest() -> dict:
    return yaml.safe_load(resources.files("medrecon.viewer").joinpath("napari.yaml").read_text(encoding="utf-8"))


def _oblique(volume: Volume) -> Volume:
    turn = np.eye(4)
    c, s = np.cos(0.2), np.sin(0.2)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    affine = turn @ volume.geometry.affine
    affine[:3, 3] += (5.0, -7.0, 11.0)
    return replace(volume, geometry=Geometry(volume.geometry.shape, affine))


def test_every_command_of_the_manifest_is_there() -> None:
    pytest.importorskip("magicgui")
    pytest.importorskip("napari")
    for command in _manifest()["contributions"]["commands"]:
        module, name = command["python_name"].split(":")
        assert callable(getattr(importlib.import_module(module), name)), command["id"]


def test_manifest_is_valid() -> None:
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest(**_manifest())
    known = {command.id for command in manifest.contributions.commands}
    parts = (manifest.contributions.readers, manifest.contributions.writers, manifest.contributions.sample_data,
             manifest.contributions.widgets)  # fmt: skip
    assert {each.command for part in parts for each in part} == known


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SPL"])
@pytest.mark.parametrize("oblique", [False, True])
def test_a_volume_comes_back_from_its_layer_and_its_file(tmp_path: Path, orientation: str, oblique: bool) -> None:
    volume = body().as_orientation(orientation)
    volume = _oblique(volume) if oblique else volume
    data, keywords, kind = volume_layer(volume, "body")
    assert kind == "image"
    assert keywords["units"] == UNITS
    assert keywords["scale"] == pytest.approx((3.0, 2.0, 2.0))
    (file,) = write_volume(str(tmp_path / "body.nii.gz"), data, keywords)
    back = read_volume(file)
    assert np.array_equal(back.array, volume.array)
    assert back.geometry.almost_equal(volume.geometry)
    assert back.quantity == "HU"


def test_a_layer_stands_where_the_patient_is() -> None:
    data, keywords, _ = volume_layer(body().as_orientation("RAS"), "body")
    index = (1, 5, 20)
    z, y, x = np.array(keywords["translate"]) + np.array(keywords["scale"]) * index
    affine = keywords["metadata"]["affine"]
    right, anterior, superior, _ = affine @ (index[2], index[1], index[0], 1)
    assert (right, anterior, superior) == pytest.approx((-x, -y, z))
    assert data[index] == body().array[index]


def test_a_moved_layer_is_written_where_it_was_moved_to() -> None:
    data, keywords, _ = volume_layer(_oblique(body()), "body")
    moved = volume_of(data, keywords | {"translate": (10.0, 20.0, 30.0)})
    assert moved.geometry.affine[:3, 3] == pytest.approx((-30.0, -20.0, 10.0))


@pytest.mark.parametrize(
    ("data", "more", "said"),
    [
        (np.zeros((4, 4), np.float32), {}, "no volume"),
        (np.zeros((4, 4, 4), np.complex64), {}, "no volume"),
        (np.zeros((4, 4, 4), np.float32), {"units": ("um", "um", "um")}, "not measured in mm"),
        (np.zeros((4, 4, 4), np.float32), {"metadata": {"role": "measurement"}}, "measured data"),
    ],
)
def test_what_is_no_volume_is_not_written(tmp_path: Path, data: np.ndarray, more: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_volume(str(tmp_path / "x.nii.gz"), data, {"name": "thing"} | more)
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    (tmp_path / "empty.nii").write_bytes(b"")
    for name in ("other.h5", "empty.nii", "absent.nii"):
        assert get_reader(str(tmp_path / name)) is None


def test_a_damaged_file_gives_the_message_of_the_command_line(tmp_path: Path, truth: Path, run: Run) -> None:
    damaged = bytearray(truth.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    truth.write_bytes(bytes(damaged))
    with pytest.raises(InputError) as caught:
        read_layers(str(truth))
    assert f"error: {caught.value}" in run("info", truth).err


def test_a_scan_is_shown_as_sinograms(scan: Path) -> None:
    ((data, keywords, _),) = read_layers(str(scan))
    measured = read_scan(scan)
    assert keywords["axis_labels"] == ("slice", "view", "column")
    assert keywords["units"] == UNITS
    assert np.array_equal(data[2, 7], measured.data[7, 2])
    assert keywords["metadata"]["file"] == str(scan)


def test_k_space_is_shown_by_its_size() -> None:
    volume = head()
    kspace = KSpace(full_kspace(volume, 3).numpy(), volume.geometry, (8.0, 192.0, 168.0))
    data, keywords, _ = measurement_layer(kspace, "k")
    assert data.shape == kspace.data.shape[1:]
    size = np.sqrt((np.abs(kspace.data.astype(np.complex128)) ** 2).sum(0))
    assert np.expm1(data) * np.median(size[size > 0]) == pytest.approx(size, rel=1e-4, abs=1e-5)
    assert keywords["axis_labels"] == ("slice", "ky", "kx")


def test_a_result_brings_what_stands_beside_it(scan: Path, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "recon.nii.gz"
    assert run("recon", scan, "-o", target, "--method", "tv", "--steps", 20).code == 0
    layers = read_layers([str(target)])
    roles = {keywords["metadata"]["role"]: (data, keywords) for data, keywords, _ in layers}
    assert {"result", "baseline", "null-share"} <= set(roles)
    assert layers[-1][1]["metadata"]["role"] == "result"
    assert roles["baseline"][1]["contrast_limits"] == roles["result"][1]["contrast_limits"]
    assert len({str(keywords["metadata"]["group"]) for _, keywords in roles.values()}) == 1
    assert all(keywords["units"] == UNITS for _, keywords in roles.values())


def test_a_run_of_the_widget_gives_the_volume_of_its_command_line(scan: Path, run: Run) -> None:
    import shlex

    request = Request(scan, method="tv", steps=20)
    steps = []
    layers = reconstructed(request, lambda report, layer: bool(steps.append(layer()[0].shape)) or True)
    assert steps
    assert set(steps) == {body().geometry.shape}
    program, *words = shlex.split(request.command)
    assert program == "medrecon"
    assert run(*words).code == 0
    written = read_volume(request.output)
    assert np.array_equal(volume_of(*layers[-1][:2]).array, written.array)


def test_a_preview_is_one_slice_where_it_lies(scan: Path) -> None:
    layers = reconstructed(Request(scan, method="fbp", preview=4), lambda report, layer: True)
    data, keywords, _ = layers[-1]
    whole = reconstructed(Request(scan, method="fbp"), lambda report, layer: True)[-1]
    assert data.shape == (1, 24, 24)
    assert np.allclose(data[0], whole[0][4], atol=1e-2)
    assert keywords["translate"][0] == pytest.approx(whole[1]["translate"][0] + 4 * 3.0)


def test_a_stopped_run_gives_the_last_volume(scan: Path) -> None:
    seen = []

    def told(report: object, layer: object) -> bool:
        seen.append(layer()[0].copy())  # type: ignore[operator]
        return len(seen) < 2

    layers = reconstructed(Request(scan, method="sirt", steps=30), told)
    assert layers[-1][1]["metadata"]["status"] == "stopped"
    assert any(np.array_equal(data, seen[-1]) for data, _, _ in layers)


def test_what_the_command_line_remarks_is_heard() -> None:
    from medrecon.cli import console

    log, lines = logging.getLogger("medrecon"), []
    before = log.level, list(log.handlers)
    with heard(lines.append):
        console.remark("scan.h5: the detector has dead columns")
    console.remark("not heard")
    assert lines == ["scan.h5: the detector has dead columns"]
    assert (log.level, list(log.handlers)) == before


def test_view_names_the_extra_where_napari_is_missing(run: Run, truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecon.cli import viewing

    monkeypatch.setattr(viewing, "find_spec", lambda name: None)
    answer = run("view", truth)
    assert answer.code == 4
    assert "medrecon[viewer]" in answer.err
    monkeypatch.setattr(viewing, "find_spec", lambda name: None if name in viewing._BINDINGS else object())
    answer = run("view", truth)
    assert answer.code == 4
    assert "PyQt6" in answer.err


def test_the_widgets_load_nothing_heavy_when_they_open() -> None:
    """napari imports their modules when the menu opens: torch, the engine and matplotlib come with the first use."""
    for name in ("napari", "magicgui", "qtpy"):
        pytest.importorskip(name)
    code = (
        "import sys, napari\n"
        "import medrecon.viewer.compare, medrecon.viewer.reconstruct\n"
        "heavy = {'torch', 'matplotlib', 'scipy.signal', 'monai', 'astra', 'nibabel', 'medrecon.engine'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"
