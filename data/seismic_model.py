"""Synthetic seismic data from a seed: stacked volumes, 2D lines, gathers and shots before stack.

They look like data, and no real survey is in them: for demonstrations, for tests and as training volumes of priors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from medrecon.data.seismic_earth import OVERSAMPLING, draw_earth
from medrecon.data.seismic_gathers import draw_gathers, draw_shot
from medrecon.data.seismic_wavelets import Wavelet, filtered, random_wavelet
from medrecon.data.trace_grid import CDP, CROSSLINE, INLINE, OFFSET, Axis
from medrecon.data.traces import State, Traces
from medrecon.errors import InputError, UsageError
from medrecon.registry import Registry

_LEAST, _MOST = (1, 8, 16), 50_000_000  # rows, columns and samples of a model; values of the largest one
_SLAB = 2_000_000  # values worked on at a time
_LOUD = 1000.0  # root-mean-square amplitude of a model

models: Registry[Callable[..., Traces]] = Registry("kind of seismic model")
"""``model(shape, interval, seed)`` gives complete `Traces`; ``shape`` is ``(rows, columns, samples)``.

Registered as ``told`` are the further arguments of `seismic_model` that it takes.
"""


def seismic_model(
    kind: str = "volume",
    shape: tuple[int, int, int] = (64, 64, 128),
    *,
    interval: float = 4000.0,
    seed: int = 0,
    ground_roll: bool = False,
    steepness: float | None = None,
) -> Traces:
    """A synthetic survey without missing traces.

    Parameters
    ----------
    kind
        ``"volume"`` (inlines and crosslines after stack), ``"line"`` (one 2D section), ``"gathers"`` (before stack, one
        row a midpoint) or ``"shot"`` (before stack, one row a line of receivers).
    shape
        Rows, columns and samples; a line has one row.
    interval
        Sample interval in microseconds.
    ground_roll
        Gathers alone: with slow, dispersed surface waves.
    steepness
        Volumes and lines alone: root-mean-square slope of the folds in samples a trace; drawn, 0.03 to 1.2, if None.

    Raises
    ------
    UsageError
        Unknown kind, a shape that is no grid or too small, an interval or a steepness that is not positive.

    >>> seismic_model("line", (1, 40, 32), seed=3).kind
    '2d'
    """
    make = models.get(kind)
    if len(shape) != 3 or any(n < least for n, least in zip(shape, _LEAST, strict=True)):
        raise UsageError("the model is too small", found=shape, expected=f"at least {_LEAST} rows, columns, samples")
    if kind == "line" and shape[0] != 1:
        raise UsageError("a line has one row", found=shape[0])
    if np.prod(shape, dtype=np.float64) > _MOST:
        raise UsageError("the model is too large", found=shape, expected=f"at most {_MOST} samples in all")
    if not interval > 0:
        raise UsageError("the sample interval is in microseconds", found=interval)
    if seed < 0:
        raise InputError("a seed is not negative", found=seed)
    if steepness is not None and not 0 < steepness < np.inf:
        raise UsageError("the steepness is in samples a trace", found=steepness, expected="more than 0")
    wanted = {"ground_roll": ground_roll, "steepness": steepness}
    said = {name: value for name, value in wanted.items() if value}
    for name in said:
        able = [entry.name for entry in models if name in entry.meta.get("told", ())]  # type: ignore[operator]
        if kind not in able:
            raise UsageError(
                f"this kind of model has no {name.replace('_', ' ')}", found=kind, expected=", ".join(able)
            )
    return make(shape, interval, seed, **said)


@models.register("volume", told=("steepness",))
def stacked_volume(
    shape: tuple[int, int, int], interval: float, seed: int, *, steepness: float | None = None
) -> Traces:
    """A volume after stack and migration."""
    rows = Axis("inline", 100, 1, shape[0], INLINE)
    columns = Axis("crossline", 300, 1, shape[1], CROSSLINE)
    return _complete(_stacked(shape, interval, seed, steepness), rows, columns, interval, "3d")


@models.register("line", told=("steepness",))
def stacked_line(shape: tuple[int, int, int], interval: float, seed: int, *, steepness: float | None = None) -> Traces:
    """One 2D section after stack."""
    rows, columns = Axis("inline", 0, 1, 1, INLINE), Axis("cdp", 1, 1, shape[1], CDP)
    return _complete(_stacked(shape, interval, seed, steepness), rows, columns, interval, "2d")


@models.register("gathers", told=("ground_roll",))
def gathers(shape: tuple[int, int, int], interval: float, seed: int, *, ground_roll: bool = False) -> Traces:
    """Neighbouring gathers before stack: one row a midpoint, one column an offset."""
    rng = np.random.default_rng([seed, 2])
    field = draw_gathers(rng, shape, interval / 1e6, ground_roll=ground_roll)
    data = _with_noise(rng, field.record(rng), interval)
    rows = Axis("cdp", 1, 1, shape[0], CDP)
    columns = Axis("offset", round(field.first), round(field.step), shape[1], OFFSET)
    return _complete(data, rows, columns, interval, "prestack")


@models.register("shot")
def shot(shape: tuple[int, int, int], interval: float, seed: int) -> Traces:
    """One shot before stack on an area of receivers: one row a line of them."""
    rng = np.random.default_rng([seed, 3])
    data = _with_noise(rng, draw_shot(rng, shape, interval / 1e6).record(rng), interval)
    rows = Axis("inline", 1, 1, shape[0], INLINE)
    columns = Axis("crossline", 1, 1, shape[1], CROSSLINE)
    return _complete(data, rows, columns, interval, "3d")


def _stacked(shape: tuple[int, int, int], interval: float, seed: int, steepness: float | None) -> np.ndarray:
    """Amplitudes ``(rows, columns, samples)`` of an earth of its own."""
    rng = np.random.default_rng([seed, 1])
    rows, columns, samples = shape
    earth = draw_earth(rng, rows, columns, samples, steepness)
    seconds = interval / 1e6
    shallow = random_wavelet(rng, 0.5 / seconds)
    wavelets = shallow, shallow.lowered(rng.uniform(0.6, 1.0))
    deeper = np.linspace(0, 1, samples)
    fading = np.exp(-rng.uniform(0, 2.0) * deeper)
    blur = rng.uniform(0, 0.8)
    data = np.empty(shape)
    step = max(1, _SLAB // (columns * samples))
    for first in range(0, rows, step):
        part = slice(first, first + step)
        impedance = earth.impedance(part)
        reflectivity = np.diff(impedance, axis=-1, prepend=impedance[..., :1])
        above, below = filtered(reflectivity, OVERSAMPLING, wavelets, seconds)
        data[part] = (above * (1 - deeper) + below * deeper) * fading
    if blur > 0.2:  # migration does not place an edge better than this
        data = ndimage.gaussian_filter(data, (blur if rows > 1 else 0, blur, 0))
    if rng.random() < 0.4:  # gain control brings deep events up
        data /= _envelope(data, rng.uniform(0.1, 0.4) * samples) ** rng.uniform(0.3, 1.0)
    return (_with_crossing_events if rng.random() < 0.6 else _with_noise)(rng, data, interval)


def _envelope(data: np.ndarray, window: float) -> np.ndarray:
    """Root-mean-square amplitude of all traces around each time, relative to its mean."""
    squares = ndimage.gaussian_filter1d(np.square(data).mean(axis=(0, 1)), window, mode="nearest")
    return np.sqrt(squares / squares.mean() + 1e-4)


def _with_noise(rng: np.random.Generator, data: np.ndarray, interval: float) -> np.ndarray:
    """Band-limited noise on top, 18 to 45 dB below the signal; the sum at the usual loudness."""
    white = rng.standard_normal(data.shape)
    return _loud(data, white, random_wavelet(rng, 0.5e6 / interval), interval, rng.uniform(18, 45))


def _with_crossing_events(rng: np.random.Generator, data: np.ndarray, interval: float) -> np.ndarray:
    """Noise as migration leaves it, 3 to 45 dB below the signal: events of all dips up to a steepest one that cross."""
    steepest = np.exp(rng.uniform(np.log(0.2), np.log(2.0)))  # samples a trace
    spectrum = np.fft.rfftn(rng.standard_normal(data.shape))
    rows, columns = (np.fft.fftfreq(n) for n in data.shape[:2])
    across = np.hypot(rows[:, None], columns[None, :])[..., None]
    spectrum[across > np.fft.rfftfreq(data.shape[2]) / steepest] = 0
    coherent = np.fft.irfftn(spectrum, s=data.shape, axes=(0, 1, 2))
    return _loud(data, coherent, random_wavelet(rng, 0.5e6 / interval), interval, rng.uniform(3, 45))


def _loud(data: np.ndarray, noise: np.ndarray, band: Wavelet, interval: float, decibels: float) -> np.ndarray:
    """Signal and noise at their ratio, the signal at the usual loudness."""
    (noise,) = filtered(noise, 1, (band,), interval / 1e6)
    signal = float(np.sqrt(np.square(data).mean()))
    return (_LOUD * (data / max(signal, 1e-30) + 10 ** (-decibels / 20) * noise / noise.std())).astype(np.float32)


def _complete(data: np.ndarray, rows: Axis, columns: Axis, interval: float, kind: str) -> Traces:
    state = np.full(data.shape[:2], State.live, np.uint8)
    meta = {"format": "model", "warnings": [], "note": "SYNTHETIC DATA, NO SURVEY"}
    return Traces(data, state, rows, columns, interval, kind, meta=meta)
