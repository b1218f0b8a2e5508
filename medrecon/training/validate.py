"""How good a prior is on volumes that it was not trained on: the figures of its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medrecon.metrics import HU_RANGE
from medrecon.network import EDMDenoiser
from medrecon.training.corpus import STEP, Corpus
from medrecon.training.denoisers import (
    Denoise,
    bm3d_denoise,
    has_bm3d,
    network_denoise,
    sample_slices,
    tuned_tv,
    tv_denoise,
)
from medrecon.training.guides import PairFolder, PairSettings, guide_maker, usable_runs
from medrecon.training.memorisation import memorisation
from medrecon.training.settings import TrainingSettings

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Noise levels of the comparison with other denoisers, network units."""

CURVE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Noise levels of the card's error curve."""

_CHECK = (0.05, 0.2, 0.5, 1.0)  # noise levels of the checks during a training
_BLIND = 2.0  # at which a guided network answers from its guide: the level of `refine`
_CHECKED = 16  # slices of such a check
_REGION = 6  # pixels around the object, as samplers use the prior
_PIXELS = 48 * 128 * 128  # larger slices, fewer of them
_TUNED = 12  # slices on which total variation is tuned
_BM3D = 4  # slices that BM3D, a second each, is asked for
_LEVELS = (4, 8, 16, 32)  # of what a maker of guides is asked for, where it does not say itself
_PER_PAIR = 8  # slices of each pair
_SEED = 20  # of the noise: the same for every prior


@dataclass(frozen=True, eq=False)
class GuidedSlices:
    """Truth ``(n, 1, h, w)``, guides ``(n, g, h, w)`` and the box of the object, from one pair."""

    views: int
    clean: Tensor
    guide: Tensor


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Slices in full frames ``(n, 1, h, w)``, where in them the object is, and others to tune total variation on."""

    clean: Tensor
    region: Tensor
    tuning: Tensor
    data_range: float
    guided: tuple[GuidedSlices, ...] = ()

    def noise(self, part: Tensor | None = None) -> Tensor:
        """White noise, the same in every call."""
        generator = torch.Generator().manual_seed(_SEED)
        return torch.randn((self.clean if part is None else part).shape, generator=generator)


def validation_set(corpus: Corpus, settings: TrainingSettings, pairs: PairFolder | None = None) -> ValidationSet:
    """Slices spread evenly over a corpus; every fourth goes to the tuning of total variation."""
    multiple = settings.architecture().multiple
    frame = np.array([source.shape[1:] for source in corpus.used]).max(0)
    if corpus.intensity.signed:  # sections have no border: their middles do
        frame = np.minimum(frame, settings.frame)
    height, width = (-(-int(side) // multiple) * multiple for side in frame)
    wanted = max(4, min(settings.validation_slices, _PIXELS // (height * width)))
    tuning_count = max(1, min(_TUNED, wanted // 3))
    numbers = np.unique(np.linspace(0, len(corpus) - 1, wanted + tuning_count).round().astype(int))
    aside = np.zeros(len(numbers), dtype=bool)
    if len(numbers) > 1:
        aside[np.linspace(1, len(numbers) - 1, min(tuning_count, len(numbers) - 1)).round().astype(int)] = True
    clean, region = _frames(corpus, numbers[~aside], height, width)
    tuning, _ = _frames(corpus, numbers[aside] if aside.any() else numbers, height, width)
    guided = tuple(_guided(pairs, n, settings.guides, multiple) for n in range(pairs.ready())) if pairs else ()
    scale = corpus.intensity.scale
    data_range = HU_RANGE / scale if corpus.intensity.quantity == "HU" and scale else 1.0
    return ValidationSet(clean, region, tuning, data_range, guided)


def validation_pairs(corpus: Corpus, settings: TrainingSettings, folder: Path) -> PairFolder | None:
    """Classical volumes of few-view scans of validation volumes; None where there are no neighbouring slices."""
    if not settings.guided or settings.validation_pairs == 0 or not usable_runs(corpus, settings.modality):
        return None
    stated = guide_maker(settings.modality).meta.get("levels", _LEVELS)
    levels = tuple(int(n) for n in stated)  # type: ignore[attr-defined]
    recipe = PairSettings(
        settings.modality, settings.validation_pairs, _SEED, frame=settings.frame, enlarged=0.0, views=levels,
        mapped=settings.mapped,
    )  # fmt: skip
    return PairFolder(folder, corpus, recipe)


def _frames(corpus: Corpus, numbers: np.ndarray, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Slices in the middle of a common frame (or their middles), and the region in which samplers apply the prior."""
    images = np.zeros((len(numbers), 1, height, width), np.float32)
    region = np.zeros(images.shape, bool)
    for place, number in enumerate(numbers):
        whole = corpus.whole(int(number))
        cut = [max(0, (have - want) // 2) for have, want in zip(whole.shape, (height, width), strict=True)]
        whole = whole[cut[0] : cut[0] + height, cut[1] : cut[1] + width]
        top, left = (height - whole.shape[0]) // 2, (width - whole.shape[1]) // 2
        images[place, 0, top : top + whole.shape[0], left : left + whole.shape[1]] = whole
        *_, h, w, y, x = corpus.index[number]
        y, x = y + top - cut[0], x + left - cut[1]
        region[place, 0, max(0, y - _REGION) : y + h + _REGION, max(0, x - _REGION) : x + w + _REGION] = True
    return torch.from_numpy(images), torch.from_numpy(region)


def _guided(pairs: PairFolder, number: int, guides: int, multiple: int) -> GuidedSlices:
    truth, *shown = (part.astype(np.float32) * np.float32(STEP) for part in pairs.pair(number))
    positions = np.unique(np.linspace(0, len(truth) - 1, _PER_PAIR).round().astype(int))
    around = positions[:, None] + np.arange(-(guides // 2), guides // 2 + 1)
    stack = np.concatenate([part[np.clip(around, 0, len(truth) - 1)] for part in shown], axis=1)
    height, width = truth.shape[1:]
    padding = ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
    views = pairs.settings.views[number % len(pairs.settings.views)]
    return GuidedSlices(
        views, torch.from_numpy(np.pad(truth[positions][:, None], padding)), torch.from_numpy(np.pad(stack, padding))
    )


# --- figures ---------------------------------------------------------------------------------------------------
def psnr(estimate: Tensor, clean: Tensor, data_range: float) -> float:
    """Mean over slices of the peak signal-to-noise ratio, dB."""
    error = (estimate - clean).square().mean(dim=(1, 2, 3)).clamp_min(1e-12)
    return float((10 * torch.log10(data_range**2 / error)).mean())


def denoising(denoise: Denoise, data: ValidationSet, sigmas: tuple[float, ...], count: int = 0) -> dict[str, float]:
    """PSNR at each noise level, on the first ``count`` slices (all if 0)."""
    clean, noise = data.clean, data.noise()
    if count:
        clean, noise = clean[:count], noise[:count]
    return {
        f"{sigma:g}": round(psnr(denoise(clean + sigma * noise, sigma), clean, data.data_range), 3) for sigma in sigmas
    }


def error_curves(network: EDMDenoiser, data: ValidationSet) -> tuple[dict[str, float], dict[str, float]]:
    """Root-mean-square error without a guide at each noise level: over whole slices, and where samplers apply it.

    Empty space is denoised almost without error, so that the first depends on how far the objects fill their frames.
    """
    noise = data.noise()
    whole: dict[str, float] = {}
    region: dict[str, float] = {}
    for sigma in CURVE:
        squares = (network_denoise(network, data.clean + sigma * noise, sigma) - data.clean).square()
        whole[f"{sigma:g}"] = float(squares.mean().sqrt())
        region[f"{sigma:g}"] = float(squares[data.region].mean().sqrt())
    return whole, region


def guided_figures(network: EDMDenoiser, data: ValidationSet) -> dict[str, object]:
    """Errors with a guide: root-mean-square over all pairs at each noise level, and PSNR by number of views."""
    curve: dict[str, float] = {}
    by_views: dict[int, dict[str, list[float]]] = {}
    for sigma in CURVE:
        total, count = 0.0, 0
        for part in data.guided:
            estimate = _denoise_guided(network, part, sigma)
            total += float((estimate - part.clean).square().sum(dtype=torch.float64))
            count += part.clean.numel()
            if sigma in (*SIGMAS, _BLIND):
                entry = by_views.setdefault(part.views, {}).setdefault(f"{sigma:g}", [])
                entry.append(psnr(estimate, part.clean, data.data_range))
        curve[f"{sigma:g}"] = (total / count) ** 0.5
    for part in data.guided:
        middle = part.guide[:, network.guides // 2][:, None]
        by_views[part.views].setdefault("guide", []).append(psnr(middle, part.clean, data.data_range))
        quiet = psnr(_denoise_quiet(network, part), part.clean, data.data_range)
        by_views[part.views].setdefault("quiet", []).append(quiet)
    means = {
        str(views): {name: round(float(np.mean(values)), 3) for name, values in found.items()}
        for views, found in sorted(by_views.items())
    }
    return {"rms_error": curve, "psnr_by_views": means}


def _denoise_guided(network: EDMDenoiser, part: GuidedSlices, sigma: float) -> Tensor:
    noise = torch.randn(part.clean.shape, generator=torch.Generator().manual_seed(_SEED))
    return network_denoise(network, part.clean + sigma * noise, sigma, part.guide)


def _denoise_quiet(network: EDMDenoiser, part: GuidedSlices) -> Tensor:
    """As `refine` asks: the guide's own slice stands for the noisy one."""
    return network_denoise(network, part.guide[:, network.guides // 2, None], _BLIND, part.guide)


def _guided_psnr(network: EDMDenoiser, data: ValidationSet, sigma: float | None) -> float:
    """Mean over the pairs; of what `refine` asks for if there is no noise level."""
    estimates = [
        _denoise_quiet(network, part) if sigma is None else _denoise_guided(network, part, sigma)
        for part in data.guided
    ]
    each = zip(estimates, data.guided, strict=True)
    return float(np.mean([psnr(estimate, part.clean, data.data_range) for estimate, part in each]))


def quick_check(network: EDMDenoiser, data: ValidationSet) -> dict[str, object]:
    """A few figures of a network in training."""
    found: dict[str, object] = {
        "psnr": denoising(lambda x, sigma: network_denoise(network, x, sigma), data, _CHECK, _CHECKED)
    }
    if data.guided:
        found["guided_psnr"] = {
            "quiet" if sigma is None else f"{sigma:g}": round(_guided_psnr(network, data, sigma), 3)
            for sigma in (*_CHECK, _BLIND, None)
        }
    return found


def full_report(
    network: EDMDenoiser, data: ValidationSet, training: Corpus, settings: TrainingSettings
) -> dict[str, object]:
    """Everything that a card says about quality: see docs/training.md.

    Errors are in network units. BM3D is asked only where it is installed.
    """
    tuning_noise = data.noise(data.tuning)
    weights: dict[float, float] = {}
    for sigma in SIGMAS:
        near = sigma * weights[before] / before if (before := max(weights, default=0.0)) else None
        weights[sigma] = tuned_tv(data.tuning, sigma, tuning_noise, near)

    def by_network(noisy: Tensor, sigma: float) -> Tensor:
        return network_denoise(network, noisy, sigma)

    whole, region = error_curves(network, data)
    report: dict[str, object] = {
        "slices": len(data.clean),
        "data_range": data.data_range,
        "error_curve": whole,
        "error_curve_region": region,
        "denoising_psnr": {
            "network": denoising(by_network, data, SIGMAS),
            "tv": denoising(lambda noisy, sigma: tv_denoise(noisy, weights[sigma]), data, SIGMAS),
        },
        "tv_weights": {f"{sigma:g}": weight for sigma, weight in weights.items()},
    }
    if has_bm3d():
        report["bm3d_psnr"] = {
            "slices": min(_BM3D, len(data.clean)),
            "network": denoising(by_network, data, SIGMAS, _BM3D),
            "bm3d": denoising(bm3d_denoise, data, SIGMAS, _BM3D),
        }
    if data.guided:
        report["guided"] = guided_figures(network, data)
    low, high = settings.sigma_trained()
    size = max(size for size, _, _ in settings.sizes)
    noisy = data.clean + data.noise()
    candidates = {
        "sampled": sample_slices(network, settings.sampled_slices, size, (low, high))[:, 0].numpy(),
        "denoised": by_network(noisy, 1.0)[:, 0].numpy(),
    }
    report["memorisation"] = memorisation(candidates, training, data.clean[:, 0].numpy())
    return report
