"""Files that appear whole or not at all.

Every writer of this package works on a temporary file in the folder of its target. Only when all bytes are
on the disk does the temporary file take the target's name, in one step of the file system. A crash, a full
disk or a `kill -9` leaves the old file as it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from medrecon.errors import MedreconError, UsageError

_TEMPORARY = re.compile(r"^\.(.+)\.[0-9a-f]{12}\.part$")

_READABLE_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the size limit of this account or file system",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "the folder has vanished",
}


def atomic_write(path: str | Path, writer: Callable[[Path], None], *, overwrite: bool = False) -> Path:
    """Let ``writer`` fill a temporary file, then give it the name ``path``.

    Parameters
    ----------
    path
        Where the file shall stand. Its folder must exist.
    writer
        Called once with the path of the temporary file, which it creates and closes.
    overwrite
        Replace an existing file. A symbolic link is replaced itself; what it points to is never touched.

    Raises
    ------
    UsageError
        ``path`` exists and ``overwrite`` is false, it is a folder, or its folder is missing.
    MedreconError
        The operating system refused to write. Whatever stood at ``path`` is unharmed and no temporary file is left.
    """
    with Transaction(overwrite=overwrite) as transaction:
        transaction.write(path, writer)
        transaction.commit()
    return Path(path)


class Transaction:
    """Several files that appear together: a volume and the JSON beside it.

    All files are written and synchronised first; `commit` then renames them in the order of their writing. Before the
    first rename the old companions (all files but the first) are removed, so that a crash between two renames leaves a
    file without its companion and never beside a companion that describes another file.

    Use as a context manager; leaving it without `commit` removes everything that was staged.
    """

    def __init__(self, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._staged: list[tuple[Path, Path]] = []  # (temporary, target)

    def write(self, path: str | Path, writer: Callable[[Path], None], *, replace: bool | None = None) -> Path:
        """Let ``writer`` fill the temporary stand-in of ``path``; returns the stand-in, complete and synchronised.

        ``replace`` overrules the transaction's ``overwrite`` for this file.
        """
        target = Path(path)
        replace = self._overwrite if replace is None else replace
        check_target(target, overwrite=replace)
        temporary = target.with_name(f".{target.name[-180:]}.{secrets.token_hex(6)}.part")
        self._staged.append((temporary, target))
        try:
            writer(temporary)
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            _keep_mode(target, temporary)
        except OSError as error:
            raise _explained(error, target) from error
        return temporary

    def commit(self) -> None:
        """Give every staged file its name. Raises what `atomic_write` raises."""
        if not self._staged:
            return
        (temporary, target), companions = self._staged[0], self._staged[1:]
        try:
            if self._overwrite:
                for _, companion in companions:
                    companion.unlink(missing_ok=True)
                temporary.replace(target)
            else:  # the name must still be free now, however long the writing took
                _rename_to_free_name(temporary, target)
            for temporary, companion in companions:
                temporary.replace(companion)
            for folder in {path.parent for _, path in self._staged}:
                _synchronise_folder(folder)
        except OSError as error:
            raise _explained(error, target) from error
        self._staged = []

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for temporary, _ in self._staged:
            temporary.unlink(missing_ok=True)
        self._staged = []


def check_target(path: str | Path, *, overwrite: bool) -> None:
    """Raise UsageError where `atomic_write` would: call it before a long computation, not after."""
    target = Path(path)
    if target.name in ("", ".", ".."):
        raise UsageError("this is no file name", where="output", found=repr(str(path)))
    if not target.parent.is_dir():
        raise UsageError(
            "the folder for the output does not exist", where=target.name, hint=f"Create {target.parent.name!r} first."
        )
    if target.is_dir() and not target.is_symlink():
        raise UsageError("a folder has this name", where=target.name, hint="Choose another file name.")
    if os.path.lexists(target) and not overwrite:
        raise UsageError(
            "the output exists and is left as it is",
            where=target.name,
            hint="Choose another name or allow overwriting (--overwrite).",
        )


def final_name(path: Path) -> str:
    """The name that a temporary file will have: writers go by its suffix and name it in errors."""
    return _TEMPORARY.sub(r"\1", path.name)


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _rename_to_free_name(temporary: Path, target: Path) -> None:
    """Rename, refusing to replace a file that appeared meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise UsageError(
            "another process wrote this output meanwhile; it is left as it is",
            where=target.name,
            hint="Choose another name.",
        ) from None
    except OSError:  # a file system without hard links
        check_target(target, overwrite=False)
        temporary.replace(target)
    else:
        temporary.unlink()


def _keep_mode(target: Path, temporary: Path) -> None:
    """Give the new file the permissions of the file that it replaces."""
    if target.is_file() and not target.is_symlink():
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))


def _synchronise_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system allows to open a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _explained(error: OSError, target: Path) -> MedreconError:
    reason = _READABLE_ERRORS.get(error.errno or 0, os.strerror(error.errno) if error.errno else type(error).__name__)
    kept = "The file that stood there is unharmed." if target.is_file() else "Nothing was left behind."
    return MedreconError(f"could not write: {reason}", where=target.name, hint=kept)
