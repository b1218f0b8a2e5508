"""From a published checkpoint to a prior: safetensors and a card.

The file is read and converted in a process of its own, with limits of memory and time: it comes from somebody else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medrecon.data.atomic import sha256_of_file
from medrecon.data.limits import available_memory
from medrecon.errors import (
    CorruptInput,
    InputError,
    MedreconError,
    MissingDependency,
    TooLarge,
    UnsafeInput,
    UsageError,
)
from medrecon.families.base import Checkpoint, CheckpointFamily, Found, Settings, checkpoint_families
from medrecon.network import Denoiser
from medrecon.parameterisation import noise_map_of

if TYPE_CHECKING:
    from medrecon.prior import PriorCard

_MINUTES = 15.0
_ORDINARY_SHARE = 0.5  # of the names: below it the file is of no family
_HOUNSFIELD = (1000.0, -1000.0)  # unit and zero of the solver for HU: 1 is water, 0 is air
_PROBE = 64  # pixels of the flat slice that shows whether a prior removes noise


@dataclass(frozen=True)
class Facts:
    """What a person knows about a checkpoint and no file says.

    ``range`` are the physical values, in ``quantity``, that the training mapped to ``network_range``; None takes the
    range that is fixed for the family. ``spacing_mm`` are the smallest and the largest pixel of its slices.
    """

    quantity: str
    range: tuple[float, float]
    spacing_mm: tuple[float, float]
    network_range: tuple[float, float] | None = None
    orientation: str = "LPS"
    modality: str = ""
    description: str = ""
    licence: str = ""
    family: str | None = None
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """A converted prior, its family, and how much of the noise on a flat slice it leaves (`noise_left`)."""

    card: PriorCard
    family: str
    left: float


def import_prior(
    source: Path, target: Path, facts: Facts, *, half: bool = False, overwrite: bool = False, minutes: float = _MINUTES
) -> Imported:
    """Convert a checkpoint into ``target`` (.safetensors) and its card, in a process of its own.

    Raises
    ------
    InputError
        The file is damaged, unsafe, of no known family or of another one than said; a part of it has no place.
    UsageError
        The facts do not fit the file, or the target cannot be written.
    MissingDependency
        The family needs a library that is not installed.
    """
    from medrecon.prior import PriorCard, write_prior

    if target.suffix != ".safetensors":
        raise UsageError("a prior is written as .safetensors", found=target.name)
    if not source.exists():
        raise InputError("there is no such file", where=source.name)
    for interval in (facts.range, facts.network_range):
        if interval is not None and not interval[0] < interval[1]:
            raise UsageError("a range has its lower end first", found=interval)
    answer: dict = {}

    def convert(stand_in: Path) -> None:
        request = {"source": str(source), "target": str(stand_in), "facts": asdict(facts), "half": half}
        answer.update(_in_a_process(request, minutes, source.name))

    def card() -> PriorCard:
        return PriorCard.from_dict(answer["card"] | {"name": target.stem})

    made = write_prior(target, convert, card, overwrite=overwrite)
    return Imported(made, answer["family"], answer["left"])


def _in_a_process(request: dict, minutes: float, name: str) -> dict:
    """The answer of the converting process. Raises the error that it reports."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", "medrecon.families.importing"],
            input=json.dumps(request, default=str), capture_output=True, text=True, timeout=60 * minutes, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InputError("the conversion was stopped", where=name, found=f"more than {minutes:g} minutes") from error
    lines = run.stdout.strip().splitlines()
    if run.returncode != 0 or not lines:
        raise InputError(
            "the conversion ended unexpectedly", where=name,
            found=(run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1],
            hint="The file may be damaged, or larger than the free memory.",
        )  # fmt: skip
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise _error_of(answer["error"])
    return answer


_ERRORS = {
    kind.__name__: kind for kind in (CorruptInput, InputError, MissingDependency, TooLarge, UnsafeInput, UsageError)
}


def _error_of(said: dict) -> MedreconError:
    """The error that another process reported."""
    kind = _ERRORS.get(said["kind"], InputError)
    error = kind.__new__(kind)  # some kinds are made from other parts than those of the message
    MedreconError.__init__(error, **said["parts"])
    return error


# --- in the converting process ---------------------------------------------------------------------------------
def main() -> None:
    """Convert what the request on stdin names; the answer is the last line of stdout."""
    request = json.loads(sys.stdin.read())
    pairs = {key: tuple(value) for key, value in request["facts"].items() if isinstance(value, list)}
    facts = Facts(**(request["facts"] | pairs))
    limit_memory()
    try:
        answer = converted(Path(request["source"]), Path(request["target"]), facts, half=request["half"])
    except MedreconError as error:
        answer = {"error": _said(error)}
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        answer = {"error": _said(TooLarge("the network does not fit into memory", where=Path(request["source"]).name))}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _said(error: MedreconError) -> dict:
    parts: dict[str, str | None] = {"what": error.what}
    for key in ("where", "found", "expected", "hint"):
        value = getattr(error, key, None)
        parts[key] = value if value is None or key == "hint" else str(value)
    return {"kind": type(error).__name__, "parts": parts}


def limit_memory(spare: int | None = None) -> None:
    """Let this process take the free memory and no more, where the system has such limits."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        page, used = resource.getpagesize(), int(Path("/proc/self/statm").read_text("ascii").split()[0])
        allowed = used * page + (available_memory() if spare is None else spare)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.getrlimit(resource.RLIMIT_AS)[1]))


def converted(source: Path, target: Path, facts: Facts, *, half: bool = False) -> dict:
    """Read ``source``, write the weights to ``target``; family, card and check as plain values."""
    from medrecon.families.reading import read_checkpoint
    from medrecon.prior import write_weights

    checkpoint = read_checkpoint(source)
    name, family = recognised(checkpoint, facts.family)
    settings = Settings(facts.settings, name)
    found = family.read(checkpoint, settings)
    settings.check_used()
    card = card_of(name, found, facts, checkpoint.name, "" if source.is_dir() else sha256_of_file(source))
    denoiser = built(family, card, found, checkpoint.name)
    write_weights(target, denoiser, half=half)
    return {"family": name, "card": asdict(card), "left": noise_left(denoiser, card)}


def likeness(checkpoint: Checkpoint) -> tuple[str, float, str]:
    """The family whose names fit best, the share that fits, and both in words."""
    shares = {name: family.share(checkpoint) for name, family in checkpoint_families().items()}
    nearest = max(shares, key=lambda name: shares[name])
    return nearest, shares[nearest], f"{shares[nearest]:.0%} of the names are those of {nearest}"


def recognised(checkpoint: Checkpoint, wanted: str | None = None) -> tuple[str, type[CheckpointFamily]]:
    """The family whose names fit best. Raises InputError for none, and for another than ``wanted``."""
    known = checkpoint_families()
    nearest, share, seen = likeness(checkpoint)
    if share < _ORDINARY_SHARE:
        raise InputError(
            "this is a checkpoint of no known family", where=checkpoint.name,
            found=f"{', '.join(list(checkpoint.weights)[:3])}, ...; {seen}",
            expected=", ".join(f"{name} ({entry.__doc__.strip().splitlines()[0]})" for name, entry in known.items()
                               if entry.__doc__),
        )  # fmt: skip
    if wanted is None or wanted == nearest:
        return nearest, known[nearest]
    if wanted not in known:
        from medrecon.registry import unknown_name

        raise unknown_name("network family", wanted, list(known))
    raise InputError(
        f"this does not look like a checkpoint of {wanted}", where=checkpoint.name, found=seen,
        hint=f"Import it with --family {nearest}, or without --family.",
    )  # fmt: skip


def unit_of(facts: Facts) -> tuple[float, float]:
    """Unit and zero of the solver in the prior's quantity, so that settings mean the same for every prior.

    Hounsfield units count water as 1 and air as 0; of anything else the range is 0 to 1.
    """
    if facts.quantity == "HU":
        return _HOUNSFIELD
    low, high = facts.range
    return high - low, low


def card_of(name: str, found: Found, facts: Facts, source: str = "", sha256: str = "") -> PriorCard:
    """The card of a network with what is known about it. Raises UsageError where the range is not known."""
    from medrecon.prior import PriorCard

    low, high = facts.range
    interval = facts.network_range or found.network_range
    if interval is None:
        raise UsageError(
            "the file does not tell the range of values that the network was trained on", where=source or name,
            hint="State it: --network-range -1 1, or --network-range 0 1. A wrong one gives garbage.",
        )  # fmt: skip
    scale, offset = unit_of(facts)
    physical = (interval[1] - interval[0]) / (high - low)  # network units for one of the quantity
    stretch = physical * scale
    noise = noise_map_of(found.noise)
    architecture = {
        "family": name,
        "network": found.config,
        "predicts": found.predicts,
        "noise": found.noise,
        "stretch": stretch,
        "shift": interval[0] + physical * (offset - low),
        "channels": found.channels,
    }
    origin: dict = {"source": source, "network_range": list(interval), "said": dict(facts.settings)}
    if sha256:
        origin["source_sha256"] = sha256
    values = {
        "name": name,
        "quantity": facts.quantity,
        "scale": scale,
        "offset": offset,
        "sigma_min": noise.sigma_min / physical,
        "sigma_max": noise.sigma_max / physical,
        "range": [low, high],
        "spacing_mm": list(facts.spacing_mm),
        "architecture": architecture,
        "sigma_data": noise.sigma_data / stretch,
        "orientation": facts.orientation,
        "modality": facts.modality or ("ct" if facts.quantity in ("HU", "1/mm") else "mri"),
        "description": facts.description or f"imported from {source}",
        "training": {"imported": origin},
        "licence": facts.licence,
    }
    return PriorCard.from_dict(values)


def built(family: type[CheckpointFamily], card: PriorCard, found: Found, source: str) -> Denoiser:
    """The network with its weights. Raises InputError unless every tensor has its place and every place its tensor."""
    try:
        denoiser = family.denoiser(card)
    except (LookupError, TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise InputError(
            "the network cannot be built from what the file and the settings say", where=source,
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        ) from error  # fmt: skip
    weights = {f"network.{key}": value for key, value in found.weights.items()}
    wanted = {key: tuple(value.shape) for key, value in denoiser.state_dict().items()}
    held = {key: tuple(value.shape) for key, value in weights.items()}
    odd = [
        *(f"{key} has no place" for key in held if key not in wanted),
        *(f"{key} is missing" for key in wanted if key not in held),
        *(
            f"{key} is {held[key]} instead of {wanted[key]}"
            for key in wanted
            if held.get(key, wanted[key]) != wanted[key]
        ),
    ]
    if odd:
        more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise InputError(
            "the weights do not fit the network that their names describe", where=source,
            found="; ".join(odd[:3]).replace("network.", "") + more,
        )  # fmt: skip
    denoiser.load_state_dict(weights)
    return denoiser


def noise_left(denoiser: Denoiser, card: PriorCard) -> float:
    """Error of denoised flat slices over the noise that was added, the worse of two levels.

    A tenth of the range, and the whole of it (or the nearest trained level): predictions that resemble each other at
    one level differ at the other. Raises CorruptInput where the network gives values that are not finite.
    """
    from medrecon.prior import NetworkPrior

    low, high = card.range
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, card.architecture["channels"], _PROBE, _PROBE), generator=generator)
    flat, prior, left = low + 0.3 * (high - low), NetworkPrior(denoiser, card), []
    for share in (0.1, 1.0):
        sigma = min(max(share * (high - low), card.sigma_min), card.sigma_max)
        error = prior.denoise(flat + sigma * noise, sigma) - flat
        if not bool(torch.isfinite(error).all()):
            raise CorruptInput("the network gives values that are not finite", where=card.name)
        left.append(float(error.square().mean().sqrt()) / sigma)
    return max(left)


if __name__ == "__main__":
    main()
