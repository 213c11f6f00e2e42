"""Files: written whole or not at all, remembered so that a change is noticed, and errors that name them.

Everything that neurorecon writes beside its stores goes through :func:`replacing`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from neurorecon.errors import InputError, StoreWriteError
from neurorecon.provenance import to_json

#: Advice where a file is missing or damaged and the reader has no better one.
AGAIN = "copy or download the file again"

#: Bytes at the beginning and at the end of a file that are compared where its size is the same and its time is not.
#: At its end a gzip has the checksum of all of it.
ENDS = 2**20

#: Folders that hold what neurorecon makes, not what it reads.
_BUILT = (".icechunk", ".partial")

#: Of each file its size, the time at which it was last changed (ns), and the digest of its ends.
Fingerprint = dict[str, tuple[int, int, str]]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file or a folder whole or not at all.

    What is written gathers in a hidden folder beside `path`, under the same name, because some libraries choose the
    format by the ending. It takes the place of `path` when the ``with`` block ends. An error leaves the old file or
    folder, and nothing else. A killed process leaves the old file and the hidden folder, which
    :func:`remove_leftovers` deletes. A folder that replaces another one is the exception: no file system exchanges
    two folders in one step, and a process that is killed between the two renames leaves the old one in the hidden
    folder.

    Parameters
    ----------
    path : path
        Where to; missing folders are created.

    Yields
    ------
    Path
        Where to write. The caller creates a file or a folder there.

    Examples
    --------
    >>> with replacing("maps/subj01.nii.gz") as part:  # doctest: +SKIP
    ...     image.to_filename(part)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    part, old = hidden / path.name, hidden / f"{path.name}.old"
    try:
        yield part
        if part.is_dir() and path.is_dir():
            os.replace(path, old)
        try:
            os.replace(part, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(path: str | os.PathLike[str], seconds: float = 0.0) -> None:
    """Delete what killed processes left of :func:`replacing`.

    Parameters
    ----------
    path : path
        The file or folder that they wrote; its name may be a pattern, such as ``*``.
    seconds : float
        Age from which on nobody can be writing any more. 0 where the caller knows that nobody else writes.
    """
    path = Path(path)
    for left in path.parent.glob(f".{path.name}.*.part"):
        try:
            if time.time() - left.stat().st_mtime < seconds:
                continue
        except FileNotFoundError:  # its owner has just finished
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a whole file, or nothing; see :func:`replacing`."""
    with replacing(path) as part:
        part.write_bytes(content)
    return Path(path)


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> Path:
    """Write a record as JSON, whole or not at all.

    Parameters
    ----------
    path : path
        Where to; missing folders are created.
    values : mapping
        What to write (numpy numbers, arrays and paths are turned into JSON types, NaN into null).

    Returns
    -------
    Path
        The file.
    """
    return write_bytes(path, (to_json(values, indent=2) + "\n").encode("utf-8"))


def is_url(location: str) -> bool:
    """Return whether a location is a URL rather than a path (a Windows drive letter is no scheme)."""
    return len(urlparse(location).scheme) > 1


def damaged(path: Path, error: Exception, todo: str = AGAIN) -> InputError:
    """Return the error for a file that is there but cannot be read."""
    return InputError(
        f"{path} cannot be read",
        given=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {error}",
        expected="a whole file",
        todo=f"it is damaged or incomplete: {todo}",
    )


def write_error(path: Path, error: BaseException, what: str) -> StoreWriteError:
    """Return the error for a file or store that could not be written; it says why.

    Parameters
    ----------
    path : path
        The file, folder or store.
    error : exception
        What the system or a library said.
    what : str
        What could not be done.
    """
    said, given = str(error).lower(), f"{path} ({first_line(error)})"
    if any(sign in said for sign in ("no space left", "quota exceeded", "os error 28", "os error 122")):
        return StoreWriteError(
            f"{what}: the disk is full",
            given=given,
            expected="room for all of it; what was complete before is intact",
            todo="make room and run the same command again (it resumes where it stopped), or choose another folder",
        )
    if any(sign in said for sign in ("read-only", "permission denied", "not permitted")):
        return StoreWriteError(
            f"{what}: its folder may not be written",
            given=given,
            expected="a folder in which you may create and change files",
            todo="change the permissions of the folder, or choose another one (for a store: --out DIR/NAME.icechunk)",
        )
    return StoreWriteError(
        what,
        given=given,
        expected="a folder in which files can be created",
        todo="check the path, the disk and the permissions of the folder, and run the same command again",
    )


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without the marks that Icechunk draws before it."""
    lines = [line.strip().removeprefix("x ").removeprefix("× ") for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class Changes:
    """What became of files since they were read; names are relative to the folder of the data set.

    Parameters
    ----------
    changed, new, gone : list of str
    """

    changed: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.gone)

    def __str__(self) -> str:
        parts = (("changed", self.changed), ("new", self.new), ("missing", self.gone))
        return "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in parts if names)


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder, except hidden ones and stores."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(_BUILT)]
        found += [Path(place, name) for name in names if not name.startswith(".") and not name.endswith(".lock")]
    return found


def fingerprint(root: Path, files: Iterable[Path]) -> Fingerprint:
    """Return what a store remembers of the files that it is built from.

    Parameters
    ----------
    root : path
        The folder of the data set; names are relative to it, so that it may be moved.
    files : iterable of path
        What is read of it; 2 MiB of each are read here.
    """
    return {name: (*_size_and_time(path), _ends(path)) for name, path in _named(root, files).items()}


def changes(root: Path, files: Iterable[Path], remembered: Mapping[str, tuple[int, int, str]]) -> Changes:
    """Compare files with what is remembered of them.

    A file is the same where size and time are, or where size and both ends are: a copy has a time of its own.

    Parameters
    ----------
    root, files
        As for :func:`fingerprint`.
    remembered : mapping
        From :func:`fingerprint`.
    """
    there = _named(root, files)
    both = [name for name in remembered if name in there]
    return Changes(
        changed=[name for name in both if not _same(there[name], *remembered[name])],
        new=[name for name in there if name not in remembered],
        gone=[name for name in remembered if name not in there],
    )


def _named(root: Path, files: Iterable[Path]) -> dict[str, Path]:
    return dict(sorted((Path(os.path.relpath(path, root)).as_posix(), path) for path in files if path.is_file()))


def _size_and_time(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _same(path: Path, size: int, changed: int, ends: str) -> bool:
    now = _size_and_time(path)
    return now == (size, changed) or (now[0] == size and _ends(path) == ends)


def _ends(path: Path) -> str:
    """Return the digest of the first and the last bytes of a file."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(ENDS))
        file.seek(max(file.tell(), path.stat().st_size - ENDS))
        digest.update(file.read(ENDS))
    return digest.hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
