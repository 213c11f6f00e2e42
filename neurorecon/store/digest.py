"""Digests of what an array says, independent of how it is compressed or where it lies.

An array is digested block by block (whole rows), so that a build can stream, resume, and compare each block
with what it reads back. The digest of the array is the digest of its type, its shape and its blocks' digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zarr

#: Attribute of the root that holds :func:`metadata_digest`.
METADATA_DIGEST = "metadata_digest"

#: Attributes of the root that say nothing of the data, and may differ between copies.
_OF_THE_COPY = (METADATA_DIGEST, "exported_from_snapshot")


def block_digest(values: np.ndarray) -> str:
    """Return the digest of one block; text is digested as JSON, numbers as little-endian bytes in C order."""
    values = np.asarray(values)
    if values.dtype.kind in "biufc":
        data = np.ascontiguousarray(values)
        raw: bytes | memoryview = data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()
    else:
        raw = json.dumps(values.tolist(), ensure_ascii=False).encode()
    return blake2b(raw, digest_size=16).hexdigest()


def array_digest(dtype: str, shape: Iterable[int], blocks: Iterable[str]) -> str:
    """Return the digest of an array from those of its blocks."""
    header = json.dumps([dtype, list(shape), list(blocks)])
    return "blake2b:" + blake2b(header.encode(), digest_size=16).hexdigest()


def digests_of(arrays: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return the digest that each array carries, by path; empty while it is being written."""
    return {path: str(array.attrs.get("digest", "")) for path, array in arrays}


def combine(digests: dict[str, str]) -> str:
    """Return one digest for many named arrays, whatever their order."""
    return "blake2b:" + blake2b(json.dumps(sorted(digests.items())).encode(), digest_size=16).hexdigest()


def metadata_digest(root: zarr.Group, members: Iterable[tuple[str, Any]] | None = None) -> str:
    """Return one digest for all that a store says beside its values: names, types, shapes, dimensions, attributes.

    An affine or a unit that changed on the disk makes every map wrong, and no array's digest would tell.

    Parameters
    ----------
    root : zarr.Group
    members : iterable of (path, group or array), optional
        Everything below it, where the caller has listed it already.
    """
    own = {key: value for key, value in root.attrs.items() if key not in _OF_THE_COPY}
    entries: list[list[Any]] = [["", own]]
    everything: Iterable[tuple[str, Any]] = root.members(max_depth=None) if members is None else members
    for path, item in everything:
        facts: list[Any] = [path, dict(item.attrs)]
        metadata = item.metadata
        if hasattr(metadata, "dimension_names"):
            facts += [dtype_name(item.dtype), list(item.shape), list(metadata.dimension_names or [])]
        entries.append(facts)
    text = json.dumps(sorted(entries, key=lambda entry: entry[0]), sort_keys=True)
    return "blake2b:" + blake2b(text.encode(), digest_size=16).hexdigest()


def dtype_name(dtype: Any) -> str:
    """Return the name of a type as digests have it: however text is kept, it is ``"string"``."""
    return str(dtype) if getattr(dtype, "kind", "T") in "biufc" else "string"
