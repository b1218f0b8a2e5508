"""How far filled traces are from the truth, in the figures of the field. Sections are ``(row, time, column)``."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from medrecon.errors import InputError

_MOST_ROWS = 64  # that a spectrum is averaged over
_FAINT = 1 / 3
_TAPER = 0.1  # of the length, at either end


def snr(found: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> float:
    """``10 log10(|truth|^2 / |found - truth|^2)``, dB; on the traces of ``where``, bool ``(rows, columns)``.

    Over a whole volume half the traces left at zero give 3 dB for nothing; on the missing ones they give 0. Infinite
    where both are equal.
    """
    signal, error = (_traces(part, where) for part in (truth, found - truth))
    size, wrong = (float(np.square(part, dtype=np.float64).sum()) for part in (signal, error))
    if size == 0:
        raise InputError("the signal-to-noise ratio of an empty truth is undefined")
    return 10 * math.log10(size / wrong) if wrong > 0 else math.inf


def compare_traces(found: np.ndarray, truth: np.ndarray, missing: np.ndarray) -> dict[str, float]:
    """The figures of a filled survey; ``missing`` is bool ``(rows, columns)``.

    Returns
    -------
    dict
        ``snr_missing`` and ``snr_all`` (dB), ``correlation`` (mean over missing traces), ``loudness`` (root mean square
        of the missing traces over that of the truth), ``fk_error`` (relative error of the amplitude spectrum of the
        sections). Missing traces of which the truth knows nothing (zero throughout) are left out.
    """
    missing = missing & (truth != 0).any(axis=1)
    figures = {"snr_all": snr(found, truth)}
    if missing.any():
        ours, theirs = (_traces(part, missing).astype(np.float64) for part in (found, truth))
        figures["snr_missing"] = snr(found, truth, missing)
        figures["correlation"] = float(np.mean(_correlation(ours, theirs)))
        figures["loudness"] = float(np.sqrt(np.square(ours).sum() / np.square(theirs).sum()))
    spectra = [fk_amplitude(part) for part in (found, truth)]
    figures["fk_error"] = float(np.linalg.norm(spectra[0] - spectra[1]) / np.linalg.norm(spectra[1]))
    return figures


def loudness(sections: np.ndarray) -> np.ndarray:
    """Root mean square of every trace, ``(rows, columns)``."""
    return np.sqrt(np.square(sections, dtype=np.float64).mean(axis=1))


def faint_share(loud: np.ndarray, live: np.ndarray) -> float:
    """Share of the missing traces that were filled with less than a third of the `loudness` of the nearest live trace.

    Methods that know nothing of a place leave silence there: no truth is needed to see it.
    """
    missing = ~live
    if not missing.any() or not live.any():
        return 0.0
    row, column = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return float(np.mean(loud[missing] < _FAINT * loud[row[missing], column[missing]]))


def fk_amplitude(sections: np.ndarray) -> np.ndarray:
    """Amplitude over frequency (from 0) and wavenumber (0 in the middle) of sections, root mean square over the rows.

    Sections are tapered at their ends, which would otherwise show as a cross.
    """
    rows = np.unique(np.linspace(0, len(sections) - 1, min(len(sections), _MOST_ROWS)).astype(int))
    window = _taper(sections.shape[1])[:, None] * _taper(sections.shape[2])
    power = np.zeros((sections.shape[1] // 2 + 1, sections.shape[2]))
    for row in rows:  # one at a time: a volume may be large
        spectrum = np.fft.fft(np.fft.rfft(sections[row] * window, axis=0), axis=1)
        power += np.square(np.abs(spectrum))
    return np.fft.fftshift(np.sqrt(power / len(rows)), axes=1)


def _taper(count: int) -> np.ndarray:
    ends = np.minimum(np.arange(count) + 0.5, count - np.arange(count) - 0.5)
    return np.sin(0.5 * np.pi * np.minimum(ends / max(_TAPER * count, 0.5), 1.0)) ** 2


def _traces(sections: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Chosen traces ``(n, time)``."""
    columns = sections.transpose(0, 2, 1)
    return columns.reshape(-1, columns.shape[2]) if where is None else columns[where]


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each trace with its partner; 0 where one of them is silent."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(lengths > 0, (a * b).sum(axis=1) / np.maximum(lengths, 1e-300), 0.0)
