"""Whether kernels can be compiled, and running them on threads."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

SMALL = 1 << 20
"""Multiply-adds below which starting threads costs more than it saves."""


def run_tasks(tasks: Sequence[Callable[[], None]], work: float = float("inf")) -> None:
    """Run independent tasks on as many threads as torch uses; the tasks release Python's lock.

    ``work`` is an estimate of their multiply-adds: few of them run in the calling thread.

    Plain threads instead of numba's: two Python threads may call an operator at once (viewers, data loaders), which
    numba's default threading layer answers by ending the process.
    """
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1 or work < SMALL:
        for task in tasks:
            task()
        return
    remaining = iter(tasks)

    def help_out() -> None:
        for task in remaining:
            task()

    # The calling thread works too, so that one thread less has to be started
    with ThreadPoolExecutor(threads - 1) as pool:
        helpers = [pool.submit(help_out) for _ in range(threads - 1)]
        help_out()
        for helper in helpers:
            helper.result()


def has_numba() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None
