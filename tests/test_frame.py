"""The package as a package: what is in it, what it needs, how fast it answers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import medrecon

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAPPED = {"medrecon": ROOT / "medrecon", "medrecon.physics": ROOT / "physics", "medrecon.data": ROOT / "data"}
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "finufft": "python-finufft"}


def _packages() -> set[str]:
    found = set()
    for name, folder in MAPPED.items():
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            found.add(".".join((name, *parts)))
    return found


def _requirements() -> dict[str, Requirement]:
    """Everything that a user may install: core and extras."""
    lines = [*PROJECT["project"]["dependencies"]]
    for extra, names in PROJECT["project"]["optional-dependencies"].items():
        lines += [] if extra == "all" else names
    return {Requirement(line).name: Requirement(line) for line in lines}


def test_every_package_is_listed() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == _packages()


def test_extra_all_brings_every_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == set(extras) - {"all"}


def test_no_core_dependency_is_an_extra() -> None:
    core = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert not core & {"astra-toolbox", "monai", "napari", "sigpy", "segyio", "highdicom", "torchvision"}


def test_the_core_brings_no_qt() -> None:
    """Nor does anything that it brings: by what the installed packages say they need."""
    core, waiting = set(), [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower()
        if name in core or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        core.add(name)
        with suppress(PackageNotFoundError):
            waiting += [Requirement(line) for line in requires(name) or []]
    assert {"torch", "numpy", "llvmlite", "jinja2"} <= core  # what they bring was followed
    assert not [name for name in core if re.match("pyqt|pyside|qtpy|superqt|napari|magicgui|vispy", name)]


def test_conda_environment_agrees_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    listed = {}
    *lines, by_pip = environment["dependencies"]  # what conda-forge lacks comes from PyPI
    for line in lines + [line for line in by_pip["pip"] if not line.startswith("--")]:
        name, _, bound = line.partition(">=")
        listed[name] = bound
    for name, requirement in _requirements().items():
        (specifier,) = requirement.specifier
        assert listed[CONDA_NAMES.get(name, name)] == specifier.version, name
    extra = set(listed) - {CONDA_NAMES.get(name, name) for name in _requirements()}
    assert extra == {"python=3.11", "pip", "pyqt"}


def test_constraints_pin_what_is_needed_and_fit_the_bounds() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {Requirement(line).name.lower(): Requirement(line) for line in lines}
    assert str(pins["torch"].specifier) == "==2.13.0"
    groups = PROJECT["dependency-groups"]
    needed = [
        Requirement(line)
        for line in (*PROJECT["project"]["dependencies"], *groups["dev"], *groups["oracle"], *groups["window"])
    ]
    for requirement in needed:
        (pin,) = pins[requirement.name.lower()].specifier
        assert pin.operator == "==", requirement.name
        assert requirement.specifier.contains(Version(pin.version)), requirement.name


def test_version_is_stated_once_and_has_a_changelog_entry() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert re.search(rf"^## \[{re.escape(medrecon.__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_two_commands_start_everything() -> None:
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    for target in ("demo", "test", "test-window", "lint", "bench", "figures"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make demo" in readme
    assert "make test" in readme
    ci = (ROOT / ".ci" / "run").read_text()
    for target in ("test", "test-slow", "test-window"):
        assert re.search(rf"make --no-print-directory {target}$", ci, re.MULTILINE), target
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def _run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | more, cwd=more.get("HOME", ROOT)
    )


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time\n"
        "from medrecon.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'monai', 'scipy', 'numba', 'matplotlib', 'nibabel'} & set(sys.modules)\n"
        "sys.stderr.write(f'{time.process_time():.3f} {sorted(heavy)}')\n"
    )
    answers = [_run(code) for _ in range(4)]
    assert all("recon" in answer.stdout for answer in answers)
    assert answers[0].stderr.split(" ", 1)[1] == "[]"
    # processor time of the whole process: a busy machine must not fail this
    assert min(float(answer.stderr.split()[0]) for answer in answers) < 0.5


def test_importing_the_package_loads_nothing_heavy() -> None:
    answer = _run("import sys, medrecon; print({'torch', 'numpy', 'monai'} & set(sys.modules))")
    assert answer.stdout.strip() == "set()", answer.stderr


def test_public_names_exist() -> None:
    for name in medrecon.__all__:
        assert getattr(medrecon, name) is not None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building in place would leave files in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    for name in ("medrecon", "physics", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    run = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(built), "."],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return next(built.glob("medrecon-*.whl"))


def test_wheel_holds_everything_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"medrecon", f"medrecon-{medrecon.__version__}.dist-info"}
    for name, folder in MAPPED.items():
        prefix = name.replace(".", "/")
        for module in folder.rglob("*.py"):
            assert f"{prefix}/{module.relative_to(folder).as_posix()}" in names
    for pattern in ("*.css", "py.typed", "weights/*.safetensors", "weights/*.json"):
        for path in (ROOT / "medrecon").glob(pattern):
            assert f"medrecon/{path.relative_to(ROOT / 'medrecon').as_posix()}" in names
    for path in (ROOT / "data" / "samples").iterdir():
        assert f"medrecon/data/samples/{path.name}" in names


def test_wheel_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import medrecon, medrecon.physics.ct_geometry as g, medrecon.data.volume as v, importlib.util as u\n"
        "print(medrecon.__file__, g.__file__, v.__file__, sep='\\n')\n"
        "print([n for n in ('physics', 'data') if u.find_spec(n)])\n"
    )
    answer = _run(code, HOME=str(tmp_path))
    lines = answer.stdout.splitlines()
    assert answer.returncode == 0, answer.stderr
    assert all(Path(line).is_relative_to(installed) for line in lines[:3])
    assert lines[3] == "[]"
