"""Shared set-up, and the rule that nothing is skipped without need.

With ``MEDRECON_STRICT_SKIPS=1`` (set by ``.ci/run``) a skipped test makes the run fail unless its reason names
something that really is missing here: a module that cannot be found, a CUDA device, a program, or real data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import skips


def _strict() -> bool:
    return os.environ.get("MEDRECON_STRICT_SKIPS", "") not in ("", "0")


def _needless_skips(terminalreporter: pytest.TerminalReporter) -> list[str]:
    found = []
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not skips.is_needed(reason):
            found.append(f"{report.nodeid}: {reason}")
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn a green run with needless skips into a red one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if _strict() and reporter is not None and exitstatus == 0 and _needless_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the needless skips."""
    needless = _needless_skips(terminalreporter) if _strict() else []
    if needless:
        terminalreporter.section("skipped although what they need is here", red=True)
        for line in needless:
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for each of the processes that the tests are spread over; tests of threads ask for more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """No test depends on the order of the tests: global generators start equal. The package itself uses none."""
    import numpy as np
    import torch

    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
