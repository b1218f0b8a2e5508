"""What the user sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("medrecon")
_SECONDS_BETWEEN_LINES = 10.0


def set_up_logging(*, quiet: bool) -> None:
    """Log lines of this package go to stderr as they are; with ``quiet`` only warnings and errors do."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def say(message: str) -> None:
    """A line on stderr, always."""
    typer.echo(message, err=True)


def remark(message: str) -> None:
    """A line on stderr, unless --quiet."""
    log.info(message)


def result(text: str) -> None:
    """The result of the command, on stdout."""
    typer.echo(text)


def result_json(value: object) -> None:
    """The result of the command as one JSON object on stdout."""
    from medrecon.data.provenance import jsonable

    typer.echo(json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False))


class Advance(Protocol):
    """Tells the progress display that ``steps`` of the total are done."""

    def __call__(self, steps: int, remark: str = "") -> None:  # noqa: D102 - the class says it
        ...


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Progress with an estimate of the time left, on stderr.

    A live bar on a terminal; otherwise a line every ten seconds, so that log files stay short.
    """
    if not log.isEnabledFor(logging.INFO):
        yield lambda steps, remark="": None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=total, remark="")
            yield lambda steps, remark="": bar.update(task, completed=steps, remark=remark)
    else:
        yield _lines(what, total)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[remark]}"),
        console=Console(stderr=True),
        transient=True,
    )


def _lines(what: str, total: int) -> Advance:
    start = last = time.monotonic()

    def advance(steps: int, remark: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if steps < total and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        elapsed = now - start
        left = f", about {elapsed / steps * (total - steps):.0f} s left" if 0 < steps < total else ""
        say(f"{what}: {steps}/{total} in {elapsed:.0f} s{left}{'  ' + remark if remark else ''}")

    return advance


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] | None = None) -> str:
    """Left-aligned columns of plain text."""
    lines = [header, *rows] if header else list(rows)
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    formatted = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    if header:
        formatted.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(formatted)
