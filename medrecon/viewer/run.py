"""What the widget asks for, as a command line and as a run: no window needed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrecon.cli.job import Job
    from medrecon.data.volume import Volume
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


def reconstructed(request: Request, told: Told) -> list[Layer]:
    """Reconstruct; the layers of the result, which is the last volume reached where ``told`` stopped the run.

    Raises MedreconError with the text that the command line gives.
    """
    from medrecon.engine import reconstruct
    from medrecon.viewer.layers import result_layers, volume_layer

    job = request.job()
    ready = job.prepared()

    def shown(volume: Volume) -> Volume:
        return job.as_written(volume, ready.orientation)

    def callback(report: StepReport) -> bool:
        return told(report, lambda: volume_layer(shown(report.volume()), f"{request.name} (running)"))

    result = reconstruct(
        ready.problem,
        job.config.method or "auto",
        quantity=ready.quantity,
        samples=job.config.samples or 1,
        seed=job.config.seed or 0,
        judgement=job.config.trust or "basic",
        callback=callback,
        **ready.settings,  # type: ignore[arg-type]
    )
    record = job.record(ready, result)
    cut = replace(
        result,
        volume=shown(result.volume),
        baseline=None if result.baseline is None else shown(result.baseline),
        spread=None if result.spread is None else shown(result.spread),
        layers={name: shown(volume) for name, volume in result.layers.items()},
    )
    name = request.name if result.status == "done" else f"{request.name} (stopped)"
    return result_layers(cut, name, ready.orientation, record=record, status=result.status)


def known_choices() -> tuple[list[str], list[str]]:
    """The methods, and the priors that come with the package."""
    from medrecon.prior import bundled_priors
    from medrecon.samplers import samplers

    return ["auto", *(entry.name for entry in samplers)], bundled_priors()
