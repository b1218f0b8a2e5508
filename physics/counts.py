"""From detector counts to line integrals: dark and flat fields, broken pixels, starved rays, the noise of the flats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.errors import InputError

_DEAD = 0.05  # of the median flat: a pixel that sees less of the beam is broken
_UNSTEADY = 8.0  # times the usual standard deviation of a pixel over the flats
_LEAST_TRANSMISSION = 1e-5
_FLATS_FOR_NOISE = 5
_MOST_BROKEN = 0.5  # of all pixels


@dataclass(frozen=True, eq=False)
class LineIntegrals:
    """Line integrals ``(views, rows, columns)``, float32, and what was done to get them.

    ``broken`` pixels were filled from their neighbours in the row, ``starved`` values lay at or below the dark field.
    ``photons`` is the number of photons per pixel of the flat field that explains its noise; None where there are too
    few flats to tell.
    """

    data: np.ndarray
    broken: int
    starved: int
    photons: float | None

    @property
    def notes(self) -> list[str]:
        """What a user should know, in words."""
        said = []
        if self.broken:
            said.append(f"{self.broken} broken detector pixels were filled from their neighbours")
        if self.starved:
            said.append(f"{self.starved} values at or below the dark field were raised to the least transmission")
        return said

    @property
    def noise(self) -> dict[str, object]:
        """The noise model as a scan carries it; empty where it is not known."""
        if self.photons is None:
            return {}
        return {"kind": "poisson", "photons": self.photons, "electronic": 0.0}


def line_integrals(counts: np.ndarray, flats: np.ndarray, darks: np.ndarray | None = None) -> LineIntegrals:
    """``-log((counts - dark) / (flat - dark))``.

    Parameters
    ----------
    counts
        ``(views, rows, columns)``.
    flats, darks
        Frames ``(n, rows, columns)`` without an object, and without a beam; their means are taken. Flats from before
        and after a scan go in together.

    Raises
    ------
    InputError
        Shapes that differ; flats that are no brighter than the darks; more than half of the pixels broken.
    """
    frames = {"flat": flats if flats.ndim == 3 else flats[None]}
    if darks is not None and darks.size:
        frames["dark"] = darks if darks.ndim == 3 else darks[None]
    for name, frame in frames.items():
        if frame.shape[1:] != counts.shape[1:] or len(frame) == 0:
            raise InputError(
                f"the {name} fields are of another detector", found=f"{frame.shape[1:]}, {len(frame)} frames",
                expected=f"{counts.shape[1:]} as the projections",
            )  # fmt: skip
        if not np.isfinite(frame).all():
            raise InputError(f"NaN or infinity in the {name} fields")
    dark = frames["dark"].mean(axis=0, dtype=np.float64) if "dark" in frames else np.zeros(counts.shape[1:])
    beam = frames["flat"].mean(axis=0, dtype=np.float64) - dark
    usual = float(np.median(beam))
    if not usual > 0:
        raise InputError(
            "the flat fields are empty: no brighter than the dark fields", found=f"{usual + np.median(dark):.4g}",
            expected=f"more than the dark field's {np.median(dark):.4g}",
            hint="Are flats and darks exchanged, or was the shutter closed?",
        )  # fmt: skip
    broken = beam < _DEAD * usual
    photons, unsteady = _noise_of(frames["flat"], beam, broken)
    broken |= unsteady
    if broken.mean() > _MOST_BROKEN:
        raise InputError(
            "most detector pixels see no beam", found=f"{int(broken.sum())} of {broken.size}",
            hint="Crop the detector to the part that is lit (--correct crop).",
        )  # fmt: skip
    safe = np.where(broken, usual, beam)
    transmission = ((counts - dark) / safe).astype(np.float32)
    least = max(_LEAST_TRANSMISSION, 0.5 / photons if photons else 0.0)
    low = ~(transmission >= least) & ~broken  # NaN counts as starved
    transmission[:, broken] = 1.0
    data = -np.log(np.maximum(np.nan_to_num(transmission, nan=least), least))
    fill_broken(data, broken)
    return LineIntegrals(data, int(broken.sum()), int(low.sum()), photons)


def fill_broken(data: np.ndarray, broken: np.ndarray) -> None:
    """Interpolate pixels ``broken`` ``(rows, columns)`` linearly along their row, in place; whole rows from others."""
    whole = np.flatnonzero(broken.all(axis=1))
    sound = np.flatnonzero(~broken.all(axis=1))
    for row in sound:
        bad = np.flatnonzero(broken[row])
        if bad.size == 0:
            continue
        good = np.flatnonzero(~broken[row])
        right = np.clip(np.searchsorted(good, bad), 0, len(good) - 1)
        left = np.clip(right - 1, 0, len(good) - 1)
        gap = np.maximum(good[right] - good[left], 1)
        part = np.clip((bad - good[left]) / gap, 0, 1).astype(np.float32)
        data[:, row, bad] = (1 - part) * data[:, row, good[left]] + part * data[:, row, good[right]]
    for row in whole:
        nearest = sound[np.argmin(np.abs(sound - row))]
        data[:, row] = data[:, nearest]


def _noise_of(flats: np.ndarray, beam: np.ndarray, broken: np.ndarray) -> tuple[float | None, np.ndarray]:
    """Photons per pixel that explain the variance of the flats, and pixels that vary far more than others.

    The brightness of every frame is brought to the mean first: a beam that drifts is no noise.
    """
    none = np.zeros_like(broken)
    if len(flats) < _FLATS_FOR_NOISE or broken.all():
        return None, none
    frames = flats.astype(np.float64)
    level = np.median(frames[:, ~broken], axis=1)
    if not (level > 0).all():
        return None, none
    frames *= (level.mean() / level)[:, None, None]
    variance = frames.var(axis=0, ddof=1)
    usual = float(np.median(variance[~broken]))
    if not usual > 0:
        return None, none
    share = beam[~broken] ** 2 / np.maximum(variance[~broken], 1e-3 * usual)
    return float(np.median(share)), variance > _UNSTEADY**2 * usual * np.maximum(beam / np.median(beam), 1.0)
