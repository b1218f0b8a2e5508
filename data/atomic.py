"""Files that appear whole or not at all.

Every writer of this package works on a temporary file in the folder of its target. Only when all bytes are
on the disk does the temporary file take the target's name, in one step of the file system. A crash, a full
disk or a `kill -9` leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from medrecon.errors import MedreconError, UsageError

_TEMPORARY = re.compile(r"^\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-[0-9a-f]{8}\.part$")
_ABANDONED_SECONDS = 24 * 3600.0

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
        ``path`` exists and ``overwrite`` is false, it is a folder, or its folder is missing or read-only.
    MedreconError
        The operating system refused to write. Whatever stood at ``path`` is unharmed and no temporary file is left.
    """
    with Transaction(overwrite=overwrite) as transaction:
        transaction.write(path, writer)
        transaction.commit()
    return Path(path)


def write_bytes(path: str | Path, content: bytes, *, overwrite: bool = False) -> Path:
    """`atomic_write` of bytes."""

    def fill(target: Path) -> None:
        target.write_bytes(content)

    return atomic_write(path, fill, overwrite=overwrite)


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

    def write(
        self, path: str | Path, writer: Callable[[Path], None], *, replace: bool | None = None, folder: bool = False
    ) -> Path:
        """Let ``writer`` fill the temporary stand-in of ``path``; returns the stand-in, complete and synchronised.

        ``replace`` overrules the transaction's ``overwrite`` for this file. With ``folder`` the stand-in is an empty
        folder; whether an old one may be replaced is for the caller to know.
        """
        target = Path(path)
        replace = self._overwrite if replace is None else replace
        check_target(target, overwrite=replace, folder=folder)
        temporary = _temporary_name(target)
        _remove_abandoned(temporary)
        self._staged.append((temporary, target))
        try:
            if folder:
                temporary.mkdir()
                writer(temporary)
                _synchronise_tree(temporary)
                return temporary
            mode = _mode_for(target, temporary)
            writer(temporary)
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.chmod(mode)
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
                _replace(temporary, target)
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
            remove(temporary)
        self._staged = []


def check_target(path: str | Path, *, overwrite: bool, folder: bool = False) -> None:
    """Raise UsageError where `atomic_write` would: call it before a long computation, not after."""
    target = Path(path)
    if target.name in ("", ".", ".."):
        raise UsageError("this is no file name", where="output", found=repr(str(path)))
    if not target.parent.is_dir():
        raise UsageError(
            "the folder for the output does not exist", where=target.name, hint=f"Create {target.parent.name!r} first."
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError(
            "could not write: permission denied", where=target.name, hint="Choose a folder that you may write to."
        )
    if target.is_dir() and not target.is_symlink() and not folder:
        raise UsageError("a folder has this name", where=target.name, hint="Choose another file name.")
    if folder and os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        raise UsageError("a file has this name", where=target.name, hint="Choose another name for the folder.")
    if os.path.lexists(target) and not overwrite:
        raise UsageError(
            "the output exists and is left as it is",
            where=target.name,
            hint="Choose another name or allow overwriting (--overwrite).",
        )


def final_name(path: Path) -> str:
    """The name that a temporary file will have: writers go by its suffix and name it in errors."""
    return _TEMPORARY.sub(r"\g<name>", path.name)


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_folder(path: str | Path) -> str:
    """SHA-256 over the names and the bytes of all files under a folder, as 64 hexadecimal digits.

    Files whose names begin with a dot do not count: file managers leave such files behind.
    """
    root, lines = Path(path), []
    for file in root.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            lines.append(f"{file.relative_to(root).as_posix()}\0{sha256_of_file(file)}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _replace(temporary: Path, target: Path) -> None:
    """Rename over what stands there; an old folder steps aside first and goes last, because none can be replaced."""
    if not temporary.is_dir() or not target.exists():
        temporary.replace(target)
        return
    aside = _temporary_name(target)
    target.replace(aside)
    temporary.replace(target)
    remove(aside)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing where neither stands."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename_to_free_name(temporary: Path, target: Path) -> None:
    """Rename, refusing to replace a file or folder that appeared meanwhile."""
    try:
        if temporary.is_dir():
            target.mkdir()  # claims the name; a folder takes the place of an empty one in one step
            temporary.replace(target)
            return
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


def _temporary_name(target: Path) -> Path:
    """A hidden name beside the target that says which process writes it, on which machine."""
    return target.with_name(f".{target.name[-180:]}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_abandoned(temporary: Path) -> None:
    """Remove what killed writers of the same target left: their process is gone, or they stand still since a day.

    Writers that may be alive are left alone, those on other machines included. What cannot be removed stays.
    """
    name = final_name(temporary)
    with contextlib.suppress(OSError), os.scandir(temporary.parent) as entries:
        for entry in entries:
            match = _TEMPORARY.match(entry.name)
            if match is None or match["name"] != name or entry.is_symlink():
                continue
            gone = match["host"] == _host() and not _runs(int(match["process"]))
            if gone or time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                remove(Path(entry.path))


def _runs(process: int) -> bool:
    """Whether a process of this number runs on this machine; true where the system does not tell."""
    if os.name == "nt":  # there, signal 0 ends the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _mode_for(target: Path, temporary: Path) -> int:
    """Permissions of the file that will be replaced; of a new file what the user's umask, or the folder, gives it.

    Some writers (safetensors) make files that only their owner can read, whatever the umask says.
    """
    if target.is_file() and not target.is_symlink():
        return stat.S_IMODE(target.stat().st_mode)
    # made and removed, because asking for the umask means setting it, for all threads
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        temporary.unlink()


def _synchronise_tree(folder: Path) -> None:
    """Make every file under a folder durable."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
        else:
            _synchronise_folder(path)
    _synchronise_folder(folder)


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
