"""`medrecon train`: a prior from a folder of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli import console, options, running
from medrecon.errors import UsageError
from medrecon.registry import unknown_name

if TYPE_CHECKING:
    from medrecon.training import TrainingSettings
    from medrecon.training.loop import TrainingReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", short_help="Train a prior on a folder of volumes.")(train)


def train(
    data: Annotated[Path, typer.Argument(help="Folder of NIfTI files and of folders of DICOM slices.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NAME.safetensors; the card goes to NAME.json.")],
    steps: Annotated[int | None, typer.Option("--steps", min=0, help="Budget in optimiser steps.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Budget in minutes. [60]")] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Folder of other people's volumes. [a tenth of DATA]")
    ] = None,
    init: Annotated[str | None, typer.Option("--init", help="Prior to start from.")] = None,
    guided: Annotated[
        bool | None,
        typer.Option("--guided/--no-guided", help="Let the network also see a classical volume. [guided]"),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option("--widths", metavar="N,N,...", help="Channels by resolution, finest first. [48,96,160,224]"),
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A training setting; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that was interrupted.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Train a 2D prior on the slices of the volumes in DATA, validate it, and write it with its card.

    An interrupted training leaves its state in NAME.training beside the output; --resume goes on from there.
    """
    from medrecon.training import train as run_training

    said = options.settings_of(settings)
    explicit = {"guided": guided, "widths": None if widths is None else parse_widths(widths)}
    for key, value in explicit.items():
        if value is not None and key in said:
            raise UsageError(f"{key} is given twice", where=f"--{key} and --set {key}", hint="Leave one of them out.")
    said |= {"seed": seed, "device": running.device_name(device)}
    said |= {key: value for key, value in {"steps": steps, "minutes": minutes, **explicit}.items() if value is not None}
    with running.stoppable() as stop:
        display = _Display(stop)
        try:
            card = run_training(
                training_settings(said), data, output, validation, init=init, resume=resume, overwrite=overwrite,
                callback=display,
            )  # fmt: skip
        finally:
            display.close()
    if card is None:
        console.say("medrecon: interrupted. The state is saved: run the same command with --resume.")
        raise typer.Exit(128 + (stop[0] if stop else 2))
    if as_json:
        console.result_json(
            {"output": str(output), "name": card.name, "sha256": card.sha256, "training": card.training}
        )
    else:
        errors = ", ".join(
            f"{error:.3g} at {sigma:.3g}" for sigma, error in card.error_curve[:: max(1, len(card.error_curve) // 5)]
        )
        console.result(f"{output}: {card.quantity}, error by noise level: {errors or 'not measured'}")


def parse_widths(text: str) -> list[int]:
    """Channels from ``48,96,160,224``. Raises UsageError for anything but whole numbers above zero."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(
            "the widths are no list of channels", where="--widths", found=repr(text),
            expected="whole numbers above 0 with commas between them, such as 48,96,160,224",
        )  # fmt: skip
    return [int(part) for part in parts]


def training_settings(said: dict[str, object]) -> TrainingSettings:
    """Settings from names and plain values. Raises UsageError for unknown names and values that do not fit."""
    from dataclasses import fields, is_dataclass

    from medrecon.training import Intensity, TrainingSettings

    known = {f.name: f.default for f in fields(TrainingSettings)}
    values: dict[str, object] = {}
    for name, value in said.items():
        if name not in known:
            raise unknown_name("training setting", name, list(known))
        if name == "quantity" or (name == "intensity" and isinstance(value, str)):
            value = Intensity.of(value)  # type: ignore[arg-type]
        elif isinstance(value, dict) or is_dataclass(known[name]):
            raise UsageError(f"{name} cannot be set on the command line", found=value)
        values[name] = _tuples(value)
    try:
        return TrainingSettings(**values)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError("a training setting has the wrong type", found=said) from error


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


class _Display:
    """A bar for each stage of a training."""

    def __init__(self, stop: list[int]) -> None:
        self._stop, self._bars = stop, running.Bars()

    def __call__(self, report: TrainingReport) -> bool:
        """Show the progress; False once the training shall stop."""
        remark = f"loss {report.stats['loss']:.4f}" if "loss" in report.stats else ""
        if report.remaining is not None:
            remark += f"  {report.remaining / 60:.0f} min left"
        self._bars.show(report.stage, round(1000 * report.fraction), 1000, remark)
        return not self._stop

    def close(self) -> None:
        """End the last bar."""
        self._bars.close()
