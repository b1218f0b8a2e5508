"""What the widget asks for, as a command line and as a run: no window needed."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrecon.cli.job import Job, Prepared
    from medrecon.engine import StepReport
    from medrecon.viewer.layers import Layer


@dataclass(frozen=True)
class Request:
    """The choices of the widget; empty texts and zero steps stand for the defaults of `medrecon recon`."""

    file: Path
    method: str = "auto"
    prior: str = ""
    steps: int = 0
    samples: int = 1
    device: str = "auto"
    preview: int | None = None  # the slice to try

    @property
    def name(self) -> str:
        """How the layers of the result are called."""
        part = "" if self.preview is None else f", slice {self.preview}"
        return f"{self.file.stem} {self.method}{part}"

    @property
    def output(self) -> Path:
        """The file that the command line would write."""
        part = "recon" if self.preview is None else f"slice-{self.preview}"
        return self.file.with_name(f"{self.file.stem}-{part}.nii.gz")

    @property
    def command(self) -> str:
        """The command line that does the same."""
        words = ["medrecon", "recon", str(self.file), "-o", str(self.output), "--method", self.method]
        if self.prior:
            words += ["--prior", self.prior]
        if self.steps:
            words += ["--steps", str(self.steps)]
        if self.samples > 1:
            words += ["--samples", str(self.samples)]
        if self.device != "auto":
            words += ["--device", self.device]
        if self.preview is not None:
            words += ["--preview-slice", str(self.preview)]
        return shlex.join(words)

    def job(self) -> Job:
        """The same as the command line's job. Raises UsageError where no file is chosen."""
        from medrecon.cli.job import Job
        from medrecon.cli.options import RunConfig, resolved
        from medrecon.errors import UsageError

        if not self.file.name:
            raise UsageError("no file is chosen", hint="Choose measured data, such as scan.h5.")
        said = RunConfig(
            method=self.method,
            prior=self.prior or None,
            steps=self.steps or None,
            samples=self.samples,
            device=self.device,
        )
        return Job(self.file, self.output, resolved(said, None), preview=self.preview)


Told = Callable[["StepReport", Callable[[], "Layer"]], bool]
"""Called after each step with what the engine says and a function that gives the layer; False stops the run."""


def reconstructed(request: Request, told: Told, say: Callable[[str], None] = lambda line: None) -> list[Layer]:
    """Reconstruct; the layers of the result, which is the last volume reached where ``told`` stopped the run.

    ``say`` gets the lines that the command line writes to stderr. Raises MedreconError with the text that the command
    line gives.
    """
    from medrecon.data.volume import Volume
    from medrecon.engine import reconstruct
    from medrecon.viewer.layers import volume_layer, with_companions

    job = request.job()
    with heard(say):
        ready = job.prepared()
    method, running = job.config.method or "auto", f"{request.name} (running)"

    def shown(name: str, volume: Volume) -> Volume:
        written = job.as_written(name, volume, ready, method)
        assert isinstance(written, Volume)  # `Request.output` names a file of a volume
        return written

    def callback(report: StepReport) -> bool:
        return told(report, lambda: _labelled([volume_layer(shown("result", report.volume()), running)], ready)[0])

    result = reconstruct(
        ready.problem,
        method,
        quantity=ready.quantity,
        samples=job.config.samples or 1,
        seed=job.config.seed or 0,
        judgement=job.config.trust or "basic",
        callback=callback,
        **ready.settings,  # type: ignore[arg-type]
    )
    for doubt in job.doubts(ready, result):
        say(f"warning: {doubt}")
    volumes = {name: shown(name, volume) for name, volume in job.volumes(ready, result).items()}
    name = request.name if result.status == "done" else f"{request.name} (stopped)"
    about = {"record": job.record(ready, result), "status": result.status, "measured": str(request.file)}
    return _labelled(with_companions(volumes.pop("result"), volumes, name, **about), ready)


def _labelled(layers: list[Layer], ready: Prepared) -> list[Layer]:
    """Layers with the axes of what was measured: sections of traces have a time."""
    from medrecon.data.traces import Traces
    from medrecon.viewer.layers import section_axes, with_axes

    return with_axes(layers, section_axes(ready.scan)) if isinstance(ready.scan, Traces) else layers


@contextmanager
def heard(say: Callable[[str], None]) -> Iterator[None]:
    """Lines that the package logs go to ``say`` as well."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    log, handler = logging.getLogger("medrecon"), Lines(logging.INFO)
    before = log.level
    log.addHandler(handler)
    if not log.isEnabledFor(logging.INFO):
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@dataclass(frozen=True)
class Choices:
    """What there is to choose from on this machine."""

    methods: list[str]
    priors: list[str]
    devices: list[str]


def known_choices() -> Choices:
    """The methods, the priors that come with the package, and the devices."""
    import torch

    from medrecon.prior import bundled_priors
    from medrecon.samplers import samplers

    gpus = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    return Choices(["auto", *(entry.name for entry in samplers)], bundled_priors(), ["auto", "cpu", *gpus])
