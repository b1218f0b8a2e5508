"""The dips of a window of traces from its spectrum, and weights that tell events from their aliases."""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = 0.2  # samples from trace to trace: between the dips that are looked at
_POWER = 0.5  # of amplitudes: one strong replica on a ray counts for less than a ray that is full


def fan_weights(amplitude: Tensor, samples: int, largest: float) -> Tensor:
    """How plausible each place of a spectrum is, from 0 to 1, by the dips of its window.

    An event that is later by p samples from trace to trace lies on the ray ``k = -f p``, through the origin at all
    frequencies. Lines missing at regular distances repeat it at other wavenumbers, where no ray through the origin
    meets it for long. So the strength of a dip is a sum along its ray, ``sum_f sqrt(|D(f, -f p)| / f)``: low
    frequencies, which alias last, count most (Naghizadeh 2012, Geophysics 77(2): angular search). The weight of a place
    is the strength of the strongest ray that passes it, or passes a neighbouring wavenumber.

    Parameters
    ----------
    amplitude
        ``(n, rows, frequencies, columns)``: wavenumbers in the order of `torch.fft.fft`, frequencies from 0.
    samples
        Of a trace.
    largest
        Steepest dip, samples from trace to trace.
    """
    n, rows, frequencies, columns = amplitude.shape
    over_rows, over_columns = (_rays(count, frequencies, samples, largest) for count in (rows, columns))
    number = torch.arange(1, frequencies)
    power = amplitude.pow(_POWER)
    power[:, :, 1:] = power[:, :, 1:] / number.to(power.dtype)[None, None, :, None].pow(_POWER)
    strength = torch.zeros(n, len(over_rows), len(over_columns))
    for f in number.tolist():
        strength += power[:, over_rows[:, f], f][:, :, over_columns[:, f]]
    strength = strength / strength.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    weights = torch.zeros_like(amplitude)
    for f in range(frequencies):
        place = (over_rows[:, f, None] * columns + over_columns[None, :, f]).flatten().expand(n, -1)
        met = torch.zeros(n, rows * columns).scatter_reduce(1, place, strength.flatten(1), "amax")
        weights[:, :, f] = met.reshape(n, rows, columns)
    for axis in (1, 3):  # a window sees a wavenumber to within one
        weights = torch.stack([weights.roll(shift, axis) for shift in (-1, 0, 1)]).amax(dim=0)
    return weights


def _rays(traces: int, frequencies: int, samples: int, largest: float) -> Tensor:
    """Index of the wavenumber where the ray of each dip meets each frequency, ``(dips, frequencies)``."""
    count = int(largest / _STEP) if traces > 1 else 0
    dips = _STEP * torch.arange(-count, count + 1)
    meets = torch.round(-dips[:, None] * torch.arange(frequencies) * traces / samples)
    return torch.remainder(meets, traces).long()
