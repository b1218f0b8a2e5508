"""The U-Net of guided diffusion (ADM, Dhariwal and Nichol 2021): DDS, DiffPIR, DPS.

The file is a bare state dict, alone or under ``state_dict`` or ``ema``. Everything but the number of attention heads,
the order of queries, keys and values, the noise schedule and the range of the values can be read from it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medrecon.errors import InputError, UsageError
from medrecon.families.base import (
    Checkpoint,
    CheckpointFamily,
    Found,
    Settings,
    families,
    refuse_3d,
    refuse_class_conditional,
    vp_noise,
)
from medrecon.families.layers import attend, sinusoids


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width)


class _Block(nn.Module):
    """A residual block; ``resample`` halves or doubles the resolution inside it."""

    def __init__(self, before: int, after: int, config: dict, resample: str = "") -> None:
        super().__init__()
        self.film, self.resample = config["film"], resample
        self.in_layers = nn.Sequential(_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        length = after * (2 if self.film else 1)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config["width"], length))
        self.out_layers = nn.Sequential(
            _norm(after), nn.SiLU(), nn.Identity(), nn.Conv2d(after, after, 3, padding=1)
        )  # the third is the dropout of training
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2.0) if self.resample == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[2](self._resampled(self.in_layers[:2](x)))
        told = self.emb_layers(embedding)[:, :, None, None]
        if self.film:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(self._resampled(x)) + h


class _Attention(nn.Module):
    def __init__(self, width: int, config: dict) -> None:
        super().__init__()
        self.heads = config["heads"] or width // config["head_channels"]
        self.by_head = not config["new_attention_order"]
        self.norm = _norm(width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        line = x.flatten(2)
        mixed = self.qkv(self.norm(line))
        if self.by_head:  # query, key and value of the first head stand first
            parts = mixed.unflatten(1, (self.heads, 3, -1)).unbind(2)
        else:
            parts = mixed.unflatten(1, (3, self.heads, -1)).unbind(1)
        return x + self.proj_out(attend(*parts).flatten(1, 2)).reshape(x.shape)


class _Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.op(x)


class _Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0))


class _First(nn.Conv2d):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class _Stage(nn.ModuleList):
    """Layers one after the other, each told the noise level."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding)
        return x


class ADM(nn.Module):
    """The network: ``forward(x, step)`` returns the noise, and the learned variance where there is one.

    ``config`` has ``channels``, ``channels_out``, ``width``, ``mult``, ``blocks``, ``attention`` (levels that have it),
    ``film`` (scale and shift from the noise level), ``resample_in_block``, ``heads`` or, where that is 0,
    ``head_channels``, and ``new_attention_order``.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.width = config["width"]
        widths = [round(self.width * factor) for factor in config["mult"]]
        self.time_embed = nn.Sequential(
            nn.Linear(self.width, 4 * self.width), nn.SiLU(), nn.Linear(4 * self.width, 4 * self.width)
        )
        now, skips = widths[0], [widths[0]]
        stages = [_Stage([_First(config["channels"], now, 3, padding=1)])]
        in_block = config["resample_in_block"]

        def stage(before: int, after: int, level: int) -> _Stage:
            layers: list[nn.Module] = [_Block(before, after, config)]
            if level in config["attention"]:
                layers.append(_Attention(after, config))
            return _Stage(layers)

        for level, after in enumerate(widths):
            for _ in range(config["blocks"]):
                stages.append(stage(now, after, level))
                now = after
                skips.append(now)
            if level < len(widths) - 1:
                stages.append(_Stage([_Block(now, now, config, "down") if in_block else _Down(now)]))
                skips.append(now)
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = _Stage([_Block(now, now, config), _Attention(now, config), _Block(now, now, config)])
        stages = []
        for level, after in reversed(list(enumerate(widths))):
            for index in range(config["blocks"] + 1):
                stages.append(stage(now + skips.pop(), after, level))
                now = after
                if level > 0 and index == config["blocks"]:
                    stages[-1].append(_Block(now, now, config, "up") if in_block else _Up(now))
        self.output_blocks = nn.ModuleList(stages)
        self.out = nn.Sequential(_norm(now), nn.SiLU(), nn.Conv2d(now, config["channels_out"], 3, padding=1))

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """``(slices, channels, h, w)`` and ``(1,)`` or ``(slices,)`` steps to ``(slices, channels_out, h, w)``."""
        embedding = self.time_embed(sinusoids(step, self.width))
        skips = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


@families.register("adm")
class ADMFamily(CheckpointFamily):
    """U-Net of guided diffusion (.pt): ADM, DDS, DiffPIR, DPS."""

    names = (r"time_embed\.[02]\.(weight|bias)", r"out\.[02]\.(weight|bias)", r"input_blocks\.0\.0\.(weight|bias)",
             r"label_emb\.weight",
             r"(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.\d\."
             r"(in_layers|emb_layers|out_layers|skip_connection|norm|qkv|proj_out|op|conv)\b.*")  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """The architecture from the state dict, the rest from the settings."""
        refuse_class_conditional(checkpoint, r"label_emb\.")
        refuse_3d(checkpoint, "input_blocks.0.0.weight")
        config = _structure(checkpoint) | {
            "heads": settings.whole("heads", 0),
            "head_channels": settings.whole("head_channels", 64),
            "new_attention_order": settings.flag("new_attention_order", False),
        }
        _check_heads(config)
        channels, channels_out = config["channels"], config["channels_out"]
        if channels_out not in (channels, 2 * channels):
            raise InputError(
                "the network gives neither as many channels as it takes nor twice as many", where=checkpoint.name,
                found=f"{channels} in, {channels_out} out", hint="Networks with an additional input are not read.",
            )  # fmt: skip
        return Found(config, checkpoint.weights, settings.text("predicts", "eps"), vp_noise(settings), channels)

    @classmethod
    def network(cls, config: dict) -> nn.Module:
        """See `ADM`."""
        return ADM(config)

    @classmethod
    def multiple(cls, config: dict) -> int:
        """The resolution is halved between levels."""
        return 2 ** (len(config["mult"]) - 1)


def _structure(checkpoint: Checkpoint) -> dict:
    """Channels, levels, blocks and attention from names and shapes."""
    width = checkpoint.shape("time_embed.0.weight")[1]
    outputs = checkpoint.count(r"output_blocks\.(\d+)\.")
    resampling = _first_upsampling(checkpoint, outputs)
    blocks = outputs - 1 if resampling is None else resampling
    levels = outputs // (blocks + 1)
    openings = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    widths = [checkpoint.shape(f"{opening}.0.in_layers.2.weight")[0] for opening in openings]
    return {
        "channels": checkpoint.shape("input_blocks.0.0.weight")[1],
        "channels_out": checkpoint.shape("out.2.weight")[0],
        "width": width,
        "mult": [w // width if w % width == 0 else w / width for w in widths],
        "blocks": blocks,
        "attention": [n for n, opening in enumerate(openings) if f"{opening}.1.qkv.weight" in checkpoint],
        "film": checkpoint.shape("middle_block.0.emb_layers.1.weight")[0]
        == 2 * checkpoint.shape("middle_block.0.in_layers.2.weight")[0],
        "resample_in_block": levels > 1 and f"input_blocks.{blocks + 1}.0.in_layers.0.weight" in checkpoint,
    }


def _first_upsampling(checkpoint: Checkpoint, outputs: int) -> int | None:
    """Number of the first output stage that ends in a doubling of the resolution; None where there is one level."""
    for stage in range(outputs):
        if checkpoint.has(rf"output_blocks\.{stage}\.[12]\.(conv|in_layers)\."):
            return stage
    return None


def _check_heads(config: dict) -> None:
    """Raise UsageError where attention cannot be divided as said."""
    attended = {round(config["width"] * config["mult"][level]) for level in [*config["attention"], -1]}
    per_head = config["heads"] or config["head_channels"]
    if any(per_head < 1 or width % per_head for width in attended):
        raise UsageError(
            "the channels of attention cannot be divided into such heads", found=f"{sorted(attended)} channels",
            expected=f"multiples of {per_head}", hint="State it: --set heads=N, or --set head_channels=N.",
        )  # fmt: skip
