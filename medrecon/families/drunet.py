"""DRUNet (Zhang et al. 2021), as deepinv and DPIR store it: a denoiser that is told sigma as one more channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medrecon.errors import InputError
from medrecon.families.base import Checkpoint, CheckpointFamily, Found, Settings, families, refuse_3d


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, bias=False)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res(x)


class DRUNet(nn.Module):
    """``forward(x, sigma)`` returns the clean slice. ``config`` has ``channels``, ``widths`` and ``blocks``."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        widths, blocks = config["widths"], config["blocks"]
        if len(widths) != 4:
            raise ValueError("DRUNet has four resolutions")

        def body(width: int) -> list[nn.Module]:
            return [_Block(width) for _ in range(blocks)]

        def down(before: int, after: int) -> nn.Module:
            return nn.Sequential(*body(before), nn.Conv2d(before, after, 2, stride=2, bias=False))

        def up(before: int, after: int) -> nn.Module:
            return nn.Sequential(nn.ConvTranspose2d(before, after, 2, stride=2, bias=False), *body(after))

        self.m_head = _conv(config["channels"] + 1, widths[0])
        self.m_down1, self.m_down2, self.m_down3 = (down(widths[n], widths[n + 1]) for n in range(3))
        self.m_body = nn.Sequential(*body(widths[3]))
        self.m_up3, self.m_up2, self.m_up1 = (up(widths[n + 1], widths[n]) for n in (2, 1, 0))
        self.m_tail = _conv(widths[0], config["channels"])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``(slices, channels, h, w)`` and ``(1,)`` or ``(slices,)`` levels to the shape of ``x``."""
        level = sigma[:, None, None, None].expand(len(x), 1, *x.shape[2:])
        first = self.m_head(torch.cat([x, level], dim=1))
        second = self.m_down1(first)
        third = self.m_down2(second)
        fourth = self.m_down3(third)
        h = self.m_up3(self.m_body(fourth) + fourth)
        h = self.m_up1(self.m_up2(h + third) + second)
        return self.m_tail(h + first)


@families.register("drunet")
class DRUNetFamily(CheckpointFamily):
    """DRUNet of DPIR and deepinv (.pth)."""

    names = (r"m_(head|tail)\.weight", r"m_(down|up)[123]\.\d+\.(res\.[02]\.)?weight",
             r"m_body\.\d+\.res\.[02]\.weight")  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """Everything is in the state dict but the activation, which is ReLU, and the trained levels."""
        refuse_3d(checkpoint, "m_head.weight")
        channels = checkpoint.shape("m_tail.weight")[0]
        if checkpoint.shape("m_head.weight")[1] != channels + 1:
            raise InputError(
                "the network is not told the noise level as one more channel", where=checkpoint.name,
                found=f"{checkpoint.shape('m_head.weight')[1]} channels in, {channels} out",
            )  # fmt: skip
        blocks = checkpoint.count(r"m_body\.(\d+)\.")
        widths = [checkpoint.shape(f"m_down{n}.0.res.0.weight")[0] for n in (1, 2, 3)]
        widths.append(checkpoint.shape("m_body.0.res.0.weight")[0])
        noise = {
            "kind": "ve",
            "sigma_min": settings.number("sigma_min", 0.001),
            "sigma_max": settings.number("sigma_max", 50 / 255),
        }
        config = {"channels": channels, "widths": widths, "blocks": blocks}
        return Found(config, checkpoint.weights, "D", noise, channels, (0.0, 1.0))

    @classmethod
    def network(cls, config: dict) -> nn.Module:
        """See `DRUNet`."""
        return DRUNet(config)

    @classmethod
    def multiple(cls, config: dict) -> int:
        """Three halvings."""
        return 8
