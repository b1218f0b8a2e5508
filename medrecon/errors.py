"""Every error that medrecon raises on purpose, with the exit code that the command line gives it."""

from __future__ import annotations


class MedreconError(Exception):
    """Something went wrong while running.

    The message says what happened, where, what was found, what was expected and what to do; each part is
    optional. Messages carry file names without their folders and no patient data.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.expected, self.hint = what, where, found, expected, hint
        parts = [what if where is None else f"{where}: {what}"]
        if found is not None:
            parts.append(f"found {found}")
        if expected is not None:
            parts.append(f"expected {expected}")
        message = "; ".join(parts)
        super().__init__(f"{message}. {hint}" if hint else message)


class UsageError(MedreconError):
    """A wrong option, setting or name."""

    exit_code = 2


class InputError(MedreconError):
    """A file or array that cannot be used as it is."""

    exit_code = 3


class CorruptInput(InputError):
    """A damaged or truncated file."""


class UnsafeInput(InputError):
    """A file that would reach beyond itself: links, pickles, escaping paths."""


class TooLarge(InputError):
    """More data than the memory budget allows."""


class ResumeError(InputError):
    """A checkpoint that does not belong to this run, or is damaged."""


class MissingDependency(MedreconError):
    """An optional library is not installed; the message names the extra that brings it."""

    exit_code = 4

    def __init__(self, library: str, extra: str, purpose: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed",
            hint=hint or f"Install it with: pip install 'medrecon[{extra}]'",
        )


class SolveError(MedreconError):
    """A solver could not go on."""


class NonFinite(SolveError):
    """NaN or infinity appeared; the message names the iteration."""


class Diverged(SolveError):
    """An iteration that should converge grew instead."""


class Stopped(MedreconError):
    """The user stopped a run before it had a volume to keep."""

    exit_code = 130
