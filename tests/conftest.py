"""Shared set-up, and the rule that nothing is skipped without need.

With ``MEDRECON_STRICT_SKIPS=1`` (set by ``.ci/run``) a skipped test makes the run fail unless its reason names
something that really is missing here: a module that cannot be found, a CUDA device, a program, or real data.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable

import pytest
import realdata

# (pattern of the skip reason, question "is the thing named by the first group here?")
_NEEDS: list[tuple[str, Callable[[str], bool]]] = [
    (r"could not import '([\w.]+)'", lambda name: _importable(name)),
    (r"No module named '([\w.]+)'", lambda name: _importable(name)),
    (r"real data (\S+) is not on this machine", lambda path: _real_data(path)),
    (r"program ([\w.-]+) is not installed", lambda name: shutil.which(name) is not None),
    (r"(CUDA)", lambda _: _cuda()),
]


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name.split(".")[0]) is not None


def _real_data(path: str) -> bool:
    folder = realdata.root()
    return folder is not None and (folder / path).exists()


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def skip_is_needed(reason: str) -> bool:
    """Whether the reason names something that is missing on this machine."""
    for pattern, is_here in _NEEDS:
        match = re.search(pattern, reason)
        if match:
            return not is_here(match.group(1))
    return False


def _strict() -> bool:
    return os.environ.get("MEDRECON_STRICT_SKIPS", "") not in ("", "0")


def _needless_skips(terminalreporter: pytest.TerminalReporter) -> list[str]:
    found = []
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not skip_is_needed(reason):
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
def _fixed_seeds() -> None:
    """No test depends on the order of the tests: global generators start equal. The package itself uses none."""
    import numpy as np
    import torch

    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
