"""`medrecon rerun`: do again what a record says, and say whether the same came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.cli.job import Job
from medrecon.errors import InputError, MedreconError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rerun", short_help="Repeat a reconstruction from its record, and compare.")(rerun)


def rerun(
    record: Annotated[Path, typer.Argument(metavar="NAME.json", help="Record that `recon` wrote beside its output.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Volume to write. [NAME-rerun, same format]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--input", help="The measured data. [by its name, beside the record]")
    ] = None,
    prior: Annotated[str | None, typer.Option("--prior", help="The prior, if it lies elsewhere now.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Repeat a reconstruction and compare the output bit for bit; exit code 1, and what differs, where it is another.

    The data and the prior must be the same, by their SHA-256, and lie beside the record under their names.
    """
    said = _loaded(record)
    described, request = _mapping(said["output"]), _mapping(said["request"])
    original = record.with_name(str(described.get("name")))
    source = _input(said, record, data)
    config = _config(request, record, prior)
    target = output or _beside(original)
    job = Job(source, target, config, overwrite=overwrite, preview=_whole(request.get("preview")))
    _check_weights(said, job)
    job.check_targets()
    job.execute()
    found = _comparison(said, target, original)
    if as_json:
        console.result_json({"output": str(target), **found})
    else:
        console.result(_text(target, found))
    if not found["identical"]:
        raise typer.Exit(1)


# --- what the record asks for -----------------------------------------------------------------------------------
def _loaded(path: Path) -> dict[str, object]:
    """A record with a request. Raises InputError for anything else."""
    from medrecon.data.provenance import load_record

    record = load_record(path)
    if not isinstance(record.get("request"), dict):
        raise InputError(
            "this record does not describe a reconstruction that can be repeated", where=path.name,
            expected="the .json that `medrecon recon` wrote beside its output",
        )  # fmt: skip
    return record


def _input(said: Mapping[str, object], record: Path, given: Path | None) -> Path:
    """The measured data, known to be those of the record."""
    from medrecon.data.provenance import input_entry

    entries = said.get("inputs")
    entry = _mapping(entries[0]) if isinstance(entries, list) and entries else {}
    path = given or record.with_name(str(entry.get("name")))
    if not path.exists():
        raise InputError("the measured data are not there", where=path.name, hint="Say where with --input.")
    actual = input_entry(path)["sha256"]
    if actual != entry.get("sha256"):
        raise InputError(
            "these are not the data of the record", where=path.name, found=f"SHA-256 {str(actual)[:12]}...",
            expected=f"{str(entry.get('sha256'))[:12]}...",
        )  # fmt: skip
    return path


def _config(request: Mapping[str, object], record: Path, prior: str | None) -> options.RunConfig:
    """The options of the run; files that they name are looked for beside the record."""
    known = {f.name for f in fields(options.RunConfig)}
    values = {key: value for key, value in request.items() if key in known and value is not None}
    for name in ("like", "prior"):
        beside = record.with_name(Path(str(values.get(name))).name)
        if name in values and beside.exists():
            values[name] = str(beside)
    if prior is not None:
        values["prior"] = prior
    values.pop("report", None)
    return options.RunConfig(**values)  # type: ignore[arg-type]


def _check_weights(said: Mapping[str, object], job: Job) -> None:
    """Raise InputError where the prior is another one now."""
    from medrecon.data.atomic import sha256_of_file
    from medrecon.prior import BUNDLED

    weights = said.get("weights")
    for entry in map(_mapping, weights if isinstance(weights, list) else []):
        given = Path(job.config.prior) if job.config.prior else None
        path = given if given is not None and given.is_file() else BUNDLED / str(entry.get("name"))
        if not path.is_file() or sha256_of_file(path) != entry.get("sha256"):
            raise InputError(
                "the prior is not the one of the record", where=path.name,
                hint="Put its file beside the record, or say where it is with --prior.",
            )  # fmt: skip


def _beside(original: Path) -> Path:
    from medrecon.cli.stored import Beside

    return Beside(original).named("rerun")


# --- what came out ------------------------------------------------------------------------------------------------
def _comparison(said: Mapping[str, object], target: Path, original: Path) -> dict[str, object]:
    """Whether the bytes are those of the record, and what differs where they are not."""
    from medrecon.data.provenance import read_sidecar, versions

    new = _mapping((read_sidecar(target) or {}).get("output"))
    identical = new.get("sha256") == _mapping(said["output"]).get("sha256")
    found: dict[str, object] = {"identical": identical, "sha256": new.get("sha256")}
    then, now = _mapping(said.get("versions")), versions()
    found["versions_that_differ"] = {
        name: f"{then.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    }
    if not identical:
        found["values"] = _difference(target, original)
    return found


def _difference(target: Path, original: Path) -> str:
    """How far the values are from those of the original, where that is still there."""
    import numpy as np

    from medrecon.data import read_volume

    try:
        old, new = read_volume(original), read_volume(target)
    except MedreconError as error:
        return f"the original cannot be compared: {error.what}"
    if not old.geometry.almost_equal(new.geometry):
        return "the grids differ"
    largest = float(np.abs(old.array - new.array).max())
    if largest == 0:
        return "all values are equal; the files differ in their coding"
    return f"the values differ by up to {largest:.3g} {new.quantity}"


def _text(target: Path, found: Mapping[str, object]) -> str:
    if found["identical"]:
        return f"{target}: identical, bit for bit"
    differing = _mapping(found["versions_that_differ"])
    lines = [f"{target}: not the same bytes; {found['values']}"]
    lines += [f"  {name}: {text}" for name, text in differing.items()]
    if not differing:
        lines.append("  all versions are the same: another processor, or another number of threads in a library")
    return "\n".join(lines)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
