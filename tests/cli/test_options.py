"""Settings, configuration files, shapes and sizes as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrecon.cli import options
from medrecon.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-0.5", -0.5), ("1e5", 1e5), ("1E-3", 1e-3), ("true", True), ("hann", "hann"),
        ("[0, 1, 2]", [0, 1, 2]), ("[1e2, x]", [100.0, "x"]), ("null", None), ("", None),
    ],
)  # fmt: skip
def test_values_are_yaml_with_all_numbers(text: str, value: object) -> None:
    assert options.settings_of([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize("pair", ["steps", "=3", "key=[1", "key={a: b"])
def test_malformed_settings_are_usage_errors(pair: str) -> None:
    with pytest.raises(UsageError):
        options.settings_of([pair])


def test_shapes_and_sizes() -> None:
    assert options.shape_of("48,128,96") == (48, 128, 96)
    assert options.shape_of("48x128x96") == (48, 128, 96)
    assert options.numbers("3,1.5,1.5", what="--voxel", counts=(1, 3)) == (3.0, 1.5, 1.5)
    for text in ("48,128", "48,128,0", "48,128,-1", "a,b,c", "4.5,3,3", ""):
        with pytest.raises(UsageError):
            options.shape_of(text)


def test_quantities() -> None:
    assert options.quantity_name("hu") == "HU"
    assert options.quantity_name("mu") == "1/mm"
    assert options.quantity_name(None) is None
    with pytest.raises(UsageError, match="HU or mu"):
        options.quantity_name("cd")


def test_command_line_wins_over_file_wins_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: tv\nseed: 5\nshape: [6, 32, 32]\nvoxel: 1.5\nsettings:\n  weight: 1e-3\n  iterations: 9\n")
    said = options.RunConfig(seed=7, settings={"iterations": 30})
    config = options.resolved(said, file)
    assert (config.method, config.seed, config.samples, config.device) == ("tv", 7, 1, "auto")
    assert config.settings == {"weight": 1e-3, "iterations": 30}
    assert config.shape == "6,32,32"
    assert config.voxel == "1.5"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("methd: tv\n", "method"),
        ("steps: many\n", "steps"),
        ("seed: true\n", "seed"),
        ("settings: 3\n", "settings"),
        ("method: 3\n", "method"),
        ("- tv\n", "key: value"),
        ("method: [\n", "YAML"),
    ],
)
def test_wrong_configuration_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named) as caught:
        options.read_config(file)
    assert "run.yaml" in str(caught.value)


def test_empty_and_absent_configuration(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("# nothing yet\n")
    assert options.read_config(file) == options.RunConfig()
    with pytest.raises(InputError, match=r"absent\.yaml"):
        options.read_config(tmp_path / "absent.yaml")


def test_a_configuration_cannot_make_objects(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UsageError):
        options.read_config(file)
