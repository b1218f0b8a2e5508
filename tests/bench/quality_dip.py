"""Coupling along dips beside total variation and squared differences: what each is worth on a survey without holes.

python tests/bench/quality_dip.py CUBE.sgy [--rows N] [--columns N] [--samples N] [--error 8]

Two tests, at the best weight of a list for each penalty. An error that slices do not share, in the band of the data, is
put on top and taken off again by the penalty along rows alone. Then traces are removed and filled by the penalty along
rows and columns, the live ones kept. Figures are in dB: signal over error, of missing traces in the second test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medrecon.data import Traces, read
from medrecon.physics.seismic import make_trace_mask
from medrecon.regularisers import regularisers
from medrecon.samplers.trace_system import TraceSystem
from medrecon.solvers import admm
from medrecon.trace_metrics import snr

PENALTIES = ("tv", "l2", "dip")
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MASKS = (("random", 0.5), ("random", 0.75), ("regular", 0.5), ("gap", 0.2))
STEERINGS = 3  # times that slopes are found anew


def band_limited_error(truth: Tensor, decibels: float) -> Tensor:
    """Noise with the frequencies of the data in time, independent from trace to trace."""
    white = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    band = torch.fft.rfft(truth, dim=1).abs().mean(dim=(0, 2), keepdim=True)
    error = torch.fft.irfft(torch.fft.rfft(white, dim=1) * band, n=truth.shape[1], dim=1)
    return error * truth.norm() / error.norm() * 10 ** (-decibels / 20)


def denoised(noisy: Tensor, name: str, weight: float) -> Tensor:
    x = noisy
    for _ in range(STEERINGS if name == "dip" else 1):
        term = regularisers.get(name)(tuple(noisy.shape), axes=(0,)).steered(x)
        x = admm(lambda v: v, noisy, [term], [weight], x=x, rho=[4 * weight], iterations=40, cg_iterations=8).x
    return x


def filled(data: Tensor, live: Tensor, name: str, weight: float) -> Tensor:
    """From linear interpolation, which also decides what the penalty does not."""
    mask, x = live[:, None].to(data.dtype), TraceSystem(data, live).linear()
    linear = x
    for _ in range(STEERINGS if name == "dip" else 1):
        term = regularisers.get(name)(tuple(data.shape), axes=(0, 2)).steered(x)
        x = admm(
            lambda v: 1e3 * mask * v + 1e-3 * v, 1e3 * mask * data + 1e-3 * linear, [term], [weight], x=x,
            rho=[4 * weight], iterations=60, cg_iterations=10,
        ).x  # fmt: skip
    return torch.where(live[:, None], data, x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cube", type=Path)
    for name in ("rows", "columns", "samples"):
        parser.add_argument(f"--{name}", type=int, default=48)
    parser.add_argument("--error", type=float, default=8.0)
    given = parser.parse_args()
    traces = read(given.cube)
    if not isinstance(traces, Traces) or not traces.live.all():
        sys.exit("a survey without missing traces is wanted")
    part = traces.data[: given.rows, : given.columns, : given.samples]
    truth = torch.from_numpy(part.transpose(0, 2, 1).copy())
    truth = truth / truth.std()
    noisy = truth + band_limited_error(truth, given.error)
    row = [f"{name} {max(snr(denoised(noisy, name, w).numpy(), truth.numpy()) for w in WEIGHTS):.1f}"
           for name in PENALTIES]  # fmt: skip
    sys.stdout.write(f"error of single slices, {given.error:g} dB before: {', '.join(row)}\n")
    for kind, fraction in MASKS:
        live = make_trace_mask(kind, (truth.shape[0], truth.shape[2]), fraction, seed=1)
        data, known = torch.where(torch.from_numpy(live)[:, None], truth, torch.zeros(())), torch.from_numpy(live)
        row = [f"linear {snr(TraceSystem(data, known).linear().numpy(), truth.numpy(), ~live):.1f}"]
        row += [f"{name} {max(snr(filled(data, known, name, w).numpy(), truth.numpy(), ~live) for w in WEIGHTS):.1f}"
                for name in PENALTIES]  # fmt: skip
        sys.stdout.write(f"{kind} {np.mean(~live):.0%} missing: {', '.join(row)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
