"""Weights of a spectrum by dips: an event weighs most, its aliases little, wherever it starts."""

from __future__ import annotations

import pytest
import torch

from medrecon.physics.dip_fan import fan_weights

ROWS, SAMPLES, COLUMNS = 16, 48, 24


def spectrum(p: float, q: float, *, step: int = 1, start: float = 5.0) -> torch.Tensor:
    """Amplitude of one event on every ``step``-th column, ``(1, rows, frequencies, columns)``; time wraps around."""
    row, time, column = (torch.arange(n, dtype=torch.float32) for n in (ROWS, SAMPLES, COLUMNS))
    away = time[None, :, None] - start - p * row[:, None, None] - q * column
    away = torch.remainder(away + SAMPLES / 2, SAMPLES) - SAMPLES / 2
    event = (1 - 2 * (away / 2.2) ** 2) * torch.exp(-((away / 2.2) ** 2))
    event = torch.where(column % step == 0, event, torch.zeros(()))
    return torch.fft.rfftn(event[None], dim=(1, 3, 2)).abs()


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize(("p", "q"), [(0.0, 0.0), (0.8, -1.2), (-1.5, 2.4)])
def test_an_event_outweighs_its_aliases(p: float, q: float, step: int):
    whole, holed = spectrum(p, q), spectrum(p, q, step=step)
    weights = fan_weights(holed, SAMPLES, 4.0)
    assert float(weights.min()) >= 0 and float(weights.max()) == pytest.approx(1.0)
    event = whole > 0.5 * whole.amax(dim=(1, 3), keepdim=True)
    event[:, :, (whole.amax(dim=(0, 1, 3)) < 0.1 * whole.max())] = False
    aliases = event.roll(COLUMNS // step, 3) & ~event
    assert float(weights[event].mean()) > 0.9
    assert float(weights[aliases].mean()) < 0.7


def test_scale_and_start_do_not_matter():
    one = fan_weights(spectrum(0.8, 1.2), SAMPLES, 4.0)
    torch.testing.assert_close(fan_weights(1e6 * spectrum(0.8, 1.2, start=30.0), SAMPLES, 4.0), one, atol=1e-3, rtol=0)
    assert not fan_weights(torch.zeros(1, ROWS, 25, COLUMNS), SAMPLES, 4.0).isnan().any()


def test_windows_do_not_mix():
    both = torch.cat([spectrum(0.0, 1.0), spectrum(1.0, -2.0)])
    torch.testing.assert_close(fan_weights(both, SAMPLES, 4.0)[1:], fan_weights(both[1:], SAMPLES, 4.0))
