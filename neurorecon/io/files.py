"""Atomic writes, fingerprints that detect changed files, and errors that name a file and what is wrong with it.

Everything that neurorecon writes, except stores, goes through :func:`replacing`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from neurorecon.errors import InputError, MissingFileError, StoreWriteError
from neurorecon.provenance import to_json

#: Default advice if a file is missing or damaged.
AGAIN = "copy or download the file again"

#: Bytes compared at each end of a file whose size is unchanged but whose modification time is not. The end of a gzip
#: file contains a checksum of the whole content.
ENDS = 2**20

#: Endings of folders that neurorecon writes; they are not part of a data set.
_BUILT = (".icechunk", ".partial")

#: Names of the folders of :func:`replacing`: that of the destination, and eight characters by :mod:`tempfile`.
_HIDDEN = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part", re.DOTALL)

#: Per file: its size, its modification time (ns), and a digest of its two ends.
Fingerprint = dict[str, tuple[int, int, str]]


#: Characters and bytes of the longest name that is made from what a user or a data set calls things.
LONGEST_NAME = 120


def file_name(text: str) -> str:
    """Return a text as the name of a file or folder: letters, digits, ``_``, ``.``, ``+`` and ``-``.

    What had to be replaced or cut off is told apart by a digest, so that different texts have different names.

    Parameters
    ----------
    text : str
        E.g. the names of ROIs, which may contain anything.
    """
    name = re.sub(r"[^\w.+-]+", "-", text)
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore")
    if name == text and name.strip("."):
        return name
    return f"{name.lstrip('.')}_{blake2b(text.encode(), digest_size=4).hexdigest()}"


def refuse_inside_store(path: str | os.PathLike[str]) -> None:
    """Raise an error if a place for files is a store, or inside one: its files belong to Icechunk or Zarr alone.

    Raises
    ------
    InputError
        Nothing has been created.
    """
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        repository = all((folder / name).is_dir() for name in ("snapshots", "manifests", "transactions"))
        if repository or (folder / "zarr.json").is_file():
            raise InputError(
                "files cannot be written inside a store",
                given=f"{path}, in the store {folder}",
                expected="a folder outside of any store",
                todo="choose another folder, e.g. --out results",
            )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file or a folder atomically.

    The new content is written to a hidden folder next to `path`, under the same file name because some libraries
    infer the format from the extension, and replaces `path` when the ``with`` block ends. If an error occurs, the old
    file stays and the hidden folder is removed. If the process is killed, the old file stays, and so does the hidden
    folder until :func:`remove_leftovers` deletes it. A folder never replaces one that holds anything. A symbolic link
    at `path` is replaced itself; what it leads to stays as it is.

    Parameters
    ----------
    path : path
        Destination; missing parent folders are created.

    Raises
    ------
    InputError
        If the destination is inside a store.

    Yields
    ------
    Path
        Where the caller creates the new file or folder.

    Examples
    --------
    >>> with replacing("maps/subj01.nii.gz") as part:  # doctest: +SKIP
    ...     image.to_filename(part)
    """
    path = Path(path)
    refuse_inside_store(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    part = hidden / path.name
    try:
        yield part
        if part.is_dir() and path.is_dir() and any(path.iterdir()):
            raise FileExistsError(errno.EEXIST, "this folder already holds something", str(path))
        move(part, path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def move(part: Path, path: Path) -> None:
    """Rename what has been written in a hidden folder to its destination.

    Raises
    ------
    InputError
        If the destination is a mount point, which can be neither renamed nor replaced.
    OSError
        If the system refuses for another reason.
    """
    try:
        os.replace(part, path)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        raise InputError(
            "this folder is a mount point, so nothing can be moved to its place",
            given=f"{path} ({error.strerror})",
            expected="a new name, or a folder on the same disk as the one that holds it",
            todo=f"choose a name inside it, e.g. --out {path / path.name}",
        ) from error


def remove_leftovers(path: str | os.PathLike[str], seconds: float = 0.0) -> None:
    """Delete the hidden folders that killed processes left behind in :func:`replacing`.

    Everything else stays: links, files, and folders with another name or with other content.

    Parameters
    ----------
    path : path
        The destination they were writing; the last part may be ``*`` for all destinations in a folder.
    seconds : float
        Minimum age of what is deleted, so that other processes can still be writing. 0 if no other process writes.
    """
    path = Path(path)
    for left in path.parent.glob(".*.part"):
        named = _HIDDEN.fullmatch(left.name)
        if named is None or path.name not in ("*", named[1]) or left.is_symlink() or not left.is_dir():
            continue
        try:
            own = {item.name for item in left.iterdir()} <= {named[1]}
            if own and time.time() - left.stat().st_mtime >= seconds:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:  # the process that wrote it has just finished
            continue


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write bytes to a file atomically; see :func:`replacing`."""
    with replacing(path) as part:
        part.write_bytes(content)
    return Path(path)


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> Path:
    """Write a JSON file atomically.

    Parameters
    ----------
    path : path
        Destination; missing parent folders are created.
    values : mapping
        The content. Numpy scalars, arrays and paths are converted to JSON types, NaN to null.

    Returns
    -------
    Path
        The file.
    """
    return write_bytes(path, (to_json(values, indent=2) + "\n").encode("utf-8"))


def is_url(location: str) -> bool:
    """Return whether a location is a URL rather than a path (a Windows drive letter is not a scheme)."""
    return len(urlparse(location).scheme) > 1


#: What stands at a path instead of a file, by the test of its mode.
_NO_FILES = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe, from which reading would wait forever",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}

#: How the files begin or what they contain that stand for content that has not been fetched.
_POINTERS = {
    b"/annex/objects/": ("a pointer of git-annex", "datalad get {0} (or: git annex get {0})"),
    b"version https://git-lfs": ("a pointer of Git LFS", "git lfs pull --include {0}"),
}


def require_file(path: Path, expected: str, todo: str = "check the path") -> None:
    """Raise an error unless there is a regular file with content, and say what is there instead.

    Parameters
    ----------
    path : path
        The file.
    expected : str
        What it should be, e.g. ``"a table of samples"``.
    todo : str
        What the message advises if nothing is there, or the file is empty.

    Raises
    ------
    MissingFileError
        If there is nothing, a link that leads nowhere or in a circle, or a file whose content git-annex, DataLad or
        Git LFS has not fetched.
    InputError
        If there is a folder, a named pipe, a socket, a device or an empty file, or access is denied.
    """
    broken_link(path, expected)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            found = next((words for test, words in _NO_FILES.items() if test(facts.st_mode)), "no regular file")
            raise InputError(
                f"{path} is not a file", given=found, expected=expected, todo="remove it, or put the file in its place"
            )
        if not facts.st_size:
            raise InputError(f"{path} cannot be read", given="an empty file (0 bytes)", expected=expected, todo=todo)
        with path.open("rb") as file:
            start = file.read(256)
    except PermissionError as error:
        raise InputError(
            f"{path} cannot be read",
            given=str(error.strerror),
            expected=f"{expected} that you may read",
            todo="change the permissions of the file or of its folder",
        ) from error
    except (FileNotFoundError, NotADirectoryError):
        there, given = _folder_of(path), "no such file"
        if os.access(there, os.R_OK) and next(there.iterdir(), None) is None:
            given += f": there is nothing in {there}"
            todo += f"; in a DataLad data set, install the subdataset: datalad get -n {there}"
        raise MissingFileError(f"{path} is missing", given=given, expected=expected, todo=todo) from None
    for sign, (what, command) in _POINTERS.items():
        if (start.startswith(sign) if sign.startswith(b"version") else sign in start) and facts.st_size < 32768:
            raise _not_fetched(path, what, expected, command)


def broken_link(path: Path, expected: str) -> None:
    """Raise an error if a path, or a folder on the way to it, is a link that leads nowhere or in a circle, or empty.

    Such a path does not exist for :meth:`pathlib.Path.exists`, so that it would be taken for a file that was never
    there. An empty folder is what DataLad leaves of a subdataset that was not installed; outside of DataLad's data sets
    it is nothing but empty.

    Parameters
    ----------
    path : path
        A file or folder, which may be missing.
    expected : str
        What it should be.

    Raises
    ------
    MissingFileError
        The message says where the link leads, and how to fetch what git-annex or DataLad keeps elsewhere.
    """
    link = next((place for place in (path, *path.parents) if place.is_symlink() and not _leads(place)), None)
    if link is None:
        there = _folder_of(path)
        if not path.exists():
            refuse_empty(there, expected, outside_datalad=False)
        return
    target = os.readlink(link)
    if ".git/annex/objects" in Path(target).as_posix():
        raise _not_fetched(link, "a link into .git/annex/objects", expected, "datalad get {0} (or: git annex get {0})")
    try:
        link.stat()
    except OSError as error:
        circle = error.errno == errno.ELOOP
    raise MissingFileError(
        f"{link} is a link that leads {'in a circle' if circle else 'nowhere'}",
        given=f"a link to {target}" + ("" if circle else ", which does not exist"),
        expected=expected,
        todo="remove the link, or make it lead to the file",
    )


def refuse_empty(folder: Path, expected: str, *, outside_datalad: bool = True) -> None:
    """Raise :class:`MissingFileError` if this is an empty folder, which it would not do to take for a missing file."""
    if not (outside_datalad or _in_datalad(folder)):
        return
    if not folder.is_dir() or next(folder.iterdir(), None) is not None:
        return
    what = "a DataLad subdataset that was not installed"
    raise MissingFileError(
        f"there is nothing in {folder}",
        given=f"an empty folder{f'; {what}' if _in_datalad(folder) else f' (in a DataLad data set: {what})'}",
        expected=expected,
        todo=f"install it: datalad get -n {folder}, then fetch its files: datalad get {folder}; or copy the files",
    )


def _folder_of(path: Path) -> Path:
    """Return the folder nearest to a path, on the way to it, that exists."""
    return next((place for place in path.parents if place.is_dir()), path)


def _in_datalad(folder: Path) -> bool:
    return any((place / name).exists() for place in folder.parents for name in (".gitmodules", ".datalad"))


def _leads(link: Path) -> bool:
    try:
        link.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno != errno.ELOOP
    return True


def _not_fetched(path: Path, what: str, expected: str, command: str) -> MissingFileError:
    return MissingFileError(
        f"the content of {path} is not there",
        given=f"{what}, whose content was not fetched",
        expected=expected,
        todo=f"fetch it: {command.format(path)}",
    )


def inside(folder: Path, name: str, what: str) -> Path:
    """Return the path of a file that a table names, which has to lie below a folder.

    Parameters
    ----------
    folder : path
        The folder.
    name : str
        The path in the table, relative to `folder`.
    what : str
        What the file is, for the message.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the path is absolute, or leads out of the folder by ``..``. Links in the folder may lead anywhere.
    """
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise InputError(
            f"{what} lies outside of its folder",
            given=f"{name!r}, in {folder}",
            expected="a path relative to that folder, without '..' that leads out of it",
            todo="move the file there, or put a link to it there, and fix the table",
        )
    return path


def damaged(path: Path, error: Exception, todo: str = AGAIN) -> InputError:
    """Return the error for a file that exists but cannot be read."""
    return InputError(
        f"{path} cannot be read",
        given=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {error}",
        expected="a complete, undamaged file",
        todo=f"the file is damaged or incomplete: {todo}",
    )


def write_error(path: Path, error: BaseException, what: str, todo: str | None = None) -> StoreWriteError:
    """Return the error for a file or store that could not be written.

    Parameters
    ----------
    path : path
        The file, folder or store.
    error : exception
        The exception of the operating system or a library, from which the cause is inferred.
    what : str
        What failed; the first line of the message.
    todo : str, optional
        What to do if the cause is neither a full disk nor a folder that is not writable.

    Returns
    -------
    StoreWriteError
    """
    said, given = str(error).lower(), f"{path} ({first_line(error)})"
    if any(sign in said for sign in ("no space left", "quota exceeded", "os error 28", "os error 122")):
        return StoreWriteError(
            f"{what}: the disk is full",
            given=given,
            expected="enough free space; everything written before is intact",
            todo="free some space and run the same command again to resume, or choose another folder",
        )
    if any(sign in said for sign in ("read-only", "permission denied", "not permitted")):
        return StoreWriteError(
            f"{what}: the folder is not writable",
            given=given,
            expected="a folder in which you may create and modify files",
            todo="change the permissions of the folder, or choose another one (for a store: --out DIR/NAME.icechunk)",
        )
    return StoreWriteError(
        what,
        given=given,
        expected="a folder in which files can be created",
        todo=todo or "check the path, the disk and the permissions of the folder, and run the same command again",
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, without the bullets that Icechunk puts in front of it."""
    lines = [line.strip().removeprefix("x ").removeprefix("× ") for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class Changes:
    """How the files of a data set differ from those that were read before.

    Parameters
    ----------
    changed, new, gone : list of str
        Paths relative to the folder of the data set.
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
    """Return all files below a folder, except hidden files, lock files and stores."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(_BUILT)]
        found += [Path(place, name) for name in names if not name.startswith(".") and not name.endswith(".lock")]
    return found


def fingerprint(root: Path, files: Iterable[Path]) -> Fingerprint:
    """Return the fingerprint of the files that a store is built from.

    Parameters
    ----------
    root : path
        The folder of the data set. Names are relative to it, so that the folder can be moved.
    files : iterable of path
        The files; at most 2 MiB of each are read.

    Returns
    -------
    dict
        Maps the name of each file to its size, its modification time (ns) and a digest of its two ends.
    """
    return {name: (*_size_and_time(path), _ends(path)) for name, path in _named(root, files).items()}


def changes(root: Path, files: Iterable[Path], remembered: Mapping[str, tuple[int, int, str]]) -> Changes:
    """Compare files with an earlier fingerprint.

    A file counts as unchanged if its size is the same, and its modification time or its two ends are too: copying a
    file may change its modification time.

    Parameters
    ----------
    root, files
        As for :func:`fingerprint`.
    remembered : mapping
        The output of :func:`fingerprint`.

    Returns
    -------
    Changes
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
