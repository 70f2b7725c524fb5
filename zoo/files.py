"""Atomic file writes, locks of folders, and errors that name the file.

With an atomic write a path holds the old content or the new content, never a part of it.
"""

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no `fcntl`.
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file in a folder that `lock` locks."""

_DAY = 24 * 3600


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path, which replaces `path` if the block ends without an error.

    The temporary path is in the same folder, because a rename is atomic only within one file
    system. It has the suffix of `path`. If the block raises, the temporary file is removed. The
    folder is created if needed.

    Args:
        path: The file to create or to replace.

    Yields:
        A new path with the same suffix.

    Example:
        >>> with zoo.files.replacing("scores.csv") as partial:
        ...     _ = partial.write_text("epoch,loss")
    """
    path = Path(path)
    # `tempfile` is not used, because it creates files that only their owner can read.
    partial = path.with_name(_temporary_name(path.stem) + path.suffix)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):  # The file system of the folder may be lost.
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields the path of a new folder, which replaces `path` if the block ends without an error.

    The block creates the folder. It is within a temporary folder in the nearest folder above `path`
    that exists. If the block raises, the temporary folder is removed. Temporary folders that a
    killed process left there for the same `path` are removed first; if the process was killed while
    it replaced the folder, the old folder is put back.

    Args:
        path: The folder to create or to replace.

    Yields:
        A new path. Other temporary files may be written next to it.

    Raises:
        OSError: If no folder can be created in the folder above `path`, or if the block or the
            replacement fails. An error of a write names `path`.

    Example:
        >>> with zoo.files.replacing_folder("served/texts") as partial:
        ...     partial.mkdir()
        ...     _ = (partial / "a.txt").write_text("a")
    """
    path = Path(os.path.abspath(path))
    parent = next(p for p in path.parents if os.path.lexists(p))
    temporary = parent / _temporary_name(path.name)
    remove_leftovers(parent, name=path.name)
    with naming(path):
        temporary.mkdir()
        try:
            yield temporary / "new"
            path.parent.mkdir(parents=True, exist_ok=True)
            _exchange(path, temporary / "new", temporary / "old")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # Its file system may be lost.


def _exchange(path, new, old):
    replaces = os.path.lexists(path)
    if replaces:
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if replaces:
            os.rename(old, path)
        raise


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """A context in which an error about a file names `path`, unless it names another file.

    An error of a write, such as that of a full disk, does not name the file. An error about a
    temporary file of `replacing` names a path that the user does not know. An error of TensorFlow
    about such a file becomes an `OSError`.
    """
    try:
        yield
    except Exception as error:
        found = error if isinstance(error, OSError) else os_error(error)
        if found is None or found.errno is None:
            raise
        if found.filename is not None and ".partial" not in str(found.filename):
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


def os_error(error: Exception) -> OSError | None:
    """The `OSError` behind an error of TensorFlow, or `None` if a file is not the cause.

    TensorFlow's errors of the file system end in "PATH; REASON", with the system's words.
    """
    for number in errno.errorcode:
        found = re.search(rf"(\S+); {re.escape(os.strerror(number))}", str(error))
        if found:
            return OSError(number, os.strerror(number), found[1])
    return None


def check_writable(path: str | os.PathLike) -> None:
    """Checks that a file or folder can be created at `path`, or written if it exists.

    The check creates and removes a file in the nearest existing folder, because permissions alone
    say nothing about a full disk or a read-only file system.

    Raises:
        OSError: If no file can be created or written. The error names `path`.
    """
    path = Path(os.path.abspath(path))
    folder = next(p for p in (path, *path.parents) if os.path.lexists(p) and p != path)
    try:
        if path.is_file():
            with open(path, "ab"):
                pass
        with tempfile.TemporaryFile(dir=path if path.is_dir() else folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _process():
    """The name of this process in the names of its temporary files."""
    host = re.sub("[^A-Za-z0-9-]", "-", platform.node())
    return f"{host}.{os.getpid()}"


def _temporary_name(name):
    return f".{name}.{_process()}.{uuid.uuid4().hex[:8]}.partial"


_TEMPORARY = re.compile(
    r"\.(?P<name>.*)\.(?P<host>[A-Za-z0-9-]*)\.(?P<process>\d+)\.[0-9a-f]{8}\.partial(\.[^.]*)?"
)


def is_temporary(path: Path) -> bool:
    """Whether a path has the name of a lock or of a temporary file of this module."""
    return path.name == LOCK or bool(_TEMPORARY.fullmatch(path.name))


def remove_leftovers(*folders: str | os.PathLike, name: str | None = None) -> None:
    """Removes the temporary files and folders that killed processes left in some folders.

    A file is left over if its process is of this machine and has ended, or if the file has not
    changed for a day. Files of other processes stay. A folder that a killed process had moved away,
    and not yet replaced, is put back.

    Args:
        folders: The folders.
        name: Name of a file, without its suffix, or of a folder: only its temporary files are
            removed. By default, those of all files and folders are removed.
    """
    for folder in map(Path, folders):
        for path in folder.glob(".*.partial*") if folder.is_dir() else ():
            found = _TEMPORARY.fullmatch(path.name)
            if found is None or name not in (None, found["name"]):
                continue
            with contextlib.suppress(OSError):  # Another process may remove it first.
                if _has_ended(found) or _is_old(path):
                    _remove(path, path.with_name(found["name"]))


def _remove(temporary, path):
    if temporary.is_symlink() or not temporary.is_dir():
        temporary.unlink()
        return
    if (temporary / "old").is_dir() and not os.path.lexists(path):
        os.rename(temporary / "old", path)
    shutil.rmtree(temporary)


def _has_ended(found):
    """Whether the process in the name of a temporary file was one of this machine and has ended."""
    host, own = _process().split(".")
    if found["host"] != host or found["process"] == own or os.name != "posix":
        return False
    try:
        os.kill(int(found["process"]), 0)  # Signal 0 only tests the process.
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _is_old(path):
    return time.time() - path.stat().st_mtime > _DAY


@contextlib.contextmanager
def lock(folder: str | os.PathLike, what: str = "run") -> Iterator[None]:
    """A context in which no other process can lock `folder`. The folder is created if needed.

    The lock belongs to the process: it ends with the process, even if the process is killed. Locks
    over a network file system need its support for `flock`; without it there is a warning, and two
    processes on one folder are not noticed. If the folder is new and the block leaves it empty, it
    is removed.

    Args:
        folder: The folder. The lock is the file `.lock` in it.
        what: The content of the folder, for the message.

    Raises:
        BlockingIOError: If another process has locked the folder.
        OSError: If the folder cannot be created or written.

    Example:
        >>> with zoo.files.lock("runs/locked"):
        ...     pass
    """
    folder = Path(folder)
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    file = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(folder, what)
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()  # before the lock ends: no other lock is removed
            os.close(file)
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


def _locked(folder, what):
    """The descriptor of the lock file, with the lock."""
    path = folder / LOCK
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "no locks")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The former owner may have removed the file after this process opened it.
            if os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
            os.close(file)
        except BlockingIOError as error:
            os.close(file)
            raise BlockingIOError(
                f"Another process is working on the {what} in '{folder}'. Wait until it ends, or "
                "choose another --output."
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL):
                os.close(file)
                raise
            warnings.warn(
                f"The file system of '{folder}' has no locks, so two processes that write to this "
                "folder are not noticed. Start only one.",
                stacklevel=4,
            )
            return file


_MOST_EXPANSION = 100
_LEAST_BYTES = 10_000_000


def check_archive(path: str | os.PathLike) -> None:
    """Checks that the content of a zip archive, such as `.npz` or `.keras`, is not far larger.

    Weights hardly shrink when they are compressed. A small archive with a huge content is damaged
    or made to fill the memory.

    Raises:
        ValueError: If the content has more than 100 times the bytes of the file, and more than
            10 MB.
        zipfile.BadZipFile: If the file is not a zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > max(_LEAST_BYTES, _MOST_EXPANSION * os.path.getsize(path)):
        raise ValueError(
            f"Expected an archive of at most {_MOST_EXPANSION} times the size of its file. "
            f"Received: '{path}', a file of {os.path.getsize(path):,} bytes with {size:,} bytes of "
            "content. Do not use the file unless you trust its origin."
        )


def read_json(
    path: str | os.PathLike, fields: Mapping[str, type | tuple[type, ...]] | None = None
) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        fields: The fields that the content must have, with their types. `None` for any content.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not JSON, or if a field is missing or of another type.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not a file in JSON: {error}.") from error
    if fields is not None:
        check_fields(content, fields, f"in '{path}'")
    return content


def check_fields(
    content: Any, fields: Mapping[str, type | tuple[type, ...]], where: str = ""
) -> None:
    """Checks that `content` is a dict that has the given fields, with values of the given types.

    Raises:
        ValueError: If `content` is not a dict, or a field is missing or of another type.
    """
    where = f" {where}" if where else ""
    if not isinstance(content, dict):
        raise ValueError(
            f"Expected an object with {', '.join(map(repr, fields))}{where}. "
            f"Received: {_short(content)}."
        )
    for name, types in fields.items():
        if name not in content:
            raise ValueError(f"Expected the field '{name}'{where}. Received: none.")
        value = content[name]
        # A bool is an int in Python, but not in JSON.
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            wanted = types if isinstance(types, tuple) else (types,)
            raise ValueError(
                f"Expected '{name}' of type {' or '.join(t.__name__ for t in wanted)}{where}. "
                f"Received: {_short(value)}."
            )


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes JSON atomically, indented by two spaces.

    Raises:
        TypeError: If `content` cannot be written as JSON. The old file stays.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file of bytes, atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
