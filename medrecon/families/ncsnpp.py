"""NCSN++ of score_sde (Song et al. 2021), variance exploding: DiffusionMBIR, score-MRI, TPDM, ISCS.

The file holds ``model`` (with the prefix of a parallel wrapper), ``ema`` and the optimiser. The layers stand in one
numbered list, so the architecture is read from the kind of each. The averaged weights are a plain list, in the order
of the trainable parameters; the fixed Fourier frequencies stand in ``model`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from medrecon.errors import CorruptInput, InputError
from medrecon.families.base import Checkpoint, CheckpointFamily, Found, Settings, families, refuse_3d
from medrecon.families.layers import attend, double, fir, halve

_FREQUENCIES = "all_modules.0.W"
_LEVELS = "sigmas"  # a buffer in some versions of the code: the noise levels, largest first
_TAPS = (1.0, 3.0, 3.0, 1.0)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(width // 4, 32), width, eps=1e-6)


class _PointwiseLinear(nn.Module):
    """A matrix over the channels, stored input first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(width, width))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.W.T[:, :, None, None], self.b)


class _Frequencies(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(length), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        angles = 2 * math.pi * x[:, None] * self.W
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Attention(nn.Module):
    def __init__(self, width: int, rescale: float) -> None:
        super().__init__()
        self.GroupNorm_0 = _norm(width)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (_PointwiseLinear(width) for _ in range(4))
        self.rescale = rescale

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.GroupNorm_0(x)
        parts = (layer(h).flatten(2)[:, None] for layer in (self.NIN_0, self.NIN_1, self.NIN_2))
        return (x + self.NIN_3(attend(*parts).reshape(x.shape))) * self.rescale


class _Block(nn.Module):
    """A residual block as in BigGAN; ``resample`` halves or doubles the resolution inside it."""

    def __init__(self, before: int, after: int, embedding: int, config: dict, resample: str = "") -> None:
        super().__init__()
        self.GroupNorm_0 = _norm(before)
        self.Conv_0 = nn.Conv2d(before, after, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, after)
        self.GroupNorm_1 = _norm(after)
        self.Conv_1 = nn.Conv2d(after, after, 3, padding=1)
        self.Conv_2 = nn.Conv2d(before, after, 1) if resample or before != after else nn.Identity()
        self.resample, self.taps, self.rescale = resample, tuple(config["fir"]), config["rescale"]

    def _resampled(self, x: Tensor) -> Tensor:
        if not self.resample:
            return x
        return {"down": halve, "up": double}[self.resample](x, fir(self.taps, x))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.Conv_0(self._resampled(functional.silu(self.GroupNorm_0(x))))
        h = h + self.Dense_0(functional.silu(embedding))[:, :, None, None]
        h = self.Conv_1(functional.silu(self.GroupNorm_1(h)))
        return (self.Conv_2(self._resampled(x)) + h) * self.rescale


class _FilteredConv(nn.Conv2d):
    """Filter without loss of border pixels, then a 3x3 convolution with stride 2."""

    def __init__(self, before: int, after: int, taps: list[float]) -> None:
        super().__init__(before, after, 3, stride=2)
        self.taps = taps

    def forward(self, x: Tensor) -> Tensor:
        kernel = fir(self.taps, x).expand(x.shape[1], 1, -1, -1)
        total = len(
            self.taps
        )  # of padding: (taps - 1) for the filter, (3 - 1) for the convolution, less 1 for the stride
        padded = functional.pad(x, ((total + 1) // 2, total // 2) * 2)
        return super().forward(functional.conv2d(padded, kernel, groups=x.shape[1]))


class _PyramidConv(nn.Module):
    """The input at half its resolution, to be added to the features."""

    def __init__(self, before: int, after: int, taps: list[float]) -> None:
        super().__init__()
        self.Conv2d_0 = _FilteredConv(before, after, taps)

    def forward(self, x: Tensor) -> Tensor:
        return self.Conv2d_0(x)


class NCSNpp(nn.Module):
    """The network: ``forward(x, sigma)`` returns the score at ``x``.

    ``config`` has ``channels``, ``width``, ``mult``, ``blocks``, ``attention`` (levels that have it, whatever the size
    of the slice), ``pyramid`` (whether the input is fed in at every resolution), ``fir``, ``rescale``, ``centred`` (the
    network takes -1 to 1; otherwise it maps 0 to 1 there itself) and ``over_sigma`` (the output is divided by sigma).
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        width, embedding = config["width"], 4 * config["width"]
        widths = [width * factor for factor in config["mult"]]
        layers: list[nn.Module] = [
            _Frequencies(width),
            nn.Linear(2 * width, embedding),
            nn.Linear(embedding, embedding),
            nn.Conv2d(config["channels"], width, 3, padding=1),
        ]
        skips, now, pyramid = [width], width, config["channels"]

        def block(before: int, after: int, resample: str = "") -> None:
            layers.append(_Block(before, after, embedding, config, resample))

        for level, after in enumerate(widths):
            for _ in range(config["blocks"]):
                block(now, after)
                now = after
                if level in config["attention"]:
                    layers.append(_Attention(now, config["rescale"]))
                skips.append(now)
            if level < len(widths) - 1:
                block(now, now, "down")
                if config["pyramid"]:
                    layers.append(_PyramidConv(pyramid, now, config["fir"]))
                    pyramid = now
                skips.append(now)
        block(now, now)
        layers.append(_Attention(now, config["rescale"]))
        block(now, now)
        for level, after in reversed(list(enumerate(widths))):
            for _ in range(config["blocks"] + 1):
                block(now + skips.pop(), after)
                now = after
            if level in config["attention"]:
                layers.append(_Attention(now, config["rescale"]))
            if level > 0:
                block(now, now, "up")
        layers += [_norm(now), nn.Conv2d(now, config["channels"], 3, padding=1)]
        self.all_modules = nn.ModuleList(layers)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``(slices, channels, h, w)`` and ``(1,)`` or ``(slices,)`` to the shape of ``x``."""
        config, layers = self.config, iter(self.all_modules)
        levels = len(config["mult"])
        features = next(layers)(sigma.log())
        embedding = next(layers)(features)
        embedding = next(layers)(functional.silu(embedding))
        h = pyramid = x if config["centred"] else 2 * x - 1
        h = next(layers)(h)
        skips = [h]
        for level in range(levels):
            for _ in range(config["blocks"]):
                h = next(layers)(h, embedding)
                if level in config["attention"]:
                    h = next(layers)(h, embedding)
                skips.append(h)
            if level < levels - 1:
                h = next(layers)(h, embedding)
                if config["pyramid"]:
                    h = pyramid = (next(layers)(pyramid) + h) * config["rescale"]
                skips.append(h)
        for _ in range(3):
            h = next(layers)(h, embedding)
        for level in reversed(range(levels)):
            for _ in range(config["blocks"] + 1):
                h = next(layers)(torch.cat([h, skips.pop()], dim=1), embedding)
            if level in config["attention"]:
                h = next(layers)(h, embedding)
            if level > 0:
                h = next(layers)(h, embedding)
        h = functional.silu(next(layers)(h))
        h = next(layers)(h)
        return h / sigma[:, None, None, None] if config["over_sigma"] else h


@families.register("ncsnpp")
class NCSNppFamily(CheckpointFamily):
    """NCSN++ of score_sde (.pth), variance exploding."""

    names = (r"all_modules\.\d+\.(W|weight|bias)", _LEVELS,
             r"all_modules\.\d+\.(GroupNorm|Conv|Dense|NIN|Conv2d)_\d\.(weight|bias|W|b)")  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """Everything but four facts of the training's configuration, which `settings` can change."""
        if _FREQUENCIES not in checkpoint:
            raise InputError(
                "only continuous variance-exploding NCSN++ networks are read", where=checkpoint.name,
                found="a network that counts time steps", expected="one with Fourier features of the noise level",
            )  # fmt: skip
        refuse_3d(checkpoint, "all_modules.3.weight")
        config = _structure(checkpoint) | {
            "fir": list(_TAPS) if settings.flag("fir", True) else [1.0, 1.0],
            "rescale": 0.5**0.5 if settings.flag("skip_rescale", True) else 1.0,
            "centred": settings.flag("centered", False),
            "over_sigma": settings.flag("scale_by_sigma", True),
        }
        low, high = _trained_levels(checkpoint)
        noise = {
            "kind": "ve",
            "sigma_min": settings.number("sigma_min", low),
            "sigma_max": settings.number("sigma_max", high),
        }
        weights = _weights(checkpoint, settings.flag("ema", True))
        interval = (-1.0, 1.0) if config["centred"] else (0.0, 1.0)
        return Found(config, weights, "score", noise, config["channels"], interval)

    @classmethod
    def network(cls, config: dict) -> nn.Module:
        """See `NCSNpp`."""
        return NCSNpp(config)

    @classmethod
    def multiple(cls, config: dict) -> int:
        """The resolution is halved between levels."""
        return 2 ** (len(config["mult"]) - 1)


def _trained_levels(checkpoint: Checkpoint) -> tuple[float, float]:
    """From the buffer of noise levels where there is one; else those of the published medical networks."""
    if _LEVELS not in checkpoint:
        return 0.01, 378.0
    levels = checkpoint.weights[_LEVELS].double()
    return float(levels.min()), float(levels.max())


def _weights(checkpoint: Checkpoint, averaged: bool) -> dict[str, Tensor]:
    """The trained weights, or their running mean where ``averaged``, with the fixed frequencies.

    Raises CorruptInput unless every averaged tensor has its place and every place its tensor.
    """
    weights = {key: value for key, value in checkpoint.weights.items() if key != _LEVELS}
    content = checkpoint.content
    if not averaged or not isinstance(content, dict) or "ema" not in content:
        return weights
    trainable = [key for key in weights if key != _FREQUENCIES]
    means = content["ema"].get("shadow_params") if isinstance(content["ema"], dict) else None
    if not isinstance(means, list) or len(means) != len(trainable):
        raise CorruptInput(
            "the averaged weights do not go with the network's parameters", where=checkpoint.name,
            found=f"{len(means) if isinstance(means, list) else 'no list of'} tensors", expected=len(trainable),
            hint="--set ema=false takes the weights without averaging.",
        )  # fmt: skip
    for key, mean in zip(trainable, means, strict=True):
        if not isinstance(mean, Tensor) or mean.shape != weights[key].shape:
            raise CorruptInput(
                "an averaged weight has another shape than its parameter", where=checkpoint.name,
                found=tuple(getattr(mean, "shape", ())), expected=f"{tuple(weights[key].shape)} of {key}",
            )  # fmt: skip
    return {_FREQUENCIES: weights[_FREQUENCIES]} | dict(zip(trainable, means, strict=True))


def _kinds(checkpoint: Checkpoint) -> Iterator[tuple[str, int, int]]:
    """Kind of each numbered layer, with its channels before and after."""
    number = 0
    while checkpoint.has(rf"all_modules\.{number}\."):
        prefix = f"all_modules.{number}."
        if prefix + "NIN_3.W" in checkpoint:
            width = checkpoint.shape(prefix + "NIN_3.W")[0]
            yield "attention", width, width
        elif prefix + "Dense_0.weight" in checkpoint:
            after, before = checkpoint.shape(prefix + "Conv_0.weight")[:2]
            if prefix + "NIN_0.W" in checkpoint:
                raise _not_read(checkpoint, "residual blocks of DDPM", "those of BigGAN")
            resampled = prefix + "Conv_2.weight" in checkpoint and before == after
            yield ("resample" if resampled else "block"), before, after
        elif prefix + "Conv2d_0.weight" in checkpoint:
            after, before = checkpoint.shape(prefix + "Conv2d_0.weight")[:2]
            yield "pyramid", before, after
        elif prefix + "weight" in checkpoint:
            shape = checkpoint.shape(prefix + "weight")
            yield {1: "norm", 2: "linear", 4: "conv"}.get(len(shape), "unknown"), shape[-1], shape[0]
        elif prefix + "W" in checkpoint:
            yield "frequencies", 0, checkpoint.shape(prefix + "W")[0]
        else:
            yield "unknown", 0, 0
        number += 1


def _structure(checkpoint: Checkpoint) -> dict:
    """Channels, levels, blocks and attention from the sequence of layers."""
    layers = list(_kinds(checkpoint))
    kinds = [kind for kind, _, _ in layers]
    if kinds[:4] != ["frequencies", "linear", "linear", "conv"] or kinds[-2:] != ["norm", "conv"]:
        raise _not_read(
            checkpoint, f"layers {', '.join(kinds[:4])} ... {', '.join(kinds[-2:])}",
            "Fourier features, two linear layers and a convolution first, a norm and a convolution last",
        )  # fmt: skip
    body = layers[4:-2]
    if odd := {kind for kind, _, _ in body} - {"block", "resample", "attention", "pyramid"}:
        raise _not_read(checkpoint, f"layers of the kind {', '.join(sorted(odd))} between", "blocks and attention")
    starts = [place for place, (kind, _, _) in enumerate(body) if kind == "resample"]
    levels = len(starts) // 2 + 1
    if levels < 2:
        raise _not_read(checkpoint, "one resolution", "several")
    edges = [0, *(place + 1 for place in starts)]
    first = body[: starts[0]]
    stretches = [body[edge:] for edge in edges[:levels]]
    opening = [next(layer for layer in stretch if layer[0] == "block") for stretch in stretches]
    width = layers[0][2]
    return {
        "channels": checkpoint.shape("all_modules.3.weight")[1],
        "width": width,
        "mult": [after // width for _, _, after in opening],
        "blocks": sum(kind == "block" for kind, _, _ in first),
        "attention": [level for level, stretch in enumerate(stretches) if _attends(stretch)],
        "pyramid": "pyramid" in kinds,
    }


def _attends(stretch: list[tuple[str, int, int]]) -> bool:
    """Whether a level has attention: right after its first block."""
    kinds = [kind for kind, _, _ in stretch if kind != "pyramid"]
    return kinds[:2] == ["block", "attention"]


def _not_read(checkpoint: Checkpoint, found: str, expected: str) -> InputError:
    return InputError("this variant of NCSN++ is not read", where=checkpoint.name, found=found, expected=expected)
