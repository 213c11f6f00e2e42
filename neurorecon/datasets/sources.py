"""The files that a store was built from: what to remember of them, and how to tell that they changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

#: Bytes at the beginning and at the end of a file that are compared where its size is the same and its time is not.
#: At its end a gzip has the checksum of all of it.
ENDS = 2**20

#: Folders that hold what neurorecon makes, not what it reads.
_BUILT = (".icechunk", ".partial")

#: Of each file its size, the time at which it was last changed (ns), and the digest of its ends.
Fingerprint = dict[str, tuple[int, int, str]]


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
    """Return all files below a folder, but for hidden ones and stores."""
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
        The folder of the data set; names count from it, so that it may be moved.
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


def _same(path: Path, size: int, time: int, ends: str) -> bool:
    now = _size_and_time(path)
    return now == (size, time) or (now[0] == size and _ends(path) == ends)


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
