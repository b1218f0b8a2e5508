"""Rings: columns whose gain is a little wrong, the same in every view.

Their mean over the views stands out from that of the columns beside them. What a median filter along the row takes out
of the mean is subtracted from every view. Rings that change during the scan, and broad ones, need more: algotom has
it.

Reference for the kind: C. Raven, Rev. Sci. Instrum. 69, 2978-2980 (1998).
"""

from __future__ import annotations

import numpy as np

from medrecon.errors import InputError, MissingDependency


def remove_rings(data: np.ndarray, width: int = 9) -> np.ndarray:
    """Line integrals ``(views, rows, columns)`` without the stripes narrower than half of ``width`` columns."""
    from scipy.ndimage import median_filter

    if width < 3 or width >= data.shape[2]:
        raise InputError(
            "the ring filter's width is out of range", found=width, expected=f"3 to {data.shape[2] - 1} columns"
        )
    mean = data.mean(axis=0, dtype=np.float64)
    stripes = mean - median_filter(mean, size=(1, width | 1), mode="nearest")
    return data - stripes.astype(np.float32)


def remove_rings_algotom(data: np.ndarray) -> np.ndarray:
    """The combined methods of N. T. Vo et al., Opt. Express 26, 28396-28412 (2018), by the algotom package.

    Raises MissingDependency without it.
    """
    try:
        from algotom.prep.removal import remove_all_stripe  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingDependency("algotom", "rings", "this ring filter") from error
    rows = [remove_all_stripe(np.ascontiguousarray(data[:, row])) for row in range(data.shape[1])]
    return np.stack(rows, axis=1).astype(np.float32)
