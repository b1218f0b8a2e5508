"""What the quality runs share: methods as they are written on the command line, and the file of finished cases."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from medrecon.samplers import samplers


def parsed(method: str) -> tuple[str, dict[str, object]]:
    """``NAME:key=value,key=value`` as name and settings; a value may be a list, ``[0,1]``."""
    name, _, text = method.partition(":")
    return name, yaml.safe_load("{" + text.replace("=", ": ") + "}")


def needs_prior(method: str, *, automatic: bool = True) -> bool:
    """Whether a method, written as above, takes a prior; ``automatic``: whether ``auto`` is given one."""
    name = parsed(method)[0]
    return automatic if name == "auto" else bool(samplers.get(name).needs_prior)


ALARMS = ("residual", "uneven", "units", "brightness", "prior", "range", "moments")
"""Reasons of a verdict that name a fault; the others say that care is needed."""


def caught(trial: dict) -> bool:
    """Whether the verdict of a trial names a fault, or the run was refused."""
    return trial["level"] == "refused" or any(reason in ALARMS for reason in trial["reasons"])


class Journal:
    """A file of JSON lines, one for each case; a case that it holds is not run again, so that a stopped run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[dict]:
        """All lines."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def __contains__(self, case: str) -> bool:
        return any(record["case"] == case for record in self.records())

    def find(self, case: str) -> dict | None:
        """The line of a case."""
        return next((record for record in self.records() if record["case"] == case), None)

    def write(self, record: dict, words: str | None = None) -> None:
        """Add a line, and tell ``words`` (by default the line) on the standard error stream."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        sys.stderr.write(f"{record['case']}: {words}\n" if words is not None else f"{record}\n")
