"""Methods behind ``reconstruct``: importing this package registers them all."""

from medrecon.samplers import asd_pocs, cgls, direct, sirt, tv, x0_loop
from medrecon.samplers.base import Sampler, State, samplers

__all__ = ["Sampler", "State", "asd_pocs", "cgls", "direct", "samplers", "sirt", "tv", "x0_loop"]
