"""Priors: what images look like, as a denoiser ``E[clean | noisy]`` in physical units.

Samplers see only :meth:`Prior.denoise`. A network's parameterisation, range and padding stay in here.
"""

from __future__ import annotations

import copy
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from math import inf, isfinite
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medrecon.calibration import Calibration
from medrecon.data.atomic import Transaction, atomic_write, check_target, sha256_of_file
from medrecon.errors import CorruptInput, InputError, UsageError
from medrecon.families import family_of
from medrecon.families.base import LEAN, Checkpoint
from medrecon.model_statistics import ModelStatistics
from medrecon.network import Denoiser, Slicewise, count_parameters
from medrecon.parameterisation import CalledWithSigma, ParameterisedDenoiser, VarianceExploding
from medrecon.registry import unknown_name
from medrecon.schedules import falling
from medrecon.tiles import OVERLAP, TiledDenoiser

_LARGE = 2e7  # parameters: one slice fills the cores, and eight would take gigabytes
_CARDLESS = "Keep the .json with the weights; published checkpoints are converted by medrecon priors import."
BUNDLED = Path(__file__).resolve().parent / "weights"


EMPTY = 0.08
"""Nearer to empty space than this, in network units, counts as empty."""

ANY = "any"
"""Orientation of a prior that knows slices of every plane, either way round."""

EVERY_WAY = "+directions"
"""Ends the name of a method whose settings are for volumes of which slices of all directions can be taken."""

OBLONG = 1.6
"""Pixels that are longer than this many times their width are none to learn a slice of a body from, or to ask for."""


@dataclass(frozen=True)
class PriorCard:
    """What a prior is good for; stored as JSON beside its weights.

    ``scale`` and ``offset`` map network units to the physical quantity: ``physical = offset + scale * network``.
    ``sigma_min`` and ``sigma_max`` bound the trained noise levels and ``range`` the trained values, both in the
    physical quantity. ``sigma_data`` is the spread of the data in network units. ``error_curve`` lists
    ``[sigma, root-mean-square error of the denoised slice]`` on validation data. ``orientation`` says where x, y and
    z of the slices grow, or `ANY`.

    ``statistics`` are those of the linear model of the prior (:mod:`medrecon.model_statistics`), ``sequences`` the
    levels that a search found for a method (:mod:`medrecon.level_search`); both in network units.

    ``architecture`` holds what builds the network, of the ``family`` that it names (`medrecon.families`; none is the
    lean U-Net). Imported networks have a range of their own; their "network units" are those of the solver, and the
    step from there to their own range belongs to the architecture.

    ``calibration`` says how wide intervals around results of this prior must be (`medrecon.calibration`).

    ``brightness`` is the lowest and the highest upper quartile of the objects that it was trained on, in the quantity:
    where soft tissue lies in CT, whatever bone and lung there is. Empty where each volume has a scale of its own.

    ``settings`` holds, by method, what suits this prior better than the method's own defaults: how many rounds of
    ``refine`` a prior profits from, for instance, depends on the guides that it was trained with. Those under a name
    that ends in ``+directions`` come on top for volumes of which slices of all directions can be taken (priors of any
    orientation, 32 voxels along each axis, none more than 1.6 times as long as another).
    """

    name: str
    quantity: str
    scale: float
    offset: float
    sigma_min: float
    sigma_max: float
    range: tuple[float, float]
    spacing_mm: tuple[float, float]
    architecture: dict
    sigma_data: float
    guide_error: float = 0.1
    orientation: str = "LPS"
    modality: str = "ct"
    error_curve: tuple[tuple[float, float], ...] = ()
    statistics: dict = field(default_factory=dict)
    sequences: tuple[dict, ...] = ()
    description: str = ""
    training: dict = field(default_factory=dict)
    licence: str = ""
    sha256: str = ""
    calibration: tuple[Calibration, ...] = ()
    brightness: tuple[float, ...] = ()
    settings: dict[str, dict] = field(default_factory=dict)

    @property
    def signed(self) -> bool:
        """Whether values swing around zero, as seismic amplitudes do, so that none of them means empty space."""
        return self.quantity == "amplitude"

    @classmethod
    def from_dict(cls, values: dict) -> PriorCard:
        """A card from JSON values. Raises InputError for missing, unknown or impossible fields."""
        if not isinstance(values, dict):
            raise InputError("the prior's card is not a JSON object", found=type(values).__name__)
        known = set(cls.__dataclass_fields__)
        required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
        if missing := required - set(values):
            raise InputError("the prior's card lacks fields", found=sorted(values), expected=sorted(missing))
        if extra := set(values) - known:
            raise InputError("the prior's card has unknown fields", found=sorted(extra), expected=sorted(known))
        try:
            as_tuples = {
                "range": tuple(values["range"]),
                "spacing_mm": tuple(values["spacing_mm"]),
                "brightness": tuple(values.get("brightness", ())),
                "error_curve": tuple(tuple(pair) for pair in values.get("error_curve", ())),
                "sequences": tuple(values.get("sequences", ())),
                "calibration": tuple(map(Calibration.from_dict, values.get("calibration", ()))),
            }
            card = cls(**(values | as_tuples))
            wrong = card._impossible()
            if card.statistics:
                ModelStatistics.from_dict(card.statistics)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError("the prior's card has a field of the wrong type", found=str(error)) from error
        if wrong:
            raise InputError("the prior's card has impossible values", found=", ".join(wrong))
        return card

    def _impossible(self) -> list[str]:
        """Fields whose values no prior can have."""
        low, high = self.range
        levels = [level for level, _ in self.error_curve]
        checks = {
            "scale": 0 < self.scale < inf,
            "offset": isfinite(self.offset),
            "sigma_data": 0 < self.sigma_data < inf,
            "guide_error": 0 < self.guide_error < inf,
            "sigma_min and sigma_max": 0 < self.sigma_min < self.sigma_max < inf,
            "range": isfinite(low) and isfinite(high) and low < high,
            "brightness": not self.brightness
            or (len(self.brightness) == 2 and -inf < self.brightness[0] <= self.brightness[1] < inf),
            "spacing_mm": len(self.spacing_mm) == 2 and all(0 < size < inf for size in self.spacing_mm),
            "orientation": self.orientation == ANY
            or (
                len(self.orientation) == 3
                and all(sum(letter in axis for letter in self.orientation) == 1 for axis in ("RL", "AP", "SI"))
            ),
            "error_curve": levels == sorted(set(levels))
            and all(0 < n < inf for pair in self.error_curve for n in pair),
            "settings": all(
                isinstance(said, dict) and all(isinstance(name, str) for name in (method, *said))
                for method, said in self.settings.items()
            ),
            "sequences": all(
                isinstance(entry["method"], str) and entry["steps"] == len(entry["levels"]) and falling(entry["levels"])
                for entry in self.sequences
            ),
        }
        return [
            f"{name} {'' if ' ' in name else getattr(self, name)}".strip() for name, fine in checks.items() if not fine
        ]


class Prior(Slicewise, ABC):
    """A denoiser with the facts a solver must know about it."""

    card: PriorCard

    @abstractmethod
    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Expected clean slices given noisy ones.

        Parameters
        ----------
        x : Tensor
            ``(slices, channels, height, width)`` in the card's quantity, any height and width.
        sigma : float
            Standard deviation of the white noise in ``x``, in the card's quantity.
        """

    def rms_error(self, sigma: float) -> float:
        """Root-mean-square error of ``denoise`` at ``sigma`` on validation data, from the card.

        Log-log interpolation of the card's error curve; ``min(sigma, range)`` where there is none.
        """
        curve = self.card.error_curve
        if not curve:
            return min(sigma, self.card.range[1] - self.card.range[0])
        levels, errors = np.log(np.array(curve, dtype=float)).T
        position = float(np.interp(np.log(sigma), levels, errors))
        if np.log(sigma) < levels[0]:  # below the measured curve the error falls in proportion
            position += float(np.log(sigma) - levels[0])
        return float(np.exp(position))


class GaussianPrior(Prior):
    """Stationary Gaussian slices with a known power spectrum: the oracle of the tests.

    ``denoise`` is the exact posterior mean ``m + S / (S + sigma^2) (x - m)`` in the Fourier domain, for
    ``spectrum`` = eigenvalues of the periodic covariance on ``(height, width)``.
    """

    def __init__(self, spectrum: Tensor, mean: float = 0.0, quantity: str = "a.u.") -> None:
        self.spectrum, self.mean = spectrum, mean
        deviation = float(spectrum.mean().sqrt())
        self.card = PriorCard(
            name="gaussian",
            quantity=quantity,
            scale=1.0,
            offset=0.0,
            sigma_min=0.0,
            sigma_max=float("inf"),
            range=(mean - 4 * deviation, mean + 4 * deviation),
            spacing_mm=(),  # type: ignore[arg-type]
            architecture={},
            sigma_data=deviation,
        )

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Exact posterior mean."""
        gain = self.spectrum / (self.spectrum + sigma**2)
        return torch.fft.ifft2(torch.fft.fft2(x - self.mean) * gain).real + self.mean

    def rms_error(self, sigma: float) -> float:
        """Exact root-mean-square error of the posterior mean."""
        return float((self.spectrum * sigma**2 / (self.spectrum + sigma**2)).mean().sqrt())


class NetworkPrior(Prior):
    """A network with its card: units, padding to the sizes that it can take, batches."""

    def __init__(self, denoiser: Denoiser, card: PriorCard, batch: int = 8) -> None:
        self.denoiser = denoiser.eval().requires_grad_(False)
        nn.Module.to(self.denoiser, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.card, self.batch = card, batch

    @property
    def guides(self) -> int:
        """Number of guide slices that the network was trained with."""
        return self.denoiser.guides

    @property
    def mapped(self) -> bool:
        """Whether it was shown where the guide was measured."""
        return self.denoiser.mapped

    @property
    def groups(self) -> int:
        """Number of neighbouring slices that the network takes and returns."""
        return self.denoiser.groups

    @property
    def whole(self) -> bool:
        """Whether the network must see whole slices."""
        return self.denoiser.whole

    def at(self, turn: int) -> Self:
        """See :meth:`Slicewise.at`."""
        moved = self.denoiser.at(turn)
        if moved is self.denoiser:
            return self
        other = copy.copy(self)
        other.denoiser = moved
        return other

    def tiled(self, size: int, overlap: int = OVERLAP) -> NetworkPrior:
        """The same on tiles of ``size`` pixels that share ``overlap`` of them with their neighbours.

        Its card says so. Raises UsageError where those do not fit the network.
        """
        card = replace(self.card, architecture=self.card.architecture | {"tile": [size, overlap]})
        return NetworkPrior(TiledDenoiser(self.denoiser, size, overlap), card, self.batch)

    def to(self, device: str) -> NetworkPrior:
        """Move the weights to a device."""
        self.denoiser.to(device)
        return self

    def denoise(self, x: Tensor, sigma: float, guide: Tensor | None = None) -> Tensor:
        """See :meth:`Prior.denoise`; ``guide`` is ``(slices, guides, height, width)`` in the card's quantity.

        As many maps follow its slices for a network that is `mapped`. A graph is kept only where ``x`` asks for its
        gradient.
        """
        with torch.inference_mode(not x.requires_grad):
            return self._denoise(x, sigma, guide)

    def _denoise(self, x: Tensor, sigma: float, guide: Tensor | None) -> Tensor:
        scale, offset = self.card.scale, self.card.offset
        level = torch.tensor([sigma / scale], dtype=torch.float32, device=x.device)
        noisy = (x - offset) / scale
        if guide is not None:
            guide = (guide - offset) / scale if self.guides else None
        height, width = x.shape[-2:]
        multiple = self.denoiser.multiple
        padding = (0, -width % multiple, 0, -height % multiple)
        pieces = []
        for start in range(0, len(x), self.batch):
            piece = functional.pad(noisy[start : start + self.batch], padding, mode="replicate")
            extra = None
            if guide is not None:
                extra = functional.pad(guide[start : start + self.batch], padding, mode="replicate")
            piece = piece.contiguous(memory_format=torch.channels_last)
            pieces.append(self.denoiser(piece, level, extra)[..., :height, :width])
        return torch.cat(pieces).contiguous() * scale + offset


def denoiser_prior(
    model: Callable[[Tensor, Tensor], Tensor],
    card: PriorCard,
    *,
    network_range: tuple[float, float] = (0.0, 1.0),
    multiple: int = 1,
) -> NetworkPrior:
    """A prior from any denoiser ``model(x, sigma)``, such as those of deepinv.

    Parameters
    ----------
    model
        Takes ``(slices, channels, height, width)`` and ``(slices,)`` standard deviations, both in its own range. A
        ``torch.nn.Module`` is set to evaluation and frozen.
    card
        Its ``range`` are the physical values of ``network_range``; ``sigma_min`` and ``sigma_max`` what the denoiser
        was trained on, in the card's quantity.
    multiple
        Height and width are padded to multiples of this.
    """
    low, high = card.range
    physical = (network_range[1] - network_range[0]) / (high - low)
    levels = VarianceExploding(card.sigma_min * physical, card.sigma_max * physical)
    stretch, shift = physical * card.scale, network_range[0] + physical * (card.offset - low)
    denoiser = ParameterisedDenoiser(
        CalledWithSigma(model), "D", levels, stretch=stretch, shift=shift, multiple=multiple
    )
    return NetworkPrior(denoiser, card)


def bundled_priors() -> list[str]:
    """Names of the priors that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def _locate(name_or_path: str) -> Path:
    bundled = BUNDLED / f"{name_or_path}.safetensors"
    # A folder that happens to be called like a prior of the package does not stand for one
    if name_or_path.endswith(".safetensors") or (Path(name_or_path).exists() and not bundled.is_file()):
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError("there is no such prior file", where=path.name)
        return path
    if not bundled.is_file():
        raise unknown_name("prior", name_or_path, bundled_priors())
    return bundled


def read_card(name_or_path: str) -> PriorCard:
    """The card of a bundled prior or of a prior file. Raises InputError where it is missing or damaged."""
    path = _locate(name_or_path).with_suffix(".json")
    if not path.is_file():
        raise InputError("the prior has no card beside it", where=path.name, hint=_CARDLESS)
    try:
        return PriorCard.from_dict(json.loads(path.read_text()))
    except ValueError as error:  # not JSON, or not even text
        raise CorruptInput("the prior's card is not valid JSON", where=path.name) from error


def load_prior(name_or_path: str, *, device: str = "cpu", verify: bool = True) -> NetworkPrior:
    """A prior from the package or from a ``.safetensors`` file with its ``.json`` card.

    Raises UsageError for an unknown name, CorruptInput when the weights do not match the card's hash.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path, card = _locate(name_or_path), read_card(name_or_path)
    if verify and card.sha256 and sha256_of_file(path) != card.sha256:
        raise CorruptInput("the weights do not match their card", where=path.name, hint="Get both files again.")
    try:
        weights = {key: value.float() for key, value in load_file(path).items()}
    except SafetensorError as error:
        raise CorruptInput("not a readable safetensors file", where=path.name) from error
    try:
        denoiser = family_of(card).denoiser(card)
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise InputError("the card's architecture cannot be built", where=path.name, found=card.architecture) from error
    try:
        denoiser.load_state_dict(weights)
    except RuntimeError as error:
        from medrecon.families.importing import likeness

        raise CorruptInput(
            "the weights do not fit the card's architecture", where=path.name,
            found=likeness(Checkpoint(path.name, weights))[2], expected=card.architecture.get("family", LEAN),
        ) from error  # fmt: skip
    return NetworkPrior(denoiser, card, batch=1 if count_parameters(denoiser) > _LARGE else 8).to(device)


def save_prior(path: Path, denoiser: Denoiser, card: PriorCard, *, half: bool = True, overwrite: bool = False) -> None:
    """Write weights (``.safetensors``, half precision by default) and the card beside them.

    Half precision changes the network's output by less than 0.1 % (see docs/training.md) and halves the file.
    """
    write_prior(path, lambda target: write_weights(target, denoiser, half=half), lambda: card, overwrite=overwrite)


def write_weights(path: Path, denoiser: Denoiser, *, half: bool) -> None:
    """The weights alone, as safetensors."""
    from safetensors.torch import save_file

    kind = torch.float16 if half else torch.float32
    save_file({key: value.detach().to(kind).contiguous() for key, value in denoiser.state_dict().items()}, path)


def write_prior(
    path: Path, weights: Callable[[Path], None], card: Callable[[], PriorCard], *, overwrite: bool = False
) -> PriorCard:
    """Let ``weights`` fill the ``.safetensors`` file, then put ``card()`` beside it; both appear together.

    Returns the card as written, with the hash of the weights.
    """
    if path.suffix != ".safetensors":
        raise UsageError("a prior is written as .safetensors", found=path.name)
    with Transaction(overwrite=overwrite) as transaction:
        for target in (path, path.with_suffix(".json")):
            check_target(target, overwrite=overwrite)
        stand_in = transaction.write(path, weights)
        complete = replace(card(), sha256=sha256_of_file(stand_in))
        transaction.write(path.with_suffix(".json"), _card_writer(complete))
        transaction.commit()
    return complete


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def copy_prior(name_or_path: str, target: Path, card: PriorCard, *, overwrite: bool = False) -> PriorCard:
    """The weights of a prior in another file, with another card; returns the card as written.

    Source and target may be one file. Raises as :func:`write_prior` and :func:`read_card`.
    """
    source = _locate(name_or_path)
    return write_prior(target, lambda part: _copy(source, part), lambda: card, overwrite=overwrite)


def update_card(name_or_path: str, card: PriorCard) -> Path:
    """Put another card in the place of that of a prior; returns where. Raises what `atomic_write` raises."""
    return atomic_write(_locate(name_or_path).with_suffix(".json"), _card_writer(card), overwrite=True)


def _card_writer(card: PriorCard) -> Callable[[Path], None]:
    text = json.dumps(asdict(card), indent=1)

    def write(target: Path) -> None:
        target.write_text(text + "\n")

    return write


def check_compatible(card: PriorCard, quantity: str, values: Sequence[float]) -> None:
    """Raise InputError when a prior of another quantity, or far out of its range, would be used.

    ``values`` are low and high percentiles of a classical volume in ``quantity``.
    """
    if card.quantity != quantity:
        raise InputError(
            "the prior is of another quantity than the volume",
            where=card.name,
            found=card.quantity,
            expected=quantity,
            hint="Choose another prior: medrecon priors list.",
        )
    if (channels := card.architecture.get("channels", 1)) != 1:
        raise InputError("the prior is of slices with several channels", where=card.name, found=channels, expected=1)
    low, high = card.range
    width = high - low
    if min(values) < low - width or max(values) > high + width:
        raise InputError(
            "the volume lies far outside the range that the prior was trained on",
            where=card.name,
            found=f"{min(values):.4g} to {max(values):.4g} {quantity}",
            expected=f"{low:.4g} to {high:.4g}",
            hint="Check the units of the data and of the geometry.",
        )
