"""Methods behind ``reconstruct``: importing this package registers them all."""

from medrecon.samplers import (
    asd_pocs,
    cg_sense,
    cgls,
    direct,
    l1_wavelet,
    linear,
    mbir,
    perturb,
    pocs,
    presets,
    rank_reduction,
    red_diff,
    sirt,
    tv,
    x0_loop,
    zero_filled,
)
from medrecon.samplers.base import Sampler, State, samplers

__all__ = [
    "Sampler",
    "State",
    "asd_pocs",
    "cg_sense",
    "cgls",
    "direct",
    "l1_wavelet",
    "linear",
    "mbir",
    "perturb",
    "pocs",
    "presets",
    "rank_reduction",
    "red_diff",
    "samplers",
    "sirt",
    "tv",
    "x0_loop",
    "zero_filled",
]
