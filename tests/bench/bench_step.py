"""CPU seconds of one optimiser step of the networks that docs/training.md compares, in turns on one thread.

python tests/bench/bench_step.py
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from medrecon.network import LeanUNet
from medrecon.training.settings import TrainingSettings

NETWORKS = {
    "usual": TrainingSettings(),
    "one-guide": TrainingSettings(guides=1),
    "lean": TrainingSettings(widths=(32, 64, 96, 128)),
}
CROPS = ((8, 64), (8, 64), (8, 64), (4, 96))  # slices and pixels: as often as a training has them
TURNS = 6  # of which the first is not counted


def main() -> None:
    """Time and print."""
    torch.set_num_threads(1)
    made = {}
    for name, settings in NETWORKS.items():
        network = LeanUNet(settings.architecture()).to(memory_format=torch.channels_last)
        made[name] = network, torch.optim.AdamW(network.parameters())
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(TURNS):
        for name, (network, optimiser) in made.items():
            began = time.process_time()
            for slices, pixels in CROPS:
                x = torch.randn(slices, network.config.channels_in, pixels, pixels)
                network(x.contiguous(memory_format=torch.channels_last), torch.randn(slices)).square().mean().backward()
                optimiser.step()
                optimiser.zero_grad()
            seconds[name].append((time.process_time() - began) / len(CROPS))
    usual = statistics.median(seconds["usual"][1:])
    for name, values in seconds.items():
        median = statistics.median(values[1:])
        sys.stdout.write(f"{name}: {median:.3f} s a step, {median / usual:.2f} of the usual one\n")


if __name__ == "__main__":
    main()
