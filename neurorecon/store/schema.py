"""Names, chunks and encodings of the store. A change here that old readers cannot follow raises the version."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: Version of the layout below; a store of a newer version is refused with a clear message.
SCHEMA_VERSION = 1

#: (sample, voxel). Measured on 30,000 trials: serves "one ROI, all trials" and "one session, all voxels" within
#: a factor of two of the best layout for either.
RESPONSE_CHUNKS = (750, 1024)

#: Bytes that a chunk of stimuli or targets may have, and that a block (the unit of writing and digests) may have.
CHUNK_BYTES = 4 * 2**20
BLOCK_BYTES = 8 * 2**20

STIMULI = "stimuli"
TARGETS = "targets"
SOURCES = "sources"
RESERVED_GROUPS = (STIMULI, TARGETS, SOURCES)

#: Attribute of the root that sums up all arrays: ``digest`` and ``bytes``.
SUMMARY = "summary"

#: Columns of the sample table that are text; the others are numbers.
TEXT_COLUMNS = ("stimulus", "task", "split")


def compressor() -> Any:
    """Return the codec of every numeric array: blosc-lz4, set explicitly (zstd writes 2-4 times slower)."""
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")


def chunks_of(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    """Return chunks of about :data:`CHUNK_BYTES` that keep the trailing axes whole.

    Two-dimensional floating-point arrays, responses and flat targets alike, take :data:`RESPONSE_CHUNKS`.
    """
    if len(shape) == 2 and dtype.kind == "f":
        return tuple(max(1, min(size, chunk)) for size, chunk in zip(shape, RESPONSE_CHUNKS, strict=True))
    row = max(1, math.prod(shape[1:]) * dtype.itemsize)
    rows = max(1, min(shape[0], CHUNK_BYTES // row)) if shape else 1
    return tuple(max(1, size) for size in (rows, *shape[1:])) if shape else ()


def block_rows(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> int:
    """Return how many rows are written, read back and digested at a time: whole chunks, about 8 MiB."""
    row = max(1, math.prod(shape[1:]) * dtype.itemsize)
    return max(1, BLOCK_BYTES // (row * chunks[0])) * chunks[0]
