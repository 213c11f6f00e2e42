"""Arrays as a writer has them: what is there already, what is begun, and a block that is read back once written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurorecon.errors import StoreError, StoreWriteError
from neurorecon.store import schema
from neurorecon.store.digest import array_digest, block_digest, dtype_name


def holds(root: Any, path: str, dims: Sequence[str], values: np.ndarray, attributes: dict[str, Any]) -> bool:
    """Say whether an array is there already, with these values and attributes."""
    if path not in root:
        return False
    array: Any = root[path]
    stored = dict(array.attrs)
    if "digest" not in stored or any(stored.get(name) != value for name, value in attributes.items()):
        return False
    if array.shape != values.shape or tuple(array.metadata.dimension_names or ()) != tuple(dims):
        return False
    rows = int(stored["block_rows"])
    blocks = [block_digest(values[start : start + rows]) for start in range(0, len(values), rows)]
    return bool(stored["digest"] == array_digest(dtype_name(values.dtype), values.shape, blocks))


def open_array(
    root: Any,
    path: str,
    dims: Sequence[str],
    shape: tuple[int, ...],
    dtype: np.dtype,
    attributes: dict[str, Any] | None,
    overwrite: bool,
) -> Any:
    """Return an array to write to: the one that an earlier run began, where it fits, else an empty one."""
    if path in root and not overwrite:
        array: Any = root[path]
        if array.shape == shape and dtype_name(array.dtype) == dtype_name(dtype):
            return array
    group, _, name = path.rpartition("/")
    parent = root.require_group(group) if group else root
    text = dtype.kind not in "biufc"
    size = np.dtype("<U16") if text else dtype
    chunks = schema.chunks_of(shape, size)
    array = parent.create_array(
        name,
        shape=shape,
        dtype=str if text else dtype,
        chunks=chunks,
        compressors="auto" if text else schema.compressor(),
        dimension_names=list(dims),
        overwrite=True,
    )
    array.attrs.update(
        {
            **(attributes or {}),
            "block_rows": schema.block_rows(shape, chunks, size) if shape else 1,
            "block_digests": [],
        }
    )
    return array


def storable(values: np.ndarray) -> np.ndarray:
    """Return values as they are stored: numbers as they are, everything else as text."""
    values = np.asarray(values)
    return values if values.dtype.kind in "biufc" else values.astype(np.dtypes.StringDType())


def write_block(array: Any, path: str, start: int, stop: int, values: np.ndarray) -> str:
    """Write rows, read them back, and return their digest."""
    values = np.asarray(values)
    if values.dtype.kind in "biufc":
        values = values.astype(array.dtype, copy=False)
    if values.shape != (stop - start, *array.shape[1:]):
        raise StoreError(
            f"rows {start} to {stop} of {path} have the wrong shape",
            given=str(values.shape),
            expected=str((stop - start, *array.shape[1:])),
            todo="mend the reader: its tables and its arrays disagree",
        )
    array[start:stop] = values
    digest = block_digest(values)
    if block_digest(array[start:stop]) != digest:
        raise StoreWriteError(
            f"rows {start} to {stop} of {path} read back differently from what was written",
            given="a block that the storage changed; nothing of it was committed",
            expected="storage that gives back what it was given",
            todo="check the disk, then run the same command again: it goes on behind the last commit",
        )
    return digest
