"""Export a store as a plain Zarr hierarchy that any xarray user can open without neurorecon."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neurorecon.errors import StoreError
from neurorecon.store.digest import block_digest
from neurorecon.store.lock import WriterLock
from neurorecon.store.store import Store


def export_store(store: Store, path: str | Path, *, progress: bool = True) -> Path:
    """Copy a store into a plain ``.zarr`` folder, with the same chunks, codecs, attributes and digests.

    Parameters
    ----------
    store : Store
        The store to export.
    path : path
        A new folder whose name ends in ``.zarr``.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Path
        The folder. It appears only when it is complete; every block is read back and compared.

    Raises
    ------
    StoreError
        Where the folder exists, or is not named ``.zarr``.
    """
    import zarr

    target = Path(path)
    if target.suffix != ".zarr" or target.exists():
        raise StoreError(
            "the store cannot be exported to this place",
            given=f"{target}{' (exists)' if target.exists() else ''}",
            expected="a new folder whose name ends in .zarr",
            todo="choose another name, or remove the old folder first",
        )
    with WriterLock(target):
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        root = zarr.open_group(partial, mode="w")
        root.attrs.update({**dict(store._root.attrs), "exported_from_snapshot": store.snapshot})
        for name, group in store._root.members(max_depth=None):
            if isinstance(group, zarr.Group):
                root.require_group(name).attrs.update(dict(group.attrs))
        for name, array in tqdm(store.arrays(), desc="export", unit="array", disable=not progress, leave=False):
            _copy(root, name, array)
        os.replace(partial, target)
    target.with_name(target.name + ".lock").unlink(missing_ok=True)
    return target


def _copy(root: Any, name: str, array: Any) -> None:
    parent, _, leaf = name.rpartition("/")
    copy = (root.require_group(parent) if parent else root).create_array(
        leaf,
        shape=array.shape,
        dtype=array.dtype if array.dtype.kind in "biufc" else str,
        chunks=array.chunks,
        compressors=array.compressors,
        dimension_names=array.metadata.dimension_names,
        attributes=dict(array.attrs),
    )
    rows, digests = int(array.attrs["block_rows"]), list(array.attrs["block_digests"])
    for number, start in enumerate(range(0, array.shape[0], rows)):
        copy[start : start + rows] = array[start : start + rows]
        if block_digest(copy[start : start + rows]) != digests[number]:
            raise StoreError(
                f"{name} read back differently from what the store holds",
                todo="run: neurorecon check STORE",
            )
