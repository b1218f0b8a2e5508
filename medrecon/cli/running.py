"""Running the engine for a person at a terminal: progress, a clean stop, the files beside a result."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from medrecon.cli import console
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.engine import Result, StepReport
    from medrecon.prior import NetworkPrior
    from medrecon.problem import Problem


RESUME = "The state is saved: run the same command with --resume."
NOTHING_TO_RESUME = "there is no interrupted run of this output: starting from the beginning"


class Bars:
    """One progress bar for each stage of a run."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._open = ExitStack()
        self._advance: console.Advance | None = None

    def show(self, stage: str, done: int, total: int, remark: str = "") -> None:
        """``done`` of ``total`` steps of ``stage``; another stage begins another bar."""
        if stage != self._stage or self._advance is None:
            self._open.close()
            self._stage = stage
            self._advance = self._open.enter_context(console.progress(stage, total))
        self._advance(done, remark)

    def close(self) -> None:
        """End the last bar."""
        self._open.close()


class Progress:
    """An engine callback that shows each stage as a bar and says stop once a signal came."""

    def __init__(self, stop: list[int], samples: int, words: str = "") -> None:
        self._stop, self._samples, self._bars = stop, samples, Bars()
        self._words = f"{words}: " if words else ""

    def __call__(self, report: StepReport) -> bool:
        """Show one step; False once the run shall stop."""
        runs = 1 if report.stage == "baseline" else self._samples
        done = report.step + (report.sample * report.total_steps if runs > 1 else 0)
        discrepancy = report.stats.get("discrepancy")
        remark = f"residual/noise {discrepancy:.2f}" if discrepancy is not None else ""
        self._bars.show(self._words + report.stage, done, report.total_steps * runs, remark)
        return not self._stop

    def close(self) -> None:
        """End the last bar."""
        self._bars.close()


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """A list that receives the signal's number when the person, or the system, asks the run to stop.

    The first Ctrl-C lets the current step end, so that it is saved; the second one ends at once.
    """
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)
        console.say("stopping after this step; once more to stop at once")

    before = {name: signal.signal(name, note) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def run(problem: Problem, method: str, settings: Mapping[str, object], *, words: str = "", **options: object) -> Result:
    """`reconstruct` with progress on stderr, ``words`` before each stage.

    A signal ends the command with 128 + its number, the state saved.
    """
    from medrecon.engine import reconstruct

    with stoppable() as stop:
        progress = Progress(stop, int(options.get("samples", 1)), words)  # type: ignore[call-overload]
        try:
            result = reconstruct(problem, method, callback=progress, **options, **settings)  # type: ignore[arg-type]
        finally:
            progress.close()
    if stop and result.status != "done":
        saved = f" {RESUME}" if options.get("checkpoint") else ""
        console.say(f"medrecon: interrupted.{saved}")
        raise typer.Exit(128 + stop[0])
    return result


# --- choices ---------------------------------------------------------------------------------------------------
def device_name(wanted: str) -> str:
    """``auto``, ``cpu`` or ``cuda:N`` as a device that is there. Raises UsageError where it is not."""
    import torch

    if wanted in ("auto", "cpu"):
        return "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError("unknown device", found=wanted, expected="auto, cpu or cuda:0") from error
    if device.type != "cuda" or not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise UsageError("this device is not on the machine", found=wanted, expected="auto or cpu")
    return wanted


def prior_file(prior: NetworkPrior | None, name: str | None) -> list[Path]:
    """The weights file of a prior, for provenance."""
    from medrecon.prior import BUNDLED

    if prior is None:
        return []
    given = Path(name) if name else None
    return [given if given is not None and given.is_file() else BUNDLED / f"{name or prior.card.name}.safetensors"]


def check_is_file_name(path: Path, suffix: str) -> None:
    """Raise UsageError unless ``path`` ends in ``suffix``."""
    if path.suffix.lower() != suffix:
        raise UsageError("another suffix is expected", where=path.name, expected=suffix)
