"""Published networks written down a second time: random weights in their layout, and their formulas step by step.

Each evaluation is straight-line code for one small architecture, by the numbers of its layers, and shares nothing with
the package: filters are applied by inserting zeros, attention is a matrix of weights, groups are averaged by hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, Tensor]


def random_weights(shapes: Shapes, seed: int = 0) -> Weights:
    """Small random values everywhere; scales of norms around one."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            weights[key] = values / math.prod(shape[1:]) ** 0.5
        else:
            weights[key] = 0.3 * values + (1.0 if key.endswith("weight") else 0.0)
    return weights


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def norm(weights: Weights, key: str, x: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.reshape(len(x), groups, -1)
    centred = parts - parts.mean(dim=2, keepdim=True)
    scaled = (centred / (centred.square().mean(dim=2, keepdim=True) + eps).sqrt()).reshape(x.shape)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return scaled * weights[f"{key}.weight"].reshape(shape) + weights[f"{key}.bias"].reshape(shape)


def conv(weights: Weights, key: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = weights[f"{key}.weight"]
    return functional.conv2d(x, kernel, weights.get(f"{key}.bias"), stride=stride, padding=kernel.shape[-1] // 2)


def linear(weights: Weights, key: str, x: Tensor) -> Tensor:
    return x @ weights[f"{key}.weight"].T + weights[f"{key}.bias"]


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``(channels, positions)`` each, one slice and one head."""
    weights = torch.softmax(query.T @ key / len(query) ** 0.5, dim=1)
    return value @ weights.T


def resampled(x: Tensor, taps: list[float], up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros between the pixels, zeros around, the filter, every ``down``-th pixel."""
    line = torch.tensor(taps)
    kernel = torch.outer(line, line) / line.sum() ** 2 * up**2
    slices, channels, height, width = x.shape
    spread = torch.zeros(slices, channels, height * up, width * up)
    spread[..., ::up, ::up] = x
    padded = functional.pad(spread, (*pad, *pad)).reshape(slices * channels, 1, height * up + sum(pad), -1)
    filtered = functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    return filtered.reshape(slices, channels, *filtered.shape[-2:])[..., ::down, ::down]


# --- NCSN++ of score_sde: width 8, levels 1 and 2, one block a level, attention on the second ---------------------
def ncsnpp_shapes() -> Shapes:
    """In the order of the trainable parameters, the frequencies first."""
    shapes: Shapes = {"0.W": (8,), "1.weight": (32, 16), "1.bias": (32,), "2.weight": (32, 32), "2.bias": (32,),
                      "3.weight": (8, 1, 3, 3), "3.bias": (8,)}  # fmt: skip

    def block(number: int, before: int, after: int, resample: bool = False) -> None:
        parts: Shapes = {
            "GroupNorm_0.weight": (before,), "GroupNorm_0.bias": (before,), "Conv_0.weight": (after, before, 3, 3),
            "Conv_0.bias": (after,), "Dense_0.weight": (after, 32), "Dense_0.bias": (after,),
            "GroupNorm_1.weight": (after,), "GroupNorm_1.bias": (after,), "Conv_1.weight": (after, after, 3, 3),
            "Conv_1.bias": (after,),
        }  # fmt: skip
        if resample or before != after:
            parts |= {"Conv_2.weight": (after, before, 1, 1), "Conv_2.bias": (after,)}
        shapes.update({f"{number}.{key}": shape for key, shape in parts.items()})

    def attend(number: int, width: int) -> None:
        shapes.update({f"{number}.GroupNorm_0.weight": (width,), f"{number}.GroupNorm_0.bias": (width,)})
        for n in range(4):
            shapes.update({f"{number}.NIN_{n}.W": (width, width), f"{number}.NIN_{n}.b": (width,)})

    block(4, 8, 8)
    block(5, 8, 8, True)
    shapes |= {"6.Conv2d_0.weight": (8, 1, 3, 3), "6.Conv2d_0.bias": (8,)}
    block(7, 8, 16)
    attend(8, 16)
    block(9, 16, 16)
    attend(10, 16)
    block(11, 16, 16)
    block(12, 32, 16)
    block(13, 24, 16)
    attend(14, 16)
    block(15, 16, 16, True)
    block(16, 24, 8)
    block(17, 16, 8)
    shapes |= {"18.weight": (8,), "18.bias": (8,), "19.weight": (1, 8, 3, 3), "19.bias": (1,)}
    return {f"all_modules.{key}": shape for key, shape in shapes.items()}


def ncsnpp(weights: Weights, x: Tensor, sigma: Tensor) -> Tensor:
    """The score at ``x`` (0 to 1), one sigma a slice."""
    taps, root = [1.0, 3.0, 3.0, 1.0], 2**0.5
    weights = {key.removeprefix("all_modules."): value for key, value in weights.items()}
    angle = 2 * math.pi * sigma.log()[:, None] * weights["0.W"]
    told = linear(weights, "1", torch.cat([angle.sin(), angle.cos()], dim=1))
    told = linear(weights, "2", swish(told))

    def block(number: int, h: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
        def moved(t: Tensor) -> Tensor:
            return t if up == down else resampled(t, taps, up, down, pad)

        name = f"{number}."
        inner = conv(
            weights, name + "Conv_0", moved(swish(norm(weights, name + "GroupNorm_0", h, h.shape[1] // 4, 1e-6)))
        )
        inner = inner + linear(weights, name + "Dense_0", swish(told))[:, :, None, None]
        groups = inner.shape[1] // 4
        inner = conv(weights, name + "Conv_1", swish(norm(weights, name + "GroupNorm_1", inner, groups, 1e-6)))
        shortcut = conv(weights, name + "Conv_2", moved(h)) if f"{name}Conv_2.weight" in weights else h
        return (shortcut + inner) / root

    def attend(number: int, h: Tensor) -> Tensor:
        normed = norm(weights, f"{number}.GroupNorm_0", h, h.shape[1] // 4, 1e-6)

        def matrix(n: int, t: Tensor) -> Tensor:
            return weights[f"{number}.NIN_{n}.W"].T @ t + weights[f"{number}.NIN_{n}.b"][:, None]

        mixed = [matrix(3, attention(*(matrix(n, one.flatten(1)) for n in range(3)))) for one in normed]
        return (h + torch.stack(mixed).reshape(h.shape)) / root

    x = 2 * x - 1
    h0 = conv(weights, "3", x)
    h1 = block(4, h0)
    h2 = block(5, h1, down=2, pad=(1, 1))
    filtered = resampled(x, taps, pad=(2, 2))
    h2 = (functional.conv2d(filtered, weights["6.Conv2d_0.weight"], weights["6.Conv2d_0.bias"], stride=2) + h2) / root
    h3 = attend(8, block(7, h2))
    h = block(11, attend(10, block(9, h3)))
    h = block(12, torch.cat([h, h3], dim=1))
    h = attend(14, block(13, torch.cat([h, h2], dim=1)))
    h = block(15, h, up=2, pad=(2, 1))
    h = block(16, torch.cat([h, h1], dim=1))
    h = block(17, torch.cat([h, h0], dim=1))
    h = conv(weights, "19", swish(norm(weights, "18", h, 2, 1e-6)))
    return h / sigma[:, None, None, None]


# --- ADM: width 32, levels 1 and 2, one block a level, attention on the second ------------------------------------
def adm_shapes(film: bool = True, in_block: bool = True, channels: int = 1, out: int = 2) -> Shapes:
    """The names of guided diffusion, with or without resampling inside the blocks and scale and shift."""
    shapes: Shapes = {"time_embed.0.weight": (128, 32), "time_embed.0.bias": (128,), "time_embed.2.weight": (128, 128),
                      "time_embed.2.bias": (128,), "input_blocks.0.0.weight": (32, channels, 3, 3),
                      "input_blocks.0.0.bias": (32,)}  # fmt: skip

    def block(name: str, before: int, after: int) -> None:
        told = 2 * after if film else after
        parts: Shapes = {
            "in_layers.0.weight": (before,), "in_layers.0.bias": (before,), "in_layers.2.weight": (after, before, 3, 3),
            "in_layers.2.bias": (after,), "emb_layers.1.weight": (told, 128), "emb_layers.1.bias": (told,),
            "out_layers.0.weight": (after,), "out_layers.0.bias": (after,), "out_layers.3.weight": (after, after, 3, 3),
            "out_layers.3.bias": (after,),
        }  # fmt: skip
        if before != after:
            parts |= {"skip_connection.weight": (after, before, 1, 1), "skip_connection.bias": (after,)}
        shapes.update({f"{name}.{key}": shape for key, shape in parts.items()})

    def attend(name: str, width: int) -> None:
        shapes.update({f"{name}.norm.weight": (width,), f"{name}.norm.bias": (width,),
                       f"{name}.qkv.weight": (3 * width, width, 1), f"{name}.qkv.bias": (3 * width,),
                       f"{name}.proj_out.weight": (width, width, 1), f"{name}.proj_out.bias": (width,)})  # fmt: skip

    block("input_blocks.1.0", 32, 32)
    if in_block:
        block("input_blocks.2.0", 32, 32)
    else:
        shapes |= {"input_blocks.2.0.op.weight": (32, 32, 3, 3), "input_blocks.2.0.op.bias": (32,)}
    block("input_blocks.3.0", 32, 64)
    attend("input_blocks.3.1", 64)
    block("middle_block.0", 64, 64)
    attend("middle_block.1", 64)
    block("middle_block.2", 64, 64)
    block("output_blocks.0.0", 128, 64)
    attend("output_blocks.0.1", 64)
    block("output_blocks.1.0", 96, 64)
    attend("output_blocks.1.1", 64)
    if in_block:
        block("output_blocks.1.2", 64, 64)
    else:
        shapes |= {"output_blocks.1.2.conv.weight": (64, 64, 3, 3), "output_blocks.1.2.conv.bias": (64,)}
    block("output_blocks.2.0", 96, 32)
    block("output_blocks.3.0", 64, 32)
    shapes |= {"out.0.weight": (32,), "out.0.bias": (32,), "out.2.weight": (out, 32, 3, 3), "out.2.bias": (out,)}
    return shapes


def adm(weights: Weights, x: Tensor, steps: Tensor, heads: int = 1, new_order: bool = False) -> Tensor:
    """The network's whole output, one step a slice."""
    frequencies = 10000.0 ** (-torch.arange(16) / 16)
    angle = steps[:, None] * frequencies
    told = linear(weights, "time_embed.0", torch.cat([angle.cos(), angle.sin()], dim=1))
    told = linear(weights, "time_embed.2", swish(told))

    def block(name: str, h: Tensor, move: str = "") -> Tensor:
        def moved(t: Tensor) -> Tensor:
            if move == "down":
                return (t[..., ::2, ::2] + t[..., 1::2, ::2] + t[..., ::2, 1::2] + t[..., 1::2, 1::2]) / 4
            return t.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if move == "up" else t

        inner = conv(weights, f"{name}.in_layers.2", moved(swish(norm(weights, f"{name}.in_layers.0", h, 32, 1e-5))))
        said = linear(weights, f"{name}.emb_layers.1", swish(told))[:, :, None, None]
        width = inner.shape[1]
        if said.shape[1] == 2 * width:
            inner = norm(weights, f"{name}.out_layers.0", inner, 32, 1e-5) * (1 + said[:, :width]) + said[:, width:]
        else:
            inner = norm(weights, f"{name}.out_layers.0", inner + said, 32, 1e-5)
        inner = conv(weights, f"{name}.out_layers.3", swish(inner))
        straight = moved(h)
        skip = f"{name}.skip_connection"
        return (conv(weights, skip, straight) if f"{skip}.weight" in weights else straight) + inner

    def attend(name: str, h: Tensor) -> Tensor:
        width, size = h.shape[1], h.shape[1] // heads
        normed = norm(weights, f"{name}.norm", h.flatten(2), 32, 1e-5)
        answers = []
        for one in normed:
            mixed = weights[f"{name}.qkv.weight"][..., 0] @ one + weights[f"{name}.qkv.bias"][:, None]
            parts = []
            for head in range(heads):
                if new_order:
                    starts = [width * part + size * head for part in range(3)]
                else:
                    starts = [3 * size * head + size * part for part in range(3)]
                parts.append(attention(*(mixed[start : start + size] for start in starts)))
            merged = torch.cat(parts)
            answers.append(
                weights[f"{name}.proj_out.weight"][..., 0] @ merged + weights[f"{name}.proj_out.bias"][:, None]
            )
        return h + torch.stack(answers).reshape(h.shape)

    in_block = "input_blocks.2.0.in_layers.0.weight" in weights
    h0 = conv(weights, "input_blocks.0.0", x)
    h1 = block("input_blocks.1.0", h0)
    h2 = block("input_blocks.2.0", h1, "down") if in_block else conv(weights, "input_blocks.2.0.op", h1, stride=2)
    h3 = attend("input_blocks.3.1", block("input_blocks.3.0", h2))
    h = block("middle_block.2", attend("middle_block.1", block("middle_block.0", h3)))
    h = attend("output_blocks.0.1", block("output_blocks.0.0", torch.cat([h, h3], dim=1)))
    h = attend("output_blocks.1.1", block("output_blocks.1.0", torch.cat([h, h2], dim=1)))
    if in_block:
        h = block("output_blocks.1.2", h, "up")
    else:
        h = conv(weights, "output_blocks.1.2.conv", h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    h = block("output_blocks.2.0", torch.cat([h, h1], dim=1))
    h = block("output_blocks.3.0", torch.cat([h, h0], dim=1))
    return conv(weights, "out.2", swish(norm(weights, "out.0", h, 32, 1e-5)))


# --- EDM: two levels, one block a level, attention on the second ---------------------------------------------------
def edm_shapes(kind: str, size: int = 16) -> Shapes:
    """DhariwalUNet of width 64, or SongUNet (DDPM++) of width 16, as `EDMPrecond` holds them."""
    song, width = kind == "song", 16 if kind == "song" else 64
    told = 4 * width
    top, low = f"{size}x{size}", f"{size // 2}x{size // 2}"
    shapes: Shapes = {"map_layer0.weight": (told, width), "map_layer0.bias": (told,),
                      "map_layer1.weight": (told, told), "map_layer1.bias": (told,),
                      f"enc.{top}_conv.weight": (width, 1, 3, 3), f"enc.{top}_conv.bias": (width,)}  # fmt: skip

    def block(name: str, before: int, after: int, move: bool = False, attend: bool = False) -> None:
        film = after if song else 2 * after
        parts: Shapes = {
            "norm0.weight": (before,), "norm0.bias": (before,), "conv0.weight": (after, before, 3, 3),
            "conv0.bias": (after,), "affine.weight": (film, told), "affine.bias": (film,), "norm1.weight": (after,),
            "norm1.bias": (after,), "conv1.weight": (after, after, 3, 3), "conv1.bias": (after,),
        }  # fmt: skip
        if move:
            parts |= {"conv0.resample_filter": (1, 1, 2, 2), "skip.resample_filter": (1, 1, 2, 2)}
        if before != after or (move and song):
            parts |= {"skip.weight": (after, before, 1, 1), "skip.bias": (after,)}
        if attend:
            parts |= {"norm2.weight": (after,), "norm2.bias": (after,), "qkv.weight": (3 * after, after, 1, 1),
                      "qkv.bias": (3 * after,), "proj.weight": (after, after, 1, 1), "proj.bias": (after,)}  # fmt: skip
        shapes.update({f"{name}.{key}": shape for key, shape in parts.items()})

    twice = 2 * width
    block(f"enc.{top}_block0", width, width)
    block(f"enc.{low}_down", width, width, True)
    block(f"enc.{low}_block0", width, twice, attend=True)
    block(f"dec.{low}_in0", twice, twice, attend=True)
    block(f"dec.{low}_in1", twice, twice)
    block(f"dec.{low}_block0", 2 * twice, twice, attend=not song)
    block(f"dec.{low}_block1", twice + width, twice, attend=True)
    block(f"dec.{top}_up", twice, twice, True)
    block(f"dec.{top}_block0", twice + width, width)
    block(f"dec.{top}_block1", 2 * width, width)
    end = [f"dec.{top}_aux_norm", f"dec.{top}_aux_conv"] if song else ["out_norm", "out_conv"]
    shapes |= {f"{end[0]}.weight": (width,), f"{end[0]}.bias": (width,), f"{end[1]}.weight": (1, width, 3, 3),
               f"{end[1]}.bias": (1,)}  # fmt: skip
    return shapes


def edm_weights(kind: str, seed: int = 0) -> Weights:
    """Random weights, with the filters of the network."""
    weights = random_weights(edm_shapes(kind), seed)
    return {k: torch.full(v.shape, 0.25) if k.endswith("resample_filter") else v for k, v in weights.items()}


def edm(weights: Weights, x: Tensor, sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """``D(x, sigma)`` of EDMPrecond, one sigma a slice."""
    song = "out_conv.weight" not in weights
    size = max(int(key.split(".")[1].split("x")[0]) for key in weights if key.startswith("enc"))
    top, low = f"{size}x{size}", f"{size // 2}x{size // 2}"
    width, eps = weights["map_layer0.weight"].shape[1], 1e-6 if song else 1e-5
    half = width // 2
    frequencies = 10000.0 ** (-torch.arange(half) / (half - 1 if song else half))
    angle = sigma.log()[:, None] / 4 * frequencies
    features = [angle.sin(), angle.cos()] if song else [angle.cos(), angle.sin()]
    told = swish(linear(weights, "map_layer0", torch.cat(features, dim=1)))
    told = swish(linear(weights, "map_layer1", told))

    def block(name: str, h: Tensor, move: str = "") -> Tensor:
        def moved(t: Tensor) -> Tensor:
            if move == "down":
                return (t[..., ::2, ::2] + t[..., 1::2, ::2] + t[..., ::2, 1::2] + t[..., 1::2, 1::2]) / 4
            return t.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if move == "up" else t

        def normed(key: str, t: Tensor) -> Tensor:
            return norm(weights, f"{name}.{key}", t, min(32, t.shape[1] // 4), eps)

        inner = conv(weights, f"{name}.conv0", moved(swish(normed("norm0", h))))
        said = linear(weights, f"{name}.affine", told)[:, :, None, None]
        after = inner.shape[1]
        if song:
            inner = swish(normed("norm1", inner + said))
        else:
            inner = swish(normed("norm1", inner) * (said[:, :after] + 1) + said[:, after:])
        inner = conv(weights, f"{name}.conv1", inner)
        straight = moved(h)
        if f"{name}.skip.weight" in weights:
            straight = conv(weights, f"{name}.skip", straight)
        inner = (straight + inner) * (0.5**0.5 if song else 1)
        if f"{name}.qkv.weight" not in weights:
            return inner
        heads = 1 if song else after // 64
        mixed = conv(weights, f"{name}.qkv", normed("norm2", inner)).flatten(2)
        answers = []
        for one in mixed:
            each = one.reshape(heads, after // heads, 3, -1)
            answers.append(torch.cat([attention(*(head[:, part] for part in range(3))) for head in each]))
        attended = conv(weights, f"{name}.proj", torch.stack(answers).reshape(inner.shape))
        return (attended + inner) * (0.5**0.5 if song else 1)

    level = sigma[:, None, None, None]
    total = (level**2 + sigma_data**2).sqrt()
    h0 = conv(weights, f"enc.{top}_conv", x / total)
    h1 = block(f"enc.{top}_block0", h0)
    h2 = block(f"enc.{low}_down", h1, "down")
    h3 = block(f"enc.{low}_block0", h2)
    h = block(f"dec.{low}_in1", block(f"dec.{low}_in0", h3))
    h = block(f"dec.{low}_block0", torch.cat([h, h3], dim=1))
    h = block(f"dec.{low}_block1", torch.cat([h, h2], dim=1))
    h = block(f"dec.{top}_up", h, "up")
    h = block(f"dec.{top}_block0", torch.cat([h, h1], dim=1))
    h = block(f"dec.{top}_block1", torch.cat([h, h0], dim=1))
    end = [f"dec.{top}_aux_norm", f"dec.{top}_aux_conv"] if song else ["out_norm", "out_conv"]
    answer = conv(weights, end[1], swish(norm(weights, end[0], h, min(32, width // 4), eps)))
    return sigma_data**2 / total**2 * x + level * sigma_data / total * answer


# --- DRUNet of one block a level -----------------------------------------------------------------------------------
DRUNET_WIDTHS = (4, 6, 8, 10)


def drunet_shapes(channels: int = 1) -> Shapes:
    """As deepinv and DPIR name them."""
    a, b, c, d = DRUNET_WIDTHS
    shapes: Shapes = {"m_head.weight": (a, channels + 1, 3, 3)}

    def block(name: str, width: int) -> None:
        shapes.update({f"{name}.res.{n}.weight": (width, width, 3, 3) for n in (0, 2)})

    for number, (before, after) in enumerate(((a, b), (b, c), (c, d)), 1):
        block(f"m_down{number}.0", before)
        shapes[f"m_down{number}.1.weight"] = (after, before, 2, 2)
    block("m_body.0", d)
    for number, (before, after) in ((3, (d, c)), (2, (c, b)), (1, (b, a))):
        shapes[f"m_up{number}.0.weight"] = (before, after, 2, 2)
        block(f"m_up{number}.1", after)
    return shapes | {"m_tail.weight": (channels, a, 3, 3)}


def drunet(weights: Weights, x: Tensor, sigma: Tensor) -> Tensor:
    """The clean slice, one sigma a slice."""

    def block(name: str, h: Tensor) -> Tensor:
        return h + conv(weights, f"{name}.res.2", conv(weights, f"{name}.res.0", h).clamp(min=0))

    def down(name: str, h: Tensor) -> Tensor:
        return functional.conv2d(block(f"{name}.0", h), weights[f"{name}.1.weight"], stride=2)

    def up(name: str, h: Tensor) -> Tensor:
        return block(f"{name}.1", functional.conv_transpose2d(h, weights[f"{name}.0.weight"], stride=2))

    level = sigma[:, None, None, None] * torch.ones_like(x[:, :1])
    h1 = conv(weights, "m_head", torch.cat([x, level], dim=1))
    h2 = down("m_down1", h1)
    h3 = down("m_down2", h2)
    h4 = down("m_down3", h3)
    h = up("m_up1", up("m_up2", up("m_up3", block("m_body.0", h4) + h4) + h3) + h2)
    return conv(weights, "m_tail", h + h1)
