"""Check a store: recompute the digest of every array and compare it with the one stored at writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neurorecon.store.digest import array_digest, block_digest
from neurorecon.store.store import Store
from neurorecon.store.writer import _dtype_name


@dataclass(frozen=True)
class Finding:
    """What was found of one array.

    Parameters
    ----------
    array : str
        Its path in the store.
    problem : str or None
        What is wrong, in words; None where all is well.
    """

    array: str
    problem: str | None


def check_store(store: Store) -> Iterator[Finding]:
    """Recompute the digests of all arrays, one finding each, in bounded memory (a block at a time)."""
    for path, array in store.arrays():
        yield Finding(path, _problem(array))


def _problem(array: Any) -> str | None:
    stored = array.attrs.get("digest")
    if stored is None:
        return "carries no digest: its writing was interrupted"
    rows, blocks = int(array.attrs["block_rows"]), list(array.attrs["block_digests"])
    found = []
    for start in range(0, array.shape[0], rows):
        try:
            found.append(block_digest(array[start : start + rows]))
        except Exception as error:  # a damaged chunk fails in the codec or in the storage, each in its own way
            return f"rows {start} to {min(start + rows, array.shape[0])} cannot be read ({type(error).__name__})"
        number = len(found) - 1
        if number >= len(blocks) or found[-1] != blocks[number]:
            stop = min(start + rows, array.shape[0])
            return f"rows {start} to {stop} differ from what was written"
    if array_digest(_dtype_name(array.dtype), array.shape, found) != stored:
        return "its type or shape differs from what was written"
    return None
