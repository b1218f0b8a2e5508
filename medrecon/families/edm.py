"""The networks of EDM (Karras et al. 2022): InverseBench, and state dicts taken out of EDM's pickles.

``DhariwalUNet`` and ``SongUNet`` (DDPM++ alone: standard encoder and decoder) in the preconditioning of EDM. The names
of the layers hold the size that the network was trained on; here the layers work at any size.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from medrecon.errors import InputError
from medrecon.families.base import (
    Checkpoint,
    CheckpointFamily,
    Found,
    Settings,
    families,
    refuse_3d,
    refuse_class_conditional,
)
from medrecon.families.layers import attend, double, halve, sinusoids

_BLOCK = r"(norm[012]|conv[01]|affine|skip|qkv|proj)\.(weight|bias|resample_filter)"


class _Conv(nn.Module):
    """Filtered halving or doubling, then a convolution; a kernel of size 0 leaves the convolution out."""

    def __init__(self, before: int, after: int, kernel: int, resample: str = "", taps: int = 2) -> None:
        super().__init__()
        self.resample = resample
        if kernel:
            self.weight = nn.Parameter(torch.zeros(after, before, kernel, kernel))
            self.bias = nn.Parameter(torch.zeros(after))
        self.kernel = kernel
        self.resample_filter: Tensor
        if resample:
            self.register_buffer("resample_filter", torch.zeros(1, 1, taps, taps))

    def forward(self, x: Tensor) -> Tensor:
        if self.resample:
            x = {"down": halve, "up": double}[self.resample](x, self.resample_filter[0, 0])
        return functional.conv2d(x, self.weight, self.bias, padding=self.kernel // 2) if self.kernel else x


class _Block(nn.Module):
    """A residual block with optional attention after it; told the noise level by scale and shift, or by a shift."""

    def __init__(self, before: int, after: int, config: dict, resample: str = "", attention: bool = False) -> None:
        super().__init__()
        song, taps = config["kind"] == "song", config["taps"]
        norm = partial(_norm, eps=1e-6 if song else 1e-5)
        self.before, self.rescale, self.film = before, 0.5**0.5 if song else 1.0, not song
        self.norm0 = norm(before)
        self.conv0 = _Conv(before, after, 3, resample, taps)
        self.affine = nn.Linear(config["embedding"], after * (2 if self.film else 1))
        self.norm1 = norm(after)
        self.conv1 = _Conv(after, after, 3)
        self.skip: nn.Module = nn.Identity()
        if resample or before != after:
            self.skip = _Conv(before, after, 1 if song or before != after else 0, resample, taps)
        self.heads = (1 if song else after // 64) if attention else 0
        if self.heads:
            self.norm2, self.qkv, self.proj = norm(after), _Conv(after, 3 * after, 1), _Conv(after, after, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(functional.silu(self.norm0(x)))
        told = self.affine(embedding)[:, :, None, None]
        if self.film:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm1(h) * (scale + 1) + shift
        else:
            h = self.norm1(h + told)
        h = (self.skip(x) + self.conv1(functional.silu(h))) * self.rescale
        if self.heads:  # channel c of a head holds its query, key and value one after the other
            parts = self.qkv(self.norm2(h)).flatten(2).unflatten(1, (self.heads, -1, 3)).unbind(3)
            h = (h + self.proj(attend(*parts).reshape(h.shape))) * self.rescale
        return h


def _norm(width: int, eps: float) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, width // 4), width, eps=eps)


class EDMUNet(nn.Module):
    """The network F: ``forward(x, label)``.

    ``config`` has ``kind`` (dhariwal or song), ``channels``, ``width``, ``embedding``, ``mult``, ``blocks``,
    ``attention`` (levels that have it), ``taps`` of the resampling filter and ``size``, which names the layers.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        song, blocks = config["kind"] == "song", config["blocks"]
        width, channels = config["width"], config["channels"]
        widths = [width * factor for factor in config["mult"]]
        names = [f"{config['size'] >> level}x{config['size'] >> level}" for level in range(len(widths))]
        self.map_layer0 = nn.Linear(width, config["embedding"])
        self.map_layer1 = nn.Linear(config["embedding"], config["embedding"])
        now = width if song else widths[0]
        encoder: dict[str, nn.Module] = {f"{names[0]}_conv": _Conv(channels, now, 3)}
        skips = [now]
        for level, (name, after) in enumerate(zip(names, widths, strict=True)):
            if level > 0:
                encoder[f"{name}_down"] = _Block(now, now, config, "down")
                skips.append(now)
            for index in range(blocks):
                encoder[f"{name}_block{index}"] = _Block(now, after, config, "", level in config["attention"])
                now = after
                skips.append(now)
        decoder: dict[str, nn.Module] = {
            f"{names[-1]}_in0": _Block(now, now, config, "", True),
            f"{names[-1]}_in1": _Block(now, now, config),
        }
        for level, (name, after) in reversed(list(enumerate(zip(names, widths, strict=True)))):
            if level < len(widths) - 1:
                decoder[f"{name}_up"] = _Block(now, now, config, "up")
            for index in range(blocks + 1):
                attends = level in config["attention"] and (index == blocks or not song)
                decoder[f"{name}_block{index}"] = _Block(now + skips.pop(), after, config, "", attends)
                now = after
        last = _Conv(now, channels, 3)
        if song:
            decoder |= {f"{names[0]}_aux_norm": _norm(now, 1e-6), f"{names[0]}_aux_conv": last}
        else:
            self.out_norm, self.out_conv = _norm(now, 1e-5), last
        self.enc, self.dec = nn.ModuleDict(encoder), nn.ModuleDict(decoder)

    def _embedded(self, label: Tensor) -> Tensor:
        song = self.config["kind"] == "song"
        features = sinusoids(label, self.config["width"], endpoint=song)
        if song:  # sines first
            features = torch.cat(features.chunk(2, dim=1)[::-1], dim=1)
        return functional.silu(self.map_layer1(functional.silu(self.map_layer0(features))))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """``(slices, channels, h, w)`` and ``(1,)`` or ``(slices,)`` labels to the shape of ``x``."""
        embedding = self._embedded(label)
        skips = []
        for block in self.enc.values():
            x = block(x, embedding) if isinstance(block, _Block) else block(x)
            skips.append(x)
        blocks = [block for block in self.dec.values() if isinstance(block, _Block)]
        for block in blocks:
            x = block(torch.cat([x, skips.pop()], dim=1) if x.shape[1] != block.before else x, embedding)
        if self.config["kind"] == "song":
            norm, conv = list(self.dec.values())[-2:]
        else:
            norm, conv = self.out_norm, self.out_conv
        return conv(functional.silu(norm(x)))


@families.register("edm")
class EDMFamily(CheckpointFamily):
    """Networks of EDM as state dicts; InverseBench (.pt)."""

    names = (r"(model\.)?map_(layer0|layer1|label|augment|noise)\.(weight|bias|freqs)",
             rf"(model\.)?(enc|dec)\.\d+x\d+_(block\d+|in0|in1|up|down)\.{_BLOCK}",
             r"(model\.)?enc\.\d+x\d+_conv\.(weight|bias)",
             r"(model\.)?(enc|dec)\.\d+x\d+_aux_\w+\.(weight|bias|resample_filter)",
             r"(model\.)?out_(norm|conv)\.(weight|bias)")  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """The architecture from the state dict; EDM's own preconditioning unless said otherwise."""
        weights = {key.removeprefix("model."): value for key, value in checkpoint.weights.items()}
        # zero at use: the network is told of no augmentation
        weights = {key: value for key, value in weights.items() if key != "map_augment.weight"}
        bare = Checkpoint(checkpoint.name, weights, checkpoint.content)
        refuse_class_conditional(bare, r"map_label\.")
        config = _structure(bare)
        noise = {
            "kind": "edm",
            "sigma_data": settings.number("sigma_data", 0.5),
            "sigma_min": settings.number("sigma_min", 0.002),
            "sigma_max": settings.number("sigma_max", 80.0),
        }
        return Found(config, weights, "edm", noise, config["channels"])

    @classmethod
    def network(cls, config: dict) -> nn.Module:
        """See `EDMUNet`."""
        return EDMUNet(config)

    @classmethod
    def multiple(cls, config: dict) -> int:
        """The resolution is halved between levels."""
        return 2 ** (len(config["mult"]) - 1)


def _structure(checkpoint: Checkpoint) -> dict:
    """Kind, channels, levels, blocks and attention from names and shapes."""
    if checkpoint.has(r"map_noise\.") or checkpoint.has(r"enc\.\d+x\d+_aux"):
        raise InputError(
            "this variant of EDM's networks is not read", where=checkpoint.name,
            found="an encoder as in NCSN++", expected="DhariwalUNet, or SongUNet as in DDPM++",
        )  # fmt: skip
    sizes = sorted({int(match[1]) for key in checkpoint.weights if (match := re.match(r"enc\.(\d+)x", key))})[::-1]
    if not sizes or any(a // 2 != b for a, b in pairwise(sizes)):
        raise InputError("the levels of the network are not each half of the last", where=checkpoint.name, found=sizes)
    first = f"enc.{sizes[0]}x{sizes[0]}_conv.weight"
    refuse_3d(checkpoint, first)
    embedding, width = checkpoint.shape("map_layer0.weight")
    openings = [f"enc.{size}x{size}_block0" for size in sizes]
    filters = [key for key in checkpoint.weights if key.endswith("resample_filter")]
    return {
        "kind": "dhariwal" if "out_conv.weight" in checkpoint else "song",
        "channels": checkpoint.shape(first)[1],
        "width": width,
        "embedding": embedding,
        "mult": [checkpoint.shape(f"{opening}.conv0.weight")[0] // width for opening in openings],
        "blocks": checkpoint.count(rf"enc\.{sizes[0]}x{sizes[0]}_block(\d+)\."),
        "attention": [level for level, opening in enumerate(openings) if f"{opening}.qkv.weight" in checkpoint],
        "taps": checkpoint.shape(filters[0])[-1] if filters else 2,
        "size": sizes[0],
    }
