"""Commands about the package itself: `methods`, `priors`, `doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import calibrating, console, importing, measuring, options
from medrecon.registry import Entry

EXTRAS = {
    "ct": ("astra",),
    "mri": ("sigpy", "finufft"),
    "rings": ("algotom",),
    "siemens": ("twixtools",),
    "seismic": ("segyio",),
    "train": ("monai",),
    "priors": ("diffusers", "monai", "einops"),
    "viewer": ("napari", "magicgui", "qtpy"),
    "dicom": ("highdicom",),
    "zarr": ("zarr",),
}
"""Import names of what each extra brings."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("methods", short_help="List the methods of reconstruction.")(methods)
    app.command("corrections", short_help="List the corrections of CT scans.")(list_corrections)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(priors_list)
    group.command("show")(priors_show)
    group.command("verify")(priors_verify)
    group.command("import")(importing.priors_import)
    group.command("blend")(priors_blend)
    group.command("stats")(measuring.priors_stats)
    group.command("search")(measuring.priors_search)
    group.command("suit")(measuring.priors_suit)
    group.command("calibrate")(calibrating.priors_calibrate)
    app.add_typer(group, name="priors", help="List, verify, import, blend, measure and calibrate pretrained priors.")
    app.command("doctor", short_help="Say what is installed and what is missing.")(doctor)


def methods(
    name: Annotated[str | None, typer.Argument(help="Show the settings of this method.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the methods of reconstruction, or the settings of one."""
    from medrecon.samplers import samplers

    if name is not None:
        entry = samplers.entry(name)
        settings = {f.name: f.default for f in fields(entry.value)}
        if as_json:
            console.result_json({"name": name, "summary": _summary(entry), "settings": settings, **entry.meta})
            return
        console.result(f"{name}: {_summary(entry)}\n")
        console.result(console.table([(key, str(value)) for key, value in settings.items()], ("setting", "default")))
        return
    rows: list[dict[str, object]] = [
        {
            "name": "auto",
            "family": "choice",
            "summary": "The default: total variation or diffusion, whichever predicts held-out data better.",
            "needs_prior": False,
        }
    ]
    rows += [
        {"name": entry.name, "family": str(entry.meta.get("family", "")), "summary": _summary(entry),
         "needs_prior": bool(entry.value.needs_prior)}
        for entry in samplers
    ]  # fmt: skip
    if as_json:
        console.result_json({"methods": rows})
        return
    console.result(
        console.table(
            [(str(r["name"]), str(r["family"]), str(r["summary"])) for r in rows], ("method", "family", "what")
        )
    )


def list_corrections(as_json: options.Json = False) -> None:
    """List the corrections that `recon --correct NAME[=VALUE]` makes to a CT scan, in the order given."""
    from medrecon.corrections import corrections

    rows = [(entry.name, entry.summary) for entry in corrections]
    if as_json:
        console.result_json({"corrections": [{"name": name, "summary": summary} for name, summary in rows]})
        return
    console.result(console.table(rows, ("correction", "what")))


def _summary(entry: Entry) -> str:
    return entry.summary.replace("`", "")


def priors_list(as_json: options.Json = False) -> None:
    """List the priors that come with the package."""
    from medrecon.prior import bundled_priors, read_card

    cards = [read_card(name) for name in bundled_priors()]
    if as_json:
        console.result_json(
            {"priors": [_essentials(name, card) for name, card in zip(bundled_priors(), cards, strict=True)]}
        )
        return
    rows = [
        (name, card.modality, card.quantity, f"{card.range[0]:g} to {card.range[1]:g}", card.licence, card.description)
        for name, card in zip(bundled_priors(), cards, strict=True)
    ]
    if not rows:
        console.remark("no prior is bundled; train one with `medrecon train` and name its file with --prior")
    else:
        console.result(console.table(rows, ("prior", "modality", "quantity", "range", "licence", "what")))


def _essentials(name: str, card: object) -> dict[str, object]:
    keys = ("modality", "quantity", "range", "spacing_mm", "sigma_min", "sigma_max", "licence", "sha256", "description")
    return {"name": name} | {key: getattr(card, key) for key in keys}


def priors_show(
    name: Annotated[str, typer.Argument(help="Name, or .safetensors file.")], as_json: options.Json = False
) -> None:
    """Show a prior's card: what it was trained on, its units, range, noise levels, licence and hash."""
    from medrecon.cli.card_text import card_text
    from medrecon.prior import read_card

    card = read_card(name)
    if as_json:
        console.result_json(asdict(card))
        return
    console.result(card_text(card))


def priors_blend(
    first: Annotated[str, typer.Argument(help="Prior, by name or file.")],
    second: Annotated[str, typer.Argument(help="Another of the same network, usually trained from the first.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NAME.safetensors; the card goes to NAME.json.")],
    share: Annotated[float, typer.Option("--share", help="Of the second in the mean of the weights, 0 to 1.")] = 0.5,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write the mean of two priors' weights: often better on other objects than the one that was trained last."""
    from medrecon.training.blend import blend

    card = blend(first, second, output, share, overwrite=overwrite)
    if as_json:
        console.result_json({"output": output, "share": share, "sha256": card.sha256})
    else:
        console.result(f"{output.name}: {1 - share:.0%} of {first}, {share:.0%} of {second}")


def priors_verify(
    name: Annotated[str | None, typer.Argument(help="Name, or .safetensors file. [all bundled priors]")] = None,
    as_json: options.Json = False,
) -> None:
    """Check that weights match their card's hash, fit its architecture and give finite values."""
    import torch

    from medrecon.errors import CorruptInput
    from medrecon.prior import bundled_priors, load_prior

    checked = []
    for each in [name] if name is not None else bundled_priors():
        prior = load_prior(each)
        card = prior.card
        channels = prior.groups * card.architecture.get("channels", 1)
        middle = torch.full((1, channels, 32, 32), sum(card.range) / 2)
        if not bool(torch.isfinite(prior.denoise(middle, card.sigma_max)).all()):
            raise CorruptInput("the network gives values that are not finite", where=each)
        checked.append({"name": each, "sha256": card.sha256, "verified": bool(card.sha256)})
    if as_json:
        console.result_json({"priors": checked})
        return
    for entry in checked:
        said = f"ok, SHA-256 {str(entry['sha256'])[:16]}..." if entry["verified"] else "loads; its card has no hash"
        console.result(f"{entry['name']}: {said}")


def doctor(as_json: options.Json = False) -> None:
    """Say what is installed, what is missing, and what this machine offers."""
    import torch

    from medrecon.data.provenance import versions
    from medrecon.physics.backends import table
    from medrecon.prior import bundled_priors

    present = {extra: [n for n in names if importlib.util.find_spec(n)] for extra, names in EXTRAS.items()}
    extras = {
        extra: "present" if len(present[extra]) == len(names) else
        f"missing {', '.join(n for n in names if n not in present[extra])} (pip install 'medrecon[{extra}]')"
        for extra, names in EXTRAS.items()
    }  # fmt: skip
    memory = _memory_gib()
    values: dict[str, object] = {
        "versions": versions(),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": memory,
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "disk_free_gib": round(shutil.disk_usage(".").free / 2**30, 1),
        "priors": bundled_priors(),
        "extras": extras,
        "ct_backends": table(),
    }
    if as_json:
        console.result_json(values)
        return
    separate = ("versions", "extras", "ct_backends")
    rows = [(key.replace("_", " "), _said(value)) for key, value in values.items() if key not in separate]
    console.result(console.table(rows))
    console.result("\n" + console.table(list(versions().items()), ("library", "version")))
    console.result("\n" + console.table(list(extras.items()), ("extra", "state")))
    names = ("backend", "beams", "devices", "state", "tested")
    console.result("\n" + console.table([tuple(str(row[name]) for name in names) for row in table()], names))
    console.result(
        "CT takes the first backend of this list that is ready and serves the beam on the device of the data."
    )


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


def _memory_gib() -> float | None:
    """Size of the machine's memory; None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
