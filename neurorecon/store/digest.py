"""Digests of what an array says, independent of how it is compressed or where it lies.

An array is digested block by block (whole rows), so that a build can stream, resume, and compare each block
with what it reads back. The digest of the array is the digest of its type, its shape and its blocks' digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np


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


def combine(digests: dict[str, str]) -> str:
    """Return one digest for many named arrays, whatever their order."""
    return "blake2b:" + blake2b(json.dumps(sorted(digests.items())).encode(), digest_size=16).hexdigest()
