"""What a store remembers of the files that it was built from, so that a later build notices that they changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurorecon.datasets.recipe import Recipe
from neurorecon.datasets.sources import Changes, Fingerprint, changes, fingerprint
from neurorecon.errors import NeuroreconError, StoreError
from neurorecon.store.schema import SOURCES

#: Attribute of the group :data:`~neurorecon.store.schema.SOURCES`: size, time and digest of the ends of each file.
FILES = "files"


def read_sources(recipe: Recipe) -> Fingerprint:
    """Return the fingerprint of the files of a recipe; empty where it reads none."""
    root = recipe.folder()
    return {} if root is None else fingerprint(root, recipe.sources())


def remember_sources(root: Any, found: Fingerprint) -> None:
    """Write a fingerprint into a store.

    It is the attribute of a group of its own: it says nothing of the content, so that no digest of it depends on where
    and when files were copied, and it is read by builds alone.
    """
    if found:
        root.require_group(SOURCES).attrs[FILES] = {name: list(facts) for name, facts in found.items()}


def refuse_changed(path: str | Path, root: Any, recipe: Recipe, *, finished: bool) -> None:
    """Compare the files of a recipe with those that a store was built from.

    A store that remembers none (of an older version, of data that need no files) is taken as it is, and so is a
    finished one whose files were taken away altogether.

    Parameters
    ----------
    path : path
        The store.
    root : zarr.Group
        Its root.
    recipe : Recipe
        What it is built from.
    finished : bool
        Whether its build was completed.

    Raises
    ------
    StoreError
        Where files changed, are new or are missing.
    """
    found = source_changes(root, recipe)
    remembered = _remembered(root)
    if found and not (finished and len(found.gone) == len(remembered)):
        raise StoreError(
            "the files of the data set changed since this store was built"
            if finished
            else "the files of the data set changed since this build was interrupted",
            given=f"{path}, and in {recipe.folder()}: {found}",
            expected="the files that it was built from" if finished else "the files that it was begun with",
            todo="build anew from those there are now: --overwrite (older states stay in the history); or put the old "
            "files back, or choose another place with --out",
        )


def source_changes(root: Any, recipe: Recipe) -> Changes:
    """Return what changed since the files were read; nothing where that cannot be told."""
    remembered, folder = _remembered(root), recipe.folder()
    if not remembered or folder is None:
        return Changes()
    try:
        files = recipe.sources()
    except NeuroreconError:  # without some of its files, a data set may not be one any more
        files = [folder / name for name in remembered]
    return changes(folder, files, remembered)


def _remembered(root: Any) -> Fingerprint:
    return dict(root[SOURCES].attrs.get(FILES, {})) if SOURCES in root else {}
