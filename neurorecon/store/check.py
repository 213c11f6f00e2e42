"""Check a store: recompute the digest of every array and compare it with the one stored at writing.

What is checked is the state that is open. A build that is not completed lies on a branch of its own, of which readers
see nothing; whether there is one, :func:`unfinished_build` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neurorecon.store.backend import icechunk_storage
from neurorecon.store.digest import METADATA_DIGEST, array_digest, block_digest, dtype_name, metadata_digest
from neurorecon.store.store import Store
from neurorecon.store.writer import BUILD, StoreWriter
from neurorecon.store.zarr_tasks import hush_other_tasks

#: What a finding about everything but the values of arrays is called.
METADATA = "names and attributes"


@dataclass(frozen=True)
class Finding:
    """What was found of one array.

    Parameters
    ----------
    array : str
        Its path in the store, or :data:`METADATA`.
    problem : str or None
        What is wrong, in words; None where all is well.
    """

    array: str
    problem: str | None


def check_store(store: Store) -> Iterator[Finding]:
    """Recompute the digests of all arrays, one finding each, in bounded memory (a block at a time).

    Where units, shapes, affines or any other attribute changed as well, there is one finding more.
    """
    hush_other_tasks()
    try:
        members = sorted(store._root.members(max_depth=None), key=lambda member: member[0])
        signed = store._root.attrs.get(METADATA_DIGEST)
        changed = signed is not None and signed != metadata_digest(store._root, members)
    except Exception as error:  # damaged JSON leads Zarr to errors of many types
        yield Finding(METADATA, f"they cannot be read ({type(error).__name__})")
        return
    for path, item in members:
        if hasattr(item, "chunks"):
            yield Finding(path, _problem(item))
    if changed:
        yield Finding(METADATA, "an attribute, a shape or a name differs from what was written")


def unfinished_build(store: Store) -> bool:
    """Say whether a build goes on in the place of a store, or was interrupted there."""
    if store.snapshot is None:
        return False
    import icechunk

    return BUILD in icechunk.Repository.open(icechunk_storage(store.location)).list_branches()


def prune_store(store: Store) -> int:
    """Remove what killed builds left and no state of a store refers to; return the bytes that were removed.

    Builds that end well do so themselves after one that did not. Older states of the store stay, and so does what an
    interrupted build has committed.

    Raises
    ------
    StoreLockedError
        Where a process is writing to the store: what it has not committed looks like something left.
    StoreError
        Where the store is plain Zarr, or its folder may not be written.
    """
    with StoreWriter(store.location) as writer:
        return writer.collect()


def _problem(array: Any) -> str | None:
    try:
        stored = array.attrs.get("digest")
        if stored is None:
            return "carries no digest: its writing was interrupted"
        rows, blocks = int(array.attrs["block_rows"]), list(array.attrs["block_digests"])
        starts = range(0, array.shape[0], rows)
    except Exception as error:  # attributes that a damaged file changed
        return f"its attributes cannot be read ({type(error).__name__})"
    found = []
    for number, start in enumerate(starts):
        stop = min(start + rows, array.shape[0])
        try:
            found.append(block_digest(array[start:stop]))
        except Exception as error:  # a damaged chunk fails in the codec or in the storage, each in its own way
            return f"rows {start} to {stop} cannot be read ({type(error).__name__})"
        if number >= len(blocks) or found[-1] != blocks[number]:
            return f"rows {start} to {stop} differ from what was written"
    if array_digest(dtype_name(array.dtype), array.shape, found) != stored:
        return "its type or shape differs from what was written"
    return None
