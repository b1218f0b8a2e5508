"""The mean of two priors: what a later stage of a training learnt, without all that it forgot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from medrecon.errors import UsageError
from medrecon.prior import PriorCard, load_prior, save_prior


def blend(first: str, second: str, output: Path, share: float = 0.5, *, overwrite: bool = False) -> PriorCard:
    """Write the prior whose weights are ``(1 - share) * first + share * second``.

    Networks that were trained one from the other lie in one valley, and a point between them often does better than
    either on data that the later one was not trained on (Wortsman et al. 2022, WiSE-FT). The card is the second one's,
    says what was blended, and has no validation: `train` with ``steps=0`` makes one.

    Parameters
    ----------
    first, second
        Names or files of priors of the package's own kind; the second may have been trained from the first.
    output
        ``NAME.safetensors``.
    share
        Of the second, 0 to 1.

    Raises
    ------
    UsageError
        A share outside of 0 to 1; networks or units that differ.
    """
    if not 0 <= share <= 1:
        raise UsageError("a share lies between 0 and 1", found=share)
    one, other = load_prior(first), load_prior(second)
    mine, theirs = one.denoiser.state_dict(), other.denoiser.state_dict()
    if {key: value.shape for key, value in mine.items()} != {key: value.shape for key, value in theirs.items()}:
        raise UsageError("these priors cannot be blended: another network", where=one.card.name, found=other.card.name)
    same = ("quantity", "scale", "offset", "sigma_data", "guide_error", "modality")
    for name in same:
        if (found := getattr(other.card, name)) != (expected := getattr(one.card, name)):
            raise UsageError(
                f"these priors cannot be blended: another {name}", where=one.card.name, found=found, expected=expected
            )
    mixed = {key: torch.lerp(value, theirs[key], share) for key, value in mine.items()}
    other.denoiser.load_state_dict(mixed)
    parts = [{"name": card.name, "sha256": card.sha256} for card in (one.card, other.card)]
    facts = {"blended": parts, "share": share}
    training = {key: value for key, value in other.card.training.items() if key != "validation"} | facts
    save_prior(output, other.denoiser, replace(other.card, training=training, error_curve=()), overwrite=overwrite)
    return load_prior(str(output)).card
