"""Read the groups and arrays of a store; what is damaged raises one error that names it.

For a damaged chunk, manifest or metadata file, Zarr and Icechunk raise errors of a dozen types, or none: a missing
chunk reads as the fill value, and a flipped bit may decode to another number. Everything that reads a store passes
through :class:`StoredGroup` and :class:`StoredArray`, also in threads and workers of dask, so that commands need no
checks of their own:

- An error of Zarr or Icechunk becomes a :class:`~neurorecon.errors.StoreError` with the path of the array.
- A missing chunk is accepted only if the digest of its block says that the fill value is what was written.
- Chunks end with a checksum, see :func:`neurorecon.store.schema.compressors`. Arrays of older stores have none; those
  that consist of one block are compared with their digest when they are first read.
- Names and attributes are compared with their digest when a store is opened, see :func:`open_root`.

This module imports Zarr, so it is imported only when a store is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import WrapperStore

from neurorecon.errors import NeuroreconError
from neurorecon.io.files import first_line, is_url
from neurorecon.io.tensors import array_digest, block_digest, dtype_name
from neurorecon.store.backend import damaged
from neurorecon.store.schema import METADATA_DIGEST, metadata_digest

_CHUNK = re.compile(r"(?P<array>.+)/c/(?P<row>\d+)(?:/\d+)*")


class _MissingChunkError(Exception):
    """A chunk does not exist; Zarr would use the fill value."""

    def __init__(self, row: int) -> None:
        super().__init__("a chunk is missing")
        self.row = row


class CompleteStore(WrapperStore[Any]):
    """A storage of Zarr in which a missing chunk is an error.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The storage.
    location : str
        Its path or URL, for messages.
    """

    def __init__(self, store: Any, location: str) -> None:
        super().__init__(store)
        self._location = location
        #: The same storage, in which chunks may be missing.
        self.below = store
        #: Arrays and rows of chunks whose missing chunks have been found to hold nothing but the fill value.
        self.empty: set[tuple[str, int]] = set()

    def __str__(self) -> str:
        return self._location

    __repr__ = __str__

    def _with_store(self, store: Any) -> CompleteStore:
        return type(self)(store, self._location)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return the content of a file, or None if there is no such file and it is not a chunk."""
        found = await self._store.get(key, prototype, byte_range)
        if found is not None and key.endswith("zarr.json"):
            try:
                content = json.loads(found.to_bytes())
            except (ValueError, RecursionError) as error:  # Zarr's message would not say which file
                raise damaged(self._location, key, f"no valid JSON, {first_line(error)}") from error
            if isinstance(content, dict) and "consolidated_metadata" in content and not is_url(self._location):
                # On a disk, each file is read, so that damage to it is found. Over a network, the copy in the file of
                # the group saves many requests.
                del content["consolidated_metadata"]
                found = prototype.buffer.from_bytes(json.dumps(content).encode())
        if found is None and (chunk := _CHUNK.fullmatch(key)):
            row = int(chunk["row"])
            if (chunk["array"], row) not in self.empty:
                raise _MissingChunkError(row)
        return found


@contextmanager
def _reading(location: str, path: str, *others: type[Exception]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if isinstance(error, (NeuroreconError, MemoryError, *others)):
            raise
        # A panic of Icechunk, which is written in Rust, is no Exception.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(location, path, f"{type(error).__name__}, {first_line(error)}") from error
        raise


class StoredAttributes(dict[str, Any]):
    """Attributes of a group or an array, of which each has to be there.

    Parameters
    ----------
    attributes : mapping
        The attributes.
    location, path : str
        Where they are from.
    """

    def __init__(self, attributes: Any, location: str, path: str) -> None:
        super().__init__(attributes)
        self._where = location, path

    def __missing__(self, name: str) -> Any:
        raise damaged(*self._where, f"the attribute {name!r} is missing")


class _Node:
    def __init__(self, node: Any, location: str) -> None:
        self.node, self.location = node, location

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.node, self.location)

    @property
    def path(self) -> str:
        """Path in the store."""
        return str(self.node.path)

    @property
    def metadata(self) -> Any:
        """Metadata of Zarr."""
        return self.node.metadata

    @property
    def attrs(self) -> StoredAttributes:
        """Attributes; one that is missing raises a StoreError."""
        return StoredAttributes(self.node.attrs, self.location, self.path)

    def _wrapped(self, node: Any) -> Any:
        kind = StoredArray if isinstance(node, zarr.Array) else StoredGroup
        return kind(node, self.location)


class StoredGroup(_Node):
    """A group of a store, read-only.

    Parameters
    ----------
    node : zarr.Group
        The group.
    location : str
        Path or URL of the store, for messages.
    """

    def __getitem__(self, name: str) -> Any:
        path = f"{self.path}/{name}".lstrip("/")
        with _reading(self.location, path):
            return self._wrapped(self.node[name])

    def __contains__(self, name: str) -> bool:
        with _reading(self.location, f"{self.path}/{name}".lstrip("/")):
            return name in self.node

    def members(self, max_depth: int | None = 0) -> Iterator[tuple[str, Any]]:
        """Yield path and node of all groups and arrays below this one, see :meth:`zarr.Group.members`."""
        with _reading(self.location, self.path):
            found = self.node.members(max_depth=max_depth)
        for path, node in found:
            yield path, self._wrapped(node)

    def groups(self) -> Iterator[tuple[str, StoredGroup]]:
        """Yield name and group of all groups directly below this one."""
        return ((name, node) for name, node in self.members() if isinstance(node, StoredGroup))

    def arrays(self) -> Iterator[tuple[str, StoredArray]]:
        """Yield name and array of all arrays directly below this one."""
        return ((name, node) for name, node in self.members() if isinstance(node, StoredArray))


class StoredArray(_Node):
    """An array of a store, read-only, with as much of the interface of :class:`zarr.Array` as dask needs.

    Parameters
    ----------
    node : zarr.Array
        The array, on a :class:`CompleteStore`.
    location : str
        Path or URL of the store, for messages.
    """

    def __init__(self, node: Any, location: str) -> None:
        super().__init__(node, location)
        self.shape: tuple[int, ...] = node.shape
        self.dtype: np.dtype = node.dtype
        self.ndim: int = node.ndim
        self.chunks: tuple[int, ...] = node.chunks
        self.compressors: tuple[Any, ...] = node.compressors
        # Without a checksum, one block is compared with its digest; more would cost a read of the whole array.
        self._checked = any(isinstance(codec, Crc32cCodec) for codec in node.compressors)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        with _reading(self.location, self.path, IndexError):  # an index is the caller's
            if not self._checked:
                if self.attrs.get("digest") and 0 < len(self) <= int(self.attrs["block_rows"]):
                    self._require_block(0)
                self._checked = True
            while True:
                try:
                    return self.node[key]
                except _MissingChunkError as missing:
                    self._require_block(missing.row * self.chunks[0])

    def _require_block(self, row: int) -> None:
        """Raise a StoreError unless the block that holds a row is what was written; then its chunks may be missing."""
        rows = int(self.attrs["block_rows"])
        start = row // rows * rows
        found = self.block_problem(start)
        if found is not None:
            raise damaged(self.location, self.path, found)
        first, last = start // self.chunks[0], (min(start + rows, len(self)) - 1) // self.chunks[0]
        self.node.store.empty.update((self.path, number) for number in range(first, last + 1))

    def block_problem(self, start: int) -> str | None:
        """Compare a block with its digest.

        Parameters
        ----------
        start : int
            First row of the block.

        Returns
        -------
        str or None
            What is wrong with it; None if it is what was written.
        """
        rows, digests = int(self.attrs["block_rows"]), list(self.attrs["block_digests"])
        stop, number = min(start + rows, len(self)), start // rows
        try:
            # Chunks may be missing here: if the fill value is what was written, the digest is the same.
            lenient: Any = zarr.open_array(self.node.store.below, path=self.path, mode="r")
            found = block_digest(lenient[start:stop])
        except Exception as error:  # a damaged chunk can fail in the codec or in the storage
            return f"rows {start} to {stop} cannot be read ({type(error).__name__})"
        if number >= len(digests) or found != digests[number]:
            return f"rows {start} to {stop} differ from what was written"
        return None

    def problem(self) -> str | None:
        """Compare all blocks, the type and the shape with what was written.

        Returns
        -------
        str or None
            What is wrong; None if the array is intact.
        """
        try:
            stored = self.attrs.get("digest")
            if stored is None:
                return "has no digest: writing it was interrupted"
            rows, blocks = int(self.attrs["block_rows"]), list(self.attrs["block_digests"])
            starts = range(0, len(self), rows)
        except Exception as error:  # the file of attributes is damaged
            return f"its attributes cannot be read ({type(error).__name__})"
        for start in starts:
            if (found := self.block_problem(start)) is not None:
                return found
        if array_digest(dtype_name(self.dtype), self.shape, blocks) != stored:
            return "its type or shape differs from what was written"
        return None


def changed_metadata(root: StoredGroup) -> str | None:
    """Compare names, types, shapes, dimensions and attributes of all groups and arrays with their digest.

    Parameters
    ----------
    root : StoredGroup
        Root of a store.

    Returns
    -------
    str or None
        What is wrong; None if they are what was written, or the store is too old to have the digest.
    """
    try:
        signed = root.attrs.get(METADATA_DIGEST)
        if signed is None or signed == metadata_digest(root):
            return None
    except Exception as error:  # Zarr raises errors of many types for damaged JSON
        return f"they cannot be read ({first_line(error)}: {first_line(error.__cause__ or error)})"
    return "an attribute, a shape or a name differs from what was written"
