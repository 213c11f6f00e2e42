"""Decide what at the location of a store belongs to neurorecon.

A build works in the folder that the user names, and that folder may hold anything: another program's repository, an
incomplete copy of a store, or files that somebody keeps there. A new repository is therefore created in a hidden folder
next to the location and appears there in one rename, together with a marker, the file :data:`MARKER`. The marker names
neurorecon and the recipe, and it is removed when the build is published. What has neither a marker nor attributes
written by neurorecon is refused, and only files that Icechunk and neurorecon name themselves are ever deleted.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurorecon.errors import StoreError
from neurorecon.io.files import refuse_inside_store
from neurorecon.store.backend import EMPTY, icechunk_storage, unreadable

#: File in the folder of a repository while its first build is not finished.
MARKER = "neurorecon-build.json"

#: The branch that readers see, and the branch of builds.
MAIN, BUILD = "main", "build"

_PROGRAM = "neurorecon"

#: Icechunk's names: ids are 20 digits in base 32, and ``#1`` marks a file whose writer was killed.
_OWN = re.compile(
    rf"(config\.yaml|{re.escape(MARKER)}(\.part)?|(chunks|manifests|snapshots|transactions)/[0-9A-HJKMNP-TV-Z]{{20}}"
    rf"|refs/branch\.({MAIN}|{BUILD})/ref\.json)(#\d+)?"
)
_OWN_FOLDERS = {
    "chunks",
    "manifests",
    "snapshots",
    "transactions",
    "refs",
    f"refs/branch.{MAIN}",
    f"refs/branch.{BUILD}",
}


def write_marker(path: Path, name: str, digest: str) -> None:
    """Record in a folder that neurorecon began to build a store in it."""
    content = {"program": _PROGRAM, "state": "unfinished", "id": uuid.uuid4().hex, "recipe": name, "digest": digest}
    part = path / f"{MARKER}.part"
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path / MARKER)


def read_marker(path: Path) -> dict[str, Any] | None:
    """Return the marker of an unfinished build; None if there is none that neurorecon wrote."""
    try:
        found = json.loads((path / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    own = isinstance(found, dict) and found.get("program") == _PROGRAM and isinstance(found.get("digest"), str)
    return found if own and isinstance(found.get("id"), str) else None


def remove_marker(path: Path) -> None:
    """Remove the marker; a marker in a published store has no effect, so failures are ignored."""
    if read_marker(path) is not None:
        with suppress(OSError):
            (path / MARKER).unlink()


def unfinished(repository: Any) -> dict[str, Any]:
    """Return the root attributes of a build that was committed but not published; empty if there is none."""
    import icechunk
    import zarr

    try:
        if BUILD not in repository.list_branches():
            return {}
        if repository.lookup_branch(BUILD) == repository.lookup_branch(MAIN):
            return {}
        return dict(zarr.open_group(repository.readonly_session(BUILD).store, mode="r").attrs)
    except (FileNotFoundError, icechunk.IcechunkError, ValueError, KeyError, TypeError):
        return {}


def published(path: Path, repository: Any) -> dict[str, Any] | None:
    """Return the root attributes that readers see; None if nothing has been published.

    Raises
    ------
    StoreError
        If the latest snapshot is damaged.
    """
    import icechunk
    import zarr

    try:
        session = repository.readonly_session(MAIN)
        if session.snapshot_id == EMPTY:
            return None
        return dict(zarr.open_group(session.store, mode="r").attrs)
    except (FileNotFoundError, icechunk.IcechunkError, ValueError, KeyError, TypeError) as error:
        raise unreadable(str(path), error) from error


def refuse_foreign(path: Path) -> None:
    """Raise an error if neurorecon must not write a store at a location; nothing is changed.

    Accepted are locations where there is nothing, empty folders, stores, and unfinished builds.

    Parameters
    ----------
    path : path
        The location, without symbolic links.

    Raises
    ------
    StoreError
        If there is anything else, or a store that is damaged.
    """
    import icechunk

    refuse_inside_store(path.parent)
    if not os.path.lexists(path):
        return
    try:
        names = {item.name for item in path.iterdir()}
        storage = icechunk_storage(str(path))
        found = icechunk.Repository.exists(storage)
        repository = icechunk.Repository.open(storage) if found else None
    except (icechunk.IcechunkError, OSError, ValueError) as error:
        raise _foreign(path, f"{type(error).__name__} on opening it") from error
    if repository is None:
        if names:
            raise _foreign(path, f"{_listed(names)}, but no Icechunk repository that can be opened")
        return
    attributes = published(path, repository)
    if attributes is not None:
        if "neurorecon_schema" not in attributes:
            raise _foreign(path, "an Icechunk repository of another program")
    elif read_marker(path) is None and "neurorecon_schema" not in unfinished(repository):
        raise _foreign(path, "an Icechunk repository without anything that neurorecon wrote")


def _listed(names: set[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:6]) + (f" and {len(some) - 6} more" if len(some) > 6 else "")


def _foreign(path: Path, what: str) -> StoreError:
    return StoreError(
        "this folder is neither a store nor an unfinished build of neurorecon, so nothing in it was changed",
        given=f"{path}: {what}",
        expected="a new location, an empty folder, or a store written by neurorecon",
        todo="choose another location with --out; if this is an incomplete copy of a store, copy it again; if it is "
        "left from a build that an older version of neurorecon began, look into it and delete it yourself",
    )


def delete_unfinished(path: Path, repository: Any) -> bool:
    """Delete a repository whose first build was not finished, if nothing else is in its folder.

    Parameters
    ----------
    path : path
        Folder of the repository.
    repository : icechunk.Repository
        The repository. The caller holds its lock.

    Returns
    -------
    bool
        Whether it was deleted. It is kept if it has no marker, if something was published, if it has tags or other
        branches, or if a file in the folder does not have a name that Icechunk or neurorecon gives.
    """
    if read_marker(path) is None or repository.lookup_branch(MAIN) != EMPTY:
        return False
    if set(repository.list_branches()) - {MAIN, BUILD} or repository.list_tags():
        return False
    files: list[Path] = []
    folders: list[Path] = []
    for place, below, names in os.walk(path):
        for name in [*below, *names]:
            item = Path(place, name)
            inside = item.relative_to(path).as_posix()
            if item.is_symlink() or (inside not in _OWN_FOLDERS if name in below else not _OWN.fullmatch(inside)):
                return False
            (folders if name in below else files).append(item)
    # The marker goes last: a process killed here leaves a folder that still says what it is.
    for item in sorted(files, key=lambda item: item.name == MARKER):
        item.unlink(missing_ok=True)
    with suppress(OSError):  # a folder into which somebody has just put a file stays
        for folder in reversed(folders):
            folder.rmdir()
        path.rmdir()
    return True
